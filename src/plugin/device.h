/*
 * device.h - the one network device that NCCL sees, the same for net and collnet (NCCL merges the two by name).
 *
 * The functions fit the tables' members as they are.
 */
#ifndef SHMI_PLUGIN_DEVICE_H
#define SHMI_PLUGIN_DEVICE_H

#include "plugin/nccl_net.h"

/* 1; 0 where the plugin steps aside (job on several hosts): NCCL then uses its own network. */
nccl_net_devices_v8 shmi_plugin_devices;

nccl_result_t shmi_plugin_properties_v8(int device, nccl_net_properties_v8_t *properties);
nccl_result_t shmi_plugin_properties_v9(int device, nccl_net_properties_v9_t *properties); /* v10's too */
nccl_result_t shmi_plugin_properties_v11(int device, nccl_net_properties_v11_t *properties);
nccl_result_t shmi_plugin_properties_v12(int device, nccl_net_properties_v12_t *properties);

#endif
