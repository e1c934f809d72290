/*
 * block.h - the executor of device code (coll/device.h, messages.h) on the memory of model.h: a block is one or more of
 * its threads. Elements are bytes, and a reduction is their sum.
 */
#ifndef RACES_BLOCK_H
#define RACES_BLOCK_H

#include "coll/launch.h"
#include "model.h"

/* Here the clock is asked at each look in vain: that is where the model waits. */
#define SHMI_LOOKS_PER_CHECK 1

enum { BLOCK_PIECE = 8 }; /* bytes in turn: thread 0's, thread 1's, ... */

/* What the threads of a block share, for one kernel. */
struct block_shared {
  struct shmi_share share;
  uint32_t left;
  int error;
};

struct shmi_block {
  int tid, nthreads;
  uint32_t step;
  const struct shmi_world *world;
  const struct shmi_call *call;
  const struct shmi_launch *launch;
  struct block_shared *shared;
  uint8_t sum[BLOCK_PIECE];
};

static inline void shmi_block_sync(const struct shmi_block *b) {
  (void)b;
  model_barrier();
}

static inline int shmi_block_agree(const struct shmi_block *b, int error) {
  if (error) b->shared->error = error;
  shmi_block_sync(b);
  error = b->shared->error;
  shmi_block_sync(b); /* before a thread brings the next one */
  return error;
}

static inline uint32_t *shmi_block_left(const struct shmi_block *b) { return &b->shared->left; }

static inline uint64_t shmi_block_now(const struct shmi_block *b) {
  (void)b;
  model_wait();
  return 1;
}

/* This thread's bytes from `at` on; 0: none of these. */
static inline size_t block_part(const struct shmi_block *b, size_t at, size_t bytes) {
  if (at / BLOCK_PIECE % (size_t)b->nthreads != (size_t)b->tid) return 0;
  return bytes - at < BLOCK_PIECE ? bytes - at : BLOCK_PIECE;
}

static inline void block_put(uint8_t *to, const uint8_t *from, size_t bytes) {
  for (size_t i = 0; to && i < bytes; i++) to[i] = from[i];
}

static inline void block_add(uint8_t *sum, const uint8_t *from, size_t bytes) {
  for (size_t i = 0; i < bytes; i++) sum[i] = (uint8_t)(sum[i] + from[i]);
}

static inline void shmi_block_copy(const struct shmi_block *b, uint8_t *to_user, uint8_t *to_slot, const uint8_t *from,
                                   size_t bytes) {
  for (size_t at = 0; at < bytes; at += BLOCK_PIECE) {
    const size_t n = block_part(b, at, bytes);
    block_put(to_slot ? to_slot + at : NULL, from + at, n);
    block_put(to_user ? to_user + at : NULL, from + at, n);
  }
}

static inline void shmi_block_reduce(const struct shmi_block *b, uint8_t *to_user, uint8_t *to_slot,
                                     const struct shmi_op *op, size_t bytes) {
  for (size_t at = 0; at < bytes; at += BLOCK_PIECE) {
    const size_t n = block_part(b, at, bytes);
    uint8_t sum[BLOCK_PIECE] = {0};
    for (int r = 0; r < b->world->nranks && n; r++)
      block_add(sum, shmi_operand_of(b->world, b->call, op, r, b->step) + at, n);
    block_put(to_slot ? to_slot + at : NULL, sum, n);
    block_put(to_user ? to_user + at : NULL, sum, n);
  }
}

static inline void shmi_block_reduce_first(struct shmi_block *b, uint64_t unit) {
  for (size_t i = 0; i < BLOCK_PIECE; i++) b->sum[i] = (uint8_t)(unit >> 8 * i);
}

static inline void shmi_block_reduce_next(struct shmi_block *b, uint64_t unit) {
  for (size_t i = 0; i < BLOCK_PIECE; i++) b->sum[i] = (uint8_t)(b->sum[i] + (uint8_t)(unit >> 8 * i));
}

static inline uint64_t shmi_block_reduce_last(const struct shmi_block *b) {
  uint64_t unit = 0;
  for (size_t i = 0; i < BLOCK_PIECE; i++) unit |= (uint64_t)b->sum[i] << 8 * i;
  return unit;
}

#include "coll/messages.h"

#endif
