/*
 * cuda_on_cpu.c - runs the kernels of src/coll/kernels*.cu for the stand-in CUDA runtime. A program that links it with
 * those files, compiled for the CPU, has them; kernels.c is the other choice.
 *
 * A block's threads take turns: each runs until it meets the others or looks at the clock, which only waits do.
 */
#include "cuda_on_cpu.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <ucontext.h>

#include "base/clock.h"
#include "coll/kernels.h"
#include "coll/launch.h"
#include "cudart_standin.h"

enum { THREADS = 48, STACK_BYTES = 128 << 10 }; /* of a block; of a thread: a group is 10 KiB, by value */

enum state { RUNS, MEETS, HAS_ENDED };

struct cpu_fiber {
  ucontext_t context;
  enum state state;
  uint8_t *stack;
};

struct cpu_block {
  struct cpu_thread thread; /* that runs now */
  struct cpu_fiber fibers[THREADS];
  ucontext_t scheduler;
  const struct standin_launch *launch;
  int meeting, met; /* the meeting's value so far, and the last one's */
  bool trapped;
};

static _Thread_local struct cpu_block block; /* one at a time */

/* ---- kernels and their names ------------------------------------------------------------------------------------- */

static const char group_name[] = "shmi_group_kernel", meeting_name[] = "shmi_meeting_kernel";
static struct pair {
  char name[32], sum_name[32];
  const void *symbol, *sum_symbol;
  struct standin_kernel kernel, sum_kernel;
} pairs[SHMCCL_DATATYPE_COUNT * SHMCCL_REDOP_COUNT];

/* Kernels take their argument by value. */
static void call_kernel(const struct standin_launch *l) {
  const void *arg = l->args[0];
  if (!strcmp(l->kernel, group_name))
    ((void (*)(struct shmi_group))(uintptr_t)shmi_kernel_of_groups())(*(const struct shmi_group *)arg);
  if (!strcmp(l->kernel, meeting_name))
    ((void (*)(struct shmi_meeting))(uintptr_t)shmi_kernel_of_meetings())(*(const struct shmi_meeting *)arg);
  for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
    if (!strcmp(l->kernel, pairs[i].name))
      ((void (*)(struct shmi_launch))(uintptr_t)pairs[i].symbol)(*(const struct shmi_launch *)arg);
    if (!strcmp(l->kernel, pairs[i].sum_name))
      ((void (*)(struct shmi_sum))(uintptr_t)pairs[i].sum_symbol)(*(const struct shmi_sum *)arg);
  }
}

/* ---- a thread ---------------------------------------------------------------------------------------------------- */

static void leave(enum state state) {
  struct cpu_fiber *me = &block.fibers[block.thread.thread.x];
  me->state = state;
  swapcontext(&me->context, &block.scheduler);
}

const struct cpu_thread *cpu_me(void) { return &block.thread; }

int cpu_syncthreads_or(int value) {
  block.meeting |= value;
  leave(MEETS);
  return block.met;
}

uint64_t cpu_globaltimer(void) {
  leave(RUNS);
  return shmi_now_ns();
}

void cpu_trap(void) {
  block.trapped = true;
  for (;;) leave(HAS_ENDED);
}

static void run_fiber(void) {
  call_kernel(block.launch);
  for (;;) leave(HAS_ENDED);
}

/* ---- a block ----------------------------------------------------------------------------------------------------- */

static void prepare(struct cpu_fiber *f) {
  f->state = RUNS;
  f->stack = malloc(STACK_BYTES);
  if (!f->stack) abort();
  getcontext(&f->context);
  f->context.uc_stack.ss_sp = f->stack;
  f->context.uc_stack.ss_size = STACK_BYTES;
  makecontext(&f->context, run_fiber, 0);
}

/* Each thread once that can run, in an order that differs from round to round. */
static void run_round(unsigned round) {
  for (unsigned i = 0; i < THREADS && !block.trapped; i++) {
    const unsigned tid = (i * 7 + round) % THREADS;
    if (block.fibers[tid].state != RUNS) continue;
    block.thread.thread.x = tid;
    swapcontext(&block.scheduler, &block.fibers[tid].context);
  }
}

static int count(enum state state) {
  int n = 0;
  for (int i = 0; i < THREADS; i++) n += block.fibers[i].state == state;
  return n;
}

/* All threads that have not ended have come. */
static void end_meeting(void) {
  for (int i = 0; i < THREADS; i++)
    if (block.fibers[i].state == MEETS) block.fibers[i].state = RUNS;
  block.met = block.meeting;
  block.meeting = 0;
}

static void begin_block(const struct standin_thread *t) {
  block.thread = (struct cpu_thread){.block = {t->block.x}, .size = {THREADS}, .grid = {t->launch->grid.x}};
  block.launch = t->launch;
  block.meeting = 0;
  block.trapped = false;
  for (int i = 0; i < THREADS; i++) prepare(&block.fibers[i]);
}

static cudaError_t run_block(const struct standin_thread *t) {
  cudaError_t broken = cudaSuccess;
  begin_block(t);
  for (unsigned round = 0; !block.trapped && !broken && count(HAS_ENDED) < THREADS; round++) {
    run_round(round);
    if (count(RUNS) == 0)
      end_meeting();
    else
      nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL); /* some wait for other ranks */
    broken = standin_broken(t->launch->device);
  }
  for (int i = 0; i < THREADS; i++) free(block.fibers[i].stack);
  return block.trapped ? cudaErrorLaunchFailure : broken;
}

/* ---- for the stand-in -------------------------------------------------------------------------------------------- */

static cudaError_t run(const struct standin_launch *l) { return standin_run_grid(l, 1, run_block); }

static const struct standin_kernel group_kernel = {group_name, run, 1, {sizeof(struct shmi_group)}, false};
static const struct standin_kernel meeting_kernel = {meeting_name, run, 1, {sizeof(struct shmi_meeting)}, false};

static void register_pair(struct pair *p, shmccl_datatype_t type, shmccl_redop_t op) {
  snprintf(p->name, sizeof p->name, "shmi_kernel.%d.%d", type, op);
  snprintf(p->sum_name, sizeof p->sum_name, "shmi_sum_kernel.%d.%d", type, op);
  p->symbol = shmi_kernel_of(type, op);
  p->sum_symbol = shmi_kernel_of_sums(type, op);
  p->kernel = (struct standin_kernel){p->name, run, 1, {sizeof(struct shmi_launch)}, false};
  p->sum_kernel = (struct standin_kernel){p->sum_name, run, 1, {sizeof(struct shmi_sum)}, false};
  standin_kernel_symbol(p->symbol, &p->kernel);
  standin_kernel_symbol(p->sum_symbol, &p->sum_kernel);
}

__attribute__((constructor)) static void register_kernels(void) {
  standin_kernel_symbol(shmi_kernel_of_groups(), &group_kernel);
  standin_kernel_symbol(shmi_kernel_of_meetings(), &meeting_kernel);
  for (int type = 0; type < SHMCCL_DATATYPE_COUNT; type++)
    for (int op = 0; op < SHMCCL_REDOP_COUNT; op++)
      register_pair(&pairs[type * SHMCCL_REDOP_COUNT + op], (shmccl_datatype_t)type, (shmccl_redop_t)op);
}
