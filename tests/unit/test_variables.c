/*
 * test_variables.c - misspelt variables are recognised, warned about once, and the documented defaults are the real
 * ones.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/options.h"
#include "base/variables.h"

static void rows_are_complete(void **state) {
  (void)state;
  for (const struct shmi_variable *v = shmi_variables; v->name; v++) {
    assert_int_equal(strncmp(v->name, "SHMCCL_", 7), 0);
    assert_in_range(strlen(v->name), 8, 48);
    assert_true(*v->initial && *v->meaning);
    assert_ptr_equal(shmi_variable_find(v->name), v); /* no name twice */
    assert_ptr_equal(shmi_variable_nearest(v->name), v);
  }
}

static void misspelt_names_are_recognised(void **state) {
  static const struct {
    const char *unknown, *meant;
  } names[] = {
      {"SHMCCL_TIMEOUT", "SHMCCL_TIMEOUT_MS"},
      {"SHMCCL_TIMOUT_MS", "SHMCCL_TIMEOUT_MS"},
      {"SHMCCL_TIMEOUT_MSEC", "SHMCCL_TIMEOUT_MS"},
      {"SHMCCL_STAGING", "SHMCCL_STAGING_BYTES"},
      {"SHMCCL_STAGNG", "SHMCCL_STAGING_BYTES"},
      {"SHMCCL_STAGING_SIZE", "SHMCCL_STAGING_BYTES"},
      {"SHMCCL_ALGO", "SHMCCL_ALGORITHM"},
      {"SHMCCL_ALGORTIHM", "SHMCCL_ALGORITHM"},
      {"SHMCCL_SHMDIR", "SHMCCL_SHM_DIR"},
      {"SHMCCL_DEBUGG", "SHMCCL_DEBUG"},
      {"SHMCCL_RNAK", "SHMCCL_RANK"},
      {"SHMCCL_NRANK", "SHMCCL_NRANKS"},
      {"SHMCCL_SIA", "SHMCCL_ISA"},
      {"SHMCCL_QWERTYUIOP", NULL},
      {"SHMCCL_", NULL},
      {"NCCL_DEBUG", NULL},
      {"", NULL},
      {"SHMCCL_XXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX", NULL},
  };
  (void)state;
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    const struct shmi_variable *nearest = shmi_variable_nearest(names[i].unknown);
    if (names[i].meant)
      assert_string_equal(nearest ? nearest->name : "none", names[i].meant);
    else
      assert_null(nearest);
  }
}

static void documented_defaults_are_the_real_ones(void **state) {
  shmi_options_t without, with;
  (void)state;
  for (const struct shmi_variable *v = shmi_variables; v->name; v++) unsetenv(v->name);
  assert_int_equal(shmi_options_read(NULL, &without), SHMCCL_SUCCESS);
  for (const struct shmi_variable *v = shmi_variables; v->name; v++) {
    if (strchr(v->initial, ' ')) continue; /* prose */
    setenv(v->name, v->initial, 1);
    assert_int_equal(shmi_options_read(NULL, &with), SHMCCL_SUCCESS);
    assert_memory_equal(&with, &without, sizeof with);
    unsetenv(v->name);
  }
}

/* What a process with that variable, and a known one, prints when it reads its options twice. */
static void print_warnings(const char *name, char *text, size_t bytes) {
  int ends[2], status;
  assert_int_equal(pipe(ends), 0);
  const pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    shmi_options_t options;
    dup2(ends[1], STDERR_FILENO);
    setenv("SHMCCL_TIMEOUT_MS", "1000", 1);
    setenv(name, "1", 1);
    setenv("SHMCCL_DEBUG", "warn", 1);
    shmi_log_configure();
    _exit(shmi_options_read(NULL, &options) || shmi_options_read(NULL, &options));
  }
  close(ends[1]);
  size_t length = 0;
  for (ssize_t got; length < bytes - 1 && (got = read(ends[0], text + length, bytes - 1 - length)) > 0;)
    length += (size_t)got;
  text[length] = 0;
  close(ends[0]);
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_int_equal(status, 0);
}

static void warnings_come_once(void **state) {
  char text[2048];
  (void)state;
  print_warnings("SHMCCL_CHUNK_BYTE", text, sizeof text);
  assert_non_null(strstr(text, "WARN: SHMCCL_CHUNK_BYTE is set but unknown"));
  assert_non_null(strstr(text, "did you mean SHMCCL_CHUNK_BYTES?\n"));
  assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1); /* one line */
  print_warnings("SHMCCL_QWERTYUIOP", text, sizeof text);
  assert_non_null(strstr(text, "SHMCCL_QWERTYUIOP is set but unknown, and has no effect: shmccl(7)"));
  print_warnings("SHMCCL_TEST_SEED", text, sizeof text);
  assert_string_equal(text, "");
  print_warnings("XSHMCCL_CHUNK", text, sizeof text);
  assert_string_equal(text, "");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(warnings_come_once), /* first: the others' reading would use the one time up */
      cmocka_unit_test(rows_are_complete),
      cmocka_unit_test(misspelt_names_are_recognised),
      cmocka_unit_test(documented_defaults_are_the_real_ones),
  };
  setenv("SHMCCL_DEBUG", "none", 1);
  shmi_log_configure();
  for (const struct shmi_variable *v = shmi_variables; v->name; v++)
    if (strcmp(v->name, "SHMCCL_DEBUG")) unsetenv(v->name);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
