/* host.c - operations of a turn on host memory, tile by tile. */
#include "coll/host.h"

#include <string.h>

struct job {
  struct shmi_op op;
  uint8_t *slot;       /* where to_slot means, or NULL */
  const uint8_t *from; /* COPY */
  int past_caches;     /* how to write to the slot */
  size_t done;         /* bytes */
};

struct turn {
  int njobs;
  const uint8_t *operands[SHMCCL_MAX_RANKS]; /* of the turn's one REDUCE, in rank order */
  struct job jobs[2 * SHMCCL_MAX_RANKS + 1];
};

static void resolve(const struct shmi_block *b, struct job *j, const uint8_t **operands) {
  const struct shmi_op *op = &j->op;
  const struct shmi_world *w = b->world;
  j->slot = op->to_slot ? shmi_data_of(w, b->call, w->rank, b->step + 1) + op->to_offset : NULL;
  j->past_caches = op->to_slot && op->bytes >= SHMI_FAR_LEAST && (op->to_rank < 0 ? b->far : b->far >> op->to_rank & 1);
  if (op->kind == SHMI_OP_COPY)
    j->from = op->from_user ? op->from_user : shmi_data_of(w, b->call, op->from_rank, b->step) + op->from_offset;
  else
    for (int r = 0; r < w->nranks; r++) operands[r] = shmi_operand_of(w, b->call, op, r, b->step);
}

static void copy_out(const struct shmi_block *b, uint8_t *to, const uint8_t *from, size_t bytes) {
  if (b->stream)
    shmi_stream_copy(to, from, bytes);
  else
    shmi_copy(to, from, bytes);
}

static void copy_to_slot(const struct job *j, size_t at, const uint8_t *from, size_t bytes) {
  if (j->past_caches)
    shmi_stream_copy(j->slot + at, from, bytes);
  else
    shmi_copy(j->slot + at, from, bytes);
}

static void reduce_tile(const struct shmi_block *b, const struct turn *t, const struct job *j, size_t at,
                        size_t bytes) {
  _Alignas(64) uint8_t scratch[SHMI_TILE];
  const void *sources[SHMCCL_MAX_RANKS];
  for (int r = 0; r < b->world->nranks; r++) sources[r] = t->operands[r] + at;
  uint8_t *result = j->slot && !j->past_caches ? j->slot + at : b->stream || j->slot ? scratch : j->op.to_user + at;
  b->reduce(result, sources, b->world->nranks, bytes / b->call->element);
  if (j->slot && j->past_caches) copy_to_slot(j, at, result, bytes);
  if (j->op.to_user && result != j->op.to_user + at) copy_out(b, j->op.to_user + at, result, bytes);
}

static void copy_tile(const struct shmi_block *b, const struct job *j, size_t at, size_t bytes) {
  if (j->slot) copy_to_slot(j, at, j->from + at, bytes);
  if (j->op.to_user) copy_out(b, j->op.to_user + at, j->from + at, bytes);
}

static void plan_turn(const struct shmi_block *b, uint32_t turn, struct turn *t) {
  t->njobs = 0;
  for (int i = 0; i < shmi_plan_ops(b->world->nranks); i++) {
    struct job *j = &t->jobs[t->njobs];
    shmi_plan_op(b->call, b->world->nranks, b->world->rank, turn, i, &j->op);
    if (j->op.kind == SHMI_OP_NONE) continue;
    resolve(b, j, t->operands);
    j->done = 0;
    t->njobs++;
  }
}

/* The next tile of a job. In user memory tiles end at line boundaries, so that no line is written half past the caches
 * and half through them. */
static size_t next_tile(const struct shmi_block *b, const struct job *j) {
  size_t left = j->op.bytes - j->done;
  size_t bytes = b->stream && j->op.to_user ? b->tile - ((uintptr_t)(j->op.to_user + j->done) & 63) : b->tile;
  return left < bytes ? left : bytes;
}

static void run_tile(const struct shmi_block *b, const struct turn *t, const struct job *j, size_t bytes) {
  if (j->op.kind == SHMI_OP_REDUCE)
    reduce_tile(b, t, j, j->done, bytes);
  else
    copy_tile(b, j, j->done, bytes);
}

void shmi_block_operate(const struct shmi_block *b, uint32_t turn) {
  struct turn t;
  plan_turn(b, turn, &t);
  int open = t.njobs;
  for (int round = 0; open > 0; round++)
    for (int i = 0; i < t.njobs; i++) {
      struct job *j = &t.jobs[i];
      if (j->done == j->op.bytes) continue;
      size_t bytes = next_tile(b, j);
      if (b->nthreads == 1 || round % b->nthreads == b->tid) run_tile(b, &t, j, bytes);
      j->done += bytes;
      open -= j->done == j->op.bytes;
    }
  if (b->far) shmi_stream_fence(); /* what went past the caches is in no order with the publishing store */
}
