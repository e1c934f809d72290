/*
 * worker.c - a ring of jobs with one poster and one worker.
 *
 * `posted` is the poster's line, `completed` and `failure` are the worker's. The semaphore counts jobs that the worker
 * has not taken; it enters the kernel only for a worker that sleeps. The worker spins a little before it sleeps: the
 * next chunk of a large message follows within microseconds.
 */
#include "plugin/worker.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/ordering.h"
#include "base/thread.h"
#include "comm/comm.h"
#include "shm/liveness.h"

enum { LINE = 128, YIELDS_NS = 50000 };

struct shmi_worker {
  /* the poster's */
  _Alignas(LINE) uint32_t posted;
  struct shmi_job jobs[SHMI_WORKER_JOBS]; /* job i at i % SHMI_WORKER_JOBS, given back by `completed` */
  /* both */
  _Alignas(LINE) sem_t waiting;
  uint32_t stopping;
  /* the worker's */
  _Alignas(LINE) uint32_t completed;
  uint32_t failure; /* nccl_result_t; later jobs are never done */
  /* constant */
  _Alignas(LINE) shmccl_comm_t *comm;
  struct shmi_plugin_log log;
  pthread_t thread;
  int cpu;
  uint32_t fork_generation;
};

/* ---- the worker's thread ----------------------------------------------------------------------------------------- */

/* Yields rather than spins: posters and peers may need this CPU. */
static void await_job(struct shmi_worker *w) {
  const uint64_t until = shmi_now_ns() + YIELDS_NS;
  do {
    if (!sem_trywait(&w->waiting)) return;
    sched_yield();
  } while (shmi_now_ns() < until);
  while (sem_wait(&w->waiting) && errno == EINTR) continue;
}

/* False if it failed. */
static bool run(struct shmi_worker *w, const struct shmi_job *job) {
  const shmccl_result_t result =
      shmccl_allreduce(job->sendbuf, job->recvbuf, job->count, job->datatype, job->op, w->comm, NULL);
  if (result == SHMCCL_SUCCESS) return true;
  shmccl_comm_abort(w->comm); /* this rank makes no further call: nobody shall wait for it */
  shmi_publish32(&w->failure, (uint32_t)shmi_plugin_result(result));
  return false;
}

static void *work(void *context) {
  struct shmi_worker *w = context;
  const struct shmi_log_sink before = shmi_plugin_log_enter(&w->log);
  for (uint32_t next = 0;; next++) {
    await_job(w);
    if (shmi_observe32(&w->stopping)) break;
    if (!run(w, &w->jobs[next % SHMI_WORKER_JOBS])) break;
    shmi_publish32(&w->completed, next + 1);
  }
  shmi_plugin_log_leave(before);
  return NULL;
}

/* ---- start and stop ------------------------------------------------------------------------------------------------
 */

/* A kernel that refuses leaves the thread where it is. */
static void settle(const struct shmi_worker *w) {
  cpu_set_t set;
  pthread_setname_np(w->thread, "shmccl-collnet");
  if (w->cpu < 0 || w->cpu >= CPU_SETSIZE) return;
  CPU_ZERO(&set);
  CPU_SET(w->cpu, &set);
  pthread_setaffinity_np(w->thread, sizeof set, &set);
}

nccl_result_t shmi_worker_start(struct shmi_worker **worker, shmccl_comm_t *comm, int cpu,
                                const struct shmi_plugin_log *log) {
  struct shmi_worker *w = aligned_alloc(LINE, sizeof *w);
  if (!w) return shmi_plugin_error(log, NCCL_SYSTEM_ERROR, "no memory for a CollNet communicator: %m");
  memset(w, 0, sizeof *w);
  w->comm = comm;
  w->log = *log;
  w->cpu = cpu;
  w->fork_generation = shmi_fork_generation();
  sem_init(&w->waiting, 0, 0);
  const int error = shmi_thread_start(&w->thread, work, w);
  if (error) {
    sem_destroy(&w->waiting);
    free(w);
    return shmi_plugin_error(log, NCCL_SYSTEM_ERROR, "no thread for a CollNet communicator: %s", strerror(error));
  }
  settle(w);
  *worker = w;
  return NCCL_SUCCESS;
}

void shmi_worker_stop(struct shmi_worker *w) {
  if (w->fork_generation == shmi_fork_generation()) {
    shmi_publish32(&w->stopping, 1);
    if (shmi_observe32(&w->completed) != w->posted) shmccl_comm_abort(w->comm);
    sem_post(&w->waiting);
    pthread_join(w->thread, NULL);
    sem_destroy(&w->waiting);
  }
  shmccl_comm_destroy(w->comm);
  free(w);
}

/* ---- the poster's calls ------------------------------------------------------------------------------------------ */

bool shmi_worker_post(struct shmi_worker *w, const struct shmi_job *job, uint32_t *number) {
  if (w->posted - shmi_observe32(&w->completed) == SHMI_WORKER_JOBS) return false;
  *number = w->posted;
  w->jobs[w->posted++ % SHMI_WORKER_JOBS] = *job;
  sem_post(&w->waiting);
  return true;
}

nccl_result_t shmi_worker_state(const struct shmi_worker *w) { return (nccl_result_t)shmi_observe32(&w->failure); }

/* The failure is looked at first: it is published after the last completion. */
nccl_result_t shmi_worker_look(const struct shmi_worker *w, uint32_t number, bool *done) {
  const nccl_result_t state = shmi_worker_state(w);
  const bool is_done = (int32_t)(shmi_observe32(&w->completed) - number) > 0;
  if (!is_done && state != NCCL_SUCCESS) return state;
  *done = is_done;
  return NCCL_SUCCESS;
}
