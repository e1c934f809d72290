/*
 * test_messages.c - groups of send and recv (coll/messages.h) on the CPU executor: what the kernel runs, on threads.
 *
 * Two to four ranks on one mapping, each lane a block of three threads. Lanes go from group to group without meeting
 * and threads are delayed at random; every byte is compared, and under ThreadSanitizer every access that the protocol
 * does not order is reported as well. Numbers of pieces begin right below 2^32 for half of the pairs.
 *
 * The same program is built with one piece of the protocol missing (SHMI_BREAK_*). Those must fail: CMakeLists.txt.
 */
#include <string.h>

#include "comm/device.h"
#include "executor.h"
#include "messages.h"

enum { THREADS = 3, RANKS_MOST = 4, GROUPS = 5, MESSAGES_MOST = 20 };
#ifndef MESSAGE_RUNS
#define MESSAGE_RUNS (HARNESS_SLOW ? 30 : 80)
#endif
#ifndef PATIENCE_MS
#define PATIENCE_MS 20000
#endif

struct block {
  pthread_barrier_t barrier;
  struct executor_shared shared[2]; /* of this kernel and of the one before, in which slower threads may still be */
};

struct rank {
  struct shmi_world world;
  struct message messages[GROUPS][MESSAGES_MOST];
  struct shmi_group groups[GROUPS];
  struct shmi_pieces pieces;
  struct block blocks[2][RANKS_MOST]; /* by direction and peer */
  uint32_t leave, missed[SHMCCL_MAX_RANKS];
  uint64_t status;
};

struct setting {
  struct shmi_header header;
  uint8_t *segment;
  uint64_t pair_bytes;
  uint32_t pieces[RANKS_MOST][RANKS_MOST]; /* from one to another, before */
};

/* ---- kernels ------------------------------------------------------------------------------------------------------
 */

struct thread {
  pthread_t id;
  struct rank *rank;
  int peer, is_send, tid, ngroups, kernels;
  struct harness_random delays;
};

/* This thread's lane of a group; -1: nothing to do in it. */
static int find_lane(const struct thread *t, const struct shmi_group *g) {
  for (uint32_t i = 0; i < g->nlanes; i++)
    if (g->lanes[i].peer == t->peer && g->lanes[i].is_send == t->is_send) return (int)i;
  return -1;
}

static int run_kernel(struct thread *t, const struct shmi_group *g) {
  struct block *block = &t->rank->blocks[t->is_send][t->peer];
  struct shmi_block b = {.tid = t->tid, .nthreads = THREADS, .barrier = &block->barrier, .delays = &t->delays};
  const int lane = find_lane(t, g);
  if (lane < 0) return 0;
  b.shared = &block->shared[t->kernels++ & 1];
  return executor_run_group(&b, g, lane);
}

static void *run_thread(void *argument) {
  struct thread *t = argument;
  harness_rank = t->rank->world.rank;
  for (int i = 0; i < t->ngroups; i++)
    if (run_kernel(t, &t->rank->groups[i])) break;
  return NULL;
}

static int start_rank(struct thread *threads, struct rank *rank, int ngroups, struct harness_random *r) {
  int n = 0;
  for (int i = 0; i < 2 * rank->world.nranks * THREADS; i++) {
    struct thread *t = &threads[n];
    *t = (struct thread){.rank = rank,
                         .tid = i % THREADS,
                         .is_send = i / THREADS % 2,
                         .peer = i / THREADS / 2,
                         .ngroups = ngroups,
                         .delays = harness_random(harness_bits(r))};
    if (t->peer == rank->world.rank) continue;
    CHECK(!pthread_create(&t->id, NULL, run_thread, t));
    n++;
  }
  return n;
}

/* Ranks [first, last]. */
static void run_ranks(struct rank *ranks, int first, int last, int ngroups, struct harness_random *r) {
  struct thread threads[RANKS_MOST * 2 * RANKS_MOST * THREADS];
  int n = 0;
  for (int i = first; i <= last; i++) n += start_rank(&threads[n], &ranks[i], ngroups, r);
  for (int i = 0; i < n; i++) CHECK(!pthread_join(threads[i].id, NULL));
}

/* ---- ranks --------------------------------------------------------------------------------------------------------
 */

static struct setting open_setting(struct harness_random *r, int nranks) {
  const shmi_options_t options = {.staging_bytes = (uint64_t)nranks * (2800 << 10)};
  struct setting s = {.pair_bytes = 16 * (1 + harness_below(r, 60))};
  CHECK(shmi_layout_make(&s.header, nranks, options.staging_bytes, &options) && s.header.channels);
  for (int i = 0; i < nranks * nranks; i++)
    s.pieces[i / nranks][i % nranks] = harness_below(r, 2) ? 0 : (uint32_t) - (int32_t)harness_below(r, 30);
  s.segment = aligned_alloc(SHMI_PAGE, s.header.total_bytes);
  CHECK(s.segment);
  memset(s.segment, 0, s.header.total_bytes);
  return s;
}

/* What a rank would have left in its lines, had the pieces before been sent and received. */
static void leave_lines(const struct setting *s, struct rank *rank, int peer) {
  const struct shmi_message_id none = {0, 0, 0};
  const int me = rank->world.rank;
  const uint32_t sent = s->pieces[me][peer], received = s->pieces[peer][me];
  rank->pieces.sent[peer] = sent;
  rank->pieces.received[peer] = received;
  for (uint32_t i = 0; sent && i < SHMI_PAIR_SLOTS; i++) shmi_pair_publish(&rank->world, peer, sent - i, 0, &none);
  shmi_pair_empty(&rank->world, peer, received);
}

static void open_rank(const struct setting *s, struct rank *rank, int number) {
  uint8_t *base = s->segment;
  memset(rank, 0, sizeof *rank);
  rank->world =
      shmi_layout_device_pairs(&s->header, base + s->header.control_offset, base + s->header.device_offset, number);
  rank->world.pair_bytes = s->pair_bytes;
  for (int peer = 0; peer < (int)s->header.nranks; peer++) {
    if (peer != number) leave_lines(s, rank, peer);
    for (int is_send = 0; is_send < 2; is_send++)
      CHECK(!pthread_barrier_init(&rank->blocks[is_send][peer].barrier, NULL, THREADS));
  }
}

static void close_rank(struct rank *rank) {
  for (int i = 0; i < 2 * rank->world.nranks; i++) pthread_barrier_destroy(&rank->blocks[i % 2][i / 2].barrier);
}

static void note_message(shmccl_comm_t *comm, struct message *m, bool is_send) {
  comm->messages[comm->nmessages++] = (struct shmi_message){.is_send = is_send,
                                                            .peer = is_send ? m->to : m->from,
                                                            .buffer = is_send ? m->send.data : m->recv.data,
                                                            .bytes = message_bytes(m),
                                                            .id = {.count = m->count, .datatype = (uint32_t)m->type},
                                                            .signature = (uint32_t)(m->count * 16 + (size_t)m->type),
                                                            .on_device = true};
}

/* Group `number` as host code makes it of these messages. */
static void make_group(struct rank *rank, int number, size_t count, struct harness_random *r) {
  struct shmi_message noted[MESSAGES_MOST];
  struct shmccl_comm comm = {.rank = rank->world.rank, .nranks = rank->world.nranks, .messages = noted};
  struct shmi_group *group = &rank->groups[number];
  group->launch = (struct shmi_launch){.world = rank->world,
                                       .leave = &rank->leave,
                                       .status = &rank->status,
                                       .missed = rank->missed,
                                       .patience_ns = PATIENCE_MS * 1000000ull,
                                       .call = {.element = 1}};
  group->pieces = &rank->pieces;
  for (size_t i = 0; i < count; i++) {
    struct message *m = &rank->messages[number][i];
    message_open(m, comm.rank, r);
    if (m->from == comm.rank || m->to == comm.rank) note_message(&comm, m, m->from == comm.rank);
  }
  shmi_device_add_lanes(&comm, group);
}

/* ---- right results ------------------------------------------------------------------------------------------------
 */

static struct message choose_message(struct harness_random *r, const struct setting *s) {
  const int nranks = (int)s->header.nranks;
  struct message m = message_random(r, nranks, 16 * s->pair_bytes);
  if (m.from == m.to) m.to = (m.from + 1) % nranks; /* those are copies, without the kernel */
  return m;
}

static void check_rank(struct rank *rank, const size_t *counts) {
  harness_rank = rank->world.rank;
  executor_check_done(rank->status);
  for (int g = 0; g < GROUPS; g++)
    for (size_t i = 0; i < counts[g]; i++) message_close(&rank->messages[g][i], rank->world.rank);
  harness_rank = -1;
}

static void run(struct harness_random *r, int nranks) {
  static struct rank ranks[RANKS_MOST];
  struct message messages[GROUPS][MESSAGES_MOST];
  size_t counts[GROUPS];
  const struct setting s = open_setting(r, nranks);
  for (int g = 0; g < GROUPS; g++) {
    counts[g] = harness_below(r, MESSAGES_MOST + 1);
    for (size_t i = 0; i < counts[g]; i++) messages[g][i] = choose_message(r, &s);
  }
  for (int n = 0; n < nranks; n++) {
    open_rank(&s, &ranks[n], n);
    for (int g = 0; g < GROUPS; g++) {
      memcpy(ranks[n].messages[g], messages[g], counts[g] * sizeof *messages[g]);
      make_group(&ranks[n], g, counts[g], r);
    }
  }
  run_ranks(ranks, 0, nranks - 1, GROUPS, r);
  for (int n = 0; n < nranks; n++) {
    check_rank(&ranks[n], counts);
    close_rank(&ranks[n]);
  }
  free(s.segment);
}

/* ---- trouble ------------------------------------------------------------------------------------------------------
 */

enum trouble { DISAGREE, ABSENT, TOLD };

/* What each of the two wanted lies where the host will look for it. */
static void check_lines(const struct rank *receiver, const struct message *sent, const struct message *awaited) {
  const struct shmi_world *w = &receiver->world;
  const struct shmi_pair_in *in = shmi_pair_in_of(w, 1, 0);
  CHECK(in->awaited.count == awaited->count && in->awaited.datatype == (uint32_t)awaited->type);
  CHECK(shmi_pair_out_of(w, 0, 1)->message[(in->emptied + 1) % SHMI_PAIR_SLOTS].count == sent->count);
}

/* Rank 0 sends what rank 1 does not receive: it awaits one element more, or does not get to it. Or rank 1 receives what
 * nobody sends, in time or until its host knows it. */
static void run_trouble(struct harness_random *r, enum trouble trouble) {
  static struct rank ranks[2];
  const struct setting s = open_setting(r, 2);
  const bool many = harness_below(r, 2); /* more than there are slots */
  struct message m = {0, 1, SHMCCL_FLOAT16, many ? 3 * s.pair_bytes : 3, harness_bits(r), {0}, {0}};
  for (int n = 0; n < 2; n++) {
    open_rank(&s, &ranks[n], n);
    ranks[n].messages[0][0] = m;
    ranks[n].messages[0][0].count += n == 1 && trouble == DISAGREE;
    make_group(&ranks[n], 0, 1, r);
    if (trouble == ABSENT || (trouble == DISAGREE && n == 0)) ranks[n].groups[0].launch.patience_ns = 20000000;
  }
  if (trouble == TOLD) ranks[0].leave = ranks[1].leave = 1;
  run_ranks(ranks, trouble == DISAGREE || many ? 0 : 1, trouble == DISAGREE ? 1 : many ? 0 : 1, 1, r);
  if (trouble == DISAGREE) check_lines(&ranks[1], &ranks[0].messages[0][0], &ranks[1].messages[0][0]);
  if (trouble == DISAGREE) executor_expect(ranks[1].status, 1, SHMI_DEVICE_MESSAGE, 0);
  if (trouble != DISAGREE)
    executor_expect(ranks[!many].status, !many, trouble == ABSENT ? SHMI_DEVICE_LATE : SHMI_DEVICE_TOLD, many);
  for (int n = 0; n < 2; n++) {
    message_release(&ranks[n].messages[0][0]);
    close_rank(&ranks[n]);
  }
  free(s.segment);
}

int main(void) {
  struct harness_random r = harness_random(harness_seed());
  for (int i = 0; i < MESSAGE_RUNS; i++) {
    harness_note("run %d of %d", i + 1, MESSAGE_RUNS);
    run(&r, 2 + i % (RANKS_MOST - 1));
  }
  for (int i = 0; i < MESSAGE_RUNS / 2; i++) run_trouble(&r, (enum trouble)(i % 3));
  return 0;
}
