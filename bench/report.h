/*
 * What the user reads: nccl-tests' table with columns of our own to its right, lines of explanation that begin with #,
 * and a summary. Each line is written out as soon as it is known.
 */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include "row.h"

/* How a ratio is spread over rows. */
struct spread {
  int count;
  double log_sum;
  double least;
  double most;
};

enum { RANGE_COUNT = 3 };

/* A collective's rows of one range of sizes. */
struct range {
  struct spread to_bound;
  struct spread to_ours[COLUMNS_MOST];
};

struct report {
  const struct options *options;
  const struct limits *limits;
  const char *peers[COLUMNS_MOST]; /* those that run, and a model */
  int npeers;
  bool quiet; /* a rank of a job that is not the first */
  bool colour;
  struct range ranges[COLL_COUNT][RANGE_COUNT];
  int rows;
  int below_bound; /* rows that took less time than is possible */
  double busbw_sum;
  int busbw_count;
  uint64_t table_wrong;
  uint64_t wrong; /* of all tables */
};

void report_begin(struct report *report, const struct options *options, const struct limits *limits, bool quiet);
void report_peer(struct report *report, const char *name, const char *version);
__attribute__((format(printf, 2, 3))) void report_line(const struct report *report, const char *format, ...);
/* The run's setting and the machine's limits. */
void report_head(const struct report *report);
/* The limits alone. */
void report_limits(const struct report *report);
void report_table_head(struct report *report, int coll);
void report_row(struct report *report, const struct row *row);
void report_table_foot(const struct report *report);
void report_summary(const struct report *report);

#endif
