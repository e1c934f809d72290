/*
 * kernels.h - kernels of the tests' own, each with one argument by value: kernels.cu for a GPU, kernels_standin.c for
 * the stand-in runtime.
 */
#ifndef GPU_KERNELS_H
#define GPU_KERNELS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { GPU_LITMUS_THREADS = 256 };

/* One thread does nothing for a while: what is behind it on the stream is late. */
struct gpu_spin {
  uint64_t ns;
};

/* One thread reads links[0], links[that], ...: each read waits for the one before. */
struct gpu_chase {
  const uint64_t *links;
  uint64_t *end; /* gets the last one */
  uint32_t hops;
};

/* What cudaLaunchKernel() takes. The litmus kernel's argument is struct litmus_play (litmus.h): one block of
 * GPU_LITMUS_THREADS. */
const void *gpu_kernel_spin(void);
const void *gpu_kernel_chase(void);
const void *gpu_kernel_litmus(void);

#ifdef __cplusplus
}
#endif

#endif
