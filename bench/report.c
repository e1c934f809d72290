/*
 * Layout of the lines.
 */
#include "report.h"

#include "progress.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const struct {
  const char *name;
  size_t below; /* bytes */
} ranges[RANGE_COUNT] = {{"up to 16K", (16 << 10) + 1}, {"to 1M", (1 << 20) + 1}, {"above 1M", SIZE_MAX}};

void report_begin(struct report *report, const struct options *options, const struct limits *limits, bool quiet) {
  const char *no_colour = getenv("NO_COLOR");
  *report = (struct report){.options = options, .limits = limits, .quiet = quiet};
  report->colour = isatty(STDOUT_FILENO) && !(no_colour && *no_colour);
  if (!quiet) setvbuf(stdout, NULL, _IOFBF, 1 << 12);
}

void report_peer(struct report *report, const char *name, const char *version) {
  report_line(report, "# Peer %s: %s", name, version);
  report->peers[report->npeers++] = name;
}

void report_line(const struct report *report, const char *format, ...) {
  if (report->quiet) return;
  va_list args;
  progress_clear();
  va_start(args, format);
  vprintf(format, args);
  va_end(args);
  putchar('\n');
  fflush(stdout);
}

/* Who made the ranks, and where they run. */
static const char *ranks_text(const struct options *options, const struct limits *limits) {
  bool pinned = !options->no_pin && limits->nranks <= limits->cores;
  if (options->joined) return "of a job, placed by its launcher";
  if (options->threads > 0) return pinned ? "threads, a core each" : "threads, not pinned";
  return pinned ? "processes, a core each" : "processes, not pinned";
}

static const char *average_text(int64_t average) {
  static const char *const texts[] = {"rank 0's", "mean of the ranks'", "least of the ranks'", "most of the ranks'"};
  return texts[average];
}

static void head_gpu(const struct report *report, int gpu) {
  const struct link *link = &report->limits->link;
  int ranks = 0;
  for (int rank = 0; rank < report->limits->nranks; rank++) ranks += link->gpu_of[rank] == gpu;
  report_line(report, "# GPU %d: %s at %s: %d rank%s", gpu, link->cards[gpu].name, link->cards[gpu].bus, ranks,
              ranks > 1 ? "s" : "");
}

static void head_setting(const struct report *report) {
  const struct options *o = report->options;
  char low[24], high[24], step[40], factor[24], iters[48];
  snprintf(factor, sizeof factor, "%lld", (long long)o->stepfactor);
  snprintf(step, sizeof step, o->stepbytes > 0 ? "in steps of %s" : "each %s times the last",
           o->stepbytes > 0 ? size_text(low, (double)o->stepbytes) : factor);
  snprintf(iters, sizeof iters, o->iters > 0 ? "%lld" : "as many as fill about 30 ms", (long long)o->iters);
  report_line(report, "# shmccl-perf %d.%d.%d: %d ranks (%s), %d cores", SHMCCL_VERSION_MAJOR, SHMCCL_VERSION_MINOR,
              SHMCCL_VERSION_PATCH, report->limits->nranks, ranks_text(o, report->limits), report->limits->cores);
  for (int i = 0; i < report->limits->link.gpus; i++) head_gpu(report, i);
  report_line(report, "# Sizes %s to %s, %s; iterations: %s, in %lld rounds of which the median counts; check: %s",
              size_text(low, (double)o->minbytes), size_text(high, (double)o->maxbytes), step, iters,
              (long long)o->rounds, o->check ? "every element" : "none");
  if (o->average != AVERAGE_MEAN) report_line(report, "# time: %s", average_text(o->average));
  if (o->graphs)
    report_line(report, "# Iterations are captured as a CUDA graph, which is replayed %lld times; time is of one call",
                (long long)o->graphs);
  if (o->messages > 1)
    report_line(report, "# A group holds %lld exchanges; time is a group's divided by that", (long long)o->messages);
  if (o->unalign) report_line(report, "# Buffers begin %lld elements off their alignment", (long long)o->unalign);
}

void report_head(const struct report *report) {
  head_setting(report);
  report_limits(report);
  report_line(report,
              report->limits->link.gpus
                  ? "# bound: the least time these limits allow for what must cross a GPU's link, whose ranks share it"
                  : "# bound: the least time these limits allow: each result written once, each rank run once");
}

static void report_link(const struct report *report) {
  const struct link *l = &report->limits->link;
  report_line(
      report,
      "# This machine, measured now: GB/s of a GPU's link by copy engine and pinned memory%s: to the host %.1f, "
      "from it %.1f, both at once %.1f",
      l->gpus > 1 ? ", all GPUs at once" : "", l->out * 1e-9, l->in * 1e-9, l->both * 1e-9);
  report_line(report, "# A copy of 4 bytes behind another takes %.2f us", l->hop * 1e6);
}

void report_limits(const struct report *report) {
  const struct limits *l = report->limits;
  char cache[24];
  if (l->link.gpus) return report_link(report);
  report_line(report,
              "# This machine, measured now: GB/s copied by all ranks together / by one alone: "
              "memory %.1f / %.1f, cache (%s) %.1f / %.1f",
              l->memory.together * 1e-9, l->memory.alone * 1e-9, size_text(cache, l->cache_bytes),
              l->cached.together * 1e-9, l->cached.alone * 1e-9);
  if (l->handover > 0) report_line(report, "# A cache line goes from core to core in %.2f us", l->handover * 1e6);
  if (l->turn > 0) report_line(report, "# A core goes from one rank to the next in %.2f us", l->turn * 1e6);
}

/* Of -I, by nccl-tests' names. */
static const char *const each_names[] = {"i_min", "i_max", "i_p99", "i_cv%"};
enum { EACH_COLUMNS = 4 };

/* One line of the head. each: the line with the names of columns. */
static void put_head_line(const struct report *report, const char *const cells[5], const char *const group[4],
                          const char *const bound[2], const char *const peer[2], bool names) {
  printf("# %10s  %12s  %8s  %6s  %6s", cells[0], cells[1], cells[2], cells[3], cells[4]);
  for (int i = 0; i < 2; i++) {
    printf("  %7s  %6s  %6s  %6s", group[0], group[1], group[2], group[3]);
    for (int k = 0; k < EACH_COLUMNS && report->options->each; k++)
      printf("  %7s", names ? each_names[k] : k < EACH_COLUMNS - 1 ? "(us)" : "");
  }
  printf("  %8s  %6s", bound[0], bound[1]);
  for (int i = 0; i < report->npeers; i++) printf("  %8s  %6s", peer[0], peer[1]);
  printf("%s\n", names && report->options->timestamps ? "  timestamp" : "");
}

void report_table_head(struct report *report, int coll) {
  int width = report->options->each ? 31 + 9 * EACH_COLUMNS : 31; /* of a group */
  report->busbw_sum = 0;
  report->busbw_count = 0;
  report->table_wrong = 0;
  if (report->quiet) return;
  progress_clear();
  printf("#\n# %s\n#\n# %10s  %12s  %8s  %6s  %6s  %*s  %*s", colls[coll].name, "", "", "", "", "", width / 2 + 6,
         "out-of-place", width - width / 2 - 6 + width / 2 + 4, "in-place");
  printf("%*s  %16s", width - width / 2 - 4, "", "out-of-place");
  for (int i = 0; i < report->npeers; i++) printf("  %16s", report->peers[i]);
  putchar('\n');
  put_head_line(report, (const char *const[]){"size", "count", "type", "redop", "root"},
                (const char *const[]){"time", "algbw", "busbw", "#wrong"}, (const char *const[]){"bound", "time/"},
                (const char *const[]){"time", "peer/"}, true);
  put_head_line(report, (const char *const[]){"(B)", "(elements)", "", "", ""},
                (const char *const[]){"(us)", "(GB/s)", "(GB/s)", ""}, (const char *const[]){"(us)", "bound"},
                (const char *const[]){"(us)", "ours"}, false);
  fflush(stdout);
}

/* As many decimals, up to two, as the width has room for. */
static void put_number(double value, int width) {
  char text[32];
  int decimals = 2;
  while (snprintf(text, sizeof text, "%*.*f", width, decimals, value) > width && decimals) decimals--;
  if ((int)strlen(text) > width) snprintf(text, sizeof text, "%*.1e", width, value);
  printf("  %s", text);
}

static void put_each(const struct measured *m) {
  put_number(m->each.least * 1e6, 7);
  put_number(m->each.most * 1e6, 7);
  put_number(m->each.p99 * 1e6, 7);
  put_number(m->each.mean > 0 ? 100 * m->each.deviation / m->each.mean : 0, 7);
}

static void put_nothing(const struct report *report) {
  printf("  %7s  %6s  %6s  %6s", "N/A", "N/A", "N/A", "N/A");
  for (int k = 0; k < EACH_COLUMNS && report->options->each; k++) printf("  %7s", "N/A");
}

static void put_group(const struct report *report, const struct point *point, const struct measured *m) {
  int nranks = report->limits->nranks;
  if (!m->done) return put_nothing(report);
  put_number(m->seconds * 1e6, 7);
  put_number(point_algbw(point, nranks, m->seconds) * 1e-9, 6);
  put_number(point_busbw(point, nranks, m->seconds) * 1e-9, 6);
  if (!report->options->check)
    printf("  %6s", "N/A");
  else if (m->wrong && report->colour)
    printf("  \033[1;31m%6g\033[0m", (double)m->wrong);
  else
    printf("  %6g", (double)m->wrong);
  if (report->options->each) put_each(m);
}

static void put_ratio(double numerator, double denominator) {
  if (denominator > 0)
    put_number(numerator / denominator, 6);
  else
    printf("  %6s", "-");
}

static void put_timestamp(void) {
  char text[32];
  time_t now = time(NULL);
  strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", localtime(&now));
  printf("  %s", text);
}

static void put_line(const struct report *report, const struct row *row) {
  const struct point *p = &row->point;
  const struct measured *ours = &row->out_of_place[0];
  printf("%12zu  %12llu  %8s  %6s  %6d", point_size(p, report->limits->nranks), (unsigned long long)p->count,
         type_names[p->type], p->op < 0 ? "none" : op_names[p->op], p->root);
  put_group(report, p, ours);
  put_group(report, p, &row->in_place);
  put_number(row->bound_seconds * 1e6, 8);
  put_ratio(ours->seconds, row->bound_seconds);
  for (int i = 0; i < report->npeers; i++) {
    const struct measured *peer = &row->out_of_place[i + 1];
    if (i + 1 < row->ncolumns && peer->done) {
      put_number(peer->seconds * 1e6, 8);
      put_ratio(peer->seconds, ours->seconds);
    } else {
      printf("  %8s  %6s", "-", "-");
    }
  }
  if (report->options->timestamps) put_timestamp();
  putchar('\n');
}

static void spread_add(struct spread *spread, double numerator, double denominator) {
  if (!(numerator > 0) || !(denominator > 0)) return;
  double ratio = numerator / denominator;
  spread->least = spread->count ? fmin(spread->least, ratio) : ratio;
  spread->most = spread->count ? fmax(spread->most, ratio) : ratio;
  spread->log_sum += log(ratio);
  spread->count++;
}

/* Rows without a byte measure nothing that a summary should speak of. */
static void add_to_summary(struct report *report, const struct row *row) {
  size_t size = point_size(&row->point, report->limits->nranks);
  double ours = row->out_of_place[0].seconds;
  int range = 0;
  if (!size) return;
  while (size >= ranges[range].below) range++;
  report->below_bound += ours < 0.95 * row->bound_seconds;
  struct range *into = &report->ranges[row->point.coll][range];
  spread_add(&into->to_bound, ours, row->bound_seconds);
  for (int i = 1; i < row->ncolumns; i++)
    if (row->out_of_place[i].done && !row->out_of_place[i].wrong)
      spread_add(&into->to_ours[i - 1], row->out_of_place[i].seconds, ours);
}

static void add_group(struct report *report, const struct point *point, const struct measured *m) {
  if (!m->done) return;
  report->busbw_sum += point_busbw(point, report->limits->nranks, m->seconds) * 1e-9;
  report->busbw_count++;
  report->table_wrong += m->wrong;
  report->wrong += m->wrong;
}

void report_row(struct report *report, const struct row *row) {
  add_group(report, &row->point, &row->out_of_place[0]);
  add_group(report, &row->point, &row->in_place);
  add_to_summary(report, row);
  for (int i = 1; i < row->ncolumns; i++) report->wrong += row->out_of_place[i].wrong;
  report->rows++;
  if (report->quiet) return;
  progress_clear();
  put_line(report, row);
  if (row->out_of_place[0].wrong) printf("# WRONG, out of place: %s\n", row->out_of_place[0].text);
  if (row->in_place.wrong) printf("# WRONG, in place: %s\n", row->in_place.text);
  for (int i = 1; i < row->ncolumns; i++)
    if (row->out_of_place[i].wrong) printf("# WRONG, %s: %s\n", row->names[i], row->out_of_place[i].text);
  fflush(stdout);
}

void report_table_foot(const struct report *report) {
  const char *verdict = report->table_wrong ? "FAILED" : "OK";
  if (!report->options->check) verdict = "(not checked)";
  report_line(report, "# %-20s : %llu %s", "Out of bounds values", (unsigned long long)report->table_wrong, verdict);
  report_line(report, "# %-20s : %g", "Avg bus bandwidth",
              report->busbw_count ? report->busbw_sum / report->busbw_count : 0);
}

enum { SUMMARY_WIDTH = 24 };

static void put_spread(const struct spread *s) {
  char text[64] = "-";
  if (s->count) snprintf(text, sizeof text, "%.2f (%.2f to %.2f)", exp(s->log_sum / s->count), s->least, s->most);
  printf("  %*s", SUMMARY_WIDTH, text);
}

static void summarize_range(const struct report *report, int coll, int range) {
  const struct range *r = &report->ranges[coll][range];
  if (!r->to_bound.count) return;
  printf("#   %-14s  %-9s", colls[coll].name, ranges[range].name);
  put_spread(&r->to_bound);
  for (int i = 0; i < report->npeers; i++) put_spread(&r->to_ours[i]);
  putchar('\n');
}

static void put_summary_head(const struct report *report) {
  printf(
      "#\n# Summary, out of place: geometric mean (least to most) of the rows' ratios of times\n#   %-14s  %-9s  %*s",
      "", "size", SUMMARY_WIDTH, "ours/bound");
  for (int i = 0; i < report->npeers; i++) {
    char head[32];
    snprintf(head, sizeof head, "%s/ours", report->peers[i]);
    printf("  %*s", SUMMARY_WIDTH, head);
  }
  putchar('\n');
}

void report_summary(const struct report *report) {
  bool rooted = false;
  if (!report->rows || report->quiet) return;
  progress_clear();
  put_summary_head(report);
  for (int i = 0; i < report->options->ncolls; i++) {
    rooted |= colls[report->options->colls[i]].rooted;
    for (int range = 0; range < RANGE_COUNT; range++) summarize_range(report, report->options->colls[i], range);
  }
  if (rooted && report->npeers)
    report_line(report, "# A peer's rooted calls may return before all ranks have entered them; ours never do");
  if (report->below_bound)
    report_line(report,
                "# %d rows took less than 0.95 of their bound: something else ran while the limits were measured",
                report->below_bound);
  if (report->wrong)
    report_line(report, "# WRONG: %llu elements of the above are not what they must be",
                (unsigned long long)report->wrong);
  fflush(stdout);
}
