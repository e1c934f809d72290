/*
 * question_gpus.c - what NVML and the CUDA driver say, by their documented interfaces, opened at run time.
 *
 * Runs in a child: a driver may hang, and cuInit() leaves threads and memory behind. Not yet run on a GPU; tests run it
 * on stand-ins of both libraries.
 */
#include <dlfcn.h>
#include <string.h>
#include <sys/mman.h>

#include "tools/doctor/doctor.h"

/* variable: the address of a pointer to a function. */
static bool find(void *library, void *variable, const char *name) {
  void *const address = dlsym(library, name);
  memcpy(variable, &address, sizeof address); /* POSIX makes functions' addresses fit; C has no cast for it */
  return address != NULL;
}

/* ---- NVML -------------------------------------------------------------------------------------------------------- */

typedef struct nvml_device *nvml_device_t;

struct nvml {
  void *library;
  int (*init)(void);
  int (*shutdown)(void);
  const char *(*error_string)(int);
  int (*driver_version)(char *, unsigned);
  int (*count)(unsigned *);
  int (*handle)(unsigned, nvml_device_t *);
  int (*driver_model)(nvml_device_t, unsigned *, unsigned *);
};

static bool open_nvml(FILE *out, struct nvml *n) {
  n->library = dlopen("libnvidia-ml.so.1", RTLD_NOW);
  if (!n->library) return fprintf(out, "missing libnvidia-ml.so.1\n"), false;
  find(n->library, &n->error_string, "nvmlErrorString");
  find(n->library, &n->shutdown, "nvmlShutdown");
  find(n->library, &n->driver_model, "nvmlDeviceGetDriverModel");
  return find(n->library, &n->init, "nvmlInit_v2") &&
         find(n->library, &n->driver_version, "nvmlSystemGetDriverVersion") &&
         find(n->library, &n->count, "nvmlDeviceGetCount_v2") &&
         find(n->library, &n->handle, "nvmlDeviceGetHandleByIndex_v2");
}

static const char *driver_model(const struct nvml *n, unsigned index) {
  static const char *const names[] = {"wddm", "tcc", "mcdm"};
  nvml_device_t device;
  unsigned current, pending;
  if (!n->handle || !n->driver_model || n->handle(index, &device)) return "unknown";
  if (n->driver_model(device, &current, &pending) || current > 2) return "unknown"; /* Linux cannot tell */
  return names[current];
}

static bool ask_nvml(FILE *out, struct nvml *n) {
  char version[80];
  if (!open_nvml(out, n)) return false;
  const int error = n->init();
  if (error) {
    fprintf(out, "error libnvidia-ml.so.1 nvmlInit: %d (%s)\n", error, n->error_string ? n->error_string(error) : "?");
    return false;
  }
  if (!n->driver_version(version, sizeof version)) fprintf(out, "driver %s\n", version);
  return true;
}

/* ---- CUDA -------------------------------------------------------------------------------------------------------- */

enum {
  HOST_REGISTER_PORTABLE_MAPPED = 3,
  ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM = 91,
  FIRST_STEP = 16 << 20,
  LAST_STEP = 512 << 20
};

struct cuda {
  void *library;
  int (*init)(unsigned);
  int (*driver_version)(int *);
  int (*error_string)(int, const char **);
  int (*count)(int *);
  int (*get)(int *, int);
  int (*name)(char *, int, int);
  int (*memory)(size_t *, int);
  int (*attribute)(int *, int, int);
  int (*can_access_peer)(int *, int, int);
  int (*retain)(void **, int);
  int (*release)(int);
  int (*set_current)(void *);
  int (*host_register)(void *, size_t, unsigned);
  int (*host_unregister)(void *);
};

static bool open_cuda(FILE *out, struct cuda *c) {
  c->library = dlopen("libcuda.so.1", RTLD_NOW);
  if (!c->library) return fprintf(out, "missing libcuda.so.1\n"), false;
  find(c->library, &c->error_string, "cuGetErrorString");
  const bool whole =
      find(c->library, &c->init, "cuInit") && find(c->library, &c->driver_version, "cuDriverGetVersion") &&
      find(c->library, &c->count, "cuDeviceGetCount") && find(c->library, &c->get, "cuDeviceGet") &&
      find(c->library, &c->name, "cuDeviceGetName") && find(c->library, &c->memory, "cuDeviceTotalMem_v2") &&
      find(c->library, &c->attribute, "cuDeviceGetAttribute") &&
      find(c->library, &c->can_access_peer, "cuDeviceCanAccessPeer") &&
      find(c->library, &c->retain, "cuDevicePrimaryCtxRetain") &&
      find(c->library, &c->release, "cuDevicePrimaryCtxRelease_v2") &&
      find(c->library, &c->set_current, "cuCtxSetCurrent") &&
      find(c->library, &c->host_register, "cuMemHostRegister_v2") &&
      find(c->library, &c->host_unregister, "cuMemHostUnregister");
  if (!whole) fprintf(out, "error libcuda.so.1 lacks functions: half installed, or a stub for linking\n");
  return whole;
}

static void say_cuda_error(FILE *out, const struct cuda *c, const char *call, int error) {
  const char *text = NULL;
  if (c->error_string) c->error_string(error, &text);
  fprintf(out, "error libcuda.so.1 %s: %d (%s)\n", call, error, text ? text : "?");
}

static void say_devices(FILE *out, const struct cuda *c, const struct nvml *n, int count) {
  for (int i = 0; i < count; i++) {
    int device;
    size_t bytes = 0;
    char name[96] = "unknown";
    if (c->get(&device, i)) continue;
    c->name(name, sizeof name, device);
    c->memory(&bytes, device);
    fprintf(out, "gpu %d %s %zu %s\n", i, driver_model(n, (unsigned)i), bytes, name);
  }
  for (int a = 0; a < count; a++)
    for (int b = 0; b < count; b++) {
      int possible = 0;
      if (a != b && !c->can_access_peer(&possible, a, b)) fprintf(out, "peer %d %d %d\n", a, b, possible);
    }
}

/* Registers ever larger pieces of ordinary memory, each released before the next. */
static void probe_pinned(FILE *out, const struct cuda *c) {
  void *memory = mmap(NULL, LAST_STEP, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return;
  for (size_t bytes = FIRST_STEP; bytes <= LAST_STEP; bytes *= 2) {
    const int error = c->host_register(memory, bytes, HOST_REGISTER_PORTABLE_MAPPED);
    if (error) {
      fprintf(out, "pinned-error %zu %d\n", bytes, error);
      break;
    }
    fprintf(out, "pinned %zu\n", bytes);
    c->host_unregister(memory);
  }
  munmap(memory, LAST_STEP);
}

static void ask_first_device(FILE *out, const struct cuda *c) {
  int device, usable;
  void *context;
  if (c->get(&device, 0)) return;
  if (!c->attribute(&usable, ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM, device))
    fprintf(out, "host-pointer %d\n", usable);
  int error = c->retain(&context, device);
  if (error) return say_cuda_error(out, c, "cuDevicePrimaryCtxRetain", error);
  error = c->set_current(context);
  if (error)
    say_cuda_error(out, c, "cuCtxSetCurrent", error);
  else
    probe_pinned(out, c);
  c->release(device);
}

static void ask_cuda(FILE *out, const struct nvml *n) {
  struct cuda c = {0};
  int version, count = 0;
  if (!open_cuda(out, &c)) return;
  if (!c.driver_version(&version)) fprintf(out, "cuda-driver %d\n", version);
  int error = c.init(0);
  if (error) return say_cuda_error(out, &c, "cuInit", error);
  error = c.count(&count);
  if (error) return say_cuda_error(out, &c, "cuDeviceGetCount", error);
  say_devices(out, &c, n, count);
  if (count) ask_first_device(out, &c);
}

void doctor_question_gpus(FILE *out, const void *context) {
  struct nvml n = {0};
  (void)context;
  const bool started = ask_nvml(out, &n);
  if (!started) n.handle = NULL;
  ask_cuda(out, &n);
  if (started && n.shutdown) n.shutdown();
}
