/*
 * --tune: measures what the thresholds of selection should be on this machine, and how long an allreduce takes, and
 * writes the table that src/base/tuning.h describes.
 *
 * Each candidate is measured as a communicator of its own, in turns with a reference, and judged by the ratio of their
 * times: so what the machine does meanwhile meets both.
 */
#ifndef BENCH_TUNE_H
#define BENCH_TUNE_H

#include "report.h"

#include <sched.h>

/* For every number of ranks that options->rank_counts names. limits: measured on the way. If it fails, meter->failed
 * has the cause. */
enum party_result tune_run(struct report *report, struct meter *meter, struct limits *limits, const cpu_set_t *cpus);

#endif
