/* test_runtime.c - the stand-in's memory, streams, events, errors and driver functions, in the mode that the
 * environment asks for (CMakeLists.txt). Two devices. */
#include "support.h"

#include <fcntl.h>
#include <sys/mman.h>

/* ---- devices ----------------------------------------------------------------------------------------------------- */

static void test_devices(void) {
  int n = 0, device = -1, can = -1, value = -1;
  char id[16];
  struct cudaDeviceProp p;
  OK(cudaGetDeviceCount(&n));
  CHECK(n == 2);
  OK(cudaGetDeviceProperties(&p, 1));
  CHECK(p.major == 8 && p.minor == 0 && !strcmp(p.name, "Stand-in GPU 1"));
  OK(cudaDeviceGetPCIBusId(id, sizeof id, 1));
  OK(cudaDeviceGetByPCIBusId(&device, id));
  CHECK(device == 1 && p.pciBusID == 0x11);
  OK(cudaDeviceCanAccessPeer(&can, 0, 1));
  CHECK(can == setting("STANDIN_P2P"));
  IS(cudaDeviceEnablePeerAccess(1, 0), can ? cudaSuccess : cudaErrorPeerAccessUnsupported);
  OK(cudaDeviceGetAttribute(&value, cudaDevAttrPageableMemoryAccess, 0));
  CHECK(value == 0);
  IS(cudaSetDevice(2), cudaErrorInvalidDevice);
  IS(cudaDeviceGetAttribute(&value, cudaDevAttrWarpSize, 2), cudaErrorInvalidDevice);
  IS(cudaDeviceGetPCIBusId(id, 5, 1), cudaErrorInvalidValue);
  cudaGetLastError();
}

/* ---- memory ------------------------------------------------------------------------------------------------------ */

static void test_memory(void) {
  struct cudaPointerAttributes a;
  char *d, host[100], *managed;
  size_t before, left, total;
  OK(cudaMemGetInfo(&before, &total));
  OK(cudaMalloc((void **)&d, 100));
  OK(cudaMemGetInfo(&left, &total));
  CHECK(before - left == 100);
  OK(cudaMemcpy(host, d, 100, cudaMemcpyDeviceToHost));
  CHECK(host[0] != 0 && host[99] != 0); /* nothing promises zeros */
  OK(cudaMemset(d, 7, 100));
  OK(cudaMemcpy(host, d, 100, cudaMemcpyDeviceToHost));
  CHECK(host[0] == 7 && host[99] == 7);
  OK(cudaPointerGetAttributes(&a, d + 50));
  CHECK(a.type == cudaMemoryTypeDevice && a.devicePointer == d + 50 && !a.hostPointer && a.device == 0);
  OK(cudaPointerGetAttributes(&a, host));
  CHECK(a.type == cudaMemoryTypeUnregistered);
  IS(cudaMemcpy(d, host, 101, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  IS(cudaMemcpy(host, d, 100, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  IS(cudaMemcpy(host, d, 100, (enum cudaMemcpyKind)7), cudaErrorInvalidMemcpyDirection);
  IS(cudaGetLastError(), cudaErrorInvalidMemcpyDirection);
  IS(cudaGetLastError(), cudaSuccess);
  IS(cudaFree(host), cudaErrorInvalidValue);
  IS(cudaFreeHost(d), cudaErrorInvalidValue);
  OK(cudaFree(d));
  OK(cudaFree(NULL));
  IS(cudaMalloc((void **)&d, total + 1), cudaErrorMemoryAllocation);
  OK(cudaMallocManaged((void **)&managed, 10, cudaMemAttachGlobal));
  managed[9] = 1;
  OK(cudaFree(managed));
  cudaGetLastError();
}

/* Memory in use stays until it is not. */
static void test_late_free(void) {
  char *d = device_bytes(100, 0);
  busy(NULL, 20);
  OK(cudaMemsetAsync(d, 1, 100, NULL));
  OK(cudaFree(d));
  OK(cudaDeviceSynchronize());
  IS(cudaFree(d), cudaErrorInvalidValue);
  cudaGetLastError();
}

static void test_2d(void) {
  char host[4][8], back[4][8] = {{0}}, *d;
  size_t pitch;
  memset(host, 3, sizeof host);
  OK(cudaMallocPitch((void **)&d, &pitch, 8, 4));
  OK(cudaMemset2D(d, pitch, 0, 8, 4));
  OK(cudaMemcpy2D(d, pitch, host, 8, 5, 4, cudaMemcpyHostToDevice));
  OK(cudaMemcpy2D(back, 8, d, pitch, 8, 4, cudaMemcpyDeviceToHost));
  CHECK(back[3][4] == 3 && back[3][5] == 0);
  IS(cudaMemcpy2D(d, 4, host, 8, 5, 4, cudaMemcpyHostToDevice), cudaErrorInvalidPitchValue);
  OK(cudaFree(d));
  cudaGetLastError();
}

static void test_pools(void) {
  cudaStream_t s = new_stream();
  cudaMemPool_t pool;
  char *d, *e;
  int gate;
  OK(cudaMallocAsync((void **)&d, 1000, s));
  OK(cudaDeviceGetDefaultMemPool(&pool, 0));
  OK(cudaMallocFromPoolAsync((void **)&e, 1000, pool, s));
  close_gate(s, &gate);
  OK(cudaMemsetAsync(d, 1, 1000, s));
  OK(cudaFreeAsync(d, s));
  OK(cudaFreeAsync(e, s));
  CHECK(standin_stats().device_ranges == 2);
  open_gate(&gate);
  OK(cudaStreamSynchronize(s));
  CHECK(standin_stats().device_ranges == 0);
  IS(cudaFreeAsync(d, s), cudaErrorInvalidValue);
  OK(cudaStreamDestroy(s));
  cudaGetLastError();
}

/* ---- host memory: its device address ----------------------------------------------------------------------------- */

static void check_host_address(char *host, size_t bytes, bool alias) {
  char *device, *pageable = malloc(bytes);
  struct cudaPointerAttributes a;
  OK(cudaHostGetDevicePointer((void **)&device, host, 0));
  CHECK((device == host) == !alias);
  CHECK(standin_device_can_use(device, bytes, 0) && !standin_device_can_use(device, bytes + 1, 0));
  CHECK(standin_device_can_use(host, bytes, 0) == !alias);
  OK(cudaPointerGetAttributes(&a, device + 1));
  CHECK(a.type == cudaMemoryTypeHost && a.hostPointer == host + 1 && a.devicePointer == device + 1);
  OK(cudaMemset(device, 5, bytes)); /* the same memory */
  CHECK(host[0] == 5 && host[bytes - 1] == 5);
  IS(cudaMemset(host, 5, bytes), alias ? cudaErrorInvalidValue : cudaSuccess);
  OK(cudaMemcpy(pageable, host, bytes, cudaMemcpyHostToHost)); /* copies take the host's address too */
  free(pageable);
  cudaGetLastError();
}

static void test_allocated_host_memory(void) {
  const int level = setting("STANDIN_HOST_ALIAS");
  int same = -1;
  char *p;
  OK(cudaDeviceGetAttribute(&same, cudaDevAttrCanUseHostPointerForRegisteredMem, 0));
  CHECK(same == !level);
  OK(cudaHostAlloc((void **)&p, 1000, cudaHostAllocMapped));
  check_host_address(p, 1000, level > 1);
  OK(cudaFreeHost(p));
  OK(cudaHostAlloc((void **)&p, 1000, cudaHostAllocWriteCombined));
  check_host_address(p, 1000, level > 0);
  OK(cudaFreeHost(p));
  IS(cudaHostAlloc((void **)&p, 1000, 64), cudaErrorInvalidValue);
  cudaGetLastError();
}

static void test_registered_file(void) {
  const size_t bytes = 3 * (size_t)sysconf(_SC_PAGESIZE);
  char name[64];
  void *device;
  snprintf(name, sizeof name, "/dev/shm/standin-test-%d", (int)getpid());
  const int fd = open(name, O_CREAT | O_RDWR, 0600);
  CHECK(fd >= 0 && !unlink(name) && !ftruncate(fd, (off_t)bytes));
  char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  IS(cudaHostGetDevicePointer(&device, p, 0), cudaErrorInvalidValue);
  OK(cudaHostRegister(p + 100, 5000, cudaHostRegisterMapped | cudaHostRegisterPortable));
  IS(cudaHostRegister(p + 100, 50, 0), cudaErrorHostMemoryAlreadyRegistered);
  IS(cudaHostRegister(p, bytes, 0), cudaErrorHostMemoryAlreadyRegistered); /* around it */
  check_host_address(p + 100, 5000, setting("STANDIN_HOST_ALIAS") > 0);
  OK(cudaHostUnregister(p + 100));
  IS(cudaHostUnregister(p + 100), cudaErrorHostMemoryNotRegistered);
  IS(cudaHostRegister(p, bytes, cudaHostRegisterReadOnly), cudaErrorNotSupported);
  IS(cudaHostRegister(p, 0, 0), cudaErrorInvalidValue);
  munmap(p, bytes);
  close(fd);
  cudaGetLastError();
}

static void test_registered_private_memory(void) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE), bytes = 3 * page;
  char *p;
  CHECK(!posix_memalign((void **)&p, page, bytes));
  p[bytes - 1] = 77;
  OK(cudaHostRegister(p, bytes, 0));
  CHECK(p[bytes - 1] == 77);
  check_host_address(p, bytes, setting("STANDIN_HOST_ALIAS") > 0);
  OK(cudaHostUnregister(p));
  CHECK(p[bytes - 1] == 5); /* what check_host_address wrote */
  free(p);
}

/* ---- streams ----------------------------------------------------------------------------------------------------- */

static void test_streams(void) {
  cudaStream_t s = new_stream();
  int gate, *pinned, x = 1, *d = device_bytes(2 * sizeof *d, 0);
  OK(cudaHostAlloc((void **)&pinned, sizeof *pinned, cudaHostAllocDefault));
  *pinned = 10;
  close_gate(s, &gate);
  OK(cudaMemcpyAsync(&d[0], &x, sizeof x, cudaMemcpyHostToDevice, s));     /* pageable: taken now */
  OK(cudaMemcpyAsync(&d[1], pinned, sizeof x, cudaMemcpyHostToDevice, s)); /* pinned: taken when it is run */
  x = 2;
  *pinned = 20;
  IS(cudaStreamQuery(s), cudaErrorNotReady);
  open_gate(&gate);
  OK(cudaStreamSynchronize(s));
  OK(cudaStreamQuery(s));
  CHECK(device_int(&d[0]) == 1 && device_int(&d[1]) == 20);
  busy(s, 20);
  OK(cudaMemsetAsync(d, 0, sizeof *d, s));
  OK(cudaMemcpyAsync(&x, d, sizeof x, cudaMemcpyDeviceToHost, s)); /* to pageable: waits */
  CHECK(x == 0);
  OK(cudaFree(d));
  OK(cudaFreeHost(pinned));
  OK(cudaStreamDestroy(s));
  cudaGetLastError();
}

static void test_legacy_stream(void) {
  cudaStream_t blocking, other = new_stream();
  int gate, *d = device_bytes(sizeof *d, 0);
  OK(cudaStreamCreate(&blocking));
  busy(blocking, 30);
  OK(cudaMemsetAsync(d, 1, sizeof *d, blocking));
  OK(cudaStreamSynchronize(NULL)); /* waits for the blocking stream */
  CHECK(device_int(d) == 0x01010101);
  busy(NULL, 30);
  OK(cudaMemsetAsync(d, 2, sizeof *d, NULL));
  OK(cudaMemsetAsync(d, 3, sizeof *d, blocking)); /* after the legacy stream's */
  OK(cudaStreamSynchronize(blocking));
  CHECK(device_int(d) == 0x03030303);
  close_gate(other, &gate);
  OK(cudaStreamSynchronize(NULL)); /* not for this one */
  IS(cudaStreamQuery(other), cudaErrorNotReady);
  open_gate(&gate);
  OK(cudaDeviceSynchronize());
  OK(cudaStreamQuery(other));
  OK(cudaStreamDestroy(blocking));
  OK(cudaStreamDestroy(other));
  OK(cudaFree(d));
  cudaGetLastError();
}

static void test_stream_questions(void) {
  cudaStream_t s;
  unsigned flags;
  int priority, device;
  unsigned long long id, legacy_id;
  OK(cudaStreamCreateWithPriority(&s, cudaStreamNonBlocking, -3));
  OK(cudaStreamGetFlags(s, &flags));
  OK(cudaStreamGetPriority(s, &priority));
  OK(cudaStreamGetDevice(s, &device));
  OK(cudaStreamGetId(s, &id));
  OK(cudaStreamGetId(NULL, &legacy_id));
  CHECK(flags == cudaStreamNonBlocking && priority == -3 && device == 0 && id != legacy_id);
  OK(cudaStreamDestroy(s));
  IS(cudaStreamCreateWithFlags(&s, 8), cudaErrorInvalidValue);
  cudaGetLastError();
}

static void call_cuda(void *error) { *(cudaError_t *)error = cudaStreamSynchronize(NULL); }

static void callback(cudaStream_t s, cudaError_t status, void *arg) {
  (void)s;
  *(int *)arg = status == cudaSuccess ? 5 : -1;
}

static void test_host_functions(void) {
  cudaStream_t s = new_stream();
  cudaError_t inside = cudaSuccess;
  int called = 0;
  OK(cudaLaunchHostFunc(s, call_cuda, &inside));
  OK(cudaStreamAddCallback(s, callback, &called, 0));
  OK(cudaStreamSynchronize(s));
  CHECK(inside == cudaErrorNotPermitted && called == 5);
  IS(cudaLaunchHostFunc(s, NULL, NULL), cudaErrorInvalidValue);
  OK(cudaStreamDestroy(s));
  cudaGetLastError();
}

/* ---- events ------------------------------------------------------------------------------------------------------ */

static void test_events(void) {
  cudaStream_t s = new_stream(), t = new_stream();
  cudaEvent_t begin, end;
  int gate, *d = device_bytes(sizeof *d, 0);
  float ms = 0;
  OK(cudaEventCreate(&begin));
  OK(cudaEventCreate(&end));
  OK(cudaEventQuery(end)); /* never recorded */
  OK(cudaEventRecord(begin, s));
  busy(s, 30);
  close_gate(s, &gate);
  OK(cudaMemsetAsync(d, 1, sizeof *d, s));
  OK(cudaEventRecord(end, s));
  IS(cudaEventQuery(end), cudaErrorNotReady);
  open_gate(&gate);
  OK(cudaStreamWaitEvent(t, end, 0));
  OK(cudaMemsetAsync(d, 2, sizeof *d, t));
  OK(cudaEventSynchronize(end));
  OK(cudaStreamSynchronize(t));
  CHECK(device_int(d) == 0x02020202);
  OK(cudaEventElapsedTime(&ms, begin, end));
  CHECK(ms >= 29);
  OK(cudaEventDestroy(begin));
  OK(cudaEventDestroy(end));
  IS(cudaEventCreateWithFlags(&end, 64), cudaErrorInvalidValue);
  OK(cudaStreamDestroy(s));
  OK(cudaStreamDestroy(t));
  OK(cudaFree(d));
  cudaGetLastError();
}

/* Copies on two streams go on at the same time: each waits for the other's. */
static void test_overlap(void) {
  cudaStream_t s = new_stream(), t = new_stream();
  uint32_t *flags;
  void *write, *wait;
  OK(cudaGetDriverEntryPoint("cuStreamWriteValue32", &write, cudaEnableDefault, NULL));
  OK(cudaGetDriverEntryPoint("cuStreamWaitValue32", &wait, cudaEnableDefault, NULL));
  flags = device_bytes(2 * sizeof *flags, 0);
  PFN_cuStreamWriteValue32_v8000 write32;
  PFN_cuStreamWaitValue32_v8000 wait32;
  memcpy(&write32, &write, sizeof write);
  memcpy(&wait32, &wait, sizeof wait);
  CHECK(!wait32(s, (CUdeviceptr)(uintptr_t)&flags[0], 1, CU_STREAM_WAIT_VALUE_EQ));
  CHECK(!write32(s, (CUdeviceptr)(uintptr_t)&flags[1], 1, 0));
  CHECK(!write32(t, (CUdeviceptr)(uintptr_t)&flags[0], 1, 0));
  CHECK(!wait32(t, (CUdeviceptr)(uintptr_t)&flags[1], 1, CU_STREAM_WAIT_VALUE_EQ));
  OK(cudaStreamSynchronize(s));
  OK(cudaStreamSynchronize(t));
  OK(cudaStreamDestroy(s));
  OK(cudaStreamDestroy(t));
  OK(cudaFree(flags));
}

/* ---- driver functions -------------------------------------------------------------------------------------------- */

static void test_memory_ops(void) {
  const int offered = getenv("STANDIN_MEMORY_OPS") ? setting("STANDIN_MEMORY_OPS") : 64;
  PFN_cuStreamWriteValue32_v11070 write;
  PFN_cuStreamWaitValue64_v11070 wait;
  PFN_cuDeviceGetAttribute_v2000 attribute;
  cudaStream_t s = new_stream(), t = new_stream();
  uint32_t host = 0;
  uint64_t *flag = device_bytes(sizeof *flag, 0);
  int can = -1;
  void *function;
  OK(cudaGetDriverEntryPointByVersion("cuStreamWriteValue32", &function, 11070, cudaEnableDefault, NULL));
  memcpy(&write, &function, sizeof function);
  OK(cudaGetDriverEntryPointByVersion("cuStreamWaitValue64", &function, 11070, cudaEnableDefault, NULL));
  memcpy(&wait, &function, sizeof function);
  OK(cudaGetDriverEntryPointByVersion("cuDeviceGetAttribute", &function, 11070, cudaEnableDefault, NULL));
  memcpy(&attribute, &function, sizeof function);
  CHECK(!attribute(&can, CU_DEVICE_ATTRIBUTE_CAN_USE_64_BIT_STREAM_MEM_OPS, 0) && can == (offered == 64));
  CHECK(write(t, (CUdeviceptr)(uintptr_t)&host, 6, 0) ==
        (offered ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_NOT_SUPPORTED));
  const CUresult waits = wait(s, (CUdeviceptr)(uintptr_t)flag, 5, CU_STREAM_WAIT_VALUE_GEQ);
  CHECK(waits == (offered == 64 ? CUDA_SUCCESS : CUDA_ERROR_NOT_SUPPORTED));
  if (waits == CUDA_SUCCESS) IS(cudaStreamQuery(s), cudaErrorNotReady);
  if (setting("STANDIN_ONE_QUEUE"))
    __atomic_store_n(flag, 6, __ATOMIC_RELEASE); /* the write would be behind the wait for ever */
  if (offered) CHECK(write(t, (CUdeviceptr)(uintptr_t)flag, 6, CU_STREAM_WRITE_VALUE_DEFAULT) == CUDA_SUCCESS);
  OK(cudaStreamSynchronize(s));
  OK(cudaStreamSynchronize(t));
  CHECK(device_int((int *)flag) == (offered ? 6 : 0));
  OK(cudaStreamDestroy(s));
  OK(cudaStreamDestroy(t));
  OK(cudaFree(flag));
  cudaGetLastError();
}

static void test_entry_points(void) {
  enum cudaDriverEntryPointQueryResult found;
  void *function = &found;
  OK(cudaGetDriverEntryPoint("cuNoSuchFunction", &function, cudaEnableDefault, &found));
  CHECK(!function && found == cudaDriverEntryPointSymbolNotFound);
  OK(cudaGetDriverEntryPointByVersion("cuStreamWriteValue64", &function, 8000, cudaEnableDefault, &found));
  CHECK(!function && found == cudaDriverEntryPointVersionNotSufficent);
  OK(cudaGetDriverEntryPoint("cuMemCreate", &function, cudaEnableDefault, &found));
  CHECK(function && found == cudaDriverEntryPointSuccess);
  CUresult (*create)(void);
  memcpy(&create, &function, sizeof function);
  CHECK(create() == CUDA_ERROR_NOT_SUPPORTED);
  IS(cudaGetDriverEntryPoint(NULL, &function, cudaEnableDefault, &found), cudaErrorInvalidValue);
  cudaGetLastError();
}

static void test_pointer_attributes(void) {
  PFN_cuPointerGetAttribute_v4000 get;
  void *function, *p = device_bytes(64, 0), *out = NULL;
  unsigned type = 0;
  OK(cudaGetDriverEntryPoint("cuPointerGetAttribute", &function, cudaEnableDefault, NULL));
  memcpy(&get, &function, sizeof function);
  CHECK(!get(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, (CUdeviceptr)(uintptr_t)p) && type == CU_MEMORYTYPE_DEVICE);
  CHECK(!get(&out, CU_POINTER_ATTRIBUTE_RANGE_START_ADDR, (CUdeviceptr)(uintptr_t)p + 9) && out == p);
  CHECK(get(&out, CU_POINTER_ATTRIBUTE_HOST_POINTER, (CUdeviceptr)(uintptr_t)p) == CUDA_ERROR_INVALID_VALUE);
  OK(cudaFree(p));
}

/* ---- trouble ----------------------------------------------------------------------------------------------------- */

static void test_ordered_errors(void) {
  const unsigned long before = standin_calls("cudaMalloc");
  void *d;
  standin_fail("cudaMalloc", 2, cudaErrorMemoryAllocation);
  OK(cudaMalloc(&d, 1));
  OK(cudaFree(d));
  IS(cudaMalloc(&d, 1), cudaErrorMemoryAllocation);
  OK(cudaMalloc(&d, 1));
  CHECK(standin_calls("cudaMalloc") == before + 3);
  standin_fail("cudaFree", 1, cudaErrorUnknown);
  standin_fail(NULL, 0, cudaSuccess);
  OK(cudaFree(d));
  cudaGetLastError();
}

/* A lost device: what is queued is not done, nobody waits for ever, the other device is well. */
static void test_lost_device(void) {
  cudaStream_t s = new_stream();
  int gate, *p = device_bytes(sizeof *p, 1);
  cudaEvent_t e;
  OK(cudaEventCreate(&e));
  close_gate(s, &gate);
  OK(cudaMemsetAsync(p, 2, sizeof *p, s));
  OK(cudaEventRecord(e, s));
  standin_break(0, cudaErrorECCUncorrectable);
  open_gate(&gate);
  IS(cudaStreamSynchronize(s), cudaErrorECCUncorrectable);
  IS(cudaEventSynchronize(e), cudaErrorECCUncorrectable);
  IS(cudaGetLastError(), cudaErrorECCUncorrectable);
  IS(cudaGetLastError(), cudaErrorECCUncorrectable); /* stays */
  IS(cudaFree(p), cudaErrorECCUncorrectable);
  OK(cudaSetDevice(1));
  OK(cudaDeviceSynchronize());
  OK(cudaSetDevice(0));
  OK(cudaDeviceReset());
  CHECK(device_int(p) == 0x01010101);
  cudaGetLastError();
  OK(cudaEventDestroy(e));
  OK(cudaStreamDestroy(s));
  OK(cudaFree(p));
}

/* One process cannot pin more than that; the refusal stays the last error until somebody asks for it, however many
 * calls succeed in between. */
static void test_pinned_limit(void) {
  const size_t limit = (size_t)setting("STANDIN_PINNED_LIMIT") << 20;
  void *p, *q;
  if (!limit) return;
  OK(cudaHostAlloc(&p, limit / 2, 0));
  IS(cudaHostAlloc(&q, limit / 2 + 1, 0), cudaErrorMemoryAllocation);
  OK(cudaDeviceSynchronize());
  IS(cudaPeekAtLastError(), cudaErrorMemoryAllocation);
  IS(cudaGetLastError(), cudaErrorMemoryAllocation);
  OK(cudaGetLastError());
  OK(cudaFreeHost(p));
  OK(cudaHostAlloc(&p, limit, 0));
  OK(cudaFreeHost(p));
  q = mmap(NULL, limit + 1, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  IS(cudaHostRegister(q, limit + 1, 0), cudaErrorMemoryAllocation);
  munmap(q, limit + 1);
  cudaGetLastError();
}

int main(void) {
  test_devices();
  test_memory();
  test_late_free();
  test_2d();
  test_pools();
  test_allocated_host_memory();
  test_registered_file();
  test_registered_private_memory();
  test_streams();
  test_legacy_stream();
  test_stream_questions();
  test_host_functions();
  test_events();
  if (!setting("STANDIN_ONE_QUEUE")) test_overlap();
  test_memory_ops();
  test_entry_points();
  test_pointer_attributes();
  test_ordered_errors();
  test_lost_device();
  test_pinned_limit();
  check_empty();
  return 0;
}
