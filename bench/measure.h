/*
 * One point, measured with several parties in turns: each is checked, the number of iterations is chosen, then the
 * parties take turns, round by round, in an order that is turned round each time, so that whatever else the machine
 * does in the meantime meets all of them. The same number of iterations for all.
 */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

#include "options.h"
#include "party.h"
#include "stats.h"

enum { PARTIES_MOST = 1 + PEER_COUNT, COLUMNS_MOST = PARTIES_MOST + 1 /* a model's */ };

struct measured {
  bool done;      /* false: this party or collective has no such call */
  bool modelled;  /* computed: only `seconds` is there */
  double seconds; /* the median of the rounds */
  uint64_t wrong;
  char text[256]; /* what was wrong first */
  uint64_t iters; /* of a round */
  int nrounds;
  double rounds[ROUNDS_MOST]; /* seconds of a call, in the order in which they were measured */
  struct summary each;        /* of single iterations, where -I asks for them */
};

struct meter {
  const struct options *options;
  struct party *parties[PARTIES_MOST];
  int nparties;
  struct party *failed; /* whose error ended the last measurement */
};

/* With the first nparties parties, into m[0..nparties-1]. */
enum party_result measure(struct meter *meter, int nparties, const struct point *point, struct measured *m);

#endif
