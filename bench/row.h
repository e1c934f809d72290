/*
 * What is known of one row when it has been measured.
 */
#ifndef BENCH_ROW_H
#define BENCH_ROW_H

#include "bounds.h"
#include "measure.h"

struct row {
  struct point point;
  int64_t cycle; /* from 0 */
  int ncolumns;
  const char *names[COLUMNS_MOST]; /* of the parties, ours first; a model's last */
  struct measured out_of_place[COLUMNS_MOST];
  struct measured in_place; /* ours */
  double bound_seconds;
};

#endif
