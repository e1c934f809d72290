/*
 * capture.c - stream capture of the stand-in: while a stream captures, what is submitted to it becomes nodes of a
 * graph. Waiting for an event of a capture draws another stream into it.
 */
#include "internal.h"

struct si_capture {
  struct si_capture *next;
  unsigned long long id;
  struct CUgraph_st *graph;
  struct CUstream_st *origin;
  enum cudaStreamCaptureMode mode;
  pthread_t thread;
  bool lost;                        /* an error happened; only to be ended */
  struct CUstream_st *streams[256]; /* taking part */
  size_t nstreams;
};

static pthread_mutex_t lock =
    PTHREAD_MUTEX_INITIALIZER; /* of all captures, and of the streams' and graphs' part in them */
static struct si_capture *captures;
static long ncaptures; /* atomic: the quick answer that there is none */
static _Thread_local enum cudaStreamCaptureMode my_mode = cudaStreamCaptureModeGlobal;

static bool any(void) { return __atomic_load_n(&ncaptures, __ATOMIC_ACQUIRE) != 0; }

/* ---- under the lock ---------------------------------------------------------------------------------------------- */

static cudaError_t join(struct si_capture *c, struct CUstream_st *s) {
  if (c->nstreams == LENGTH(c->streams)) return cudaErrorNotSupported;
  c->streams[c->nstreams++] = s;
  s->capture = c;
  s->deps.n = 0;
  return cudaSuccess;
}

static void leave(struct CUstream_st *s) {
  struct si_capture *c = s->capture;
  size_t i = 0;
  while (c->streams[i] != s) i++;
  c->streams[i] = c->streams[--c->nstreams];
  s->capture = NULL;
  free(s->deps.list);
  s->deps = (struct si_nodes){0};
}

static void append(struct CUstream_st *s, struct CUgraphNode_st *node) {
  node->captured = true;
  si_nodes_set(&s->deps, &node, 1);
}

static void append_event(struct CUstream_st *s, enum cudaGraphNodeType type, cudaEvent_t e) {
  struct CUgraphNode_st *node = si_node(s->capture->graph, type, s->deps.list, s->deps.n);
  node->event = e;
  si_event_keep(e);
  append(s, node);
}

static void set_event(cudaEvent_t e, unsigned long long id, const struct si_nodes *deps) {
  pthread_mutex_lock(&e->lock);
  e->capture_id = id;
  si_nodes_set(&e->deps, deps->list, deps->n);
  pthread_mutex_unlock(&e->lock);
}

static unsigned long long capture_of(cudaEvent_t e) {
  pthread_mutex_lock(&e->lock);
  const unsigned long long id = e->capture_id;
  pthread_mutex_unlock(&e->lock);
  return id;
}

/* s waits for an event that was recorded in a capture. */
static cudaError_t wait_captured(struct CUstream_st *s, cudaEvent_t e, unsigned long long id) {
  struct si_capture *c = captures;
  while (c && c->id != id) c = c->next;
  if (!c) return cudaErrorCapturedEvent; /* that capture has ended */
  if (c->lost) return cudaErrorStreamCaptureInvalidated;
  if (s->capture && s->capture != c) {
    c->lost = s->capture->lost = true;
    return cudaErrorStreamCaptureMerge;
  }
  cudaError_t error = s->capture ? cudaSuccess : join(c, s);
  pthread_mutex_lock(&e->lock);
  for (size_t i = 0; i < e->deps.n && error == cudaSuccess; i++) si_nodes_add(&s->deps, e->deps.list[i]);
  pthread_mutex_unlock(&e->lock);
  return error;
}

/* id: of the capture in which e was recorded, or 0. One of s and e is in a capture. */
static cudaError_t wait(struct CUstream_st *s, cudaEvent_t e, unsigned long long id, bool external) {
  if (s->capture && s->capture->lost) return cudaErrorStreamCaptureInvalidated;
  if (external) {
    append_event(s, cudaGraphNodeTypeWaitEvent, e);
    return cudaSuccess;
  }
  if (id) return wait_captured(s, e, id);
  s->capture->lost = true;
  return cudaErrorStreamCaptureIsolation;
}

/* ---- what the other files ask ------------------------------------------------------------------------------------ */

bool si_capturing(struct CUstream_st *s) {
  if (!any()) return false;
  pthread_mutex_lock(&lock);
  const bool yes = s->capture != NULL;
  pthread_mutex_unlock(&lock);
  return yes;
}

bool si_captured(struct CUstream_st *s, enum cudaGraphNodeType type, si_work_fn *run, const void *arg, size_t bytes,
                 cudaError_t *result) {
  if (!any()) return false;
  pthread_mutex_lock(&lock);
  const bool capturing = s->capture != NULL;
  if (capturing) {
    *result = s->capture->lost ? cudaErrorStreamCaptureInvalidated : cudaSuccess;
    if (!s->capture->lost) append(s, si_work_node(s->capture->graph, type, s->deps.list, s->deps.n, run, arg, bytes));
  }
  pthread_mutex_unlock(&lock);
  return capturing;
}

bool si_captured_record(struct CUstream_st *s, cudaEvent_t e, unsigned flags, cudaError_t *result) {
  const bool external = flags & cudaEventRecordExternal;
  pthread_mutex_lock(&lock);
  const bool capturing = s->capture != NULL;
  if (!capturing)
    *result = external ? cudaErrorIllegalState : cudaSuccess;
  else if (s->capture->lost)
    *result = cudaErrorStreamCaptureInvalidated;
  else if (external)
    append_event(s, cudaGraphNodeTypeEventRecord, e);
  else
    set_event(e, s->capture->id, &s->deps);
  pthread_mutex_unlock(&lock);
  return capturing || external;
}

bool si_captured_wait(struct CUstream_st *s, cudaEvent_t e, unsigned flags, cudaError_t *result) {
  const bool external = flags & cudaEventWaitExternal;
  pthread_mutex_lock(&lock);
  const unsigned long long id = external ? 0 : capture_of(e);
  const bool concerned = s->capture || id;
  if (concerned) *result = wait(s, e, id, external);
  pthread_mutex_unlock(&lock);
  return concerned;
}

cudaError_t si_no_capture(struct CUstream_st *s) {
  if (!any()) return cudaSuccess;
  pthread_mutex_lock(&lock);
  const bool capturing = s->capture != NULL;
  if (capturing) s->capture->lost = true;
  pthread_mutex_unlock(&lock);
  return capturing ? cudaErrorStreamCaptureUnsupported : cudaSuccess;
}

bool si_blocking_capture(int device, bool lose) {
  bool found = false;
  if (!any()) return false;
  pthread_mutex_lock(&lock);
  for (struct si_capture *c = captures; c; c = c->next)
    for (size_t i = 0; i < c->nstreams; i++)
      if (c->streams[i]->device == device && !(c->streams[i]->flags & cudaStreamNonBlocking)) {
        found = true;
        c->lost = c->lost || lose;
      }
  pthread_mutex_unlock(&lock);
  return found;
}

void si_capture_leave(struct CUstream_st *s) {
  if (!any()) return;
  pthread_mutex_lock(&lock);
  if (s->capture && s->capture->origin == s)
    s->capture->lost = true;
  else if (s->capture)
    leave(s);
  pthread_mutex_unlock(&lock);
}

/* Whether a call that is unsafe during this capture concerns it: as documented for
 * cudaThreadExchangeStreamCaptureMode. */
static bool protects(const struct si_capture *c) {
  if (pthread_equal(c->thread, pthread_self())) return c->mode != cudaStreamCaptureModeRelaxed;
  return c->mode == cudaStreamCaptureModeGlobal && my_mode == cudaStreamCaptureModeGlobal;
}

cudaError_t si_capture_forbids(void) {
  bool forbidden = false;
  if (!any() || my_mode == cudaStreamCaptureModeRelaxed) return cudaSuccess;
  pthread_mutex_lock(&lock);
  for (struct si_capture *c = captures; c; c = c->next)
    if (protects(c)) forbidden = c->lost = true;
  pthread_mutex_unlock(&lock);
  return forbidden ? cudaErrorStreamCaptureUnsupported : cudaSuccess;
}

/* ---- begin and end ----------------------------------------------------------------------------------------------- */

cudaError_t cudaThreadExchangeStreamCaptureMode(enum cudaStreamCaptureMode *mode) {
  ENTER(ANY);
  NEED(mode && (unsigned)*mode <= cudaStreamCaptureModeRelaxed, cudaErrorInvalidValue);
  const enum cudaStreamCaptureMode old = my_mode;
  my_mode = *mode;
  *mode = old;
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, enum cudaStreamCaptureMode mode) {
  ENTER(SAFE);
  static unsigned long long ids;
  struct CUstream_st *s;
  NEED(handle && handle != cudaStreamLegacy, cudaErrorStreamCaptureUnsupported);
  NEED((unsigned)mode <= cudaStreamCaptureModeRelaxed, cudaErrorInvalidValue);
  TRY(si_stream(handle, &s));
  NEED(!si_capturing(s), cudaErrorIllegalState);
  struct si_capture *c = si_alloc(sizeof *c);
  c->graph = si_graph_new();
  c->origin = s;
  c->mode = mode;
  c->thread = pthread_self();
  pthread_mutex_lock(&lock);
  c->id = ++ids;
  c->next = captures;
  captures = c;
  join(c, s);
  __atomic_add_fetch(&ncaptures, 1, __ATOMIC_RELEASE);
  pthread_mutex_unlock(&lock);
  return cudaSuccess;
}

/* Did what other streams captured last come back to the first one? Nodes added by hand are not asked. */
static bool joined(const struct si_capture *c) {
  for (size_t i = 0; i < c->nstreams; i++)
    for (size_t k = 0; k < c->streams[i]->deps.n; k++) {
      struct CUgraphNode_st *node = c->streams[i]->deps.list[k];
      if (node->captured && !si_nodes_reach(&c->origin->deps, node)) return false;
    }
  return true;
}

static void remove_capture(struct si_capture *c) {
  struct si_capture **place = &captures;
  while (c->nstreams) leave(c->streams[0]);
  while (*place != c) place = &(*place)->next;
  *place = c->next;
  __atomic_sub_fetch(&ncaptures, 1, __ATOMIC_RELEASE);
}

/* Under the lock. Its end, if it may end here: then *capture is out of the list. */
static cudaError_t end(struct CUstream_st *s, struct si_capture **capture) {
  struct si_capture *c = s->capture;
  *capture = NULL;
  if (!c) return cudaErrorIllegalState;
  if (c->origin != s) {
    c->lost = true;
    return cudaErrorStreamCaptureUnmatched;
  }
  if (c->mode != cudaStreamCaptureModeRelaxed && !pthread_equal(c->thread, pthread_self()))
    return cudaErrorStreamCaptureWrongThread;
  const cudaError_t error = c->lost     ? cudaErrorStreamCaptureInvalidated
                            : joined(c) ? cudaSuccess
                                        : cudaErrorStreamCaptureUnjoined;
  remove_capture(c);
  *capture = c;
  return error;
}

cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t *graph) {
  ENTER(SAFE);
  struct CUstream_st *s;
  struct si_capture *c;
  NEED(graph, cudaErrorInvalidValue);
  *graph = NULL;
  TRY(si_stream(handle, &s));
  pthread_mutex_lock(&lock);
  const cudaError_t error = end(s, &c);
  pthread_mutex_unlock(&lock);
  if (c && error == cudaSuccess)
    *graph = c->graph;
  else if (c)
    si_graph_drop(c->graph);
  free(c);
  return si_fail(error);
}

/* ---- questions --------------------------------------------------------------------------------------------------- */

static enum cudaStreamCaptureStatus status_of(const struct CUstream_st *s) {
  if (!s->capture) return cudaStreamCaptureStatusNone;
  return s->capture->lost ? cudaStreamCaptureStatusInvalidated : cudaStreamCaptureStatusActive;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, enum cudaStreamCaptureStatus *status) {
  ENTER(SAFE);
  struct CUstream_st *s;
  NEED(status, cudaErrorInvalidValue);
  TRY(si_stream(handle, &s));
  if (si_is_legacy(s) && si_blocking_capture(s->device, false)) return si_fail(cudaErrorStreamCaptureImplicit);
  pthread_mutex_lock(&lock);
  *status = status_of(s);
  pthread_mutex_unlock(&lock);
  return cudaSuccess;
}

cudaError_t cudaStreamGetCaptureInfo(cudaStream_t handle, enum cudaStreamCaptureStatus *status, unsigned long long *id,
                                     cudaGraph_t *graph, const cudaGraphNode_t **dependencies,
                                     const cudaGraphEdgeData **edges, size_t *ndependencies) {
  ENTER(SAFE);
  struct CUstream_st *s;
  NEED(status, cudaErrorInvalidValue);
  TRY(si_stream(handle, &s));
  pthread_mutex_lock(&lock);
  *status = status_of(s);
  const bool active = *status == cudaStreamCaptureStatusActive;
  if (edges) *edges = NULL; /* no edge carries data here */
  if (active && id) *id = s->capture->id;
  if (active && graph) *graph = s->capture->graph;
  if (active && dependencies) *dependencies = s->deps.list;
  if (active && ndependencies) *ndependencies = s->deps.n;
  pthread_mutex_unlock(&lock);
  return cudaSuccess;
}

cudaError_t cudaStreamUpdateCaptureDependencies(cudaStream_t handle, cudaGraphNode_t *dependencies,
                                                const cudaGraphEdgeData *edges, size_t ndependencies, unsigned flags) {
  ENTER(SAFE);
  struct CUstream_st *s;
  (void)edges;
  NEED(!ndependencies || dependencies, cudaErrorInvalidValue);
  TRY(si_stream(handle, &s));
  pthread_mutex_lock(&lock);
  const bool active = status_of(s) == cudaStreamCaptureStatusActive;
  if (active && flags == cudaStreamSetCaptureDependencies) si_nodes_set(&s->deps, dependencies, ndependencies);
  for (size_t i = 0; active && flags == cudaStreamAddCaptureDependencies && i < ndependencies; i++)
    si_nodes_add(&s->deps, dependencies[i]);
  pthread_mutex_unlock(&lock);
  return active ? cudaSuccess : si_fail(cudaErrorIllegalState);
}
