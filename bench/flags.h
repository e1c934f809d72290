/*
 * The table of flags. Letters and long names are nccl-tests' where that has such a flag, with its meaning; the others
 * are long names only.
 */
#ifndef BENCH_FLAGS_H
#define BENCH_FLAGS_H

#include "options.h"

enum flag_kind {
  FLAG_SIZE,   /* bytes with a suffix */
  FLAG_NUMBER, /* low..high */
  FLAG_RANKS,  /* numbers, separated by commas */
  FLAG_ROOT,   /* low..high, or all */
  FLAG_NAME,   /* one of names, or all */
  FLAG_CHOICE, /* one of names */
  FLAG_TEXT,
  FLAG_PEER,
  FLAG_SWITCH,
  FLAG_HELP,
  FLAG_VERSION
};

struct flag {
  const char *group;  /* heading of --help above this flag; NULL: the one before */
  const char *letter; /* "" if there is none */
  const char *name;
  const char *value;
  enum flag_kind kind;
  bool tunes;    /* may be given with --tune */
  size_t offset; /* in struct options: of an int64_t, or of a text */
  int64_t low;
  int64_t high;
  const char *const *names;
  const char *help;
};

enum { FLAG_COUNT = 32 };
extern const struct flag flags[FLAG_COUNT];

/* The names, joined: "a, b or last"; last: NULL for the last of the names. */
const char *list_text(char *text, size_t size, const char *const *names, const char *last);

void help_print(void);
void help_print_version(void);

#endif
