/*
 * meeting.h - what kernels do in a call that copy engines carry (engine.h): at the end of a turn they meet the other
 * ranks, and they reduce what was copied into device memory. Everything else is the engines'.
 *
 * A rank whose kernel has left publishes nothing more: what its engines stage from then on, behind a meeting that was
 * none, is nobody's good data. Others miss its word instead, and are told.
 *
 * Executors are device.h's.
 */
#ifndef SHMI_MEETING_H
#define SHMI_MEETING_H

#include "coll/device.h"

/* The kernel of one block. */
SHMI_BLOCK_FN int shmi_block_meeting(SHMI_BLOCK *b, const struct shmi_meeting *m) {
  b->world = &m->launch.world;
  b->call = &m->launch.call;
  b->step = m->step;
  shmi_block_sync(b);
  const uint64_t status = shmi_peek64(b->launch->status);
  if (status) return (int)shmi_status_error(status);
  if (b->tid == 0) {
    if (m->moved)
      shmi_publish32(m->moved, m->step);
    else
      shmi_block_word(b);
  }
  return shmi_block_await(b, m->step);
}

/* Block `number` of so many. */
SHMI_BLOCK_FN void shmi_block_sum(SHMI_BLOCK *b, const struct shmi_sum *s, int number, int blocks) {
  size_t start, count = shmi_share_of((size_t)s->count, blocks, number, &start);
  const size_t at = start * s->launch.call.element, bytes = count * s->launch.call.element;
  struct shmi_op op;
  b->world = &s->launch.world;
  b->call = &s->launch.call;
  b->step = 0;
  op.from_user = s->own + at;
  op.from_offset = at;
  if (bytes) shmi_block_reduce(b, s->to + at, 0, &op, bytes);
}

#endif
