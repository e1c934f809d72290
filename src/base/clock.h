/* clock.h - monotonic time, the only clock that limits are measured on (wall time may jump). */
#ifndef SHMI_CLOCK_H
#define SHMI_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t shmi_now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* To some milliseconds, read in a few nanoseconds. */
static inline uint64_t shmi_coarse_now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

#endif
