/*
 * executor.h - the CPU executor of device code: what coll/device.h, messages.h and meeting.h need of a CUDA block, on
 * threads.
 *
 * A block is several threads with a real barrier; every thread has a part of every operation, in tiles of 64 bytes. A
 * kernel ends for a thread where it returns; the first meeting of the next one is what ends it for the block.
 */
#ifndef EXECUTOR_H
#define EXECUTOR_H

#include <pthread.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "coll/launch.h"
#include "harness.h"
#include "reduce/reduce.h"

enum { EXECUTOR_TILE = 64 };

/* What the threads of a block share, for one kernel. */
struct executor_shared {
  struct shmi_share share;
  uint32_t left, agreed;
};

struct shmi_block {
  int tid, nthreads;
  uint32_t step;
  const struct shmi_world *world;
  const struct shmi_call *call;
  const struct shmi_launch *launch;
  pthread_barrier_t *barrier;
  struct executor_shared *shared;
  struct harness_random *delays; /* this thread's, or NULL */
  shmi_reduce_fn reduce;
  uint64_t units[SHMCCL_MAX_RANKS]; /* under reduction */
  int nunits;
};

static inline void executor_delay(const struct shmi_block *b) {
  if (b->delays) harness_delay(b->delays);
}

static inline void shmi_block_sync(const struct shmi_block *b) { pthread_barrier_wait(b->barrier); }

/* An error is the block's last: nothing to take back. */
static inline int shmi_block_agree(const struct shmi_block *b, int error) {
  if (error) shmi_note32(&b->shared->agreed, (uint32_t)error);
  shmi_block_sync(b);
  error = (int)shmi_peek32(&b->shared->agreed);
  shmi_block_sync(b); /* before a thread brings the next one */
  return error;
}

static inline uint32_t *shmi_block_left(const struct shmi_block *b) { return &b->shared->left; }

static inline uint64_t shmi_block_now(const struct shmi_block *b) {
  executor_delay(b);
  /* More threads than cores. Many that yield starve even the kernel's own threads; so they sleep. */
  nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
  return shmi_now_ns();
}

/* Bytes one by one: ThreadSanitizer sees these accesses, and not all of a memcpy's. */
static inline void executor_move(uint8_t *to, const uint8_t *from, size_t bytes) {
  for (size_t i = 0; i < bytes; i++) to[i] = from[i];
}

/* This thread's tiles of a piece: *at is where one begins, returned how long it is; 0 at the end. */
static inline size_t executor_tile(const struct shmi_block *b, size_t *at, size_t bytes) {
  *at = *at == SIZE_MAX ? (size_t)b->tid * EXECUTOR_TILE : *at + (size_t)b->nthreads * EXECUTOR_TILE;
  if (*at >= bytes) return 0;
  return bytes - *at < EXECUTOR_TILE ? bytes - *at : EXECUTOR_TILE;
}

static inline void shmi_block_copy(const struct shmi_block *b, uint8_t *to_user, uint8_t *to_slot, const uint8_t *from,
                                   size_t bytes) {
  executor_delay(b);
  for (size_t at = SIZE_MAX, tile; (tile = executor_tile(b, &at, bytes)) > 0;) {
    if (to_slot) executor_move(to_slot + at, from + at, tile);
    if (to_user) executor_move(to_user + at, from + at, tile);
  }
}

static inline void shmi_block_reduce(const struct shmi_block *b, uint8_t *to_user, uint8_t *to_slot,
                                     const struct shmi_op *op, size_t bytes) {
  const int n = b->world->nranks;
  executor_delay(b);
  for (size_t at = SIZE_MAX, tile; (tile = executor_tile(b, &at, bytes)) > 0;) {
    const void *sources[SHMCCL_MAX_RANKS];
    uint8_t result[EXECUTOR_TILE];
    for (int r = 0; r < n; r++) sources[r] = shmi_operand_of(b->world, b->call, op, r, b->step) + at;
    b->reduce(result, sources, n, tile / b->call->element);
    if (to_slot) executor_move(to_slot + at, result, tile);
    if (to_user) executor_move(to_user + at, result, tile);
  }
}

static inline void shmi_block_reduce_first(struct shmi_block *b, uint64_t unit) {
  executor_delay(b);
  b->units[0] = unit;
  b->nunits = 1;
}

static inline void shmi_block_reduce_next(struct shmi_block *b, uint64_t unit) { b->units[b->nunits++] = unit; }

static inline uint64_t shmi_block_reduce_last(const struct shmi_block *b) {
  const void *sources[SHMCCL_MAX_RANKS];
  uint64_t result;
  for (int r = 0; r < b->nunits; r++) sources[r] = &b->units[r];
  b->reduce(&result, sources, b->nunits, sizeof result / b->call->element);
  return result;
}

#include "coll/meeting.h"
#include "coll/messages.h"

/* What a kernel left behind: nothing, or this error about this peer. rank: whose kernel it is. */
static inline void executor_check_done(uint64_t status) {
  CHECK_TEXT(status == 0, "kernel left with error %u about rank %d", shmi_status_error(status),
             shmi_status_peer(status));
}

static inline void executor_expect(uint64_t status, int rank, uint32_t error, int peer) {
  CHECK_TEXT(shmi_status_error(status) == error && shmi_status_peer(status) == peer,
             "rank %d left with error %u about rank %d, not %u about %d", rank, shmi_status_error(status),
             shmi_status_peer(status), error, peer);
}

/* One thread's part of a kernel. */
static inline int executor_run(struct shmi_block *b, const struct shmi_launch *launch, int channel) {
  b->launch = launch;
  b->reduce = shmi_reduce_lookup((shmccl_datatype_t)launch->call.id.datatype, (shmccl_redop_t)launch->call.id.op);
  if (b->tid == 0) b->shared->left = b->shared->agreed = 0; /* seen by all behind the first meeting */
  return shmi_block_kernel(b, &b->shared->share, channel);
}

static inline int executor_run_group(struct shmi_block *b, const struct shmi_group *group, int lane) {
  b->launch = &group->launch;
  if (b->tid == 0) b->shared->left = b->shared->agreed = 0;
  return shmi_block_lane(b, group, &b->shared->share, lane);
}

static inline int executor_run_meeting(struct shmi_block *b, const struct shmi_meeting *meeting) {
  b->launch = &meeting->launch;
  if (b->tid == 0) b->shared->left = b->shared->agreed = 0;
  return shmi_block_meeting(b, meeting);
}

static inline void executor_run_sum(struct shmi_block *b, const struct shmi_sum *sum, int number, int blocks) {
  const struct shmi_call_id *id = &sum->launch.call.id;
  b->launch = &sum->launch;
  b->reduce = shmi_reduce_lookup((shmccl_datatype_t)id->datatype, (shmccl_redop_t)id->op);
  shmi_block_sum(b, sum, number, blocks);
}

#endif
