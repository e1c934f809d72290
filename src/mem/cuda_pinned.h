/* cuda_pinned.h - host memory that is registered with CUDA, within this process's budget. */
#ifndef SHMI_CUDA_PINNED_H
#define SHMI_CUDA_PINNED_H

#include "mem/gpu.h"

/* As shmi_gpu_register(). */
const char *shmi_cuda_register(int device, struct shmi_pinned *p, void *host, size_t bytes, uint64_t most);
void shmi_cuda_unregister(int device, struct shmi_pinned *p);

#endif
