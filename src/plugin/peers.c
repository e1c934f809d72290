/*
 * peers.c - whether GPUs reach each other, asked of NVML.
 *
 * CUDA is not asked: a context takes memory on every GPU, and the plugin is loaded before the program has chosen one.
 * All GPUs that the driver shows count, whatever CUDA_VISIBLE_DEVICES says, since all ranks must come to one answer.
 */
#include <dlfcn.h>

#include "plugin/environment.h"
#include "topo/topo.h"

/* Of NVML's interface, as its manual has it. */
enum { NVML_OK = 0, NVML_P2P_READ = 0, NVML_P2P_STATUS_OK = 0, NVML_P2P_STATUS_UNKNOWN = 6 };
struct nvml {
  int (*init)(void);
  int (*shutdown)(void);
  int (*count)(unsigned *);
  int (*handle)(unsigned, void **);
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
                 {"nvmlDeviceGetP2PStatus", &n->p2p}};
  for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++)
    if (!(*(void **)symbols[i].to = dlsym(library, symbols[i].name))) return 0;
  return 1;
}

static int pair_has_p2p(const struct nvml *n, unsigned a, unsigned b) {
  void *first, *second;
  int status;
  if (n->handle(a, &first) != NVML_OK || n->handle(b, &second) != NVML_OK) return -1;
  if (n->p2p(first, second, NVML_P2P_READ, &status) != NVML_OK || status == NVML_P2P_STATUS_UNKNOWN) return -1;
  return status == NVML_P2P_STATUS_OK;
}

static int any_pair(const struct nvml *n) {
  unsigned count;
  int answer = 0;
  if (n->count(&count) != NVML_OK) return -1;
  for (unsigned a = 0; a < count; a++)
    for (unsigned b = a + 1; b < count; b++) {
      const int pair = pair_has_p2p(n, a, b);
      if (pair > 0) return 1;
      if (pair < 0) answer = -1;
    }
  return answer;
}

/* Without NVML there is no driver, hence no GPU. WSL2 has no P2P, and an NVML that may not say so. */
int shmi_gpus_have_p2p(void) {
  struct nvml n;
  if (shmi_topo_is_wsl2() || !load(&n)) return 0;
  if (n.init() != NVML_OK) return -1;
  const int answer = any_pair(&n);
  n.shutdown();
  return answer;
}
