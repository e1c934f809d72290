/*
 * The sweep over all rows of all tables, each measured, reported and recorded.
 */
#ifndef BENCH_SWEEP_H
#define BENCH_SWEEP_H

#include "record.h"
#include "report.h"

struct sweep {
  struct meter meter; /* ours is the first party, then the peers in the report's order */
  struct limits *limits;
  struct report *report;
  struct record *record;
  int64_t cycle;
};

/* If it fails, meter.failed has the cause. */
enum party_result sweep_run(struct sweep *sweep);

#endif
