/*
 * Writing JSON: values go out in order, the writer sees to commas, indentation, escapes and numbers that JSON lacks.
 */
#ifndef BENCH_JSON_H
#define BENCH_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { JSON_DEPTH_MOST = 15 };

struct json {
  FILE *out;
  int depth;
  bool filled[JSON_DEPTH_MOST + 1]; /* by depth: something stands there already */
  bool flat;                        /* within a list of numbers: on one line */
};

/* key: NULL inside a list and at the top. Strings need not be UTF-8: what is not becomes U+FFFD. NULL is null. */
void json_object(struct json *json, const char *key);
void json_list(struct json *json, const char *key);
void json_end_object(struct json *json);
void json_end_list(struct json *json);
void json_string(struct json *json, const char *key, const char *value);
void json_whole(struct json *json, const char *key, int64_t value);
void json_number(struct json *json, const char *key, double value); /* not finite: null */
void json_bool(struct json *json, const char *key, bool value);
void json_null(struct json *json, const char *key);
void json_numbers(struct json *json, const char *key, const double *values, int count, double scale);

#endif
