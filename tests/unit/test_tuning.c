/*
 * test_tuning.c - the measured table: what it says is what is read, also in a locale with decimal commas; every line
 * that is missing, doubled, misplaced, cut or of another machine or version is refused with file, line and remedy;
 * communicators take rank 0's thresholds, and do without a table that is refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/tuning.h"
#include "comm/comm.h"

#define LENGTH(array) (sizeof(array) / sizeof *(array))
enum { LINES_MOST = 24, LINE_BYTES = 200 };

/* A table as lines, to be spoilt. */
struct text {
  char line[LINES_MOST][LINE_BYTES];
  int count;
};

static char path[] = "/tmp/shmccl-tuning-XXXXXX";

static struct text good_text(void) {
  const struct shmi_tuning_machine here = shmi_tuning_this_machine();
  struct text t = {.count = 0};
  char machine[3][LINE_BYTES];
  snprintf(machine[0], LINE_BYTES, "library %d.%d.%d", SHMCCL_VERSION_MAJOR, SHMCCL_VERSION_MINOR,
           SHMCCL_VERSION_PATCH);
  snprintf(machine[1], LINE_BYTES, "cpu %s", here.cpu);
  snprintf(machine[2], LINE_BYTES, "cores %d", here.cores);
  const char *const lines[] = {"shmccl-tuning 1",
                               machine[0],
                               machine[1],
                               machine[2],
                               "copy-gbs 12.5",
                               "cached-copy-gbs 50",
                               "handover-us 0.03",
                               "ranks 2",
                               "one-shot-most 65536",
                               "reduce-chunk 524288",
                               "copy-chunk 262144",
                               "allreduce 8 0.25",
                               "allreduce 1024 2",
                               "allreduce 4096 10.5",
                               "ranks 4",
                               "one-shot-most 1024",
                               "reduce-chunk 65536",
                               "copy-chunk 131072",
                               "allreduce 8 1.5",
                               "end"};
  for (size_t i = 0; i < LENGTH(lines); i++) snprintf(t.line[t.count++], LINE_BYTES, "%s", lines[i]);
  return t;
}

static void write_text(const struct text *t) {
  FILE *file = fopen(path, "w");
  assert_non_null(file);
  for (int i = 0; i < t->count; i++) fprintf(file, "%s\n", t->line[i]);
  assert_int_equal(fclose(file), 0);
}

static void insert(struct text *t, int at, const char *line) {
  assert_true(t->count < LINES_MOST);
  memmove(t->line[at + 1], t->line[at], (size_t)(t->count++ - at) * LINE_BYTES);
  snprintf(t->line[at], LINE_BYTES, "%s", line);
}

static void cut(struct text *t, int at) {
  memmove(t->line[at], t->line[at + 1], (size_t)(--t->count - at) * LINE_BYTES);
}

/* Refused, in one line that names the file, the remedy and `words`. */
static void expect_refusal(const struct text *t, const char *words) {
  struct shmi_tuning tuning = {.nsets = -1};
  char message[SHMI_TUNING_MESSAGE_BYTES] = "";
  write_text(t);
  assert_int_equal(shmi_tuning_read(path, &tuning, message), -1);
  if (!strstr(message, words)) fail_msg("'%s' does not say '%s'", message, words);
  assert_non_null(strstr(message, path));
  assert_non_null(strstr(message, "shmccl-perf --tune"));
  assert_null(strchr(message, '\n'));
  assert_int_equal(tuning.nsets, -1); /* results are written on success only */
}

static struct shmi_tuning read_text(const struct text *t) {
  struct shmi_tuning tuning;
  char message[SHMI_TUNING_MESSAGE_BYTES] = "";
  write_text(t);
  if (shmi_tuning_read(path, &tuning, message)) fail_msg("%s", message);
  return tuning;
}

static void a_table_is_read(void **state) {
  struct text t = good_text();
  (void)state;
  insert(&t, 0, "# a comment");
  insert(&t, 5, "");
  const char *locale = setlocale(LC_NUMERIC, "de_DE.UTF-8"); /* where there is one */
  const struct shmi_tuning tuning = read_text(&t);
  if (locale) setlocale(LC_NUMERIC, "C");
  assert_int_equal(tuning.nsets, 2);
  assert_true(tuning.copy_gbs == 12.5 && tuning.cached_copy_gbs == 50 && fabs(tuning.handover_us - 0.03) < 1e-12);
  const struct shmi_tuning_set *set = shmi_tuning_find(&tuning, 2);
  assert_non_null(set);
  assert_int_equal(set->thresholds.one_shot_most, 65536);
  assert_int_equal(set->thresholds.reduce_chunk, 524288);
  assert_int_equal(set->thresholds.copy_chunk, 262144);
  assert_int_equal(set->npoints, 3);
  assert_true(set->points[2].bytes == 4096 && set->points[2].us == 10.5);
  assert_null(shmi_tuning_find(&tuning, 3));
  assert_string_equal(tuning.machine.cpu, shmi_tuning_this_machine().cpu);
  assert_int_equal(tuning.machine.library, SHMCCL_VERSION_CODE);
}

static void times_lie_between_the_measured(void **state) {
  const struct text t = good_text();
  (void)state;
  const struct shmi_tuning tuning = read_text(&t);
  assert_true(shmi_tuning_allreduce_us(&tuning, 2, 0) == 0.25);
  assert_true(shmi_tuning_allreduce_us(&tuning, 2, 8) == 0.25);
  assert_true(shmi_tuning_allreduce_us(&tuning, 2, 1024) == 2);
  assert_true(fabs(shmi_tuning_allreduce_us(&tuning, 2, 2560) - 6.25) < 1e-9);
  assert_true(shmi_tuning_allreduce_us(&tuning, 2, 8192) == 21);
  assert_true(shmi_tuning_allreduce_us(&tuning, 4, 16) == 3);
  assert_true(shmi_tuning_allreduce_us(&tuning, 3, 8) < 0);
}

/* Each line but the rows of a set that has several is needed, once, where it is; a table that ends early is refused. */
static void every_line_counts(void **state) {
  const struct text good = good_text();
  (void)state;
  for (int i = 0; i < good.count; i++) {
    struct text t = good;
    cut(&t, i);
    if (strncmp(good.line[i], "allreduce", 9) || !strncmp(good.line[i], "allreduce 8 1.5", 15)) expect_refusal(&t, "");
    t = good;
    insert(&t, i, good.line[i]);
    expect_refusal(&t, "");
    t = good;
    t.count = i;
    expect_refusal(&t, i ? "cut off: no end" : "is no tuning table");
  }
}

static void nonsense_is_refused(void **state) {
  static const struct {
    int line; /* from 0, replaced by: */
    const char *text, *words;
  } cases[] = {
      {0, "shmccl-tuning 2", "line 1: is of format '2', this library reads format 1"},
      {0, "shmccl-tuning", "format"},
      {0, "{\"schema\": 1}", "no tuning table"},
      {1, "library 99.0.0", "line 2: was measured with version 99.0.0"},
      {2, "cpu Some Other CPU", "line 3: was measured on another machine ('Some Other CPU')"},
      {3, "cores 99999", "line 4: was measured on another machine (99999 cores)"},
      {3, "cores 0", "cores is '0'"},
      {4, "copy-gbs", "copy-gbs is ''"},
      {4, "copy-gbs 0", "copy-gbs is '0'"},
      {4, "copy-gbs -1", "copy-gbs"},
      {4, "copy-gbs 1e3", "copy-gbs"},
      {4, "copy-gbs nan", "copy-gbs"},
      {4, "copy-gbs 12,5", "copy-gbs"},
      {4, "copy-gbs 1.2.3", "copy-gbs"},
      {4, "copy-gbs 12.5 GB", "copy-gbs"},
      {6, "handover-us inf", "handover-us"},
      {7, "ranks 1", "ranks is '1'"},
      {7, "ranks 65", "ranks is '65'"},
      {7, "ranks 4", "ranks 4 is there twice"},
      {8, "one-shot-most -1", "one-shot-most"},
      {8, "one-shot-most 64K", "one-shot-most"},
      {9, "reduce-chunk 63", "reduce-chunk"},
      {9, "reduce-chunk 67108865", "reduce-chunk"},
      {9, "reduce-chunk 524288.0", "whole number"},
      {10, "copy-chunk 99999999999999999999999999", "copy-chunk"},
      {11, "allreduce 8", "two numbers"},
      {11, "allreduce 0 1", "allreduce"},
      {11, "allreduce 8 0", "allreduce"},
      {12, "allreduce 8 2", "line 13: allreduce 8: sizes must rise"},
      {13, "broadcast 8 2", "'broadcast' is no keyword"},
      {13, " allreduce 9999 2", "'' is no keyword"},
      {13, "copy-gbs 12.5", "wrong place"},
      {5, "allreduce 8 2", "wrong place"},
      {18, "ranks 8", "line 19: ranks 4 has no allreduce rows"},
  };
  (void)state;
  for (size_t i = 0; i < LENGTH(cases); i++) {
    struct text t = good_text();
    snprintf(t.line[cases[i].line], LINE_BYTES, "%s", cases[i].text);
    expect_refusal(&t, cases[i].words);
  }
  struct text t = good_text();
  insert(&t, t.count, "allreduce 8 1");
  expect_refusal(&t, "follows the end");
}

static void odd_files_are_refused(void **state) {
  struct shmi_tuning tuning;
  char message[SHMI_TUNING_MESSAGE_BYTES], random[4096];
  (void)state;
  assert_int_equal(shmi_tuning_read("/nonexistent/tuning", &tuning, message), -1);
  assert_non_null(strstr(message, "/nonexistent/tuning: No such file or directory"));
  assert_int_equal(shmi_tuning_read("/tmp", &tuning, message), -1);
  assert_non_null(strstr(message, "is no tuning table"));
  FILE *file = fopen(path, "w");
  memset(random, 'x', sizeof random);
  assert_int_equal(fwrite(random, sizeof random, 1, file), 1);
  fclose(file);
  assert_int_equal(shmi_tuning_read(path, &tuning, message), -1);
  assert_non_null(strstr(message, "longer than any line"));
  file = fopen(path, "w");
  memset(random, 0, sizeof random);
  assert_int_equal(fwrite(random, sizeof random, 1, file), 1);
  fclose(file);
  assert_int_equal(shmi_tuning_read(path, &tuning, message), -1);
}

/* ---- communicators ----------------------------------------------------------------------------------------------- */

static void expect_thresholds(int nranks, shmi_thresholds_t wanted) {
  shmccl_comm_t *comms[4];
  assert_int_equal(shmccl_comm_init_all(comms, nranks, NULL), SHMCCL_SUCCESS);
  for (int r = 0; r < nranks; r++) {
    assert_memory_equal(&comms[r]->options.thresholds, &wanted, sizeof wanted);
    shmccl_comm_destroy(comms[r]);
  }
}

/* What is refused is warned about once per process: stderr goes to a file meanwhile. */
static void a_refused_table_is_done_without(void **state) {
  const shmi_thresholds_t builtin = {0};
  char text[2048] = "";
  FILE *file = tmpfile();
  int kept = dup(STDERR_FILENO);
  (void)state;
  assert_true(file && kept >= 0 && dup2(fileno(file), STDERR_FILENO) >= 0);
  setenv("SHMCCL_TUNING_FILE", "/nonexistent", 1);
  for (int i = 0; i < 3; i++) expect_thresholds(2, builtin);
  dup2(kept, STDERR_FILENO);
  close(kept);
  rewind(file);
  assert_true(fread(text, 1, sizeof text - 1, file) > 0);
  fclose(file);
  assert_non_null(strstr(text, "WARN: SHMCCL_TUNING_FILE: cannot read the tuning file /nonexistent"));
  assert_non_null(strstr(text, "built-in thresholds are used\n"));
  assert_ptr_equal(strchr(text, '\n'), strrchr(text, '\n'));
}

static void communicators_obey(void **state) {
  struct text t = good_text();
  const shmi_thresholds_t builtin = {0};
  (void)state;
  write_text(&t);
  expect_thresholds(2, builtin);
  setenv("SHMCCL_TUNING_FILE", path, 1);
  expect_thresholds(2, (shmi_thresholds_t){65536, 524288, 262144});
  expect_thresholds(4, (shmi_thresholds_t){1024, 65536, 131072});
  expect_thresholds(3, builtin);
  snprintf(t.line[1], LINE_BYTES, "library 99.0.0");
  write_text(&t);
  expect_thresholds(2, builtin);
  setenv("SHMCCL_TUNING_FILE", "", 1); /* as good as unset */
  assert_null(shmi_tuning_path());
  unsetenv("SHMCCL_TUNING_FILE");
}

static void a_segments_thresholds_are_checked(void **state) {
  const shmi_options_t options = {.timeout_ms = 1000, .staging_bytes = 64 << 20};
  struct shmi_header h;
  (void)state;
  assert_true(shmi_layout_make(&h, 2, 64 << 20, &options));
  assert_null(shmi_layout_check(&h, h.total_bytes));
  h.options.thresholds.copy_chunk = 63;
  assert_non_null(shmi_layout_check(&h, h.total_bytes));
  h.options.thresholds.copy_chunk = 64;
  assert_null(shmi_layout_check(&h, h.total_bytes));
  h.options.thresholds.one_shot_most = UINT64_MAX;
  assert_non_null(shmi_layout_check(&h, h.total_bytes));
}

static int make_file(void **state) {
  (void)state;
  int fd = mkstemp(path);
  return fd < 0 || close(fd);
}

static int remove_file(void **state) {
  (void)state;
  return unlink(path);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_table_is_read),       cmocka_unit_test(times_lie_between_the_measured),
      cmocka_unit_test(every_line_counts),     cmocka_unit_test(nonsense_is_refused),
      cmocka_unit_test(odd_files_are_refused), cmocka_unit_test(a_refused_table_is_done_without),
      cmocka_unit_test(communicators_obey),    cmocka_unit_test(a_segments_thresholds_are_checked),
  };
  return cmocka_run_group_tests(tests, make_file, remove_file);
}
