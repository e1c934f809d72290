/*
 * Measuring the limits, and the bound that follows.
 */
#include "bounds.h"

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

/* Many short trials: on a busy machine a few of them are left alone. On a very busy one each takes long: not all are
 * made. */
enum { LATENCY_WARMUP = 200, LATENCY_ROUNDS = 5000, LATENCY_TRIALS = 20, COPY_TRIALS = 4 };
static const double LATENCY_SECONDS = 1;
enum { CACHED_COPY_BYTES = 128 << 10, MEMORY_COPY_BYTES = 64 << 20 };

/* ---- latency ---------------------------------------------------------------------------------------------------- */

/* One line that two threads write in turn: the even turns are the first's. */
struct line {
  _Alignas(128) atomic_uint turn;
};

struct player {
  struct line *line;
  const cpu_set_t *cpus;
  unsigned parity;
  int core;
  bool yield;
  double seconds; /* result: of one hand-over */
};

static void play_rounds(const struct player *player, unsigned from, unsigned to) {
  for (unsigned i = 2 * from + player->parity; i < 2 * to; i += 2) {
    while (atomic_load_explicit(&player->line->turn, memory_order_acquire) != i)
      if (player->yield) sched_yield();
    atomic_store_explicit(&player->line->turn, i + 1, memory_order_release);
  }
}

static void *play(void *argument) {
  struct player *player = argument;
  worker_pin(player->cpus, player->core);
  play_rounds(player, 0, LATENCY_WARMUP);
  double start = seconds_now();
  play_rounds(player, LATENCY_WARMUP, LATENCY_WARMUP + LATENCY_ROUNDS);
  player->seconds = (seconds_now() - start) / (2 * LATENCY_ROUNDS);
  return NULL;
}

/* Seconds for one hand-over, as the slower side sees it. */
static double ping_pong(const cpu_set_t *cpus, int core_a, int core_b, bool yield) {
  struct line line = {0};
  struct player players[2] = {{&line, cpus, 0, core_a, yield, 0}, {&line, cpus, 1, core_b, yield, 0}};
  pthread_t threads[2];
  for (int i = 0; i < 2; i++)
    if (pthread_create(&threads[i], NULL, play, &players[i])) abort(); /* the first thread waits for the second */
  for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
  return fmax(players[0].seconds, players[1].seconds);
}

static double best_ping_pong(const cpu_set_t *cpus, int core_a, int core_b, bool yield) {
  double best = INFINITY, start = seconds_now();
  for (int i = 0; i < LATENCY_TRIALS && (!i || seconds_now() - start < LATENCY_SECONDS); i++)
    best = fmin(best, ping_pong(cpus, core_a, core_b, yield));
  return best;
}

/* Of one core's last level. The kernel knows it; sysconf() reports ten times as much on some virtual machines. */
static double cache_bytes(void) {
  double kib = 0;
  FILE *file = fopen("/sys/devices/system/cpu/cpu0/cache/index3/size", "re");
  if (file && fscanf(file, "%lfK", &kib) != 1) kib = 0;
  if (file) fclose(file);
  return kib > 0 ? kib * 1024 : 32 << 20;
}

void bounds_begin(struct limits *limits, int nranks, const cpu_set_t *cpus, const struct gpu_card *cards) {
  *limits = (struct limits){.nranks = nranks, .cores = CPU_COUNT(cpus), .cpus = *cpus, .cache_bytes = cache_bytes()};
  if (cards) link_begin(&limits->link, nranks, cards);
}

void bounds_measure_latency(struct limits *limits) {
  if (limits->link.gpus) return;
  if (limits->cores > 1 && limits->nranks > 1) limits->handover = best_ping_pong(&limits->cpus, 0, 1, false);
  if (limits->nranks > limits->cores) limits->turn = best_ping_pong(&limits->cpus, 0, 0, true);
}

/* ---- copies ----------------------------------------------------------------------------------------------------- */

/* Raises *best to the best rate of either kind of store. */
static enum party_result measure_copy(struct party *party, struct command command, double *best) {
  int writers = command.alone ? 1 : party->nranks;
  for (int i = 0; i < 2 * COPY_TRIALS; i++) {
    struct outcome outcome;
    command.streaming = i % 2;
    enum party_result result = party_do(party, &command, &outcome);
    if (result != PARTY_OK) return result;
    *best = fmax(*best, (double)command.bytes * writers / outcome.slowest);
  }
  return PARTY_OK;
}

/* Ranks that share a core may copy one after the other and each believe to have been quick: more than all cores at the
 * rate of one there cannot be. */
static enum party_result measure_rate(const struct limits *limits, struct party *party, uint64_t bytes, uint64_t iters,
                                      struct copy_rate *rate) {
  struct command command = {.kind = COMMAND_COPY, .bytes = bytes, .iters = iters};
  int at_once = limits->cores < party->nranks ? limits->cores : party->nranks;
  enum party_result result = measure_copy(party, command, &rate->together);
  command.alone = 1;
  if (result == PARTY_OK) result = measure_copy(party, command, &rate->alone);
  rate->together = fmin(rate->together, rate->alone * at_once);
  return result;
}

/* The buffers of many ranks together stay at a GiB, which is out of any cache still. */
enum party_result bounds_measure_rates(struct limits *limits, struct party *party) {
  if (limits->link.gpus) return link_measure(&limits->link, party);
  uint64_t bytes = party->nranks <= 8 ? MEMORY_COPY_BYTES : (512u << 20) / (unsigned)party->nranks & ~63u;
  enum party_result result = measure_rate(limits, party, CACHED_COPY_BYTES, 4000, &limits->cached);
  return result == PARTY_OK ? measure_rate(limits, party, bytes, 1, &limits->memory) : result;
}

/* ---- the bound -------------------------------------------------------------------------------------------------- */

/* All ranks' buffers that the point reads or writes. */
static double footprint(const struct point *point, int nranks) {
  int readers = colls[point->coll].send_at_root ? 1 : nranks;
  return (double)point_send_bytes(point, nranks) * readers +
         (double)point_recv_bytes(point, nranks) * point_writers(point, nranks);
}

static double copy_seconds(const struct limits *limits, double footprint_bytes, double bytes, double cached,
                           double memory) {
  double share = 0.5 + 0.5 * log2(fmax(footprint_bytes, 1) / limits->cache_bytes); /* 0: cache only, 1: memory only */
  share = fmin(fmax(share, 0), 1);
  return bytes * ((1 - share) / cached + share / memory);
}

double bounds_seconds(const struct limits *limits, const struct point *point) {
  if (limits->link.gpus) return link_seconds(&limits->link, point, limits->nranks);
  int nranks = limits->nranks, ranks_of_a_core = (nranks + limits->cores - 1) / limits->cores;
  double bytes = (double)point_recv_bytes(point, nranks), all = footprint(point, nranks);
  double latency = fmax(limits->handover, limits->turn * ranks_of_a_core) / point->messages;
  double one = copy_seconds(limits, all, bytes, limits->cached.alone, limits->memory.alone);
  double total =
      copy_seconds(limits, all, bytes * point_writers(point, nranks), limits->cached.together, limits->memory.together);
  return fmax(latency, fmax(one, total));
}
