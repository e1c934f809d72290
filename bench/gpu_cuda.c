/*
 * gpu_cuda.c - the hold on a GPU, with the CUDA runtime.
 */
#include "gpu.h"

#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct gpu {
  char *error;
  cudaStream_t stream, second; /* the latter for the link's other direction */
  struct twin {
    unsigned char *host, *device; /* where the guard before the buffer begins */
    size_t bytes;
  } twins[2];
  cudaGraphExec_t graph;
  cudaEvent_t *marks;
  size_t nmarks, made;
  void *pinned[2], *far[2]; /* for the link: of each direction */
  size_t link_bytes;
};

enum { LINK_LEAST = 1 << 20 };

static bool check(const struct gpu *gpu, cudaError_t error, const char *what) {
  if (error == cudaSuccess) return true;
  cudaGetLastError(); /* what is not sticky ends here */
  snprintf(gpu->error, GPU_ERROR_BYTES, "%s: %s (%s)", what, cudaGetErrorString(error), cudaGetErrorName(error));
  return false;
}

/* ---- what there is ----------------------------------------------------------------------------------------------- */

static cudaError_t describe(int device, struct gpu_card *card) {
  struct cudaDeviceProp p;
  cudaError_t error = cudaGetDeviceProperties(&p, device);
  if (error != cudaSuccess) return error;
  snprintf(card->name, sizeof card->name, "%.63s", p.name);
  snprintf(card->bus, sizeof card->bus, "%04x:%02x:%02x", (unsigned)p.pciDomainID & 0xffff, (unsigned)p.pciBusID & 0xff,
           (unsigned)p.pciDeviceID & 0xff);
  return cudaSuccess;
}

static void look(struct gpus *gpus) {
  cudaError_t error = cudaGetDeviceCount(&gpus->count);
  if (error == cudaSuccess && !gpus->count) error = cudaErrorNoDevice;
  if (gpus->count > GPUS_MOST) gpus->count = GPUS_MOST;
  for (int i = 0; i < gpus->count && error == cudaSuccess; i++) error = describe(i, &gpus->cards[i]);
  if (error == cudaSuccess) return;
  gpus->count = 0;
  snprintf(gpus->missing, sizeof gpus->missing, "no GPU can be used: %s (%s)", cudaGetErrorString(error),
           cudaGetErrorName(error));
}

void gpu_find(struct gpus *gpus) {
  struct gpus found = {0};
  int ends[2], status;
  *gpus = (struct gpus){.missing = "no GPU can be used: asking CUDA for them failed"};
  if (pipe(ends)) return;
  pid_t pid = fork();
  if (pid == 0) {
    look(&found);
    _exit(write(ends[1], &found, sizeof found) != sizeof found);
  }
  close(ends[1]);
  if (pid > 0 && read(ends[0], &found, sizeof found) == sizeof found) *gpus = found;
  if (pid > 0) waitpid(pid, &status, 0);
  close(ends[0]);
}

/* ---- opening and closing ----------------------------------------------------------------------------------------- */

static bool open_twin(struct gpu *gpu, struct twin *twin, const struct buffer *buffer) {
  twin->host = buffer->data - GUARD_BYTES;
  twin->bytes = buffer->capacity + 2 * GUARD_BYTES;
  return check(gpu, cudaMalloc((void **)&twin->device, twin->bytes), "cudaMalloc of a rank's buffers (lower -e)");
}

bool gpu_use(int rank, char *error) {
  const struct gpu gpu = {.error = error};
  int count;
  return check(&gpu, cudaGetDeviceCount(&count), "cudaGetDeviceCount") &&
         check(&gpu, cudaSetDevice(rank % (count < GPUS_MOST ? count : GPUS_MOST)), "cudaSetDevice");
}

bool gpu_used(struct gpu_card *card, char *error) {
  const struct gpu gpu = {.error = error};
  int device;
  return check(&gpu, cudaGetDevice(&device), "cudaGetDevice") &&
         check(&gpu, describe(device, card), "cudaGetDeviceProperties");
}

static bool open_all(struct gpu *gpu, const struct buffer buffers[2]) {
  return check(gpu, cudaStreamCreateWithFlags(&gpu->stream, cudaStreamNonBlocking), "cudaStreamCreate") &&
         check(gpu, cudaStreamCreateWithFlags(&gpu->second, cudaStreamNonBlocking), "cudaStreamCreate") &&
         open_twin(gpu, &gpu->twins[0], &buffers[0]) && open_twin(gpu, &gpu->twins[1], &buffers[1]);
}

struct gpu *gpu_open(const struct buffer buffers[2], char *error) {
  struct gpu *gpu = calloc(1, sizeof *gpu);
  if (!gpu) return snprintf(error, GPU_ERROR_BYTES, "out of memory"), NULL;
  gpu->error = error;
  if (open_all(gpu, buffers)) return gpu;
  gpu_close(gpu);
  return NULL;
}

void gpu_link_close(struct gpu *gpu) {
  if (!gpu) return;
  for (int i = 0; i < 2; i++) {
    if (gpu->pinned[i]) cudaFreeHost(gpu->pinned[i]);
    if (gpu->far[i]) cudaFree(gpu->far[i]);
    gpu->pinned[i] = gpu->far[i] = NULL;
  }
  gpu->link_bytes = 0;
}

static void free_graph(struct gpu *gpu) {
  if (gpu->graph) cudaGraphExecDestroy(gpu->graph);
  gpu->graph = NULL;
}

void gpu_close(struct gpu *gpu) {
  if (!gpu) return;
  free_graph(gpu);
  gpu_link_close(gpu);
  for (size_t i = 0; i < gpu->made; i++) cudaEventDestroy(gpu->marks[i]);
  for (int i = 0; i < 2; i++) cudaFree(gpu->twins[i].device);
  if (gpu->stream) cudaStreamDestroy(gpu->stream);
  if (gpu->second) cudaStreamDestroy(gpu->second);
  free(gpu->marks);
  free(gpu);
}

void *gpu_stream(const struct gpu *gpu) { return gpu->stream; }

/* ---- buffers ----------------------------------------------------------------------------------------------------- */

void *gpu_twin(const struct gpu *gpu, const void *host) {
  const unsigned char *place = host;
  if (!place) return NULL;
  const struct twin *t = &gpu->twins[0];
  if (place < t->host || place >= t->host + t->bytes) t++;
  return t->device + (place - t->host);
}

static bool move(struct gpu *gpu, size_t bytes, enum cudaMemcpyKind kind) {
  for (int i = 0; i < 2; i++) {
    const struct twin *t = &gpu->twins[i];
    const bool there = kind == cudaMemcpyHostToDevice;
    void *to = there ? t->device : t->host, *from = there ? t->host : t->device;
    if (!check(gpu, cudaMemcpyAsync(to, from, bytes + 2 * GUARD_BYTES, kind, gpu->stream), "cudaMemcpyAsync"))
      return false;
  }
  return gpu_wait(gpu);
}

bool gpu_push(struct gpu *gpu, size_t bytes) { return move(gpu, bytes, cudaMemcpyHostToDevice); }
bool gpu_pull(struct gpu *gpu, size_t bytes) { return move(gpu, bytes, cudaMemcpyDeviceToHost); }

/* ---- work on the stream ------------------------------------------------------------------------------------------ */

bool gpu_wait(struct gpu *gpu) { return check(gpu, cudaStreamSynchronize(gpu->stream), "waiting for the GPU"); }

bool gpu_capture_begin(struct gpu *gpu) {
  free_graph(gpu);
  return check(gpu, cudaStreamBeginCapture(gpu->stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
}

bool gpu_capture_end(struct gpu *gpu) {
  cudaGraph_t graph;
  if (!check(gpu, cudaStreamEndCapture(gpu->stream, &graph), "cudaStreamEndCapture")) return false;
  bool made = check(gpu, cudaGraphInstantiate(&gpu->graph, graph, 0), "cudaGraphInstantiate");
  cudaGraphDestroy(graph);
  return made;
}

bool gpu_replay(struct gpu *gpu, uint64_t times) {
  for (uint64_t i = 0; i < times; i++)
    if (!check(gpu, cudaGraphLaunch(gpu->graph, gpu->stream), "cudaGraphLaunch")) return false;
  return true;
}

static bool make_mark(struct gpu *gpu) {
  cudaEvent_t *marks = realloc(gpu->marks, (gpu->made + 1) * sizeof *marks);
  if (!marks) return snprintf(gpu->error, GPU_ERROR_BYTES, "out of memory"), false;
  gpu->marks = marks;
  if (!check(gpu, cudaEventCreate(&marks[gpu->made]), "cudaEventCreate")) return false;
  gpu->made++;
  return true;
}

bool gpu_mark(struct gpu *gpu) {
  if (gpu->nmarks == gpu->made && !make_mark(gpu)) return false;
  return check(gpu, cudaEventRecord(gpu->marks[gpu->nmarks++], gpu->stream), "cudaEventRecord");
}

static bool seconds_between(struct gpu *gpu, size_t first, size_t last, double *seconds) {
  float ms = 0;
  bool known = check(gpu, cudaEventElapsedTime(&ms, gpu->marks[first], gpu->marks[last]), "cudaEventElapsedTime");
  *seconds = (double)ms * 1e-3;
  return known;
}

bool gpu_read_marks(struct gpu *gpu, double *seconds, float *spans) {
  const size_t last = gpu->nmarks - 1;
  double span;
  gpu->nmarks = 0;
  if (!gpu_wait(gpu) || !seconds_between(gpu, 0, last, seconds)) return false;
  for (size_t i = 0; spans && i < last; i++) {
    if (!seconds_between(gpu, i, i + 1, &span)) return false;
    spans[i] = (float)span;
  }
  return true;
}

/* ---- the link ---------------------------------------------------------------------------------------------------- */

static bool allocate_link(struct gpu *gpu, size_t bytes) {
  gpu_link_close(gpu);
  for (int i = 0; i < 2; i++)
    if (!check(gpu, cudaHostAlloc(&gpu->pinned[i], bytes, cudaHostAllocDefault), "cudaHostAlloc") ||
        !check(gpu, cudaMalloc(&gpu->far[i], bytes), "cudaMalloc"))
      return false;
  gpu->link_bytes = bytes;
  return true;
}

size_t gpu_link_open(struct gpu *gpu, size_t bytes) {
  while (!gpu->link_bytes && bytes >= LINK_LEAST && !allocate_link(gpu, bytes)) bytes /= 2;
  return gpu->link_bytes;
}

static bool copy_once(struct gpu *gpu, enum gpu_direction direction, size_t bytes) {
  if (direction != GPU_IN &&
      !check(gpu, cudaMemcpyAsync(gpu->pinned[GPU_OUT], gpu->far[GPU_OUT], bytes, cudaMemcpyDeviceToHost, gpu->stream),
             "cudaMemcpyAsync"))
    return false;
  return direction == GPU_OUT ||
         check(gpu, cudaMemcpyAsync(gpu->far[GPU_IN], gpu->pinned[GPU_IN], bytes, cudaMemcpyHostToDevice, gpu->second),
               "cudaMemcpyAsync");
}

/* What is enqueued on one stream from now on follows what the other has so far. */
static bool follow(struct gpu *gpu, cudaStream_t late, cudaStream_t early) {
  cudaEvent_t event;
  if (!check(gpu, cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreate")) return false;
  bool done = check(gpu, cudaEventRecord(event, early), "cudaEventRecord") &&
              check(gpu, cudaStreamWaitEvent(late, event, 0), "cudaStreamWaitEvent");
  cudaEventDestroy(event);
  return done;
}

bool gpu_time_link(struct gpu *gpu, enum gpu_direction direction, size_t bytes, uint64_t iters, double *seconds) {
  bool good = gpu_mark(gpu) && follow(gpu, gpu->second, gpu->stream);
  for (uint64_t i = 0; i < iters && good; i++) good = copy_once(gpu, direction, bytes);
  good = good && follow(gpu, gpu->stream, gpu->second) && gpu_mark(gpu) && gpu_read_marks(gpu, seconds, NULL);
  *seconds /= (double)iters;
  return good;
}
