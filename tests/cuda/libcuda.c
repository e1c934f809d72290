/* libcuda.c - a libcuda.so.1 that says whether the process uses its GPUs, as CUDA_IN_USE tells it: nothing else of a
 * driver. */
#include <stdlib.h>

int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active);

int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) {
  const char *text = getenv("CUDA_IN_USE");
  (void)device;
  *flags = 0;
  *active = text && *text == '1';
  return 0;
}
