/*
 * nccl_gpu.c - runs NCCL on the libcudart.so.13 that the loader finds: the scenarios of tests/standin/nccl, and times.
 * nccl-plugin starts it, sets the environment and looks at NCCL's log.
 *
 *   nccl_gpu libnccl.so.2 probe
 *       what there is, a line each: runtime (its file), stand-in (0 or 1), cuda (versions), gpu (name) for each, nccl
 *       (version); or, in place of the last two, error
 *   nccl_gpu libnccl.so.2 one|several ranks scenario
 *   nccl_gpu libnccl.so.2 one|several ranks times|times_all_reduce bytes...
 *       one: all processes on the first GPU, each as a host of its own; several: each on its own GPU
 */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "times.h"

enum { SECONDS = 400 }; /* nccl-plugin ends it sooner */

static const struct {
  const char *name;
  scenario_fn run;
} scenarios[] = {
    {"collectives", scenario_collectives},
    {"types", scenario_types},
    {"random", scenario_random},
    {"graph", scenario_graph},
    {"groups", scenario_groups},
    {"messages", scenario_messages},
    {"split", scenario_split},
    {"communicators", scenario_communicators},
    {"allreduce", scenario_allreduce},
    {"abort", scenario_abort},
    {"times", scenario_times},
    {"times_all_reduce", scenario_times_all_reduce},
};

static void usage(void) {
  fprintf(stderr, "usage: nccl_gpu libnccl.so.2 probe | one|several ranks scenario [bytes...]\nscenarios:");
  for (size_t i = 0; i < LENGTH(scenarios); i++) fprintf(stderr, " %s", scenarios[i].name);
  fprintf(stderr, "\n");
  exit(2);
}

/* ---- what there is ----------------------------------------------------------------------------------------------- */

static void probe_runtime(void) {
  Dl_info info;
  int runtime, driver;
  void *function = dlsym(RTLD_DEFAULT, "cudaGetDeviceCount");
  CHECK(function && dladdr(function, &info));
  CHECK_CUDA(cudaRuntimeGetVersion(&runtime));
  CHECK_CUDA(cudaDriverGetVersion(&driver)); /* 0 without one */
  printf("runtime %s\nstand-in %d\ncuda %d, driver %d\n", info.dli_fname, dlsym(RTLD_DEFAULT, "standin_kernel") != NULL,
         runtime, driver);
}

static void probe_nccl(const char *file) {
  void *library = dlopen(file, RTLD_NOW);
  int (*get_version)(int *) = NULL;
  int version;
  CHECK_TEXT(library, "%s", dlerror());
  void *function = dlsym(library, "ncclGetVersion"); /* not nccl_load: older ones lack functions */
  CHECK_TEXT(function, "%s has no ncclGetVersion", file);
  memcpy(&get_version, &function, sizeof function);
  CHECK(get_version(&version) == NCCL_SUCCESS);
  printf("nccl %d\n", version);
}

static void probe(const char *file) {
  int ngpus;
  probe_runtime();
  const cudaError_t error = cudaGetDeviceCount(&ngpus);
  if (error != cudaSuccess) {
    printf("error %s\n", cudaGetErrorString(error));
    return;
  }
  for (int i = 0; i < ngpus; i++) {
    struct cudaDeviceProp properties;
    CHECK_CUDA(cudaGetDeviceProperties(&properties, i));
    printf("gpu %s\n", properties.name);
  }
  probe_nccl(file);
}

/* ---- ranks ------------------------------------------------------------------------------------------------------- */

static struct times parse(int argc, char **argv) {
  struct times t = {.party.nranks = atoi(argv[3])};
  size_t i = 0;
  while (i < LENGTH(scenarios) && strcmp(argv[4], scenarios[i].name)) i++;
  t.party.own_hosts = !strcmp(argv[2], "one");
  if (i == LENGTH(scenarios) || (!t.party.own_hosts && strcmp(argv[2], "several"))) usage();
  if (t.party.nranks < 2 || t.party.nranks > 4 || argc - 5 > TIMES_MOST_SIZES) usage(); /* 4: exact inputs */
  t.party.scenario = scenarios[i].run;
  for (int a = 5; a < argc; a++) t.sizes[t.nsizes++] = strtoull(argv[a], NULL, 10);
  if (!strncmp(argv[4], "times", strlen("times")) != (t.nsizes > 0)) usage();
  return t;
}

static void *share(size_t bytes) {
  void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(memory != MAP_FAILED);
  return memory;
}

static void run_rank(int rank, int nranks, void *context) {
  struct times *t = context;
  (void)nranks;
  t->party.scenario(&t->party, rank);
}

int main(int argc, char **argv) {
  if (argc == 3 && !strcmp(argv[2], "probe")) {
    probe(argv[1]);
    return 0;
  }
  if (argc < 5) usage();
  struct times t = parse(argc, argv);
  t.party.seed = harness_seed();
  t.party.shared = share(sizeof *t.party.shared);
  t.us = share(sizeof *t.us * (size_t)t.party.nranks);
  nccl_load(argv[1]);
  harness_processes(t.party.nranks, run_rank, &t, SECONDS); /* forks: CUDA is not in use yet */
  return 0;
}
