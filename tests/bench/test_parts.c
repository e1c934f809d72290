/*
 * test_parts.c - parts of the benchmark that need no processes: JSON's escapes, numbers and commas; percentiles; whose
 * link is whose.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "link.h"
#include "stats.h"

static void expect_json(const char *text, const char *wanted) {
  char *written = NULL;
  size_t bytes;
  struct json json = {.out = open_memstream(&written, &bytes)};
  json_string(&json, NULL, text);
  fclose(json.out);
  assert_string_equal(written, wanted);
  free(written);
}

static void strings_are_escaped(void **state) {
  (void)state;
  expect_json("", "\"\"");
  expect_json("a\"b\\c/d", "\"a\\\"b\\\\c/d\"");
  expect_json("\n\t\x01\x1f\x7f", "\"\\u000a\\u0009\\u0001\\u001f\x7f\"");
  expect_json("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"");
  expect_json(NULL, "null");
}

/* Each byte that begins no sequence, or one that is cut, overlong, a surrogate or beyond U+10FFFF. */
static void what_is_no_utf8_is_replaced(void **state) {
  (void)state;
  expect_json("a\xff"
              "b",
              "\"a\\ufffdb\"");
  expect_json("\x80", "\"\\ufffd\"");
  expect_json("\xc3", "\"\\ufffd\"");
  expect_json("\xe2\x82", "\"\\ufffd\\ufffd\"");
  expect_json("\xc0\xaf", "\"\\ufffd\\ufffd\"");
  expect_json("\xe0\x80\xaf", "\"\\ufffd\\ufffd\\ufffd\"");
  expect_json("\xed\xa0\x80", "\"\\ufffd\\ufffd\\ufffd\"");
  expect_json("\xf4\x90\x80\x80", "\"\\ufffd\\ufffd\\ufffd\\ufffd\"");
}

static void nests_have_their_commas(void **state) {
  const double values[] = {1.5, INFINITY, -2};
  char *written = NULL;
  size_t bytes;
  struct json json = {.out = open_memstream(&written, &bytes)};
  (void)state;
  json_object(&json, NULL);
  json_list(&json, "empty");
  json_end_list(&json);
  json_object(&json, "o");
  json_whole(&json, "w", INT64_MIN);
  json_bool(&json, "b", true);
  json_end_object(&json);
  json_numbers(&json, "n", values, 3, 2);
  json_number(&json, "nan", NAN);
  json_end_object(&json);
  fclose(json.out);
  assert_string_equal(written,
                      "{\n  \"empty\": [],\n  \"o\": {\n    \"w\": -9223372036854775808,\n    \"b\": true\n  },\n"
                      "  \"n\": [3, null, -4],\n  \"nan\": null\n}\n");
  free(written);
}

static void percentiles_are_by_nearest_rank(void **state) {
  double values[200], few[] = {3, 1, 2, 10};
  (void)state;
  for (int i = 0; i < 200; i++) values[i] = 200 - i;
  struct summary s = summarize(values, 200);
  assert_true(s.count == 200 && s.least == 1 && s.most == 200 && s.p50 == 100.5 && s.p95 == 190 && s.p99 == 198);
  assert_true(fabs(s.mean - 100.5) < 1e-9 && fabs(s.deviation - sqrt((200 * 200 - 1) / 12.0)) < 1e-9);
  s = summarize(few, 4);
  assert_true(s.p50 == 2.5 && s.p95 == 10 && s.p99 == 10 && s.mean == 4);
  s = summarize(few, 1);
  assert_true(s.p50 == 1 && s.p99 == 1 && s.deviation == 0);
  s = summarize(NULL, 0);
  assert_true(s.count == 0 && s.most == 0);
}

/* Nothing here measures a link. */
enum party_result party_do(struct party *party, const struct command *command, struct outcome *outcome) {
  (void)party, (void)command, (void)outcome;
  return PARTY_FAILED;
}

/* Ranks that all call their GPU number 0: what counts is where it is. */
static void a_link_is_where_its_gpu_is(void **state) {
  const struct gpu_card one = {"GPU", "0000:01:00"}, two = {"GPU", "0000:02:00"};
  const struct point point = {
      .coll = COLL_ALL_REDUCE, .type = SHMCCL_FLOAT32, .op = SHMCCL_SUM, .root = -1, .messages = 1, .count = 1000};
  static struct link link;
  (void)state;
  link = (struct link){.out = 1e9, .in = 1e9, .both = 2e9};
  link_begin(&link, 4, (const struct gpu_card[]){one, two, one, one});
  assert_true(link.gpus == 2 && !strcmp(link.cards[1].bus, two.bus));
  assert_true(link.gpu_of[0] == 0 && link.gpu_of[1] == 1 && link.gpu_of[2] == 0 && link.gpu_of[3] == 0);
  assert_true(fabs(link_seconds(&link, &point, 4) - 3 * 1.5 * 4000 / 1e9) < 1e-12); /* the three's */
  link_begin(&link, 2, (const struct gpu_card[]){one, two});
  assert_true(link.gpus == 2);
  assert_true(fabs(link_seconds(&link, &point, 2) - 4000 / 1e9) < 1e-12);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(strings_are_escaped),        cmocka_unit_test(what_is_no_utf8_is_replaced),
      cmocka_unit_test(nests_have_their_commas),    cmocka_unit_test(percentiles_are_by_nearest_rank),
      cmocka_unit_test(a_link_is_where_its_gpu_is),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
