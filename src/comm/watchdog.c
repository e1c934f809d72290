/*
 * watchdog.c - a thread for each device side, since nobody waits for kernels: replays of a graph do not even pass
 * through this library.
 *
 * Some hundred times a second it looks at what kernels of this rank left behind, at the other ranks' abort lines and at
 * their liveness, and tells kernels to leave, which look at its word in their waits. What it finds first it logs: the
 * owner may never call again.
 */
#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "base/thread.h"
#include "comm/device.h"
#include "shm/liveness.h"

enum { LOOKS_PER_PEERS = 4 };
static const long PERIOD_NS = 10000000;
static const uint64_t GRACE_NS = 300000000;

/* ---- looking ----------------------------------------------------------------------------------------------------- */

uint32_t shmi_watchdog_number(struct shmi_device *d, const struct shmi_call_id *call) {
  pthread_mutex_lock(&d->watchdog.lock);
  const uint32_t number = d->calls++;
  d->recent[number % SHMI_RECENT_CALLS] = *call;
  pthread_mutex_unlock(&d->watchdog.lock);
  return number;
}

/* The call that a kernel's status is about, else the newest one; false if it is not known. */
static bool call_of(struct shmi_device *d, uint64_t status, struct shmi_call_id *call) {
  pthread_mutex_lock(&d->watchdog.lock);
  const uint32_t number = status ? shmi_status_number(status) : d->calls - 1;
  const bool known = d->calls && d->calls - number - 1 < SHMI_RECENT_CALLS;
  *call = d->recent[number % SHMI_RECENT_CALLS];
  pthread_mutex_unlock(&d->watchdog.lock);
  return known;
}

static bool has_left(const shmccl_comm_t *comm, int peer) {
  return shmi_observe32(&shmi_control_of(&comm->world, peer)->member.state) == SHMI_MEMBER_LEFT;
}

static void report_late(shmccl_comm_t *comm, int peer, const struct shmi_call_id *call) {
  char message[256];
  snprintf(message, sizeof message,
           "rank %d: a kernel of %s waited %llu ms for rank %d, which did not come: look at what it does, or raise the "
           "time limit (SHMCCL_TIMEOUT_MS)",
           comm->rank, call ? shmi_call_name(call) : "a collective", (unsigned long long)comm->options.timeout_ms,
           peer);
  shmi_abort_note(comm, SHMCCL_ERROR_TIMEOUT, peer, call, message);
}

static void report_gone(shmccl_comm_t *comm, int peer) {
  char message[256];
  snprintf(message, sizeof message, "rank %d: rank %d (pid %u) %s while kernels of this rank needed it", comm->rank,
           peer, shmi_control_of(&comm->world, peer)->member.pid,
           has_left(comm, peer) ? "destroyed its communicator" : "died");
  shmi_abort_note(comm, SHMCCL_ERROR_PEER_DIED, peer, NULL, message);
}

/* A rank whose process has ended, or that has left; -1 if none. */
static int find_gone(const shmccl_comm_t *comm) {
  for (int peer = 0; peer < comm->nranks; peer++)
    if (peer != comm->rank && (has_left(comm, peer) || shmi_liveness_held(comm->segment.lock_fd, peer) == 0))
      return peer;
  return -1;
}

/* What a kernel of this rank has found. One that was told to leave may have waited for a rank that waits itself. */
static void look_at_status(shmccl_comm_t *comm, uint64_t status, const struct shmi_call_id *call) {
  const int peer = shmi_status_peer(status), gone = find_gone(comm);
  switch (shmi_status_error(status)) {
  case SHMI_DEVICE_TOLD: report_gone(comm, gone < 0 ? peer : gone); break;
  case SHMI_DEVICE_LATE: report_late(comm, peer, call); break;
  case SHMI_DEVICE_MISMATCH: shmi_abort_note(comm, SHMCCL_ERROR_MISMATCH, peer, call, NULL); break;
  case SHMI_DEVICE_MESSAGE: shmi_device_note_message(comm, peer); break;
  default: break;
  }
}

/* A rank that is gone is missed only if a kernel says so: this rank may be done with it too, also in a kernel that
 * still reads. So kernels are told only after a while. */
static bool is_missed(shmccl_comm_t *comm) {
  struct shmi_watchdog *w = &comm->device->watchdog;
  if (find_gone(comm) < 0) return false;
  if (!w->gone_since_ns) w->gone_since_ns = shmi_now_ns();
  return shmi_now_ns() - w->gone_since_ns >= GRACE_NS;
}

void shmi_watchdog_look(shmccl_comm_t *comm) {
  struct shmi_notice *notice = comm->device->notice;
  const uint64_t status = shmi_observe64(&notice->status);
  struct shmi_call_id call;
  const bool known = call_of(comm->device, status, &call);
  if (status) look_at_status(comm, status, known ? &call : NULL);
  if (shmi_abort_notice(comm, known ? &call : NULL)) shmi_note32(&notice->leave, 1);
}

/* A large call that is captured runs as a kernel, and waits for other words than an eager one. */
static void look_at_captures(shmccl_comm_t *comm) {
  const uint64_t mine = shmi_peek64(&shmi_control_of(&comm->world, comm->rank)->counts.large);
  char message[256];
  for (int peer = 0; peer < comm->nranks; peer++) {
    if (!shmi_large_differ(mine, shmi_peek64(&shmi_control_of(&comm->world, peer)->counts.large))) continue;
    snprintf(message, sizeof message,
             "ranks disagree: of rank %d and rank %d one has captured a call of %llu bytes or more that the other made "
             "outside a capture: all ranks must capture it, or none",
             comm->rank, peer, (unsigned long long)comm->options.engine_bytes);
    shmi_abort_note(comm, SHMCCL_ERROR_MISMATCH, peer, NULL, message);
    return;
  }
}

static void look_at_peers(shmccl_comm_t *comm) {
  look_at_captures(comm);
  if (is_missed(comm)) shmi_note32(&comm->device->notice->leave, 1);
}

/* ---- the thread -------------------------------------------------------------------------------------------------- */

static bool pause_or_stop(struct shmi_watchdog *w) {
  struct timespec until;
  clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_nsec += PERIOD_NS;
  if (until.tv_nsec >= 1000000000) until.tv_sec++, until.tv_nsec -= 1000000000;
  pthread_mutex_lock(&w->lock);
  if (!w->stops) pthread_cond_timedwait(&w->wake, &w->lock, &until);
  const bool stops = w->stops;
  pthread_mutex_unlock(&w->lock);
  return stops;
}

static void *watch(void *context) {
  shmccl_comm_t *comm = context;
  for (unsigned looks = 1; !pause_or_stop(&comm->device->watchdog); looks++) {
    shmi_watchdog_look(comm);
    if (looks % LOOKS_PER_PEERS == 0) look_at_peers(comm); /* some system calls */
  }
  return NULL;
}

shmccl_result_t shmi_watchdog_start(shmccl_comm_t *comm) {
  struct shmi_watchdog *w = &comm->device->watchdog;
  pthread_condattr_t monotonic;
  pthread_condattr_init(&monotonic);
  pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
  pthread_mutex_init(&w->lock, NULL);
  pthread_cond_init(&w->wake, &monotonic);
  pthread_condattr_destroy(&monotonic);
  const int error = shmi_thread_start(&w->thread, watch, comm);
  w->runs = !error;
  if (!error) return SHMCCL_SUCCESS;
  pthread_cond_destroy(&w->wake);
  pthread_mutex_destroy(&w->lock);
  errno = error;
  return shmi_abort_raise(comm,
                          shmi_error(SHMCCL_ERROR_SYSTEM, "cannot start a thread: %m: raise the limit of processes"),
                          comm->rank, NULL);
}

void shmi_watchdog_stop(struct shmi_device *d) {
  struct shmi_watchdog *w = &d->watchdog;
  if (!w->runs) return;
  pthread_mutex_lock(&w->lock);
  w->stops = true;
  pthread_cond_signal(&w->wake);
  pthread_mutex_unlock(&w->lock);
  pthread_join(w->thread, NULL);
  pthread_cond_destroy(&w->wake);
  pthread_mutex_destroy(&w->lock);
  w->runs = false;
}
