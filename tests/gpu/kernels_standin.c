/* kernels_standin.c - kernels.h for the stand-in runtime. */
#include <time.h>

#include "cudart_standin.h"
#include "litmus.h"

enum { THREADS = 3 }; /* of a block */

static char spin_symbol, chase_symbol, litmus_symbol; /* only their addresses count */

const void *gpu_kernel_spin(void) { return &spin_symbol; }
const void *gpu_kernel_chase(void) { return &chase_symbol; }
const void *gpu_kernel_litmus(void) { return &litmus_symbol; }

static cudaError_t run_spin(const struct standin_launch *l) {
  const struct gpu_spin *s = l->args[0];
  nanosleep(&(struct timespec){.tv_sec = (time_t)(s->ns / 1000000000), .tv_nsec = (long)(s->ns % 1000000000)}, NULL);
  return cudaSuccess;
}

static cudaError_t run_chase(const struct standin_launch *l) {
  const struct gpu_chase *c = l->args[0];
  uint64_t at = 0;
  for (uint32_t i = 0; i < c->hops; i++) at = shmi_peek64(c->links + at);
  *c->end = at;
  return cudaSuccess;
}

static void meet(const void *thread) { standin_block_sync(thread); }

static cudaError_t run_litmus_thread(const struct standin_thread *t) {
  const struct litmus_play *play = t->launch->args[0];
  int *failed = t->shared;
  struct shmi_block block = {.tid = (int)t->tid,
                             .nthreads = (int)t->nthreads,
                             .play = play,
                             .failed = failed,
                             .tally = play->tallies + t->tid,
                             .meet = meet,
                             .context = t};
  if (t->tid == 0) *failed = 0;
  standin_block_sync(t);
  litmus_run(&block);
  return cudaSuccess;
}

static cudaError_t run_litmus(const struct standin_launch *l) {
  struct standin_launch with_shared = *l;
  with_shared.shared_bytes = sizeof(int);
  return standin_run_grid(&with_shared, THREADS, run_litmus_thread);
}

static const struct standin_kernel kernels[] = {
    {"spin", run_spin, 1, {sizeof(struct gpu_spin)}, false},
    {"chase", run_chase, 1, {sizeof(struct gpu_chase)}, false},
    {"litmus", run_litmus, 1, {sizeof(struct litmus_play)}, false},
};

__attribute__((constructor)) static void register_kernels(void) {
  standin_kernel_symbol(&spin_symbol, &kernels[0]);
  standin_kernel_symbol(&chase_symbol, &kernels[1]);
  standin_kernel_symbol(&litmus_symbol, &kernels[2]);
}
