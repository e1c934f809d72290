/* kernels.cu - see kernels.h. */
#include "litmus.h"

static __device__ __forceinline__ uint64_t now_ns() {
  uint64_t now;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
  return now;
}

static __global__ void spin(const __grid_constant__ struct gpu_spin s) {
  const uint64_t start = now_ns();
  while (now_ns() - start < s.ns) {
  }
}

static __global__ void chase(const __grid_constant__ struct gpu_chase c) {
  uint64_t at = 0;
  for (uint32_t i = 0; i < c.hops; i++) at = shmi_peek64(c.links + at);
  *c.end = at;
}

struct litmus_block {
  int tid, nthreads;
  const struct litmus_play *play;
  struct litmus_tally *tally;
};

static __device__ __forceinline__ void litmus_sync(const litmus_block *) { __syncthreads(); }
static __device__ __forceinline__ int litmus_agree(const litmus_block *, int error) { return __syncthreads_or(error); }
static __device__ __forceinline__ uint64_t litmus_now(const litmus_block *) { return now_ns(); }

static __global__ void __launch_bounds__(GPU_LITMUS_THREADS) litmus(const __grid_constant__ struct litmus_play play) {
  litmus_block block = {(int)threadIdx.x, (int)blockDim.x, &play, play.tallies + threadIdx.x};
  litmus_run(&block);
}

const void *gpu_kernel_spin(void) { return (const void *)spin; }
const void *gpu_kernel_chase(void) { return (const void *)chase; }
const void *gpu_kernel_litmus(void) { return (const void *)litmus; }
