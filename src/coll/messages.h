/*
 * messages.h - a group of sends and receives as the blocks of a kernel run it: one block a lane, which is a peer and a
 * direction, so that no message waits for one of another pair. pair.h is the protocol; what differs is that the numbers
 * of pieces live in device memory, for groups that are captured and replayed.
 *
 * A group's lanes are in an order that all ranks share (comm/p2p_device.c). GPUs start blocks in their order, so of all
 * lanes that are unfinished the first one has its block on both sides, however few of them a GPU holds at a time.
 *
 * Executors are device.h's. SHMI_BREAK_ROOM (a sender does not wait for an empty slot) and SHMI_BREAK_SYNC build
 * negative controls of tests/device.
 */
#ifndef SHMI_MESSAGES_H
#define SHMI_MESSAGES_H

#include "coll/device.h"
#include "coll/pair.h"

/* Another message came than m. */
SHMI_BLOCK_FN int shmi_block_refuse(SHMI_BLOCK *b, int peer, const struct shmi_posted *m) {
  const struct shmi_message_id awaited = {m->count, m->datatype, 0};
  shmi_pair_in_of(b->world, b->world->rank, peer)->awaited = awaited;
  return shmi_block_fail(b, SHMI_DEVICE_MESSAGE, peer);
}

/* Until the piece `step` of the lane can be moved. One thread's. */
SHMI_BLOCK_FN int shmi_block_await_piece(SHMI_BLOCK *b, const struct shmi_lane *lane, const struct shmi_posted *m) {
  uint32_t looks = 0, signature = m->signature;
  uint64_t deadline = 0;
#ifdef SHMI_BREAK_ROOM
  if (lane->is_send) return 0;
#endif
  while (!(lane->is_send ? shmi_pair_has_room(b->world, lane->peer, b->step)
                         : shmi_pair_has_come(b->world, lane->peer, b->step, &signature))) {
    const int error = shmi_block_pause(b, &looks, &deadline, lane->peer);
    if (error) return error;
  }
  return signature == m->signature ? 0 : shmi_block_refuse(b, lane->peer, m);
}

SHMI_BLOCK_FN void shmi_block_move_piece(SHMI_BLOCK *b, const struct shmi_lane *lane, const struct shmi_posted *m,
                                         size_t at, size_t bytes) {
  const struct shmi_world *w = b->world;
  const struct shmi_message_id id = {m->count, m->datatype, 0};
  const int from = lane->is_send ? w->rank : lane->peer, to = lane->is_send ? lane->peer : w->rank;
  uint8_t *slot = shmi_pair_slot_of(w, from, to, b->step);
  uint8_t *user = m->buffer + at;
  shmi_block_copy(b, lane->is_send ? slot : user, 0, lane->is_send ? user : slot, bytes);
#ifndef SHMI_BREAK_SYNC
  shmi_block_sync(b); /* publishing covers thread 0's accesses; the barrier adds the others' */
#endif
  if (b->tid) return;
  if (lane->is_send)
    shmi_pair_publish(w, to, b->step, m->signature, &id);
  else
    shmi_pair_empty(w, from, b->step);
}

/* An empty message is one empty piece. Same result on all threads. */
SHMI_BLOCK_FN int shmi_block_message(SHMI_BLOCK *b, const struct shmi_lane *lane, const struct shmi_posted *m) {
  const size_t bytes = (size_t)m->count * m->element, most = b->world->pair_bytes;
  size_t at = 0;
  do {
    const size_t piece = bytes - at < most ? bytes - at : most;
    int error;
    b->step++;
    error = shmi_block_agree(b, b->tid ? 0 : shmi_block_await_piece(b, lane, m));
    if (error) return error;
    shmi_block_move_piece(b, lane, m, at, piece);
    at += piece;
  } while (at < bytes);
  return 0;
}

/* A block's whole kernel, as shmi_block_kernel. */
SHMI_BLOCK_FN int shmi_block_lane(SHMI_BLOCK *b, const struct shmi_group *g, struct shmi_share *share, int number) {
  const struct shmi_lane *lane = &g->lanes[number];
  uint32_t *pieces = &(lane->is_send ? g->pieces->sent : g->pieces->received)[lane->peer];
  int error = 0;
  if (b->tid == 0) share->step = *pieces;
  b->world = &g->launch.world;
  b->call = &g->launch.call;
  shmi_block_sync(b);
  b->step = (uint32_t)share->step;
  for (int i = 0; i < lane->messages && !error; i++) error = shmi_block_message(b, lane, &g->messages[lane->first + i]);
  if (!error && b->tid == 0) *pieces = b->step;
  return error;
}

#endif
