/*
 * The backend of NCCL: the libnccl.so.2 that SHMCCL_NCCL_LIB names, as for the NCCL front, or the one that the loader
 * finds. Its public functions are looked up by name; nothing of it is there when this is compiled. Before they have a
 * communicator, and between measurements, ranks meet through a communicator of this library on host memory.
 */
#include "backend.h"

#include "front/nccl_api.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SONAME "libnccl.so.2"

static struct {
#define FUNCTIONS(DO)                                                                                                  \
  DO(GetVersion)                                                                                                       \
  DO(GetUniqueId)                                                                                                      \
  DO(GetErrorString)                                                                                                   \
  DO(CommInitRank)                                                                                                     \
  DO(CommDestroy)                                                                                                      \
  DO(AllReduce)                                                                                                        \
  DO(AllGather) DO(ReduceScatter) DO(Broadcast) DO(Reduce) DO(Send) DO(Recv) DO(GroupStart) DO(GroupEnd)
#define DECLARE(name) __typeof__(nccl##name) *name;
  FUNCTIONS(DECLARE)
  __typeof__(ncclGetLastError) *GetLastError; /* since 2.13 */
  int version;
  nccl_comm_t comm;
} nccl;

/* ---- loading ----------------------------------------------------------------------------------------------------- */

static bool load(struct backend *backend) {
  const char *named = getenv("SHMCCL_NCCL_LIB"), *path = named && *named ? named : SONAME;
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    snprintf(backend->error, sizeof backend->error, "%s; name NCCL's file: SHMCCL_NCCL_LIB=/path/" SONAME, dlerror());
    return false;
  }
  const char *lacks = NULL;
#define TAKE(name)                                                                                                     \
  *(void **)&nccl.name = dlsym(library, "nccl" #name);                                                                 \
  if (!nccl.name) lacks = "nccl" #name;
  FUNCTIONS(TAKE)
  *(void **)&nccl.GetLastError = dlsym(library, "ncclGetLastError");
  if (!lacks && !dlsym(library, "shmccl_nccl_front")) return true;
  snprintf(backend->error, sizeof backend->error, "%.100s %s%s: name NCCL's file: SHMCCL_NCCL_LIB=/path/" SONAME, path,
           lacks ? "is no NCCL: it lacks " : "is this library's front", lacks ? lacks : "");
  return false;
}

static bool check(struct backend *backend, nccl_result_t result) {
  if (result == NCCL_SUCCESS) return true;
  const char *detail = nccl.GetLastError ? nccl.GetLastError(nccl.comm) : NULL;
  snprintf(backend->error, sizeof backend->error, "NCCL: %s%s%.150s", nccl.GetErrorString(result),
           detail && *detail ? ": " : "", detail ? detail : "");
  return false;
}

/* ---- calls ------------------------------------------------------------------------------------------------------- */

/* Both number types and operators alike. Left out: reductions of fp8, which most GPUs' NCCL refuses, and averages that
 * it rounds in its own way, which would be counted as wrong. */
static bool supports(const struct point *point) {
  const bool fp8 = point->type == SHMCCL_FLOAT8E4M3 || point->type == SHMCCL_FLOAT8E5M2;
  if (fp8) return point->op < 0 && nccl.version >= 22400;
  return point->op != SHMCCL_AVG;
}

/* Between this rank and others, all messages in one group. */
static nccl_result_t send_to(const struct backend *backend, const void *from, const struct point *p, int peer) {
  return nccl.Send(from, p->count, (nccl_datatype_t)p->type, peer, nccl.comm, backend->stream);
}

static nccl_result_t receive_from(const struct backend *backend, void *to, const struct point *p, int peer) {
  return nccl.Recv(to, p->count, (nccl_datatype_t)p->type, peer, nccl.comm, backend->stream);
}

static nccl_result_t exchange(const struct backend *backend, const struct point *p, const char *send, char *recv) {
  const int n = backend->nranks, next = (backend->rank + 1) % n, before = (backend->rank + n - 1) % n;
  const size_t bytes = p->count * type_bytes(p->type);
  nccl_result_t result = NCCL_SUCCESS;
  for (int i = 0; i < p->messages && result == NCCL_SUCCESS; i++) {
    result = send_to(backend, send + (size_t)i * bytes, p, next);
    if (result == NCCL_SUCCESS) result = receive_from(backend, recv + (size_t)i * bytes, p, before);
  }
  return result;
}

/* Blocks from and to all ranks, or the root's. */
static nccl_result_t spread(const struct backend *backend, const struct point *p, const char *send, char *recv) {
  const bool root = backend->rank == p->root;
  const size_t bytes = p->count * type_bytes(p->type);
  nccl_result_t result = NCCL_SUCCESS;
  for (int r = 0; r < backend->nranks && result == NCCL_SUCCESS; r++) {
    const size_t at = (size_t)r * bytes;
    const bool sends = p->coll == COLL_ALLTOALL || (p->coll == COLL_SCATTER ? root : r == p->root);
    const bool receives = p->coll == COLL_ALLTOALL || (p->coll == COLL_SCATTER ? r == p->root : root);
    if (sends) result = send_to(backend, p->coll == COLL_GATHER ? send : send + at, p, r);
    if (receives && result == NCCL_SUCCESS)
      result = receive_from(backend, p->coll == COLL_SCATTER ? recv : recv + at, p, r);
  }
  return result;
}

static nccl_result_t in_group(const struct backend *backend, const struct point *p, const void *send, void *recv) {
  nccl_result_t result = nccl.GroupStart();
  if (result != NCCL_SUCCESS) return result;
  result = p->coll == COLL_SENDRECV ? exchange(backend, p, send, recv) : spread(backend, p, send, recv);
  const nccl_result_t end = nccl.GroupEnd();
  return result == NCCL_SUCCESS ? end : result;
}

static bool run(struct backend *backend, const struct point *p, const void *send, void *recv) {
  const nccl_datatype_t type = (nccl_datatype_t)p->type;
  const nccl_redop_t op = (nccl_redop_t)p->op;
  void *stream = backend->stream;
  switch (p->coll) {
  case COLL_ALL_REDUCE: return check(backend, nccl.AllReduce(send, recv, p->count, type, op, nccl.comm, stream));
  case COLL_ALL_GATHER: return check(backend, nccl.AllGather(send, recv, p->count, type, nccl.comm, stream));
  case COLL_REDUCE_SCATTER:
    return check(backend, nccl.ReduceScatter(send, recv, p->count, type, op, nccl.comm, stream));
  case COLL_BROADCAST: return check(backend, nccl.Broadcast(send, recv, p->count, type, p->root, nccl.comm, stream));
  case COLL_REDUCE: return check(backend, nccl.Reduce(send, recv, p->count, type, op, p->root, nccl.comm, stream));
  default: return check(backend, in_group(backend, p, send, recv));
  }
}

/* ---- the communicators ------------------------------------------------------------------------------------------- */

static bool check_meeting(struct backend *backend, shmccl_result_t result) {
  if (result == SHMCCL_SUCCESS) return true;
  snprintf(backend->error, sizeof backend->error, "%s", shmccl_last_error());
  return false;
}

static bool barrier(struct backend *backend) { return check_meeting(backend, shmccl_barrier(backend->handle, NULL)); }

static bool close_comms(struct backend *backend) {
  bool closed = check(backend, nccl.CommDestroy(nccl.comm));
  shmccl_comm_destroy(backend->handle);
  return closed;
}

static const struct backend_ops ops = {supports, run, barrier, close_comms};

static bool meet(struct backend *backend) {
  shmccl_config_t config = SHMCCL_CONFIG_INITIALIZER;
  shmccl_comm_t *comm;
  config.memory = SHMCCL_MEMORY_HOST;
  if (!check_meeting(backend, shmccl_comm_init_env(&comm, &config))) return false;
  backend->handle = comm;
  return check_meeting(backend, shmccl_comm_count(comm, &backend->nranks)) &&
         check_meeting(backend, shmccl_comm_user_rank(comm, &backend->rank));
}

static bool join_comm(struct backend *backend) {
  nccl_unique_id_t mine = {""}, id;
  if (backend->rank == 0 && !check(backend, nccl.GetUniqueId(&mine))) return false;
  return check_meeting(backend, shmccl_broadcast(&mine, &id, sizeof id, SHMCCL_UINT8, 0,
                                                 (shmccl_comm_t *)backend->handle, NULL)) &&
         check(backend, nccl.CommInitRank(&nccl.comm, backend->nranks, id, backend->rank));
}

bool backend_peer_open(struct backend *backend, bool on_gpu, char *version) {
  *backend = (struct backend){.ops = &ops};
  (void)on_gpu; /* always */
  if (!load(backend) || !check(backend, nccl.GetVersion(&nccl.version)) || !meet(backend) || !join_comm(backend))
    return false;
  snprintf(version, 64, "NCCL %d.%d.%d", nccl.version / 10000, nccl.version / 100 % 100, nccl.version % 100);
  return true;
}
