/* host.c - operations of a turn on host memory, tile by tile. */
#include "coll/host.h"

#include <string.h>

struct job {
  struct shmi_op op;
  uint8_t *slot;       /* where to_slot means, or NULL */
  const uint8_t *from; /* COPY */
};

struct turn {
  int njobs;
  size_t longest;                            /* bytes */
  const uint8_t *operands[SHMCCL_MAX_RANKS]; /* of the turn's one REDUCE, in rank order */
  struct job jobs[2 * SHMCCL_MAX_RANKS + 1];
};

static uint8_t *slot_of(const struct shmi_block *b, int rank, uint32_t step) {
  if (b->call->inline_data) return shmi_step_of(b->world, rank, step)->payload;
  return shmi_slot_of(b->world, rank, step);
}

static void resolve(const struct shmi_block *b, struct job *j, const uint8_t **operands) {
  const struct shmi_op *op = &j->op;
  j->slot = op->to_slot ? slot_of(b, b->world->rank, b->step + 1) + op->to_offset : NULL;
  if (op->kind == SHMI_OP_COPY)
    j->from = op->from_user ? op->from_user : slot_of(b, op->from_rank, b->step) + op->from_offset;
  else
    for (int r = 0; r < b->world->nranks; r++)
      operands[r] = r == b->world->rank ? op->from_user : slot_of(b, r, b->step) + op->from_offset;
}

static void copy_out(const struct shmi_block *b, uint8_t *to, const uint8_t *from, size_t bytes) {
  if (b->stream)
    shmi_stream_copy(to, from, bytes);
  else
    memcpy(to, from, bytes);
}

static void reduce_tile(const struct shmi_block *b, const struct turn *t, const struct job *j, size_t at,
                        size_t bytes) {
  _Alignas(64) uint8_t scratch[SHMI_TILE];
  const void *sources[SHMCCL_MAX_RANKS];
  for (int r = 0; r < b->world->nranks; r++) sources[r] = t->operands[r] + at;
  uint8_t *result = j->slot ? j->slot + at : b->stream ? scratch : j->op.to_user + at;
  b->reduce(result, sources, b->world->nranks, bytes / b->call->element);
  if (j->op.to_user && result != j->op.to_user + at) copy_out(b, j->op.to_user + at, result, bytes);
}

static void copy_tile(const struct shmi_block *b, const struct job *j, size_t at, size_t bytes) {
  if (j->slot) memcpy(j->slot + at, j->from + at, bytes);
  if (j->op.to_user) copy_out(b, j->op.to_user + at, j->from + at, bytes);
}

static void plan_turn(const struct shmi_block *b, uint32_t turn, struct turn *t) {
  t->njobs = 0;
  t->longest = 0;
  for (int i = 0; i < shmi_plan_ops(b->world->nranks); i++) {
    struct job *j = &t->jobs[t->njobs];
    shmi_plan_op(b->call, b->world->nranks, b->world->rank, turn, i, &j->op);
    if (j->op.kind == SHMI_OP_NONE) continue;
    resolve(b, j, t->operands);
    if (j->op.bytes > t->longest) t->longest = j->op.bytes;
    t->njobs++;
  }
}

void shmi_block_operate(const struct shmi_block *b, uint32_t turn) {
  struct turn t;
  plan_turn(b, turn, &t);
  for (size_t at = (size_t)b->tid * b->tile; at < t.longest; at += (size_t)b->nthreads * b->tile)
    for (int i = 0; i < t.njobs; i++) {
      const struct job *j = &t.jobs[i];
      if (at >= j->op.bytes) continue;
      size_t left = j->op.bytes - at, bytes = left < b->tile ? left : b->tile;
      if (j->op.kind == SHMI_OP_REDUCE)
        reduce_tile(b, &t, j, at, bytes);
      else
        copy_tile(b, j, at, bytes);
    }
}
