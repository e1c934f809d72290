/*
 * litmus.c - runs litmus.h between blocks of a GPU, of two, of two processes, and the CPU, ordered and with its
 * negative controls. Prints a fact for each; fails if an order was broken, or if what must be noticed was not.
 */
#include "litmus.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "../standin/support.h"
#include "arguments.h"

static const uint64_t PATIENCE_NS = 10000000000;

static uint64_t rounds = 20000, slow_rounds = 300; /* the latter between processes that share a GPU */

enum place { CPU, FIRST_GPU, LAST_GPU };

static const struct pair {
  const char *name;
  enum place writer, reader;
  bool processes;
} pairs[] = {
    {"gpu-gpu", FIRST_GPU, LAST_GPU, false},
    {"gpu-cpu", FIRST_GPU, CPU, false},
    {"cpu-gpu", CPU, FIRST_GPU, false},
    {"gpu-gpu-processes", FIRST_GPU, LAST_GPU, true},
};

/* Both sides see it, whatever they are. */
struct field {
  struct litmus_memory memory;
  struct litmus_tally tallies[2][GPU_LITMUS_THREADS];
};

struct game {
  const struct pair *pair;
  enum litmus_test test;
  enum litmus_order order;
  struct field *field, *device; /* addresses of the same, the latter the GPU's */
  cudaStream_t streams[2];      /* of each side */
  uint64_t rounds;
};

static struct litmus_play play_of(const struct game *g, int side, struct field *field) {
  return (struct litmus_play){.memory = &field->memory,
                              .tallies = field->tallies[side],
                              .rounds = g->rounds,
                              .patience_ns = PATIENCE_NS,
                              .reads = (uint32_t)side,
                              .test = g->test,
                              .order = g->order};
}

static void play_on_cpu(const struct game *g, int side) {
  const struct litmus_play play = play_of(g, side, g->field);
  int failed = 0;
  struct shmi_block block = {.nthreads = 1, .play = &play, .tally = play.tallies, .failed = &failed};
  litmus_run(&block);
}

static enum place place_of(const struct game *g, int side) { return side ? g->pair->reader : g->pair->writer; }

static void use(enum place place) {
  int devices;
  OK(cudaGetDeviceCount(&devices));
  OK(cudaSetDevice(place == LAST_GPU ? devices - 1 : 0));
}

static void play_on_gpu(const struct game *g, int side) {
  struct litmus_play play = play_of(g, side, g->device);
  const dim3 grid = {1, 1, 1}, block = {GPU_LITMUS_THREADS, 1, 1};
  void *arguments[] = {&play};
  use(place_of(g, side));
  OK(cudaLaunchKernel(gpu_kernel_litmus(), grid, block, arguments, 0, g->streams[side]));
  OK(cudaStreamSynchronize(g->streams[side]));
}

/* side: 0 writes, 1 reads. */
static void play(int side, int nsides, void *game) {
  const struct game *g = game;
  (void)nsides;
  if (place_of(g, side) == CPU)
    play_on_cpu(g, side);
  else
    play_on_gpu(g, side);
}

/* All that could wait for a kernel that runs, before any does. */
static void prepare(struct game *g) {
  struct cudaFuncAttributes attributes;
  void *device = NULL;
  for (int side = 0; side < 2; side++) {
    use(place_of(g, side));
    OK(cudaFuncGetAttributes(&attributes, gpu_kernel_litmus()));
    g->streams[side] = new_stream();
  }
  OK(cudaHostRegister(g->field, sizeof *g->field, cudaHostRegisterMapped | cudaHostRegisterPortable));
  OK(cudaHostGetDevicePointer(&device, g->field, 0));
  g->device = device;
}

static void in_process(int rank, int nranks, void *game) {
  struct game *g = game;
  prepare(g);
  if (nranks == 2)
    play(rank, 2, g);
  else
    harness_threads(2, play, g, 100);
  OK(cudaHostUnregister(g->field));
  for (int side = 0; side < 2; side++) OK(cudaStreamDestroy(g->streams[side]));
}

static struct litmus_tally sum(const struct field *f) {
  struct litmus_tally all = {0};
  for (int side = 0; side < 2; side++)
    for (int t = 0; t < GPU_LITMUS_THREADS; t++) {
      const struct litmus_tally *one = &f->tallies[side][t];
      all.stale += one->stale, all.early += one->early, all.wrong += one->wrong, all.late += one->late;
    }
  return all;
}

/* Whether it came out as it must. */
static bool judge(const struct game *g, const struct litmus_tally *t) {
  static const char *const tests[] = {"message", "packets"}, *const orders[] = {"ordered", "plain", "flag-first"};
  const uint64_t bad = t->stale + t->early + t->wrong;
  const bool good = !t->late && (g->order == LITMUS_PLAIN || (bad == 0) == (g->order == LITMUS_ORDERED));
  printf(
      "fact litmus {\"pair\": \"%s\", \"test\": \"%s\", \"order\": \"%s\", \"rounds\": %llu, \"words\": %d, \"stale\": "
      "%llu, \"early\": %llu, \"wrong\": %llu, \"given_up\": %llu, \"as_it_must\": %s}\n",
      g->pair->name, tests[g->test], orders[g->order], (unsigned long long)g->rounds, LITMUS_WORDS,
      (unsigned long long)t->stale, (unsigned long long)t->early, (unsigned long long)t->wrong,
      (unsigned long long)t->late, good ? "true" : "false");
  fflush(stdout);
  return good;
}

static bool run(const struct pair *pair, enum litmus_test test, enum litmus_order order) {
  void *memory = mmap(NULL, sizeof(struct field), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(memory != MAP_FAILED);
  struct game g = {
      .pair = pair, .test = test, .order = order, .field = memory, .rounds = pair->processes ? slow_rounds : rounds};
  harness_processes(pair->processes ? 2 : 1, in_process, &g, 100); /* this process does not use CUDA: it forks */
  const struct litmus_tally tally = sum(g.field);
  CHECK(!munmap(memory, sizeof(struct field)));
  return judge(&g, &tally);
}

int main(int argc, char **argv) {
  const struct argument arguments[] = {{"rounds", &rounds}, {"slow-rounds", &slow_rounds}, {NULL, NULL}};
  bool good = true;
  arguments_read(argc, argv, arguments);
  for (size_t p = 0; p < LENGTH(pairs); p++) {
    for (int order = LITMUS_ORDERED; order <= LITMUS_FLAG_FIRST; order++)
      good &= run(&pairs[p], LITMUS_MESSAGE, (enum litmus_order)order);
    good &= run(&pairs[p], LITMUS_PACKETS, LITMUS_ORDERED);
    good &= run(&pairs[p], LITMUS_PACKETS, LITMUS_FLAG_FIRST);
  }
  return good ? 0 : 1;
}
