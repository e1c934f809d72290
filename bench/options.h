/*
 * The command line of shmccl-perf. Parsing, complaints, --help and the options in JSON come from one table (flags.h).
 */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include "coll.h"
#include "gpu.h"

#include <stdio.h>

/* In the order of their columns. The last is another build of this library, which --against names. */
enum {
  PEER_OPENMPI,
  PEER_MPICH,
  PEER_GLOO,
  PEER_NCCL_SHM,
  PEER_NCCL_TUNED,
  PEER_NCCL_PLUGIN,
  PEER_AGAINST,
  PEER_COUNT
};
extern const char *const peer_names[PEER_COUNT + 1];

/* Where buffers lie. */
enum { MEMORY_HOST, MEMORY_CUDA };
extern const char *const memory_names[];

enum { ROUNDS_MOST = 1001, RANK_COUNTS_MOST = 16 };

/* -1 is "all" in type, op and root, and "by itself" in the others. Texts are NULL unless given. */
struct options {
  int64_t ranks;
  int64_t rank_counts[RANK_COUNTS_MOST]; /* all that --ranks names, the first of which is `ranks` */
  int nrank_counts;
  int64_t threads;
  int64_t minbytes;
  int64_t maxbytes;
  int64_t stepfactor;
  int64_t stepbytes;
  int64_t iters;
  int64_t warmup;
  int64_t messages;
  int64_t average; /* enum average */
  int64_t each;
  int64_t skip;
  int64_t cycles; /* 0: without end */
  int64_t timeout;
  int64_t check;
  int64_t type;
  int64_t op;
  int64_t root;
  int64_t unalign;
  int64_t rounds;
  int64_t no_pin;
  int64_t memory; /* -1 until options_choose_memory() */
  int64_t graphs; /* replays; 0: no graph */
  int64_t timestamps;
  const char *json;
  const char *tune;
  const char *library;
  const char *against;
  bool peers[PEER_COUNT];
  int colls[COLL_COUNT]; /* in the order given */
  int ncolls;
  struct gpus gpus; /* with MEMORY_CUDA */
  bool joined;      /* one rank of a job that torchrun, mpirun or srun started */
  uint64_t given;   /* a bit for each flag that was, by its place in the table */
  int argc;         /* the command line, for the record */
  char **argv;
};

enum options_result { OPTIONS_RUN, OPTIONS_DONE, OPTIONS_BAD };

/* OPTIONS_DONE: --help or --version was answered. OPTIONS_BAD: one line on stderr says what is wrong. */
enum options_result options_parse(struct options *options, int argc, char **argv);

/* Host memory, or that of the GPUs that there are. Complains in the same way. */
bool options_choose_memory(struct options *options);

/* Checks that need the number of ranks and this machine's memory; complains in the same way. */
bool options_fit(const struct options *options, int nranks);

/* This process's rank in a job, as its launcher says; 0 outside jobs. */
int options_job_rank(void);

/* What a rank's buffer must hold. */
size_t options_buffer_bytes(const struct options *options);

/* "64M", "1.5G": at least 24 bytes. */
const char *size_text(char *text, double bytes);

#endif
