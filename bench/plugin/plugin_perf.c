/*
 * shmccl-perf-plugin - an all-reduce through the NCCL plugin, as NCCL would do it: a ring over net against CollNet, and
 * beside them the engine alone and the copies that a ring cannot do without. On host memory, without NCCL.
 *
 * The ways take turns, size by size, and each keeps its median. What a GPU's kernels do is done, and its result
 * verified, before the clock starts; timed is the plugin's part.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "way.h"

enum { WAYS = 4, TRIALS = 9, WARM_UP = 5 };
static const struct way *const ways[WAYS] = {&way_ring, &way_collnet, &way_engine, &way_copies};
static const double TRIAL_SECONDS = 0.02;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Small integers, so that every order of adding gives the same sum. */
static float value_of(int rank, size_t i) { return (float)(rank + (int)(i % 13)); }

static void verify(const struct team *team, const struct way *way, const float *recvbuf, size_t count) {
  if (way == &way_copies) return;
  for (size_t i = 0; i < count; i++) {
    float sum = 0;
    for (int r = 0; r < team->nranks; r++) sum += value_of(r, i);
    if (recvbuf[i] != sum)
      team_fail(team, "%s: element %zu of %zu is %g, must be %g", way->name, i, count, recvbuf[i], sum);
  }
}

struct buffers {
  float *send, *recv;
};

/* Seconds of one call of the slowest rank. */
static double measure(const struct team *team, const struct way *way, void *self, const struct buffers *b, size_t count,
                      int calls, int kernel) {
  team_meet(team);
  const double start = now();
  for (int i = 0; i < calls; i++) way->allreduce(self, b->send, b->recv, count, kernel);
  return team_most(team, (now() - start) / calls);
}

static int compare(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static void row(const struct team *team, void *const *selves, const struct buffers *b, size_t bytes) {
  const size_t count = bytes / sizeof(float);
  double seconds[WAYS][TRIALS];
  int calls[WAYS];
  for (int w = 0; w < WAYS; w++) {
    memset(b->recv, 0, bytes);
    measure(team, ways[w], selves[w], b, count, 1, 1);
    verify(team, ways[w], b->recv, count);
    const double first = measure(team, ways[w], selves[w], b, count, WARM_UP, 0);
    calls[w] = (int)fmin(fmax(TRIAL_SECONDS / first, 1), 10000);
  }
  for (int t = 0; t < TRIALS; t++)
    for (int w = 0; w < WAYS; w++) seconds[w][t] = measure(team, ways[w], selves[w], b, count, calls[w], 0);
  if (team->rank) return;
  for (int w = 0; w < WAYS; w++) qsort(seconds[w], TRIALS, sizeof(double), compare);
  printf("%12zu", bytes);
  for (int w = 0; w < WAYS; w++) printf(" %10.2f", 1e6 * seconds[w][TRIALS / 2]);
  printf(" %10.2f\n", seconds[0][TRIALS / 2] / seconds[1][TRIALS / 2]);
  fflush(stdout);
}

static float *buffer(const struct team *team, size_t bytes) {
  float *memory = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
  if (!memory) team_fail(team, "no memory for %zu bytes", bytes);
  return memory;
}

static void run(const struct team *team, const char *plugin, size_t least, size_t most) {
  const struct buffers b = {buffer(team, most), buffer(team, most)};
  void *selves[WAYS];
  for (size_t i = 0; i < most / sizeof(float); i++) b.send[i] = value_of(team->rank, i);
  for (int w = 0; w < WAYS; w++) selves[w] = ways[w]->open(team, plugin);
  if (!team->rank) {
    printf("# %d ranks, float32, sum; microseconds; copies: what a ring copies, and nothing else\n%12s", team->nranks,
           "# size (B)");
    for (int w = 0; w < WAYS; w++) printf(" %10s", ways[w]->name);
    printf(" %10s\n", "ring/coll");
  }
  for (size_t bytes = least; bytes <= most; bytes *= 4) row(team, selves, &b, bytes);
  for (int w = 0; w < WAYS; w++) {
    team_meet(team);
    ways[w]->close(selves[w]);
  }
  free(b.send);
  free(b.recv);
}

static size_t number(const char *text, size_t least, size_t most) {
  char *end;
  const unsigned long long value = strtoull(text, &end, 10);
  const unsigned shift = *end == 'K' ? 10 : *end == 'M' ? 20 : 0;
  if (*text >= '0' && *text <= '9' && !end[shift != 0] && value << shift >= least && value << shift <= most)
    return (size_t)value << shift;
  fprintf(stderr, "shmccl-perf-plugin: '%s': give a number from %zu to %zu\n", text, least, most);
  exit(2);
}

int main(int argc, char **argv) {
  const char *const defaults[] = {argv[0], "4", "1K", "16M", PLUGIN_FILE};
  const char *words[5];
  if (argc > 5 || (argc > 1 && argv[1][0] == '-')) {
    printf("usage: shmccl-perf-plugin [RANKS [LEAST_BYTES [MOST_BYTES [PLUGIN_FILE]]]]\n"
           "default: %s %s %s %s; sizes rise by a factor of 4; K and M are 2^10 and 2^20\n",
           defaults[1], defaults[2], defaults[3], defaults[4]);
    return argc == 2 && !strcmp(argv[1], "--help") ? 0 : 2;
  }
  for (int i = 0; i < 5; i++) words[i] = i < argc ? argv[i] : defaults[i];
  const int nranks = (int)number(words[1], 2, TEAM_MOST);
  const size_t least = number(words[2], 64, 1 << 30), most = number(words[3], least, 1 << 30);
  const struct team team = team_start(nranks);
  run(&team, words[4], least, most);
  return team_end(&team);
}
