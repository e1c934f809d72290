/* kernels_integer.cu - the kernels for integers, and the one that reduces nothing. */
#include "coll/kernels.cuh"

#define SHMI_ROW(kernel, arithmetic, order)                                                                            \
  {                                                                                                                    \
    (const void *)kernel<sum_##arithmetic>, (const void *)kernel<prod_##arithmetic>,                                   \
        (const void *)kernel<max_##order>, (const void *)kernel<min_##order>, (const void *)kernel<avg_##order>        \
  }
#define SHMI_TABLE(kernel)                                                                                             \
  {                                                                                                                    \
    SHMI_ROW(kernel, u8, i8), SHMI_ROW(kernel, u8, u8), SHMI_ROW(kernel, u32, i32), SHMI_ROW(kernel, u32, u32),        \
        SHMI_ROW(kernel, u64, i64), SHMI_ROW(kernel, u64, u64)                                                         \
  }

static const void *const kernels[][SHMCCL_REDOP_COUNT] = SHMI_TABLE(shmi_kernel);
static const void *const sums[][SHMCCL_REDOP_COUNT] = SHMI_TABLE(shmi_sum_kernel);

const void *shmi_kernel_of_integers(shmccl_datatype_t type, shmccl_redop_t op) { return kernels[type][op]; }
const void *shmi_sum_kernel_of_integers(shmccl_datatype_t type, shmccl_redop_t op) { return sums[type][op]; }
