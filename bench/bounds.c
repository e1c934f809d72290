/*
 * Measuring the limits, and the bound that follows.
 */
#include "bounds.h"

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>

enum { LATENCY_ROUNDS = 20000, LATENCY_TRIALS = 5, COPY_TRIALS = 3 };
enum { CACHED_COPY_BYTES = 128 << 10, MEMORY_COPY_BYTES = 64 << 20 };

/* ---- latency --------------------------------------------------------------------------------------------------- */

/* One line that two threads write in turn: the even turns are the first's. */
struct line {
  _Alignas(128) atomic_uint turn;
};

struct player {
  struct line *line;
  unsigned parity;
  int cpu; /* -1: any */
  bool yield;
};

static void *play(void *argument) {
  const struct player *player = argument;
  if (player->cpu >= 0) worker_pin(player->cpu);
  for (unsigned i = player->parity; i < 2 * LATENCY_ROUNDS; i += 2) {
    while (atomic_load_explicit(&player->line->turn, memory_order_acquire) != i)
      if (player->yield) sched_yield();
    atomic_store_explicit(&player->line->turn, i + 1, memory_order_release);
  }
  return NULL;
}

/* Seconds for one hand-over. The starting of the threads is part of the time, but small in so many rounds. */
static double ping_pong(int cpu_a, int cpu_b, bool yield) {
  struct line line = {0};
  struct player players[2] = {{&line, 0, cpu_a, yield}, {&line, 1, cpu_b, yield}};
  pthread_t threads[2];
  double start = seconds_now();
  for (int i = 0; i < 2; i++)
    if (pthread_create(&threads[i], NULL, play, &players[i])) return 0;
  for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
  return (seconds_now() - start) / (2 * LATENCY_ROUNDS);
}

static double best_ping_pong(int cpu_a, int cpu_b, bool yield) {
  double best = INFINITY;
  for (int i = 0; i < LATENCY_TRIALS; i++) best = fmin(best, ping_pong(cpu_a, cpu_b, yield));
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

void bounds_measure_latency(struct limits *limits, int nranks) {
  cpu_set_t allowed;
  *limits = (struct limits){.nranks = nranks, .cores = 1};
  if (!sched_getaffinity(0, sizeof allowed, &allowed)) limits->cores = CPU_COUNT(&allowed);
  if (limits->cores > 1 && nranks > 1) limits->handover = best_ping_pong(0, 1, false);
  if (nranks > limits->cores) limits->turn = best_ping_pong(0, 0, true);
  limits->cache_bytes = cache_bytes();
}

/* ---- copies ---------------------------------------------------------------------------------------------------- */

/* Adds the best rate of either kind of store to *best. */
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

static enum party_result measure_rate(struct party *party, uint64_t bytes, uint64_t iters, struct copy_rate *rate) {
  struct command command = {.kind = COMMAND_COPY, .bytes = bytes, .iters = iters};
  enum party_result result = measure_copy(party, command, &rate->together);
  command.alone = 1;
  return result == PARTY_OK ? measure_copy(party, command, &rate->alone) : result;
}

/* The buffers of many ranks together stay at a GiB, which is out of any cache still. */
enum party_result bounds_measure_copies(struct limits *limits, struct party *party) {
  uint64_t bytes = party->nranks <= 8 ? MEMORY_COPY_BYTES : (512u << 20) / (unsigned)party->nranks & ~63u;
  enum party_result result = measure_rate(party, CACHED_COPY_BYTES, 2000, &limits->cached);
  return result == PARTY_OK ? measure_rate(party, bytes, 2, &limits->memory) : result;
}

/* ---- the bound ------------------------------------------------------------------------------------------------- */

/* All ranks' buffers that the point reads or writes. */
static double footprint(const struct point *point, int nranks) {
  int readers = colls[point->coll].send_at_root ? 1 : nranks;
  return (double)point_send_bytes(point, nranks) * readers +
         (double)point_recv_bytes(point, nranks) * point_writers(point, nranks);
}

static double copy_seconds(const struct limits *limits, double footprint_bytes, double bytes, double cached, double memory) {
  double share = 0.5 + 0.5 * log2(fmax(footprint_bytes, 1) / limits->cache_bytes); /* 0: cache only, 1: memory only */
  share = fmin(fmax(share, 0), 1);
  return bytes * ((1 - share) / cached + share / memory);
}

double bounds_seconds(const struct limits *limits, const struct point *point) {
  int nranks = limits->nranks, ranks_of_a_core = (nranks + limits->cores - 1) / limits->cores;
  double bytes = (double)point_recv_bytes(point, nranks), all = footprint(point, nranks);
  double latency = fmax(limits->handover, limits->turn * ranks_of_a_core);
  double one = copy_seconds(limits, all, bytes, limits->cached.alone, limits->memory.alone);
  double total = copy_seconds(limits, all, bytes * point_writers(point, nranks), limits->cached.together,
                              limits->memory.together);
  return fmax(latency, fmax(one, total));
}
