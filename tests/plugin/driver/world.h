/*
 * world.h - what the ranks of a run share beside the plugin: the settings, the place where handles are left for each
 * other (NCCL's bootstrap), who has gone, a meeting point. Memory common to processes and threads alike.
 */
#ifndef DRIVER_WORLD_H
#define DRIVER_WORLD_H

#include "harness.h"
#include "nccl.h"

enum { WORLD_RANKS = 8, WORLD_COMMS = 2, WORLD_LANES = 2, WORLD_SECONDS = 150 };

enum ending {
  END_QUIET,  /* each rank closes when its own traffic is done */
  END_ABRUPT, /* one rank closes in the midst of it */
  END_KILL,   /* one rank is killed at any point */
};

struct settings {
  const char *plugin, *pattern;
  int minor, newest, nranks;
  bool threads, keep, verbose;
  enum ending ending;
  unsigned iterations, repeat, lives, ncomms, patience_s;
  uint64_t seed;
};

struct letter {
  uint32_t ready;
  uint8_t handle[NCCL_NET_HANDLE_MAXSIZE];
};

struct world {
  struct settings settings;
  struct letter letters[WORLD_COMMS][WORLD_RANKS][WORLD_RANKS][WORLD_LANES]; /* [from][to] */
  uint64_t gone_ns[WORLD_COMMS][WORLD_RANKS];                                /* 0: still here */
  uint32_t meetings[WORLD_RANKS];
  uint64_t numbers[WORLD_RANKS]; /* one from each rank to all, read after a meeting */
};

/* Before the ranks start. Forgets the last run's letters. */
struct world *world_create(const struct settings *settings);
void world_reset(struct world *w);
/* This process's copies of NCCL; copy 1 is of another version. */
struct nccl *world_nccl(int copy);

/* Runs fn on all ranks as the settings say; all must return. */
void world_run(struct world *w, harness_rank_fn fn, unsigned seconds);

void world_post(struct world *w, int comm, int from, int to, int lane, const void *handle);
bool world_take(const struct world *w, int comm, int from, int to, int lane, void *handle);

/* Marks a rank as ended, in its own communicator or, before a kill, in all. */
void world_leave(struct world *w, int comm, int rank);
/* For how many seconds the rank has been gone; negative: it is here. */
double world_gone_for(const struct world *w, int comm, int rank);

/* Returns when all ranks have called it as often. */
void world_meet(struct world *w, int rank);
/* A meeting that also forgets letters and who has gone. */
void world_meet_anew(struct world *w, int rank);

/* A number that depends on the seed and on what it is for. */
uint64_t world_mix(uint64_t a, uint64_t b);

#endif
