/*
 * cuda_on_cpu.h - as much of CUDA's language as src/coll/kernels*.cu use, for a C++ compiler: the kernels that nvcc
 * compiles, run on the CPU. Included before all else (-include).
 *
 * The threads of a block are coroutines of one CPU thread, so that the block's shared memory is that thread's own.
 */
#ifndef CUDA_ON_CPU_H
#define CUDA_ON_CPU_H

#include <stdint.h>

#ifdef __cplusplus
#define __CUDACC__
#define __host__
#define __device__
#define __global__
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(...)
#define __shared__              static thread_local
#define threadIdx               (cpu_me()->thread)
#define blockIdx                (cpu_me()->block)
#define blockDim                (cpu_me()->size)
#define gridDim                 (cpu_me()->grid)
#define SHMI_GLOBALTIMER        cpu_globaltimer
#define __syncthreads()         ((void)cpu_syncthreads_or(0))
#define __syncthreads_or(value) cpu_syncthreads_or(value)
#define __trap                  cpu_trap

struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};

static inline double __longlong_as_double(long long bits) {
  double value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

extern "C" {
#endif

struct cpu_index {
  unsigned x;
};
struct cpu_thread {
  struct cpu_index thread, block, size, grid;
};

const struct cpu_thread *cpu_me(void);
int cpu_syncthreads_or(int value);
uint64_t cpu_globaltimer(void); /* lets the block's other threads run: only waits look at it */
__attribute__((noreturn)) void cpu_trap(void);

#ifdef __cplusplus
}
#endif

#endif
