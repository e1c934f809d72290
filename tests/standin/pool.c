/*
 * pool.c - allocation in stream order: taken at once, given back when the stream gets there. Pools are names only.
 */
#include "internal.h"

struct CUmemPoolHandle_st {
  int device;
};

static struct CUmemPoolHandle_st default_pools[SI_MAX_DEVICES];

static cudaError_t allocate(void **p, size_t bytes, cudaStream_t handle) {
  struct CUstream_st *s;
  TRY(si_stream(handle, &s));
  NEED(!si_capturing(s), cudaErrorStreamCaptureUnsupported); /* CUDA would make an allocation node */
  return si_fail(si_allocate(p, bytes, SI_DEVICE, 0));
}

static cudaError_t run_free(void *arg) { return si_release_now(*(void **)arg); }

cudaError_t cudaMallocAsync(void **p, size_t bytes, cudaStream_t s) {
  ENTER(SAFE);
  return allocate(p, bytes, s);
}

cudaError_t cudaMallocFromPoolAsync(void **p, size_t bytes, cudaMemPool_t pool, cudaStream_t s) {
  ENTER(SAFE);
  NEED(pool, cudaErrorInvalidValue);
  return allocate(p, bytes, s);
}

cudaError_t cudaFreeAsync(void *p, cudaStream_t handle) {
  ENTER(SAFE);
  struct CUstream_st *s;
  struct si_range r;
  TRY(si_stream(handle, &s));
  NEED(!si_capturing(s), cudaErrorStreamCaptureUnsupported);
  if (!p) return cudaSuccess;
  NEED(si_find(p, &r) && r.kind == SI_DEVICE && r.base == p, cudaErrorInvalidValue);
  si_order_with_legacy(s);
  si_push_always(s, run_free, &p, sizeof p);
  return cudaSuccess;
}

cudaError_t cudaMemPoolCreate(cudaMemPool_t *pool, const struct cudaMemPoolProps *properties) {
  ENTER(SAFE);
  NEED(pool && properties, cudaErrorInvalidValue);
  NEED(si_valid_device(properties->location.id), cudaErrorInvalidValue);
  NEED(properties->handleTypes == cudaMemHandleTypeNone, cudaErrorInvalidValue); /* as on WSL2 */
  *pool = si_alloc(sizeof **pool);
  (*pool)->device = properties->location.id;
  return cudaSuccess;
}

cudaError_t cudaMemPoolDestroy(cudaMemPool_t pool) {
  ENTER(SAFE);
  NEED(pool && !(pool >= default_pools && pool < default_pools + SI_MAX_DEVICES), cudaErrorInvalidValue);
  free(pool);
  return cudaSuccess;
}

cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, enum cudaMemPoolAttr attribute, void *value) {
  ENTER(SAFE);
  (void)attribute;
  NEED(pool && value, cudaErrorInvalidValue);
  return cudaSuccess;
}

cudaError_t cudaMemPoolTrimTo(cudaMemPool_t pool, size_t bytes) {
  ENTER(SAFE);
  (void)bytes;
  NEED(pool, cudaErrorInvalidValue);
  return cudaSuccess;
}

static cudaError_t pool_of(cudaMemPool_t *pool, int device) {
  NEED(pool, cudaErrorInvalidValue);
  NEED(si_valid_device(device), cudaErrorInvalidDevice);
  *pool = &default_pools[device];
  return cudaSuccess;
}

cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t *pool, int device) {
  ENTER(SAFE);
  return pool_of(pool, device);
}

cudaError_t cudaDeviceGetMemPool(cudaMemPool_t *pool, int device) {
  ENTER(SAFE);
  return pool_of(pool, device);
}

cudaError_t cudaDeviceSetMemPool(int device, cudaMemPool_t pool) {
  ENTER(SAFE);
  NEED(si_valid_device(device), cudaErrorInvalidDevice);
  NEED(pool, cudaErrorInvalidValue);
  return cudaSuccess;
}
