/*
 * The run as JSON (docs/benchmark.md has the schema): kept in memory while it goes on, written when it ends, however it
 * ends.
 */
#ifndef BENCH_RECORD_H
#define BENCH_RECORD_H

#include "json.h"
#include "row.h"

struct record {
  const struct options *options;
  char *text;
  size_t bytes;
  struct json json;
};

/* Without --json, and on the ranks of a job but the first, a record is never begun and all calls do nothing. */
bool record_begin(struct record *record, const struct options *options);
void record_row(struct record *record, const struct row *row, const struct limits *limits);
/* end: "complete", "interrupted" or "failed". False if it cannot be written, which is said on stderr. */
bool record_end(struct record *record, const struct meter *meter, const struct limits *limits, const char *end);

#endif
