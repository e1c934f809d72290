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

/* How many of the masks (a bit per CPU) are equal to that of `rank`; *place says how many of those are of ranks before
 * it. 0 if another mask shares CPUs with it: then nobody can tell who should take which. */
int shmi_helper_group(const uint8_t (*masks)[SHMI_CPU_MASK_BYTES], int nranks, int rank, int *place);

#endif
