/*
 * kernels.c - NCCL's device kernels on CPU threads: reads a launch's arguments, walks each block's batches of work, and
 * has them done. A shared object for STANDIN_KERNELS, made once for each version of NCCL; it offers itself for all
 * kernels ncclDevKernel_... when the process's NCCL is of its version.
 */
#include "kernels.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cudart_standin.h"

/* ---- tasks and blocks, a thread each ----------------------------------------------------------------------------- */

static void start(pthread_t *thread, void *(*run)(void *), void *argument) {
  if (pthread_create(thread, NULL, run, argument)) give_up("cannot start a thread");
}

static void *run_task(void *task) {
  const struct task *t = task;
  t->run(t);
  return NULL;
}

void run_tasks(const struct task *tasks, int count) {
  struct task own[2 * MOST_WORKS];
  pthread_t threads[2 * MOST_WORKS];
  memcpy(own, tasks, (size_t)count * sizeof *own);
  for (int i = 1; i < count; i++) start(&threads[i], run_task, &own[i]);
  if (count) run_task(&own[0]);
  for (int i = 1; i < count; i++) pthread_join(threads[i], NULL);
}

/* ---- batches ----------------------------------------------------------------------------------------------------- */

union work {
  struct work_p2p p2p;
  struct work_coll coll;
};

static size_t work_bytes(enum work_type type) {
  if (type == WORK_COLL_REGISTERED) give_up("registered user buffers are not emulated");
  if (type == WORK_BROADCAST) give_up("grouped broadcasts of several roots are not emulated");
  return type == WORK_P2P ? sizeof(struct work_p2p) : sizeof(struct work_coll);
}

/* Copies the works of the batch *index and of those that extend it, which becomes *index. */
static int fetch(const struct kernel_args *a, unsigned *index, union work *works) {
  const struct batch *batches = (const struct batch *)(a + 1);
  for (int n = 0;; *index += batches[*index].next_jump) {
    const struct batch *batch = &batches[*index];
    const size_t bytes = work_bytes(batch->type);
    for (uint64_t bits = batch->offset_bits; bits && n < MOST_WORKS; bits &= bits - 1, n++) {
      const size_t offset = batch->offset_base + (size_t)__builtin_ctzll(bits) * bytes;
      memcpy(&works[n], a->storage ? a->work_buf + (offset & a->work_mask) : (const char *)a + offset, bytes);
    }
    if (!batch->next_extends) return n;
  }
}

static void run_batch(const struct block *b, const struct batch *batch, const union work *works, int count) {
  const struct function *f = function_of(batch->function);
  if (!f) give_up("there is no function %u", (unsigned)batch->function);
  if (batch->type == WORK_P2P) {
    struct work_p2p p2p[MOST_WORKS];
    for (int i = 0; i < count; i++) p2p[i] = works[i].p2p;
    run_sendrecv(b, f, p2p, count);
    return;
  }
  for (int i = 0; i < count && !is_aborted(b); i++) run_collective(b, f, &works[i].coll);
}

struct block_thread {
  pthread_t thread;
  const struct kernel_args *args;
  unsigned index;
  int device;
};

static int nth_bit(uint64_t mask, unsigned n) {
  for (; n; n--) mask &= mask - 1;
  return __builtin_ctzll(mask);
}

static void *run_block(void *argument) {
  const struct block_thread *t = argument;
  struct comm *comm = t->args->comm;
  const int id = nth_bit(t->args->channel_mask, t->index);
  const struct block b = {comm, &comm->channels[id], id, t->device};
  const struct batch *batches = (const struct batch *)(t->args + 1);
  union work works[MOST_WORKS];
  for (unsigned i = t->index;;) {
    const int n = fetch(t->args, &i, works);
    run_batch(&b, &batches[i], works, n);
    b.channel->work_counter += (uint64_t)n;
    if (!batches[i].next_jump || is_aborted(&b)) return NULL;
    i += batches[i].next_jump;
  }
}

/* ---- launches ---------------------------------------------------------------------------------------------------- */

static cudaError_t run_kernel(const struct standin_launch *launch) {
  struct block_thread blocks[MAX_CHANNELS];
  const unsigned n = launch->grid.x;
  if (n == 0 || n > MAX_CHANNELS || launch->packed_bytes < sizeof(struct kernel_args)) return cudaErrorLaunchFailure;
  for (unsigned i = 0; i < n; i++) {
    blocks[i] = (struct block_thread){.args = launch->args[0], .index = i, .device = launch->device};
    if (i) start(&blocks[i].thread, run_block, &blocks[i]);
  }
  run_block(&blocks[0]);
  for (unsigned i = 1; i < n; i++) pthread_join(blocks[i].thread, NULL);
  return cudaSuccess;
}

static int minor_of_loaded_nccl(void) {
  void *nccl = dlopen("libnccl.so.2", RTLD_NOW | RTLD_NOLOAD);
  int (*get_version)(int *) = nccl ? (int (*)(int *))dlsym(nccl, "ncclGetVersion") : NULL;
  int version = 0;
  if (get_version) get_version(&version);
  if (nccl) dlclose(nccl);
  return version / 100 % 100;
}

__attribute__((constructor)) static void offer(void) {
  static const struct standin_kernel kernel = {
      .name = "ncclDevKernel_*", .run = run_kernel, .n_args = 1, .unchecked = true};
  if (minor_of_loaded_nccl() == NCCL_MINOR) standin_kernel(&kernel);
}
