/*
 * team.h - ranks as processes of this host with a page that they share: what NCCL's bootstrap is to a plugin.
 */
#ifndef BENCH_TEAM_H
#define BENCH_TEAM_H

#include <stddef.h>
#include <stdint.h>

enum { TEAM_MOST = 16, TEAM_BYTES = 128 };

struct team {
  int rank, nranks;
  struct team_page *page;
};

/* Starts the others; every rank returns with its own number, rank 0 being the caller. */
struct team team_start(int nranks);
/* Rank 0 waits for the others and returns 0 if all went well; they exit here. */
int team_end(const struct team *team);

/* Waits for all. Ends the process if a rank is gone. */
void team_meet(const struct team *team);
/* Gives all ranks every rank's bytes. */
void team_gather(const struct team *team, const void *mine, size_t bytes, char all[TEAM_MOST][TEAM_BYTES]);
/* The largest of the ranks' numbers. */
double team_most(const struct team *team, double mine);

/* Prints the cause, of a rank, and ends this process. */
_Noreturn void team_fail(const struct team *team, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
