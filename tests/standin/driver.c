/*
 * driver.c - functions of the CUDA driver API, for programs that get them with cudaGetDriverEntryPoint: those that NCCL
 * asks for. There is no libcuda.so.1 behind them; a context is a device, a CUfunction is a kernel.
 */
#include <cudaTypedefs.h>

#include "internal.h"

static struct CUctx_st { char unused; } contexts[SI_MAX_DEVICES];

/* ---- devices and contexts ---------------------------------------------------------------------------------------- */

static CUresult standin_cuInit(unsigned flags) {
  ENTER_DRIVER(ANY);
  (void)flags;
  return si_options()->devices ? CUDA_SUCCESS : CUDA_ERROR_NO_DEVICE;
}

static CUresult standin_cuDriverGetVersion(int *version) {
  ENTER_DRIVER(ANY);
  *version = CUDA_VERSION;
  return CUDA_SUCCESS;
}

static CUresult standin_cuDeviceGetCount(int *count) {
  ENTER_DRIVER(ANY);
  *count = si_options()->devices;
  return CUDA_SUCCESS;
}

static CUresult standin_cuDeviceGet(CUdevice *device, int ordinal) {
  ENTER_DRIVER(ANY);
  if (!si_valid_device(ordinal)) return CUDA_ERROR_INVALID_DEVICE;
  *device = ordinal;
  return CUDA_SUCCESS;
}

static CUresult standin_cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device) {
  ENTER_DRIVER(ANY);
  if (!si_valid_device(device)) return CUDA_ERROR_INVALID_DEVICE;
  *value = si_attribute((int)attribute, device);
  return CUDA_SUCCESS;
}

static CUresult standin_cuDeviceGetUuid(CUuuid *uuid, CUdevice device) {
  ENTER_DRIVER(ANY);
  struct cudaDeviceProp p;
  if (cudaGetDeviceProperties(&p, device) != cudaSuccess) return CUDA_ERROR_INVALID_DEVICE;
  memcpy(uuid, &p.uuid, sizeof *uuid);
  return CUDA_SUCCESS;
}

static CUresult standin_cuCtxGetCurrent(CUcontext *context) {
  ENTER_DRIVER(ANY);
  *context = &contexts[si_device];
  return CUDA_SUCCESS;
}

static CUresult standin_cuCtxSetCurrent(CUcontext context) {
  ENTER_DRIVER(ANY);
  if (context) si_device = (int)(context - contexts);
  return CUDA_SUCCESS;
}

static CUresult standin_cuCtxGetDevice(CUdevice *device) {
  ENTER_DRIVER(ANY);
  *device = si_device;
  return CUDA_SUCCESS;
}

static CUresult standin_cuCtxCreate(CUcontext *context, CUexecAffinityParam *affinity, int naffinity, unsigned flags,
                                    CUdevice device) {
  ENTER_DRIVER(ANY);
  (void)affinity, (void)naffinity, (void)flags;
  if (!si_valid_device(device)) return CUDA_ERROR_INVALID_DEVICE;
  *context = &contexts[device];
  si_device = device;
  return CUDA_SUCCESS;
}

static CUresult standin_cuCtxDestroy(CUcontext context) {
  ENTER_DRIVER(ANY);
  (void)context;
  return CUDA_SUCCESS;
}

static CUresult standin_cuGetErrorString(CUresult error, const char **text) {
  ENTER_DRIVER(ANY);
  *text = cudaGetErrorString((cudaError_t)error);
  return CUDA_SUCCESS;
}

static CUresult standin_cuGetErrorName(CUresult error, const char **name) {
  ENTER_DRIVER(ANY);
  *name = cudaGetErrorName((cudaError_t)error);
  return CUDA_SUCCESS;
}

/* ---- memory ------------------------------------------------------------------------------------------------------ */

static CUresult standin_cuMemGetAddressRange(CUdeviceptr *base, size_t *bytes, CUdeviceptr p) {
  ENTER_DRIVER(SAFE);
  struct si_range r;
  if (!si_find((void *)(uintptr_t)p, &r)) return CUDA_ERROR_NOT_FOUND;
  if (base) *base = (CUdeviceptr)(uintptr_t)r.alias;
  if (bytes) *bytes = r.bytes;
  return CUDA_SUCCESS;
}

static CUresult standin_cuPointerGetAttribute(void *out, CUpointer_attribute attribute, CUdeviceptr p) {
  ENTER_DRIVER(SAFE);
  struct si_range r;
  char *address = (char *)(uintptr_t)p;
  if (!si_find(address, &r)) return CUDA_ERROR_INVALID_VALUE;
  const bool by_host = address >= r.base && address < r.base + r.bytes;
  const size_t offset = (size_t)(address - (by_host ? r.base : r.alias));
  const bool of_host = r.kind == SI_PINNED || r.kind == SI_MANAGED;
  switch (attribute) {
  case CU_POINTER_ATTRIBUTE_CONTEXT: *(CUcontext *)out = &contexts[r.device]; return CUDA_SUCCESS;
  case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
    *(unsigned *)out = r.kind == SI_PINNED ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE;
    return CUDA_SUCCESS;
  case CU_POINTER_ATTRIBUTE_DEVICE_POINTER: *(void **)out = r.alias + offset; return CUDA_SUCCESS;
  case CU_POINTER_ATTRIBUTE_HOST_POINTER:
    if (!of_host) return CUDA_ERROR_INVALID_VALUE;
    *(void **)out = r.base + offset;
    return CUDA_SUCCESS;
  case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL: *(int *)out = r.device; return CUDA_SUCCESS;
  case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR: *(void **)out = r.alias; return CUDA_SUCCESS;
  case CU_POINTER_ATTRIBUTE_RANGE_SIZE: *(size_t *)out = r.bytes; return CUDA_SUCCESS;
  case CU_POINTER_ATTRIBUTE_BUFFER_ID: *(unsigned long long *)out = (uintptr_t)r.base; return CUDA_SUCCESS;
  case CU_POINTER_ATTRIBUTE_MAPPED: *(int *)out = 1; return CUDA_SUCCESS;
  case CU_POINTER_ATTRIBUTE_IS_MANAGED: *(int *)out = r.kind == SI_MANAGED; return CUDA_SUCCESS;
  case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
  case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE: *(int *)out = 0; return CUDA_SUCCESS;
  }
  return CUDA_ERROR_INVALID_VALUE;
}

static CUresult standin_cuMemGetAllocationGranularity(size_t *bytes, const CUmemAllocationProp *properties,
                                                      CUmemAllocationGranularity_flags option) {
  ENTER_DRIVER(ANY);
  (void)properties, (void)option;
  *bytes = 2 << 20;
  return CUDA_SUCCESS;
}

/* ---- launches ---------------------------------------------------------------------------------------------------- */

static CUresult standin_cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                                       unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes,
                                       CUstream stream, void **parameters, void **extra) {
  ENTER_DRIVER(SAFE);
  const struct si_config config = {{grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared_bytes, stream};
  return (CUresult)si_launch((struct si_kernel *)function, &config, parameters, extra);
}

/* Of the attributes only events matter here: before the launch and after it. */
static CUresult standin_cuLaunchKernelEx(const CUlaunchConfig *c, CUfunction function, void **parameters,
                                         void **extra) {
  ENTER_DRIVER(SAFE);
  const struct si_config config = {{c->gridDimX, c->gridDimY, c->gridDimZ},
                                   {c->blockDimX, c->blockDimY, c->blockDimZ},
                                   c->sharedMemBytes,
                                   c->hStream};
  cudaError_t error = cudaSuccess;
  for (unsigned i = 0; i < c->numAttrs && error == cudaSuccess; i++)
    if (c->attrs[i].id == CU_LAUNCH_ATTRIBUTE_LAUNCH_COMPLETION_EVENT)
      error = si_record(c->attrs[i].value.launchCompletionEvent.event, c->hStream, 0);
  if (error == cudaSuccess) error = si_launch((struct si_kernel *)function, &config, parameters, extra);
  for (unsigned i = 0; i < c->numAttrs && error == cudaSuccess; i++)
    if (c->attrs[i].id == CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT)
      error = si_record(c->attrs[i].value.programmaticEvent.event, c->hStream, 0);
  return (CUresult)error;
}

/* ---- what is known and not offered: virtual memory management, DMA-BUF ------------------------------------------- */

#define NOT_OFFERED(X)                                                                                                 \
  X(cuMemAddressReserve)                                                                                               \
  X(cuMemAddressFree)                                                                                                  \
  X(cuMemCreate)                                                                                                       \
  X(cuMemExportToShareableHandle)                                                                                      \
  X(cuMemImportFromShareableHandle)                                                                                    \
  X(cuMemMap)                                                                                                          \
  X(cuMemRelease)                                                                                                      \
  X(cuMemRetainAllocationHandle)                                                                                       \
  X(cuMemSetAccess)                                                                                                    \
  X(cuMemUnmap)                                                                                                        \
  X(cuMemGetAllocationPropertiesFromHandle)                                                                            \
  X(cuMemGetHandleForAddressRange)

#define DEFINE(name)                                                                                                   \
  static CUresult standin_##name(void) {                                                                               \
    si_say(0, #name " is not offered: CUDA_ERROR_NOT_SUPPORTED");                                                      \
    return CUDA_ERROR_NOT_SUPPORTED;                                                                                   \
  }
NOT_OFFERED(DEFINE)

/* ---- looking them up --------------------------------------------------------------------------------------------- */

static const struct si_driver_function functions[] = {
    SI_DRIVER_FUNCTION(cuInit, 2000),
    SI_DRIVER_FUNCTION(cuDriverGetVersion, 2020),
    SI_DRIVER_FUNCTION(cuDeviceGetCount, 2000),
    SI_DRIVER_FUNCTION(cuDeviceGet, 2000),
    SI_DRIVER_FUNCTION(cuDeviceGetAttribute, 2000),
    SI_DRIVER_FUNCTION(cuDeviceGetUuid, 9020),
    SI_DRIVER_FUNCTION(cuCtxGetCurrent, 4000),
    SI_DRIVER_FUNCTION(cuCtxSetCurrent, 4000),
    SI_DRIVER_FUNCTION(cuCtxGetDevice, 2000),
    SI_DRIVER_FUNCTION(cuCtxCreate, 11040),
    SI_DRIVER_FUNCTION(cuCtxDestroy, 4000),
    SI_DRIVER_FUNCTION(cuGetErrorString, 6000),
    SI_DRIVER_FUNCTION(cuGetErrorName, 6000),
    SI_DRIVER_FUNCTION(cuMemGetAddressRange, 3020),
    SI_DRIVER_FUNCTION(cuPointerGetAttribute, 4000),
    SI_DRIVER_FUNCTION(cuMemGetAllocationGranularity, 10020),
    SI_DRIVER_FUNCTION(cuLaunchKernel, 4000),
    SI_DRIVER_FUNCTION(cuLaunchKernelEx, 11060),
#define LIST(name) {#name, 0, (void (*)(void))standin_##name},
    NOT_OFFERED(LIST){0},
};

static const struct si_driver_function *find(const struct si_driver_function *f, const char *name) {
  while (f->name && strcmp(f->name, name) != 0) f++;
  return f->name ? f : NULL;
}

static enum cudaDriverEntryPointQueryResult look_up(const char *name, void **function, unsigned version) {
  const struct si_driver_function *f = find(functions, name);
  if (!f) f = find(si_memory_ops, name);
  *function = NULL;
  if (f && f->version <= version) {
    memcpy(function, &f->function, sizeof *function);
    return cudaDriverEntryPointSuccess;
  }
  si_say(f ? 1 : 0, "there is no driver function %s of version %u", name, version);
  return f ? cudaDriverEntryPointVersionNotSufficent : cudaDriverEntryPointSymbolNotFound;
}

cudaError_t cudaGetDriverEntryPointByVersion(const char *name, void **function, unsigned version,
                                             unsigned long long flags, enum cudaDriverEntryPointQueryResult *status) {
  ENTER(ANY);
  (void)flags;
  NEED(name && function, cudaErrorInvalidValue);
  const enum cudaDriverEntryPointQueryResult found = look_up(name, function, version);
  if (status) *status = found;
  return cudaSuccess;
}

cudaError_t cudaGetDriverEntryPoint(const char *name, void **function, unsigned long long flags,
                                    enum cudaDriverEntryPointQueryResult *status) {
  ENTER(ANY);
  (void)flags;
  NEED(name && function, cudaErrorInvalidValue);
  const enum cudaDriverEntryPointQueryResult found = look_up(name, function, CUDA_VERSION);
  if (status) *status = found;
  return cudaSuccess;
}
