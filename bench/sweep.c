/*
 * A row: check every party, find out how many iterations to time, then let the parties take turns, round by round, so
 * that whatever else the machine does in the meantime meets all of them. The same number of iterations for all.
 */
#include "sweep.h"

#include <math.h>
#include <stdlib.h>

enum { MAX_PARTIES = 1 + PEER_COUNT, MAX_ROUNDS = 1001 };

/* A round lasts as long as the slowest party needs for ROUND_SECONDS of work, but the fastest (often thousands of calls
 * a second) gets FASTEST_SECONDS unless the slowest would then need more than SLOWEST_SECONDS. */
static const double ROUND_SECONDS = 0.03, FASTEST_SECONDS = 0.005, SLOWEST_SECONDS = 0.3;

static enum party_result tell(struct sweep *sweep, int party, const struct command *command, struct outcome *outcome) {
  enum party_result result = party_do(sweep->parties[party], command, outcome);
  if (result == PARTY_FAILED) sweep->failed = sweep->parties[party];
  return result;
}

/* One run on known data; also finds out whether the party has such a call. */
static enum party_result check(struct sweep *sweep, int party, const struct point *point, struct measured *m) {
  struct command command = {.kind = COMMAND_CHECK, .point = *point};
  struct outcome outcome;
  if (!sweep->options->check) command.kind = COMMAND_TIME, command.iters = 1;
  enum party_result result = tell(sweep, party, &command, &outcome);
  if (result != PARTY_OK) return result;
  *m = (struct measured){.done = outcome.supported, .wrong = outcome.wrong};
  snprintf(m->text, sizeof m->text, "%s", outcome.text);
  return PARTY_OK;
}

/* Seconds of one call: of a first one, and if that is short, of as many as take some milliseconds. */
static enum party_result estimate(struct sweep *sweep, int party, const struct point *point, double *seconds) {
  struct command command = {.kind = COMMAND_TIME, .point = *point, .iters = 1, .warmup = 1};
  struct outcome outcome;
  enum party_result result = tell(sweep, party, &command, &outcome);
  if (result == PARTY_OK && outcome.seconds < 1e-3) {
    command.iters = (uint64_t)fmin(3e-3 / fmax(outcome.seconds, 1e-7), 1000);
    result = tell(sweep, party, &command, &outcome);
  }
  *seconds = result == PARTY_OK ? fmax(outcome.seconds, 1e-9) : 0;
  return result;
}

static enum party_result choose_iters(struct sweep *sweep, int nparties, const struct point *point,
                                      const struct measured *m, struct command *command) {
  double fastest = INFINITY, slowest = 0;
  for (int i = 0; i < nparties && sweep->options->iters < 0; i++) {
    double seconds;
    if (!m[i].done) continue;
    enum party_result result = estimate(sweep, i, point, &seconds);
    if (result != PARTY_OK) return result;
    fastest = fmin(fastest, seconds);
    slowest = fmax(slowest, seconds);
  }
  double iters = fmin(fmax(ROUND_SECONDS / slowest, FASTEST_SECONDS / fastest), SLOWEST_SECONDS / slowest);
  command->iters = (uint64_t)fmax(1, fmin(iters, 20000));
  if (sweep->options->iters > 0) command->iters = (uint64_t)sweep->options->iters;
  uint64_t warmup = command->iters / 5 < 1 ? 1 : command->iters / 5 > 5 ? 5 : command->iters / 5;
  command->warmup = sweep->options->warmup >= 0 ? (uint64_t)sweep->options->warmup : warmup;
  return PARTY_OK;
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double median(double *values, int count) {
  qsort(values, (size_t)count, sizeof *values, by_value);
  return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

/* Measures the point with the first nparties parties, into m[0..nparties-1]. */
static enum party_result measure(struct sweep *sweep, int nparties, const struct point *point, struct measured *m) {
  static double samples[MAX_PARTIES][MAX_ROUNDS];
  struct command command = {.kind = COMMAND_TIME, .point = *point};
  int rounds = (int)sweep->options->rounds;
  enum party_result result = PARTY_OK;
  for (int i = 0; i < nparties && result == PARTY_OK; i++) result = check(sweep, i, point, &m[i]);
  if (result == PARTY_OK) result = choose_iters(sweep, nparties, point, m, &command);
  for (int turn = 0; turn < rounds * nparties && result == PARTY_OK; turn++) {
    int party = turn % nparties;
    struct outcome outcome;
    if (!m[party].done) continue;
    result = tell(sweep, party, &command, &outcome);
    samples[party][turn / nparties] = outcome.seconds;
  }
  for (int i = 0; i < nparties && result == PARTY_OK; i++)
    if (m[i].done) m[i].seconds = median(samples[i], rounds);
  return result;
}

static enum party_result run_row(struct sweep *sweep, struct point point) {
  struct measured m[MAX_PARTIES] = {0};
  struct row row = {.point = point};
  int nranks = sweep->limits->nranks;
  /* An MPI returns from a call of nothing at once, a collective here is also a meeting: no comparison. */
  int nparties = point_size(&point, nranks) ? sweep->nparties : 1;
  enum party_result result = measure(sweep, nparties, &point, m);
  if (result != PARTY_OK) return result;
  row.out_of_place = m[0];
  for (int i = 1; i < nparties; i++) row.peers[i - 1] = m[i];
  point.in_place = 1;
  if (colls[point.coll].in_place) result = measure(sweep, 1, &point, &row.in_place);
  row.bound_seconds = bounds_seconds(sweep->limits, &row.point);
  if (result == PARTY_OK) report_row(sweep->report, &row);
  return result;
}

static enum party_result run_sizes(struct sweep *sweep, struct point point) {
  const struct options *o = sweep->options;
  for (int64_t bytes = o->minbytes; bytes <= o->maxbytes;) {
    point.count = coll_count(point.coll, point.type, (uint64_t)bytes, sweep->limits->nranks);
    enum party_result result = run_row(sweep, point);
    if (result != PARTY_OK) return result;
    bytes = o->stepfactor > 0 ? bytes * o->stepfactor : bytes + o->stepbytes;
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

static enum party_result run_table(struct sweep *sweep, int coll) {
  const struct options *o = sweep->options;
  struct span types = span_of(true, o->type, SHMCCL_DATATYPE_COUNT);
  struct span ops = span_of(colls[coll].reduces, o->op, SHMCCL_REDOP_COUNT);
  struct span roots = span_of(colls[coll].rooted, o->root, sweep->limits->nranks);
  struct point point = {.coll = coll};
  enum party_result result = bounds_measure_copies(sweep->limits, sweep->parties[0]);
  report_table_head(sweep->report, coll);
  for (point.type = types.from; point.type <= types.to; point.type++)
    for (point.op = ops.from; point.op <= ops.to; point.op++)
      for (point.root = roots.from; point.root <= roots.to && result == PARTY_OK; point.root++)
        result = run_sizes(sweep, point);
  if (result == PARTY_OK) report_table_foot(sweep->report);
  return result;
}

enum party_result sweep_run(struct sweep *sweep) {
  enum party_result result = PARTY_OK;
  for (int i = 0; i < sweep->options->ncolls && result == PARTY_OK; i++)
    result = run_table(sweep, sweep->options->colls[i]);
  return result;
}
