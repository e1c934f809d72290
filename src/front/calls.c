/* calls.c - the collectives: the engine's or NCCL's. */
#include "front/group.h"

/* What only the root has is not looked at elsewhere by NCCL, so programs pass anything. */
static struct shmi_front_call without_unused(const struct shmi_front_call *call, int rank) {
  struct shmi_front_call c = *call;
  if (c.root == rank) return c;
  if (c.collective == SHMI_BROADCAST || c.collective == SHMI_SCATTER) c.sendbuf = NULL;
  if (c.collective == SHMI_REDUCE || c.collective == SHMI_GATHER) c.recvbuf = NULL;
  return c;
}

/* The engine may have been given up meanwhile by an abort: that is the engine's error then. */
nccl_result_t shmi_front_make(struct shmi_front_comm *comm, const struct shmi_front_call *call) {
  const struct shmi_front_call used = without_unused(call, comm->rank);
  const nccl_result_t result = shmi_front_engine(shmi_front_run(&used, comm->engine));
  shmi_front_count(comm, SHMI_FRONT_DIVERTED, shmi_front_bytes(call));
  return result;
}

/* It is decided, or was waited for. False: it was aborted meanwhile, and cannot be given to NCCL either. */
static bool choose(struct shmi_front_comm *comm, const struct shmi_front_call *call, enum shmi_front_way *way) {
  shmccl_comm_t *engine;
  if (!shmi_front_look(comm, &engine)) {
    if (shmi_birth_finish(comm)) return false;
    shmi_front_look(comm, &engine);
  }
  *way = engine ? shmi_front_way_of(call, comm->nranks) : SHMI_FRONT_NOT_AGREED;
  return true;
}

static nccl_result_t refuse(struct shmi_front_comm *comm) {
  shmi_front_release(comm);
  return shmi_front_error(NCCL_INVALID_USAGE, "shmccl: the communicator was aborted or revoked while this call waited "
                                              "for its ranks to agree");
}

/* False: it is NCCL's. */
static bool divert(nccl_comm_t handle, const struct shmi_front_call *call, nccl_result_t *result) {
  struct shmi_front_comm *comm = shmi_front_hold(handle);
  enum shmi_front_way way;
  if (!comm) return false;
  if (!choose(comm, call, &way)) return *result = refuse(comm), true;
  if (way != SHMI_FRONT_DIVERTED) return shmi_front_count(comm, way, shmi_front_bytes(call)), false;
  *result = shmi_group_is_open() ? shmi_group_put_call(comm, call) : shmi_front_make(comm, call);
  return true;
}

/* Tries the call that stands in `arguments` as struct shmi_front_call's members, then NCCL. */
#define DIVERT_OR(nccl, name, arguments, ...)                                                                          \
  do {                                                                                                                 \
    const struct shmi_front_call call_ = {__VA_ARGS__};                                                                \
    nccl_result_t result_;                                                                                             \
    if (divert(comm, &call_, &result_)) return result_;                                                                \
    const struct shmi_nccl *nccl_ = (nccl);                                                                            \
    return SHMI_NCCL_CALL(nccl_, name, arguments);                                                                     \
  } while (0)

nccl_result_t ncclAllReduce(const void *sendbuf, void *recvbuf, size_t count, nccl_datatype_t datatype, nccl_redop_t op,
                            nccl_comm_t comm, void *stream) {
  DIVERT_OR(shmi_nccl_real(), AllReduce, (sendbuf, recvbuf, count, datatype, op, comm, stream), SHMI_ALLREDUCE, sendbuf,
            recvbuf, count, datatype, op, 0, stream);
}

nccl_result_t ncclAllGather(const void *sendbuf, void *recvbuf, size_t count, nccl_datatype_t datatype,
                            nccl_comm_t comm, void *stream) {
  DIVERT_OR(shmi_nccl_real(), AllGather, (sendbuf, recvbuf, count, datatype, comm, stream), SHMI_ALLGATHER, sendbuf,
            recvbuf, count, datatype, NCCL_SUM, 0, stream);
}

nccl_result_t ncclReduceScatter(const void *sendbuf, void *recvbuf, size_t count, nccl_datatype_t datatype,
                                nccl_redop_t op, nccl_comm_t comm, void *stream) {
  DIVERT_OR(shmi_nccl_real(), ReduceScatter, (sendbuf, recvbuf, count, datatype, op, comm, stream), SHMI_REDUCE_SCATTER,
            sendbuf, recvbuf, count, datatype, op, 0, stream);
}

nccl_result_t ncclReduce(const void *sendbuf, void *recvbuf, size_t count, nccl_datatype_t datatype, nccl_redop_t op,
                         int root, nccl_comm_t comm, void *stream) {
  DIVERT_OR(shmi_nccl_real(), Reduce, (sendbuf, recvbuf, count, datatype, op, root, comm, stream), SHMI_REDUCE, sendbuf,
            recvbuf, count, datatype, op, root, stream);
}

nccl_result_t ncclAlltoAll(const void *sendbuf, void *recvbuf, size_t count, nccl_datatype_t datatype, nccl_comm_t comm,
                           void *stream) {
  DIVERT_OR(shmi_nccl_real(), AlltoAll, (sendbuf, recvbuf, count, datatype, comm, stream), SHMI_ALLTOALL, sendbuf,
            recvbuf, count, datatype, NCCL_SUM, 0, stream);
}

nccl_result_t ncclGather(const void *sendbuf, void *recvbuf, size_t count, nccl_datatype_t datatype, int root,
                         nccl_comm_t comm, void *stream) {
  DIVERT_OR(shmi_nccl_real(), Gather, (sendbuf, recvbuf, count, datatype, root, comm, stream), SHMI_GATHER, sendbuf,
            recvbuf, count, datatype, NCCL_SUM, root, stream);
}

nccl_result_t ncclScatter(const void *sendbuf, void *recvbuf, size_t count, nccl_datatype_t datatype, int root,
                          nccl_comm_t comm, void *stream) {
  DIVERT_OR(shmi_nccl_real(), Scatter, (sendbuf, recvbuf, count, datatype, root, comm, stream), SHMI_SCATTER, sendbuf,
            recvbuf, count, datatype, NCCL_SUM, root, stream);
}

/* NCCL's ncclBcast() calls ncclBroadcast() by name, and so comes back here: decided once, it goes straight on. */
static _Thread_local bool in_bcast;

nccl_result_t ncclBroadcast(const void *sendbuf, void *recvbuf, size_t count, nccl_datatype_t datatype, int root,
                            nccl_comm_t comm, void *stream) {
  const struct shmi_nccl *nccl = shmi_nccl_real();
  if (in_bcast) return SHMI_NCCL_CALL(nccl, Broadcast, (sendbuf, recvbuf, count, datatype, root, comm, stream));
  DIVERT_OR(shmi_nccl_for(SHMI_CALLER()), Broadcast, (sendbuf, recvbuf, count, datatype, root, comm, stream),
            SHMI_BROADCAST, sendbuf, recvbuf, count, datatype, NCCL_SUM, root, stream);
}

static nccl_result_t real_bcast(void *buffer, size_t count, nccl_datatype_t datatype, int root, nccl_comm_t comm,
                                void *stream) {
  const struct shmi_nccl *nccl = shmi_nccl_real();
  in_bcast = true;
  const nccl_result_t result = SHMI_NCCL_CALL(nccl, Bcast, (buffer, count, datatype, root, comm, stream));
  in_bcast = false;
  return result;
}

nccl_result_t ncclBcast(void *buffer, size_t count, nccl_datatype_t datatype, int root, nccl_comm_t comm,
                        void *stream) {
  const struct shmi_front_call call = {SHMI_BROADCAST, buffer, buffer, count, datatype, NCCL_SUM, root, stream};
  nccl_result_t result;
  return divert(comm, &call, &result) ? result : real_bcast(buffer, count, datatype, root, comm, stream);
}

SHMI_SECOND_NAME(AllReduce)
SHMI_SECOND_NAME(AllGather)
SHMI_SECOND_NAME(ReduceScatter)
SHMI_SECOND_NAME(Reduce)
SHMI_SECOND_NAME(AlltoAll)
SHMI_SECOND_NAME(Gather)
SHMI_SECOND_NAME(Scatter)
SHMI_SECOND_NAME(Broadcast)
SHMI_SECOND_NAME(Bcast)
