/*
 * test_kernels.c - kernels without nvcc: launches reach implementations with the arguments as they were, grids run as
 * threads, kernels on different streams wait for each other.
 */
#include <sched.h>
#include <time.h>

#include "support.h"

/* What host code passes to cudaLaunchKernel: with nvcc the host stubs. Here only their addresses count. */
static char add, rotate, await_flag, raise_flag, meet, faulty, large, nowhere;

/* ---- implementations --------------------------------------------------------------------------------------------- */

#define ARGUMENT(thread, i, type) (*(type *)(thread)->launch->args[i])

/* to[i] += scale * from[i] */
static cudaError_t add_thread(const struct standin_thread *t) {
  float *to = ARGUMENT(t, 0, float *);
  const float *from = ARGUMENT(t, 1, const float *);
  const int n = ARGUMENT(t, 2, int);
  const float scale = (float)ARGUMENT(t, 4, double);
  const unsigned blocks = t->launch->grid.x;
  if (ARGUMENT(t, 3, char) != 'x') return cudaErrorAssert;
  for (unsigned i = t->block.x * t->nthreads + t->tid; (int)i < n; i += blocks * t->nthreads) to[i] += scale * from[i];
  return cudaSuccess;
}
static cudaError_t run_add(const struct standin_launch *l) { return standin_run_grid(l, 3, add_thread); }

/* Each thread hands its number, times 10 plus the block's, to the next one through shared memory. */
static cudaError_t rotate_thread(const struct standin_thread *t) {
  int *shared = t->shared, *out = ARGUMENT(t, 0, int *);
  shared[t->tid] = (int)t->tid * 10 + (int)(t->block.x + 2 * t->block.y);
  standin_block_sync(t);
  const unsigned block = t->block.x + 2 * t->block.y;
  out[block * t->nthreads + t->tid] = shared[(t->tid + 1) % t->nthreads];
  return cudaSuccess;
}
static cudaError_t run_rotate(const struct standin_launch *l) { return standin_run_grid(l, 4, rotate_thread); }

/* Until the flag has that value, the device is lost or ten seconds are over. */
static cudaError_t await(const uint32_t *flag, uint32_t value, int device) {
  const time_t end = time(NULL) + 10;
  while (__atomic_load_n(flag, __ATOMIC_ACQUIRE) != value) {
    if (standin_broken(device) != cudaSuccess) return cudaSuccess;
    if (time(NULL) > end) return cudaErrorLaunchTimeout;
    sched_yield();
  }
  return cudaSuccess;
}
static cudaError_t run_await_flag(const struct standin_launch *l) {
  return await(*(uint32_t **)l->args[0], *(uint32_t *)l->args[1], l->device);
}
static cudaError_t run_raise_flag(const struct standin_launch *l) {
  __atomic_store_n(*(uint32_t **)l->args[0], *(uint32_t *)l->args[1], __ATOMIC_RELEASE);
  return cudaSuccess;
}

/* Every block raises its flag and waits for those of all others. */
static cudaError_t meet_thread(const struct standin_thread *t) {
  uint32_t *flags = ARGUMENT(t, 0, uint32_t *);
  cudaError_t error = cudaSuccess;
  if (t->tid == 0) __atomic_store_n(&flags[t->block.x], 1, __ATOMIC_RELEASE);
  for (unsigned b = 0; b < t->launch->grid.x && error == cudaSuccess; b++)
    error = await(&flags[b], 1, t->launch->device);
  return error;
}
static cudaError_t run_meet(const struct standin_launch *l) { return standin_run_grid(l, 2, meet_thread); }

static cudaError_t run_faulty(const struct standin_launch *l) {
  (void)l;
  return cudaErrorLaunchFailure;
}

struct big {
  char bytes[200];
  int *p;
};
static cudaError_t run_large(const struct standin_launch *l) {
  const struct big *big = l->args[0];
  if (l->packed_bytes && l->packed_bytes != sizeof *big) return cudaErrorAssert;
  *big->p = big->bytes[199];
  return cudaSuccess;
}

static const struct standin_kernel kernels[] = {
    {"_Z3addPfPKficd",
     run_add,
     5,
     {sizeof(float *), sizeof(float *), sizeof(int), sizeof(char), sizeof(double)},
     false},
    {"rotate", run_rotate, 1, {sizeof(int *)}, false},
    {"await_flag", run_await_flag, 2, {sizeof(uint32_t *), sizeof(uint32_t)}, false},
    {"raise_flag", run_raise_flag, 2, {sizeof(uint32_t *), sizeof(uint32_t)}, false},
    {"meet", run_meet, 1, {sizeof(uint32_t *)}, false},
    {"faulty", run_faulty, 0, {0}, false},
    {"large", run_large, 1, {sizeof(struct big)}, false},
};
static const void *const symbols[] = {&add, &rotate, &await_flag, &raise_flag, &meet, &faulty, &large};

static const dim3 one = {1, 1, 1};

/* ---- tests ------------------------------------------------------------------------------------------------------- */

static void test_arguments(void) {
  float host[100], *d = device_bytes(sizeof host, 0);
  cudaStream_t s = new_stream();
  int n = 100;
  char letter = 'x';
  double scale = 1.5;
  void *args[] = {&d, &d, &n, &letter, &scale};
  for (int i = 0; i < 100; i++) host[i] = (float)i;
  OK(cudaMemcpy(d, host, sizeof host, cudaMemcpyHostToDevice));
  OK(cudaLaunchKernel(&add, (dim3){7, 1, 1}, (dim3){32, 1, 1}, args, 0, s));
  n = -1; /* the launch has copies */
  letter = 'y';
  OK(cudaStreamSynchronize(s));
  OK(cudaMemcpy(host, d, sizeof host, cudaMemcpyDeviceToHost));
  CHECK(host[1] == 2.5f && host[99] == 247.5f);
  OK(cudaStreamDestroy(s));
  OK(cudaFree(d));
}

static void test_grid(void) {
  int host[16], *d = device_bytes(sizeof host, 0);
  void *args[] = {&d};
  OK(cudaLaunchKernel(&rotate, (dim3){2, 2, 1}, (dim3){128, 1, 1}, args, 4 * sizeof(int), NULL));
  OK(cudaMemcpy(host, d, sizeof host, cudaMemcpyDeviceToHost));
  for (int i = 0; i < 16; i++) CHECK(host[i] == (i + 1) % 4 * 10 + i / 4);
  uint32_t *flags = device_bytes(16 * sizeof *flags, 0);
  args[0] = &flags;
  OK(cudaLaunchKernel(&meet, (dim3){16, 1, 1}, one, args, 0, NULL));
  OK(cudaDeviceSynchronize());
  OK(cudaFree(flags));
  OK(cudaFree(d));
}

/* One kernel waits for another's flag; the other is launched later, on another stream. */
static void test_kernels_meet(void) {
  cudaStream_t s = new_stream(), t = new_stream();
  uint32_t value = 7, *flag = device_bytes(sizeof *flag, 0);
  void *args[] = {&flag, &value};
  OK(cudaLaunchKernel(&await_flag, one, one, args, 0, s));
  IS(cudaStreamQuery(s), cudaErrorNotReady);
  OK(cudaLaunchKernel(&raise_flag, one, one, args, 0, t));
  OK(cudaStreamSynchronize(s));
  OK(cudaStreamDestroy(s));
  OK(cudaStreamDestroy(t));
  OK(cudaFree(flag));
  cudaGetLastError();
}

static void test_launch_errors(void) {
  uint32_t value = 1, *flag = device_bytes(sizeof *flag, 0);
  cudaStream_t s = new_stream();
  void *args[] = {&flag, &value};
  IS(cudaLaunchKernel(&nowhere, one, one, args, 0, s), cudaErrorInvalidDeviceFunction);
  IS(cudaLaunchKernel(&raise_flag, (dim3){0, 1, 1}, one, args, 0, s), cudaErrorInvalidConfiguration);
  IS(cudaLaunchKernel(&raise_flag, one, (dim3){2048, 1, 1}, args, 0, s), cudaErrorInvalidConfiguration);
  IS(cudaLaunchKernel(&raise_flag, one, (dim3){32, 64, 1}, args, 0, s), cudaErrorInvalidConfiguration);
  IS(cudaLaunchKernel(&raise_flag, one, one, args, 100 << 10, s), cudaErrorInvalidValue);
  OK(cudaFuncSetAttribute(&raise_flag, cudaFuncAttributeMaxDynamicSharedMemorySize, 100 << 10));
  OK(cudaLaunchKernel(&raise_flag, one, one, args, 100 << 10, s));
  IS(cudaFuncSetAttribute(&raise_flag, cudaFuncAttributeMaxDynamicSharedMemorySize, 200 << 10), cudaErrorInvalidValue);
  OK(cudaSetDevice(1));
  IS(cudaLaunchKernel(&raise_flag, one, one, args, 0, s), cudaErrorInvalidResourceHandle); /* the other's stream */
  OK(cudaSetDevice(0));
  OK(cudaStreamSynchronize(s));
  OK(cudaStreamDestroy(s));
  OK(cudaFree(flag));
  cudaGetLastError();
}

static void test_questions(void) {
  struct cudaFuncAttributes a;
  const char *name;
  int blocks = 0;
  OK(cudaFuncGetAttributes(&a, &rotate));
  CHECK(a.maxThreadsPerBlock == 1024 && a.binaryVersion == 80 && a.maxDynamicSharedSizeBytes == 48 << 10);
  OK(cudaFuncGetName(&name, &rotate));
  CHECK(!strcmp(name, "rotate"));
  OK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, &rotate, 512, 0));
  CHECK(blocks == 4);
  OK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, &rotate, 512, 82 << 10));
  CHECK(blocks == 2);
  IS(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, &rotate, 0, 0), cudaErrorInvalidValue);
  IS(cudaFuncGetAttributes(&a, &nowhere), cudaErrorInvalidDeviceFunction);
  cudaGetLastError();
}

/* The other ways to launch: with a configuration, through the driver, arguments packed. */
static void test_other_launches(void) {
  struct big big = {.p = device_bytes(sizeof(int), 0)};
  void *args[] = {&big}, *function;
  cudaStream_t s = new_stream();
  cudaEvent_t e;
  cudaFunction_t f;
  size_t bytes = sizeof big;
  PFN_cuLaunchKernel_v4000 launch;
  OK(cudaEventCreate(&e));
  cudaLaunchAttribute attribute = {.id = cudaLaunchAttributeProgrammaticEvent, .val.programmaticEvent.event = e};
  const cudaLaunchConfig_t config = {one, one, 0, s, &attribute, 1};
  big.bytes[199] = 11;
  OK(cudaLaunchKernelExC(&config, &large, args));
  OK(cudaEventSynchronize(e));
  CHECK(device_int(big.p) == 11);
  OK(cudaGetFuncBySymbol(&f, &large));
  OK(cudaGetDriverEntryPoint("cuLaunchKernel", &function, cudaEnableDefault, NULL));
  memcpy(&launch, &function, sizeof function);
  big.bytes[199] = 12;
  void *packed[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, &big, CU_LAUNCH_PARAM_BUFFER_SIZE, &bytes, CU_LAUNCH_PARAM_END};
  CHECK(launch(f, 1, 1, 1, 1, 1, 1, 0, s, NULL, packed) == CUDA_SUCCESS);
  OK(cudaStreamSynchronize(s));
  CHECK(device_int(big.p) == 12);
  OK(cudaEventDestroy(e));
  OK(cudaStreamDestroy(s));
  OK(cudaFree(big.p));
}

static void test_faults(void) {
  uint32_t value = 1, *flag = device_bytes(sizeof *flag, 0);
  void *args[] = {&flag, &value};
  cudaStream_t s = new_stream();
  OK(cudaLaunchKernel(&faulty, one, one, NULL, 0, s));
  IS(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
  IS(cudaLaunchKernel(&raise_flag, one, one, args, 0, s), cudaErrorLaunchFailure);
  OK(cudaDeviceReset());
  OK(cudaLaunchKernel(&await_flag, one, one, args, 0, s)); /* nobody raises it, but the device is lost */
  standin_break(0, cudaErrorDevicesUnavailable);
  IS(cudaStreamSynchronize(s), cudaErrorDevicesUnavailable);
  OK(cudaDeviceReset());
  cudaGetLastError();
  OK(cudaLaunchKernel(&meet, (dim3){2000, 1, 1}, one, args, 0, s)); /* more threads than the stand-in starts */
  IS(cudaStreamSynchronize(s), cudaErrorLaunchOutOfResources);
  OK(cudaDeviceReset());
  cudaGetLastError();
  OK(cudaStreamDestroy(s));
  OK(cudaFree(flag));
}

int main(void) {
  for (size_t i = 0; i < LENGTH(kernels); i++) standin_kernel_symbol(symbols[i], &kernels[i]);
  test_arguments();
  test_grid();
  if (!setting("STANDIN_ONE_QUEUE")) test_kernels_meet();
  test_launch_errors();
  test_questions();
  test_other_launches();
  test_faults();
  check_empty();
  return 0;
}
