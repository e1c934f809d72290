/*
 * step.h - the protocol: how ranks take the turns of a plan together.
 *
 *   turn 0, publish s+1, await all s+1, turn 1, publish s+2, await all s+2, ... turn T;   s = steps of all calls before
 *
 * Step x uses the slots and lines of parity x & 1. Claim: whoever writes its slot for step x, nobody still reads what
 * it wrote there for step x-2. Proof: it writes after it has seen every rank's step x-1. A rank publishes x-1 after its
 * turn of that step, in which, and in no later one, it reads what was staged in step x-2. Between calls nothing
 * changes: the last turn of a call reads what step s+T staged, and the next call's first publish, s+T+1, comes after
 * it. So there are neither acknowledgements nor a barrier at the end of a call, and a call of one step costs one
 * exchange of one line. For the same reason a line of parity x & 1 holds step x-2 or x when x is awaited: comparing for
 * equality is enough at any number of steps, also when the 32 bits wrap.
 *
 * The word of a step carries the call's signature, and it is checked on every rank before anything of that step is
 * read.
 *
 * SHMI_BREAK_SLOTS (one slot instead of two, layout.h) and SHMI_BREAK_SYNC (no barrier before publishing) build the
 * negative controls of tests/collectives/test_block.c.
 */
#ifndef SHMI_STEP_H
#define SHMI_STEP_H

#include "coll/plan.h"

/* What differs between executors (coll/host.h, or coll/device.h's) is included before this file.
 *
 * SHMI_BLOCK has tid, nthreads, step, world and call.
 *
 * shmi_block_sync(b): barrier of the block's threads.
 *
 * shmi_block_operate(b, turn): this thread's part of the operations of a turn.
 *
 * shmi_block_await(b, step), on every thread: between them the threads wait until every rank's word of that step is
 * there with our signature. 0, or an error after which the whole block must leave.
 *
 * shmi_block_agree(b, error): the same answer on all threads: 0 if all bring 0, else an error. Includes a barrier. */

/* Thread 0's store of the step's word. */
SHMI_BLOCK_FN void shmi_block_word(SHMI_BLOCK *b) {
  shmi_publish64(&shmi_step_of(b->world, b->world->rank, b->step)->word, shmi_word(b->step, b->call->signature));
}

/* From step s to s + 1: same result on all threads. */
SHMI_BLOCK_FN int shmi_block_meet(SHMI_BLOCK *b) {
  b->step++;
#ifndef SHMI_BREAK_SYNC
  shmi_block_sync(b); /* the release covers thread 0's accesses; the barrier adds the others' */
#endif
  if (b->tid == 0) shmi_block_word(b);
  return shmi_block_agree(b, shmi_block_await(b, b->step));
}

/* Runs the block's call from step b->step on and advances it. Same result on all threads. */
SHMI_BLOCK_FN int shmi_block_run(SHMI_BLOCK *b) {
  uint32_t turn;
  for (turn = 0; turn < b->call->nsteps; turn++) {
    int error;
    shmi_block_operate(b, turn);
    error = shmi_block_meet(b);
    if (error) return error;
  }
  shmi_block_operate(b, turn);
  return 0;
}

#endif
