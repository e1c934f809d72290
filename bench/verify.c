/*
 * Fill, run, compare: see verify.h. Comparing goes by memcmp of whole periods, and element by element only where that
 * finds a difference.
 */
#include "verify.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

enum { POISON = 0xC3, GUARD = 0xA5 };

bool buffer_open(struct buffer *buffer, size_t capacity) {
  size_t bytes = capacity + 2 * GUARD_BYTES;
  unsigned char *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (map == MAP_FAILED) return false;
  memset(map, 0, bytes);
  *buffer = (struct buffer){map + GUARD_BYTES, capacity};
  return true;
}

void buffer_close(struct buffer *buffer) {
  if (buffer->data) munmap(buffer->data - GUARD_BYTES, buffer->capacity + 2 * GUARD_BYTES);
  *buffer = (struct buffer){0};
}

static bool receives(const struct trial *t) { return !colls[t->point->coll].recv_at_root || t->rank == t->point->root; }

static bool sends(const struct trial *t) { return !colls[t->point->coll].send_at_root || t->rank == t->point->root; }

static size_t block_bytes(const struct trial *t) { return t->point->count * type_bytes(t->point->type); }

/* In place, the side that has one block lies at the rank's own block of the side that has one per rank. */
struct placement verify_placement(const struct trial *t) {
  const struct coll *coll = &colls[t->point->coll];
  if (!t->point->in_place) return (struct placement){t->send.data, t->recv.data};
  size_t own = (size_t)t->rank * block_bytes(t);
  struct placement place = {t->recv.data, t->recv.data};
  if (coll->recv_blocks && !coll->send_blocks) place.send += own;
  if (coll->send_blocks && !coll->recv_blocks) place.recv += own;
  if (!receives(t)) place.recv = NULL;
  if (!sends(t)) place.send = NULL;
  return place;
}

static void fill_pattern(const struct trial *t, int table, unsigned char *at, size_t bytes) {
  size_t period = PATTERN_PERIOD * type_bytes(t->point->type);
  for (size_t done = 0; done < bytes; done += period)
    memcpy(at + done, pattern_at(t->patterns, table, 0), bytes - done < period ? bytes - done : period);
}

static void set_guards(const struct buffer *buffer, size_t used) {
  memset(buffer->data - GUARD_BYTES, GUARD, GUARD_BYTES);
  memset(buffer->data + used, GUARD, GUARD_BYTES);
}

void verify_fill(const struct trial *t) {
  size_t send_bytes = point_send_bytes(t->point, t->nranks), recv_bytes = point_recv_bytes(t->point, t->nranks);
  struct placement place = verify_placement(t);
  if (t->point->in_place) recv_bytes = point_size(t->point, t->nranks);
  memset(t->recv.data, POISON, recv_bytes);
  if (place.send) fill_pattern(t, t->rank, place.send, send_bytes);
  set_guards(&t->recv, recv_bytes);
  if (!t->point->in_place) set_guards(&t->send, send_bytes);
}

__attribute__((format(printf, 3, 4))) static void note(struct verdict *verdict, uint64_t wrong, const char *format,
                                                       ...) {
  if (!verdict->wrong) {
    va_list args;
    va_start(args, format);
    vsnprintf(verdict->text, sizeof verdict->text, format, args);
    va_end(args);
  }
  verdict->wrong += wrong;
}

static uint64_t bits_of(const unsigned char *element, size_t bytes) {
  uint64_t bits = 0;
  memcpy(&bits, element, bytes);
  return bits;
}

/* Compares count elements with the table's from index `first` on. */
static void compare(const struct trial *t, const char *what, const unsigned char *found, int table, uint64_t first,
                    struct verdict *verdict) {
  size_t bytes = type_bytes(t->point->type);
  uint64_t count = t->point->count;
  for (uint64_t i = 0, run; i < count; i += run) {
    run = PATTERN_PERIOD - (first + i) % PATTERN_PERIOD;
    if (run > count - i) run = count - i;
    const unsigned char *expected = pattern_at(t->patterns, table, first + i), *here = found + i * bytes;
    if (!memcmp(here, expected, run * bytes)) continue;
    for (uint64_t k = 0; k < run; k++, here += bytes, expected += bytes)
      if (memcmp(here, expected, bytes))
        note(verdict, 1, "rank %d, %s, element %llu: expected 0x%llx, found 0x%llx", t->rank, what,
             (unsigned long long)(i + k), (unsigned long long)bits_of(expected, bytes),
             (unsigned long long)bits_of(here, bytes));
  }
}

/* Which table block `block` of this rank's result comes from, and from which index on. */
static void origin(const struct trial *t, int block, int *table, uint64_t *first) {
  *first = 0;
  switch (t->point->coll) {
  case COLL_REDUCE_SCATTER: *first = (uint64_t)t->rank * t->point->count; /* fall through */
  case COLL_ALL_REDUCE:
  case COLL_REDUCE: *table = t->nranks; break;
  case COLL_SCATTER: *first = (uint64_t)t->rank * t->point->count; /* fall through */
  case COLL_BROADCAST: *table = t->point->root; break;
  case COLL_ALLTOALL: *first = (uint64_t)t->rank * t->point->count; /* fall through */
  case COLL_ALL_GATHER:
  case COLL_GATHER: *table = block; break;
  default: *table = (t->rank + t->nranks - 1) % t->nranks; break; /* sendrecv: from the rank before */
  }
}

static void compare_result(const struct trial *t, const unsigned char *recv, struct verdict *verdict) {
  int blocks = colls[t->point->coll].recv_blocks ? t->nranks : 1, table;
  uint64_t first;
  for (int block = 0; block < blocks; block++) {
    char what[32];
    snprintf(what, sizeof what, blocks > 1 ? "recvbuf block %d" : "recvbuf", block);
    origin(t, block, &table, &first);
    compare(t, what, recv + (size_t)block * block_bytes(t), table, first, verdict);
  }
}

static void compare_inputs(const struct trial *t, const unsigned char *send, struct verdict *verdict) {
  int blocks = colls[t->point->coll].send_blocks ? t->nranks : 1;
  for (int block = 0; block < blocks; block++)
    compare(t, "sendbuf (must not change)", send + (size_t)block * block_bytes(t), t->rank,
            (uint64_t)block * t->point->count, verdict);
}

static void expect_bytes(const struct trial *t, const char *what, const unsigned char *at, size_t bytes, int value,
                         struct verdict *verdict) {
  for (size_t i = 0; i < bytes; i++)
    if (at[i] != value) note(verdict, 1, "rank %d wrote %s, byte %zu", t->rank, what, i);
}

static void check_guards(const struct trial *t, const char *what, const struct buffer *buffer, size_t used,
                         struct verdict *verdict) {
  char place[40];
  snprintf(place, sizeof place, "before its %s", what);
  expect_bytes(t, place, buffer->data - GUARD_BYTES, GUARD_BYTES, GUARD, verdict);
  snprintf(place, sizeof place, "behind its %s", what);
  expect_bytes(t, place, buffer->data + used, GUARD_BYTES, GUARD, verdict);
}

struct verdict verify_check(const struct trial *t) {
  size_t send_bytes = point_send_bytes(t->point, t->nranks), recv_bytes = point_recv_bytes(t->point, t->nranks);
  bool in_place = t->point->in_place;
  struct placement place = verify_placement(t);
  struct verdict verdict = {0};
  if (receives(t))
    compare_result(t, place.recv, &verdict);
  else if (!in_place)
    expect_bytes(t, "recvbuf (not the root)", t->recv.data, recv_bytes, POISON, &verdict);
  if (!in_place || !receives(t)) compare_inputs(t, place.send, &verdict);
  check_guards(t, "recvbuf", &t->recv, in_place ? point_size(t->point, t->nranks) : recv_bytes, &verdict);
  if (!in_place) check_guards(t, "sendbuf", &t->send, send_bytes, &verdict);
  return verdict;
}
