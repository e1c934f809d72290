/*
 * nvml.c - a stand-in for libnvidia-ml.so.1: the functions of NVML that NCCL must find, for the devices of the stand-in
 * CUDA runtime (the same STANDIN_DEVICES, STANDIN_CC and STANDIN_P2P, the same PCI addresses), without fabric; with
 * NVLinks to a switch if STANDIN_NVSWITCH=1.
 */
#include <stdio.h>
#include <stdlib.h>

enum { OK = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6 };
enum { PCI_BUS_FIRST = 0x10, P2P_OK = 0, P2P_NOT_SUPPORTED = 5 };

typedef struct device *device_t; /* the index + 1 */

struct pci_info { /* its first fields */
  char bus_id[16];
  unsigned domain, bus, device, pci_device_id, pci_subsystem_id;
};

int nvmlInit(void);
int nvmlInit_v2(void);
int nvmlShutdown(void);
const char *nvmlErrorString(int result);
int nvmlDeviceGetCount(unsigned *count);
int nvmlDeviceGetCount_v2(unsigned *count);
int nvmlDeviceGetHandleByIndex(unsigned index, device_t *device);
int nvmlDeviceGetHandleByIndex_v2(unsigned index, device_t *device);
int nvmlDeviceGetHandleByPciBusId(const char *id, device_t *device);
int nvmlDeviceGetHandleByPciBusId_v2(const char *id, device_t *device);
int nvmlDeviceGetIndex(device_t device, unsigned *index);
int nvmlDeviceGetCudaComputeCapability(device_t device, int *major, int *minor);
int nvmlDeviceGetP2PStatus(device_t device, device_t peer, int what, int *status);
int nvmlDeviceGetNvLinkState(device_t device, unsigned link, int *active);
int nvmlDeviceGetNvLinkCapability(device_t device, unsigned link, int capability, unsigned *value);
int nvmlDeviceGetNvLinkRemotePciInfo(device_t device, unsigned link, struct pci_info *pci);
int nvmlDeviceGetFieldValues(device_t device, int count, void *values);
int nvmlDeviceGetPciInfo_v3(device_t device, struct pci_info *pci);
int nvmlDeviceGetPciInfoExt(device_t device, void *pci);
int nvmlDeviceGetPcieLinkMaxSpeed(device_t device, int *mbps);
int nvmlDeviceGetCurrPcieLinkGeneration(device_t device, unsigned *generation);
int nvmlDeviceGetCurrPcieLinkWidth(device_t device, unsigned *width);

static int setting(const char *name, int otherwise) {
  const char *text = getenv(name);
  return text && *text ? atoi(text) : otherwise;
}

static unsigned ndevices(void) { return (unsigned)setting("STANDIN_DEVICES", 1); }
static unsigned index_of(device_t device) { return (unsigned)(size_t)device - 1; }

int nvmlInit_v2(void) { return OK; }
int nvmlInit(void) { return OK; }
int nvmlShutdown(void) { return OK; }

const char *nvmlErrorString(int result) {
  if (result == OK) return "success";
  return result == NOT_SUPPORTED ? "not supported" : "error of the stand-in NVML";
}

/* ---- devices ----------------------------------------------------------------------------------------------------- */

int nvmlDeviceGetCount_v2(unsigned *count) {
  *count = ndevices();
  return OK;
}

int nvmlDeviceGetCount(unsigned *count) { return nvmlDeviceGetCount_v2(count); }

int nvmlDeviceGetHandleByIndex(unsigned index, device_t *device) {
  if (index >= ndevices()) return INVALID_ARGUMENT;
  *device = (device_t)(size_t)(index + 1);
  return OK;
}

int nvmlDeviceGetHandleByPciBusId(const char *id, device_t *device) {
  unsigned domain, bus;
  if (sscanf(id, "%x:%x", &domain, &bus) != 2 || bus < PCI_BUS_FIRST) return NOT_FOUND;
  return nvmlDeviceGetHandleByIndex(bus - PCI_BUS_FIRST, device);
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, device_t *device) {
  return nvmlDeviceGetHandleByIndex(index, device);
}

int nvmlDeviceGetHandleByPciBusId_v2(const char *id, device_t *device) {
  return nvmlDeviceGetHandleByPciBusId(id, device);
}

int nvmlDeviceGetIndex(device_t device, unsigned *index) {
  *index = index_of(device);
  return OK;
}

int nvmlDeviceGetCudaComputeCapability(device_t device, int *major, int *minor) {
  const char *text = getenv("STANDIN_CC");
  (void)device;
  *major = 8;
  *minor = 0;
  if (text) sscanf(text, "%d.%d", major, minor);
  return OK;
}

int nvmlDeviceGetP2PStatus(device_t device, device_t peer, int what, int *status) {
  (void)device, (void)peer, (void)what;
  *status = setting("STANDIN_P2P", 0) ? P2P_OK : P2P_NOT_SUPPORTED;
  return OK;
}

/* ---- links: NCCL asks for NVLinks to a switch before it uses CollNetDirect --------------------------------------- */

static int link_result(void) { return setting("STANDIN_NVSWITCH", 0) ? OK : NOT_SUPPORTED; }

int nvmlDeviceGetNvLinkState(device_t device, unsigned link, int *active) {
  (void)device, (void)link;
  *active = 1;
  return link_result();
}

int nvmlDeviceGetNvLinkCapability(device_t device, unsigned link, int capability, unsigned *value) {
  (void)device, (void)link, (void)capability;
  *value = 1;
  return link_result();
}

int nvmlDeviceGetNvLinkRemotePciInfo(device_t device, unsigned link, struct pci_info *pci) {
  (void)device, (void)link;
  if (link_result() == OK) snprintf(pci->bus_id, sizeof pci->bus_id, "0000:FE:00.0"); /* not in /sys: a switch */
  return link_result();
}

int nvmlDeviceGetFieldValues(device_t device, int count, void *values) {
  (void)device, (void)count, (void)values;
  return NOT_SUPPORTED;
}

/* ---- PCI: asked for since NCCL 2.30 ------------------------------------------------------------------------------ */

int nvmlDeviceGetPciInfo_v3(device_t device, struct pci_info *pci) {
  *pci = (struct pci_info){
      .bus = PCI_BUS_FIRST + index_of(device), .pci_device_id = 0x20b010de, .pci_subsystem_id = 0x145f10de};
  snprintf(pci->bus_id, sizeof pci->bus_id, "0000:%02X:00.0", pci->bus);
  return OK;
}

int nvmlDeviceGetPciInfoExt(device_t device, void *pci) {
  (void)device, (void)pci;
  return NOT_SUPPORTED;
}

int nvmlDeviceGetPcieLinkMaxSpeed(device_t device, int *mbps) {
  (void)device;
  *mbps = 16000;
  return OK;
}

int nvmlDeviceGetCurrPcieLinkGeneration(device_t device, unsigned *generation) {
  (void)device;
  *generation = 4;
  return OK;
}

int nvmlDeviceGetCurrPcieLinkWidth(device_t device, unsigned *width) {
  (void)device;
  *width = 16;
  return OK;
}
