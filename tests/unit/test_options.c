/*
 * test_options.c - settings come from the config struct, else from the environment, else from the table; nonsense in
 * either is refused and named; shorter structs of older callers are understood.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/options.h"

static const char *const variables[] = {"SHMCCL_TIMEOUT_MS", "SHMCCL_STAGING_BYTES", "SHMCCL_CHUNK_BYTES",
                                        "SHMCCL_ALGORITHM",  "SHMCCL_SHM_DIR",       "SHMCCL_ENGINE_BYTES",
                                        "SHMCCL_CPU_REDUCE"};

static int clear_environment(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof variables / sizeof *variables; i++) unsetenv(variables[i]);
  return 0;
}

static shmi_options_t read_or_fail(const shmccl_config_t *config) {
  shmi_options_t options;
  assert_int_equal(shmi_options_read(config, &options), SHMCCL_SUCCESS);
  return options;
}

static void expect_refusal(const shmccl_config_t *config, const char *named) {
  shmi_options_t options = {.timeout_ms = 42};
  assert_int_equal(shmi_options_read(config, &options), SHMCCL_ERROR_INVALID_ARGUMENT);
  assert_non_null(strstr(shmccl_last_error(), named));
  assert_int_equal(options.timeout_ms, 42); /* results are written on success only */
}

static void defaults_are_as_documented(void **state) {
  const shmccl_config_t empty = SHMCCL_CONFIG_INITIALIZER;
  (void)state;
  for (int i = 0; i < 2; i++) {
    const shmi_options_t o = read_or_fail(i ? &empty : NULL);
    assert_int_equal(o.timeout_ms, 600000);
    assert_int_equal(o.staging_bytes, 64 << 20);
    assert_int_equal(o.chunk_bytes, 0);
    assert_int_equal(o.engine_bytes, 1 << 20);
    assert_int_equal(o.cpu_reduce, 0);
    assert_int_equal(o.algorithm, SHMCCL_ALGORITHM_AUTO);
  }
}

static void the_environment_changes_defaults(void **state) {
  (void)state;
  setenv("SHMCCL_TIMEOUT_MS", "1500", 1);
  setenv("SHMCCL_STAGING_BYTES", "2M", 1);
  setenv("SHMCCL_CHUNK_BYTES", "64K", 1);
  setenv("SHMCCL_ALGORITHM", "two-shot", 1);
  setenv("SHMCCL_ENGINE_BYTES", "3M", 1);
  setenv("SHMCCL_CPU_REDUCE", "1", 1);
  const shmi_options_t o = read_or_fail(NULL);
  assert_int_equal(o.engine_bytes, 3 << 20);
  assert_int_equal(o.cpu_reduce, 1);
  assert_int_equal(o.timeout_ms, 1500);
  assert_int_equal(o.staging_bytes, 2 << 20);
  assert_int_equal(o.chunk_bytes, 64 << 10);
  assert_int_equal(o.algorithm, SHMCCL_ALGORITHM_TWO_SHOT);
  setenv("SHMCCL_ALGORITHM", "", 1); /* as good as unset */
  assert_int_equal(read_or_fail(NULL).algorithm, SHMCCL_ALGORITHM_AUTO);
}

static void the_config_wins(void **state) {
  shmccl_config_t config = SHMCCL_CONFIG_INITIALIZER;
  (void)state;
  setenv("SHMCCL_TIMEOUT_MS", "1500", 1);
  setenv("SHMCCL_ALGORITHM", "two-shot", 1);
  setenv("SHMCCL_CHUNK_BYTES", "nonsense", 1); /* not looked at */
  config.timeout_ms = 7;
  config.chunk_bytes = 64;
  config.algorithm = SHMCCL_ALGORITHM_ONE_SHOT;
  const shmi_options_t o = read_or_fail(&config);
  assert_int_equal(o.timeout_ms, 7);
  assert_int_equal(o.chunk_bytes, 64);
  assert_int_equal(o.algorithm, SHMCCL_ALGORITHM_ONE_SHOT);
  assert_int_equal(o.staging_bytes, 64 << 20);
}

static void nonsense_in_the_environment_is_refused(void **state) {
  static const struct {
    const char *variable, *value;
  } nonsense[] = {
      {"SHMCCL_TIMEOUT_MS", "0"},
      {"SHMCCL_TIMEOUT_MS", "-5"},
      {"SHMCCL_TIMEOUT_MS", " 5"},
      {"SHMCCL_TIMEOUT_MS", "5 "},
      {"SHMCCL_TIMEOUT_MS", "5s"},
      {"SHMCCL_TIMEOUT_MS", "0x10"},
      {"SHMCCL_TIMEOUT_MS", "1e3"},
      {"SHMCCL_TIMEOUT_MS", "86400001"},
      {"SHMCCL_STAGING_BYTES", "65535"},
      {"SHMCCL_STAGING_BYTES", "65M"},
      {"SHMCCL_STAGING_BYTES", "1Kb"},
      {"SHMCCL_STAGING_BYTES", "K"},
      {"SHMCCL_CHUNK_BYTES", "63"},
      {"SHMCCL_CHUNK_BYTES", "18446744073709551616"},
      {"SHMCCL_CHUNK_BYTES", "17179869184G"},
      {"SHMCCL_CHUNK_BYTES", "64KK"},
      {"SHMCCL_ALGORITHM", "1"},
      {"SHMCCL_ALGORITHM", "Two-shot"},
      {"SHMCCL_ALGORITHM", "two-shot "},
      {"SHMCCL_ALGORITHM", "ring"},
  };
  (void)state;
  for (size_t i = 0; i < sizeof nonsense / sizeof *nonsense; i++) {
    setenv(nonsense[i].variable, nonsense[i].value, 1);
    expect_refusal(NULL, nonsense[i].variable);
    assert_non_null(strstr(shmccl_last_error(), nonsense[i].value));
    unsetenv(nonsense[i].variable);
  }
}

static void nonsense_in_the_config_is_refused(void **state) {
  const shmccl_config_t good = SHMCCL_CONFIG_INITIALIZER;
  shmccl_config_t c;
  (void)state;
  c = good, c.timeout_ms = UINT64_MAX;
  expect_refusal(&c, "SHMCCL_TIMEOUT_MS");
  c = good, c.staging_bytes = 1;
  expect_refusal(&c, "SHMCCL_STAGING_BYTES");
  c = good, c.staging_bytes = (64 << 20) + 1;
  expect_refusal(&c, "SHMCCL_STAGING_BYTES");
  c = good, c.chunk_bytes = 63;
  expect_refusal(&c, "SHMCCL_CHUNK_BYTES");
  c = good;
  memset(&c.algorithm, 0x7f, sizeof c.algorithm);
  expect_refusal(&c, "SHMCCL_ALGORITHM");
  c = good, c.size = 0;
  expect_refusal(&c, "config.size");
  c = good, c.size = sizeof c + 8;
  expect_refusal(&c, "config.size");
}

static void older_structs_are_shorter(void **state) {
  shmccl_config_t config = SHMCCL_CONFIG_INITIALIZER;
  (void)state;
  config.timeout_ms = 123;
  config.chunk_bytes = 1; /* behind the older struct's end: not looked at */
  config.size = offsetof(shmccl_config_t, staging_bytes);
  assert_int_equal(read_or_fail(&config).timeout_ms, 123);
  config.size = sizeof config.size;
  assert_int_equal(read_or_fail(&config).timeout_ms, 600000);
}

static void differences_are_named(void **state) {
  const shmi_options_t a = read_or_fail(NULL);
  shmi_options_t b = a;
  uint64_t value_a, value_b;
  (void)state;
  assert_null(shmi_options_difference(&a, &b, &value_a, &value_b));
  b.chunk_bytes = 4096;
  assert_string_equal(shmi_options_difference(&a, &b, &value_a, &value_b), "SHMCCL_CHUNK_BYTES");
  assert_true(value_a == 0 && value_b == 4096);
  b = a, b.cpu_reduce = 1;
  assert_string_equal(shmi_options_difference(&a, &b, &value_a, &value_b), "SHMCCL_CPU_REDUCE");
}

static void the_folder_can_be_chosen(void **state) {
  (void)state;
  assert_string_equal(shmi_option_shm_dir(), "/dev/shm");
  setenv("SHMCCL_SHM_DIR", "", 1);
  assert_string_equal(shmi_option_shm_dir(), "/dev/shm");
  setenv("SHMCCL_SHM_DIR", "/run/x", 1);
  assert_string_equal(shmi_option_shm_dir(), "/run/x");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup(defaults_are_as_documented, clear_environment),
      cmocka_unit_test_setup(the_environment_changes_defaults, clear_environment),
      cmocka_unit_test_setup(the_config_wins, clear_environment),
      cmocka_unit_test_setup(nonsense_in_the_environment_is_refused, clear_environment),
      cmocka_unit_test_setup(nonsense_in_the_config_is_refused, clear_environment),
      cmocka_unit_test_setup(older_structs_are_shorter, clear_environment),
      cmocka_unit_test_setup(differences_are_named, clear_environment),
      cmocka_unit_test_setup(the_folder_can_be_chosen, clear_environment),
  };
  setenv("SHMCCL_DEBUG", "none", 1);
  shmi_log_configure();
  return cmocka_run_group_tests(tests, NULL, NULL);
}
