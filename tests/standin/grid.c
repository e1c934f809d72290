/*
 * grid.c - runs a kernel's grid on CPU threads: all blocks at once, since blocks of one collective wait for blocks of
 * other ranks, each with as many threads as its implementation wants and a real barrier between them.
 */
#include "internal.h"

enum { MOST_THREADS = 1024, POISON = 0xa5 };

struct runner {
  struct standin_thread thread;
  cudaError_t (*fn)(const struct standin_thread *);
  cudaError_t result;
  pthread_t id;
};

void standin_block_sync(const struct standin_thread *thread) { pthread_barrier_wait(thread->barrier); }

static void *run(void *arg) {
  struct runner *r = arg;
  si_device = r->thread.launch->device;
  r->result = r->fn(&r->thread);
  return NULL;
}

static uint3 block_index(const dim3 *grid, unsigned i) {
  return (uint3){i % grid->x, i / grid->x % grid->y, i / grid->x / grid->y};
}

static pthread_barrier_t *new_barrier(unsigned nthreads) {
  pthread_barrier_t *b = si_alloc(sizeof *b);
  pthread_barrier_init(b, NULL, nthreads);
  return b;
}

static void start_block(const struct standin_launch *launch, unsigned number, unsigned nthreads, struct runner *runners,
                        cudaError_t (*fn)(const struct standin_thread *)) {
  void *shared = si_alloc(launch->shared_bytes);
  pthread_barrier_t *barrier = new_barrier(nthreads);
  memset(shared, POISON, launch->shared_bytes);
  for (unsigned tid = 0; tid < nthreads; tid++) {
    runners[tid].fn = fn;
    runners[tid].thread =
        (struct standin_thread){launch, block_index(&launch->grid, number), tid, nthreads, shared, barrier};
    if (pthread_create(&runners[tid].id, NULL, run, &runners[tid])) si_die("no thread for a block");
  }
}

static cudaError_t finish_block(struct runner *runners, unsigned nthreads) {
  cudaError_t error = cudaSuccess;
  for (unsigned tid = 0; tid < nthreads; tid++) {
    pthread_join(runners[tid].id, NULL);
    if (error == cudaSuccess) error = runners[tid].result;
  }
  pthread_barrier_destroy(runners->thread.barrier);
  free(runners->thread.barrier);
  free(runners->thread.shared);
  return error;
}

cudaError_t standin_run_grid(const struct standin_launch *launch, unsigned nthreads,
                             cudaError_t (*fn)(const struct standin_thread *thread)) {
  const uint64_t blocks = (uint64_t)launch->grid.x * launch->grid.y * launch->grid.z;
  cudaError_t error = cudaSuccess;
  if (!nthreads || blocks * nthreads > MOST_THREADS) return cudaErrorLaunchOutOfResources;
  struct runner *runners = si_alloc(blocks * nthreads * sizeof *runners);
  for (unsigned b = 0; b < blocks; b++) start_block(launch, b, nthreads, &runners[b * nthreads], fn);
  for (unsigned b = 0; b < blocks; b++) {
    const cudaError_t of_block = finish_block(&runners[b * nthreads], nthreads);
    if (error == cudaSuccess) error = of_block;
  }
  free(runners);
  return error;
}
