/*
 * Order statistics.
 */
#include "stats.h"

#include <math.h>
#include <stdlib.h>

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double percentile(const double *sorted, size_t count, size_t percent) {
  return sorted[(count * percent + 99) / 100 - 1];
}

struct summary summarize(double *values, size_t count) {
  struct summary s = {.count = count};
  double squares = 0;
  if (!count) return s;
  qsort(values, count, sizeof *values, by_value);
  for (size_t i = 0; i < count; i++) s.mean += values[i] / (double)count;
  for (size_t i = 0; i < count; i++) squares += (values[i] - s.mean) * (values[i] - s.mean);
  s.deviation = sqrt(squares / (double)count);
  s.least = values[0];
  s.most = values[count - 1];
  s.p50 = count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
  s.p95 = percentile(values, count, 95);
  s.p99 = percentile(values, count, 99);
  return s;
}
