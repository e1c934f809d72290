/*
 * The order of rows.
 */
#include "sweep.h"

#include "nccl.h"
#include "progress.h"

#include <limits.h>

static void add_model(const struct sweep *sweep, struct row *row) {
  const double seconds = nccl_model_seconds(&sweep->limits->link, &row->point, sweep->limits->nranks);
  row->names[row->ncolumns] = NCCL_MODEL_NAME;
  row->out_of_place[row->ncolumns++] = (struct measured){.done = seconds > 0, .modelled = true, .seconds = seconds};
}

static enum party_result run_row(struct sweep *sweep, struct point point) {
  static struct row row;
  int nranks = sweep->limits->nranks;
  /* An MPI returns from a call of nothing at once, a collective here is also a meeting: no comparison. */
  int nparties = point_size(&point, nranks) ? sweep->meter.nparties : 1;
  progress_step();
  enum party_result result = measure(&sweep->meter, nparties, &point, row.out_of_place);
  if (result != PARTY_OK) return result;
  row.point = point;
  row.cycle = sweep->cycle;
  row.ncolumns = nparties;
  for (int i = 0; i < nparties; i++) row.names[i] = sweep->meter.parties[i]->name;
  if (point_size(&point, nranks) && nccl_needs_model(sweep->meter.options)) add_model(sweep, &row);
  row.in_place.done = false;
  point.in_place = 1;
  if (colls[point.coll].in_place) result = measure(&sweep->meter, 1, &point, &row.in_place);
  row.bound_seconds = bounds_seconds(sweep->limits, &row.point);
  if (result != PARTY_OK) return result;
  report_row(sweep->report, &row);
  record_row(sweep->record, &row, sweep->limits);
  return PARTY_OK;
}

static int64_t next_size(const struct options *o, int64_t bytes) {
  return o->stepfactor > 0 ? bytes * o->stepfactor : bytes + o->stepbytes;
}

static enum party_result run_sizes(struct sweep *sweep, struct point point) {
  const struct options *o = sweep->meter.options;
  point.offset = (int)o->unalign * (int)type_bytes(point.type);
  for (int64_t bytes = o->minbytes; bytes <= o->maxbytes; bytes = next_size(o, bytes)) {
    point.count = coll_count(point.coll, point.type, (uint64_t)bytes, sweep->limits->nranks);
    enum party_result result = run_row(sweep, point);
    if (result != PARTY_OK) return result;
  }
  return PARTY_OK;
}

/* From..to of one of the sweep's dimensions: a chosen value, all, or the -1 of a collective that has none. */
struct span {
  int from;
  int to;
};

static struct span span_of(bool used, int64_t chosen, int count) {
  if (!used) return (struct span){-1, -1};
  if (chosen < 0) return (struct span){0, count - 1};
  return (struct span){(int)chosen, (int)chosen};
}

struct spans {
  struct span types;
  struct span ops;
  struct span roots;
};

static struct spans spans_of(const struct sweep *sweep, int coll) {
  const struct options *o = sweep->meter.options;
  return (struct spans){span_of(true, o->type, SHMCCL_DATATYPE_COUNT),
                        span_of(colls[coll].reduces, o->op, SHMCCL_REDOP_COUNT),
                        span_of(colls[coll].rooted, o->root, sweep->limits->nranks)};
}

static enum party_result run_table(struct sweep *sweep, int coll) {
  struct spans s = spans_of(sweep, coll);
  struct point point = {.coll = coll, .messages = (int)sweep->meter.options->messages};
  enum party_result result = bounds_measure_rates(sweep->limits, sweep->meter.parties[0]);
  report_table_head(sweep->report, coll);
  for (point.type = s.types.from; point.type <= s.types.to; point.type++)
    for (point.op = s.ops.from; point.op <= s.ops.to; point.op++)
      for (point.root = s.roots.from; point.root <= s.roots.to && result == PARTY_OK; point.root++)
        result = run_sizes(sweep, point);
  if (result == PARTY_OK) report_table_foot(sweep->report);
  return result;
}

/* Rows of all tables; 0 if they have no end. */
static int count_rows(const struct sweep *sweep) {
  const struct options *o = sweep->meter.options;
  int64_t sizes = 0, rows = 0;
  for (int64_t bytes = o->minbytes; bytes <= o->maxbytes; bytes = next_size(o, bytes)) sizes++;
  for (int i = 0; i < o->ncolls; i++) {
    struct spans s = spans_of(sweep, o->colls[i]);
    rows += sizes * (s.types.to - s.types.from + 1) * (s.ops.to - s.ops.from + 1) * (s.roots.to - s.roots.from + 1);
  }
  rows *= o->cycles;
  return rows < INT_MAX ? (int)rows : 0;
}

enum party_result sweep_run(struct sweep *sweep) {
  const struct options *o = sweep->meter.options;
  enum party_result result = PARTY_OK;
  if (!sweep->report->quiet) progress_begin(count_rows(sweep));
  for (sweep->cycle = 0; sweep->cycle < o->cycles || !o->cycles; sweep->cycle++) {
    if (o->cycles != 1) report_line(sweep->report, "#\n# Cycle %lld", (long long)sweep->cycle + 1);
    for (int i = 0; i < o->ncolls && result == PARTY_OK; i++) result = run_table(sweep, o->colls[i]);
    if (result != PARTY_OK) break;
  }
  progress_clear();
  return result;
}
