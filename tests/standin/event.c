/*
 * event.c - events of the stand-in: a position in the queue of the stream that recorded it last.
 *
 * Destroyed ones are kept for a while, so that a stale handle is told from a living one.
 */
#include "internal.h"

#include <time.h>

enum { KEPT = 4096 };

static pthread_mutex_t dead_lock = PTHREAD_MUTEX_INITIALIZER;
static struct CUevent_st *dead, *dead_last; /* the oldest first */
static long ndead;
static long living;

long si_event_count(void) { return __atomic_load_n(&living, __ATOMIC_RELAXED); }

/* ---- life -------------------------------------------------------------------------------------------------------- */

void si_event_keep(cudaEvent_t e) { __atomic_add_fetch(&e->references, 1, __ATOMIC_RELAXED); }

static void bury(struct CUevent_st *e) {
  struct CUevent_st *oldest = NULL;
  pthread_mutex_lock(&dead_lock);
  *(dead ? &dead_last->next : &dead) = e;
  dead_last = e;
  if (++ndead > KEPT) {
    oldest = dead;
    dead = dead->next;
    ndead--;
  }
  pthread_mutex_unlock(&dead_lock);
  free(oldest);
}

void si_event_drop(cudaEvent_t e) {
  if (__atomic_sub_fetch(&e->references, 1, __ATOMIC_ACQ_REL)) return;
  free(e->deps.list);
  bury(e);
}

bool si_event_alive(cudaEvent_t e) { return e && __atomic_load_n(&e->alive, __ATOMIC_ACQUIRE); }

static cudaError_t create(cudaEvent_t *event, unsigned flags) {
  NEED(event, cudaErrorInvalidValue);
  NEED(!(flags & ~(unsigned)(cudaEventBlockingSync | cudaEventDisableTiming | cudaEventInterprocess)),
       cudaErrorInvalidValue);
  NEED(!(flags & cudaEventInterprocess), cudaErrorNotSupported);
  struct CUevent_st *e = si_alloc(sizeof *e);
  e->device = si_device;
  e->flags = flags;
  e->references = 1;
  e->alive = true;
  pthread_mutex_init(&e->lock, NULL);
  __atomic_add_fetch(&living, 1, __ATOMIC_RELAXED);
  *event = e;
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *e) {
  ENTER(SAFE);
  return create(e, 0);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned flags) {
  ENTER(SAFE);
  return create(e, flags);
}

cudaError_t cudaEventDestroy(cudaEvent_t e) {
  ENTER(ANY);
  NEED(si_event_alive(e), cudaErrorInvalidResourceHandle);
  __atomic_store_n(&e->alive, false, __ATOMIC_RELEASE);
  si_event_drop(e);
  __atomic_sub_fetch(&living, 1, __ATOMIC_RELAXED);
  return cudaSuccess;
}

/* ---- recording and waiting --------------------------------------------------------------------------------------- */

static cudaError_t run_stamp(void *arg) {
  cudaEvent_t e = *(cudaEvent_t *)arg;
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  __atomic_store_n(&e->when_ns, (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec, __ATOMIC_RELAXED);
  si_event_drop(e);
  return cudaSuccess;
}

void si_push_record(struct CUstream_st *s, cudaEvent_t e) {
  si_event_keep(e);
  pthread_mutex_lock(&e->lock);
  e->capture_id = 0;
  e->where = si_push_always(s, run_stamp, &e, sizeof e);
  pthread_mutex_unlock(&e->lock);
}

static struct si_position recorded_at(cudaEvent_t e) {
  pthread_mutex_lock(&e->lock);
  const struct si_position position = e->where;
  pthread_mutex_unlock(&e->lock);
  return position;
}

static bool in_capture(cudaEvent_t e) {
  pthread_mutex_lock(&e->lock);
  const bool yes = e->capture_id != 0;
  pthread_mutex_unlock(&e->lock);
  return yes;
}

void si_push_event_wait(struct CUstream_st *s, cudaEvent_t e) { si_push_wait(s, recorded_at(e)); }

cudaError_t si_record(cudaEvent_t e, cudaStream_t handle, unsigned flags) {
  struct CUstream_st *s;
  cudaError_t error = si_event_alive(e) ? si_stream(handle, &s) : cudaErrorInvalidResourceHandle;
  if (error == cudaSuccess && s->device != e->device) error = cudaErrorInvalidResourceHandle;
  if (error != cudaSuccess || si_captured_record(s, e, flags, &error)) return error;
  if (si_is_legacy(s) && si_blocking_capture(s->device, true)) return cudaErrorStreamCaptureImplicit;
  si_order_with_legacy(s);
  si_push_record(s, e);
  return cudaSuccess;
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t e, cudaStream_t s, unsigned flags) {
  ENTER(SAFE);
  return si_fail(si_record(e, s, flags));
}

cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s) {
  ENTER(SAFE);
  return si_fail(si_record(e, s, 0));
}

cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t e, unsigned flags) {
  ENTER(SAFE);
  struct CUstream_st *s;
  cudaError_t result;
  NEED(si_event_alive(e), cudaErrorInvalidResourceHandle);
  TRY(si_stream(handle, &s));
  if (si_captured_wait(s, e, flags, &result)) return si_fail(result);
  si_order_with_legacy(s);
  si_push_event_wait(s, e);
  return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t e) {
  ENTER(UNSAFE);
  NEED(si_event_alive(e), cudaErrorInvalidResourceHandle);
  NEED(!in_capture(e), cudaErrorCapturedEvent);
  return si_reached(recorded_at(e)) ? cudaSuccess : si_fail(cudaErrorNotReady);
}

cudaError_t cudaEventSynchronize(cudaEvent_t e) {
  ENTER(UNSAFE);
  NEED(si_event_alive(e), cudaErrorInvalidResourceHandle);
  NEED(!in_capture(e), cudaErrorCapturedEvent);
  si_wait(recorded_at(e));
  return si_fail(standin_broken(si_device));
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end) {
  ENTER(SAFE);
  NEED(ms, cudaErrorInvalidValue);
  NEED(si_event_alive(start) && si_event_alive(end) && !((start->flags | end->flags) & cudaEventDisableTiming),
       cudaErrorInvalidResourceHandle);
  const struct si_position from = recorded_at(start), to = recorded_at(end);
  NEED(from.queue && to.queue, cudaErrorInvalidResourceHandle);
  NEED(si_reached(from) && si_reached(to), cudaErrorNotReady);
  const uint64_t a = __atomic_load_n(&start->when_ns, __ATOMIC_RELAXED);
  const uint64_t b = __atomic_load_n(&end->when_ns, __ATOMIC_RELAXED);
  *ms = (float)((double)(int64_t)(b - a) / 1e6);
  return cudaSuccess;
}

/* Events of other processes: not offered, as the attributes say. */
cudaError_t cudaIpcGetEventHandle(cudaIpcEventHandle_t *handle, cudaEvent_t e) {
  ENTER(SAFE);
  (void)handle, (void)e;
  return si_fail(cudaErrorNotSupported);
}

cudaError_t cudaIpcOpenEventHandle(cudaEvent_t *e, cudaIpcEventHandle_t handle) {
  ENTER(SAFE);
  (void)e, (void)handle;
  return si_fail(cudaErrorNotSupported);
}
