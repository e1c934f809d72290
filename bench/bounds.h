/*
 * What this machine allows at best, measured in the same run: how fast memory is copied, in and out of cache, and how
 * long a cache line takes from core to core. A row's bound follows from these alone, whatever the algorithm.
 */
#ifndef BENCH_BOUNDS_H
#define BENCH_BOUNDS_H

#include "link.h"

#include <sched.h>

struct copy_rate {
  double together; /* bytes a second of all ranks, copying at once */
  double alone;    /* of one rank while the others rest */
};

struct limits {
  int nranks;
  int cores;
  cpu_set_t cpus;
  double handover; /* seconds for a cache line from one core to another; 0 if there is one core or one rank */
  double turn;     /* seconds for one core to go from one rank to another; 0 if the ranks have a core each */
  double cache_bytes;
  struct copy_rate cached;
  struct copy_rate memory;
  struct link link; /* in place of all latencies and rates above, with ranks on GPUs */
};

/* cpus: those that the ranks may use, together. cards: each rank's GPU; NULL: ranks are on host memory. */
void bounds_begin(struct limits *limits, int nranks, const cpu_set_t *cpus, const struct gpu_card *cards);
/* Measures the latencies, in two threads of this process; the ranks should rest. */
void bounds_measure_latency(struct limits *limits);
/* Has the party's ranks copy. Again is better: the best rates seen count. */
enum party_result bounds_measure_rates(struct limits *limits, struct party *party);

/* The least seconds that the point can take: the largest of
 *   - one cache line's way from core to core, or the turns that a core takes to run each of its ranks once (shared by
 *     the messages of a group);
 *   - the bytes that the busiest rank must write to its recvbuf, at the rate of one rank alone;
 *   - the bytes that all ranks must, at the rate of all together.
 * Rates are those in cache if all buffers fit into half the last-level cache, those of memory if they exceed it twice,
 * and in between by the logarithm of the buffers' size. On GPUs: link_seconds(). */
double bounds_seconds(const struct limits *limits, const struct point *point);

#endif
