/*
 * device.c - the devices of the stand-in: how many, what they claim to be, whether they reach each other
 * (STANDIN_DEVICES, STANDIN_NAME, STANDIN_CC, STANDIN_MEMORY, STANDIN_P2P). Choosing and asking only; nothing here
 * runs.
 */
#include "internal.h"

#include <stdio.h>

_Thread_local int si_device;
static bool peer_enabled[SI_MAX_DEVICES][SI_MAX_DEVICES]; /* atomic */

bool si_valid_device(int device) { return device >= 0 && device < si_options()->devices; }

/* ---- versions and choice ----------------------------------------------------------------------------------------- */

cudaError_t cudaDriverGetVersion(int *version) {
  ENTER(ANY);
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version) {
  ENTER(ANY);
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *count) {
  ENTER(ANY);
  *count = si_options()->devices;
  return *count ? cudaSuccess : si_fail(cudaErrorNoDevice);
}

cudaError_t cudaSetDevice(int device) {
  ENTER(ANY);
  NEED(si_valid_device(device), cudaErrorInvalidDevice);
  si_device = device;
  return cudaSuccess;
}

cudaError_t cudaInitDevice(int device, unsigned device_flags, unsigned flags) {
  ENTER(ANY);
  (void)device_flags, (void)flags;
  NEED(si_valid_device(device), cudaErrorInvalidDevice);
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device) {
  ENTER(ANY);
  NEED(si_options()->devices, cudaErrorNoDevice);
  *device = si_device;
  return cudaSuccess;
}

cudaError_t cudaSetDeviceFlags(unsigned flags) {
  ENTER(SAFE);
  (void)flags;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceFlags(unsigned *flags) {
  ENTER(SAFE);
  *flags = cudaDeviceScheduleAuto;
  return cudaSuccess;
}

cudaError_t cudaDeviceSetLimit(enum cudaLimit limit, size_t value) {
  ENTER(SAFE);
  (void)limit, (void)value;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetLimit(size_t *value, enum cudaLimit limit) {
  ENTER(SAFE);
  (void)limit;
  *value = 1024;
  return cudaSuccess;
}

cudaError_t cudaDeviceSetCacheConfig(enum cudaFuncCache config) {
  ENTER(SAFE);
  (void)config;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
  ENTER(SAFE);
  if (least) *least = 0;
  if (greatest) *greatest = -5;
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize(void) {
  ENTER(UNSAFE);
  return si_fail(si_device_wait(si_device));
}

/* Ends a device's error; memory and streams stay, unlike in CUDA, because others may still use them. */
cudaError_t cudaDeviceReset(void) {
  ENTER(ANY);
  si_device_wait(si_device);
  si_unbreak(si_device);
  return cudaSuccess;
}

/* ---- properties -------------------------------------------------------------------------------------------------- */

/* Roughly an A100 of compute capability 8.0. What is not listed is 0: among it pageable access, multicast, virtual
 * memory management, native atomics on host memory. */
static const struct {
  int attribute, value;
} attributes[] = {
    {cudaDevAttrWarpSize, 32},
    {cudaDevAttrMaxThreadsPerBlock, 1024},
    {cudaDevAttrMaxBlockDimX, 1024},
    {cudaDevAttrMaxBlockDimY, 1024},
    {cudaDevAttrMaxBlockDimZ, 64},
    {cudaDevAttrMaxGridDimX, 0x7fffffff},
    {cudaDevAttrMaxGridDimY, 65535},
    {cudaDevAttrMaxGridDimZ, 65535},
    {cudaDevAttrMultiProcessorCount, 108},
    {cudaDevAttrMaxThreadsPerMultiProcessor, 2048},
    {cudaDevAttrMaxBlocksPerMultiprocessor, 32},
    {cudaDevAttrMaxSharedMemoryPerBlock, SI_SHARED_BYTES},
    {cudaDevAttrMaxSharedMemoryPerBlockOptin, 163 << 10},
    {cudaDevAttrMaxSharedMemoryPerMultiprocessor, 164 << 10},
    {cudaDevAttrReservedSharedMemoryPerBlock, 1 << 10},
    {cudaDevAttrTotalConstantMemory, 64 << 10},
    {cudaDevAttrMaxRegistersPerBlock, 65536},
    {cudaDevAttrMaxRegistersPerMultiprocessor, 65536},
    {cudaDevAttrClockRate, 1410000},
    {cudaDevAttrL2CacheSize, 40 << 20},
    {cudaDevAttrAsyncEngineCount, 2},
    {cudaDevAttrTextureAlignment, 512},
    {cudaDevAttrUnifiedAddressing, 1},
    {cudaDevAttrCanMapHostMemory, 1},
    {cudaDevAttrConcurrentKernels, 1},
    {cudaDevAttrHostRegisterSupported, 1},
    {cudaDevAttrStreamPrioritiesSupported, 1},
    {cudaDevAttrManagedMemory, 1},
    {cudaDevAttrMemoryPoolsSupported, 1},
    {cudaDevAttrGPUDirectRDMASupported, 1},
    {cudaDevAttrCooperativeLaunch, 1},
    {cudaDevAttrComputePreemptionSupported, 1},
};

int si_attribute(int attribute, int device) {
  const struct si_options *o = si_options();
  switch (attribute) {
  case cudaDevAttrComputeCapabilityMajor: return o->major;
  case cudaDevAttrComputeCapabilityMinor: return o->minor;
  case cudaDevAttrPciBusId: return SI_PCI_BUS_FIRST + device;
  case cudaDevAttrCanUseHostPointerForRegisteredMem: return !o->host_alias;
  case CU_DEVICE_ATTRIBUTE_CAN_USE_STREAM_MEM_OPS_V1:
  case CU_DEVICE_ATTRIBUTE_CAN_USE_STREAM_WAIT_VALUE_NOR_V1:
  case CU_DEVICE_ATTRIBUTE_CAN_USE_STREAM_WAIT_VALUE_NOR: return o->memory_ops >= 32;
  case CU_DEVICE_ATTRIBUTE_CAN_USE_64_BIT_STREAM_MEM_OPS_V1:
  case CU_DEVICE_ATTRIBUTE_CAN_USE_64_BIT_STREAM_MEM_OPS: return o->memory_ops >= 64;
  }
  for (size_t i = 0; i < LENGTH(attributes); i++)
    if (attributes[i].attribute == attribute) return attributes[i].value;
  return 0;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device) {
  ENTER(ANY);
  NEED(value, cudaErrorInvalidValue);
  NEED(si_valid_device(device), cudaErrorInvalidDevice);
  *value = si_attribute((int)attribute, device);
  return cudaSuccess;
}

static void fill_names(struct cudaDeviceProp *p, int device) {
  if (si_options()->name)
    snprintf(p->name, sizeof p->name, "%s", si_options()->name);
  else
    snprintf(p->name, sizeof p->name, "Stand-in GPU %d", device);
  memset(p->uuid.bytes, 0x5A, sizeof p->uuid.bytes);
  p->uuid.bytes[15] = (char)device;
}

static void fill_numbers(struct cudaDeviceProp *p, int device) {
#define SIZE(field, attribute) p->field = (size_t)si_attribute(cudaDevAttr##attribute, device)
#define INT(field, attribute)  p->field = si_attribute(cudaDevAttr##attribute, device)
  SIZE(sharedMemPerBlock, MaxSharedMemoryPerBlock);
  SIZE(sharedMemPerBlockOptin, MaxSharedMemoryPerBlockOptin);
  SIZE(sharedMemPerMultiprocessor, MaxSharedMemoryPerMultiprocessor);
  SIZE(reservedSharedMemPerBlock, ReservedSharedMemoryPerBlock);
  SIZE(totalConstMem, TotalConstantMemory);
  SIZE(textureAlignment, TextureAlignment);
  INT(regsPerBlock, MaxRegistersPerBlock);
  INT(regsPerMultiprocessor, MaxRegistersPerMultiprocessor);
  INT(warpSize, WarpSize);
  INT(maxThreadsPerBlock, MaxThreadsPerBlock);
  INT(maxThreadsPerMultiProcessor, MaxThreadsPerMultiProcessor);
  INT(maxBlocksPerMultiProcessor, MaxBlocksPerMultiprocessor);
  INT(multiProcessorCount, MultiProcessorCount);
  INT(maxThreadsDim[0], MaxBlockDimX);
  INT(maxThreadsDim[1], MaxBlockDimY);
  INT(maxThreadsDim[2], MaxBlockDimZ);
  INT(maxGridSize[0], MaxGridDimX);
  INT(maxGridSize[1], MaxGridDimY);
  INT(maxGridSize[2], MaxGridDimZ);
  INT(major, ComputeCapabilityMajor);
  INT(minor, ComputeCapabilityMinor);
  INT(pciBusID, PciBusId);
  INT(l2CacheSize, L2CacheSize);
  INT(canMapHostMemory, CanMapHostMemory);
  INT(concurrentKernels, ConcurrentKernels);
  INT(asyncEngineCount, AsyncEngineCount);
  INT(unifiedAddressing, UnifiedAddressing);
  INT(streamPrioritiesSupported, StreamPrioritiesSupported);
  INT(managedMemory, ManagedMemory);
  INT(canUseHostPointerForRegisteredMem, CanUseHostPointerForRegisteredMem);
  INT(cooperativeLaunch, CooperativeLaunch);
  INT(hostRegisterSupported, HostRegisterSupported);
  INT(memoryPoolsSupported, MemoryPoolsSupported);
  INT(gpuDirectRDMASupported, GPUDirectRDMASupported);
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device) {
  ENTER(ANY);
  NEED(p, cudaErrorInvalidValue);
  NEED(si_valid_device(device), cudaErrorInvalidDevice);
  memset(p, 0, sizeof *p);
  fill_names(p, device);
  p->totalGlobalMem = si_options()->memory;
  fill_numbers(p, device);
  return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *id, int length, int device) {
  ENTER(ANY);
  NEED(si_valid_device(device), cudaErrorInvalidDevice);
  NEED(id && length >= 13, cudaErrorInvalidValue);
  snprintf(id, (size_t)length, "0000:%02X:00.0", (unsigned)(SI_PCI_BUS_FIRST + device));
  return cudaSuccess;
}

cudaError_t cudaDeviceGetByPCIBusId(int *device, const char *id) {
  ENTER(ANY);
  unsigned domain, bus;
  NEED(device && id && sscanf(id, "%x:%x", &domain, &bus) == 2, cudaErrorInvalidValue);
  NEED(si_valid_device((int)bus - SI_PCI_BUS_FIRST), cudaErrorInvalidDevice);
  *device = (int)bus - SI_PCI_BUS_FIRST;
  return cudaSuccess;
}

/* ---- peers ------------------------------------------------------------------------------------------------------- */

static bool reach(int device, int peer) { return device != peer && si_options()->p2p; }

cudaError_t cudaDeviceCanAccessPeer(int *can, int device, int peer) {
  ENTER(ANY);
  NEED(can, cudaErrorInvalidValue);
  NEED(si_valid_device(device) && si_valid_device(peer), cudaErrorInvalidDevice);
  *can = reach(device, peer);
  return cudaSuccess;
}

cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned flags) {
  ENTER(SAFE);
  NEED(si_valid_device(peer), cudaErrorInvalidDevice);
  NEED(!flags, cudaErrorInvalidValue);
  NEED(reach(si_device, peer), cudaErrorPeerAccessUnsupported);
  NEED(!__atomic_exchange_n(&peer_enabled[si_device][peer], true, __ATOMIC_RELAXED), cudaErrorPeerAccessAlreadyEnabled);
  return cudaSuccess;
}

cudaError_t cudaDeviceDisablePeerAccess(int peer) {
  ENTER(SAFE);
  NEED(si_valid_device(peer), cudaErrorInvalidDevice);
  NEED(__atomic_exchange_n(&peer_enabled[si_device][peer], false, __ATOMIC_RELAXED), cudaErrorPeerAccessNotEnabled);
  return cudaSuccess;
}

cudaError_t cudaDeviceGetP2PAttribute(int *value, enum cudaDeviceP2PAttr attribute, int device, int peer) {
  ENTER(ANY);
  NEED(si_valid_device(device) && si_valid_device(peer) && device != peer, cudaErrorInvalidDevice);
  *value = reach(device, peer) && attribute == cudaDevP2PAttrAccessSupported;
  return cudaSuccess;
}
