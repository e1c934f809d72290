/*
 * test_graphs.c - capture, its rules, graphs built by hand, replay, updates.
 */
#include <pthread.h>

#include "support.h"

static char increment; /* the kernel's symbol: see test_kernels.c */

static cudaError_t run_increment(const struct standin_launch *l) {
  int *p = *(int **)l->args[0];
  *p += *(int *)l->args[1];
  return cudaSuccess;
}
static const struct standin_kernel kernel = {"increment", run_increment, 2, {sizeof(int *), sizeof(int)}, false};

static void add(int *p, int n, cudaStream_t s) {
  void *args[] = {&p, &n};
  OK(cudaLaunchKernel(&increment, (dim3){1, 1, 1}, (dim3){1, 1, 1}, args, 0, s));
}

static void count_up(void *p) { ++*(int *)p; }

static cudaEvent_t new_event(void) {
  cudaEvent_t e;
  OK(cudaEventCreateWithFlags(&e, cudaEventDisableTiming));
  return e;
}

static size_t count_nodes(cudaGraph_t graph) {
  size_t n;
  OK(cudaGraphGetNodes(graph, NULL, &n));
  return n;
}

/* ---- capture and replay ------------------------------------------------------------------------------------------ */

/* s: clear both, +1, copy out; t beside it: host function, +1. */
static cudaGraph_t capture_fork(cudaStream_t s, cudaStream_t t, int *d, int *pinned, int *host_calls) {
  cudaEvent_t fork = new_event(), join = new_event();
  cudaGraph_t graph, same;
  enum cudaStreamCaptureStatus status;
  unsigned long long id;
  OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
  OK(cudaMemsetAsync(d, 0, 2 * sizeof *d, s));
  OK(cudaEventRecord(fork, s));
  OK(cudaStreamWaitEvent(t, fork, 0)); /* draws t in */
  OK(cudaStreamGetCaptureInfo(t, &status, &id, &same, NULL, NULL, NULL));
  CHECK(status == cudaStreamCaptureStatusActive);
  add(&d[0], 1, s);
  OK(cudaLaunchHostFunc(t, count_up, host_calls));
  add(&d[1], 1, t);
  OK(cudaEventRecord(join, t));
  OK(cudaStreamWaitEvent(s, join, 0));
  add(&d[0], 1, s);
  OK(cudaMemcpyAsync(pinned, d, sizeof *d, cudaMemcpyDeviceToHost, s));
  OK(cudaStreamEndCapture(s, &graph));
  CHECK(same == graph && *host_calls == 0 && count_nodes(graph) == 6);
  OK(cudaEventDestroy(fork));
  OK(cudaEventDestroy(join));
  return graph;
}

static void test_replay(void) {
  cudaStream_t s = new_stream(), t = new_stream();
  cudaGraphExec_t exec;
  int host_calls = 0, *pinned, *d = device_bytes(2 * sizeof *d, 0);
  OK(cudaHostAlloc((void **)&pinned, sizeof *pinned, 0));
  cudaGraph_t graph = capture_fork(s, t, d, pinned, &host_calls);
  OK(cudaGraphInstantiate(&exec, graph, 0));
  OK(cudaGraphDestroy(graph));
  for (int i = 1; i <= 5; i++) {
    *pinned = 0;
    OK(cudaGraphLaunch(exec, i % 2 ? s : t));
    OK(cudaStreamSynchronize(i % 2 ? s : t));
    CHECK(host_calls == i && *pinned == 2 && device_int(&d[1]) == 1);
  }
  busy(s, 20);
  OK(cudaGraphLaunch(exec, s));
  OK(cudaGraphExecDestroy(exec)); /* still runs */
  OK(cudaDeviceSynchronize());
  CHECK(host_calls == 6);
  OK(cudaStreamDestroy(s));
  OK(cudaStreamDestroy(t));
  OK(cudaFree(d));
  OK(cudaFreeHost(pinned));
}

/* Launches of one graph follow each other even on different streams; work before and after keeps its order. */
static void test_replay_order(void) {
  cudaStream_t s = new_stream(), t = new_stream();
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  int *d = device_bytes(sizeof *d, 0);
  OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeGlobal));
  busy(s, 5);
  add(d, 1, s); /* not atomic */
  OK(cudaStreamEndCapture(s, &graph));
  OK(cudaGraphInstantiate(&exec, graph, 0));
  for (int i = 0; i < 6; i++) OK(cudaGraphLaunch(exec, i % 2 ? s : t));
  add(d, 10, s);
  OK(cudaStreamSynchronize(s));
  OK(cudaStreamSynchronize(t));
  CHECK(device_int(d) == 16);
  OK(cudaGraphExecDestroy(exec));
  OK(cudaGraphDestroy(graph));
  OK(cudaStreamDestroy(s));
  OK(cudaStreamDestroy(t));
  OK(cudaFree(d));
}

/* Events that a graph records and waits for reach work outside of it. */
static void test_external_events(void) {
  cudaStream_t s = new_stream(), t = new_stream();
  cudaEvent_t ready = new_event(), done = new_event();
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  int *d = device_bytes(sizeof *d, 0);
  OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeGlobal));
  OK(cudaStreamWaitEvent(s, ready, cudaEventWaitExternal));
  add(d, 1, s);
  OK(cudaEventRecordWithFlags(done, s, cudaEventRecordExternal));
  OK(cudaStreamEndCapture(s, &graph));
  CHECK(count_nodes(graph) == 3);
  OK(cudaGraphInstantiate(&exec, graph, 0));
  for (int i = 0; i < 3; i++) {
    busy(t, 10);
    add(d, 10, t);
    OK(cudaEventRecord(ready, t));
    OK(cudaGraphLaunch(exec, s));
    OK(cudaStreamWaitEvent(t, done, 0));
    add(d, 100, t);
    OK(cudaStreamSynchronize(t));
    CHECK(device_int(d) == 111 * (i + 1));
  }
  OK(cudaGraphExecDestroy(exec));
  OK(cudaGraphDestroy(graph));
  OK(cudaEventDestroy(ready));
  OK(cudaEventDestroy(done));
  OK(cudaStreamDestroy(s));
  OK(cudaStreamDestroy(t));
  OK(cudaFree(d));
}

/* ---- rules of capture -------------------------------------------------------------------------------------------- */

static void *malloc_elsewhere(void *mode) {
  void *d;
  enum cudaStreamCaptureMode m = (enum cudaStreamCaptureMode)(uintptr_t)mode;
  cudaThreadExchangeStreamCaptureMode(&m);
  const cudaError_t e = cudaMalloc(&d, 1);
  if (e == cudaSuccess) cudaFree(d);
  return (void *)(uintptr_t)e;
}

static cudaError_t elsewhere(enum cudaStreamCaptureMode mode) {
  pthread_t t;
  void *e;
  CHECK(!pthread_create(&t, NULL, malloc_elsewhere, (void *)(uintptr_t)mode));
  pthread_join(t, &e);
  return (cudaError_t)(uintptr_t)e;
}

/* Calls that are unsafe during a capture, by the capture's mode and the caller's. */
static void test_unsafe_calls(void) {
  cudaStream_t s = new_stream();
  cudaGraph_t g;
  cudaEvent_t e = new_event();
  void *d;
  enum cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
  OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeGlobal));
  IS(cudaMalloc(&d, 1), cudaErrorStreamCaptureUnsupported);
  IS(cudaMemsetAsync(NULL, 0, 0, s), cudaSuccess);
  IS(cudaLaunchHostFunc(s, count_up, &d), cudaErrorStreamCaptureInvalidated);
  IS(cudaStreamEndCapture(s, &g), cudaErrorStreamCaptureInvalidated);
  CHECK(!g);
  OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeGlobal));
  OK(cudaThreadExchangeStreamCaptureMode(&mode));
  CHECK(mode == cudaStreamCaptureModeGlobal);
  OK(cudaMalloc(&d, 1)); /* this thread knows what it does */
  OK(cudaEventQuery(e));
  OK(cudaThreadExchangeStreamCaptureMode(&mode));
  OK(elsewhere(cudaStreamCaptureModeThreadLocal));
  IS(elsewhere(cudaStreamCaptureModeGlobal), cudaErrorStreamCaptureUnsupported);
  IS(cudaStreamEndCapture(s, &g), cudaErrorStreamCaptureInvalidated);
  OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
  OK(elsewhere(cudaStreamCaptureModeGlobal));
  IS(cudaDeviceSynchronize(), cudaErrorStreamCaptureUnsupported);
  IS(cudaStreamEndCapture(s, &g), cudaErrorStreamCaptureInvalidated);
  OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeRelaxed));
  IS(cudaStreamSynchronize(s), cudaErrorStreamCaptureUnsupported); /* of the capturing stream itself: never */
  IS(cudaStreamEndCapture(s, &g), cudaErrorStreamCaptureInvalidated);
  OK(cudaFree(d));
  OK(cudaEventDestroy(e));
  OK(cudaStreamDestroy(s));
  cudaGetLastError();
}

static void test_dependencies_across_captures(void) {
  cudaStream_t s = new_stream(), t = new_stream();
  cudaGraph_t g;
  cudaEvent_t e = new_event();
  int *d = device_bytes(sizeof *d, 0);
  OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeRelaxed)); /* t is not joined */
  OK(cudaEventRecord(e, s));
  OK(cudaStreamWaitEvent(t, e, 0));
  OK(cudaMemsetAsync(d, 0, 1, t));
  IS(cudaEventQuery(e), cudaErrorCapturedEvent);
  IS(cudaStreamEndCapture(t, &g), cudaErrorStreamCaptureUnmatched);
  IS(cudaStreamEndCapture(s, &g), cudaErrorStreamCaptureInvalidated);
  IS(cudaStreamWaitEvent(t, e, 0), cudaErrorCapturedEvent); /* of a capture that has ended */
  OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeRelaxed));
  OK(cudaEventRecord(e, s));
  OK(cudaStreamWaitEvent(t, e, 0));
  OK(cudaMemsetAsync(d, 0, 1, t));
  IS(cudaStreamEndCapture(s, &g), cudaErrorStreamCaptureUnjoined);
  OK(cudaEventRecord(e, t)); /* outside of any capture */
  OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeRelaxed));
  IS(cudaStreamWaitEvent(s, e, 0), cudaErrorStreamCaptureIsolation);
  IS(cudaStreamEndCapture(s, &g), cudaErrorStreamCaptureInvalidated);
  OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeRelaxed));
  OK(cudaStreamBeginCapture(t, cudaStreamCaptureModeRelaxed));
  OK(cudaEventRecord(e, s));
  IS(cudaStreamWaitEvent(t, e, 0), cudaErrorStreamCaptureMerge);
  IS(cudaStreamEndCapture(s, &g), cudaErrorStreamCaptureInvalidated);
  IS(cudaStreamEndCapture(t, &g), cudaErrorStreamCaptureInvalidated);
  OK(cudaEventDestroy(e));
  OK(cudaStreamDestroy(s));
  OK(cudaStreamDestroy(t));
  OK(cudaFree(d));
  cudaGetLastError();
}

static void *end_capture(void *stream) {
  cudaGraph_t g;
  return (void *)(uintptr_t)cudaStreamEndCapture(stream, &g);
}

static void test_capture_misuse(void) {
  cudaStream_t s = new_stream(), blocking;
  cudaGraph_t g;
  enum cudaStreamCaptureStatus status;
  pthread_t t;
  void *e;
  OK(cudaStreamCreate(&blocking));
  IS(cudaStreamBeginCapture(NULL, cudaStreamCaptureModeGlobal), cudaErrorStreamCaptureUnsupported);
  IS(cudaStreamEndCapture(s, &g), cudaErrorIllegalState);
  OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
  IS(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal), cudaErrorIllegalState);
  CHECK(!pthread_create(&t, NULL, end_capture, s));
  pthread_join(t, &e);
  CHECK((cudaError_t)(uintptr_t)e == cudaErrorStreamCaptureWrongThread);
  OK(cudaLaunchHostFunc(NULL, sleep_ms, NULL)); /* s does not block */
  OK(cudaStreamEndCapture(s, &g));
  OK(cudaGraphDestroy(g));
  OK(cudaStreamBeginCapture(blocking, cudaStreamCaptureModeRelaxed));
  IS(cudaStreamIsCapturing(NULL, &status), cudaErrorStreamCaptureImplicit);
  OK(cudaStreamIsCapturing(blocking, &status)); /* asking did no harm */
  CHECK(status == cudaStreamCaptureStatusActive);
  IS(cudaLaunchHostFunc(NULL, sleep_ms, NULL), cudaErrorStreamCaptureImplicit);
  OK(cudaStreamIsCapturing(blocking, &status));
  CHECK(status == cudaStreamCaptureStatusInvalidated);
  IS(cudaStreamEndCapture(blocking, &g), cudaErrorStreamCaptureInvalidated);
  OK(cudaStreamDestroy(s));
  OK(cudaStreamDestroy(blocking));
  cudaGetLastError();
}

/* ---- graphs by hand ---------------------------------------------------------------------------------------------- */

static void test_update_dependencies(void) {
  cudaStream_t s = new_stream();
  cudaGraph_t g;
  cudaGraphNode_t node, dep;
  enum cudaGraphNodeType type;
  const cudaGraphNode_t *deps;
  enum cudaStreamCaptureStatus status;
  size_t n, one = 1;
  int calls = 0;
  const struct cudaHostNodeParams call = {count_up, &calls};
  OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeRelaxed));
  OK(cudaLaunchHostFunc(s, count_up, &calls));
  OK(cudaStreamGetCaptureInfo(s, &status, NULL, &g, &deps, NULL, &n));
  CHECK(n == 1);
  OK(cudaGraphAddHostNode(&node, g, deps, n, &call)); /* into a graph that is being captured */
  OK(cudaStreamUpdateCaptureDependencies(s, &node, NULL, 1, cudaStreamSetCaptureDependencies));
  OK(cudaLaunchHostFunc(s, count_up, &calls));
  OK(cudaStreamGetCaptureInfo(s, &status, NULL, &g, &deps, NULL, &n));
  CHECK(n == 1);
  OK(cudaGraphNodeGetDependencies(deps[0], &dep, NULL, &one));
  CHECK(one == 1 && dep == node);
  OK(cudaGraphNodeGetType(deps[0], &type));
  CHECK(type == cudaGraphNodeTypeHost);
  OK(cudaStreamEndCapture(s, &g));
  CHECK(count_nodes(g) == 3);
  IS(cudaStreamUpdateCaptureDependencies(s, NULL, NULL, 0, 0), cudaErrorIllegalState);
  OK(cudaGraphDestroy(g));
  OK(cudaStreamDestroy(s));
  cudaGetLastError();
}

static struct cudaKernelNodeParams parameters_of(void **args) {
  return (struct cudaKernelNodeParams){&increment, {1, 1, 1}, {1, 1, 1}, 0, args, NULL};
}

static void test_kernel_nodes(void) {
  int *d = device_bytes(2 * sizeof *d, 0), *second = &d[1], n = 3;
  void *args[] = {&d, &n};
  cudaStream_t s = new_stream();
  cudaGraph_t g;
  cudaGraphNode_t a, b, c;
  cudaGraphExec_t exec;
  struct cudaKernelNodeParams p = parameters_of(args);
  OK(cudaGraphCreate(&g, 0));
  OK(cudaGraphAddKernelNode(&a, g, NULL, 0, &p));
  OK(cudaGraphAddEmptyNode(&c, g, &a, 1));
  OK(cudaGraphAddKernelNode(&b, g, &c, 1, &p));
  OK(cudaGraphKernelNodeGetParams(a, &p));
  CHECK(p.func == &increment && *(int **)p.kernelParams[0] == d && *(int *)p.kernelParams[1] == 3 && p.gridDim.x == 1);
  n = 4;
  p = parameters_of(args);
  OK(cudaGraphKernelNodeSetParams(b, &p));
  OK(cudaGraphInstantiate(&exec, g, 0));
  OK(cudaGraphLaunch(exec, s));
  OK(cudaStreamSynchronize(s));
  CHECK(device_int(d) == 7);
  args[0] = &second;
  OK(cudaGraphExecKernelNodeSetParams(exec, b, &p));
  OK(cudaGraphLaunch(exec, s));
  OK(cudaStreamSynchronize(s));
  CHECK(device_int(d) == 10 && device_int(second) == 4);
  IS(cudaGraphKernelNodeGetParams(c, &p), cudaErrorInvalidValue);
  OK(cudaGraphAddDependencies(g, &b, &a, NULL, 1)); /* a circle */
  OK(cudaGraphExecDestroy(exec));
  IS(cudaGraphInstantiate(&exec, g, 0), cudaErrorInvalidValue);
  OK(cudaGraphDestroy(g));
  OK(cudaStreamDestroy(s));
  OK(cudaFree(d));
  cudaGetLastError();
}

static cudaGraph_t capture_adds(cudaStream_t s, int *d, int n, int times) {
  cudaGraph_t g;
  OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeGlobal));
  for (int i = 0; i < times; i++) add(d, n, s);
  OK(cudaStreamEndCapture(s, &g));
  return g;
}

static void test_exec_update(void) {
  int *d = device_bytes(sizeof *d, 0);
  cudaStream_t s = new_stream();
  cudaGraphExec_t exec;
  cudaGraphExecUpdateResultInfo result;
  cudaGraph_t first = capture_adds(s, d, 1, 2), second = capture_adds(s, d, 10, 2), third = capture_adds(s, d, 100, 3);
  OK(cudaGraphInstantiate(&exec, first, 0));
  OK(cudaGraphLaunch(exec, s));
  OK(cudaGraphExecUpdate(exec, second, &result));
  CHECK(result.result == cudaGraphExecUpdateSuccess);
  OK(cudaGraphLaunch(exec, s));
  IS(cudaGraphExecUpdate(exec, third, &result), cudaErrorGraphExecUpdateFailure);
  CHECK(result.result == cudaGraphExecUpdateErrorTopologyChanged);
  OK(cudaGraphLaunch(exec, s));
  OK(cudaStreamSynchronize(s));
  CHECK(device_int(d) == 42);
  OK(cudaGraphExecDestroy(exec));
  OK(cudaGraphDestroy(first));
  OK(cudaGraphDestroy(second));
  OK(cudaGraphDestroy(third));
  OK(cudaStreamDestroy(s));
  OK(cudaFree(d));
  cudaGetLastError();
}

static void test_user_objects(void) {
  cudaUserObject_t object;
  cudaGraph_t g;
  cudaGraphExec_t exec;
  int destroyed = 0;
  OK(cudaGraphCreate(&g, 0));
  OK(cudaUserObjectCreate(&object, &destroyed, count_up, 1, cudaUserObjectNoDestructorSync));
  OK(cudaUserObjectRetain(object, 2));
  OK(cudaGraphRetainUserObject(g, object, 1, cudaGraphUserObjectMove));
  OK(cudaGraphInstantiate(&exec, g, 0));
  OK(cudaUserObjectRelease(object, 2));
  OK(cudaGraphDestroy(g));
  CHECK(!destroyed);
  OK(cudaGraphExecDestroy(exec));
  CHECK(destroyed == 1);
  IS(cudaUserObjectCreate(&object, &destroyed, count_up, 0, cudaUserObjectNoDestructorSync), cudaErrorInvalidValue);
  cudaGetLastError();
}

int main(void) {
  standin_kernel_symbol(&increment, &kernel);
  test_replay();
  test_replay_order();
  test_external_events();
  test_unsafe_calls();
  test_dependencies_across_captures();
  test_capture_misuse();
  test_update_dependencies();
  test_kernel_nodes();
  test_exec_update();
  test_user_objects();
  check_empty();
  return 0;
}
