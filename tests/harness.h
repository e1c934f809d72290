/*
 * harness.h - what the tests share: ranks as processes or threads, buffers that notice stray writes, random numbers
 * that can be repeated, delays.
 *
 * A failed check prints one line with place and rank and ends the process; a rank that ends so, or that outlives the
 * time limit, ends the test. Ranks as processes are children of the test, killed with it.
 */
#ifndef HARNESS_H
#define HARNESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "shmccl.h"

#define LENGTH(array) (sizeof(array) / sizeof *(array))

/* 1 under ThreadSanitizer, which makes everything some ten times slower: for tests that choose how much to try. */
#if defined(__SANITIZE_THREAD__)
#define HARNESS_SLOW 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define HARNESS_SLOW 1
#endif
#endif
#ifndef HARNESS_SLOW
#define HARNESS_SLOW 0
#endif

/* ---- checks ---------------------------------------------------------------------------------------------------- */

_Noreturn void harness_fail(const char *file, int line, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* What the calling thread is at, printed with a check that fails in it. */
void harness_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

#define CHECK(condition)                                                                                               \
  do {                                                                                                                 \
    if (!(condition)) harness_fail(__FILE__, __LINE__, "%s", #condition);                                              \
  } while (0)
#define CHECK_TEXT(condition, ...)                                                                                     \
  do {                                                                                                                 \
    if (!(condition)) harness_fail(__FILE__, __LINE__, __VA_ARGS__);                                                   \
  } while (0)
/* A call of the library that must succeed. */
#define CHECK_OK(call)                                                                                                 \
  do {                                                                                                                 \
    shmccl_result_t result_ = (call);                                                                                  \
    if (result_ != SHMCCL_SUCCESS)                                                                                     \
      harness_fail(__FILE__, __LINE__, "%s: %s: %s", #call, shmccl_error_string(result_), shmccl_last_error());        \
  } while (0)

/* ---- ranks ------------------------------------------------------------------------------------------------------- */

typedef void (*harness_rank_fn)(int rank, int nranks, void *context);

/* The rank that the calling thread plays; -1 outside. */
extern _Thread_local int harness_rank;

enum { HARNESS_MESSAGE_BYTES = 512 };

struct harness_outcome {
  bool timed_out;
  int signal; /* that ended it; 0 if it exited */
  int status; /* exit status: 0 if fn returned, 1 after a failed check */
  char message[HARNESS_MESSAGE_BYTES];
};

/* Runs fn as nranks processes and says how each ended. Those still there after `seconds` are killed. */
void harness_outcomes(int nranks, harness_rank_fn fn, void *context, unsigned seconds,
                      struct harness_outcome *outcomes);

/* Runs fn as nranks processes; all must return. The first that fails ends the others and the test. */
void harness_processes(int nranks, harness_rank_fn fn, void *context, unsigned seconds);

/* The same as threads of this process. */
void harness_threads(int nranks, harness_rank_fn fn, void *context, unsigned seconds);

/* Whichever of the two this program is built for: HARNESS_THREADS. */
#ifdef HARNESS_THREADS
#define harness_ranks harness_threads
#else
#define harness_ranks harness_processes
#endif

/* ---- random numbers ---------------------------------------------------------------------------------------------- */

struct harness_random {
  uint64_t state;
};

/* This run's seed: SHMCCL_TEST_SEED, or a new one; printed, so that a failure can be repeated. */
uint64_t harness_seed(void);
struct harness_random harness_random(uint64_t seed);
uint64_t harness_bits(struct harness_random *r);
size_t harness_below(struct harness_random *r, size_t limit);

/* Mostly nothing; now and then some microseconds of spinning, a yield or a sleep, so that ranks drift apart. */
void harness_delay(struct harness_random *r);

/* ---- buffers ----------------------------------------------------------------------------------------------------- */

/* Memory for one array at a time, between guard zones. */
struct harness_buffer {
  uint8_t *memory, *data;
  size_t capacity, bytes;
};

enum { HARNESS_POISON = 0xa5 };

/* An array of `bytes` poisoned bytes, `misalignment` bytes behind a multiple of 64. Valid until the next take. */
uint8_t *harness_take(struct harness_buffer *b, size_t bytes, size_t misalignment);
/* Fails if a byte of the guard zones has changed. */
void harness_check_guards(const struct harness_buffer *b, const char *name);
void harness_release(struct harness_buffer *b);

/* Whether all bytes are still poison. */
bool harness_untouched(const uint8_t *data, size_t bytes);

/* ---- folders ------------------------------------------------------------------------------------------------------
 */

/* A new empty folder in /dev/shm, SHMCCL_SHM_DIR from now on, removed at exit: nobody else's segments are there. */
const char *harness_own_folder(void);
/* Entries of a folder, without . and .. */
int harness_entries(const char *folder);

#endif
