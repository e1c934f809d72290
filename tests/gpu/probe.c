/*
 * probe.c - what the CUDA runtime says of this machine, and how much of /dev/shm it can register: one fact a line. Ends
 * with 77, after the reason, where there is no GPU.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "../standin/support.h"

static void probe_device(int device) {
  static const struct {
    const char *name;
    enum cudaDeviceAttr attribute;
  } attributes[] = {
      {"map_host_memory", cudaDevAttrCanMapHostMemory},
      {"host_register", cudaDevAttrHostRegisterSupported},
      {"same_address_for_registered", cudaDevAttrCanUseHostPointerForRegisteredMem},
      {"unified_addressing", cudaDevAttrUnifiedAddressing},
      {"concurrent_managed", cudaDevAttrConcurrentManagedAccess},
      {"compute_preemption", cudaDevAttrComputePreemptionSupported},
      {"integrated", cudaDevAttrIntegrated},
      {"copy_engines", cudaDevAttrAsyncEngineCount},
      {"processors", cudaDevAttrMultiProcessorCount},
  };
  struct cudaDeviceProp properties;
  char bus[32] = "";
  size_t vacant = 0, total = 0;
  OK(cudaGetDeviceProperties(&properties, device));
  OK(cudaDeviceGetPCIBusId(bus, sizeof bus, device));
  OK(cudaSetDevice(device));
  OK(cudaMemGetInfo(&vacant, &total));
  printf("fact gpu {\"device\": %d, \"name\": \"%s\", \"bus\": \"%s\", \"capability\": \"%d.%d\", \"free_bytes\": %zu, "
         "\"bytes\": %zu",
         device, properties.name, bus, properties.major, properties.minor, vacant, total);
  for (size_t i = 0; i < LENGTH(attributes); i++) {
    int value = -1;
    if (cudaDeviceGetAttribute(&value, attributes[i].attribute, device) != cudaSuccess) cudaGetLastError();
    printf(", \"%s\": %d", attributes[i].name, value);
  }
  printf("}\n");
}

/* Row and column are devices; 1: the row's reaches the column's. */
static void probe_peers(int devices) {
  printf("fact peers [");
  for (int a = 0; a < devices; a++) {
    printf("%s[", a ? ", " : "");
    for (int b = 0; b < devices; b++) {
      int reaches = 0;
      if (a != b) OK(cudaDeviceCanAccessPeer(&reaches, a, b));
      printf("%s%d", b ? ", " : "", reaches);
    }
    printf("]");
  }
  printf("]\n");
}

/* The text of what fails, or NULL. *alias: the device has another address for it. */
static const char *registers(size_t bytes, bool *alias) {
  void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0), *device = NULL;
  if (memory == MAP_FAILED) return strerror(errno);
  cudaError_t error = cudaHostRegister(memory, bytes, cudaHostRegisterMapped | cudaHostRegisterPortable);
  if (error == cudaSuccess) {
    error = cudaHostGetDevicePointer(&device, memory, 0);
    *alias = device != memory;
    cudaHostUnregister(memory);
  }
  cudaGetLastError();
  munmap(memory, bytes);
  return error == cudaSuccess ? NULL : cudaGetErrorString(error);
}

static void probe_pinning(void) {
  for (size_t mib = 1; mib <= 256; mib *= 16) {
    bool alias = false;
    const char *problem = registers(mib << 20, &alias);
    printf("fact pinned {\"shared_mib\": %zu, \"problem\": %s%s%s, \"another_address\": %s}\n", mib,
           problem ? "\"" : "", problem ? problem : "null", problem ? "\"" : "", alias ? "true" : "false");
  }
}

int main(void) {
  int runtime, driver, devices = 0;
  OK(cudaRuntimeGetVersion(&runtime));
  OK(cudaDriverGetVersion(&driver)); /* 0 without one */
  printf("fact cuda {\"runtime\": %d, \"driver\": %d}\n", runtime, driver);
  const cudaError_t error = cudaGetDeviceCount(&devices);
  if (error != cudaSuccess || !devices) {
    printf("skipped: no GPU can be used: %s (%s)\n", cudaGetErrorString(error), cudaGetErrorName(error));
    return 77;
  }
  for (int i = 0; i < devices; i++) probe_device(i);
  probe_peers(devices);
  probe_pinning();
  return 0;
}
