/* device.c - what NCCL's topology search is told about the device. */
#include "plugin/device.h"

#include "plugin/context.h"
#include "plugin/environment.h"
#include "plugin/gdr.h"

/* NCCL's search picks channels by speed: about one GPU's PCIe link. Latency is stored as whole microseconds. */
enum { SPEED_MBPS = 200000, MAX_COMMS = 65536, GUID = 0x73686d63 };

static char device_name[] = SHMI_PLUGIN_NAME;

static int pointers(void) { return shmi_gdr_offered() ? NCCL_PTR_HOST | NCCL_PTR_CUDA : NCCL_PTR_HOST; }

/* The fields that all versions have. No PCI path: NCCL attaches the device to the CPU. One receive per call: grouped
 * ones only come with shared connections, which NCCL does not make between ranks of one GPU each. */
#define COMMON_FIELDS                                                                                                  \
  .name = device_name, .guid = GUID, .ptr_support = pointers(), .speed = SPEED_MBPS, .latency = 1,                     \
  .max_comms = MAX_COMMS, .max_recvs = 1, .net_device_type = NCCL_NET_DEVICE_HOST,                                     \
  .net_device_version = NCCL_NET_DEVICE_NO_VERSION
#define FIELDS_SINCE_V9                                                                                                \
  .vdevice = {.ndevs = 1}, .max_p2p_bytes = NCCL_MAX_NET_BYTES, .max_coll_bytes = NCCL_MAX_NET_BYTES

nccl_result_t shmi_plugin_devices(int *ndevices) {
  if (!ndevices) return NCCL_INVALID_ARGUMENT;
  *ndevices = shmi_plugin_steps_aside() ? 0 : 1;
  return NCCL_SUCCESS;
}

static nccl_result_t check(int device, const void *properties) {
  const struct shmi_plugin_log log = shmi_context_newest_log(); /* NCCL gives no context here */
  if (device == 0 && properties) return NCCL_SUCCESS;
  return shmi_plugin_error(&log, NCCL_INVALID_ARGUMENT,
                           "getProperties: device %d, properties %p: there is device 0 only", device, properties);
}

nccl_result_t shmi_plugin_properties_v8(int device, nccl_net_properties_v8_t *properties) {
  SHMI_PLUGIN_RETURN_IF_ERROR(check(device, properties));
  *properties = (nccl_net_properties_v8_t){COMMON_FIELDS};
  return NCCL_SUCCESS;
}

nccl_result_t shmi_plugin_properties_v9(int device, nccl_net_properties_v9_t *properties) {
  SHMI_PLUGIN_RETURN_IF_ERROR(check(device, properties));
  *properties = (nccl_net_properties_v9_t){COMMON_FIELDS, FIELDS_SINCE_V9};
  return NCCL_SUCCESS;
}

nccl_result_t shmi_plugin_properties_v11(int device, nccl_net_properties_v11_t *properties) {
  SHMI_PLUGIN_RETURN_IF_ERROR(check(device, properties));
  *properties = (nccl_net_properties_v11_t){COMMON_FIELDS, FIELDS_SINCE_V9, .max_multi_request_size = 1};
  return NCCL_SUCCESS;
}

nccl_result_t shmi_plugin_properties_v12(int device, nccl_net_properties_v12_t *properties) {
  SHMI_PLUGIN_RETURN_IF_ERROR(check(device, properties));
  *properties = (nccl_net_properties_v12_t){COMMON_FIELDS, FIELDS_SINCE_V9, .max_multi_request_size = 1, .rail_id = -1,
                                            .plane_id = -1};
  return NCCL_SUCCESS;
}
