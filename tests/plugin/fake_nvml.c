/* fake_nvml.c - an NVML with two GPUs (any, by bus id) that says what FAKE_NVML wants: none (the default), p2p, silent,
 * broken, one. */
#include <stdlib.h>
#include <string.h>

int nvmlInit_v2(void);
int nvmlShutdown(void);
int nvmlDeviceGetCount_v2(unsigned *count);
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle);
int nvmlDeviceGetHandleByPciBusId_v2(const char *id, void **handle);
int nvmlDeviceGetP2PStatus(void *a, void *b, int capability, int *status);

enum { SUCCESS = 0, NOT_SUPPORTED = 3, STATUS_OK = 0, STATUS_CHIPSET_NOT_SUPPORTED = 1 };

static int is(const char *wanted) {
  const char *kind = getenv("FAKE_NVML");
  return kind && !strcmp(kind, wanted);
}

int nvmlInit_v2(void) { return is("broken") ? NOT_SUPPORTED : SUCCESS; }
int nvmlShutdown(void) { return SUCCESS; }
int nvmlDeviceGetCount_v2(unsigned *count) { return *count = is("one") ? 1 : 2, SUCCESS; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
  static int gpus[2];
  return *handle = &gpus[index], SUCCESS;
}
/* 0000:XX:00.0: a GPU for each XX. */
int nvmlDeviceGetHandleByPciBusId_v2(const char *id, void **handle) {
  static int gpus[256];
  return *handle = &gpus[strtoul(id + 5, NULL, 16) % 256], SUCCESS;
}
int nvmlDeviceGetP2PStatus(void *a, void *b, int capability, int *status) {
  if (is("silent")) return NOT_SUPPORTED;
  *status = is("p2p") && a != b && capability == 0 ? STATUS_OK : STATUS_CHIPSET_NOT_SUPPORTED;
  return SUCCESS;
}
