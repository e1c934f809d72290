/*
 * test_device.c - device code (coll/device.h, step.h, packet.h) on the CPU executor: what the kernels run, on threads.
 *
 * Two to five ranks on one mapping, channels of three threads each. Channels go from call to call without meeting;
 * threads are delayed at random; every result is compared bit for bit, and under ThreadSanitizer every access that the
 * protocol does not order is reported as well. Step numbers pass 2^32, and packets get their new flags, in the middle
 * of it.
 *
 * The same program is built with one piece of the protocol missing (SHMI_BREAK_*). Those must fail: CMakeLists.txt.
 */
#include <stdio.h>
#include <string.h>

#include "calls.h"
#include "comm/comm.h"
#include "executor.h"

enum { THREADS = 3, RANKS_MOST = 5, CALLS = 12, THREADS_MOST = RANKS_MOST * SHMI_CHANNELS_MOST * THREADS };
#ifndef DEVICE_RUNS
#define DEVICE_RUNS (HARNESS_SLOW ? 40 : 100)
#endif
static const uint64_t PATIENCE_NS = 20000000000;

struct channel {
  pthread_barrier_t barrier;
  struct executor_shared shared[2]; /* of this kernel and of the one before, in which slower threads may still be */
};

struct rank {
  struct shmi_world world; /* channel 0 */
  struct prepared prepared[CALLS];
  struct buffers buffers[CALLS];
  struct shmi_launch launches[CALLS];
  struct shmi_channel_state states[SHMI_CHANNELS_MOST];
  struct channel channels[SHMI_CHANNELS_MOST];
  uint32_t leave, missed[SHMCCL_MAX_RANKS];
  uint64_t status;
};

struct thread {
  pthread_t id;
  struct rank *rank;
  int tid, channel, ncalls, kernels;
  struct harness_random delays;
};

/* ---- kernels ------------------------------------------------------------------------------------------------------
 */

/* The block that a launch gives to this thread's channel; channels that it has no block for stay out of it. */
static int run_kernel(struct thread *t, const struct shmi_launch *launch) {
  struct channel *channel = &t->rank->channels[t->channel];
  struct shmi_block block = {.tid = t->tid, .nthreads = THREADS, .barrier = &channel->barrier, .delays = &t->delays};
  if (t->channel >= launch->call.channels) return 0;
  block.shared = &channel->shared[t->kernels++ & 1];
  return executor_run(&block, launch, t->channel);
}

static void *run_thread(void *argument) {
  struct thread *t = argument;
  harness_rank = t->rank->world.rank;
  for (int i = 0; i < t->ncalls; i++)
    if (run_kernel(t, &t->rank->launches[i])) break;
  return NULL;
}

static void start_threads(struct thread *threads, struct rank *ranks, int nranks, int channels, int ncalls,
                          struct harness_random *r) {
  for (int i = 0; i < nranks * channels * THREADS; i++) {
    threads[i] = (struct thread){.rank = &ranks[i / THREADS / channels],
                                 .channel = i / THREADS % channels,
                                 .tid = i % THREADS,
                                 .ncalls = ncalls,
                                 .delays = harness_random(harness_bits(r))};
    CHECK(!pthread_create(&threads[i].id, NULL, run_thread, &threads[i]));
  }
}

static void join_threads(struct thread *threads, int n) {
  for (int i = 0; i < n; i++) CHECK(!pthread_join(threads[i].id, NULL));
}

/* ---- ranks --------------------------------------------------------------------------------------------------------
 */

struct setting {
  struct shmi_header header;
  shmi_options_t options;
  uint8_t *segment;
  int channels;
  struct shmi_channel_state start;
};

static struct shmi_launch make_launch(const struct setting *s, struct rank *rank, const struct prepared *p,
                                      const struct buffers *buffers) {
  const struct call *c = &p->call;
  struct shmi_launch launch = {.world = rank->world,
                               .states = rank->states,
                               .leave = &rank->leave,
                               .status = &rank->status,
                               .missed = rank->missed,
                               .patience_ns = PATIENCE_NS};
  launch.call = (struct shmi_call){
      .id = {(uint32_t)c->collective, (uint32_t)c->type, (uint32_t)c->op, (uint32_t)c->root, c->count},
      .sendbuf = buffers->send,
      .recvbuf = buffers->recv,
      .element = shmccl_datatype_size(c->type),
  };
  shmi_select_device(&rank->world, s->channels, &s->options, &launch.call);
  return launch;
}

static void prepare_rank(const struct setting *s, struct rank *rank, int number, const struct call *calls, int ncalls) {
  uint8_t *base = s->segment;
  rank->world =
      shmi_layout_channels(&s->header, base + s->header.control_offset, base + s->header.device_offset, number);
  for (int c = 0; c < s->channels; c++) {
    rank->states[c] = s->start;
    CHECK(!pthread_barrier_init(&rank->channels[c].barrier, NULL, THREADS));
  }
  for (int i = 0; i < ncalls; i++) {
    rank->prepared[i] = call_prepare(&calls[i], number, (int)s->header.nranks);
    call_fill(&rank->prepared[i], &rank->buffers[i]);
    rank->launches[i] = make_launch(s, rank, &rank->prepared[i], &rank->buffers[i]);
  }
}

static void release_rank(const struct setting *s, struct rank *rank, int ncalls) {
  for (int i = 0; i < ncalls; i++) {
    call_release(&rank->prepared[i]);
    call_release_buffers(&rank->buffers[i]);
  }
  for (int c = 0; c < s->channels; c++) pthread_barrier_destroy(&rank->channels[c].barrier);
}

static void check_rank(struct rank *rank, int ncalls) {
  harness_rank = rank->world.rank;
  executor_check_done(rank->status);
  for (int i = 0; i < ncalls; i++) {
    char text[256];
    call_text(&rank->prepared[i].call, text);
    harness_note("%s, %s, %d channels", text, rank->launches[i].call.packets ? "packets" : "slots",
                 rank->launches[i].call.channels);
    call_check(&rank->prepared[i], &rank->buffers[i]);
  }
  harness_rank = -1;
}

/* Steps that pass nothing; that come to the next renewal; and that pass 2^32 right behind one. Lines and packets still
 * hold 0 then, which a counter that had really run so far would have overwritten: 0 comes a little later. */
static struct shmi_channel_state choose_start(struct harness_random *r) {
  const uint64_t limits[] = {0, SHMI_RENEW_EVERY, 1ull << 32};
  const size_t which = harness_below(r, 3);
  struct shmi_channel_state state = {0, 0};
  if (which) state.step = limits[which] - 8 - harness_below(r, 20);
  if (which == 2) state.renewed = state.step - SHMI_RENEW_EVERY;
  return state;
}

static struct setting open_setting(struct harness_random *r, int nranks) {
  struct setting s = {.options = {.staging_bytes = (uint64_t)nranks * (2800 << 10)}};
  CHECK(shmi_layout_make(&s.header, nranks, s.options.staging_bytes, &s.options) && s.header.channels);
  s.channels = 1 + (int)harness_below(r, 2);
  s.options.algorithm = harness_below(r, 3);
  s.options.chunk_bytes = harness_below(r, 2) ? 64 + harness_below(r, 5000) : 0;
  s.start = choose_start(r);
  s.segment = aligned_alloc(SHMI_PAGE, s.header.total_bytes);
  CHECK(s.segment);
  memset(s.segment, 0, s.header.total_bytes);
  return s;
}

/* ---- right results ------------------------------------------------------------------------------------------------
 */

/* Elements on a device are aligned. */
static struct call choose_call(struct harness_random *r, int nranks) {
  const size_t most[] = {64, 2000, 20000};
  struct call c = call_random(r, nranks, 1);
  const size_t element = shmccl_datatype_size(c.type);
  c.count = harness_below(r, most[harness_below(r, 3)]) / element;
  if (c.collective == SHMI_BARRIER) c.count = 0;
  c.send_misalignment -= c.send_misalignment % element;
  c.recv_misalignment -= c.recv_misalignment % element;
  return c;
}

static void run(struct harness_random *r, int nranks) {
  static struct rank ranks[RANKS_MOST];
  struct thread threads[THREADS_MOST];
  struct call calls[CALLS];
  const struct setting s = open_setting(r, nranks);
  memset(ranks, 0, sizeof ranks);
  for (int i = 0; i < CALLS; i++) calls[i] = choose_call(r, nranks);
  for (int n = 0; n < nranks; n++) prepare_rank(&s, &ranks[n], n, calls, CALLS);
  start_threads(threads, ranks, nranks, s.channels, CALLS, r);
  join_threads(threads, nranks * s.channels * THREADS);
  for (int n = 0; n < nranks; n++) {
    check_rank(&ranks[n], CALLS);
    release_rank(&s, &ranks[n], CALLS);
  }
  free(s.segment);
}

/* ---- trouble ------------------------------------------------------------------------------------------------------
 */

enum trouble { DISAGREE, ABSENT, TOLD };

/* Rank 1 makes another call, does not come, or does not come and the host of rank 0 knows it. */
static void run_trouble(struct harness_random *r, enum trouble trouble) {
  static struct rank ranks[2];
  struct thread threads[2 * SHMI_CHANNELS_MOST * THREADS];
  const struct setting s = open_setting(r, 2);
  struct call call = choose_call(r, 2), other;
  memset(ranks, 0, sizeof ranks);
  call.count += call.collective != SHMI_BARRIER;
  other = call;
  other.collective = call.collective == SHMI_BARRIER ? SHMI_ALLGATHER : SHMI_BARRIER;
  other.count = call.collective == SHMI_BARRIER;
  for (int n = 0; n < 2; n++) {
    prepare_rank(&s, &ranks[n], n, n && trouble == DISAGREE ? &other : &call, 1);
    if (trouble == ABSENT) ranks[n].launches[0].patience_ns = 20000000;
  }
  start_threads(threads, ranks, trouble == DISAGREE ? 2 : 1, s.channels, 1, r);
  if (trouble == TOLD) shmi_note32(&ranks[0].leave, 1);
  join_threads(threads, (trouble == DISAGREE ? 2 : 1) * s.channels * THREADS);
  executor_expect(ranks[0].status, 0,
                  trouble == DISAGREE ? SHMI_DEVICE_MISMATCH
                  : trouble == ABSENT ? SHMI_DEVICE_LATE
                                      : SHMI_DEVICE_TOLD,
                  1);
  if (trouble == DISAGREE) executor_expect(ranks[1].status, 1, SHMI_DEVICE_MISMATCH, 0);
  for (int n = 0; n < 2; n++) release_rank(&s, &ranks[n], 1);
  free(s.segment);
}

int main(void) {
  struct harness_random r = harness_random(harness_seed());
  for (int i = 0; i < DEVICE_RUNS; i++) {
    harness_note("run %d of %d", i + 1, DEVICE_RUNS);
    run(&r, 2 + i % (RANKS_MOST - 1));
  }
  for (int i = 0; i < DEVICE_RUNS; i++) run_trouble(&r, (enum trouble)(i % 3));
  return 0;
}
