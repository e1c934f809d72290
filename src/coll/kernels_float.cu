/* kernels_float.cu - the kernels for floats. */
#include "coll/kernels.cuh"

#define SHMI_ROW(kernel, type)                                                                                         \
  {                                                                                                                    \
    (const void *)kernel<sum_##type>, (const void *)kernel<prod_##type>, (const void *)kernel<max_##type>,             \
        (const void *)kernel<min_##type>, (const void *)kernel<avg_##type>                                             \
  }
#define SHMI_TABLE(kernel)                                                                                             \
  {                                                                                                                    \
    SHMI_ROW(kernel, f16), SHMI_ROW(kernel, f32), SHMI_ROW(kernel, f64), SHMI_ROW(kernel, bf16),                       \
        SHMI_ROW(kernel, e4m3), SHMI_ROW(kernel, e5m2)                                                                 \
  }

static const void *const kernels[][SHMCCL_REDOP_COUNT] = SHMI_TABLE(shmi_kernel);
static const void *const sums[][SHMCCL_REDOP_COUNT] = SHMI_TABLE(shmi_sum_kernel);

const void *shmi_kernel_of_floats(shmccl_datatype_t type, shmccl_redop_t op) {
  return kernels[type - SHMCCL_FLOAT16][op];
}
const void *shmi_sum_kernel_of_floats(shmccl_datatype_t type, shmccl_redop_t op) {
  return sums[type - SHMCCL_FLOAT16][op];
}
