/*
 * helper_cpu.h - a core of its own for a communicator's worker thread, where the machine has enough.
 *
 * Ranks choose apart and must not choose the same core. They know each other's affinity from the segment, so each comes
 * to the same division.
 */
#ifndef SHMI_PLUGIN_HELPER_CPU_H
#define SHMI_PLUGIN_HELPER_CPU_H

#include "comm/comm.h"

/* The CPU for this rank's worker, -1: leave it to the kernel. */
int shmi_helper_cpu(const shmccl_comm_t *comm);

#endif
