/*
 * device.h - a call as the blocks of a kernel run it: one block a channel, each with words, slots and steps of its own,
 * so that blocks never meet and a kernel needs no more of them resident than there are.
 *
 * Everything that depends on the call's place in the order of calls is read from device memory here (the step number),
 * so a captured launch can be replayed. Nothing waits without end: a wait leaves when the host says so (its peer
 * watchdog, comm_abort), when its time is over, and when another thread or block of the kernel has left.
 *
 * SHMI_BLOCK has tid, nthreads, step, world, call, and launch. What executors differ in, besides step.h's list:
 *
 * shmi_block_copy(b, to_user, to_slot, from, bytes): this thread's part; either destination may be NULL.
 * shmi_block_reduce(b, to_user, to_slot, op, bytes): the same for the operands shmi_operand_of().
 * shmi_block_now(b): a clock in nanoseconds.
 * shmi_block_left(b): where the block keeps whether one of its threads has left; 0 at the start.
 */
#ifndef SHMI_DEVICE_H
#define SHMI_DEVICE_H

#include "coll/launch.h"

/* The first error of a kernel stays; of several at once any. */
SHMI_BLOCK_FN int shmi_block_fail(SHMI_BLOCK *b, uint32_t error, int peer) {
  shmi_note32(shmi_block_left(b), error);
  if (!shmi_peek64(b->launch->status)) shmi_publish64(b->launch->status, shmi_status(error, peer, b->launch->number));
  return (int)error;
}

/* Has the peer's word of the step come? *come says so; returns an error if it is about another call. */
SHMI_BLOCK_FN int shmi_block_look(SHMI_BLOCK *b, int peer, uint32_t step, int *come) {
  const uint64_t word = shmi_observe64(&shmi_step_of(b->world, peer, step)->word);
  *come = shmi_word_generation(word) == step;
  if (!*come || shmi_word_signature(word) == b->call->signature) return 0;
  return shmi_block_fail(b, SHMI_DEVICE_MISMATCH, peer);
}

/* After a look in vain at something of the peer: 0, or why to leave. Being told to leave is no reason before the next
 * looks are in vain too: a peer that is done and gone had left everything there. */
SHMI_BLOCK_FN int shmi_block_pause(SHMI_BLOCK *b, uint32_t *looks, uint64_t *deadline, int peer) {
  int error;
  if (++*looks % SHMI_LOOKS_PER_CHECK) return 0;
  error = (int)shmi_peek32(shmi_block_left(b));
  if (!error) error = (int)shmi_status_error(shmi_peek64(b->launch->status)); /* of another block */
  if (error) return error;
  if (*deadline == SHMI_LAST_LOOKS) return shmi_block_fail(b, SHMI_DEVICE_TOLD, peer);
  if (shmi_peek32(b->launch->leave)) {
    *deadline = SHMI_LAST_LOOKS;
    return 0;
  }
  if (!*deadline) *deadline = shmi_block_now(b) + b->launch->patience_ns;
  return shmi_block_now(b) < *deadline ? 0 : shmi_block_fail(b, SHMI_DEVICE_LATE, peer);
}

/* Thread r waits for rank r: reading a word over PCIe takes a microsecond, and so all are read at once. Where CPUs have
 * a part in the turn this rank's own word comes from its CPU. */
SHMI_BLOCK_FN int shmi_block_await(SHMI_BLOCK *b, uint32_t step) {
  for (int peer = b->tid; peer < b->world->nranks; peer += b->nthreads) {
    uint32_t looks = 0;
    uint64_t deadline = 0;
    int error, come = peer == b->world->rank && b->call->engine != SHMI_BY_ENGINES_AND_CPUS;
    while (!come) {
      error = shmi_block_look(b, peer, step, &come);
      if (!error && !come) error = shmi_block_pause(b, &looks, &deadline, peer);
      if (error) return error;
    }
  }
  return 0;
}

SHMI_BLOCK_FN void shmi_block_operate(SHMI_BLOCK *b, uint32_t turn) {
  const struct shmi_world *w = b->world;
  for (int i = 0; i < shmi_plan_ops(w->nranks); i++) {
    struct shmi_op op;
    uint8_t *slot;
    shmi_plan_op(b->call, w->nranks, w->rank, turn, i, &op);
    if (op.kind == SHMI_OP_NONE) continue;
    slot = op.to_slot ? shmi_data_of(w, b->call, w->rank, b->step + 1) + op.to_offset : 0;
    if (op.kind == SHMI_OP_REDUCE)
      shmi_block_reduce(b, op.to_user, slot, &op, op.bytes);
    else
      shmi_block_copy(b, op.to_user, slot,
                      op.from_user ? op.from_user : shmi_data_of(w, b->call, op.from_rank, b->step) + op.from_offset,
                      op.bytes);
  }
}

#include "coll/step.h"

#include "coll/packet.h"

SHMI_BLOCK_FN void shmi_block_take_share(SHMI_BLOCK *b, struct shmi_share *share, int channel) {
  const struct shmi_launch *l = b->launch;
  const struct shmi_channel_state *state = &l->states[channel];
  share->world = shmi_channel_of(&l->world, channel);
  share->call = l->call.packets ? l->call : shmi_part_of(&l->call, channel);
  share->step = state->step;
  share->renew = state->step - state->renewed >= SHMI_RENEW_EVERY;
}

/* A block's whole kernel. share: the block's, not yet filled. Taking it, the threads meet: kernels of one stream follow
 * each other, so from here on all that this rank did in calls before is done. */
SHMI_BLOCK_FN int shmi_block_kernel(SHMI_BLOCK *b, struct shmi_share *share, int channel) {
  struct shmi_channel_state *state = &b->launch->states[channel];
  int error = 0;
  if (b->tid == 0) shmi_block_take_share(b, share, channel);
  b->world = &share->world;
  b->call = &share->call;
  shmi_block_sync(b);
  b->step = (uint32_t)share->step;
#ifndef SHMI_BREAK_RENEW
  if (share->renew) error = shmi_block_renew(b);
#endif
  if (!error) error = b->call->packets ? shmi_block_run_packets(b, channel) : shmi_block_run(b);
  if (b->tid || error) return error;
  state->step += b->step - (uint32_t)share->step;
  if (share->renew) state->renewed = state->step;
  return 0;
}

#endif
