/* kernels.c - the kernels of coll/kernels.h for the stand-in CUDA runtime: device code on the CPU executor. A program
 * that links it has them. */
#include "coll/kernels.h"
#include "cudart_standin.h"
#include "executor.h"

enum { THREADS = 3 }; /* of a block */

/* What host code passes to cudaLaunchKernel: with nvcc the host stubs. Here only their addresses count. */
static char symbols[SHMCCL_DATATYPE_COUNT][SHMCCL_REDOP_COUNT];
static char sum_symbols[SHMCCL_DATATYPE_COUNT][SHMCCL_REDOP_COUNT];
static char group_symbol, meeting_symbol;

const void *shmi_kernel_of_integers(shmccl_datatype_t type, shmccl_redop_t op) { return &symbols[type][op]; }
const void *shmi_kernel_of_floats(shmccl_datatype_t type, shmccl_redop_t op) { return &symbols[type][op]; }
const void *shmi_sum_kernel_of_integers(shmccl_datatype_t type, shmccl_redop_t op) { return &sum_symbols[type][op]; }
const void *shmi_sum_kernel_of_floats(shmccl_datatype_t type, shmccl_redop_t op) { return &sum_symbols[type][op]; }
const void *shmi_kernel_of_groups(void) { return &group_symbol; }
const void *shmi_kernel_of_meetings(void) { return &meeting_symbol; }

/* A thread's part of the block that the executor has. */
static struct shmi_block block_of(const struct standin_thread *t) {
  return (struct shmi_block){
      .tid = (int)t->tid, .nthreads = (int)t->nthreads, .barrier = t->barrier, .shared = t->shared};
}

/* The kernels' static shared memory is dynamic here. */
static cudaError_t run_blocks(const struct standin_launch *l, bool fits,
                              cudaError_t (*thread)(const struct standin_thread *)) {
  struct standin_launch with_shared = *l;
  if (!fits) return cudaErrorLaunchFailure;
  with_shared.shared_bytes = sizeof(struct executor_shared);
  return standin_run_grid(&with_shared, THREADS, thread);
}

static cudaError_t run_thread(const struct standin_thread *t) {
  const struct shmi_launch *launch = t->launch->args[0];
  struct shmi_block block = block_of(t);
  return executor_run(&block, launch, (int)t->block.x) && launch->trap ? cudaErrorLaunchFailure : cudaSuccess;
}

static cudaError_t run(const struct standin_launch *l) {
  const struct shmi_launch *launch = l->args[0];
  return run_blocks(l, l->grid.x == launch->call.channels && l->block.x == SHMI_KERNEL_THREADS, run_thread);
}

static cudaError_t run_group_thread(const struct standin_thread *t) {
  const struct shmi_group *group = t->launch->args[0];
  struct shmi_block block = block_of(t);
  return executor_run_group(&block, group, (int)t->block.x) && group->launch.trap ? cudaErrorLaunchFailure
                                                                                  : cudaSuccess;
}

static cudaError_t run_group(const struct standin_launch *l) {
  const struct shmi_group *group = l->args[0];
  return run_blocks(l, l->grid.x == group->nlanes && l->block.x == SHMI_KERNEL_THREADS, run_group_thread);
}

static cudaError_t run_meeting_thread(const struct standin_thread *t) {
  const struct shmi_meeting *meeting = t->launch->args[0];
  struct shmi_block block = block_of(t);
  return executor_run_meeting(&block, meeting) && meeting->launch.trap ? cudaErrorLaunchFailure : cudaSuccess;
}

static cudaError_t run_meeting(const struct standin_launch *l) {
  return run_blocks(l, l->grid.x == 1 && l->block.x == SHMI_MEETING_THREADS, run_meeting_thread);
}

static cudaError_t run_sum_thread(const struct standin_thread *t) {
  struct shmi_block block = block_of(t);
  executor_run_sum(&block, t->launch->args[0], (int)t->block.x, (int)t->launch->grid.x);
  return cudaSuccess;
}

static cudaError_t run_sum(const struct standin_launch *l) {
  return run_blocks(l, l->grid.x > 0 && l->block.x == SHMI_SUM_THREADS, run_sum_thread);
}

static const struct standin_kernel group_kernel = {
    "shmi_group_kernel", run_group, 1, {sizeof(struct shmi_group)}, false};
static const struct standin_kernel meeting_kernel = {
    "shmi_meeting_kernel", run_meeting, 1, {sizeof(struct shmi_meeting)}, false};
static const struct standin_kernel sum_kernel = {"shmi_sum_kernel", run_sum, 1, {sizeof(struct shmi_sum)}, false};
static const struct standin_kernel kernel = {"shmi_kernel", run, 1, {sizeof(struct shmi_launch)}, false};

__attribute__((constructor)) static void register_kernels(void) {
  standin_kernel_symbol(&group_symbol, &group_kernel);
  standin_kernel_symbol(&meeting_symbol, &meeting_kernel);
  for (int type = 0; type < SHMCCL_DATATYPE_COUNT; type++)
    for (int op = 0; op < SHMCCL_REDOP_COUNT; op++) {
      standin_kernel_symbol(&symbols[type][op], &kernel);
      standin_kernel_symbol(&sum_symbols[type][op], &sum_kernel);
    }
}
