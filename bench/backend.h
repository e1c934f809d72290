/*
 * What a worker measures through: one rank of a communicator of this library or of an MPI. All are timed by the same
 * loop (worker.c), which calls these few functions.
 */
#ifndef BENCH_BACKEND_H
#define BENCH_BACKEND_H

#include "coll.h"

struct backend;

struct backend_ops {
  /* False if this library has no such type, operator or count. */
  bool (*supports)(const struct point *point);
  /* These return false after writing the cause to backend->error. */
  bool (*run)(struct backend *backend, const struct point *point, const void *send, void *recv);
  bool (*barrier)(struct backend *backend);
  bool (*close)(struct backend *backend); /* collective: all ranks are done */
};

struct backend {
  const struct backend_ops *ops;
  void *handle;
  void *stream; /* of the rank's GPU, which calls are enqueued on; NULL: buffers are host memory */
  int rank;
  int nranks;
  char error[256];
};

bool backend_shmccl_open(struct backend *backend, int nranks, int rank, const shmccl_unique_id_t *id,
                         const shmccl_config_t *config);
/* As a rank that torchrun, mpirun or srun started. */
bool backend_shmccl_join(struct backend *backend, const shmccl_config_t *config);
/* All ranks' `bytes`, one after the other, to every rank. */
bool backend_shmccl_share(struct backend *backend, const void *mine, void *all, size_t bytes);
/* All ranks' calls fail from now on. */
void backend_shmccl_abort(struct backend *backend);

/* For the programs that shmccl-perf starts (peer.c): as a rank that a launcher started. on_gpu: buffers will be memory
 * of the GPU that the thread uses. version: at least 64 bytes. */
bool backend_peer_open(struct backend *backend, bool on_gpu, char *version);

#endif
