/*
 * times.h - how long NCCL's collectives take, eager and replayed from a CUDA graph, each result checked byte by byte.
 */
#ifndef GPU_TIMES_H
#define GPU_TIMES_H

#include "scenarios.h"

enum { TIMES_MOST_SIZES = 8, TIMES_BATCHES = 5 };

/* What all ranks of a party know. */
struct times {
  struct party party; /* first: the scenarios get its address */
  size_t sizes[TIMES_MOST_SIZES];
  int nsizes;
  double (*us)[TIMES_BATCHES]; /* in memory that all processes share: a row per rank */
};

/* Rank 0 prints a line "time <collective> <bytes> <eager|graph> <microseconds>..." for each combination after all ranks
 * have found its result right: at most TIMES_BATCHES numbers, one per batch, the slowest rank's time per call. bytes:
 * of NCCL's count argument. */
void scenario_times(struct party *party, int rank);
void scenario_times_all_reduce(struct party *party, int rank); /* that alone */

#endif
