/* json.c - the few lines of JSON that the tools need. */
#include "tools/json.h"

#include <inttypes.h>
#include <stdio.h>

void json_print_string(const char *text) {
  putchar('"');
  for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
    if (*c == '"' || *c == '\\')
      printf("\\%c", *c);
    else if (*c < 0x20 || *c >= 0x7f)
      printf("\\u%04x", *c);
    else
      putchar(*c);
  }
  putchar('"');
}

void json_next(struct json_list *l) {
  fputs(l->separator, stdout);
  l->separator = ", ";
}

void json_key(struct json_list *l, const char *name) {
  json_next(l);
  printf("\"%s\": ", name);
}

void json_text(struct json_list *l, const char *name, const char *value) {
  json_key(l, name);
  value ? json_print_string(value) : (void)fputs("null", stdout);
}

void json_number(struct json_list *l, const char *name, uint64_t value) {
  json_key(l, name);
  printf("%" PRIu64, value);
}

void json_truth(struct json_list *l, const char *name, bool value) {
  json_key(l, name);
  fputs(value ? "true" : "false", stdout);
}
