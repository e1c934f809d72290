/* json.h - writing JSON to standard output, for the tools' --json. */
#ifndef TOOLS_JSON_H
#define TOOLS_JSON_H

#include <stdbool.h>
#include <stdint.h>

/* What goes before the first and the later members of an object or array: {"{"}, {"["} or {""}. */
struct json_list {
  const char *separator;
};
void json_next(struct json_list *l);
void json_key(struct json_list *l, const char *name);

/* Bytes outside ASCII are escaped one by one: an environment may hold anything, and what is no UTF-8 would make the
 * whole of it unreadable. */
void json_print_string(const char *text);

/* Members of an object. value may be NULL: null. */
void json_text(struct json_list *l, const char *name, const char *value);
void json_number(struct json_list *l, const char *name, uint64_t value);
void json_truth(struct json_list *l, const char *name, bool value);

#endif
