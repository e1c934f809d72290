/*
 * What a list of times comes to.
 */
#ifndef BENCH_STATS_H
#define BENCH_STATS_H

#include <stddef.h>

struct summary {
  size_t count;
  double least, most, mean, deviation; /* the last of the population */
  double p50;                          /* the median */
  double p95, p99;                     /* by nearest rank, as in nccl-tests: of few values, the largest */
};

/* Sorts the values. All zero if there are none. */
struct summary summarize(double *values, size_t count);

#endif
