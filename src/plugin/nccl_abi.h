/*
 * nccl_abi.h - the types that all of NCCL's plugin tables share, declared from their published layout.
 *
 * nccl_net.h, nccl_collnet.h and nccl_tuner.h hold the tables, each version that NCCL 2.20 to 2.30 looks for. Sizes and
 * offsets are pinned by assertions; a change here is a change of what NCCL sees. Only src/plugin includes these files.
 */
#ifndef SHMI_NCCL_ABI_H
#define SHMI_NCCL_ABI_H

#include <stddef.h>
#include <stdint.h>

typedef enum {
  NCCL_SUCCESS = 0,
  NCCL_UNHANDLED_CUDA_ERROR = 1,
  NCCL_SYSTEM_ERROR = 2,
  NCCL_INTERNAL_ERROR = 3,
  NCCL_INVALID_ARGUMENT = 4,
  NCCL_INVALID_USAGE = 5,
  NCCL_REMOTE_ERROR = 6,
  NCCL_IN_PROGRESS = 7
} nccl_result_t;

typedef enum {
  NCCL_LOG_NONE = 0,
  NCCL_LOG_VERSION = 1,
  NCCL_LOG_WARN = 2,
  NCCL_LOG_INFO = 3,
  NCCL_LOG_ABORT = 4,
  NCCL_LOG_TRACE = 5
} nccl_log_level_t;

/* Subsystems of an INFO line, a bit each: which of them are shown is NCCL_DEBUG_SUBSYS's choice. */
enum {
  NCCL_SUBSYS_INIT = 0x1,
  NCCL_SUBSYS_COLL = 0x2,
  NCCL_SUBSYS_NET = 0x10,
  NCCL_SUBSYS_TUNING = 0x40,
  NCCL_SUBSYS_ENV = 0x80
};

typedef void (*nccl_logger_t)(nccl_log_level_t level, unsigned long subsystems, const char *file, int line,
                              const char *format, ...);
typedef nccl_result_t (*nccl_profiler_t)(void **event, int type, void *parent, int64_t plugin, void *data);

typedef enum {
  NCCL_INT8 = 0,
  NCCL_UINT8 = 1,
  NCCL_INT32 = 2,
  NCCL_UINT32 = 3,
  NCCL_INT64 = 4,
  NCCL_UINT64 = 5,
  NCCL_FLOAT16 = 6,
  NCCL_FLOAT32 = 7,
  NCCL_FLOAT64 = 8,
  NCCL_BFLOAT16 = 9,
  NCCL_FLOAT8E4M3 = 10,
  NCCL_FLOAT8E5M2 = 11
} nccl_datatype_t;

typedef enum { NCCL_SUM = 0, NCCL_PROD = 1, NCCL_MAX = 2, NCCL_MIN = 3, NCCL_AVG = 4 } nccl_redop_t;

typedef enum {
  NCCL_FUNC_BROADCAST = 0,
  NCCL_FUNC_REDUCE = 1,
  NCCL_FUNC_ALLGATHER = 2,
  NCCL_FUNC_REDUCE_SCATTER = 3,
  NCCL_FUNC_ALLREDUCE = 4
} nccl_func_t;

enum {
  NCCL_ALGO_TREE = 0,
  NCCL_ALGO_RING = 1,
  NCCL_ALGO_COLLNET_DIRECT = 2,
  NCCL_ALGO_COLLNET_CHAIN = 3,
  NCCL_ALGO_NVLS = 4,
  NCCL_ALGO_NVLS_TREE = 5,
  NCCL_ALGO_PAT = 6
};
enum { NCCL_PROTO_LL = 0, NCCL_PROTO_LL128 = 1, NCCL_PROTO_SIMPLE = 2 };

/* Kinds of memory, a bit each. */
enum { NCCL_PTR_HOST = 1, NCCL_PTR_CUDA = 2, NCCL_PTR_DMABUF = 4 };

enum {
  NCCL_NET_HANDLE_BYTES = 128,
  NCCL_NET_MAX_REQUESTS = 32,     /* per communicator and receive of a group */
  NCCL_NET_OPTIONAL_RECV = 1,     /* what *request of an irecv may hold on entry */
  NCCL_NET_DEVICE_HOST = 0,       /* net_device_type: no part of it runs on the GPU */
  NCCL_NET_DEVICE_NO_VERSION = 0, /* net_device_version of such a device */
};
#define NCCL_MAX_NET_BYTES ((size_t)1 << 40)

#define NCCL_ABI_SIZE(type, bytes)          _Static_assert(sizeof(type) == (bytes), #type)
#define NCCL_ABI_OFFSET(type, field, bytes) _Static_assert(offsetof(type, field) == (bytes), #type "." #field)

NCCL_ABI_SIZE(nccl_result_t, 4);
NCCL_ABI_SIZE(nccl_log_level_t, 4);
NCCL_ABI_SIZE(nccl_datatype_t, 4);
NCCL_ABI_SIZE(nccl_redop_t, 4);
NCCL_ABI_SIZE(nccl_func_t, 4);

#endif
