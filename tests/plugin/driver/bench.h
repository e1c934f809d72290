/*
 * bench.h - how fast the net is on two pinned cores, beside what this machine allows, in the same run: two cores that
 * copy at the same time, and a cache line that goes from one to the other.
 */
#ifndef DRIVER_BENCH_H
#define DRIVER_BENCH_H

#include "world.h"

void bench_run(struct world *w);

#endif
