/* kernels_integer.cu - the kernels for integers, and the one that reduces nothing. */
#include "coll/kernels.cuh"

#define SHMI_ROW(arithmetic, order)                                                                                    \
  {                                                                                                                    \
    (const void *)shmi_kernel<sum_##arithmetic>, (const void *)shmi_kernel<prod_##arithmetic>,                         \
        (const void *)shmi_kernel<max_##order>, (const void *)shmi_kernel<min_##order>,                                \
        (const void *)shmi_kernel<avg_##order>                                                                         \
  }

static const void *const kernels[][SHMCCL_REDOP_COUNT] = {
    SHMI_ROW(u8, i8), SHMI_ROW(u8, u8), SHMI_ROW(u32, i32), SHMI_ROW(u32, u32), SHMI_ROW(u64, i64), SHMI_ROW(u64, u64),
};

const void *shmi_kernel_of_integers(shmccl_datatype_t type, shmccl_redop_t op) { return kernels[type][op]; }
