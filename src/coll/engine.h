/*
 * engine.h - a call as copy engines carry it: plan.h's turns, cut into tasks for three queues of the GPU.
 *
 * UP carries host-to-device copies and nothing else, DOWN device-to-host copies and nothing else, so that both engines
 * are busy at once; COMPUTE is the caller's stream: reductions, and the meeting at the end of each turn. JOIN makes a
 * queue wait for all that another has been given so far. A turn is
 *
 *   UP and DOWN join COMPUTE; DOWN stages; UP collects, operands first;
 *   COMPUTE joins UP and reduces; DOWN joins COMPUTE and stages the result;
 *   COMPUTE joins both and meets.
 *
 * So all of this rank's copies of a turn are over before it says that the turn is, which is what step.h's proof and
 * plan.h's rules of who writes what are about: two slots are enough, and no byte of a buffer that is written in place
 * is still to be downloaded.
 *
 * One queue cannot deadlock: tasks are listed so that each stands behind everything that it waits for on this rank, and
 * a meeting publishes this rank's step before it waits for the others'. If all three queues, and those of any number of
 * communicators, are one in the order of enqueueing, then the earliest task that is not done can run, unless it is a
 * meeting; and of all ranks' earliest tasks those of the lowest step have been published, or can run.
 *
 * With CPUs (SHMI_BY_ENGINES_AND_CPUS; allreduce only) a rank stages its whole message, its own share into lane n, and
 * nothing is reduced here: helper threads (comm/helpers.c) take that part of each turn, and collect includes the own
 * share of the result. The GPU then says to them that its part is done, and they publish the step.
 *
 * Pure functions, which tests/unit/test_engine.c runs in orders at random that the queues allow.
 */
#ifndef SHMI_ENGINE_H
#define SHMI_ENGINE_H

#include <stdbool.h>

#include "coll/plan.h"

enum shmi_queue { SHMI_QUEUE_COMPUTE, SHMI_QUEUE_UP, SHMI_QUEUE_DOWN };

enum shmi_task_kind { SHMI_TASK_COPY, SHMI_TASK_SUM, SHMI_TASK_JOIN, SHMI_TASK_MEET };

struct shmi_task {
  enum shmi_task_kind kind;
  enum shmi_queue queue, other; /* JOIN: queue waits for what other has been given */
  uint8_t *to;                  /* COPY and SUM */
  const uint8_t *from;          /* COPY; SUM: the own operand. The others' are in the scratch, rank by rank */
  size_t bytes;
  uint32_t step; /* MEET */
};

enum { SHMI_TASKS_MOST = 3 * SHMCCL_MAX_RANKS + 12 };

struct shmi_turn {
  int ntasks;
  struct shmi_task tasks[SHMI_TASKS_MOST];
};

/* Where a rank's engines find things. */
struct shmi_engines {
  struct shmi_world slots; /* the host's addresses */
  uint8_t *scratch;        /* device memory, a lane of call.lane_stride bytes for each rank */
};

static inline void shmi_turn_add(struct shmi_turn *t, struct shmi_task task) { t->tasks[t->ntasks++] = task; }

static inline void shmi_turn_join(struct shmi_turn *t, enum shmi_queue queue, enum shmi_queue other) {
  shmi_turn_add(t, (struct shmi_task){.kind = SHMI_TASK_JOIN, .queue = queue, .other = other});
}

static inline void shmi_turn_copy(struct shmi_turn *t, enum shmi_queue queue, uint8_t *to, const uint8_t *from,
                                  size_t bytes) {
  shmi_turn_add(t, (struct shmi_task){.kind = SHMI_TASK_COPY, .queue = queue, .to = to, .from = from, .bytes = bytes});
}

/* slot: this rank's, that is written in this turn. */
static inline void shmi_turn_reduce(struct shmi_turn *t, const struct shmi_engines *e, const struct shmi_call *c,
                                    const struct shmi_op *op, uint32_t step, uint8_t *slot) {
  const struct shmi_world *w = &e->slots;
  uint8_t *to = op->to_user ? op->to_user : e->scratch + (size_t)w->rank * c->lane_stride;
  for (int i = 1; i < w->nranks; i++) {
    const int r = (w->rank + i) % w->nranks;
    shmi_turn_copy(t, SHMI_QUEUE_UP, e->scratch + (size_t)r * c->lane_stride,
                   shmi_slot_of(w, r, step) + op->from_offset, op->bytes);
  }
  shmi_turn_join(t, SHMI_QUEUE_COMPUTE, SHMI_QUEUE_UP);
  shmi_turn_add(t, (struct shmi_task){.kind = SHMI_TASK_SUM, .to = to, .from = op->from_user, .bytes = op->bytes});
  if (!op->to_slot) return;
  shmi_turn_join(t, SHMI_QUEUE_DOWN, SHMI_QUEUE_COMPUTE);
  shmi_turn_copy(t, SHMI_QUEUE_DOWN, slot + op->to_offset, to, op->bytes);
}

static inline void shmi_turn_op(struct shmi_turn *t, const struct shmi_engines *e, const struct shmi_call *c,
                                const struct shmi_op *op, uint32_t step) {
  const struct shmi_world *w = &e->slots;
  uint8_t *slot = shmi_slot_of(w, w->rank, step + 1);
  if (op->kind == SHMI_OP_REDUCE)
    shmi_turn_reduce(t, e, c, op, step, slot);
  else if (op->to_slot)
    shmi_turn_copy(t, SHMI_QUEUE_DOWN, slot + op->to_offset, op->from_user, op->bytes);
  else if (op->from_user)
    shmi_turn_copy(t, SHMI_QUEUE_COMPUTE, op->to_user, op->from_user, op->bytes);
  else
    shmi_turn_copy(t, SHMI_QUEUE_UP, op->to_user, shmi_slot_of(w, op->from_rank, step) + op->from_offset, op->bytes);
}

/* Where this rank's CPU finds its own operand, in a slot. */
static inline size_t shmi_own_operand_offset(const struct shmi_call *c, int nranks) {
  return (size_t)nranks * c->lane_stride;
}

/* This rank's own share, which CPUs reduce between two turns: stages what the next turn reduces, collects what the last
 * one did. */
static inline void shmi_turn_own_share(struct shmi_turn *t, const struct shmi_engines *e, const struct shmi_call *c,
                                       uint32_t step, uint32_t turn) {
  const struct shmi_world *w = &e->slots;
  struct shmi_op next, last = {.kind = SHMI_OP_NONE};
  shmi_plan_op(c, w->nranks, w->rank, turn + 1, w->nranks, &next);
  if (turn) shmi_plan_op(c, w->nranks, w->rank, turn - 1, w->nranks, &last);
  if (next.kind)
    shmi_turn_copy(t, SHMI_QUEUE_DOWN, shmi_slot_of(w, w->rank, step + 1) + shmi_own_operand_offset(c, w->nranks),
                   next.from_user, next.bytes);
  if (last.kind)
    shmi_turn_copy(t, SHMI_QUEUE_UP, last.to_user, shmi_slot_of(w, w->rank, step) + last.to_offset, last.bytes);
}

/* Turn 0 .. c->nsteps of a call before which `steps` were published. */
static inline void shmi_turn_make(struct shmi_turn *t, const struct shmi_engines *e, const struct shmi_call *c,
                                  uint32_t steps, uint32_t turn) {
  const struct shmi_world *w = &e->slots;
  const bool by_cpu = c->engine == SHMI_BY_ENGINES_AND_CPUS;
  t->ntasks = 0;
  shmi_turn_join(t, SHMI_QUEUE_UP, SHMI_QUEUE_COMPUTE);
  shmi_turn_join(t, SHMI_QUEUE_DOWN, SHMI_QUEUE_COMPUTE);
  for (int i = 0; i < shmi_plan_ops(w->nranks); i++) {
    struct shmi_op op;
    shmi_plan_op(c, w->nranks, w->rank, turn, i, &op);
    if (op.kind != SHMI_OP_NONE && !(by_cpu && op.kind == SHMI_OP_REDUCE)) shmi_turn_op(t, e, c, &op, steps + turn);
  }
  if (by_cpu) shmi_turn_own_share(t, e, c, steps + turn, turn);
  shmi_turn_join(t, SHMI_QUEUE_COMPUTE, SHMI_QUEUE_UP);
  shmi_turn_join(t, SHMI_QUEUE_COMPUTE, SHMI_QUEUE_DOWN);
  if (turn < c->nsteps) shmi_turn_add(t, (struct shmi_task){.kind = SHMI_TASK_MEET, .step = steps + turn + 1});
}

#endif
