/*
 * worker.h - a thread that runs allreduces, one after the other, for a thread that must not wait.
 *
 * One thread posts and looks (NCCL's progress thread): neither takes a lock nor waits, and there is a system call only
 * where a post has to wake the worker. The worker owns the communicator: nobody else calls it. Its first failure is its
 * last, and is told to all ranks: what was posted after it fails alike.
 *
 * Where ranks take CUDA pointers, all of them cut all jobs into chunks, since those whose buffers are a GPU's must:
 * while one is reduced the next come from the GPU, and the last ones go back.
 */
#ifndef SHMI_WORKER_H
#define SHMI_WORKER_H

#include <stdbool.h>

#include "plugin/plugin.h"

enum { SHMI_WORKER_JOBS = 32 }; /* that may be posted and not yet done; a power of two */

struct shmi_job {
  const void *sendbuf;
  void *recvbuf;
  size_t count;
  shmccl_datatype_t datatype;
  shmccl_redop_t op;
  bool send_is_on_device, recv_is_on_device; /* a GPU's memory; then shmi_worker_use_device() comes first */
};

struct shmi_worker;

/* Starts the thread, which logs to `log`, on `cpu` (-1: where the kernel likes). The worker owns comm on success only.
 */
nccl_result_t shmi_worker_start(struct shmi_worker **worker, shmccl_comm_t *comm, int cpu,
                                const struct shmi_plugin_log *log);

/* Before jobs on a GPU's memory, such as `memory`. Any thread, one at a time. */
shmccl_result_t shmi_worker_use_device(struct shmi_worker *worker, const void *memory);

/* Jobs are numbered 0, 1, ... on the circle. False, and nothing is posted, if SHMI_WORKER_JOBS are not done yet. */
bool shmi_worker_post(struct shmi_worker *worker, const struct shmi_job *job, uint32_t *number);

/* Whether that job, one of the SHMI_WORKER_JOBS newest, is done; an error if it failed or never will be done. */
nccl_result_t shmi_worker_look(const struct shmi_worker *worker, uint32_t number, bool *done);

/* The failure that the worker is in, or success. */
nccl_result_t shmi_worker_state(const struct shmi_worker *worker);

/* Ends the thread and frees everything, the communicator too. Jobs that are not done are given up, on all ranks. In a
 * forked child, where there is no thread, it frees the child's copy. */
void shmi_worker_stop(struct shmi_worker *worker);

#endif
