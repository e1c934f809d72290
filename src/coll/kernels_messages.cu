/* kernels_messages.cu - the kernel for groups of send and recv, and the one that meets for copy engines. */
#include "coll/kernels.cuh"
#include "coll/messages.h"

/* One block on a multiprocessor will do: with more in mind ptxas keeps registers in memory (sm_120). */
static __global__ void __launch_bounds__(SHMI_KERNEL_THREADS, 1)
    shmi_group_kernel(const __grid_constant__ struct shmi_group group) {
  __shared__ struct shmi_share share;
  __shared__ uint32_t left;
  shmi_cuda_block<sum_u8> block;
  shmi_begin(&block, &group.launch, &left);
  if (shmi_block_lane(&block, &group, &share, (int)blockIdx.x) && group.launch.trap) __trap();
}

const void *shmi_kernel_of_groups(void) { return (const void *)shmi_group_kernel; }

static __global__ void __launch_bounds__(SHMI_MEETING_THREADS)
    shmi_meeting_kernel(const __grid_constant__ struct shmi_meeting meeting) {
  __shared__ uint32_t left;
  shmi_cuda_block<sum_u8> block;
  shmi_begin(&block, &meeting.launch, &left);
  if (shmi_block_meeting(&block, &meeting) && meeting.launch.trap) __trap();
}

const void *shmi_kernel_of_meetings(void) { return (const void *)shmi_meeting_kernel; }
