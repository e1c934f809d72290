/*
 * test_plan.c - the schedules of coll/plan.h are right for every shape, proven without running them.
 *
 * All ranks' operations of a sequence of calls are collected and applied to a model of the memory, in which every byte
 * holds a symbol: byte x of what rank r sends, or byte x of the reduction. Time is counted in epochs: the number of
 * steps published, as step.h keeps ranks together: turn t of a call that starts after s steps is in epoch s + t, and
 * the last turn of a call shares its epoch with the first turn of the next call. In epoch e slots of step e are read
 * and those of step e + 1 are written; nothing orders ranks, operations or tiles within it. Checked for each byte:
 *   a slot's is read only in the epoch after its owner wrote it, and holds what it was read for;
 *   a slot's is written at most once in an epoch, and never in one in which somebody reads it;
 *   a recvbuf's is written at most once in a call, holds the right symbol at the end, and none beside it is written;
 *   in place, a user byte is never read after it was overwritten, nor in the same epoch except by the operation that
 *   overwrites it, which goes through its bytes one by one;
 *   everything staged is read by somebody, and nothing leaves the slot, the step's line or the buffers.
 * And for each call: number of steps and signature are equal on all ranks, and differ between different calls.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "collectives/calls.h"
#include "comm/comm.h"

enum { RANKS_MOST = 9, USER_BYTES = 1 << 18 };

/* ---- the model ------------------------------------------------------------------------------------------------------
 */

/* What a byte holds: byte `offset` of what `rank` sends; or of the reduction. 0 is nothing. */
static uint64_t raw(int rank, size_t offset) { return (uint64_t)1 << 60 | (uint64_t)rank << 48 | offset; }
static uint64_t reduced(size_t offset) { return (uint64_t)2 << 60 | offset; }

struct slot_byte {
  uint64_t symbol;
  uint32_t staged, read; /* the step it was last written for, and last read */
};

struct user_byte {
  uint64_t symbol;
  uint32_t read;          /* epoch */
  int16_t reader, writer; /* operations of the call; -1: none, MANY: several */
};
enum { NONE = -1, MANY = -2 };

static struct model {
  int nranks;
  uint32_t steps;
  shmccl_comm_t comms[RANKS_MOST];
  struct shmi_call calls[RANKS_MOST];
  uint8_t *segment, *user; /* only addresses count; user: an arena for each rank */
  struct slot_byte *slots; /* for each byte of the segment */
  struct user_byte *bytes; /* for each of user */
  size_t staged, collected;
} m;

static const struct shmi_world *world_of(int rank) { return &m.comms[rank].world; }
static uint8_t *arena_of(int rank) { return m.user + (size_t)rank * USER_BYTES; }

static void *zeros(size_t count, size_t size) {
  void *memory = calloc(count, size);
  CHECK(memory);
  return memory;
}

static void open_model(int nranks, uint64_t staging, struct harness_random *r) {
  const shmi_options_t options = {.staging_bytes = staging};
  struct shmi_header header;
  CHECK(shmi_layout_make(&header, nranks, staging, &options));
  m = (struct model){.nranks = nranks, .steps = (uint32_t)(1 + harness_below(r, 1000))};
  m.segment = zeros(header.total_bytes, 1);
  m.slots = zeros(header.total_bytes, sizeof *m.slots);
  m.user = zeros((size_t)nranks * USER_BYTES, 1);
  m.bytes = zeros((size_t)nranks * USER_BYTES, sizeof *m.bytes);
  for (int rank = 0; rank < nranks; rank++) {
    m.comms[rank].rank = rank;
    m.comms[rank].nranks = nranks;
    m.comms[rank].world = shmi_layout_world(&header, m.segment, rank);
  }
}

static void close_model(void) {
  free(m.segment);
  free(m.slots);
  free(m.user);
  free(m.bytes);
}

/* ---- one byte of one operation --------------------------------------------------------------------------------------
 */

static struct slot_byte *slot_byte(int viewer, int owner, uint32_t step, size_t offset) {
  const struct shmi_call *c = &m.calls[viewer];
  const struct shmi_world *w = world_of(viewer);
  uint8_t *slot = shmi_slot_of(w, owner, step);
  size_t limit = w->slot_bytes;
  if (c->inline_data)
    slot = shmi_step_of(w, owner, step)->payload, limit = SHMI_INLINE_BYTES;
  else
    offset += shmi_place_of(c, step);
  CHECK_TEXT(offset < limit, "byte %zu of a slot of %zu", offset, limit);
  return &m.slots[slot + offset - m.segment];
}

static uint64_t read_slot(int reader, int owner, uint32_t epoch, size_t offset) {
  struct slot_byte *b = slot_byte(reader, owner, epoch, offset);
  CHECK_TEXT(b->symbol && b->staged == epoch, "rank %d reads byte %zu of rank %d's step %u, there is step %u", reader,
             offset, owner, epoch, b->staged);
  m.collected += b->read != epoch;
  b->read = epoch;
  return b->symbol;
}

static void write_slot(int owner, uint32_t epoch, size_t offset, uint64_t symbol) {
  struct slot_byte *b = slot_byte(owner, owner, epoch + 1, offset);
  CHECK_TEXT(b->staged != epoch + 1, "rank %d writes byte %zu of its step %u twice", owner, offset, epoch + 1);
  CHECK_TEXT(b->read != epoch, "rank %d writes byte %zu of its step %u while it is read", owner, offset, epoch + 1);
  b->symbol = symbol;
  b->staged = epoch + 1;
  m.staged++;
}

static struct user_byte *user_byte(int rank, const uint8_t *address, const uint8_t *buffer, size_t bytes) {
  CHECK_TEXT(buffer && address >= buffer && address < buffer + bytes, "rank %d leaves its buffer of %zu bytes", rank,
             bytes);
  return &m.bytes[address - m.user];
}

static uint64_t read_user(int rank, const uint8_t *address, size_t send_bytes, uint32_t epoch, int operation) {
  struct user_byte *b = user_byte(rank, address, m.calls[rank].sendbuf, send_bytes);
  CHECK_TEXT(b->writer == NONE, "rank %d reads a byte that it has overwritten", rank);
  b->reader = b->read == epoch && b->reader != operation ? (int16_t)MANY : (int16_t)operation;
  b->read = epoch;
  return b->symbol;
}

static void write_user(int rank, const uint8_t *address, size_t recv_bytes, uint32_t epoch, int operation,
                       uint64_t symbol) {
  struct user_byte *b = user_byte(rank, address, m.calls[rank].recvbuf, recv_bytes);
  CHECK_TEXT(b->writer == NONE, "rank %d writes a byte of recvbuf twice", rank);
  CHECK_TEXT(b->read != epoch || b->reader == operation, "rank %d overwrites what another operation reads", rank);
  b->symbol = symbol;
  b->writer = (int16_t)operation;
}

/* ---- one operation -------------------------------------------------------------------------------------------------
 */

struct sizes {
  size_t send, recv; /* bytes of this rank's buffers */
};

/* Byte i of a reduction: everybody's operand must be the same byte of what he sends. */
static uint64_t reduce_byte(int rank, const struct shmi_op *op, size_t i, uint32_t epoch, uint64_t own) {
  const size_t offset = own & 0xffffffffffff;
  CHECK(own == raw(rank, offset));
  for (int r = 0; r < m.nranks; r++)
    if (r != rank) CHECK(read_slot(rank, r, epoch, op->from_offset + i) == raw(r, offset));
  return reduced(offset);
}

static void apply(int rank, const struct shmi_op *op, const struct sizes *sizes, uint32_t epoch, int operation) {
  CHECK(op->bytes && op->bytes % m.calls[rank].element == 0);
  for (size_t i = 0; i < op->bytes; i++) {
    uint64_t symbol = op->from_user ? read_user(rank, op->from_user + i, sizes->send, epoch, operation)
                                    : read_slot(rank, op->from_rank, epoch, op->from_offset + i);
    if (op->kind == SHMI_OP_REDUCE) symbol = reduce_byte(rank, op, i, epoch, symbol);
    if (op->to_user) write_user(rank, op->to_user + i, sizes->recv, epoch, operation, symbol);
    if (op->to_slot) write_slot(rank, epoch, op->to_offset + i, symbol);
  }
}

/* host.c has room for one reduction in a turn; the last turn is not followed by a publish. */
static void apply_turn(int rank, const struct sizes *sizes, uint32_t turn) {
  const struct shmi_call *c = &m.calls[rank];
  int reductions = 0;
  for (int i = 0; i < shmi_plan_ops(m.nranks); i++) {
    struct shmi_op op;
    shmi_plan_op(c, m.nranks, rank, turn, i, &op);
    if (op.kind == SHMI_OP_NONE) continue;
    reductions += op.kind == SHMI_OP_REDUCE;
    CHECK(turn < c->nsteps || !op.to_slot);
    CHECK(turn > 0 || (op.kind == SHMI_OP_COPY && op.from_user));
    apply(rank, &op, sizes, m.steps + turn, (int)(turn * 32 % 32000) + i);
  }
  CHECK(reductions <= 1);
}

/* ---- one call -------------------------------------------------------------------------------------------------------
 */

/* Buffers at the start of the rank's arena: one behind the other, or over each other. */
static void lay_buffers(const struct call *call, int rank, struct sizes *sizes) {
  struct shmi_call *c = &m.calls[rank];
  const size_t block = call->count * c->element, mine = (size_t)rank * block;
  uint8_t *arena = arena_of(rank);
  sizes->send = call_sends(call, rank) ? block * call_send_blocks(call, m.nranks) : 0;
  sizes->recv = call_receives(call, rank) ? block * call_recv_blocks(call, m.nranks) : 0;
  const bool over = call->in_place && sizes->send && sizes->recv;
  CHECK(sizes->send + sizes->recv <= USER_BYTES);
  c->sendbuf = sizes->send ? arena + (over && sizes->recv > sizes->send ? mine : 0) : NULL;
  c->recvbuf = sizes->recv ? arena + (over ? (sizes->send > sizes->recv ? mine : 0) : sizes->send) : NULL;
  for (size_t i = 0; i < sizes->send + sizes->recv; i++)
    m.bytes[arena + i - m.user] = (struct user_byte){.reader = NONE, .writer = NONE};
  for (size_t i = 0; i < sizes->send; i++) m.bytes[c->sendbuf + i - m.user].symbol = raw(rank, i);
}

static uint64_t expected(const struct call *call, int rank, size_t i) {
  const size_t block = call->count * m.calls[rank].element, mine = (size_t)rank * block;
  switch (call->collective) {
  case SHMI_REDUCE_SCATTER: return reduced(mine + i);
  case SHMI_ALLGATHER:
  case SHMI_GATHER: return raw((int)(i / block), i % block);
  case SHMI_ALLTOALL: return raw((int)(i / block), mine + i % block);
  case SHMI_BROADCAST: return raw(call->root, i);
  case SHMI_SCATTER: return raw(call->root, mine + i);
  default: return reduced(i);
  }
}

static void select_call(const struct call *call, int rank) {
  m.calls[rank].id = (struct shmi_call_id){(uint32_t)call->collective, (uint32_t)call->type,
                                           call_reduces(call) ? (uint32_t)call->op : 0,
                                           call_rooted(call) ? (uint32_t)call->root : 0, call->count};
  m.calls[rank].element = shmccl_datatype_size(call->type);
  shmi_select(&m.comms[rank], &m.calls[rank]);
}

static void check_result(const struct call *call, int rank, size_t recv_bytes) {
  for (size_t i = 0; i < recv_bytes; i++)
    CHECK_TEXT(m.bytes[m.calls[rank].recvbuf + i - m.user].symbol == expected(call, rank, i),
               "rank %d: byte %zu of recvbuf is wrong at the end", rank, i);
}

static void check_call(const struct call *call) {
  struct sizes sizes[RANKS_MOST];
  m.staged = m.collected = 0;
  for (int rank = 0; rank < m.nranks; rank++) {
    select_call(call, rank);
    lay_buffers(call, rank, &sizes[rank]);
    CHECK(m.calls[rank].nsteps == m.calls[0].nsteps && m.calls[rank].signature == m.calls[0].signature);
  }
  for (uint32_t turn = 0; turn <= m.calls[0].nsteps; turn++)
    for (int rank = 0; rank < m.nranks; rank++) apply_turn(rank, &sizes[rank], turn);
  for (int rank = 0; rank < m.nranks; rank++) check_result(call, rank, sizes[rank].recv);
  CHECK_TEXT(m.staged == m.collected, "%zu bytes were staged, %zu were read", m.staged, m.collected);
  m.steps += m.calls[0].nsteps;
}

static void choose_options(shmccl_algorithm_t algorithm, uint64_t chunk_bytes, bool oversubscribed,
                           size_t window_bytes) {
  for (int rank = 0; rank < m.nranks; rank++) {
    m.comms[rank].options.algorithm = algorithm;
    m.comms[rank].options.chunk_bytes = chunk_bytes;
    m.comms[rank].oversubscribed = oversubscribed;
    const size_t slot = m.comms[rank].world.slot_bytes; /* the header keeps the window inside */
    m.comms[rank].world.window_bytes = window_bytes < slot ? window_bytes : slot;
  }
}

/* ---- tests
 * ----------------------------------------------------------------------------------------------------------- */

static struct harness_random source;

static void say(const struct call *call) {
  char text[256];
  call_text(call, text);
  harness_note("%d ranks, chunk %llu, algorithm %llu, %s", m.nranks, (unsigned long long)m.comms[0].options.chunk_bytes,
               (unsigned long long)m.comms[0].options.algorithm, text);
}

static uint64_t least_staging(int nranks) {
  const uint64_t least = shmi_layout_least_staging(nranks);
  return least < 65536 ? 65536 : least;
}

/* All small shapes: counts around the places where something begins, in every combination with chunk sizes. */
static void small_shapes_are_right(void **state) {
  static const size_t counts[] = {0, 1, 3, 7, 8, 15, 31, 61, 62, 63, 64, 65, 124, 125, 248, 496, 497, 577, 800};
  static const uint64_t chunks[] = {64, 100, 1000, 4096, 0};
  (void)state;
  for (int nranks = 2; nranks <= RANKS_MOST; nranks++) {
    open_model(nranks, least_staging(nranks), &source);
    for (int collective = 0; collective < SHMI_COLLECTIVE_COUNT; collective++)
      for (size_t i = 0; i < LENGTH(counts); i++)
        for (size_t j = 0; j < LENGTH(chunks) * 2; j++) {
          struct call c = call_random(&source, nranks, 1);
          c.collective = (enum shmi_collective)collective;
          c.count = collective == SHMI_BARRIER ? 0 : counts[i];
          choose_options(j & 1 ? SHMCCL_ALGORITHM_ONE_SHOT : SHMCCL_ALGORITHM_TWO_SHOT, chunks[j / 2],
                         harness_below(&source, 2), harness_below(&source, 20000));
          say(&c);
          check_call(&c);
        }
    close_model();
  }
}

/* Random shapes up to several times the slots, in random staging. */
static void random_shapes_are_right(void **state) {
  (void)state;
  for (int i = 0; i < 40; i++) {
    const int nranks = 2 + i % (RANKS_MOST - 1);
    open_model(nranks, least_staging(nranks) + harness_below(&source, 400000), &source);
    for (int j = 0; j < 30; j++) {
      const struct call c = call_random(&source, nranks, USER_BYTES / (size_t)(2 * nranks));
      choose_options((shmccl_algorithm_t)harness_below(&source, 3),
                     harness_below(&source, 3) ? 64 + harness_below(&source, 40000) : 0, harness_below(&source, 2),
                     harness_below(&source, 1 << 17));
      say(&c);
      check_call(&c);
    }
    close_model();
  }
}

static uint32_t signature_of(const struct call *c) {
  select_call(c, 0);
  return m.calls[0].signature;
}

/* All types, operators and roots of one count, of which types change the chunk too: one must not make up for another.
 */
static void signatures_of_count_differ(enum shmi_collective collective, size_t count) {
  uint32_t seen[SHMCCL_DATATYPE_COUNT * SHMCCL_REDOP_COUNT];
  size_t n = 0;
  struct call c = {.collective = collective, .count = count};
  const int ops = call_reduces(&c) ? SHMCCL_REDOP_COUNT : 1, roots = call_rooted(&c) ? m.nranks : 1;
  for (int type = 0; type < SHMCCL_DATATYPE_COUNT; type++)
    for (int i = 0; i < ops * roots; i++) {
      c.type = (shmccl_datatype_t)type, c.op = (shmccl_redop_t)(i % ops), c.root = i / ops;
      say(&c);
      CHECK(n < LENGTH(seen));
      seen[n] = signature_of(&c);
      for (size_t j = 0; j < n; j++) assert_int_not_equal(seen[j], seen[n]);
      n++;
    }
}

/* Counts and chunks whose signatures were equal for types of different sizes, and others; the same in every run, since
 * 32 bits of some millions of pairs may be equal by chance. */
static void signatures_of_types_differ(void **state) {
  static const size_t once_equal[] = {8448, 8704, 9216, 32256};
  static const uint64_t chunks[] = {0, 64, 2048, 4096};
  struct harness_random same = harness_random(1);
  (void)state;
  open_model(4, 16 << 20, &source); /* slots that do not cut the default chunks */
  for (size_t i = 0; i < 200 + LENGTH(once_equal); i++) {
    const size_t count = i < LENGTH(once_equal) ? once_equal[i] : 1 + harness_below(&same, 1 << 18);
    for (size_t j = 0; j < LENGTH(chunks); j++) {
      choose_options(SHMCCL_ALGORITHM_AUTO, chunks[j], false, 0);
      signatures_of_count_differ(SHMI_ALLGATHER, count);
      signatures_of_count_differ(SHMI_ALLREDUCE, count);
      signatures_of_count_differ(SHMI_BROADCAST, count);
    }
  }
  close_model();
}

/* Every difference that ranks must be told of. */
static void signatures_differ(void **state) {
  (void)state;
  open_model(4, least_staging(4), &source);
  choose_options(SHMCCL_ALGORITHM_AUTO, 0, false, 0);
  for (int i = 0; i < 2000; i++) {
    const struct call base = call_random(&source, 4, 1 << 20);
    const uint32_t signature = signature_of(&base);
    struct call other = base;
    if (base.collective == SHMI_BARRIER) continue;
    say(&base);
    other.count++;
    assert_int_not_equal(signature_of(&other), signature);
    other.count += harness_below(&source, 1 << 20);
    assert_int_not_equal(signature_of(&other), signature);
    other = base, other.type = (other.type + 1) % SHMCCL_DATATYPE_COUNT;
    assert_int_not_equal(signature_of(&other), signature);
    other = base, other.collective = (other.collective + 1) % SHMI_COLLECTIVE_COUNT;
    assert_int_not_equal(signature_of(&other), signature);
    other = base, other.op = (other.op + 1) % SHMCCL_REDOP_COUNT;
    assert_true((signature_of(&other) != signature) == call_reduces(&base));
    other = base, other.root = (other.root + 1) % 4;
    assert_true((signature_of(&other) != signature) == call_rooted(&base));
  }
  close_model();
}

/* The longest calls that are accepted: no number of chunks, turn or offset overflows. */
static void longest_calls_do_not_overflow(void **state) {
  (void)state;
  for (int nranks = 2; nranks <= RANKS_MOST; nranks++) {
    open_model(nranks, least_staging(nranks), &source);
    for (int i = 0; i < 400; i++) {
      struct call c = call_random(&source, nranks, 1);
      const size_t element = shmccl_datatype_size(c.type);
      struct shmi_op op;
      size_t start;
      c.count = ((size_t)1 << 37) / element / (size_t)nranks - harness_below(&source, 100);
      if (c.collective == SHMI_BARRIER) continue;
      choose_options((shmccl_algorithm_t)harness_below(&source, 3), harness_below(&source, 2) ? 64 : 0, false, 0);
      say(&c);
      select_call(&c, 0);
      const struct shmi_call *s = &m.calls[0];
      assert_true((uint64_t)s->nchunks * s->chunk >= c.count && (uint64_t)(s->nchunks - 1) * s->chunk < c.count);
      const size_t length = shmi_chunk_of(s, s->nchunks - 1, c.count, &start);
      assert_true(length > 0 && start + length == c.count && s->nsteps >= s->nchunks);
      for (int j = 0; j < shmi_plan_ops(nranks); j++) {
        shmi_plan_op(s, nranks, 0, s->nsteps + 1, j, &op);
        assert_int_equal(op.kind, SHMI_OP_NONE);
      }
    }
    close_model();
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(small_shapes_are_right),
      cmocka_unit_test(random_shapes_are_right),
      cmocka_unit_test(signatures_differ),
      cmocka_unit_test(signatures_of_types_differ),
      cmocka_unit_test(longest_calls_do_not_overflow),
  };
  source = harness_random(harness_seed());
  return cmocka_run_group_tests(tests, NULL, NULL);
}
