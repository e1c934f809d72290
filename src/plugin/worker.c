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
#include <time.h>

#include "base/clock.h"
#include "base/ordering.h"
#include "base/thread.h"
#include "comm/comm.h"
#include "plugin/gdr.h"
#include "plugin/staging.h"
#include "shm/liveness.h"

enum { LINE = 128, YIELDS_NS = 50000, LOOKS = 64 };

/* The next chunk of the jobs. */
struct cursor {
  uint32_t job;
  size_t at;       /* bytes of it that are passed */
  uint32_t staged; /* chunks passed so far that are staged */
};

struct shmi_worker {
  /* the poster's */
  _Alignas(LINE) uint32_t posted;
  struct shmi_job jobs[SHMI_WORKER_JOBS]; /* job i at i % SHMI_WORKER_JOBS, given back by `completed` */
  /* both */
  _Alignas(LINE) sem_t waiting;
  uint32_t stopping;
  /* the worker's */
  _Alignas(LINE) uint32_t completed;
  uint32_t failure;                  /* nccl_result_t; later jobs are never done */
  uint32_t staged[SHMI_WORKER_JOBS]; /* of completed jobs: the copies to the device that they end with, if any */
  uint32_t taken;                    /* jobs that may be begun */
  struct cursor fetched, reduced;    /* asked of the GPU; reduced */
  /* constant */
  _Alignas(LINE) shmccl_comm_t *comm;
  struct shmi_plugin_log log;
  struct shmi_staging staging; /* made before the first job that needs it is posted */
  size_t chunk_bytes;
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

static const struct shmi_job *job_at(const struct shmi_worker *w, const struct cursor *c) {
  return &w->jobs[c->job % SHMI_WORKER_JOBS];
}

static bool is_staged(const struct shmi_job *job) { return job->send_is_on_device || job->recv_is_on_device; }

static size_t bytes_of(const struct shmi_job *job) { return job->count * shmccl_datatype_size(job->datatype); }

static size_t chunk_at(const struct shmi_worker *w, const struct cursor *c) {
  const size_t left = bytes_of(job_at(w, c)) - c->at;
  return left < w->chunk_bytes ? left : w->chunk_bytes;
}

static void pass(const struct shmi_worker *w, struct cursor *c) {
  c->staged += is_staged(job_at(w, c));
  c->at += chunk_at(w, c);
  if (c->at < bytes_of(job_at(w, c))) return;
  c->at = 0;
  c->job++;
}

static const void *add(const void *p, size_t bytes) { return (const uint8_t *)p + bytes; }

/* Has the GPU send what comes next, as far as there are buffers. */
static void fetch(struct shmi_worker *w) {
  struct cursor *c = &w->fetched;
  const struct shmi_staging *s = &w->staging;
  for (; c->job != w->taken; pass(w, c)) {
    const struct shmi_job *job = job_at(w, c);
    if (!is_staged(job)) continue;
    if (c->staged - shmi_track_done(s->out) == SHMI_STAGED_CHUNKS) return;
    shmi_track_post(s->in, shmi_staging_buffer(s, c->staged), add(job->sendbuf, c->at),
                    job->send_is_on_device ? chunk_at(w, c) : 0);
  }
}

/* Until the next chunk's input is in its buffer. */
static shmccl_result_t await_input(struct shmi_worker *w) {
  const struct shmi_staging *s = &w->staging;
  for (int looks = 0; (int32_t)(shmi_track_done(s->in) - w->reduced.staged) <= 0; looks++) {
    SHMI_RETURN_IF_ERROR(shmi_track_state(s->in));
    if (shmi_observe32(&w->stopping)) return SHMCCL_ERROR_ABORTED;
    if (w->fetched.staged == w->reduced.staged) fetch(w); /* there was no buffer */
    if (looks < LOOKS)
      sched_yield();
    else
      nanosleep(&(struct timespec){.tv_nsec = 10000}, NULL);
  }
  return SHMCCL_SUCCESS;
}

static shmccl_result_t reduce_staged(struct shmi_worker *w, const struct shmi_job *job) {
  const struct shmi_staging *s = &w->staging;
  uint8_t *buffer = shmi_staging_buffer(s, w->reduced.staged);
  const size_t at = w->reduced.at, bytes = chunk_at(w, &w->reduced);
  uint8_t *recvbuf = (uint8_t *)job->recvbuf + at;
  SHMI_RETURN_IF_ERROR(await_input(w));
  SHMI_RETURN_IF_ERROR(shmccl_allreduce(
      job->send_is_on_device ? buffer : add(job->sendbuf, at), job->recv_is_on_device ? buffer : recvbuf,
      bytes / shmccl_datatype_size(job->datatype), job->datatype, job->op, w->comm, NULL));
  shmi_track_post(s->out, recvbuf, buffer, job->recv_is_on_device ? bytes : 0);
  return SHMCCL_SUCCESS;
}

/* The next chunk. */
static shmccl_result_t reduce(struct shmi_worker *w) {
  const struct shmi_job *job = job_at(w, &w->reduced);
  const size_t at = w->reduced.at;
  if (is_staged(job)) return reduce_staged(w, job);
  return shmccl_allreduce(add(job->sendbuf, at), (uint8_t *)job->recvbuf + at,
                          chunk_at(w, &w->reduced) / shmccl_datatype_size(job->datatype), job->datatype, job->op,
                          w->comm, NULL);
}

/* False if it failed. */
static bool run(struct shmi_worker *w) {
  const uint32_t job = w->reduced.job;
  const shmccl_result_t result = reduce(w);
  if (result != SHMCCL_SUCCESS) {
    shmccl_comm_abort(w->comm); /* this rank makes no further call: nobody shall wait for it */
    shmi_publish32(&w->failure, (uint32_t)shmi_plugin_result(result));
    return false;
  }
  pass(w, &w->reduced);
  w->staged[job % SHMI_WORKER_JOBS] = w->reduced.staged;
  if (w->reduced.job != job) shmi_publish32(&w->completed, w->reduced.job);
  return true;
}

static void *work(void *context) {
  struct shmi_worker *w = context;
  const struct shmi_log_sink before = shmi_plugin_log_enter(&w->log);
  do {
    if (w->reduced.job == w->taken) await_job(w), w->taken++;
    while (!sem_trywait(&w->waiting)) w->taken++;
    if (shmi_observe32(&w->stopping)) break;
    fetch(w);
  } while (run(w));
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
  w->chunk_bytes = shmi_gdr_offered() ? SHMI_STAGED_BYTES : SIZE_MAX;
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
  shmi_staging_close(&w->staging);
  shmccl_comm_destroy(w->comm);
  free(w);
}

shmccl_result_t shmi_worker_use_device(struct shmi_worker *w, const void *memory) {
  if (w->staging.buffers) return shmi_track_check(w->staging.in, memory);
  return shmi_staging_open(&w->staging, memory);
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

/* Whether what a completed job wrote is in the GPU's memory. */
static nccl_result_t look_at_copies(const struct shmi_worker *w, uint32_t number, bool *done) {
  const struct shmi_track *out = w->staging.out;
  *done = (int32_t)(shmi_track_done(out) - w->staged[number % SHMI_WORKER_JOBS]) >= 0;
  if (*done) return NCCL_SUCCESS;
  const struct shmi_log_sink before = shmi_plugin_log_enter(&w->log);
  const shmccl_result_t result = shmi_track_state(out);
  shmi_plugin_log_leave(before);
  return result == SHMCCL_SUCCESS ? NCCL_SUCCESS : shmi_plugin_result(result);
}

/* The failure is looked at first: it is published after the last completion. */
nccl_result_t shmi_worker_look(const struct shmi_worker *w, uint32_t number, bool *done) {
  const nccl_result_t state = shmi_worker_state(w);
  const bool is_completed = (int32_t)(shmi_observe32(&w->completed) - number) > 0;
  if (!is_completed && state != NCCL_SUCCESS) return state;
  if (is_completed && is_staged(&w->jobs[number % SHMI_WORKER_JOBS])) return look_at_copies(w, number, done);
  *done = is_completed;
  return NCCL_SUCCESS;
}
