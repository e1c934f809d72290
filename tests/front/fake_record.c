/* fake_record.c - the fake NCCL's memory of calls, and the functions that do nothing else: those of fake_nccl.c take
 * their places where they work. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "fake_nccl.h"

/* ---- the record -------------------------------------------------------------------------------------------------- */

enum { SYMBOLS_MOST = 128, BYTES_MOST = 512 };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct record {
  const char *name;
  int count;
  size_t bytes;
  uint8_t arguments[BYTES_MOST]; /* of the newest call, one behind the other */
} records[SYMBOLS_MOST];
int fake_answer_now;

/* The one of that name, or the first free one. */
static struct record *record_of(const char *name) {
  struct record *r = records;
  while (r->name && strcmp(r->name, name)) r++;
  return r;
}

void fake_note(const char *name, const struct fake_argument *arguments, size_t n) {
  pthread_mutex_lock(&lock);
  struct record *r = record_of(name);
  r->name = name;
  r->count++;
  r->bytes = 0;
  for (size_t i = 0; i < n && arguments[i].bytes; i++) {
    memcpy(r->arguments + r->bytes, arguments[i].at, arguments[i].bytes);
    r->bytes += arguments[i].bytes;
  }
  pthread_mutex_unlock(&lock);
}

int fake_count(const char *name) {
  pthread_mutex_lock(&lock);
  const int count = record_of(name)->count;
  pthread_mutex_unlock(&lock);
  return count;
}

size_t fake_last(const char *name, void *bytes, size_t most) {
  struct record *r = record_of(name);
  memcpy(bytes, r->arguments, r->bytes < most ? r->bytes : most);
  return r->bytes;
}

void fake_answer(int result) { fake_answer_now = result; }

/* ---- functions --------------------------------------------------------------------------------------------------- */

#define SYMBOL(name, parameters, arguments)                                                                            \
  __attribute__((weak)) nccl_result_t nccl##name parameters {                                                          \
    FAKE_NOTE(name, arguments);                                                                                        \
    return (nccl_result_t)fake_answer_now;                                                                             \
  }
#define DONE_void return
#define DONE_int  return fake_answer_now
#define DONE_nccl_team_t                                                                                               \
  return (nccl_team_t) { fake_answer_now, 2, 3 }
#define OTHER(result, name, parameters, arguments, lacking)                                                            \
  __attribute__((weak)) result nccl##name parameters {                                                                 \
    FAKE_NOTE(name, arguments);                                                                                        \
    DONE_##result;                                                                                                     \
  }
#define OWN_OTHER(result, name, parameters, arguments, lacking)                                                        \
  __attribute__((weak)) result nccl##name parameters {                                                                 \
    FAKE_NOTE(name, arguments);                                                                                        \
    return "the fake's text";                                                                                          \
  }
#include "front/symbols.def"
