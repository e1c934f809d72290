/*
 * cuda.c - the hold on a GPU, with the CUDA runtime.
 *
 * Addresses for kernels come from cudaHostGetDevicePointer, never from the host: on WSL2 they differ. Calls that CUDA
 * does not allow while some stream is captured are made in relaxed mode: they have nothing to do with that capture.
 */
#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "coll/kernels.h"
#include "mem/cuda_calls.h"
#include "mem/cuda_pinned.h"

struct shmi_gpu {
  int device;
  cudaStream_t stream; /* of its own; does not wait for the default stream, nor that one for it */
  /* What was launched last, eagerly and in a capture: what is launched on another stream has to wait for it. */
  struct last {
    cudaEvent_t event;
    cudaStream_t stream;
    unsigned long long capture; /* 0: none yet; eager: 1 */
  } eager, captured;
  bool unmarked; /* something was launched that no event stands for */
  struct {       /* enum shmi_queue, but for COMPUTE; NULL: not opened */
    cudaStream_t up, down;
    cudaEvent_t joint;
  } engines;
};

/* ---- the device -------------------------------------------------------------------------------------------------- */

int shmi_gpu_count(void) {
  int count;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  cudaGetLastError();
  return 0;
}

int shmi_gpu_choose(int device) {
  int before;
  if (cudaGetDevice(&before) != cudaSuccess) before = -1;
  if (device >= 0 && device != before) cudaSetDevice(device);
  cudaGetLastError();
  return before;
}

void shmi_gpu_bus_id(int device, char text[SHMI_BUS_ID_BYTES]) {
  if (cudaDeviceGetPCIBusId(text, SHMI_BUS_ID_BYTES, device) == cudaSuccess) return;
  cudaGetLastError();
  *text = 0;
}

/* By the driver, if this process has loaded it: the runtime would load and start it. */
bool shmi_gpu_in_use(void) {
  typedef int (*state_of)(int device, unsigned *flags, int *active);
  void *driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD);
  int device, active = 0;
  unsigned flags;
  if (!driver) return false;
  union {
    void *symbol;
    state_of call;
  } state = {dlsym(driver, "cuDevicePrimaryCtxGetState")};
  if (state.symbol && cudaGetDevice(&device) == cudaSuccess && state.call(device, &flags, &active)) active = 0;
  dlclose(driver);
  return active;
}

static cudaError_t load_kernels_of(shmccl_datatype_t type, shmccl_redop_t op) {
  struct cudaFuncAttributes attributes;
  cudaError_t error = cudaFuncGetAttributes(&attributes, shmi_kernel_of(type, op));
  return error == cudaSuccess ? cudaFuncGetAttributes(&attributes, shmi_kernel_of_sums(type, op)) : error;
}

static cudaError_t load_kernels(void) {
  struct cudaFuncAttributes attributes;
  cudaError_t error = cudaFuncGetAttributes(&attributes, shmi_kernel_of_groups());
  if (error == cudaSuccess) error = cudaFuncGetAttributes(&attributes, shmi_kernel_of_meetings());
  for (int i = 0; i < SHMCCL_DATATYPE_COUNT * SHMCCL_REDOP_COUNT && error == cudaSuccess; i++)
    error = load_kernels_of((shmccl_datatype_t)(i / SHMCCL_REDOP_COUNT), (shmccl_redop_t)(i % SHMCCL_REDOP_COUNT));
  return error;
}

static shmccl_result_t prepare(struct shmi_gpu *g) {
  int maps = 0;
  cudaError_t error = cudaDeviceGetAttribute(&maps, cudaDevAttrCanMapHostMemory, g->device);
  if (error != cudaSuccess) return report(error, "cudaDeviceGetAttribute");
  if (!maps)
    return shmi_error(SHMCCL_ERROR_CUDA, "device %d cannot reach host memory: use host memory (SHMCCL_MEMORY=host)",
                      g->device);
  if ((error = cudaFree(NULL)) != cudaSuccess) return report(error, "starting the GPU");
  if ((error = load_kernels()) != cudaSuccess) return report(error, "loading the kernels");
  error = cudaEventCreateWithFlags(&g->eager.event, cudaEventDisableTiming);
  if (error == cudaSuccess) error = cudaEventCreateWithFlags(&g->captured.event, cudaEventDisableTiming);
  if (error == cudaSuccess) error = cudaStreamCreateWithFlags(&g->stream, cudaStreamNonBlocking);
  return error == cudaSuccess ? SHMCCL_SUCCESS : report(error, "making events and a stream");
}

shmccl_result_t shmi_gpu_open(struct shmi_gpu **out, int device) {
  cudaError_t error = cudaSuccess;
  struct scope scope = {.device = device};
  if (device == SHMI_GPU_CURRENT) error = cudaGetDevice(&device);
  if (error != cudaSuccess) return report(error, "cudaGetDevice");
  struct shmi_gpu *g = calloc(1, sizeof *g);
  if (!g) return shmi_error(SHMCCL_ERROR_NO_MEMORY, "no memory for a communicator: %m");
  g->device = device;
  error = enter(&scope, device);
  shmccl_result_t result = error == cudaSuccess ? prepare(g) : report(error, "choosing the GPU");
  leave(&scope, device);
  if (result != SHMCCL_SUCCESS) return shmi_gpu_close(g), result;
  *out = g;
  return SHMCCL_SUCCESS;
}

void shmi_gpu_close(struct shmi_gpu *g) {
  if (!g) return;
  if (g->eager.event) cudaEventDestroy(g->eager.event);
  if (g->captured.event) cudaEventDestroy(g->captured.event);
  if (g->stream) cudaStreamDestroy(g->stream);
  if (g->engines.up) cudaStreamDestroy(g->engines.up);
  if (g->engines.down) cudaStreamDestroy(g->engines.down);
  if (g->engines.joint) cudaEventDestroy(g->engines.joint);
  cudaGetLastError();
  free(g);
}

int shmi_gpu_device(const struct shmi_gpu *g) { return g->device; }

/* ---- memory ------------------------------------------------------------------------------------------------------ */

const char *shmi_gpu_register(const struct shmi_gpu *g, struct shmi_pinned *p, void *host, size_t bytes,
                              uint64_t most) {
  return shmi_cuda_register(g->device, p, host, bytes, most);
}

static cudaError_t pin_here(struct shmi_pinned *p) {
  cudaError_t error = cudaHostAlloc(&p->host, p->bytes, cudaHostAllocMapped | cudaHostAllocPortable);
  if (error != cudaSuccess) return error;
  error = cudaHostGetDevicePointer(&p->device, p->host, 0);
  if (error != cudaSuccess) cudaFreeHost(p->host);
  return error;
}

shmccl_result_t shmi_gpu_pin(const struct shmi_gpu *g, struct shmi_pinned *p, size_t bytes) {
  struct shmi_pinned made = {.bytes = bytes};
  struct scope scope = {.device = g->device};
  cudaError_t error = enter(&scope, g->device);
  if (error == cudaSuccess) error = pin_here(&made);
  leave(&scope, g->device);
  if (error != cudaSuccess) return report(error, "cudaHostAlloc");
  for (size_t i = 0; i < bytes; i++) ((uint8_t *)made.host)[i] = 0;
  *p = made;
  return SHMCCL_SUCCESS;
}

void shmi_gpu_unpin(const struct shmi_gpu *g, struct shmi_pinned *p) {
  struct scope scope = {.device = g->device};
  if (!p->host) return;
  if (p->registered) {
    shmi_cuda_unregister(g->device, p);
    return;
  }
  enter(&scope, g->device);
  cudaFreeHost(p->host);
  leave(&scope, g->device);
  cudaGetLastError();
  *p = (struct shmi_pinned){0};
}

/* Neither may the default stream be used nor the device waited for while any stream is captured. */
static cudaError_t clear(const struct shmi_gpu *g, void *p, size_t bytes) {
  cudaError_t error = cudaMemsetAsync(p, 0, bytes, g->stream);
  return error == cudaSuccess ? cudaStreamSynchronize(g->stream) : error; /* other streams use it next */
}

static cudaError_t allocate_here(const struct shmi_gpu *g, void **p, size_t bytes) {
  cudaError_t error = cudaMalloc(p, bytes);
  if (error != cudaSuccess) return error;
  error = clear(g, *p, bytes);
  if (error != cudaSuccess) cudaFree(*p);
  return error;
}

shmccl_result_t shmi_gpu_allocate(const struct shmi_gpu *g, void **p, size_t bytes) {
  struct scope scope = {.device = g->device};
  void *made;
  cudaError_t error = enter(&scope, g->device);
  if (error == cudaSuccess) error = allocate_here(g, &made, bytes);
  leave(&scope, g->device);
  if (error != cudaSuccess) return report(error, "cudaMalloc");
  *p = made;
  return SHMCCL_SUCCESS;
}

void shmi_gpu_free(const struct shmi_gpu *g, void *p) {
  struct scope scope = {.device = g->device};
  if (!p) return;
  enter(&scope, g->device);
  cudaFree(p);
  leave(&scope, g->device);
  cudaGetLastError();
}

shmccl_result_t shmi_gpu_kind_of(const struct shmi_gpu *g, const void *p, enum shmi_memory_kind *kind) {
  struct cudaPointerAttributes a;
  cudaError_t error = cudaPointerGetAttributes(&a, p);
  if (error != cudaSuccess) return report(error, "cudaPointerGetAttributes");
  if (a.type == cudaMemoryTypeDevice)
    *kind = a.device == g->device ? SHMI_MEMORY_DEVICE : SHMI_MEMORY_OTHER;
  else
    *kind = a.type == cudaMemoryTypeManaged ? SHMI_MEMORY_DEVICE : SHMI_MEMORY_HOST;
  return SHMCCL_SUCCESS;
}

/* ---- work -------------------------------------------------------------------------------------------------------- */

/* The capture that the stream is in; 0: none. */
static cudaError_t capture_of(cudaStream_t stream, unsigned long long *capture) {
  enum cudaStreamCaptureStatus status;
  unsigned long long id = 0;
  cudaError_t error = cudaStreamGetCaptureInfo(stream, &status, &id, NULL, NULL, NULL, NULL);
  *capture = 0;
  if (error != cudaSuccess || status == cudaStreamCaptureStatusNone) return error;
  if (status == cudaStreamCaptureStatusInvalidated) return cudaErrorStreamCaptureInvalidated;
  *capture = id;
  return cudaSuccess;
}

static cudaError_t follow(const struct last *last, unsigned long long capture, cudaStream_t stream) {
  if (last->capture != capture || last->stream == stream) return cudaSuccess;
  return cudaStreamWaitEvent(stream, last->event, 0);
}

static cudaError_t mark(struct last *last, unsigned long long capture, cudaStream_t stream) {
  last->capture = capture;
  last->stream = stream;
  return cudaEventRecord(last->event, stream);
}

static cudaError_t launch_kernel(struct shmi_launch *l, cudaStream_t stream) {
  const struct shmi_call_id *id = &l->call.id;
  void *arguments[] = {l};
  const dim3 grid = {l->call.channels, 1, 1}, block = {SHMI_KERNEL_THREADS, 1, 1};
  return cudaLaunchKernel(shmi_kernel_of((shmccl_datatype_t)id->datatype, (shmccl_redop_t)id->op), grid, block,
                          arguments, 0, stream);
}

static cudaError_t launch_group(struct shmi_group *g, cudaStream_t stream) {
  void *arguments[] = {g};
  const dim3 grid = {g->nlanes, 1, 1}, block = {SHMI_KERNEL_THREADS, 1, 1};
  return cudaLaunchKernel(shmi_kernel_of_groups(), grid, block, arguments, 0, stream);
}

/* ---- copy engines ------------------------------------------------------------------------------------------------ */

static cudaError_t open_engines(struct shmi_gpu *g) {
  cudaError_t error = cudaEventCreateWithFlags(&g->engines.joint, cudaEventDisableTiming);
  if (error == cudaSuccess) error = cudaStreamCreateWithFlags(&g->engines.up, cudaStreamNonBlocking);
  return error == cudaSuccess ? cudaStreamCreateWithFlags(&g->engines.down, cudaStreamNonBlocking) : error;
}

shmccl_result_t shmi_gpu_open_engines(struct shmi_gpu *g) {
  struct scope scope = {.device = g->device};
  cudaError_t error = enter(&scope, g->device);
  if (error == cudaSuccess) error = open_engines(g);
  leave(&scope, g->device);
  return error == cudaSuccess ? SHMCCL_SUCCESS : report(error, "making streams for copies");
}

static cudaError_t launch_sum(const struct shmi_carry *carry, const struct shmi_task *t, cudaStream_t stream) {
  enum { BYTES_PER_BLOCK = 16 << 10, BLOCKS_MOST = 64 };
  const struct shmi_call *c = &carry->meeting.launch.call;
  const struct shmi_world *slots = &carry->engines.slots;
  struct shmi_sum sum = {.launch = carry->meeting.launch, .to = t->to, .own = t->from, .count = t->bytes / c->element};
  void *arguments[] = {&sum};
  const size_t blocks = (t->bytes + BYTES_PER_BLOCK - 1) / BYTES_PER_BLOCK;
  const dim3 grid = {blocks < BLOCKS_MOST ? (unsigned)blocks : BLOCKS_MOST, 1, 1}, block = {SHMI_SUM_THREADS, 1, 1};
  sum.launch.world = (struct shmi_world){.rank = slots->rank,
                                         .nranks = slots->nranks,
                                         .staging = carry->engines.scratch,
                                         .staging_stride = c->lane_stride};
  return cudaLaunchKernel(shmi_kernel_of_sums((shmccl_datatype_t)c->id.datatype, (shmccl_redop_t)c->id.op), grid, block,
                          arguments, 0, stream);
}

static cudaError_t launch_meeting(const struct shmi_carry *carry, const struct shmi_task *t, cudaStream_t stream) {
  struct shmi_meeting meeting = carry->meeting;
  void *arguments[] = {&meeting};
  const dim3 grid = {1, 1, 1}, block = {SHMI_MEETING_THREADS, 1, 1};
  meeting.step = t->step;
  return cudaLaunchKernel(shmi_kernel_of_meetings(), grid, block, arguments, 0, stream);
}

/* The event is recorded and waited for at once, so that one will do. */
static cudaError_t join(const struct shmi_gpu *g, cudaStream_t stream, cudaStream_t other) {
  cudaError_t error = cudaEventRecord(g->engines.joint, other);
  return error == cudaSuccess ? cudaStreamWaitEvent(stream, g->engines.joint, 0) : error;
}

static cudaError_t enqueue_task(const struct shmi_gpu *g, const struct shmi_carry *carry, const struct shmi_task *t,
                                cudaStream_t stream) {
  static const enum cudaMemcpyKind kinds[] = {cudaMemcpyDeviceToDevice, cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost};
  const cudaStream_t streams[] = {stream, g->engines.up, g->engines.down};
  switch (t->kind) {
  case SHMI_TASK_COPY: return cudaMemcpyAsync(t->to, t->from, t->bytes, kinds[t->queue], streams[t->queue]);
  case SHMI_TASK_JOIN: return join(g, streams[t->queue], streams[t->other]);
  case SHMI_TASK_SUM: return launch_sum(carry, t, stream);
  default: return launch_meeting(carry, t, stream);
  }
}

/* What is enqueued in part would never be joined: only the device as a whole can be waited for then. */
static cudaError_t enqueue_turns(struct shmi_gpu *g, const struct shmi_carry *carry, cudaStream_t stream) {
  const struct shmi_call *c = &carry->meeting.launch.call;
  struct shmi_turn turn;
  bool begun = false;
  for (uint32_t number = 0; number <= c->nsteps; number++) {
    shmi_turn_make(&turn, &carry->engines, c, carry->meeting.step, number);
    for (int i = 0; i < turn.ntasks; i++) {
      const cudaError_t error = enqueue_task(g, carry, &turn.tasks[i], stream);
      if (error != cudaSuccess) return g->unmarked |= begun, error;
      begun = true;
    }
  }
  return cudaSuccess;
}

/* ---- launches ---------------------------------------------------------------------------------------------------- */

/* Work on a stream, between what it has to follow and the mark for what follows it. */
struct work {
  struct shmi_launch *launch;     /* or: */
  const struct shmi_carry *carry; /* or a copy */
  struct shmi_group *group;       /* that the launch is of, or NULL */
  void *to;
  const void *from;
  size_t bytes;
};

static cudaError_t enqueue(struct shmi_gpu *g, const struct work *w, cudaStream_t stream) {
  if (w->carry) return enqueue_turns(g, w->carry, stream);
  if (w->group) return launch_group(w->group, stream);
  if (w->launch) return launch_kernel(w->launch, stream);
  return cudaMemcpyAsync(w->to, w->from, w->bytes, cudaMemcpyDeviceToDevice, stream);
}

static cudaError_t submit(struct shmi_gpu *g, const struct work *w, cudaStream_t stream) {
  unsigned long long capture;
  cudaError_t error = capture_of(stream, &capture);
  if (error != cudaSuccess) return error;
  struct last *last = capture ? &g->captured : &g->eager;
  const unsigned long long order = capture ? capture : 1;
  if (w->launch && capture) w->launch->trap = 1;
  error = follow(last, order, stream);
  if (error == cudaSuccess) error = enqueue(g, w, stream);
  if (error != cudaSuccess) return error;
  error = mark(last, order, stream);
  g->unmarked |= error != cudaSuccess;
  return error;
}

static shmccl_result_t submit_here(struct shmi_gpu *g, const struct work *w, void *stream, const char *what) {
  int current = g->device;
  cudaError_t error = cudaGetDevice(&current);
  if (error == cudaSuccess && current != g->device) error = cudaSetDevice(g->device);
  if (error == cudaSuccess) error = submit(g, w, stream);
  if (current != g->device) cudaSetDevice(current);
  return error == cudaSuccess ? SHMCCL_SUCCESS : report(error, what);
}

shmccl_result_t shmi_gpu_launch(struct shmi_gpu *g, struct shmi_launch *launch, void *stream) {
  return submit_here(g, &(struct work){.launch = launch}, stream, "launching a collective");
}

shmccl_result_t shmi_gpu_launch_group(struct shmi_gpu *g, struct shmi_group *group, void *stream) {
  return submit_here(g, &(struct work){.launch = &group->launch, .group = group}, stream, "launching send and recv");
}

shmccl_result_t shmi_gpu_carry(struct shmi_gpu *g, const struct shmi_carry *carry, void *stream) {
  return submit_here(g, &(struct work){.carry = carry}, stream, "launching a collective");
}

shmccl_result_t shmi_gpu_is_captured(const struct shmi_gpu *g, void *stream, bool *captured) {
  struct scope scope = {.device = g->device};
  unsigned long long capture = 0;
  cudaError_t error = enter(&scope, g->device);
  if (error == cudaSuccess) error = capture_of(stream, &capture);
  leave(&scope, g->device);
  if (error != cudaSuccess) return report(error, "launching a collective");
  *captured = capture != 0;
  return SHMCCL_SUCCESS;
}

shmccl_result_t shmi_gpu_copy(struct shmi_gpu *g, void *to, const void *from, size_t bytes, void *stream) {
  return submit_here(g, &(struct work){.to = to, .from = from, .bytes = bytes}, stream, "copying on the device");
}

void *shmi_gpu_own_stream(const struct shmi_gpu *g) { return g->stream; }

shmccl_result_t shmi_gpu_finish(struct shmi_gpu *g) {
  struct scope scope = {.device = g->device};
  cudaError_t error = enter(&scope, g->device);
  if (error == cudaSuccess) error = cudaEventSynchronize(g->eager.event);
  leave(&scope, g->device);
  return error == cudaSuccess ? SHMCCL_SUCCESS : report(error, "waiting for send and recv");
}

bool shmi_gpu_is_idle(const struct shmi_gpu *g) {
  if (g->captured.capture || g->unmarked) return false;
  const cudaError_t error = g->eager.capture ? cudaEventQuery(g->eager.event) : cudaSuccess;
  cudaGetLastError();
  return error == cudaSuccess;
}

/* An error that does not end with the call that met it comes back in every later one. */
bool shmi_gpu_is_lost(const struct shmi_gpu *g) {
  cudaError_t error = cudaEventQuery(g->eager.event);
  cudaGetLastError();
  return g->unmarked || (error != cudaSuccess && error != cudaErrorNotReady);
}

/* What was launched eagerly is over with its last event. Replays are known to nobody but the device, which cannot be
 * waited for while a stream is captured. */
static cudaError_t wait_here(const struct shmi_gpu *g) {
  cudaError_t error = g->eager.capture ? cudaEventSynchronize(g->eager.event) : cudaSuccess;
  return error == cudaSuccess && !g->captured.capture && !g->unmarked ? cudaSuccess : cudaDeviceSynchronize();
}

static bool is_capture_in_the_way(cudaError_t error) {
  return error == cudaErrorStreamCaptureUnsupported || error == cudaErrorStreamCaptureImplicit;
}

const char *shmi_gpu_wait(const struct shmi_gpu *g, bool patiently) {
  const struct timespec moment = {.tv_nsec = 5000000};
  struct scope scope = {.device = g->device};
  cudaError_t error = enter(&scope, g->device);
  if (error == cudaSuccess) error = wait_here(g);
  while (patiently && is_capture_in_the_way(error)) {
    nanosleep(&moment, NULL);
    error = wait_here(g);
  }
  leave(&scope, g->device);
  if (error == cudaSuccess) return NULL;
  cudaGetLastError();
  return cudaGetErrorString(error);
}
