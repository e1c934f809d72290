/* kernels_float.cu - the kernels for floats. */
#include "coll/kernels.cuh"

#define SHMI_ROW(type)                                                                                                 \
  {                                                                                                                    \
    (const void *)shmi_kernel<sum_##type>, (const void *)shmi_kernel<prod_##type>,                                     \
        (const void *)shmi_kernel<max_##type>, (const void *)shmi_kernel<min_##type>,                                  \
        (const void *)shmi_kernel<avg_##type>                                                                          \
  }

static const void *const kernels[][SHMCCL_REDOP_COUNT] = {
    SHMI_ROW(f16), SHMI_ROW(f32), SHMI_ROW(f64), SHMI_ROW(bf16), SHMI_ROW(e4m3), SHMI_ROW(e5m2),
};

const void *shmi_kernel_of_floats(shmccl_datatype_t type, shmccl_redop_t op) {
  return kernels[type - SHMCCL_FLOAT16][op];
}
