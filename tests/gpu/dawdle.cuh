/*
 * dawdle.cuh - base/points.h for kernels: at one publish or observe in sixteen, by chance, a thread does nothing for up
 * to 65536 cycles, so that ranks and their blocks drift apart within the kernel. Included first of all (-include) where
 * a library for tests is compiled with SHMI_POINTS.
 */
#ifndef GPU_DAWDLE_CUH
#define GPU_DAWDLE_CUH

#include <stdint.h>

static __host__ __device__ __forceinline__ void shmi_point(const char *) {
#ifdef __CUDA_ARCH__
  const long long start = clock64();
  const uint32_t dice = ((uint32_t)start ^ blockIdx.x << 20) * 2654435761u;
  if (dice >> 28) return;
  while (clock64() - start < (long long)(dice >> 8 & 0xffff)) {
  }
#endif
}

static __host__ __device__ __forceinline__ void shmi_point_seen(const void *, uint64_t) { shmi_point(0); }

#endif
