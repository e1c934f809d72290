/* cuda_pinned.c - registers host memory, and counts how much. */
#include "mem/cuda_pinned.h"

#include <pthread.h>

#include "mem/cuda_calls.h"

/* Registered by this process, over all communicators. */
static pthread_mutex_t budget_lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t budget_used;

static bool take_budget(uint64_t bytes, uint64_t most) {
  pthread_mutex_lock(&budget_lock);
  const bool fits = bytes <= most && budget_used <= most - bytes;
  if (fits) budget_used += bytes;
  pthread_mutex_unlock(&budget_lock);
  return fits;
}

static void return_budget(uint64_t bytes) {
  pthread_mutex_lock(&budget_lock);
  budget_used -= bytes;
  pthread_mutex_unlock(&budget_lock);
}

static cudaError_t register_here(struct shmi_pinned *p) {
  cudaError_t error = cudaHostRegister(p->host, p->bytes, cudaHostRegisterMapped | cudaHostRegisterPortable);
  if (error != cudaSuccess) return error;
  error = cudaHostGetDevicePointer(&p->device, p->host, 0);
  if (error != cudaSuccess) cudaHostUnregister(p->host);
  return error;
}

const char *shmi_cuda_register(int device, struct shmi_pinned *p, void *host, size_t bytes, uint64_t most) {
  struct shmi_pinned made = {.host = host, .bytes = bytes, .registered = true};
  struct scope scope = {.device = device};
  if (!take_budget(bytes, most)) return "the limit on pinned memory is reached (SHMCCL_PINNED_BYTES)";
  cudaError_t error = enter(&scope, device);
  if (error == cudaSuccess) error = register_here(&made);
  leave(&scope, device);
  if (error == cudaSuccess) return *p = made, NULL;
  cudaGetLastError();
  return_budget(bytes);
  return cudaGetErrorString(error);
}

void shmi_cuda_unregister(int device, struct shmi_pinned *p) {
  struct scope scope = {.device = device};
  enter(&scope, device);
  cudaHostUnregister(p->host);
  leave(&scope, device);
  cudaGetLastError();
  return_budget(p->bytes);
  *p = (struct shmi_pinned){0};
}
