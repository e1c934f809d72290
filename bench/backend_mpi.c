/*
 * The backend of an MPI, whichever this file is compiled against.
 */
#include "backend.h"

#include <limits.h>
#include <mpi.h>
#include <stdio.h>
#include <string.h>

/* MPI has none of the narrow floats. */
static bool native_type(int type, MPI_Datatype *native) {
  switch (type) {
  case SHMCCL_INT8: *native = MPI_INT8_T; return true;
  case SHMCCL_UINT8: *native = MPI_UINT8_T; return true;
  case SHMCCL_INT32: *native = MPI_INT32_T; return true;
  case SHMCCL_UINT32: *native = MPI_UINT32_T; return true;
  case SHMCCL_INT64: *native = MPI_INT64_T; return true;
  case SHMCCL_UINT64: *native = MPI_UINT64_T; return true;
  case SHMCCL_FLOAT32: *native = MPI_FLOAT; return true;
  case SHMCCL_FLOAT64: *native = MPI_DOUBLE; return true;
  default: return false;
  }
}

static bool native_op(int op, MPI_Op *native) {
  switch (op) {
  case SHMCCL_SUM: *native = MPI_SUM; return true;
  case SHMCCL_PROD: *native = MPI_PROD; return true;
  case SHMCCL_MAX: *native = MPI_MAX; return true;
  case SHMCCL_MIN: *native = MPI_MIN; return true;
  default: return false;
  }
}

/* Only out of place, and counts as the int that MPI takes. */
static bool supports(const struct point *point) {
  MPI_Datatype type;
  MPI_Op op;
  return native_type(point->type, &type) && (point->op < 0 || native_op(point->op, &op)) && !point->in_place &&
         point->count <= INT_MAX;
}

static bool check(struct backend *backend, int code) {
  if (code == MPI_SUCCESS) return true;
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(code, text, &length);
  snprintf(backend->error, sizeof backend->error, "%.200s", text);
  return false;
}

/* MPI broadcasts in place; the copy at the root is part of what is measured on the other side too. */
static int broadcast(const struct backend *backend, const struct point *p, MPI_Datatype type, const void *send,
                     void *recv) {
  if (backend->rank == p->root) memcpy(recv, send, p->count * type_bytes(p->type));
  return MPI_Bcast(recv, (int)p->count, type, p->root, MPI_COMM_WORLD);
}

/* Several messages at once, as a group of ours: all are started, then all awaited. */
static int exchange_many(const struct backend *backend, const struct point *p, MPI_Datatype type, const void *send,
                         void *recv) {
  static MPI_Request requests[2 * MESSAGES_MOST];
  static MPI_Status statuses[2 * MESSAGES_MOST]; /* unread: MPICH declares it so that ignoring it is warned about */
  int next = (backend->rank + 1) % backend->nranks, before = (backend->rank + backend->nranks - 1) % backend->nranks;
  size_t bytes = p->count * type_bytes(p->type);
  int started = 0, code = MPI_SUCCESS, count = (int)p->count;
  for (int i = 0; i < p->messages && code == MPI_SUCCESS; i++)
    code = MPI_Irecv((char *)recv + (size_t)i * bytes, count, type, before, 0, MPI_COMM_WORLD, &requests[started++]);
  for (int i = 0; i < p->messages && code == MPI_SUCCESS; i++)
    code =
        MPI_Isend((const char *)send + (size_t)i * bytes, count, type, next, 0, MPI_COMM_WORLD, &requests[started++]);
  return code == MPI_SUCCESS ? MPI_Waitall(started, requests, statuses) : code;
}

static int exchange(const struct backend *backend, const struct point *p, MPI_Datatype type, const void *send,
                    void *recv) {
  int next = (backend->rank + 1) % backend->nranks, before = (backend->rank + backend->nranks - 1) % backend->nranks;
  int count = (int)p->count;
  if (p->messages > 1) return exchange_many(backend, p, type, send, recv);
  return MPI_Sendrecv(send, count, type, next, 0, recv, count, type, before, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
}

static bool run(struct backend *backend, const struct point *p, const void *send, void *recv) {
  MPI_Comm world = MPI_COMM_WORLD;
  MPI_Datatype type = MPI_BYTE;
  MPI_Op op = MPI_SUM;
  int count = (int)p->count, code = MPI_ERR_ARG;
  native_type(p->type, &type);
  native_op(p->op, &op);
  switch (p->coll) {
  case COLL_ALL_REDUCE: code = MPI_Allreduce(send, recv, count, type, op, world); break;
  case COLL_ALL_GATHER: code = MPI_Allgather(send, count, type, recv, count, type, world); break;
  case COLL_REDUCE_SCATTER: code = MPI_Reduce_scatter_block(send, recv, count, type, op, world); break;
  case COLL_BROADCAST: code = broadcast(backend, p, type, send, recv); break;
  case COLL_REDUCE: code = MPI_Reduce(send, recv, count, type, op, p->root, world); break;
  case COLL_ALLTOALL: code = MPI_Alltoall(send, count, type, recv, count, type, world); break;
  case COLL_GATHER: code = MPI_Gather(send, count, type, recv, count, type, p->root, world); break;
  case COLL_SCATTER: code = MPI_Scatter(send, count, type, recv, count, type, p->root, world); break;
  case COLL_SENDRECV: code = exchange(backend, p, type, send, recv); break;
  }
  return check(backend, code);
}

static bool barrier(struct backend *backend) { return check(backend, MPI_Barrier(MPI_COMM_WORLD)); }

static bool close_mpi(struct backend *backend) { return check(backend, MPI_Finalize()); }

static const struct backend_ops ops = {supports, run, barrier, close_mpi};

bool backend_peer_open(struct backend *backend, bool on_gpu, char *version) {
  static char library[MPI_MAX_LIBRARY_VERSION_STRING];
  int length;
  (void)on_gpu; /* none of its ranks is ever told to be */
  *backend = (struct backend){.ops = &ops};
  if (!check(backend, MPI_Init(NULL, NULL))) return false;
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  MPI_Comm_rank(MPI_COMM_WORLD, &backend->rank);
  MPI_Comm_size(MPI_COMM_WORLD, &backend->nranks);
  MPI_Get_library_version(library, &length);
  for (char *c = library; *c; c++) /* MPICH writes "MPICH Version:\t4.0.2\nMPICH Release date: ..." */
    if (*c == '\t') *c = ' ';
  library[strcspn(library, ",\n")] = '\0';
  snprintf(version, 64, "%.63s", library);
  return true;
}
