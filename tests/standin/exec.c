/*
 * exec.c - instantiated graphs of the stand-in: a copy of the nodes in an order that respects their dependencies,
 * spread over lanes. A chain of nodes is one lane; lane 0 is the stream of the launch, the others are streams of their
 * own, so that branches run side by side.
 */
#include "internal.h"

enum { MAX_LANES = 64 };

struct exec_node {
  struct CUgraphNode_st copy; /* deps unused */
  cudaGraphNode_t original;   /* may be gone: only compared */
  size_t lane, ndeps, *deps;  /* indices */
};

struct CUgraphExec_st {
  pthread_mutex_t lock;
  bool alive;
  struct exec_node *nodes;
  size_t nnodes, nlanes, *by_creation; /* index of the node that was added k-th */
  struct CUstream_st *lanes[MAX_LANES];
  int device;
  struct si_objects objects;
  struct si_position last; /* the end of the latest launch */
};

static long living;
long si_exec_count(void) { return __atomic_load_n(&living, __ATOMIC_RELAXED); }

/* ---- instantiation ----------------------------------------------------------------------------------------------- */

static bool is_ready(const struct CUgraphNode_st *node, const char *done) {
  for (size_t i = 0; i < node->deps.n; i++)
    if (!done[node->deps.list[i]->index]) return false;
  return true;
}

/* Puts the nodes into an order in which dependencies come first; false if they form a circle. */
static bool sort(struct CUgraph_st *g, struct CUgraphNode_st **sorted) {
  size_t n = 0, before;
  char *done = si_alloc(g->nodes.n);
  do {
    before = n;
    for (size_t i = 0; i < g->nodes.n; i++) {
      if (done[i] || !is_ready(g->nodes.list[i], done)) continue;
      sorted[n++] = g->nodes.list[i];
      done[i] = 1;
    }
  } while (n > before);
  free(done);
  return n == g->nodes.n;
}

/* A node continues the lane of a node that it depends on, if that is the last there. */
static void choose_lane(struct CUgraphExec_st *x, size_t i, size_t *ends) {
  struct exec_node *node = &x->nodes[i];
  node->lane = x->nlanes;
  for (size_t k = 0; k < node->ndeps; k++) {
    const size_t dep = node->deps[k];
    if (ends[x->nodes[dep].lane] == dep) node->lane = x->nodes[dep].lane;
  }
  if (node->lane == MAX_LANES) node->lane = i % MAX_LANES;
  if (node->lane == x->nlanes) {
    if (node->lane > 0) x->lanes[node->lane] = si_stream_new(x->device, cudaStreamNonBlocking, 0, true);
    x->nlanes++;
  }
  ends[node->lane] = i;
}

static void copy_node(struct exec_node *to, cudaGraphNode_t from, const size_t *place) {
  to->copy.type = from->type;
  to->original = from;
  si_node_set_work(&to->copy, from->run, from->arg, from->arg_bytes);
  to->copy.event = from->event;
  if (from->event) si_event_keep(from->event);
  to->ndeps = from->deps.n;
  to->deps = si_alloc(to->ndeps * sizeof *to->deps);
  for (size_t k = 0; k < to->ndeps; k++) to->deps[k] = place[from->deps.list[k]->index];
}

static struct CUgraphExec_st *exec_of(struct CUgraph_st *g, struct CUgraphNode_st **sorted) {
  struct CUgraphExec_st *x = si_alloc(sizeof *x);
  size_t ends[MAX_LANES] = {0};
  pthread_mutex_init(&x->lock, NULL);
  x->alive = true;
  x->device = si_device;
  x->nnodes = g->nodes.n;
  x->nodes = si_alloc(x->nnodes * sizeof *x->nodes);
  x->by_creation = si_alloc(x->nnodes * sizeof *x->by_creation);
  for (size_t i = 0; i < x->nnodes; i++) x->by_creation[sorted[i]->index] = i;
  for (size_t i = 0; i < x->nnodes; i++) {
    copy_node(&x->nodes[i], sorted[i], x->by_creation);
    choose_lane(x, i, ends);
  }
  si_objects_copy(&x->objects, &g->objects);
  return x;
}

static cudaError_t instantiate(cudaGraphExec_t *out, cudaGraph_t g) {
  NEED(out && g, cudaErrorInvalidValue);
  struct CUgraphNode_st **sorted = si_alloc(g->nodes.n * sizeof *sorted);
  const bool ok = sort(g, sorted);
  if (ok) {
    *out = exec_of(g, sorted);
    __atomic_add_fetch(&living, 1, __ATOMIC_RELAXED);
  }
  free(sorted);
  return ok ? cudaSuccess : si_fail(cudaErrorInvalidValue);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *x, cudaGraph_t g, unsigned long long flags) {
  ENTER(SAFE);
  (void)flags;
  return instantiate(x, g);
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *x, cudaGraph_t g, unsigned long long flags) {
  ENTER(SAFE);
  (void)flags;
  return instantiate(x, g);
}

cudaError_t cudaGraphUpload(cudaGraphExec_t x, cudaStream_t s) {
  ENTER(SAFE);
  (void)s;
  NEED(x, cudaErrorInvalidValue);
  return cudaSuccess;
}

/* ---- updates: of what nodes do, never of what depends on what ---------------------------------------------------- */

static bool depends_alike(const struct CUgraphExec_st *x, const struct exec_node *node, cudaGraphNode_t other) {
  if (node->ndeps != other->deps.n) return false;
  for (size_t i = 0; i < node->ndeps; i++)
    if (x->by_creation[other->deps.list[i]->index] != node->deps[i]) return false;
  return true;
}

static enum cudaGraphExecUpdateResult compare(const struct CUgraphExec_st *x, cudaGraph_t g, cudaGraphNode_t *wrong) {
  *wrong = NULL;
  if (g->nodes.n != x->nnodes) return cudaGraphExecUpdateErrorTopologyChanged;
  for (size_t i = 0; i < g->nodes.n; i++) {
    const struct exec_node *node = &x->nodes[x->by_creation[i]];
    *wrong = g->nodes.list[i];
    if (node->copy.type != (*wrong)->type) return cudaGraphExecUpdateErrorNodeTypeChanged;
    if (!depends_alike(x, node, *wrong)) return cudaGraphExecUpdateErrorTopologyChanged;
    if (node->copy.event != (*wrong)->event) return cudaGraphExecUpdateErrorParametersChanged;
  }
  *wrong = NULL;
  return cudaGraphExecUpdateSuccess;
}

cudaError_t cudaGraphExecUpdate(cudaGraphExec_t x, cudaGraph_t g, cudaGraphExecUpdateResultInfo *result) {
  ENTER(SAFE);
  cudaGraphNode_t wrong;
  NEED(x && g && result, cudaErrorInvalidValue);
  pthread_mutex_lock(&x->lock);
  *result = (cudaGraphExecUpdateResultInfo){.result = compare(x, g, &wrong)};
  result->errorNode = wrong;
  const bool ok = result->result == cudaGraphExecUpdateSuccess;
  for (size_t i = 0; ok && i < g->nodes.n; i++) {
    const struct CUgraphNode_st *from = g->nodes.list[i];
    struct exec_node *to = &x->nodes[x->by_creation[i]];
    si_node_set_work(&to->copy, from->run, from->arg, from->arg_bytes);
  }
  pthread_mutex_unlock(&x->lock);
  return ok ? cudaSuccess : si_fail(cudaErrorGraphExecUpdateFailure);
}

static struct exec_node *node_of(struct CUgraphExec_st *x, cudaGraphNode_t original) {
  for (size_t i = 0; i < x->nnodes; i++)
    if (x->nodes[i].original == original) return &x->nodes[i];
  return NULL;
}

cudaError_t cudaGraphExecKernelNodeSetParams(cudaGraphExec_t x, cudaGraphNode_t original,
                                             const struct cudaKernelNodeParams *p) {
  ENTER(SAFE);
  void *work;
  size_t bytes;
  NEED(x && p, cudaErrorInvalidValue);
  struct exec_node *node = node_of(x, original);
  NEED(node && node->copy.type == cudaGraphNodeTypeKernel, cudaErrorInvalidValue);
  TRY(si_prepare_launch(p, &work, &bytes));
  pthread_mutex_lock(&x->lock);
  si_node_set_work(&node->copy, si_run_launch, work, bytes);
  pthread_mutex_unlock(&x->lock);
  free(work);
  return cudaSuccess;
}

/* ---- launch ------------------------------------------------------------------------------------------------------ */

static cudaError_t run_nothing(void *arg) {
  (void)arg;
  return cudaSuccess;
}

static struct si_position push_node(struct CUstream_st *lane, struct CUgraphNode_st *node) {
  if (node->type == cudaGraphNodeTypeEventRecord) si_push_record(lane, node->event);
  if (node->type == cudaGraphNodeTypeWaitEvent) si_push_event_wait(lane, node->event);
  if (!node->run) return si_end_of(lane);
  if (node->type == cudaGraphNodeTypeKernel) si_check_launch(node->arg);
  return si_push(lane, node->run, node->arg, node->arg_bytes);
}

static void push_all(struct CUgraphExec_st *x, struct CUstream_st *s) {
  struct si_position *ends = si_alloc(x->nnodes * sizeof *ends);
  x->lanes[0] = s;
  si_push_wait(s, x->last); /* launches of one graph follow each other */
  const struct si_position start = si_push(s, run_nothing, NULL, 0);
  for (size_t l = 1; l < x->nlanes; l++) si_push_wait(x->lanes[l], start);
  for (size_t i = 0; i < x->nnodes; i++) {
    struct exec_node *node = &x->nodes[i];
    for (size_t k = 0; k < node->ndeps; k++) si_push_wait(x->lanes[node->lane], ends[node->deps[k]]);
    ends[i] = push_node(x->lanes[node->lane], &node->copy);
  }
  for (size_t l = 1; l < x->nlanes; l++) si_push_wait(s, si_end_of(x->lanes[l]));
  x->last = si_push(s, run_nothing, NULL, 0);
  free(ends);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t x, cudaStream_t handle) {
  ENTER(SAFE);
  struct CUstream_st *s;
  NEED(x && x->alive, cudaErrorInvalidValue);
  TRY(si_stream(handle, &s));
  NEED(!si_capturing(s), cudaErrorStreamCaptureUnsupported); /* CUDA would make a child graph node */
  NEED(!si_is_legacy(s) || !si_blocking_capture(s->device, true), cudaErrorStreamCaptureImplicit);
  si_order_with_legacy(s);
  pthread_mutex_lock(&x->lock);
  push_all(x, s);
  pthread_mutex_unlock(&x->lock);
  return cudaSuccess;
}

/* ---- end --------------------------------------------------------------------------------------------------------- */

static void free_exec(struct CUgraphExec_st *x) {
  for (size_t i = 0; i < x->nnodes; i++) {
    si_node_clear(&x->nodes[i].copy);
    free(x->nodes[i].deps);
  }
  for (size_t l = 1; l < x->nlanes; l++) si_stream_end(x->lanes[l]);
  si_objects_release(&x->objects);
  free(x->nodes);
  free(x->by_creation);
  free(x);
}

static cudaError_t run_free_exec(void *arg) {
  free_exec(*(struct CUgraphExec_st **)arg);
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t x) { /* after its last launch */
  ENTER(ANY);
  NEED(x && x->alive, cudaErrorInvalidValue);
  x->alive = false;
  __atomic_sub_fetch(&living, 1, __ATOMIC_RELAXED);
  if (si_reached(x->last))
    free_exec(x);
  else
    si_push_always(x->lanes[0], run_free_exec, &x, sizeof x);
  return cudaSuccess;
}
