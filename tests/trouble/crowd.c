/*
 * crowd.c - as many ranks as there may be, on two cores and on one, also where no more processes can be started and no
 * memory can be locked: progress, with right results.
 */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "collectives/calls.h"
#include "harness.h"

enum { RANKS = SHMCCL_MAX_RANKS, CALLS = 8, LIMIT_S = 100 };

struct crowd {
  shmccl_unique_id_t id;
  uint64_t seed;
  int cpus;
};

/* The first `cpus` of those that this process may use. */
static void stay_on(int cpus) {
  cpu_set_t allowed, chosen;
  CPU_ZERO(&chosen);
  CHECK(!sched_getaffinity(0, sizeof allowed, &allowed));
  for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&chosen) < cpus; cpu++)
    if (CPU_ISSET(cpu, &allowed)) CPU_SET(cpu, &chosen);
  CHECK(!sched_setaffinity(0, sizeof chosen, &chosen));
}

static void forbid(int resource, rlim_t most) {
  const struct rlimit limit = {most, most};
  CHECK_TEXT(!setrlimit(resource, &limit), "%s", strerror(errno));
}

static void be(int rank, int nranks, void *context) {
  const struct crowd *crowd = context;
  struct harness_random r = harness_random(crowd->seed);
  struct buffers buffers = {0};
  shmccl_config_t config = SHMCCL_CONFIG_INITIALIZER;
  shmccl_comm_t *comm;
  stay_on(crowd->cpus);
  forbid(RLIMIT_MEMLOCK, 64 << 10);
  forbid(RLIMIT_NPROC, 1);
  config.timeout_ms = LIMIT_S * 1000;
  CHECK_OK(shmccl_comm_init_rank(&comm, nranks, &crowd->id, rank, &config));
  for (int i = 0; i < CALLS; i++) {
    const struct call c = call_random(&r, nranks, 4096);
    call_once(&c, &buffers, comm);
  }
  call_release_buffers(&buffers);
  CHECK_OK(shmccl_comm_destroy(comm));
}

int main(void) {
  struct crowd crowd = {.seed = harness_seed()};
  const char *folder = harness_own_folder();
  for (crowd.cpus = 2; crowd.cpus >= 1; crowd.cpus--) {
    CHECK_OK(shmccl_get_unique_id(&crowd.id));
    harness_processes(RANKS, be, &crowd, LIMIT_S);
    CHECK(harness_entries(folder) == 0);
  }
  return 0;
}
