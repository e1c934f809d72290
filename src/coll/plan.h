/*
 * plan.h - what each rank does in each step of a collective: the schedules, as pure functions.
 *
 * A collective of T steps is T + 1 turns. In turn t a rank reads what was staged in turn t-1 (its own and its peers'
 * slots of the step before) and writes its own slot of this step; then it publishes the step, and waits for
 * everybody's. The last turn only reads. An operation therefore never reads what is written in the same turn, and two
 * slots are enough (step.h proves it). All an algorithm has to say is which bytes move in which turn: that is here, it
 * depends on nothing but the call and the rank, and tests check it for every shape without running it.
 *
 * Message layout: a call moves `count` elements per block. It is cut into chunks of `chunk` elements, one per turn.
 * With lanes (two-shot, reduce_scatter, alltoall, scatter) a slot holds one piece for each rank, else one for all.
 */
#ifndef SHMI_PLAN_H
#define SHMI_PLAN_H

#include "shm/layout.h"

enum shmi_collective {
  SHMI_ALLREDUCE,
  SHMI_ALLGATHER,
  SHMI_REDUCE_SCATTER,
  SHMI_BROADCAST,
  SHMI_REDUCE,
  SHMI_ALLTOALL,
  SHMI_GATHER,
  SHMI_SCATTER,
  SHMI_BARRIER,
  SHMI_COLLECTIVE_COUNT,
  SHMI_MESSAGES = SHMI_COLLECTIVE_COUNT /* a group of send and recv: where a name for what a kernel did is wanted */
};

/* One collective call of one rank, with the schedule chosen for it (comm/select.c). */
struct shmi_call {
  struct shmi_call_id id;
  const uint8_t *sendbuf;
  uint8_t *recvbuf;
  size_t element;      /* bytes */
  size_t count;        /* elements that this call, or this part of one (shmi_part_of), moves of each block */
  size_t block;        /* bytes between the blocks that buffers of n ranks' data have */
  size_t chunk;        /* elements per turn: of the message (one-shot) or of each block (lanes) */
  size_t lane_stride;  /* bytes between the lanes of a slot */
  size_t piece;        /* bytes between the places that a slot's data takes in turn */
  uint32_t places;     /* how many there are; at least 1 */
  uint32_t nchunks;    /* 0 for an empty message */
  uint32_t nsteps;     /* T: at least 1, so that ranks meet in every call */
  uint32_t signature;  /* equal on all ranks that made the same call */
  uint8_t two_shot;    /* reductions to all or one: two exchanges instead of one */
  uint8_t inline_data; /* the slot is the payload of the step's own line */
  uint8_t packets;     /* on a device: data with flags beside them (packet.h) instead of slots */
  uint8_t channels;    /* on a device: into how many parts it is divided; 0: none, but: */
  uint8_t engine;      /* on a device: enum shmi_engine */
};

/* What moves a call on a device: its kernel; copy engines (engine.h); copy engines, with CPUs for the sums. */
enum shmi_engine { SHMI_BY_KERNEL, SHMI_BY_ENGINES, SHMI_BY_ENGINES_AND_CPUS };

enum shmi_op_kind { SHMI_OP_NONE, SHMI_OP_COPY, SHMI_OP_REDUCE };

/* A piece of work of one turn. Slot addresses are given as (rank, offset in the slot); user memory as pointers. */
struct shmi_op {
  enum shmi_op_kind kind;
  size_t bytes;
  const uint8_t *from_user; /* COPY: source, or NULL; REDUCE: this rank's own operand */
  int from_rank;            /* COPY without from_user: whose slot of the step before */
  size_t from_offset;       /* COPY: in that slot; REDUCE: where the other ranks' operands are in theirs */
  uint8_t *to_user;         /* or NULL */
  int to_slot;              /* also, or only, to this rank's slot of this step, at to_offset */
  size_t to_offset;
  int to_rank; /* who will read it there; -1: all others */
};

/* A block for each pair of ranks, rather than one for all. */
SHMI_FN int shmi_has_blocks(const struct shmi_call *c) {
  return c->id.collective == SHMI_REDUCE_SCATTER || c->id.collective == SHMI_ALLTOALL ||
         c->id.collective == SHMI_SCATTER;
}

/* Where in its slot the data of a step lies. It moves on from step to step: a line that a peer's core has just read is
 * slow to write again, one that has left that core's cache meanwhile is not (docs/performance.md). Steps of one parity
 * may use any place in the slot (step.h), so calls need not agree on anything here. */
SHMI_FN size_t shmi_place_of(const struct shmi_call *c, uint32_t step) { return (step >> 1) % c->places * c->piece; }

/* Operations of a turn are numbered 0 .. 2n: n places to stage for a rank, 1 of its own, n to collect from a rank. */
SHMI_FN int shmi_plan_ops(int nranks) { return 2 * nranks + 1; }

/* Where a rank finds what `rank` staged in a step. */
SHMI_FN uint8_t *shmi_data_of(const struct shmi_world *w, const struct shmi_call *c, int rank, uint32_t step) {
  return c->inline_data ? shmi_step_of(w, rank, step)->payload : shmi_slot_of(w, rank, step) + shmi_place_of(c, step);
}

/* Elements [*start, *start + returned) of a message of `count`: chunk k, the last one may be short. */
SHMI_FN size_t shmi_chunk_of(const struct shmi_call *c, uint32_t k, size_t count, size_t *start) {
  *start = (size_t)k * c->chunk;
  return count - *start < c->chunk ? count - *start : c->chunk;
}

/* Two-shot divides each chunk of `length` elements among the ranks: rank's share starts at *start (within the chunk).
 * Shares are multiples of 64 elements, so that none shares a cache line or a vector; the last ones may be empty. */
SHMI_FN size_t shmi_share_of(size_t length, int nranks, int rank, size_t *start) {
  size_t share = ((length + (size_t)nranks - 1) / (size_t)nranks + 63) / 64 * 64;
  *start = (size_t)rank * share < length ? (size_t)rank * share : length;
  return length - *start < share ? length - *start : share;
}

SHMI_FN void shmi_op_stage(struct shmi_op *op, const uint8_t *from, int to_rank, size_t to_offset, size_t bytes) {
  const struct shmi_op stage = {bytes ? SHMI_OP_COPY : SHMI_OP_NONE, bytes, from, 0, 0, 0, 1, to_offset, to_rank};
  *op = stage;
}

SHMI_FN void shmi_op_collect(struct shmi_op *op, int from_rank, size_t from_offset, uint8_t *to, size_t bytes) {
  const struct shmi_op collect = {bytes ? SHMI_OP_COPY : SHMI_OP_NONE, bytes, 0, from_rank, from_offset, to, 0, 0, -1};
  *op = collect;
}

SHMI_FN void shmi_op_keep(struct shmi_op *op, const uint8_t *from, uint8_t *to, size_t bytes) {
  const struct shmi_op keep = {bytes && from != to ? SHMI_OP_COPY : SHMI_OP_NONE, bytes, from, 0, 0, to, 0, 0, -1};
  *op = keep;
}

SHMI_FN void shmi_op_reduce(struct shmi_op *op, const uint8_t *own, size_t from_offset, uint8_t *to, size_t bytes) {
  const struct shmi_op reduce = {bytes ? SHMI_OP_REDUCE : SHMI_OP_NONE, bytes, own, 0, from_offset, to, 0, 0, -1};
  *op = reduce;
}

/* Everybody's whole message to everybody (or to the root) in one exchange: one-shot reductions, allgather, gather,
 * broadcast. `sender`: ranks that stage; `receiver`: ranks that collect. */
SHMI_FN void shmi_plan_exchange(const struct shmi_call *c, int nranks, int rank, uint32_t turn, int i,
                                struct shmi_op *op) {
  const int reduces = c->id.collective == SHMI_ALLREDUCE || c->id.collective == SHMI_REDUCE;
  const int rooted = c->id.collective != SHMI_ALLREDUCE && c->id.collective != SHMI_ALLGATHER;
  const int root = (int)c->id.root, from_root = c->id.collective == SHMI_BROADCAST;
  const int sender = from_root ? rank == root : !rooted || rank != root;
  const int receiver = from_root || !rooted ? 1 : rank == root;
  const size_t block = from_root || reduces ? 0 : c->block; /* in recvbuf */
  size_t start, length;
  if (i == 0 && sender && turn < c->nchunks) {
    length = shmi_chunk_of(c, turn, c->count, &start);
    shmi_op_stage(op, c->sendbuf + start * c->element, -1, 0, length * c->element);
  } else if (i == nranks && receiver && !reduces && turn < c->nchunks && (!from_root || rank == root)) {
    length = shmi_chunk_of(c, turn, c->count, &start);
    shmi_op_keep(op, c->sendbuf + start * c->element, c->recvbuf + (size_t)rank * block + start * c->element,
                 length * c->element);
  } else if (i == nranks && receiver && reduces && turn >= 1 && turn <= c->nchunks) {
    length = shmi_chunk_of(c, turn - 1, c->count, &start);
    shmi_op_reduce(op, c->sendbuf + start * c->element, 0, c->recvbuf + start * c->element, length * c->element);
  } else if (i > nranks && receiver && !reduces && turn >= 1 && turn <= c->nchunks) {
    const int peer = (rank + i - nranks) % nranks;
    if (peer == rank || (from_root && peer != root)) return;
    length = shmi_chunk_of(c, turn - 1, c->count, &start);
    shmi_op_collect(op, peer, 0, c->recvbuf + (size_t)peer * block + start * c->element, length * c->element);
  }
}

/* A block for each pair of ranks in one exchange: reduce_scatter, alltoall, scatter. */
SHMI_FN void shmi_plan_blocks(const struct shmi_call *c, int nranks, int rank, uint32_t turn, int i,
                              struct shmi_op *op) {
  const int reduces = c->id.collective == SHMI_REDUCE_SCATTER;
  const int scatters = c->id.collective == SHMI_SCATTER, root = (int)c->id.root;
  const size_t block = c->block;
  const int peer = (rank + (i < nranks ? i : i - nranks)) % nranks;
  size_t start, length;
  if (i < nranks && turn < c->nchunks && peer != rank && (!scatters || rank == root)) {
    length = shmi_chunk_of(c, turn, c->count, &start);
    shmi_op_stage(op, c->sendbuf + (size_t)peer * block + start * c->element, peer, (size_t)peer * c->lane_stride,
                  length * c->element);
  } else if (i == nranks && reduces && turn >= 1 && turn <= c->nchunks) {
    length = shmi_chunk_of(c, turn - 1, c->count, &start);
    shmi_op_reduce(op, c->sendbuf + (size_t)rank * block + start * c->element, (size_t)rank * c->lane_stride,
                   c->recvbuf + start * c->element, length * c->element);
  } else if (i == nranks && !reduces && turn < c->nchunks && (!scatters || rank == root)) {
    length = shmi_chunk_of(c, turn, c->count, &start);
    shmi_op_keep(op, c->sendbuf + (size_t)rank * block + start * c->element,
                 c->recvbuf + (scatters ? 0 : (size_t)rank * block) + start * c->element, length * c->element);
  } else if (i > nranks && !reduces && turn >= 1 && turn <= c->nchunks && peer != rank && (!scatters || peer == root)) {
    length = shmi_chunk_of(c, turn - 1, c->count, &start);
    shmi_op_collect(op, peer, (size_t)rank * c->lane_stride,
                    c->recvbuf + (scatters ? 0 : (size_t)peer * block) + start * c->element, length * c->element);
  }
}

/* Two-shot reduction: in turn t stage the others' shares of chunk t, reduce the own share of chunk t-1 into recvbuf and
 * into the own lane (which nothing is staged to), collect the others' shares of chunk t-2. */
SHMI_FN void shmi_plan_two_shot(const struct shmi_call *c, int nranks, int rank, uint32_t turn, int i,
                                struct shmi_op *op) {
  const int to_all = c->id.collective == SHMI_ALLREDUCE;
  const int receiver = to_all || rank == (int)c->id.root;
  const int peer = (rank + (i < nranks ? i : i - nranks)) % nranks;
  const uint32_t age = i < nranks ? 0 : i == nranks ? 1 : 2; /* which chunk this part of the turn is about */
  size_t start, length, share_start, share;
  if (turn < age || turn - age >= c->nchunks) return;
  length = shmi_chunk_of(c, turn - age, c->count, &start);
  share = shmi_share_of(length, nranks, i == nranks ? rank : peer, &share_start);
  start = (start + share_start) * c->element;
  if (i == nranks) {
    shmi_op_reduce(op, c->sendbuf + start, (size_t)rank * c->lane_stride, receiver ? c->recvbuf + start : 0,
                   share * c->element);
    op->to_slot = to_all || !receiver;
    op->to_offset = (size_t)rank * c->lane_stride;
  } else if (peer == rank) {
    return;
  } else if (i < nranks) {
    shmi_op_stage(op, c->sendbuf + start, peer, (size_t)peer * c->lane_stride, share * c->element);
  } else if (receiver) {
    shmi_op_collect(op, peer, (size_t)peer * c->lane_stride, c->recvbuf + start, share * c->element);
  }
}

/* The operand of rank r in a REDUCE of the turn after `step`. */
SHMI_FN const uint8_t *shmi_operand_of(const struct shmi_world *w, const struct shmi_call *c, const struct shmi_op *op,
                                       int r, uint32_t step) {
  return r == w->rank ? op->from_user : shmi_data_of(w, c, r, step) + op->from_offset;
}

/* Part `number` of the c->channels that share a call: a call on other elements of the same buffers. */
SHMI_FN struct shmi_call shmi_part_of(const struct shmi_call *c, int number) {
  struct shmi_call part = *c;
  size_t start;
  part.count = shmi_share_of(c->count, c->channels, number, &start);
  part.sendbuf += start * c->element;
  part.recvbuf += start * c->element;
  part.nchunks = (uint32_t)((part.count + c->chunk - 1) / c->chunk);
  part.nsteps = part.nchunks ? part.nchunks + c->two_shot : 1;
  return part;
}

/* Operation i (0 .. shmi_plan_ops - 1) of `rank` in turn 0 .. nsteps. op->kind is SHMI_OP_NONE where there is nothing.
 */
SHMI_FN void shmi_plan_op(const struct shmi_call *c, int nranks, int rank, uint32_t turn, int i, struct shmi_op *op) {
  op->kind = SHMI_OP_NONE;
  if (c->nchunks == 0) return;
  if (c->two_shot)
    shmi_plan_two_shot(c, nranks, rank, turn, i, op);
  else if (shmi_has_blocks(c))
    shmi_plan_blocks(c, nranks, rank, turn, i, op);
  else
    shmi_plan_exchange(c, nranks, rank, turn, i, op);
}

#endif
