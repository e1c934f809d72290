/* helper_cpu.c - see helper_cpu.h. */
#include "plugin/helper_cpu.h"

#include "comm/helpers.h"
#include "topo/topo.h"

/* Busy at once in a rank: the application's thread, NCCL's progress thread, the worker. With fewer CPUs the kernel does
 * better than a fixed choice. */
enum { BUSY_THREADS = 3 };

int shmi_helper_cpu(const shmccl_comm_t *comm) {
  int cpus[BUSY_THREADS * SHMCCL_MAX_RANKS], place = 0;
  const int ranks = shmi_helper_group_of(comm, &place);
  const int wanted = BUSY_THREADS * ranks;
  /* The first CPUs, which programs that bind themselves take first, are left to the others. */
  if (!ranks || shmi_topo_helpers(cpus, wanted, NULL, 0, -1) < wanted) return -1;
  return cpus[(BUSY_THREADS - 1) * ranks + place];
}
