/* results.h - what every rank passes to a call and what must come of it. */
#ifndef CRASH_RESULTS_H
#define CRASH_RESULTS_H

#include "crash/memory.h"

/* The arrays of this process. */
extern int32_t results_in[RANKS_MOST * LARGE], results_out[RANKS_MOST * LARGE];

struct member {
  int rank, nranks;
};

/* What this rank passes, in `blocks` blocks; the output is filled with something else. */
void results_fill(const struct member *me, int blocks, size_t count);
/* Block b of the output came from rank b, which sent it to `to`. */
void results_check_gathered(const struct member *me, int to, size_t count);
/* It is the sum of what all sent to `to`. */
void results_check_sum(const struct member *me, int to, size_t count);
/* It is what `from` sent to `to`. */
void results_check_from(const struct member *me, int from, int to, size_t count);
/* It is what a call of this kind leaves: from the last rank, to the last rank, of all. */
void results_check_call(const struct member *me, enum work work, size_t count);

#endif
