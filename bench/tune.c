/*
 * Three questions for each number of ranks, in this order: up to which size is one shot faster; which chunk is best for
 * two shots, and which for collectives that only copy; how long does an allreduce take then. The last is asked of a
 * communicator that reads the new table, beside one with the built-in thresholds.
 */
#include "tune.h"

#include "base/tuning.h"
#include "files.h"
#include "launch.h"
#include "progress.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { CROSSOVER_LEAST = 2 << 10, CROSSOVER_MOST = 4 << 20, CHUNK_SIZE = 16 << 20, SIZES_MOST = 32 };
static const uint64_t chunks[] = {64 << 10, 128 << 10, 256 << 10, 512 << 10, 1 << 20, 2 << 20, 4 << 20};
enum { CHUNK_COUNT = sizeof chunks / sizeof *chunks };

/* Other thresholds than the built-in ones must be worth it: less is noise. */
static const double WORTH = 0.97;

struct tuner {
  struct report *report;
  struct meter *meter;
  const cpu_set_t *cpus;
  struct shmi_tuning table;
  struct shmi_tuning_set *set; /* that is being measured */
  struct party parties[2];
  struct measured measured[2];
};

static const struct setup builtin = {.config = SHMCCL_CONFIG_INITIALIZER, .tuning_file = ""};

/* ---- two parties at a time --------------------------------------------------------------------------------------- */

static enum party_result start(struct tuner *t, int place, const struct setup *setup) {
  t->meter->parties[place] = t->meter->failed = &t->parties[place];
  enum party_result result = party_start_own(&t->parties[place], t->meter->options, t->set->nranks, t->cpus, setup);
  if (result == PARTY_OK) t->meter->nparties = place + 1;
  return result;
}

static void stop(struct tuner *t, int place) {
  party_dismiss(&t->parties[place]);
  t->meter->nparties = place;
}

static struct point point_of(const struct tuner *t, int coll, uint64_t bytes) {
  struct point point = {.coll = coll, .type = SHMCCL_FLOAT32, .op = SHMCCL_SUM, .root = -1, .messages = 1};
  if (!colls[coll].reduces) point.op = -1;
  point.count = coll_count(coll, point.type, bytes, t->set->nranks);
  return point;
}

/* Both parties' times for that size, and by how much the second's is longer: the median of the rounds' ratios. */
static enum party_result compare(struct tuner *t, int coll, uint64_t bytes, double *ratio) {
  struct point point = point_of(t, coll, bytes);
  double ratios[ROUNDS_MOST];
  progress_step();
  enum party_result result = measure(t->meter, 2, &point, t->measured);
  const struct measured *m = t->measured;
  for (int i = 0; i < m[0].nrounds && result == PARTY_OK; i++) ratios[i] = m[1].rounds[i] / m[0].rounds[i];
  *ratio = result == PARTY_OK ? summarize(ratios, (size_t)m[0].nrounds).p50 : 1;
  if (result == PARTY_OK && m[0].wrong + m[1].wrong)
    result = party_fail(t->meter->failed = &t->parties[m[1].wrong > 0], "wrong results: %s", m[m[1].wrong > 0].text);
  return result;
}

/* ---- the questions ----------------------------------------------------------------------------------------------- */

/* The threshold that loses least over all sizes measured: log_ratio[i], of two shots to one, is lost where one shot is
 * slower and yet below it, or faster and yet above. */
static int best_crossover(const double *log_ratio, int count) {
  double least = INFINITY;
  int best = 0;
  for (int threshold = 0; threshold <= count; threshold++) {
    double lost = 0;
    for (int i = 0; i < count; i++) lost += i < threshold ? fmax(0, -log_ratio[i]) : fmax(0, log_ratio[i]);
    if (lost < least) least = lost, best = threshold;
  }
  return best;
}

static enum party_result measure_crossovers(struct tuner *t, uint64_t *one_shot_most) {
  const int64_t most = t->meter->options->maxbytes;
  double log_ratio[SIZES_MOST], ratio;
  uint64_t sizes[SIZES_MOST];
  int count = 0;
  for (int64_t bytes = CROSSOVER_LEAST; bytes <= CROSSOVER_MOST && bytes <= most; bytes *= 2, count++) {
    enum party_result result = compare(t, COLL_ALL_REDUCE, (uint64_t)bytes, &ratio);
    if (result != PARTY_OK) return result;
    sizes[count] = (uint64_t)bytes;
    log_ratio[count] = log(ratio);
  }
  int best = best_crossover(log_ratio, count);
  *one_shot_most = best ? sizes[best - 1] : CROSSOVER_LEAST / 2;
  return PARTY_OK;
}

static enum party_result find_crossover(struct tuner *t) {
  struct setup one = builtin, two = builtin;
  one.config.algorithm = SHMCCL_ALGORITHM_ONE_SHOT;
  two.config.algorithm = SHMCCL_ALGORITHM_TWO_SHOT;
  enum party_result result = start(t, 0, &one);
  if (result == PARTY_OK) result = start(t, 1, &two);
  if (result == PARTY_OK) result = measure_crossovers(t, &t->set->thresholds.one_shot_most);
  if (result != PARTY_OK) return result;
  stop(t, 1);
  stop(t, 0);
  return PARTY_OK;
}

static enum party_result try_chunk(struct tuner *t, int coll, uint64_t bytes, uint64_t chunk, double *ratio) {
  struct setup setup = builtin;
  setup.config.chunk_bytes = chunk;
  enum party_result result = start(t, 1, &setup);
  if (result == PARTY_OK) result = compare(t, coll, bytes, ratio);
  if (result == PARTY_OK) stop(t, 1);
  return result;
}

/* The best chunk for a large message; 0 if none is clearly better than what is built in. */
static enum party_result find_chunk(struct tuner *t, int coll, uint64_t *best) {
  const int64_t most = t->meter->options->maxbytes;
  const uint64_t bytes = most < CHUNK_SIZE ? (uint64_t)most : CHUNK_SIZE;
  double least = WORTH, ratio;
  *best = 0;
  enum party_result result = start(t, 0, &builtin);
  for (int i = 0; i < CHUNK_COUNT && result == PARTY_OK; i++) {
    result = try_chunk(t, coll, bytes, chunks[i], &ratio);
    if (result == PARTY_OK && ratio < least) least = ratio, *best = chunks[i];
  }
  if (result == PARTY_OK) stop(t, 0);
  return result;
}

/* ---- the table --------------------------------------------------------------------------------------------------- */

static void put_set(FILE *out, const struct shmi_tuning_set *set) {
  fprintf(out, "\nranks %d\n", set->nranks);
  fprintf(out, "one-shot-most %llu\n", (unsigned long long)set->thresholds.one_shot_most);
  fprintf(out, "reduce-chunk %llu\n", (unsigned long long)set->thresholds.reduce_chunk);
  fprintf(out, "copy-chunk %llu\n", (unsigned long long)set->thresholds.copy_chunk);
  for (int i = 0; i < set->npoints; i++)
    fprintf(out, "allreduce %llu %.3f\n", (unsigned long long)set->points[i].bytes, set->points[i].us);
}

static bool write_table(const char *path, const struct shmi_tuning *table) {
  char *text = NULL, day[32];
  size_t bytes = 0;
  time_t now = time(NULL);
  FILE *out = open_memstream(&text, &bytes);
  if (!out) return perror("shmccl-perf: --tune"), false;
  strftime(day, sizeof day, "%Y-%m-%d", gmtime(&now));
  fprintf(out,
          "shmccl-tuning %d\n# Measured by shmccl-perf --tune on %s, for this machine and version only: to use it,\n"
          "# export SHMCCL_TUNING_FILE with this file's path. docs/benchmark.md explains the lines.\n"
          "library %d.%d.%d\ncpu %s\ncores %d\ncopy-gbs %.3f\ncached-copy-gbs %.3f\nhandover-us %.4f\n",
          SHMI_TUNING_FORMAT, day, SHMCCL_VERSION_MAJOR, SHMCCL_VERSION_MINOR, SHMCCL_VERSION_PATCH, table->machine.cpu,
          table->machine.cores, table->copy_gbs, table->cached_copy_gbs, table->handover_us);
  for (int i = 0; i < table->nsets; i++) put_set(out, &table->sets[i]);
  fputs("\nend\n", out);
  bool good = !fclose(out) && file_write("--tune", path, text, bytes);
  free(text);
  return good;
}

/* ---- the last question ------------------------------------------------------------------------------------------- */

/* A communicator with the thresholds just found: by a table, as users will have them. */
static enum party_result start_tuned(struct tuner *t, char *path, size_t size) {
  struct shmi_tuning table = t->table;
  struct setup setup = builtin;
  table.nsets = 1;
  table.sets[0] = *t->set;
  table.sets[0].npoints = 1;
  table.sets[0].points[0] = (struct shmi_tuning_point){8, 1};
  snprintf(path, size, "%s/tuning", launch_folder());
  if (!write_table(path, &table)) return party_fail(t->meter->failed = &t->parties[1], "cannot write %s", path);
  setup.tuning_file = path;
  return start(t, 1, &setup);
}

/* With the built-in thresholds, beside the set's points. */
struct times {
  double builtin_us[SHMI_TUNING_POINTS_MOST];
  double ratios[SHMI_TUNING_POINTS_MOST]; /* the new thresholds' times to these */
};

static enum party_result measure_times(struct tuner *t, struct times *times) {
  for (int64_t bytes = 8; bytes <= t->meter->options->maxbytes; bytes *= 4) {
    int i = t->set->npoints;
    enum party_result result = compare(t, COLL_ALL_REDUCE, (uint64_t)bytes, &times->ratios[i]);
    if (result != PARTY_OK) return result;
    times->builtin_us[i] = t->measured[0].seconds * 1e6;
    t->set->points[t->set->npoints++] = (struct shmi_tuning_point){(uint64_t)bytes, t->measured[1].seconds * 1e6};
  }
  return PARTY_OK;
}

/* How much faster calls are with the new thresholds: the geometric mean over sizes. */
static double gain_of(const struct shmi_tuning_set *set, const struct times *times) {
  double sum = 0;
  for (int i = 0; i < set->npoints; i++) sum -= log(times->ratios[i]);
  return exp(sum / set->npoints);
}

static void report_set(const struct tuner *t, const struct times *times, double gain) {
  const struct shmi_tuning_set *set = t->set;
  char one_shot[24], reduce[24] = "built-in", copy[24] = "built-in";
  const shmi_thresholds_t *found = &set->thresholds;
  if (found->reduce_chunk) size_text(reduce, (double)found->reduce_chunk);
  if (found->copy_chunk) size_text(copy, (double)found->copy_chunk);
  report_line(t->report, "#\n# %d ranks: one shot up to %s; chunks of %s for two shots, of %s for copies", set->nranks,
              size_text(one_shot, (double)found->one_shot_most), reduce, copy);
  report_line(t->report,
              "#   allreduce      built-in         tuned  built-in/\n#         (B)          (us)          (us)"
              "      tuned");
  for (int i = 0; i < set->npoints; i++)
    report_line(t->report, "%12llu  %12.2f  %12.2f  %9.2f", (unsigned long long)set->points[i].bytes,
                times->builtin_us[i], set->points[i].us, 1 / times->ratios[i]);
  report_line(t->report, "# %.2f times the speed of the built-in thresholds%s", gain,
              gain * WORTH < 1 ? ": no gain that noise could not make, so the built-in ones are kept" : "");
}

/* Thresholds that bring nothing are given up again. */
static void settle(struct tuner *t, const struct times *times) {
  double gain = gain_of(t->set, times);
  report_set(t, times, gain);
  if (gain * WORTH >= 1) return;
  t->set->thresholds = (shmi_thresholds_t){0};
  for (int i = 0; i < t->set->npoints; i++) t->set->points[i].us = times->builtin_us[i];
}

static enum party_result find_times(struct tuner *t) {
  struct times times = {0};
  char path[64];
  enum party_result result = start(t, 0, &builtin);
  if (result == PARTY_OK) result = start_tuned(t, path, sizeof path);
  if (result == PARTY_OK) result = measure_times(t, &times);
  if (result != PARTY_OK) return result;
  stop(t, 1);
  stop(t, 0);
  settle(t, &times);
  return PARTY_OK;
}

static enum party_result tune_ranks(struct tuner *t, int nranks) {
  t->set = &t->table.sets[t->table.nsets];
  *t->set = (struct shmi_tuning_set){.nranks = nranks};
  enum party_result result = find_crossover(t);
  if (result == PARTY_OK) result = find_chunk(t, COLL_ALL_REDUCE, &t->set->thresholds.reduce_chunk);
  if (result == PARTY_OK) result = find_chunk(t, COLL_ALL_GATHER, &t->set->thresholds.copy_chunk);
  if (result == PARTY_OK) result = find_times(t);
  if (result == PARTY_OK) t->table.nsets++;
  return result;
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

/* With as many ranks as the first set has. */
static enum party_result measure_limits(struct tuner *t, struct limits *limits) {
  t->set = &t->table.sets[0];
  t->set->nranks = (int)t->meter->options->rank_counts[0];
  enum party_result result = start(t, 0, &builtin);
  bounds_begin(limits, t->set->nranks, t->cpus, NULL);
  if (result == PARTY_OK) bounds_measure_latency(limits);
  if (result == PARTY_OK) result = bounds_measure_rates(limits, &t->parties[0]);
  if (result != PARTY_OK) return result;
  stop(t, 0);
  t->table.machine = shmi_tuning_this_machine();
  t->table.copy_gbs = limits->memory.alone * 1e-9;
  t->table.cached_copy_gbs = limits->cached.alone * 1e-9;
  t->table.handover_us = limits->handover * 1e6;
  report_limits(t->report);
  return PARTY_OK;
}

static int count_steps(const struct options *o) {
  int steps = 2 * CHUNK_COUNT;
  for (int64_t bytes = CROSSOVER_LEAST; bytes <= CROSSOVER_MOST && bytes <= o->maxbytes; bytes *= 2) steps++;
  for (int64_t bytes = 8; bytes <= o->maxbytes; bytes *= 4) steps++;
  return steps * o->nrank_counts;
}

enum party_result tune_run(struct report *report, struct meter *meter, struct limits *limits, const cpu_set_t *cpus) {
  static struct tuner t;
  const struct options *o = meter->options;
  t = (struct tuner){.report = report, .meter = meter, .cpus = cpus};
  unsetenv("SHMCCL_ALGORITHM"); /* they would decide what is to be found out */
  unsetenv("SHMCCL_CHUNK_BYTES");
  report_line(report, "# Tuning: each number of ranks takes about half a minute on an idle machine");
  enum party_result result = measure_limits(&t, limits);
  progress_begin(count_steps(o));
  for (int i = 0; i < o->nrank_counts && result == PARTY_OK; i++) result = tune_ranks(&t, (int)o->rank_counts[i]);
  if (result != PARTY_OK) return result;
  if (!write_table(o->tune, &t.table)) return party_fail(meter->failed = &t.parties[0], "no table was written");
  report_line(report, "#\n# Written. To use it: export SHMCCL_TUNING_FILE=%s%s", *o->tune == '/' ? "" : "\"$PWD\"/",
              o->tune);
  return PARTY_OK;
}
