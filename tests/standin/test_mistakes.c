/*
 * test_mistakes.c - deliberate mistakes, each of which the stand-in must show: that is what it is for. Each runs in a
 * process of its own, with its own settings.
 */
#include <dlfcn.h>
#include <signal.h>
#include <sys/mman.h>
#include <time.h>

#include "support.h"

enum { SEEN = 3, TSAN_SEEN = 66, ORDER_ROUNDS = 60 };

static char store, load, sum; /* symbols of the kernels */

static cudaError_t run_store(const struct standin_launch *l) {
  **(int **)l->args[0] = *(int *)l->args[1];
  return cudaSuccess;
}

static cudaError_t run_load(const struct standin_launch *l) {
  **(int **)l->args[1] = **(int **)l->args[0];
  return cudaSuccess;
}

/* An address inside a structure. */
struct sum_arguments {
  long unused[3];
  const int *from;
  int *to;
  size_t n;
};
static cudaError_t run_sum(const struct standin_launch *l) {
  const struct sum_arguments *a = l->args[0];
  *a->to = 0;
  for (size_t i = 0; i < a->n; i++) *a->to += ((const volatile int *)a->from)[i];
  return cudaSuccess;
}

static const struct standin_kernel kernels[] = {
    {"store", run_store, 2, {sizeof(int *), sizeof(int)}, false},
    {"load", run_load, 2, {sizeof(int *), sizeof(int *)}, false},
    {"sum", run_sum, 1, {sizeof(struct sum_arguments)}, false},
};
static const void *const symbols[] = {&store, &load, &sum};

static void launch(const void *symbol, void **args, cudaStream_t s) {
  OK(cudaLaunchKernel(symbol, (dim3){1, 1, 1}, (dim3){1, 1, 1}, args, 0, s));
}

static void set(const char *name, const char *value) { CHECK(!setenv(name, value, 1)); }

/* ---- addresses --------------------------------------------------------------------------------------------------- */

/* After a launch with a bad address: the launch itself succeeds, everything after it fails, as on a GPU. */
static void check_illegal(void) {
  IS(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
  IS(cudaGetLastError(), cudaErrorIllegalAddress);
  IS(cudaGetLastError(), cudaErrorIllegalAddress);
  OK(cudaDeviceReset());
}

static void pageable_address(void) {
  int on_stack = 0, value = 1, *on_heap = calloc(1, sizeof *on_heap), *p = &on_stack;
  void *args[] = {&p, &value};
  launch(&store, args, NULL);
  check_illegal();
  p = on_heap;
  launch(&store, args, NULL);
  check_illegal();
  CHECK(!on_stack && !*on_heap);
  free(on_heap);
}

/* What works without WSL2 and not on it. */
static void raw_host_address(void) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  int *host = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0), *device, value = 9;
  set("STANDIN_HOST_ALIAS", "1");
  struct sum_arguments a = {.from = device_bytes(64, 0), .to = host, .n = 16};
  void *args[] = {&host, &value}, *sum_args[] = {&a};
  OK(cudaHostRegister(host, page, cudaHostRegisterMapped));
  launch(&store, args, NULL);
  check_illegal();
  launch(&sum, sum_args, NULL);
  check_illegal();
  OK(cudaHostGetDevicePointer((void **)&device, host, 0));
  args[0] = &device;
  launch(&store, args, NULL);
  OK(cudaDeviceSynchronize());
  CHECK(*host == 9);
}

static void raw_host_address_in_batch(void) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  int *host = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  cudaStream_t s;
  set("STANDIN_HOST_ALIAS", "1");
  s = new_stream();
  OK(cudaHostRegister(host, page, 0));
  void *to[] = {device_bytes(4, 0)}, *device;
  const void *from[] = {host};
  size_t bytes[] = {4};
  OK(cudaMemcpyAsync(to[0], host, 4, cudaMemcpyHostToDevice, s)); /* this one translates */
  OK(cudaHostGetDevicePointer(&device, host, 0));
  from[0] = device;
  OK(cudaMemcpyBatchAsync(to, from, bytes, 1, NULL, NULL, 0, s));
  from[0] = host;
  IS(cudaMemcpyBatchAsync(to, from, bytes, 1, NULL, NULL, 0, s), cudaErrorIllegalAddress);
  IS(cudaStreamSynchronize(s), cudaErrorIllegalAddress);
}

static void other_devices_memory(void) {
  int *p, value = 1;
  void *args[] = {&p, &value};
  set("STANDIN_DEVICES", "2");
  OK(cudaSetDevice(1));
  p = device_bytes(sizeof *p, 0);
  OK(cudaSetDevice(0));
  launch(&store, args, NULL);
  check_illegal();
}

static void other_devices_event(void) {
  cudaEvent_t event;
  cudaStream_t stream;
  set("STANDIN_DEVICES", "2");
  OK(cudaSetDevice(1));
  OK(cudaEventCreate(&event));
  OK(cudaSetDevice(0));
  OK(cudaStreamCreate(&stream));
  IS(cudaEventRecord(event, stream), cudaErrorInvalidResourceHandle);
  OK(cudaStreamDestroy(stream));
  OK(cudaEventDestroy(event));
}

/* ---- lifetimes --------------------------------------------------------------------------------------------------- */

static void freed_memory(void) {
  int value = 1, *p = device_bytes(sizeof *p, 0);
  void *args[] = {&p, &value};
  cudaStream_t s = new_stream();
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeGlobal));
  launch(&store, args, s);
  OK(cudaStreamEndCapture(s, &graph));
  OK(cudaGraphInstantiate(&exec, graph, 0));
  OK(cudaGraphLaunch(exec, s));
  OK(cudaStreamSynchronize(s));
  OK(cudaFree(p));
  OK(cudaGraphLaunch(exec, s)); /* a replay does not ask whether memory is still there */
  check_illegal();
  launch(&store, args, s);
  check_illegal();
  IS(cudaMemcpy(p, &value, sizeof value, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  IS(cudaMemcpyAsync(p, &value, sizeof value, cudaMemcpyDefault, s), cudaErrorInvalidValue);
  IS(cudaMemsetAsync(p, 0, sizeof value, s), cudaErrorInvalidValue);
  IS(cudaFree(p), cudaErrorInvalidValue);
  OK(cudaGraphExecDestroy(exec));
  OK(cudaGraphDestroy(graph));
}

static void host_reads_freed_memory(void) {
  volatile int *p = device_bytes(sizeof *p, 0);
  OK(cudaFree((void *)(uintptr_t)p));
  (void)*p;
}

static void kernel_overruns(void) {
  struct sum_arguments a = {.from = device_bytes(4096, 0), .to = device_bytes(sizeof(int), 0), .n = 4096 / 4 + 1};
  void *args[] = {&a};
  launch(&sum, args, NULL);
  cudaDeviceSynchronize();
}

static void stale_handles(void) {
  cudaStream_t s = new_stream();
  cudaEvent_t e;
  OK(cudaEventCreate(&e));
  OK(cudaEventRecord(e, s));
  OK(cudaStreamSynchronize(s));
  OK(cudaStreamDestroy(s));
  OK(cudaEventDestroy(e));
  new_stream(); /* may use what s used */
  IS(cudaStreamSynchronize(s), cudaErrorInvalidResourceHandle);
  IS(cudaLaunchHostFunc(s, sleep_ms, NULL), cudaErrorInvalidResourceHandle);
  IS(cudaStreamDestroy(s), cudaErrorInvalidResourceHandle);
  IS(cudaEventRecord(e, NULL), cudaErrorInvalidResourceHandle);
  IS(cudaStreamWaitEvent(NULL, e, 0), cudaErrorInvalidResourceHandle);
  IS(cudaEventDestroy(e), cudaErrorInvalidResourceHandle);
}

/* ---- order ------------------------------------------------------------------------------------------------------- */

/* One stream stores, another loads: how often the wrong value? */
static int wrong_values(bool ordered) {
  cudaStream_t s = new_stream(), t = new_stream();
  cudaEvent_t e;
  int wrong = 0, *d = device_bytes(sizeof *d, 0), *out;
  OK(cudaEventCreate(&e));
  OK(cudaHostAlloc((void **)&out, sizeof *out, 0));
  for (int i = 1; i <= ORDER_ROUNDS; i++) {
    void *store_args[] = {&d, &i}, *load_args[] = {&d, &out};
    launch(&store, store_args, s);
    if (ordered) OK(cudaEventRecord(e, s));
    if (ordered) OK(cudaStreamWaitEvent(t, e, 0));
    launch(&load, load_args, t);
    OK(cudaStreamSynchronize(t));
    wrong += *out != i;
    OK(cudaStreamSynchronize(s));
  }
  OK(cudaEventDestroy(e));
  return wrong;
}

/* Seen as a wrong value, because streams are late by chance, and by ThreadSanitizer as a race. */
static void missing_order(void) {
  set("STANDIN_DELAY", "500");
  exit(wrong_values(false) ? SEEN : 0);
}

static void right_order(void) {
  set("STANDIN_DELAY", "500");
  exit(wrong_values(true) ? SEEN : 0);
}

/* A store that waits for a value that a later launch, on another stream, brings: right with a queue for each stream,
 * and a deadlock if the device has one for all. */
static int waits_for_later(void) {
  cudaStream_t s = new_stream(), t = new_stream();
  int one = 1, *flag = device_bytes(sizeof *flag, 0);
  void *function, *args[] = {&flag, &one};
  PFN_cuStreamWaitValue32_v8000 wait;
  OK(cudaGetDriverEntryPoint("cuStreamWaitValue32", &function, cudaEnableDefault, NULL));
  memcpy(&wait, &function, sizeof function);
  CHECK(!wait(s, (CUdeviceptr)(uintptr_t)flag, 1, CU_STREAM_WAIT_VALUE_EQ));
  launch(&store, args, t);
  const time_t end = time(NULL) + (setting("STANDIN_ONE_QUEUE") ? 1 : 20);
  while (cudaStreamQuery(s) == cudaErrorNotReady)
    if (time(NULL) > end) return SEEN;
  return 0;
}

static void later_work_one_queue(void) {
  set("STANDIN_ONE_QUEUE", "1");
  exit(waits_for_later());
}

/* ---- settings and orders to fail --------------------------------------------------------------------------------- */

static void unknown_setting(void) {
  set("STANDIN_DEVICE", "2");
  cudaGetLastError();
}

static void bad_number(void) {
  set("STANDIN_DEVICES", "two");
  cudaGetLastError();
}

static void bad_order(void) {
  set("STANDIN_FAIL", "cudaMalloc:2");
  cudaGetLastError();
}

static void orders_from_environment(void) {
  void *p;
  set("STANDIN_FAIL", "cudaMalloc:2:2,cudaMemset:1:214:break");
  OK(cudaMalloc(&p, 1));
  IS(cudaMalloc(&p, 1), cudaErrorMemoryAllocation);
  OK(cudaMalloc(&p, 1));
  IS(cudaMemset(p, 0, 1), cudaErrorECCUncorrectable);
  IS(cudaMemset(p, 0, 1), cudaErrorECCUncorrectable);
}

static void no_device(void) {
  int n = -1, device;
  void *p;
  cudaStream_t s;
  set("STANDIN_DEVICES", "0");
  IS(cudaGetDeviceCount(&n), cudaErrorNoDevice);
  CHECK(n == 0);
  IS(cudaGetDevice(&device), cudaErrorNoDevice);
  IS(cudaMalloc(&p, 1), cudaErrorNoDevice);
  IS(cudaStreamCreate(&s), cudaErrorNoDevice);
}

static void unregistered_kernel(void) {
  static char symbol;
  static const struct standin_kernel other = {"other", run_store, 2, {sizeof(int *), sizeof(int)}, false};
  static char nobody;
  standin_kernel_symbol(&symbol, &other);
  IS(cudaLaunchKernel(&nobody, (dim3){1, 1, 1}, (dim3){1, 1, 1}, NULL, 0, NULL), cudaErrorInvalidDeviceFunction);
  IS(cudaLaunchKernel(&symbol, (dim3){1, 1, 1}, (dim3){1, 1, 1}, NULL, 0, NULL), cudaErrorInvalidValue);
}

/* A function that is left out: what needs it is not loaded, and the message says why. */
static void unknown_function(void) {
  CHECK(!dlopen(UNKNOWN_MODULE, RTLD_NOW));
  const char *why = dlerror();
  CHECK_TEXT(strstr(why, "undefined symbol: cudaMemPrefetchAsync"), "%s", why);
}

/* ---- all of them ------------------------------------------------------------------------------------------------- */

enum expected { GOOD, CRASH, ABORT, NOTICED, NOTICED_OR_RACE };

static const struct mistake {
  const char *name;
  void (*run)(void);
  enum expected expected;
} mistakes[] = {
    {"pageable address in a kernel", pageable_address, GOOD},
    {"raw host address in a kernel", raw_host_address, GOOD},
    {"raw host address in a batch of copies", raw_host_address_in_batch, GOOD},
    {"another device's memory", other_devices_memory, GOOD},
    {"another device's event", other_devices_event, GOOD},
    {"freed memory", freed_memory, GOOD},
    {"the host reads freed memory", host_reads_freed_memory, CRASH},
    {"a kernel reads behind its memory", kernel_overruns, CRASH},
    {"stale handles", stale_handles, GOOD},
    {"missing order of streams", missing_order, NOTICED_OR_RACE},
    {"the same with an event", right_order, GOOD},
    {"waiting for later work, one queue", later_work_one_queue, NOTICED},
    {"unknown setting", unknown_setting, ABORT},
    {"setting that is no number", bad_number, ABORT},
    {"order to fail without an error", bad_order, ABORT},
    {"orders to fail in the environment", orders_from_environment, GOOD},
    {"no device", no_device, GOOD},
    {"unregistered kernel", unregistered_kernel, GOOD},
    {"a function that is left out", unknown_function, GOOD},
};

static void run_mistake(int rank, int nranks, void *context) {
  const struct mistake *m = context;
  (void)rank, (void)nranks;
  m->run();
}

static bool as_expected(const struct harness_outcome *o, enum expected expected) {
  if (o->timed_out) return false;
  switch (expected) {
  case GOOD: return !o->signal && o->status == 0;
  case CRASH: return o->signal == SIGSEGV || (!o->signal && o->status != 0 && !*o->message); /* a sanitizer's status */
  case ABORT: return o->signal == SIGABRT;
  case NOTICED: return o->status == SEEN;
  case NOTICED_OR_RACE: return o->status == (HARNESS_SLOW ? TSAN_SEEN : SEEN);
  }
  return false;
}

int main(void) {
  for (size_t i = 0; i < LENGTH(kernels); i++) standin_kernel_symbol(symbols[i], &kernels[i]);
  for (size_t i = 0; i < LENGTH(mistakes); i++) {
    struct harness_outcome o;
    printf("%s\n", mistakes[i].name);
    harness_outcomes(1, run_mistake, (void *)(uintptr_t)&mistakes[i], 30, &o);
    CHECK_TEXT(as_expected(&o, mistakes[i].expected), "%s: status %d, signal %d%s: %s", mistakes[i].name, o.status,
               o.signal, o.timed_out ? ", timed out" : "", o.message);
  }
  return 0;
}
