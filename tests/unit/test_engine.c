/*
 * test_engine.c - calls by copy engines (coll/engine.h) are right and cannot deadlock, proven without a GPU.
 *
 * All ranks' tasks of several calls in a row are put into queues, as the library enqueues them, and then run piece by
 * piece in an order at random of those that the queues allow: each queue in its order, a JOIN behind what its other
 * queue held when it was made, a meeting behind all ranks' words. Ranks share real memory for slots, and every result
 * is compared bit for bit. The same with one queue for all of a rank, in which nothing may be stuck; and with CPUs,
 * whose helper is one more that works on its part of the turns.
 *
 * Negative controls: without any of the four kinds of JOIN results must be seen to be wrong; with a meeting that waits
 * before it publishes something must be seen to be stuck.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "coll/engine.h"
#include "collectives/calls.h"
#include "comm/comm.h"
#include "reduce/reduce.h"

enum { RANKS_MOST = 6, CALLS = 3, QUEUES = 3, MOST_BYTES = 6000 };

struct item {
  struct shmi_task task;
  size_t behind; /* JOIN: so many items of the other queue */
  const struct shmi_call *call;
};

struct queue {
  struct item *items;
  size_t n, capacity, done, bytes; /* the latter of the item under way */
  bool published;                  /* MEET */
};

struct rank {
  struct shmi_engines engines;
  struct queue queues[QUEUES];
  struct shmi_call calls[CALLS];
  struct prepared prepared[CALLS];
  struct buffers buffers[CALLS];
  uint32_t words[2], moved;
  struct {
    int call;
    uint32_t turn;
    size_t bytes;
  } helper;
};

static struct model {
  int nranks;
  bool one_queue;
  enum { NOTHING, JOINS, ORDER } broken; /* negative controls: what is */
  enum shmi_queue queue, other;          /* which JOINs */
  uint32_t steps;                        /* before the first call */
  uint8_t *slots;
  size_t slot_bytes, lane_bytes;
  struct rank ranks[RANKS_MOST];
} m;

static struct harness_random source;

/* ---- enqueueing -------------------------------------------------------------------------------------------------- */

static struct queue *queue_of(struct rank *r, enum shmi_queue queue) { return &r->queues[m.one_queue ? 0 : queue]; }

static void push(struct rank *r, const struct shmi_task *task, const struct shmi_call *call) {
  struct queue *q = queue_of(r, task->queue);
  if (task->kind == SHMI_TASK_JOIN && m.broken == JOINS && task->queue == m.queue && task->other == m.other) return;
  if (q->n == q->capacity) {
    q->capacity = 2 * q->capacity + 64;
    q->items = realloc(q->items, q->capacity * sizeof *q->items);
    CHECK(q->items);
  }
  q->items[q->n++] = (struct item){*task, queue_of(r, task->other)->n, call};
}

static void enqueue(struct rank *r, const struct shmi_call *call, uint32_t steps) {
  for (uint32_t number = 0; number <= call->nsteps; number++) {
    struct shmi_turn turn;
    shmi_turn_make(&turn, &r->engines, call, steps, number);
    CHECK(turn.ntasks <= SHMI_TASKS_MOST);
    for (int i = 0; i < turn.ntasks; i++) push(r, &turn.tasks[i], call);
  }
}

/* ---- running ----------------------------------------------------------------------------------------------------- */

static size_t piece_of(size_t left, size_t element) {
  const size_t piece = (1 + harness_below(&source, left)) / element * element;
  return harness_below(&source, 2) || !piece ? left : piece;
}

static bool have_come(const struct rank *r, uint32_t step, bool own) {
  for (int i = 0; i < m.nranks; i++)
    if ((own || &m.ranks[i] != r) && m.ranks[i].words[step & 1] != step) return false;
  return true;
}

/* The operands of elements from byte `at` on. */
static void reduce(const struct rank *r, const struct shmi_call *c, uint8_t *to, const void *const *sources,
                   size_t bytes) {
  (void)r;
  shmi_reduce_lookup((shmccl_datatype_t)c->id.datatype, (shmccl_redop_t)c->id.op)(to, sources, m.nranks,
                                                                                  bytes / c->element);
}

static void sum(const struct rank *r, const struct item *item, size_t at, size_t bytes) {
  const void *sources[RANKS_MOST];
  for (int i = 0; i < m.nranks; i++)
    sources[i] = (&m.ranks[i] == r ? item->task.from : r->engines.scratch + (size_t)i * item->call->lane_stride) + at;
  reduce(r, item->call, item->task.to + at, sources, bytes);
}

/* Whether the meeting is over; it goes as far as it can. */
static bool meet(struct rank *r, struct queue *q, const struct item *item, bool *moves) {
  const bool by_cpu = item->call->engine == SHMI_BY_ENGINES_AND_CPUS;
  const uint32_t step = item->task.step;
  const bool come = have_come(r, step, by_cpu);
  *moves = come || (!q->published && m.broken != ORDER);
  if (*moves && !q->published) {
    q->published = true;
    if (by_cpu)
      r->moved = step;
    else
      r->words[step & 1] = step;
    return false;
  }
  if (come) q->published = false;
  return come;
}

/* One piece of the queue's next item; false if it has to wait, or there is none. */
static bool run_queue(struct rank *r, struct queue *q) {
  bool moves = true, over = false;
  if (q->done == q->n) return false;
  const struct item *item = &q->items[q->done];
  const struct shmi_task *t = &item->task;
  if (t->kind == SHMI_TASK_JOIN) {
    over = moves = m.one_queue || queue_of(r, t->other)->done >= item->behind;
  } else if (t->kind == SHMI_TASK_MEET) {
    over = meet(r, q, item, &moves);
  } else {
    const size_t bytes = piece_of(t->bytes - q->bytes, item->call->element);
    if (t->kind == SHMI_TASK_COPY)
      memcpy(t->to + q->bytes, t->from + q->bytes, bytes);
    else
      sum(r, item, q->bytes, bytes);
    q->bytes += bytes;
    over = q->bytes == t->bytes;
  }
  if (over) q->done++, q->bytes = 0;
  return moves;
}

static uint32_t steps_before(const struct rank *r, int call) {
  uint32_t steps = m.steps;
  for (int i = 0; i < call; i++) steps += r->calls[i].nsteps;
  return steps;
}

/* The helper's part of a turn: as comm/helpers.c. */
static bool run_helper(struct rank *r) {
  struct shmi_op op;
  while (r->helper.call < CALLS && r->calls[r->helper.call].engine != SHMI_BY_ENGINES_AND_CPUS) r->helper.call++;
  if (r->helper.call == CALLS) return false;
  const struct shmi_call *c = &r->calls[r->helper.call];
  const struct shmi_world *w = &r->engines.slots;
  const uint32_t step = steps_before(r, r->helper.call) + r->helper.turn;
  if (r->helper.turn && !have_come(r, step, true)) return false;
  shmi_plan_op(c, m.nranks, w->rank, r->helper.turn, m.nranks, &op);
  if (op.kind != SHMI_OP_NONE && r->helper.bytes < op.bytes) {
    const size_t at = r->helper.bytes, bytes = piece_of(op.bytes - at, c->element);
    const void *sources[RANKS_MOST];
    for (int i = 0; i < m.nranks; i++)
      sources[i] =
          shmi_slot_of(w, i, step) + at + (i == w->rank ? shmi_own_operand_offset(c, m.nranks) : op.from_offset);
    reduce(r, c, shmi_slot_of(w, w->rank, step + 1) + op.to_offset + at, sources, bytes);
    r->helper.bytes += bytes;
    return true;
  }
  if (r->moved != step + 1) return false;
  r->words[(step + 1) & 1] = step + 1;
  r->helper.bytes = 0;
  if (++r->helper.turn == c->nsteps) r->helper.turn = 0, r->helper.call++;
  return true;
}

static bool run_one(int which) {
  struct rank *r = &m.ranks[which / (QUEUES + 1)];
  const int part = which % (QUEUES + 1);
  return part == QUEUES ? run_helper(r) : run_queue(r, &r->queues[part]);
}

static bool all_done(void) {
  for (int i = 0; i < m.nranks; i++)
    for (int q = 0; q < QUEUES; q++)
      if (m.ranks[i].queues[q].done < m.ranks[i].queues[q].n) return false;
  return true;
}

/* Starts with one at random, and takes the next that can do something. */
static void run_all(void) {
  const int parts = m.nranks * (QUEUES + 1);
  while (!all_done()) {
    const int first = (int)harness_below(&source, (size_t)parts);
    int i = 0;
    while (i < parts && !run_one((first + i) % parts)) i++;
    CHECK_TEXT(i < parts, "every queue waits: a deadlock");
  }
}

/* ---- calls ------------------------------------------------------------------------------------------------------- */

static void select_call(struct rank *r, int number, const struct call *call, const shmi_options_t *options) {
  struct shmi_call *c = &r->calls[number];
  const struct buffers *b = &r->buffers[number];
  *c = (struct shmi_call){.id = {(uint32_t)call->collective, (uint32_t)call->type,
                                 call_reduces(call) ? (uint32_t)call->op : 0,
                                 call_rooted(call) ? (uint32_t)call->root : 0, call->count},
                          .sendbuf = b->send,
                          .recvbuf = b->recv,
                          .element = shmccl_datatype_size(call->type)};
  CHECK(shmi_select_engines(&r->engines.slots, options, c));
  CHECK(c->nsteps == m.ranks[0].calls[number].nsteps && c->signature == m.ranks[0].calls[number].signature);
}

static void open_model(int nranks) {
  m.nranks = nranks;
  m.lane_bytes = 512 + 128 * harness_below(&source, 20);
  m.slot_bytes = m.lane_bytes * (size_t)(nranks + 1);
  m.steps = (uint32_t)harness_bits(&source);
  m.slots = calloc((size_t)nranks * 2, m.slot_bytes);
  CHECK(m.slots);
  for (int i = 0; i < nranks; i++) {
    struct rank *r = &m.ranks[i];
    r->engines.slots = (struct shmi_world){.rank = i,
                                           .nranks = nranks,
                                           .staging = m.slots,
                                           .staging_stride = 2 * m.slot_bytes,
                                           .slot_bytes = m.slot_bytes,
                                           .lane_bytes = m.lane_bytes};
    r->engines.scratch = calloc(SHMI_SCRATCH_SLOTS, m.slot_bytes);
    CHECK(r->engines.scratch);
    r->words[m.steps & 1] = m.steps;
    r->words[~m.steps & 1] = m.steps - 1;
  }
}

static void close_model(void) {
  free(m.slots);
  for (int i = 0; i < m.nranks; i++) {
    free(m.ranks[i].engines.scratch);
    for (int q = 0; q < QUEUES; q++) free(m.ranks[i].queues[q].items);
  }
  memset(m.ranks, 0, sizeof m.ranks);
}

static struct call next_call(enum shmi_collective collective) {
  struct call c;
  do c = call_random(&source, m.nranks, MOST_BYTES);
  while (c.collective == SHMI_BARRIER || !c.count);
  if (collective != SHMI_COLLECTIVE_COUNT) c.collective = collective;
  return c;
}

static void check_calls(bool one_queue, bool by_cpu, enum shmi_collective collective) {
  const shmi_options_t options = {.engine_bytes = 1,
                                  .cpu_reduce = by_cpu,
                                  .algorithm = harness_below(&source, 3),
                                  .chunk_bytes = harness_below(&source, 4) ? 64 + harness_below(&source, 3000) : 0};
  m.one_queue = one_queue;
  open_model(2 + (int)harness_below(&source, RANKS_MOST - 1));
  for (int i = 0; i < CALLS; i++) {
    const struct call call = next_call(collective);
    char text[256];
    call_text(&call, text);
    harness_note("%d ranks, chunk %llu, algorithm %llu, call %d: %s", m.nranks, (unsigned long long)options.chunk_bytes,
                 (unsigned long long)options.algorithm, i, text);
    for (int k = 0; k < m.nranks; k++) {
      struct rank *r = &m.ranks[k];
      r->prepared[i] = call_prepare(&call, k, m.nranks);
      call_fill(&r->prepared[i], &r->buffers[i]);
      select_call(r, i, &call, &options);
      enqueue(r, &r->calls[i], steps_before(r, i));
    }
  }
  run_all();
  for (int i = 0; i < CALLS; i++)
    for (int k = 0; k < m.nranks; k++) {
      call_check(&m.ranks[k].prepared[i], &m.ranks[k].buffers[i]);
      call_release(&m.ranks[k].prepared[i]);
      call_release_buffers(&m.ranks[k].buffers[i]);
    }
  close_model();
}

/* ---- tests ------------------------------------------------------------------------------------------------------- */

enum { RUNS = 400, BROKEN_RUNS = 2000 };

static void engines_are_right(void **state) {
  (void)state;
  for (int i = 0; i < RUNS; i++) check_calls(false, false, SHMI_COLLECTIVE_COUNT);
}

static void one_queue_is_enough(void **state) {
  (void)state;
  for (int i = 0; i < RUNS; i++) check_calls(true, false, SHMI_COLLECTIVE_COUNT);
}

static void cpus_are_right(void **state) {
  (void)state;
  for (int i = 0; i < RUNS; i++) check_calls(i % 2, true, i % 4 ? SHMI_ALLREDUCE : SHMI_COLLECTIVE_COUNT);
}

static void run_broken(int rank, int nranks, void *context) {
  (void)rank, (void)nranks, (void)context;
  for (int i = 0; i < BROKEN_RUNS; i++) check_calls(m.broken == ORDER, false, SHMI_COLLECTIVE_COUNT);
}

static void expect_broken(const char *how) {
  struct harness_outcome outcome;
  harness_outcomes(1, run_broken, NULL, 100, &outcome);
  m.broken = NOTHING;
  assert_int_equal(outcome.status, 1);
  CHECK_TEXT(strstr(outcome.message, how), "expected '%s', not: %s", how, outcome.message);
}

static void no_join_is_for_nothing(void **state) {
  static const enum shmi_queue pairs[][2] = {{SHMI_QUEUE_UP, SHMI_QUEUE_COMPUTE},
                                             {SHMI_QUEUE_DOWN, SHMI_QUEUE_COMPUTE},
                                             {SHMI_QUEUE_COMPUTE, SHMI_QUEUE_UP},
                                             {SHMI_QUEUE_COMPUTE, SHMI_QUEUE_DOWN}};
  (void)state;
  for (size_t i = 0; i < LENGTH(pairs); i++) {
    m.broken = JOINS;
    m.queue = pairs[i][0], m.other = pairs[i][1];
    expect_broken("recvbuf, element");
  }
}

static void a_wrong_order_is_stuck(void **state) {
  (void)state;
  m.broken = ORDER;
  expect_broken("a deadlock");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(engines_are_right),      cmocka_unit_test(one_queue_is_enough),
      cmocka_unit_test(cpus_are_right),         cmocka_unit_test(no_join_is_for_nothing),
      cmocka_unit_test(a_wrong_order_is_stuck),
  };
  source = harness_random(harness_seed());
  shmi_fpenv_enter();
  return cmocka_run_group_tests(tests, NULL, NULL);
}
