/*
 * stream.c - streams of the stand-in: a queue each, and the order between the legacy stream and the blocking ones.
 */
#include "internal.h"

static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER; /* the default streams; streams are added under it */
static struct CUstream_st *streams;                           /* atomic; never gets shorter */
static struct CUstream_st *legacy[SI_MAX_DEVICES];
static _Thread_local struct CUstream_st *per_thread[SI_MAX_DEVICES];
static long living;
static unsigned long host_functions;

void si_stream_stats(struct standin_stats *stats) {
  stats->streams = __atomic_load_n(&living, __ATOMIC_RELAXED);
  stats->host_functions = __atomic_load_n(&host_functions, __ATOMIC_RELAXED);
}

static struct CUstream_st *first_stream(void) { return __atomic_load_n(&streams, __ATOMIC_ACQUIRE); }
static bool is_alive(const struct CUstream_st *s) { return __atomic_load_n(&s->alive, __ATOMIC_ACQUIRE); }

/* ---- making and finding streams ---------------------------------------------------------------------------------- */

/* Under list_lock. */
static struct CUstream_st *new_stream(int device, unsigned flags, int priority, bool internal) {
  static unsigned long long ids;
  struct CUstream_st *s = si_alloc(sizeof *s);
  pthread_mutex_init(&s->lock, NULL);
  s->queue = si_queue_take(device);
  s->flags = flags;
  s->priority = priority;
  s->internal = internal;
  s->device = device;
  s->id = ++ids;
  s->alive = true;
  s->next = streams;
  __atomic_store_n(&streams, s, __ATOMIC_RELEASE);
  return s;
}

struct CUstream_st *si_stream_new(int device, unsigned flags, int priority, bool internal) {
  pthread_mutex_lock(&list_lock);
  struct CUstream_st *s = new_stream(device, flags, priority, internal);
  pthread_mutex_unlock(&list_lock);
  return s;
}

void si_stream_end(struct CUstream_st *s) {
  __atomic_store_n(&s->alive, false, __ATOMIC_RELEASE);
  si_queue_give_back(s->queue);
}

static struct CUstream_st *default_stream(struct CUstream_st **s) {
  pthread_mutex_lock(&list_lock);
  if (!*s) *s = new_stream(si_device, 0, 0, false);
  struct CUstream_st *found = *s;
  pthread_mutex_unlock(&list_lock);
  return found;
}

cudaError_t si_stream(cudaStream_t handle, struct CUstream_st **stream) {
  if (!handle || handle == cudaStreamLegacy)
    *stream = default_stream(&legacy[si_device]);
  else if (handle == cudaStreamPerThread)
    *stream = default_stream(&per_thread[si_device]);
  else
    *stream = handle;
  return is_alive(*stream) ? cudaSuccess : cudaErrorInvalidResourceHandle;
}

static struct CUstream_st *legacy_of(int device) {
  pthread_mutex_lock(&list_lock);
  struct CUstream_st *s = legacy[device];
  pthread_mutex_unlock(&list_lock);
  return s;
}

bool si_is_legacy(const struct CUstream_st *s) { return s == legacy_of(s->device); }

/* ---- submitting -------------------------------------------------------------------------------------------------- */

static struct si_position push(struct CUstream_st *s, si_work_fn *run, const void *arg, size_t bytes, bool always) {
  pthread_mutex_lock(&s->lock);
  s->last = si_queue_push(s->queue, s->device, run, arg, bytes, always);
  const struct si_position position = s->last;
  pthread_mutex_unlock(&s->lock);
  return position;
}

struct si_position si_push(struct CUstream_st *s, si_work_fn *run, const void *arg, size_t bytes) {
  return push(s, run, arg, bytes, false);
}

struct si_position si_push_always(struct CUstream_st *s, si_work_fn *run, const void *arg, size_t bytes) {
  return push(s, run, arg, bytes, true);
}

struct si_position si_end_of(struct CUstream_st *s) {
  pthread_mutex_lock(&s->lock);
  const struct si_position position = s->last;
  pthread_mutex_unlock(&s->lock);
  return position;
}

static cudaError_t run_wait(void *arg) {
  si_wait(*(struct si_position *)arg);
  return cudaSuccess;
}

void si_push_wait(struct CUstream_st *s, struct si_position position) {
  if (position.queue != s->queue && !si_reached(position)) si_push(s, run_wait, &position, sizeof position);
}

static bool blocking(const struct CUstream_st *s) { return !(s->flags & cudaStreamNonBlocking) && !s->internal; }

/* The legacy stream waits for all blocking streams of its device, and they wait for it. */
void si_order_with_legacy(struct CUstream_st *s) {
  struct CUstream_st *l = legacy_of(s->device);
  if (!l || !blocking(s)) return;
  if (s != l) si_push_wait(s, si_end_of(l));
  for (struct CUstream_st *t = s == l ? first_stream() : NULL; t; t = t->next)
    if (t != s && t->device == s->device && blocking(t)) si_push_wait(s, si_end_of(t));
}

cudaError_t si_submit(cudaStream_t handle, enum cudaGraphNodeType type, si_work_fn *run, const void *arg, size_t bytes,
                      struct si_position *where) {
  struct CUstream_st *s;
  cudaError_t error = si_stream(handle, &s);
  where->queue = NULL;
  if (error != cudaSuccess || si_captured(s, type, run, arg, bytes, &error)) return error;
  if (si_is_legacy(s) && si_blocking_capture(s->device, true)) return cudaErrorStreamCaptureImplicit;
  si_order_with_legacy(s);
  *where = si_push(s, run, arg, bytes);
  return cudaSuccess;
}

/* ---- the whole device -------------------------------------------------------------------------------------------- */

cudaError_t si_device_wait(int device) {
  for (struct CUstream_st *s = first_stream(); s; s = s->next)
    if (s->device == device) si_wait(si_end_of(s));
  return standin_broken(device);
}

static bool busy(int device) {
  for (struct CUstream_st *s = first_stream(); s; s = s->next)
    if (s->device == device && !si_reached(si_end_of(s))) return true;
  return false;
}

void si_after_device(int device, si_work_fn *run, void *arg, size_t bytes) {
  static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  static struct CUstream_st *helpers[SI_MAX_DEVICES];
  if (!busy(device)) {
    run(arg);
    return;
  }
  pthread_mutex_lock(&lock);
  if (!helpers[device]) helpers[device] = si_stream_new(device, cudaStreamNonBlocking, 0, true);
  for (struct CUstream_st *s = first_stream(); s; s = s->next)
    if (s->device == device && s != helpers[device]) si_push_wait(helpers[device], si_end_of(s));
  si_push_always(helpers[device], run, arg, bytes);
  pthread_mutex_unlock(&lock);
}

/* ---- CUDA's stream functions ------------------------------------------------------------------------------------- */

static cudaError_t create_stream(cudaStream_t *s, unsigned flags, int priority) {
  NEED(s && !(flags & ~(unsigned)cudaStreamNonBlocking), cudaErrorInvalidValue);
  *s = si_stream_new(si_device, flags, priority, false);
  __atomic_add_fetch(&living, 1, __ATOMIC_RELAXED);
  return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t *s) {
  ENTER(SAFE);
  return create_stream(s, 0, 0);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags) {
  ENTER(SAFE);
  return create_stream(s, flags, 0);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *s, unsigned flags, int priority) {
  ENTER(SAFE);
  return create_stream(s, flags, priority);
}

cudaError_t cudaStreamDestroy(cudaStream_t handle) { /* what is queued still runs */
  ENTER(ANY);
  NEED(handle && handle != cudaStreamLegacy && handle != cudaStreamPerThread && is_alive(handle),
       cudaErrorInvalidResourceHandle);
  si_capture_leave(handle);
  si_stream_end(handle);
  __atomic_sub_fetch(&living, 1, __ATOMIC_RELAXED);
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  ENTER(UNSAFE);
  struct CUstream_st *s;
  TRY(si_stream(handle, &s));
  TRY(si_no_capture(s));
  if (si_is_legacy(s)) si_order_with_legacy(s);
  si_wait(si_end_of(s));
  return si_fail(standin_broken(s->device));
}

cudaError_t cudaStreamQuery(cudaStream_t handle) {
  ENTER(UNSAFE);
  struct CUstream_st *s;
  TRY(si_stream(handle, &s));
  TRY(si_no_capture(s));
  if (si_is_legacy(s)) si_order_with_legacy(s);
  TRY(standin_broken(s->device));
  return si_reached(si_end_of(s)) ? cudaSuccess : si_fail(cudaErrorNotReady);
}

#define ABOUT_STREAM(name, type, value)                                                                                \
  cudaError_t name(cudaStream_t handle, type *out) {                                                                   \
    ENTER(SAFE);                                                                                                       \
    struct CUstream_st *s;                                                                                             \
    TRY(si_stream(handle, &s));                                                                                        \
    NEED(out, cudaErrorInvalidValue);                                                                                  \
    *out = value;                                                                                                      \
    return cudaSuccess;                                                                                                \
  }
ABOUT_STREAM(cudaStreamGetFlags, unsigned, s->flags)
ABOUT_STREAM(cudaStreamGetPriority, int, s->priority)
ABOUT_STREAM(cudaStreamGetId, unsigned long long, s->id)
ABOUT_STREAM(cudaStreamGetDevice, int, s->device)

/* ---- host functions: CUDA calls are refused in them
 * ------------------------------------------------------------------ */

cudaError_t si_run_host_call(void *arg) {
  struct si_host_call *call = arg;
  __atomic_add_fetch(&host_functions, 1, __ATOMIC_RELAXED);
  si_in_host_function = true;
  call->fn(call->arg);
  si_in_host_function = false;
  return cudaSuccess;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t s, cudaHostFn_t fn, void *arg) {
  ENTER(SAFE);
  struct si_position where;
  const struct si_host_call call = {fn, arg};
  NEED(fn, cudaErrorInvalidValue);
  return si_fail(si_submit(s, cudaGraphNodeTypeHost, si_run_host_call, &call, sizeof call, &where));
}

struct callback {
  cudaStreamCallback_t fn;
  cudaStream_t stream;
  int device;
  void *arg;
};

static cudaError_t run_callback(void *arg) {
  struct callback *c = arg;
  si_in_host_function = true;
  c->fn(c->stream, standin_broken(c->device), c->arg);
  si_in_host_function = false;
  return cudaSuccess;
}

cudaError_t cudaStreamAddCallback(cudaStream_t handle, cudaStreamCallback_t fn, void *arg, unsigned flags) {
  ENTER(SAFE);
  struct CUstream_st *s;
  NEED(fn && !flags, cudaErrorInvalidValue);
  TRY(si_stream(handle, &s));
  NEED(!si_capturing(s), cudaErrorStreamCaptureUnsupported);
  const struct callback callback = {fn, handle, s->device, arg};
  si_order_with_legacy(s);
  si_push_always(s, run_callback, &callback, sizeof callback); /* it is told of errors, as documented */
  return cudaSuccess;
}
