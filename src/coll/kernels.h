/*
 * kernels.h - the kernels that run a struct shmi_launch (coll/device.h), one for each pair of type and operator; for
 * calls that reduce nothing any will do. Launch call.channels blocks of SHMI_KERNEL_THREADS, with the launch as the
 * only argument. And the one that runs a struct shmi_group (coll/messages.h): a block for each lane.
 */
#ifndef SHMI_KERNELS_H
#define SHMI_KERNELS_H

#include "shmccl.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { SHMI_KERNEL_THREADS = 512 };

const void *shmi_kernel_of_integers(shmccl_datatype_t type, shmccl_redop_t op);
const void *shmi_kernel_of_floats(shmccl_datatype_t type, shmccl_redop_t op);
const void *shmi_kernel_of_groups(void);

/* What cudaLaunchKernel() takes. */
static inline const void *shmi_kernel_of(shmccl_datatype_t type, shmccl_redop_t op) {
  return type <= SHMCCL_UINT64 ? shmi_kernel_of_integers(type, op) : shmi_kernel_of_floats(type, op);
}

#ifdef __cplusplus
}
#endif

#endif
