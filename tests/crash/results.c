/* results.c - see results.h. */
#include "crash/results.h"

#include <string.h>

int32_t results_in[RANKS_MOST * LARGE], results_out[RANKS_MOST * LARGE];

/* Element i of what `rank` sends to `to` (0 where all get the same). */
static int32_t value(int rank, int to, size_t i) { return rank * 1000003 + to * 10007 + (int32_t)i * 3; }

static int32_t sum(int nranks, int to, size_t i) {
  int32_t s = 0;
  for (int r = 0; r < nranks; r++) s += value(r, to, i);
  return s;
}

void results_fill(const struct member *me, int blocks, size_t count) {
  for (int b = 0; b < blocks; b++)
    for (size_t i = 0; i < count; i++) results_in[(size_t)b * count + i] = value(me->rank, b, i);
  memset(results_out, 0xa5, sizeof results_out);
}

static void check_element(const struct member *me, size_t at, int32_t wanted) {
  if (results_out[at] != wanted && tr_failed() < 5)
    CHECK(false, "rank %d of %d: element %zu is %d instead of %d", me->rank, me->nranks, at, results_out[at], wanted);
}

void results_check_gathered(const struct member *me, int to, size_t count) {
  for (int b = 0; b < me->nranks; b++)
    for (size_t i = 0; i < count; i++) check_element(me, (size_t)b * count + i, value(b, to, i));
}

void results_check_sum(const struct member *me, int to, size_t count) {
  for (size_t i = 0; i < count; i++) check_element(me, i, sum(me->nranks, to, i));
}

void results_check_from(const struct member *me, int from, int to, size_t count) {
  for (size_t i = 0; i < count; i++) check_element(me, i, value(from, to, i));
}

void results_check_call(const struct member *me, enum work work, size_t count) {
  const int last = me->nranks - 1;
  switch (work) {
  case ALLGATHER: results_check_gathered(me, 0, count); break;
  case REDUCE_SCATTER: results_check_sum(me, me->rank, count); break;
  case BROADCAST: results_check_from(me, last, 0, count); break;
  case REDUCE:
    if (me->rank == last) results_check_sum(me, 0, count);
    break;
  case ALLTOALL: results_check_gathered(me, me->rank, count); break;
  case GATHER:
    if (me->rank == last) results_check_gathered(me, 0, count);
    break;
  case SCATTER: results_check_from(me, last, me->rank, count); break;
  case BARRIER: break;
  default: results_check_sum(me, 0, count);
  }
}
