/* arguments.c - see arguments.h. */
#include "arguments.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Noreturn void refuse(const char *program, const struct argument *arguments) {
  fprintf(stderr, "usage: %s", program);
  for (; arguments->name; arguments++)
    fprintf(stderr, " [--%s %llu]", arguments->name, (unsigned long long)*arguments->value);
  fprintf(stderr, "\n");
  exit(2);
}

void arguments_read(int argc, char **argv, const struct argument *arguments) {
  for (int i = 1; i < argc; i += 2) {
    const struct argument *a = arguments;
    char *end = NULL;
    while (a->name && (strncmp(argv[i], "--", 2) || strcmp(argv[i] + 2, a->name))) a++;
    if (!a->name || i + 1 == argc || !isdigit((unsigned char)*argv[i + 1])) refuse(argv[0], arguments);
    *a->value = strtoull(argv[i + 1], &end, 10);
    if (*end) refuse(argv[0], arguments);
  }
}
