/* convert.c - NCCL's numbers and the engine's. */
#include "plugin/plugin.h"

nccl_result_t shmi_plugin_result(shmccl_result_t result) {
  switch (result) {
  case SHMCCL_SUCCESS: return NCCL_SUCCESS;
  case SHMCCL_ERROR_INVALID_ARGUMENT: return NCCL_INVALID_ARGUMENT;
  case SHMCCL_ERROR_INVALID_USAGE:
  case SHMCCL_ERROR_MISMATCH: return NCCL_INVALID_USAGE;
  case SHMCCL_ERROR_SYSTEM:
  case SHMCCL_ERROR_NO_SPACE:
  case SHMCCL_ERROR_NO_MEMORY: return NCCL_SYSTEM_ERROR;
  case SHMCCL_ERROR_TIMEOUT:
  case SHMCCL_ERROR_PEER_DIED:
  case SHMCCL_ERROR_ABORTED: return NCCL_REMOTE_ERROR;
  case SHMCCL_ERROR_CUDA: return NCCL_UNHANDLED_CUDA_ERROR;
  case SHMCCL_ERROR_INTERNAL: break;
  }
  return NCCL_INTERNAL_ERROR;
}

/* Both number them alike. */
_Static_assert((int)NCCL_INT8 == (int)SHMCCL_INT8 && (int)NCCL_FLOAT16 == (int)SHMCCL_FLOAT16 &&
                   (int)NCCL_BFLOAT16 == (int)SHMCCL_BFLOAT16 && (int)NCCL_FLOAT8E5M2 == (int)SHMCCL_FLOAT8E5M2,
               "datatypes");
_Static_assert((int)NCCL_SUM == (int)SHMCCL_SUM && (int)NCCL_PROD == (int)SHMCCL_PROD &&
                   (int)NCCL_MAX == (int)SHMCCL_MAX && (int)NCCL_MIN == (int)SHMCCL_MIN,
               "operators");

int shmi_plugin_datatype(nccl_datatype_t from, shmccl_datatype_t *to) {
  if ((unsigned)from >= SHMCCL_DATATYPE_COUNT) return 0;
  *to = (shmccl_datatype_t)from;
  return 1;
}

int shmi_plugin_redop(nccl_redop_t from, shmccl_redop_t *to) {
  if ((unsigned)from > NCCL_MIN) return 0;
  *to = (shmccl_redop_t)from;
  return 1;
}
