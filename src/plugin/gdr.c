/* gdr.c - asks settings and GPU once. */
#include "plugin/gdr.h"

#include <pthread.h>
#include <stdlib.h>

#include "comm/comm.h"
#include "mem/mover.h"
#include "plugin/context.h"

/* Pieces of the smallest ring for each connection of a small job: less is not worth the trouble. */
static const uint64_t LEAST = 4 << 20;

/* With one hardware queue for all copies of the process, one that waits for a kernel holds up those that the kernel
 * waits for. */
static int has_one_queue(void) {
  const char *queues = getenv("CUDA_DEVICE_MAX_CONNECTIONS");
  return queues && atoi(queues) == 1;
}

static const char *objection(void) {
  uint64_t limit;
  if (has_one_queue()) return "CUDA_DEVICE_MAX_CONNECTIONS is 1, so that copies could wait for NCCL's kernels";
  const char *why = shmi_mover_probe();
  if (why) return why;
  if (shmi_gdr_pinned_limit(&limit) != SHMCCL_SUCCESS || limit < LEAST)
    return "SHMCCL_PINNED_BYTES leaves less than 4 MiB for each process";
  return NULL;
}

static void tell(const char *why_not) {
  const struct shmi_plugin_log log = shmi_context_newest_log();
  if (why_not)
    shmi_plugin_warn(&log, "SHMCCL_NET_GDR=1, but NCCL is offered host memory only: %s", why_not);
  else
    shmi_plugin_info(&log, NCCL_SUBSYS_INIT, "NCCL is offered CUDA memory, which copy engines carry");
}

int shmi_gdr_offered(void) {
  static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  static int is_decided, offered;
  uint64_t wanted;
  if (shmi_option_local(SHMI_OPTION_NET_GDR, &wanted) != SHMCCL_SUCCESS || !wanted) return 0;
  pthread_mutex_lock(&lock);
  if (!is_decided) {
    const char *why_not = objection();
    tell(why_not);
    offered = !why_not;
  }
  is_decided = 1;
  pthread_mutex_unlock(&lock);
  return offered;
}

/* As its launcher says; all are on this host. 0: there is none. */
static int ranks_of_job(void) {
  const char *rank, *nranks;
  const int n = shmi_launcher_seen(&rank, &nranks) && nranks ? atoi(nranks) : 0;
  return n < 0 ? 0 : n > SHMCCL_MAX_RANKS ? SHMCCL_MAX_RANKS : n;
}

shmccl_result_t shmi_gdr_pinned_limit(uint64_t *bytes) {
  const int devices = shmi_mover_devices(), ranks = ranks_of_job(), processes = ranks > devices ? ranks : devices;
  uint64_t most;
  SHMI_RETURN_IF_ERROR(shmi_option_local(SHMI_OPTION_PINNED_BYTES, &most));
  *bytes = processes > 1 ? most / (uint64_t)processes : most;
  return SHMCCL_SUCCESS;
}
