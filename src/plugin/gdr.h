/*
 * gdr.h - whether this process takes CUDA pointers ("GDR" to NCCL), and how much it may register for that.
 *
 * All ranks must answer alike: handles carry the answer, and connect refuses another one.
 */
#ifndef SHMI_PLUGIN_GDR_H
#define SHMI_PLUGIN_GDR_H

#include "plugin/plugin.h"

/* SHMCCL_NET_GDR=1, and the calling thread's GPU can do it. The first call of the process that finds it wanted says
 * why if it cannot; that answer stays. */
int shmi_gdr_offered(void);

/* Of SHMCCL_PINNED_BYTES, this process's share: there may be a process for each GPU, and for each local rank. */
shmccl_result_t shmi_gdr_pinned_limit(uint64_t *bytes);

#endif
