/*
 * divert.c - the table of what the engine takes.
 *
 * It is short because nothing has been measured on a GPU yet: what the engine computes as NCCL does, it takes at every
 * size. Send and receive stay with NCCL (docs/front.md says why). So do
 *   operators of a program's own (ncclRedOpCreatePreMulSum): their factor may lie in device memory;
 *   minima and maxima of floats: NCCL's answer for NaN is not the engine's;
 *   fp8 reductions: the engine saturates;
 *   arguments that are out of range: NCCL says what is wrong with them, as it would without the front.
 */
#include "front/divert.h"

enum {
  ANY_TYPE = (1 << SHMCCL_DATATYPE_COUNT) - 1,
  INTEGERS = 1 << NCCL_INT8 | 1 << NCCL_UINT8 | 1 << NCCL_INT32 | 1 << NCCL_UINT32 | 1 << NCCL_INT64 | 1 << NCCL_UINT64,
  FLOATS = 1 << NCCL_FLOAT16 | 1 << NCCL_FLOAT32 | 1 << NCCL_FLOAT64 | 1 << NCCL_BFLOAT16
};

static const int types_of_op[] = {[NCCL_SUM] = INTEGERS | FLOATS,
                                  [NCCL_PROD] = INTEGERS | FLOATS,
                                  [NCCL_MAX] = INTEGERS,
                                  [NCCL_MIN] = INTEGERS,
                                  [NCCL_AVG] = INTEGERS | FLOATS};

static bool reduces(enum shmi_collective c) {
  return c == SHMI_ALLREDUCE || c == SHMI_REDUCE || c == SHMI_REDUCE_SCATTER;
}

static bool has_root(enum shmi_collective c) {
  return c == SHMI_BROADCAST || c == SHMI_REDUCE || c == SHMI_GATHER || c == SHMI_SCATTER;
}

uint64_t shmi_front_bytes(const struct shmi_front_call *c) {
  return c->count * shmccl_datatype_size((shmccl_datatype_t)c->datatype);
}

enum shmi_front_way shmi_front_way_of(const struct shmi_front_call *c, int nranks) {
  const uint64_t most = (uint64_t)1 << 37; /* the engine's, of all blocks */
  const size_t element = shmccl_datatype_size((shmccl_datatype_t)c->datatype);
  if (!c->count || !element || c->count > most / element / (uint64_t)nranks) return SHMI_FRONT_NOT_USEFUL;
  if (has_root(c->collective) && (c->root < 0 || c->root >= nranks)) return SHMI_FRONT_NOT_USEFUL;
  if (!reduces(c->collective)) return SHMI_FRONT_DIVERTED;
  if ((unsigned)c->op > NCCL_AVG || !(types_of_op[c->op] & 1 << c->datatype)) return SHMI_FRONT_NOT_OP;
  return SHMI_FRONT_DIVERTED;
}

/* Both number types and operators alike (plugin/convert.c). */
_Static_assert((int)NCCL_AVG == (int)SHMCCL_AVG, "operators");

shmccl_result_t shmi_front_run(const struct shmi_front_call *c, shmccl_comm_t *engine) {
  const shmccl_datatype_t type = (shmccl_datatype_t)c->datatype;
  const shmccl_redop_t op = (shmccl_redop_t)c->op;
  switch (c->collective) {
  case SHMI_ALLREDUCE: return shmccl_allreduce(c->sendbuf, c->recvbuf, c->count, type, op, engine, c->stream);
  case SHMI_ALLGATHER: return shmccl_allgather(c->sendbuf, c->recvbuf, c->count, type, engine, c->stream);
  case SHMI_REDUCE_SCATTER: return shmccl_reduce_scatter(c->sendbuf, c->recvbuf, c->count, type, op, engine, c->stream);
  case SHMI_BROADCAST: return shmccl_broadcast(c->sendbuf, c->recvbuf, c->count, type, c->root, engine, c->stream);
  case SHMI_REDUCE: return shmccl_reduce(c->sendbuf, c->recvbuf, c->count, type, op, c->root, engine, c->stream);
  case SHMI_ALLTOALL: return shmccl_alltoall(c->sendbuf, c->recvbuf, c->count, type, engine, c->stream);
  case SHMI_GATHER: return shmccl_gather(c->sendbuf, c->recvbuf, c->count, type, c->root, engine, c->stream);
  case SHMI_SCATTER: return shmccl_scatter(c->sendbuf, c->recvbuf, c->count, type, c->root, engine, c->stream);
  default: return shmi_error(SHMCCL_ERROR_INTERNAL, "front: no collective %d", (int)c->collective);
  }
}
