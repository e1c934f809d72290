/*
 * kernels.h - the kernels that run a struct shmi_launch (coll/device.h), one for each pair of type and operator; for
 * calls that reduce nothing any will do. Launch call.channels blocks of SHMI_KERNEL_THREADS, with the launch as the
 * only argument. And the one that runs a struct shmi_group (coll/messages.h): a block for each lane.
 *
 * For copy engines (coll/meeting.h): those that run a struct shmi_sum, for each pair, in any number of blocks of
 * SHMI_SUM_THREADS; and the one that runs a struct shmi_meeting, in one block of SHMI_MEETING_THREADS.
 */
#ifndef SHMI_KERNELS_H
#define SHMI_KERNELS_H

#include "shmccl.h"

#ifdef __cplusplus
extern "C" {
#endif

/* With 512 threads the sums of 4 and 8 bytes would not have the registers that they need (sm_120). */
enum { SHMI_KERNEL_THREADS = 512, SHMI_SUM_THREADS = 256, SHMI_MEETING_THREADS = SHMCCL_MAX_RANKS };

const void *shmi_kernel_of_integers(shmccl_datatype_t type, shmccl_redop_t op);
const void *shmi_kernel_of_floats(shmccl_datatype_t type, shmccl_redop_t op);
const void *shmi_sum_kernel_of_integers(shmccl_datatype_t type, shmccl_redop_t op);
const void *shmi_sum_kernel_of_floats(shmccl_datatype_t type, shmccl_redop_t op);
const void *shmi_kernel_of_groups(void);
const void *shmi_kernel_of_meetings(void);

/* What cudaLaunchKernel() takes. */
static inline const void *shmi_kernel_of(shmccl_datatype_t type, shmccl_redop_t op) {
  return type <= SHMCCL_UINT64 ? shmi_kernel_of_integers(type, op) : shmi_kernel_of_floats(type, op);
}
static inline const void *shmi_kernel_of_sums(shmccl_datatype_t type, shmccl_redop_t op) {
  return type <= SHMCCL_UINT64 ? shmi_sum_kernel_of_integers(type, op) : shmi_sum_kernel_of_floats(type, op);
}

#ifdef __cplusplus
}
#endif

#endif
