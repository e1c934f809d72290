/*
 * peers.c - NVML is asked rather than CUDA: a context takes memory on every GPU, and the NCCL plugin is loaded before
 * the program has chosen one. For the same reason it asks about all GPUs that the driver shows, whatever
 * CUDA_VISIBLE_DEVICES says: all ranks must come to one answer.
 */
#include "topo/peers.h"

#include <dlfcn.h>
#include <string.h>

#include "topo/topo.h"

/* Of NVML's interface, as its manual has it. */
enum { NVML_OK = 0, NVML_P2P_READ = 0, NVML_P2P_STATUS_OK = 0, NVML_P2P_STATUS_UNKNOWN = 6 };
struct nvml {
  int (*init)(void);
  int (*shutdown)(void);
  int (*count)(unsigned *);
  int (*handle)(unsigned, void **);
  int (*handle_at)(const char *, void **);
  int (*p2p)(void *, void *, int, int *);
};

static int load(struct nvml *n) {
  void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!library) return 0;
  const struct {
    const char *name;
    void *to;
  } symbols[] = {{"nvmlInit_v2", &n->init},
                 {"nvmlShutdown", &n->shutdown},
                 {"nvmlDeviceGetCount_v2", &n->count},
                 {"nvmlDeviceGetHandleByIndex_v2", &n->handle},
                 {"nvmlDeviceGetHandleByPciBusId_v2", &n->handle_at},
                 {"nvmlDeviceGetP2PStatus", &n->p2p}};
  for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++)
    if (!(*(void **)symbols[i].to = dlsym(library, symbols[i].name))) return 0;
  return 1;
}

static int reaches(const struct nvml *n, void *first, void *second) {
  int status;
  if (n->p2p(first, second, NVML_P2P_READ, &status) != NVML_OK || status == NVML_P2P_STATUS_UNKNOWN) return -1;
  return status == NVML_P2P_STATUS_OK;
}

static int pair_has_p2p(const struct nvml *n, unsigned a, unsigned b) {
  void *first, *second;
  if (n->handle(a, &first) != NVML_OK || n->handle(b, &second) != NVML_OK) return -1;
  return reaches(n, first, second);
}

static int pair_at_has_p2p(const struct nvml *n, const char *a, const char *b) {
  void *first, *second;
  if (!strcmp(a, b)) return 0; /* ranks that share a GPU: a test's */
  if (n->handle_at(a, &first) != NVML_OK || n->handle_at(b, &second) != NVML_OK) return -1;
  return reaches(n, first, second);
}

/* 1 outweighs -1, which outweighs 0. */
static int worse(int a, int b) { return a > 0 || b > 0 ? 1 : a < 0 || b < 0 ? -1 : 0; }

static int any_pair(const struct nvml *n) {
  unsigned count;
  int answer = 0;
  if (n->count(&count) != NVML_OK) return -1;
  for (unsigned a = 0; a < count; a++)
    for (unsigned b = a + 1; b < count; b++) answer = worse(answer, pair_has_p2p(n, a, b));
  return answer;
}

/* WSL2 has no P2P, and an NVML that may not say so. */
int shmi_gpus_have_p2p(void) {
  struct nvml n;
  if (shmi_topo_is_wsl2() || !load(&n)) return 0;
  if (n.init() != NVML_OK) return -1;
  const int answer = any_pair(&n);
  n.shutdown();
  return answer;
}

int shmi_gpus_reach(const char *const *bus_ids, int count) {
  struct nvml n;
  int answer = 0;
  if (shmi_topo_is_wsl2()) return 0;
  if (!load(&n) || n.init() != NVML_OK) return -1;
  for (int a = 0; a < count; a++)
    for (int b = a + 1; b < count; b++) answer = worse(answer, pair_at_has_p2p(&n, bus_ids[a], bus_ids[b]));
  n.shutdown();
  return answer;
}
