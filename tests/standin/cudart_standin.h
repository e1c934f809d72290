/*
 * cudart_standin.h - what the stand-in libcudart.so.13 has besides CUDA's own API.
 *
 * Kernels get implementations that run on CPU threads with the arguments of the launch; calls can be made to fail; what
 * happened can be asked; device addresses can be told from host addresses. Everything here may be called from any
 * thread. The README in this folder says what the stand-in shows and what it cannot.
 */
#ifndef CUDART_STANDIN_H
#define CUDART_STANDIN_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- kernels ----------------------------------------------------------------------------------------------------- */

enum { STANDIN_MAX_ARGS = 32 };

/* One launch, as its implementation sees it; valid until that returns. */
struct standin_launch {
  const char *kernel; /* the name it was registered with: the compiler's (mangled) for kernels compiled by nvcc */
  int device;
  dim3 grid, block;
  size_t shared_bytes; /* dynamic shared memory asked for */
  int n_args;
  void **args;         /* addresses of copies of the arguments */
  size_t packed_bytes; /* not 0: launched with one packed argument buffer, which is args[0] */
};

/* An implementation. The runtime API hands over addresses of arguments without sizes, so the sizes are told here. */
struct standin_kernel {
  const char *name; /* mangled or plain; with '*' at the end: all kernels whose names begin so */

  /* Runs once per launch, on the stream's thread. An error breaks the device, as a fault in a kernel does. */
  cudaError_t (*run)(const struct standin_launch *launch);

  int n_args;
  size_t arg_bytes[STANDIN_MAX_ARGS];

  /* Arguments may hold addresses that the device cannot use, because the kernel does not use them there. Otherwise a
   * launch with one ends with cudaErrorIllegalAddress. */
  bool unchecked;
};

/* Makes an implementation known for kernels that nvcc's code registers by name; a later one of the same name counts.
 * *kernel is not copied and must stay. */
void standin_kernel(const struct standin_kernel *kernel);

/* Without nvcc: also registers `symbol` as the address that host code passes to cudaLaunchKernel for this kernel. */
void standin_kernel_symbol(const void *symbol, const struct standin_kernel *kernel);

/* A thread of a block. */
struct standin_thread {
  const struct standin_launch *launch;
  uint3 block;
  unsigned tid, nthreads; /* of those that run here: not of launch->block */
  void *shared;           /* the block's dynamic shared memory; garbage at first */
  pthread_barrier_t *barrier;
};

/* For a `run`: runs fn on all blocks of the grid at once, each with `nthreads` threads of its own, and waits for them.
 * The first error that a thread returns, else cudaSuccess. At most 1024 threads in all: more is
 * cudaErrorLaunchOutOfResources. */
cudaError_t standin_run_grid(const struct standin_launch *launch, unsigned nthreads,
                             cudaError_t (*fn)(const struct standin_thread *thread));

/* The barrier of the block's threads. */
void standin_block_sync(const struct standin_thread *thread);

/* The error that broke the device, or cudaSuccess: a kernel that waits for others must leave then. */
cudaError_t standin_broken(int device);

/* ---- trouble ----------------------------------------------------------------------------------------------------- */

/* The nth call of this function from now on (1: the next) does nothing and returns this error. Names are those of CUDA
 * functions: cudaMalloc, cuStreamWriteValue32. NULL forgets all such orders. */
void standin_fail(const char *function, unsigned long nth, cudaError_t error);

/* The device is lost: everything on it and every later call for it fails with this error, until cudaDeviceReset. */
void standin_break(int device, cudaError_t error);

/* ---- questions --------------------------------------------------------------------------------------------------- */

/* How often a CUDA function was called so far. */
unsigned long standin_calls(const char *function);

struct standin_stats {
  size_t device_bytes, host_bytes;                                       /* allocated or registered now */
  long device_ranges, host_ranges, streams, events, graphs, graph_execs; /* alive now */
  unsigned long kernels, copies, fills, host_functions;                  /* run so far */
};
struct standin_stats standin_stats(void);

/* Whether a kernel on this device could use these bytes through this address. That includes pinned host memory, but
 * only through its device address where it has another (STANDIN_HOST_ALIAS). */
bool standin_device_can_use(const void *p, size_t bytes, int device);

#ifdef __cplusplus
}
#endif

#endif
