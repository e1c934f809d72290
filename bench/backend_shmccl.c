/*
 * The backend of this library, by its public header alone.
 */
#include "backend.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool check(struct backend *backend, shmccl_result_t result) {
  if (result == SHMCCL_SUCCESS) return true;
  const char *detail = shmccl_last_error();
  snprintf(backend->error, sizeof backend->error, "%s", *detail ? detail : shmccl_error_string(result));
  return false;
}

static bool supports(const struct point *point) {
  (void)point;
  return true;
}

/* Every rank sends to the next one and receives from the one before: all messages in one group. */
static shmccl_result_t exchange(const struct backend *backend, const struct point *p, const void *send, void *recv) {
  int next = (backend->rank + 1) % backend->nranks, before = (backend->rank + backend->nranks - 1) % backend->nranks;
  shmccl_comm_t *comm = backend->handle;
  shmccl_datatype_t type = (shmccl_datatype_t)p->type;
  const size_t bytes = p->count * type_bytes(p->type);
  shmccl_result_t result = shmccl_group_start(comm);
  for (int i = 0; i < p->messages && result == SHMCCL_SUCCESS; i++) {
    const size_t at = (size_t)i * bytes;
    result = shmccl_send((const char *)send + at, p->count, type, next, comm, backend->stream);
    if (result == SHMCCL_SUCCESS)
      result = shmccl_recv((char *)recv + at, p->count, type, before, comm, backend->stream);
  }
  shmccl_result_t end = shmccl_group_end(comm);
  return result == SHMCCL_SUCCESS ? end : result;
}

static bool run(struct backend *backend, const struct point *p, const void *send, void *recv) {
  shmccl_comm_t *comm = backend->handle;
  shmccl_datatype_t type = (shmccl_datatype_t)p->type;
  shmccl_redop_t op = (shmccl_redop_t)p->op;
  shmccl_result_t result = SHMCCL_ERROR_INVALID_ARGUMENT;
  switch (p->coll) {
  case COLL_ALL_REDUCE: result = shmccl_allreduce(send, recv, p->count, type, op, comm, backend->stream); break;
  case COLL_ALL_GATHER: result = shmccl_allgather(send, recv, p->count, type, comm, backend->stream); break;
  case COLL_REDUCE_SCATTER:
    result = shmccl_reduce_scatter(send, recv, p->count, type, op, comm, backend->stream);
    break;
  case COLL_BROADCAST: result = shmccl_broadcast(send, recv, p->count, type, p->root, comm, backend->stream); break;
  case COLL_REDUCE: result = shmccl_reduce(send, recv, p->count, type, op, p->root, comm, backend->stream); break;
  case COLL_ALLTOALL: result = shmccl_alltoall(send, recv, p->count, type, comm, backend->stream); break;
  case COLL_GATHER: result = shmccl_gather(send, recv, p->count, type, p->root, comm, backend->stream); break;
  case COLL_SCATTER: result = shmccl_scatter(send, recv, p->count, type, p->root, comm, backend->stream); break;
  case COLL_SENDRECV: result = exchange(backend, p, send, recv); break;
  }
  return check(backend, result);
}

static bool barrier(struct backend *backend) { return check(backend, shmccl_barrier(backend->handle, NULL)); }

static bool close_comm(struct backend *backend) {
  bool done = check(backend, shmccl_comm_finalize(backend->handle));
  shmccl_comm_destroy(backend->handle);
  return done;
}

static const struct backend_ops ops = {supports, run, barrier, close_comm};

bool backend_shmccl_open(struct backend *backend, int nranks, int rank, const shmccl_unique_id_t *id,
                         const shmccl_config_t *config) {
  *backend = (struct backend){.ops = &ops, .rank = rank, .nranks = nranks};
  shmccl_comm_t *comm;
  if (!check(backend, shmccl_comm_init_rank(&comm, nranks, id, rank, config))) return false;
  backend->handle = comm;
  return true;
}

bool backend_shmccl_join(struct backend *backend, const shmccl_config_t *config) {
  *backend = (struct backend){.ops = &ops};
  shmccl_comm_t *comm;
  if (!check(backend, shmccl_comm_init_env(&comm, config))) return false;
  backend->handle = comm;
  return check(backend, shmccl_comm_count(comm, &backend->nranks)) &&
         check(backend, shmccl_comm_user_rank(comm, &backend->rank));
}

bool backend_shmccl_share(struct backend *backend, const void *mine, void *all, size_t bytes) {
  return check(backend, shmccl_allgather(mine, all, bytes, SHMCCL_UINT8, backend->handle, NULL));
}

void backend_shmccl_abort(struct backend *backend) { shmccl_comm_abort(backend->handle); }

/* The library that was asked for is the one that is loaded: another one's figures would be worse than none. */
static bool check_loaded(struct backend *backend) {
  const char *wanted = getenv("LD_PRELOAD");
  void *symbol = dlsym(RTLD_DEFAULT, "shmccl_version");
  char loaded[PATH_MAX];
  Dl_info info;
  bool known = symbol && dladdr(symbol, &info) && realpath(info.dli_fname, loaded);
  if (wanted && known && !strcmp(loaded, wanted)) return true;
  snprintf(backend->error, sizeof backend->error, "%.100s was not loaded, but %.100s: is it a libshmccl.so?",
           wanted ? wanted : "?", known ? loaded : "?");
  return false;
}

bool backend_peer_open(struct backend *backend, bool on_gpu, char *version) {
  shmccl_config_t config = SHMCCL_CONFIG_INITIALIZER;
  int code = shmccl_version();
  if (!check_loaded(backend)) return false;
  snprintf(version, 64, "%d.%d.%d", code / 10000, code / 100 % 100, code % 100);
  config.memory = on_gpu ? SHMCCL_MEMORY_CUDA : SHMCCL_MEMORY_HOST;
  return backend_shmccl_join(backend, &config);
}
