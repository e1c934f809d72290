/*
 * kernels.h - what the parts of NCCL's kernels call of each other: collectives.c, sendrecv.c, and the blocks in
 * kernels.c.
 */
#ifndef STANDIN_NCCL_KERNELS_H
#define STANDIN_NCCL_KERNELS_H

#include "pipe.h"

/* Part of a work that one group of warps does, concurrently with the others: one thread each. */
struct task {
  void (*run)(const struct task *);
  const struct block *block;
  const struct function *function;
  const struct work_coll *coll;
  const struct work_p2p *p2p;
  bool sends; /* of two tasks of one work, the one that sends (up) */
};
void run_tasks(const struct task *tasks, int count);

enum { MOST_WORKS = 32 }; /* in a batch */

void run_collective(const struct block *b, const struct function *f, const struct work_coll *w);
/* All of one batch together: they may depend on each other across ranks. */
void run_sendrecv(const struct block *b, const struct function *f, const struct work_p2p *works, int count);

#endif
