/*
 * environment.h - what the plugin learns from the environment, and what it adds to it for NCCL.
 *
 * NCCL prefers its own shared-memory transport between the GPUs of a host, and asks a network only if
 * NCCL_SHM_DISABLE=1 and NCCL_P2P_DISABLE=1. It reads both after the network's init. So the first init sets them, where
 * that is what the user wants: SHMCCL_NCCL_ENV=1, or the plugin was named (NCCL_NET_PLUGIN, NCCL_NET) and the GPUs
 * cannot reach each other anyway; never against a value that is set, nor with SHMCCL_NCCL_ENV=0. With SHMCCL_NET_GDR=1
 * it sets what makes NCCL give CUDA pointers to a network that is not at the GPUs, too.
 */
#ifndef SHMI_PLUGIN_ENVIRONMENT_H
#define SHMI_PLUGIN_ENVIRONMENT_H

#include "plugin/plugin.h"

/* Called by each init of the net; acts in the first one of the process. Fails if a setting is nonsense. */
shmccl_result_t shmi_plugin_prepare(const struct shmi_plugin_log *log);

/* Whether the environment shows that this job has ranks on other hosts: then NCCL's own network serves it. */
int shmi_plugin_steps_aside(void);

#endif
