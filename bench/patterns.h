/*
 * Exactly known data. Inputs are periodic tables of small values, chosen per type and operator so that every reduction
 * is exact in every type and in every order; elements differ by index and by rank, and the period is prime, so that a
 * block in the wrong place or of the wrong rank is seen.
 */
#ifndef BENCH_PATTERNS_H
#define BENCH_PATTERNS_H

#include "coll.h"

/* In elements. Prime: no power of two is a multiple of it. */
enum { PATTERN_PERIOD = 1021 };

/* Tables of one (type, operator, number of ranks): table r is rank r's input, table nranks their reduction. */
struct patterns {
  int nranks;
  int type;
  int op; /* -1: data that is only moved */
  unsigned char *tables;
};

/* Makes the tables, unless they are there already. A zeroed struct is an empty one. */
bool patterns_prepare(struct patterns *patterns, int nranks, int type, int op);
void patterns_free(struct patterns *patterns);

/* Element `index` of a table; the rest of the period follows it. */
unsigned char *pattern_at(const struct patterns *patterns, int table, uint64_t index);

#endif
