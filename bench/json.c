/*
 * RFC 8259.
 */
#include "json.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* Bytes of the UTF-8 sequence that begins here; 0 if none does. */
static int sequence(const unsigned char *c) {
  int length = *c < 0x80 ? 1 : *c >= 0xc2 && *c < 0xe0 ? 2 : (*c & 0xf0) == 0xe0 ? 3 : *c >= 0xf0 && *c < 0xf5 ? 4 : 0;
  for (int i = 1; i < length; i++)
    if ((c[i] & 0xc0) != 0x80) return 0;
  bool overlong = (*c == 0xe0 && c[1] < 0xa0) || (*c == 0xf0 && c[1] < 0x90);
  bool none = (*c == 0xed && c[1] >= 0xa0) || (*c == 0xf4 && c[1] >= 0x90); /* surrogates; beyond U+10FFFF */
  return overlong || none ? 0 : length;
}

static void put_string(FILE *out, const char *text) {
  fputc('"', out);
  for (const unsigned char *c = (const unsigned char *)text; *c;) {
    int length = sequence(c);
    if (*c == '"' || *c == '\\')
      fprintf(out, "\\%c", *c);
    else if (*c < 0x20)
      fprintf(out, "\\u%04x", *c);
    else if (!length)
      fputs("\\ufffd", out);
    else
      fwrite(c, 1, (size_t)length, out);
    c += length ? length : 1;
  }
  fputc('"', out);
}

static void begin_value(struct json *json, const char *key) {
  if (json->filled[json->depth]) fputc(',', json->out);
  if (json->flat && json->filled[json->depth]) fputc(' ', json->out);
  if (json->depth && !json->flat) fprintf(json->out, "\n%*s", 2 * json->depth, "");
  json->filled[json->depth] = true;
  if (!key) return;
  put_string(json->out, key);
  fputs(": ", json->out);
}

static void open_nest(struct json *json, const char *key, char bracket) {
  begin_value(json, key);
  fputc(bracket, json->out);
  json->filled[++json->depth] = false;
}

static void close_nest(struct json *json, char bracket) {
  bool filled = json->filled[json->depth--];
  if (filled && !json->flat) fprintf(json->out, "\n%*s", 2 * json->depth, "");
  fputc(bracket, json->out);
  if (!json->depth) fputc('\n', json->out);
}

void json_object(struct json *json, const char *key) { open_nest(json, key, '{'); }
void json_list(struct json *json, const char *key) { open_nest(json, key, '['); }
void json_end_object(struct json *json) { close_nest(json, '}'); }
void json_end_list(struct json *json) { close_nest(json, ']'); }

void json_string(struct json *json, const char *key, const char *value) {
  if (!value) return json_null(json, key);
  begin_value(json, key);
  put_string(json->out, value);
}

void json_whole(struct json *json, const char *key, int64_t value) {
  begin_value(json, key);
  fprintf(json->out, "%" PRId64, value);
}

void json_number(struct json *json, const char *key, double value) {
  if (!isfinite(value)) return json_null(json, key);
  begin_value(json, key);
  fprintf(json->out, "%.9g", value);
}

void json_bool(struct json *json, const char *key, bool value) {
  begin_value(json, key);
  fputs(value ? "true" : "false", json->out);
}

void json_null(struct json *json, const char *key) {
  begin_value(json, key);
  fputs("null", json->out);
}

void json_numbers(struct json *json, const char *key, const double *values, int count, double scale) {
  json_list(json, key);
  json->flat = true;
  for (int i = 0; i < count; i++) json_number(json, NULL, values[i] * scale);
  json_end_list(json);
  json->flat = false;
}
