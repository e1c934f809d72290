/*
 * The sweep over all rows: what each party is told to do, in which order, how often.
 */
#ifndef BENCH_SWEEP_H
#define BENCH_SWEEP_H

#include "report.h"

struct sweep {
  const struct options *options;
  struct limits *limits;
  struct report *report;
  struct party *parties[1 + PEER_COUNT]; /* ours, then the peers in the report's order */
  int nparties;
  struct party *failed; /* whose error ended the sweep */
};

enum party_result sweep_run(struct sweep *sweep);

#endif
