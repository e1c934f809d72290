/*
 * graph.c - graphs of the stand-in: nodes and what each depends on. Built by a capture or by hand; exec.c runs them.
 */
#include "internal.h"

static long living;
long si_graph_count(void) { return __atomic_load_n(&living, __ATOMIC_RELAXED); }

/* ---- lists of nodes ---------------------------------------------------------------------------------------------- */

void si_nodes_set(struct si_nodes *to, const cudaGraphNode_t *list, size_t n) {
  cudaGraphNode_t *copy = si_copy_of(list, n * sizeof *copy); /* list may be to's own */
  free(to->list);
  *to = (struct si_nodes){copy, n};
}

void si_nodes_add(struct si_nodes *to, cudaGraphNode_t node) {
  for (size_t i = 0; i < to->n; i++)
    if (to->list[i] == node) return;
  to->list = realloc(to->list, (to->n + 1) * sizeof *to->list);
  if (!to->list) si_die("out of memory");
  to->list[to->n++] = node;
}

static bool reaches(const struct si_nodes *from, cudaGraphNode_t node, char *seen) {
  for (size_t i = 0; i < from->n; i++) {
    if (from->list[i] == node) return true;
    if (seen[from->list[i]->index]) continue;
    seen[from->list[i]->index] = 1;
    if (reaches(&from->list[i]->deps, node, seen)) return true;
  }
  return false;
}

bool si_nodes_reach(const struct si_nodes *from, cudaGraphNode_t node) {
  char *seen = si_alloc(node->graph->nodes.n);
  const bool yes = reaches(from, node, seen);
  free(seen);
  return yes;
}

/* ---- nodes ------------------------------------------------------------------------------------------------------- */

struct CUgraphNode_st *si_node(struct CUgraph_st *graph, enum cudaGraphNodeType type, const cudaGraphNode_t *deps,
                               size_t ndeps) {
  struct CUgraphNode_st *node = si_alloc(sizeof *node);
  node->graph = graph;
  node->type = type;
  node->index = graph->nodes.n;
  si_nodes_set(&node->deps, deps, ndeps);
  si_nodes_add(&graph->nodes, node);
  return node;
}

void si_node_set_work(struct CUgraphNode_st *node, si_work_fn *run, const void *arg, size_t bytes) {
  free(node->arg);
  node->run = run;
  node->arg = si_copy_of(arg, bytes);
  node->arg_bytes = bytes;
}

struct CUgraphNode_st *si_work_node(struct CUgraph_st *graph, enum cudaGraphNodeType type, const cudaGraphNode_t *deps,
                                    size_t ndeps, si_work_fn *run, const void *arg, size_t bytes) {
  struct CUgraphNode_st *node = si_node(graph, type, deps, ndeps);
  si_node_set_work(node, run, arg, bytes);
  return node;
}

void si_node_clear(struct CUgraphNode_st *node) {
  if (node->event) si_event_drop(node->event);
  free(node->arg);
  free(node->parameters);
  free(node->deps.list);
}

cudaError_t cudaGraphNodeGetType(cudaGraphNode_t node, enum cudaGraphNodeType *type) {
  ENTER(SAFE);
  NEED(node && type, cudaErrorInvalidValue);
  *type = node->type;
  return cudaSuccess;
}

/* As documented: without a list only the number; a list that is longer than needed is filled up with NULL. */
static void give(const struct si_nodes *nodes, cudaGraphNode_t *out, size_t *count) {
  for (size_t i = 0; out && i < *count; i++) out[i] = i < nodes->n ? nodes->list[i] : NULL;
  if (!out || *count > nodes->n) *count = nodes->n;
}

cudaError_t cudaGraphNodeGetDependencies(cudaGraphNode_t node, cudaGraphNode_t *dependencies, cudaGraphEdgeData *edges,
                                         size_t *count) {
  ENTER(SAFE);
  NEED(node && count, cudaErrorInvalidValue);
  give(&node->deps, dependencies, count);
  if (edges && dependencies) memset(edges, 0, *count * sizeof *edges);
  return cudaSuccess;
}

/* ---- graphs ------------------------------------------------------------------------------------------------------ */

struct CUgraph_st *si_graph_new(void) {
  __atomic_add_fetch(&living, 1, __ATOMIC_RELAXED);
  return si_alloc(sizeof(struct CUgraph_st));
}

void si_graph_drop(struct CUgraph_st *graph) {
  for (size_t i = 0; i < graph->nodes.n; i++) {
    si_node_clear(graph->nodes.list[i]);
    free(graph->nodes.list[i]);
  }
  free(graph->nodes.list);
  si_objects_release(&graph->objects);
  free(graph);
  __atomic_sub_fetch(&living, 1, __ATOMIC_RELAXED);
}

cudaError_t cudaGraphCreate(cudaGraph_t *graph, unsigned flags) {
  ENTER(SAFE);
  NEED(graph && !flags, cudaErrorInvalidValue);
  *graph = si_graph_new();
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  ENTER(ANY);
  NEED(graph, cudaErrorInvalidValue);
  si_graph_drop(graph);
  return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *count) {
  ENTER(SAFE);
  NEED(graph && count, cudaErrorInvalidValue);
  give(&graph->nodes, nodes, count);
  return cudaSuccess;
}

cudaError_t cudaGraphAddDependencies(cudaGraph_t graph, const cudaGraphNode_t *from, const cudaGraphNode_t *to,
                                     const cudaGraphEdgeData *edges, size_t count) {
  ENTER(SAFE);
  (void)edges;
  NEED(graph && (!count || (from && to)), cudaErrorInvalidValue);
  for (size_t i = 0; i < count; i++) {
    NEED(from[i]->graph == graph && to[i]->graph == graph && from[i] != to[i], cudaErrorInvalidValue);
    si_nodes_add(&to[i]->deps, from[i]);
  }
  return cudaSuccess;
}

static cudaError_t add_event_node(cudaGraphNode_t *node, cudaGraph_t graph, const cudaGraphNode_t *deps, size_t ndeps,
                                  enum cudaGraphNodeType type, cudaEvent_t e) {
  NEED(node && graph && si_event_alive(e), cudaErrorInvalidValue);
  *node = si_node(graph, type, deps, ndeps);
  (*node)->event = e;
  si_event_keep(e);
  return cudaSuccess;
}

cudaError_t cudaGraphAddEventRecordNode(cudaGraphNode_t *node, cudaGraph_t graph, const cudaGraphNode_t *deps,
                                        size_t ndeps, cudaEvent_t e) {
  ENTER(SAFE);
  return add_event_node(node, graph, deps, ndeps, cudaGraphNodeTypeEventRecord, e);
}

cudaError_t cudaGraphAddEventWaitNode(cudaGraphNode_t *node, cudaGraph_t graph, const cudaGraphNode_t *deps,
                                      size_t ndeps, cudaEvent_t e) {
  ENTER(SAFE);
  return add_event_node(node, graph, deps, ndeps, cudaGraphNodeTypeWaitEvent, e);
}

cudaError_t cudaGraphAddEmptyNode(cudaGraphNode_t *node, cudaGraph_t graph, const cudaGraphNode_t *deps, size_t ndeps) {
  ENTER(SAFE);
  NEED(node && graph, cudaErrorInvalidValue);
  *node = si_node(graph, cudaGraphNodeTypeEmpty, deps, ndeps);
  return cudaSuccess;
}

cudaError_t cudaGraphAddHostNode(cudaGraphNode_t *node, cudaGraph_t graph, const cudaGraphNode_t *deps, size_t ndeps,
                                 const struct cudaHostNodeParams *p) {
  ENTER(SAFE);
  NEED(node && graph && p && p->fn, cudaErrorInvalidValue);
  const struct si_host_call call = {p->fn, p->userData};
  *node = si_work_node(graph, cudaGraphNodeTypeHost, deps, ndeps, si_run_host_call, &call, sizeof call);
  return cudaSuccess;
}

/* ---- kernel nodes ------------------------------------------------------------------------------------------------ */

cudaError_t cudaGraphAddKernelNode(cudaGraphNode_t *node, cudaGraph_t graph, const cudaGraphNode_t *deps, size_t ndeps,
                                   const struct cudaKernelNodeParams *p) {
  ENTER(SAFE);
  void *work;
  size_t bytes;
  NEED(node && graph && p, cudaErrorInvalidValue);
  TRY(si_prepare_launch(p, &work, &bytes));
  *node = si_work_node(graph, cudaGraphNodeTypeKernel, deps, ndeps, si_run_launch, work, bytes);
  free(work);
  return cudaSuccess;
}

cudaError_t cudaGraphKernelNodeGetParams(cudaGraphNode_t node, struct cudaKernelNodeParams *p) {
  ENTER(SAFE);
  NEED(node && p && node->type == cudaGraphNodeTypeKernel, cudaErrorInvalidValue);
  if (!node->parameters) node->parameters = si_alloc(STANDIN_MAX_ARGS * sizeof(void *));
  si_describe_launch(node->arg, p, node->parameters);
  return cudaSuccess;
}

cudaError_t cudaGraphKernelNodeSetParams(cudaGraphNode_t node, const struct cudaKernelNodeParams *p) {
  ENTER(SAFE);
  void *work;
  size_t bytes;
  NEED(node && p && node->type == cudaGraphNodeTypeKernel, cudaErrorInvalidValue);
  TRY(si_prepare_launch(p, &work, &bytes));
  si_node_set_work(node, si_run_launch, work, bytes);
  free(work);
  return cudaSuccess;
}
