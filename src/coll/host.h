/*
 * host.h - the CPU executor: what step.h needs, on host memory.
 *
 * A block is one thread for speed; tests run it as four with a real barrier, on the same protocol code, because a block
 * of one thread hides a missing barrier. Operations of a turn are done in tiles, one of each in turn: while one
 * operation's tile is loaded from main memory, the stores of another's drain, so that memory is read and written at the
 * same time, and a tile staged by one operation is still in the first-level cache when the next one needs it.
 */
#ifndef SHMI_HOST_H
#define SHMI_HOST_H

#include <pthread.h>

#include "coll/plan.h"
#include "reduce/reduce.h"

struct shmi_block {
  int tid, nthreads;
  uint32_t step; /* the newest step published; turns read its slots and write those of step + 1 */
  const struct shmi_world *world;
  const struct shmi_call *call;
  shmi_reduce_fn reduce; /* NULL for calls without reductions */
  size_t tile;           /* bytes: a multiple of every element size */
  int stream;            /* write user memory past the caches */
  uint64_t far;          /* bit r: rank r's core reads this one's caches slowly: write its staging past them */
  /* Waits until all ranks' words of `step` are there and agree; returns a shmccl_result_t. */
  int (*await)(void *context, uint32_t step);
  void *context;
  pthread_barrier_t *barrier; /* with nthreads > 1 */
  int *agreed;                /* with nthreads > 1: shared by the threads */
};

/* Tiles while everything stays in the caches, and tiles where main memory is read and written: the latter so short that
 * loads of one and stores of the other are under way at once in the core. */
enum { SHMI_TILE = 4096, SHMI_TILE_STREAM = 512 };

/* Pieces smaller than this are staged through the caches whatever the distance. */
enum { SHMI_FAR_LEAST = 2048 };

void shmi_block_operate(const struct shmi_block *b, uint32_t turn);

static inline void shmi_block_sync(const struct shmi_block *b) {
  if (b->nthreads > 1) pthread_barrier_wait(b->barrier);
}

static inline int shmi_block_await(const struct shmi_block *b, uint32_t step) {
  return b->tid == 0 ? b->await(b->context, step) : 0;
}

static inline int shmi_block_agree(const struct shmi_block *b, int value) {
  if (b->nthreads == 1) return value;
  if (b->tid == 0) *b->agreed = value;
  shmi_block_sync(b);
  value = *b->agreed;
  shmi_block_sync(b); /* before thread 0 can write the next one */
  return value;
}

#endif
