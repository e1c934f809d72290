/*
 * memory_ops.c - values in memory that a stream writes or waits for: cuStreamWriteValue32, cuStreamWaitValue32 and so
 * on.
 *
 * STANDIN_MEMORY_OPS=32 offers only those of 32 bits, 0 none: then the attributes say so and the functions return
 * CUDA_ERROR_NOT_SUPPORTED.
 */
#include <cudaTypedefs.h>

#include "internal.h"

#include <sched.h>
#include <time.h>

struct value {
  void *at;
  uint64_t value;
  bool wide;
  unsigned flags;
  int device;
};

static cudaError_t run_write(void *arg) {
  const struct value *v = arg;
  if (v->wide)
    __atomic_store_n((uint64_t *)v->at, v->value, __ATOMIC_RELEASE);
  else
    __atomic_store_n((uint32_t *)v->at, (uint32_t)v->value, __ATOMIC_RELEASE);
  return cudaSuccess;
}

static bool fulfilled(const struct value *v) {
  const uint64_t now = v->wide ? __atomic_load_n((uint64_t *)v->at, __ATOMIC_ACQUIRE)
                               : __atomic_load_n((uint32_t *)v->at, __ATOMIC_ACQUIRE);
  switch (v->flags & ~(unsigned)CU_STREAM_WAIT_VALUE_FLUSH) {
  case CU_STREAM_WAIT_VALUE_EQ: return now == v->value;
  case CU_STREAM_WAIT_VALUE_AND: return (now & v->value) != 0;
  case CU_STREAM_WAIT_VALUE_NOR: return v->wide ? ~(now | v->value) != 0 : (uint32_t) ~(now | v->value) != 0;
  default: /* GEQ, cyclic as documented */
    return v->wide ? (int64_t)(now - v->value) >= 0 : (int32_t)(uint32_t)(now - v->value) >= 0;
  }
}

static cudaError_t run_wait(void *arg) {
  const struct value *v = arg;
  const struct timespec pause = {0, 20000};
  for (int looks = 0; !fulfilled(v) && standin_broken(v->device) == cudaSuccess; looks++)
    if (looks < 100)
      sched_yield();
    else
      nanosleep(&pause, NULL);
  return cudaSuccess;
}

static CUresult submit(CUstream handle, si_work_fn *run, CUdeviceptr at, uint64_t value, bool wide, unsigned flags) {
  struct value v = {(void *)(uintptr_t)at, value, wide, flags, 0};
  const size_t bytes = wide ? 8 : 4;
  struct CUstream_st *s;
  struct si_position where;
  if (si_options()->memory_ops < (wide ? 64 : 32)) return CUDA_ERROR_NOT_SUPPORTED;
  const cudaError_t error = si_stream(handle, &s);
  if (error != cudaSuccess) return (CUresult)error;
  v.device = s->device;
  if (at % bytes || !standin_device_can_use(v.at, bytes, s->device)) return CUDA_ERROR_INVALID_VALUE;
  return (CUresult)si_submit(handle, (enum cudaGraphNodeType)CU_GRAPH_NODE_TYPE_BATCH_MEM_OP, run, &v, sizeof v,
                             &where);
}

static CUresult standin_cuStreamWriteValue32(CUstream s, CUdeviceptr at, cuuint32_t value, unsigned flags) {
  ENTER_DRIVER(SAFE);
  return submit(s, run_write, at, value, false, flags);
}

static CUresult standin_cuStreamWriteValue64(CUstream s, CUdeviceptr at, cuuint64_t value, unsigned flags) {
  ENTER_DRIVER(SAFE);
  return submit(s, run_write, at, value, true, flags);
}

static CUresult standin_cuStreamWaitValue32(CUstream s, CUdeviceptr at, cuuint32_t value, unsigned flags) {
  ENTER_DRIVER(SAFE);
  return submit(s, run_wait, at, value, false, flags);
}

static CUresult standin_cuStreamWaitValue64(CUstream s, CUdeviceptr at, cuuint64_t value, unsigned flags) {
  ENTER_DRIVER(SAFE);
  return submit(s, run_wait, at, value, true, flags);
}

static CUresult one_of_batch(CUstream s, const CUstreamBatchMemOpParams *p) {
  switch (p->operation) {
  case CU_STREAM_MEM_OP_WRITE_VALUE_32:
    return submit(s, run_write, p->writeValue.address, p->writeValue.value, false, p->writeValue.flags);
  case CU_STREAM_MEM_OP_WRITE_VALUE_64:
    return submit(s, run_write, p->writeValue.address, p->writeValue.value64, true, p->writeValue.flags);
  case CU_STREAM_MEM_OP_WAIT_VALUE_32:
    return submit(s, run_wait, p->waitValue.address, p->waitValue.value, false, p->waitValue.flags);
  case CU_STREAM_MEM_OP_WAIT_VALUE_64:
    return submit(s, run_wait, p->waitValue.address, p->waitValue.value64, true, p->waitValue.flags);
  case CU_STREAM_MEM_OP_FLUSH_REMOTE_WRITES:
  case CU_STREAM_MEM_OP_BARRIER: return CUDA_SUCCESS; /* all memory is coherent here */
  }
  return CUDA_ERROR_INVALID_VALUE;
}

static CUresult standin_cuStreamBatchMemOp(CUstream s, unsigned count, CUstreamBatchMemOpParams *operations,
                                           unsigned flags) {
  ENTER_DRIVER(SAFE);
  CUresult result = flags ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
  for (unsigned i = 0; i < count && result == CUDA_SUCCESS; i++) result = one_of_batch(s, &operations[i]);
  return result;
}

const struct si_driver_function si_memory_ops[] = {
    SI_DRIVER_FUNCTION(cuStreamWriteValue32, 8000), SI_DRIVER_FUNCTION(cuStreamWriteValue64, 9000),
    SI_DRIVER_FUNCTION(cuStreamWaitValue32, 8000),  SI_DRIVER_FUNCTION(cuStreamWaitValue64, 9000),
    SI_DRIVER_FUNCTION(cuStreamBatchMemOp, 8000),   {0},
};
