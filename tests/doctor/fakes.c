/*
 * fakes.c - stand-ins of libcuda.so.1, libnvidia-ml.so.1, libnccl.so.2 and libnccl-net-shmccl.so, as far as the doctor
 * calls them: one file, built four times. FAKE_* variables say how they fail.
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define API __attribute__((visibility("default")))

/* Hangs or crashes where FAKE_HANG or FAKE_CRASH names the place; else 0, or FAKE_<place> as a number. */
static int at(const char *place) {
  const char *hang = getenv("FAKE_HANG"), *crash = getenv("FAKE_CRASH");
  char name[64];
  if (hang && !strcmp(hang, place))
    for (;;) pause();
  if (crash && !strcmp(crash, place)) abort();
  snprintf(name, sizeof name, "FAKE_%s", place);
  const char *code = getenv(name);
  return code ? atoi(code) : 0;
}

#ifdef FAKE_CUDA
enum { GPUS = 2 };
static int registered, retained;
#define DECLARE(name, ...)                                                                                             \
  API int name(__VA_ARGS__);                                                                                           \
  API int name(__VA_ARGS__)

DECLARE(cuInit, unsigned flags) { return flags ? 1 : at("cuInit"); }
DECLARE(cuDriverGetVersion, int *version) { return *version = 13000, 0; }
DECLARE(cuGetErrorString, int error, const char **text) { return *text = error ? "as told" : "none", 0; }
DECLARE(cuDeviceGetCount, int *count) { return *count = GPUS, at("cuDeviceGetCount"); }
DECLARE(cuDeviceGet, int *device, int ordinal) { return *device = ordinal, 0; }
DECLARE(cuDeviceGetName, char *name, int length, int device) {
  return snprintf(name, (size_t)length, "Fake %d", device), 0;
}
DECLARE(cuDeviceTotalMem_v2, size_t *bytes, int device) { return *bytes = (size_t)(device + 1) << 30, 0; }
DECLARE(cuDeviceGetAttribute, int *value, int attribute, int device) {
  return *value = attribute == 91 && device == 0, 0;
}
DECLARE(cuDeviceCanAccessPeer, int *possible, int a, int b) { return *possible = a != b && at("peers"), 0; }
DECLARE(cuDevicePrimaryCtxRetain, void **context, int device) {
  return *context = &retained, retained += device == 0, at("cuDevicePrimaryCtxRetain");
}
DECLARE(cuCtxSetCurrent, void *context) { return context != &retained; }
#ifndef FAKE_HALF
DECLARE(cuMemHostRegister_v2, void *memory, size_t bytes, unsigned flags) {
  const size_t limit = (size_t)at("limit_MiB") << 20;
  if (registered || flags != 3 || !memory) abort();
  if (limit && bytes > limit) return 2;
  return registered = 1, 0;
}
#endif
DECLARE(cuMemHostUnregister, void *memory) { return registered = 0, memory == NULL; }
DECLARE(cuDevicePrimaryCtxRelease_v2, int device) {
  if (registered || device || --retained) abort(); /* nothing may stay */
  return 0;
}
#endif

#ifdef FAKE_NVML
API int nvmlInit_v2(void);
API int nvmlInit_v2(void) { return at("nvmlInit"); }
API int nvmlShutdown(void);
API int nvmlShutdown(void) { return 0; }
API const char *nvmlErrorString(int error);
API const char *nvmlErrorString(int error) { return error ? "as told" : "none"; }
API int nvmlSystemGetDriverVersion(char *version, unsigned length);
API int nvmlSystemGetDriverVersion(char *version, unsigned length) { return snprintf(version, length, "599.12"), 0; }
API int nvmlDeviceGetCount_v2(unsigned *count);
API int nvmlDeviceGetCount_v2(unsigned *count) { return *count = 2, 0; }
API int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device);
API int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) { return *device = device, index > 1; }
API int nvmlDeviceGetDriverModel(void *device, unsigned *current, unsigned *pending);
API int nvmlDeviceGetDriverModel(void *device, unsigned *current, unsigned *pending) {
  const int model = at("model");
  return *current = *pending = (unsigned)model, device == NULL || model < 0;
}
#endif

#ifdef FAKE_NCCL
API extern const char fake_nccl_text[];
const char fake_nccl_text[] = "NCCL version 2.27.5+cuda12.9";
API int ncclGetVersion(int *version);
API int ncclGetVersion(int *version) { return *version = 22705, at("ncclGetVersion"); }
API int ncclGetUniqueId(void *id); /* the front knows an NCCL by it */
API int ncclGetUniqueId(void *id) { return id == NULL; }
#endif

#ifdef FAKE_PLUGIN
API extern const int ncclNetPlugin_v10, ncclCollNetPlugin_v10, ncclTunerPlugin_v4;
const int ncclNetPlugin_v10 = 10, ncclCollNetPlugin_v10 = 10, ncclTunerPlugin_v4 = 4;
__attribute__((constructor)) static void load(void) { at("plugin"); }
#endif
