/*
 * test_block.c - the protocol of coll/step.h on blocks of four threads, as a GPU would run it: a block of one thread
 * hides a missing barrier.
 *
 * Two and three ranks on one mapping, four threads each with a real barrier, tiles of 64 bytes, so that every thread
 * has a part of every operation. Threads go from call to call without meeting in between, are delayed at random before
 * their part of a turn and while they wait, and every result is compared bit for bit. Under ThreadSanitizer every
 * access that the protocol does not order is reported as well.
 *
 * The same program is built with one piece of the protocol missing (SHMI_BREAK_SYNC, _SLOTS, _PUBLISH, _OBSERVE). Those
 * must fail, by wrong data within BLOCK_RUNS runs or by a data race that ThreadSanitizer reports: CMakeLists.txt.
 */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "calls.h"
#include "coll/host.h"
#include "comm/comm.h"

enum { THREADS = 4, RANKS_MOST = 3, CALLS = 12, TILE = 64 };
#ifndef BLOCK_RUNS
#define BLOCK_RUNS 60
#endif
static const uint64_t AWAIT_MOST_NS = 20000000000;

static _Thread_local struct harness_random delays;

static void delayed_operate(const struct shmi_block *b, uint32_t turn) {
  harness_delay(&delays);
  shmi_block_operate(b, turn);
}
#define shmi_block_operate delayed_operate
#include "coll/step.h"

/* ---- ranks ------------------------------------------------------------------------------------------------------- */

struct rank {
  struct shmi_world world;
  struct prepared prepared[CALLS];
  struct buffers buffers[CALLS];
  struct shmi_call calls[CALLS];
  pthread_barrier_t barrier;
  int agreed;
};

struct thread {
  pthread_t id;
  struct rank *rank;
  int tid;
  uint32_t steps; /* each thread counts for itself: there is no meeting between calls */
  uint64_t seed;
  int stream;
  uint64_t far;
};

struct waiting {
  const struct shmi_world *world;
  const struct shmi_call *call;
};

static int await(void *context, uint32_t step) {
  const struct waiting *w = context;
  const uint64_t deadline = shmi_now_ns() + AWAIT_MOST_NS;
  for (int peer = 0; peer < w->world->nranks; peer++) {
    uint64_t word;
    harness_delay(&delays);
    while (word = shmi_observe64(&shmi_step_of(w->world, peer, step)->word), shmi_word_generation(word) != step) {
      sched_yield();
      CHECK_TEXT(shmi_now_ns() < deadline, "step %u of rank %d does not come", step, peer);
    }
    CHECK(shmi_word_signature(word) == w->call->signature);
  }
  return 0;
}

static void run_call(struct thread *t, const struct shmi_call *call) {
  struct waiting waiting = {&t->rank->world, call};
  struct shmi_block block = {.tid = t->tid,
                             .nthreads = THREADS,
                             .step = t->steps,
                             .world = &t->rank->world,
                             .call = call,
                             .tile = TILE,
                             .stream = t->stream && (uintptr_t)call->recvbuf % call->element == 0,
                             .far = t->far,
                             .await = await,
                             .context = &waiting,
                             .barrier = &t->rank->barrier,
                             .agreed = &t->rank->agreed};
  block.reduce = shmi_reduce_lookup((shmccl_datatype_t)call->id.datatype, (shmccl_redop_t)call->id.op);
  CHECK(shmi_block_run(&block) == 0);
  t->steps = block.step;
}

static void *run_thread(void *argument) {
  struct thread *t = argument;
  harness_rank = t->rank->world.rank;
  delays = harness_random(t->seed);
  for (int i = 0; i < CALLS; i++) run_call(t, &t->rank->calls[i]);
  shmi_stream_fence();
  return NULL;
}

/* ---- one run ----------------------------------------------------------------------------------------------------- */

static struct shmi_call make_call(const shmccl_comm_t *comm, const struct prepared *p, const struct buffers *buffers) {
  const struct call *c = &p->call;
  struct shmi_call call = {
      .id = {(uint32_t)c->collective, (uint32_t)c->type, (uint32_t)c->op, (uint32_t)c->root, c->count},
      .sendbuf = buffers->send,
      .recvbuf = buffers->recv,
      .element = shmccl_datatype_size(c->type),
  };
  shmi_select(comm, &call);
  return call;
}

static void prepare_rank(struct rank *rank, const shmccl_comm_t *settings, const struct shmi_header *header,
                         uint8_t *segment, int number, const struct call *calls) {
  rank->world = shmi_layout_world(header, segment, number);
  pthread_barrier_init(&rank->barrier, NULL, THREADS);
  for (int i = 0; i < CALLS; i++) {
    rank->prepared[i] = call_prepare(&calls[i], number, settings->nranks);
    call_fill(&rank->prepared[i], &rank->buffers[i]);
    rank->calls[i] = make_call(settings, &rank->prepared[i], &rank->buffers[i]);
  }
}

static void finish_rank(struct rank *rank) {
  harness_rank = rank->world.rank;
  for (int i = 0; i < CALLS; i++) {
    call_check(&rank->prepared[i], &rank->buffers[i]);
    call_release(&rank->prepared[i]);
    call_release_buffers(&rank->buffers[i]);
  }
  pthread_barrier_destroy(&rank->barrier);
  harness_rank = -1;
}

static void run_threads(struct rank *ranks, int nranks, struct harness_random *r) {
  struct thread threads[RANKS_MOST * THREADS];
  const int stream = (int)harness_below(r, 2);
  const uint64_t far = harness_below(r, 2) ? harness_bits(r) : 0;
  for (int i = 0; i < nranks * THREADS; i++) {
    threads[i] = (struct thread){.rank = &ranks[i / THREADS], .tid = i % THREADS, .stream = stream, .far = far};
    threads[i].seed = harness_bits(r);
    CHECK(!pthread_create(&threads[i].id, NULL, run_thread, &threads[i]));
  }
  for (int i = 0; i < nranks * THREADS; i++) CHECK(!pthread_join(threads[i].id, NULL));
}

/* Messages of up to a dozen steps. */
static struct call choose_call(struct harness_random *r, int nranks, size_t chunk_bytes) {
  struct call c = call_random(r, nranks, 1);
  c.count = harness_below(r, 12 * chunk_bytes) / shmccl_datatype_size(c.type);
  if (c.collective == SHMI_BARRIER) c.count = 0;
  return c;
}

static void run(struct harness_random *r, const struct shmi_header *header, uint8_t *segment) {
  struct rank ranks[RANKS_MOST] = {0};
  shmccl_comm_t settings = {.nranks = (int)header->nranks, .world = shmi_layout_world(header, segment, 0)};
  struct call calls[CALLS];
  settings.options.algorithm = harness_below(r, 3);
  settings.options.chunk_bytes = 64 + harness_below(r, 5000);
  settings.world.window_bytes = harness_below(r, 2) ? header->window_bytes : 0;
  for (int i = 0; i < CALLS; i++) calls[i] = choose_call(r, settings.nranks, settings.options.chunk_bytes);
  memset(segment, 0, header->total_bytes);
  for (int n = 0; n < settings.nranks; n++) prepare_rank(&ranks[n], &settings, header, segment, n, calls);
  run_threads(ranks, settings.nranks, r);
  for (int n = 0; n < settings.nranks; n++) finish_rank(&ranks[n]);
}

int main(void) {
  struct harness_random r = harness_random(harness_seed());
  for (int i = 0; i < BLOCK_RUNS; i++) {
    const int nranks = 2 + i % (RANKS_MOST - 1);
    const shmi_options_t options = {.staging_bytes = shmi_layout_least_staging(nranks)};
    struct shmi_header header;
    harness_note("run %d of %d", i + 1, BLOCK_RUNS);
    CHECK(shmi_layout_make(&header, nranks, options.staging_bytes, &options));
    uint8_t *segment = aligned_alloc(SHMI_PAGE, header.total_bytes);
    CHECK(segment);
    run(&r, &header, segment);
    free(segment);
  }
  return 0;
}
