/*
 * The command line of shmccl-perf: one table of flags, from which parsing, complaints and --help come.
 */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include "coll.h"

#include <stdio.h>

enum { PEER_OPENMPI, PEER_MPICH, PEER_COUNT };
extern const char *const peer_names[PEER_COUNT + 1];

/* -1 is "all" in type, op and root, and "by itself" in the others. */
struct options {
  int64_t ranks;
  int64_t threads;
  int64_t minbytes;
  int64_t maxbytes;
  int64_t stepfactor;
  int64_t stepbytes;
  int64_t iters;
  int64_t warmup;
  int64_t check;
  int64_t type;
  int64_t op;
  int64_t root;
  int64_t rounds;
  int64_t no_pin;
  bool peers[PEER_COUNT];
  int colls[COLL_COUNT]; /* in the order given */
  int ncolls;
  bool joined; /* one rank of a job that torchrun, mpirun or srun started */
};

enum options_result { OPTIONS_RUN, OPTIONS_DONE, OPTIONS_BAD };

/* OPTIONS_DONE: --help or --version was answered. OPTIONS_BAD: one line on stderr says what is wrong. */
enum options_result options_parse(struct options *options, int argc, char **argv);

/* Checks that need the number of ranks and this machine's memory; complains in the same way. */
bool options_fit(const struct options *options, int nranks);

/* "64M", "1.5G": at least 24 bytes. */
const char *size_text(char *text, double bytes);

#endif
