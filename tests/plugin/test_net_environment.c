/*
 * test_net_environment.c - what init makes of the environment: when NCCL's variables are set, when the plugin steps
 * aside, that other threads may read the environment meanwhile. Each case is a process of its own, with no variables
 * but the case's, and an NVML of ours that says what the case wants.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/ordering.h"
#include "harness.h"
#include "plugin/nccl_net.h"

static char lines[4096]; /* what the plugin logged */
static int warnings;

static void logger(nccl_log_level_t level, unsigned long subsystems, const char *file, int line, const char *format,
                   ...) __attribute__((format(printf, 5, 6)));

static void logger(nccl_log_level_t level, unsigned long subsystems, const char *file, int line, const char *format,
                   ...) {
  const size_t length = strlen(lines);
  va_list arguments;
  (void)subsystems, (void)file, (void)line;
  va_start(arguments, format);
  vsnprintf(lines + length, sizeof lines - length, format, arguments);
  va_end(arguments);
  warnings += level == NCCL_LOG_WARN;
}

static int count_of(const char *words) {
  int n = 0;
  for (const char *at = lines; (at = strstr(at, words)); at++) n++;
  return n;
}

static nccl_net_v12_t *load(void) {
  void *file = dlopen(PLUGIN_FILE, RTLD_NOW | RTLD_LOCAL);
  CHECK_TEXT(file, "%s", dlerror());
  nccl_net_v12_t *net = dlsym(file, "ncclNetPlugin_v12");
  CHECK(net);
  return net;
}

/* ---- the matrix -------------------------------------------------------------------------------------------------- */

struct given {
  const char *environment[8]; /* "NAME=value" */
  const char *shm, *p2p;      /* afterwards; NULL: not set */
  int devices;
  const char *words; /* in a line that is logged once */
};

#define NAMED "NCCL_NET_PLUGIN=shmccl"
#define BOTH  "1", "1", 1

static const struct given matrix[] = {
    {{NAMED}, BOTH, "set NCCL_SHM_DISABLE=1"},
    {{NAMED}, BOTH, "set NCCL_P2P_DISABLE=1"},
    {{"NCCL_NET=SHMCCL"}, BOTH, "set NCCL_SHM_DISABLE=1"},
    {{"NCCL_NET_PLUGIN=/opt/lib/libnccl-net-shmccl.so"}, BOTH, "set NCCL_SHM_DISABLE=1"},
    {{"NCCL_NET_PLUGIN=other,shmccl"}, BOTH, "set NCCL_SHM_DISABLE=1"},
    {{NULL}, NULL, NULL, 1, "neither NCCL_NET_PLUGIN nor NCCL_NET"},
    {{"NCCL_NET_PLUGIN=other"}, NULL, NULL, 1, "neither NCCL_NET_PLUGIN nor NCCL_NET"},
    {{NAMED, "NCCL_NET=IB"}, NULL, NULL, 1, "neither NCCL_NET_PLUGIN nor NCCL_NET"},
    {{NAMED, "SHMCCL_NCCL_ENV=0"}, NULL, NULL, 1, "SHMCCL_NCCL_ENV is 0"},
    {{"SHMCCL_NCCL_ENV=1"}, BOTH, "set NCCL_SHM_DISABLE=1"},
    {{NAMED, "SHMCCL_NCCL_ENV=auto"}, BOTH, "set NCCL_SHM_DISABLE=1"},
    {{NAMED, "NCCL_SHM_DISABLE=0"}, "0", "1", 1, "left NCCL_SHM_DISABLE as it was set: 0"},
    {{NAMED, "NCCL_P2P_DISABLE="}, "1", "", 1, "left NCCL_P2P_DISABLE as it was set"},
    {{NAMED, "NCCL_SHM_DISABLE=1", "NCCL_P2P_DISABLE=1"}, BOTH, "left NCCL_SHM_DISABLE as it was set: 1"},
    {{NAMED, "FAKE_NVML=p2p"}, NULL, NULL, 1, "reach each other (P2P), which is faster"},
    {{NAMED, "FAKE_NVML=p2p", "SHMCCL_NCCL_ENV=1"}, BOTH, "set NCCL_SHM_DISABLE=1"},
    {{NAMED, "FAKE_NVML=silent"}, NULL, NULL, 1, "does not say whether GPUs reach each other"},
    {{NAMED, "FAKE_NVML=broken"}, NULL, NULL, 1, "does not say whether GPUs reach each other"},
    {{NAMED, "FAKE_NVML=one"}, BOTH, "set NCCL_SHM_DISABLE=1"},
    {{NAMED, "SHMCCL_NET_GDR=1"}, BOTH, "set NCCL_NET_GDR_LEVEL=SYS"},
    {{NAMED, "SHMCCL_NET_GDR=1"}, BOTH, "set NCCL_NET_GDR_READ=1"},
    {{NAMED, "SHMCCL_NET_GDR=1"}, BOTH, "set NCCL_PROTO=Simple"},
    {{NAMED, "SHMCCL_NET_GDR=1", "NCCL_PROTO=LL"}, BOTH, "left NCCL_PROTO as it was set: LL"},
    {{NAMED, "SHMCCL_NET_GDR=1", "SHMCCL_NCCL_ENV=0"}, NULL, NULL, 1, "SHMCCL_NCCL_ENV is 0"},
    /* launchers */
    {{NAMED, "RANK=3", "WORLD_SIZE=16", "LOCAL_WORLD_SIZE=8"}, NULL, NULL, 0, "stepping aside: torchrun"},
    {{NAMED, "RANK=3", "WORLD_SIZE=8", "LOCAL_WORLD_SIZE=8"}, BOTH, "set NCCL_SHM_DISABLE=1"},
    {{NAMED, "RANK=3", "WORLD_SIZE=16"}, BOTH, "set NCCL_SHM_DISABLE=1"}, /* proves nothing */
    {{NAMED, "SHMCCL_NCCL_ENV=1", "RANK=3", "WORLD_SIZE=16", "LOCAL_WORLD_SIZE=8"}, NULL, NULL, 0, "stepping aside"},
    {{NAMED, "OMPI_COMM_WORLD_RANK=0", "OMPI_COMM_WORLD_SIZE=4", "OMPI_COMM_WORLD_LOCAL_SIZE=2"},
     NULL,
     NULL,
     0,
     "stepping aside: Open MPI"},
    {{NAMED, "PMI_RANK=0", "PMI_SIZE=4", "MPI_LOCALNRANKS=2"}, NULL, NULL, 0, "stepping aside: MPICH"},
    {{NAMED, "SLURM_PROCID=0", "SLURM_NTASKS=4", "SLURM_NNODES=2"}, NULL, NULL, 0, "stepping aside: srun"},
    {{NAMED, "SLURM_PROCID=0", "SLURM_NTASKS=4", "SLURM_NNODES=1"}, BOTH, "set NCCL_SHM_DISABLE=1"},
    /* torchrun on the first node of an allocation of two */
    {{NAMED, "RANK=1", "WORLD_SIZE=2", "LOCAL_WORLD_SIZE=2", "SLURM_PROCID=0", "SLURM_NTASKS=2", "SLURM_NNODES=2"},
     BOTH,
     "set NCCL_SHM_DISABLE=1"},
};

static void expect_variable(const char *name, const char *wanted) {
  const char *value = getenv(name);
  CHECK_TEXT(wanted ? value && !strcmp(value, wanted) : !value, "%s is %s, not %s", name, value ? value : "not set",
             wanted ? wanted : "not set");
}

static void run_case(const struct given *g) {
  const nccl_net_v12_t *net = load();
  void *context, *second;
  int devices = -1;
  CHECK(net->init(&context, 1, NULL, logger, NULL) == NCCL_SUCCESS);
  CHECK(net->init(&second, 2, NULL, logger, NULL) == NCCL_SUCCESS); /* says nothing again */
  CHECK(net->devices(&devices) == NCCL_SUCCESS);
  CHECK_TEXT(devices == g->devices, "%d devices", devices);
  expect_variable("NCCL_SHM_DISABLE", g->shm);
  expect_variable("NCCL_P2P_DISABLE", g->p2p);
  expect_variable("NCCL_NET_GDR_LEVEL", getenv("SHMCCL_NET_GDR") && g->p2p ? "SYS" : NULL);
  CHECK_TEXT(count_of(g->words) == 1, "'%s' is %d times in: %s", g->words, count_of(g->words), lines);
  CHECK(net->finalize(context) == NCCL_SUCCESS && net->finalize(second) == NCCL_SUCCESS);
}

/* ---- nonsense ---------------------------------------------------------------------------------------------------- */

static const struct given nonsense[] = {
    {{NAMED, "SHMCCL_NCCL_ENV=yes"}, NULL, NULL, 1, "SHMCCL_NCCL_ENV is 'yes'"},
    {{NAMED, "SHMCCL_NET_BYTES=much"}, NULL, NULL, 1, "SHMCCL_NET_BYTES is 'much'"},
    {{NAMED, "SHMCCL_NET_BYTES=1"}, NULL, NULL, 1, "SHMCCL_NET_BYTES is '1'"},
    {{NAMED, "SHMCCL_NET_GDR=2"}, NULL, NULL, 1, "SHMCCL_NET_GDR is '2'"},
};

static void run_nonsense(const struct given *g) {
  const nccl_net_v12_t *net = load();
  void *context = NULL;
  CHECK(net->init(&context, 1, NULL, logger, NULL) == NCCL_INVALID_ARGUMENT);
  CHECK_TEXT(warnings == 1 && count_of(g->words) == 1, "%d warnings: %s", warnings, lines);
  CHECK(!context && net->finalize(context) == NCCL_SUCCESS); /* as NCCL 2.28 does after a failed init */
  expect_variable("NCCL_SHM_DISABLE", NULL);
}

/* ---- other threads
 * --------------------------------------------------------------------------------------------------- */

static uint32_t stop;

static void *reader(void *unused) {
  (void)unused;
  while (!shmi_observe32(&stop)) {
    const char *value = getenv("PLUGIN_TEST_LAST");
    CHECK(value && !strcmp(value, "here"));
  }
  return NULL;
}

/* Whoever walks the old array finds it as it was; and others read on all the while. */
static void run_readers(const struct given *g) {
  pthread_t thread;
  (void)g;
  for (int i = 0; i < 200; i++) { /* by setenv: an array that the C library would move */
    char name[32];
    snprintf(name, sizeof name, "PLUGIN_TEST_%d", i);
    CHECK(!setenv(name, "x", 1));
  }
  CHECK(!setenv("PLUGIN_TEST_LAST", "here", 1));
  char **before = environ, *copies[512];
  int n = 0;
  for (; before[n]; n++) copies[n] = before[n];
  const nccl_net_v12_t *net = load();
  void *context;
  CHECK(!pthread_create(&thread, NULL, reader, NULL));
  CHECK(net->init(&context, 1, NULL, logger, NULL) == NCCL_SUCCESS);
  usleep(10000);
  shmi_publish32(&stop, 1);
  pthread_join(thread, NULL);
  expect_variable("NCCL_SHM_DISABLE", "1");
  CHECK(environ != before);
  for (int i = 0; i <= n; i++) CHECK_TEXT(before[i] == (i < n ? copies[i] : NULL), "entry %d of the old array", i);
  CHECK(!setenv("PLUGIN_TEST_AFTER", "1", 1) && !unsetenv("PLUGIN_TEST_0")); /* the C library goes on from it */
  expect_variable("NCCL_P2P_DISABLE", "1");
  expect_variable("PLUGIN_TEST_AFTER", "1");
  expect_variable("PLUGIN_TEST_0", NULL);
  CHECK(net->finalize(context) == NCCL_SUCCESS);
}

static const struct given readers[] = {{{NAMED}, BOTH, NULL}};

/* ---- */

static void in_child(void (*run)(const struct given *), const struct given *g) {
  fflush(NULL);
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    clearenv();
    for (int i = 0; i < 8 && g->environment[i]; i++) {
      char text[256];
      snprintf(text, sizeof text, "%s", g->environment[i]);
      char *value = strchr(text, '=');
      *value++ = 0;
      setenv(text, value, 1);
    }
    harness_note("the environment %s %s %s", g->environment[0], g->environment[1], g->environment[2]);
    run(g);
    exit(0);
  }
  int status;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK_TEXT(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the case with %s %s %s failed", g->environment[0],
             g->environment[1], g->environment[2]);
}

int main(void) {
  for (size_t i = 0; i < LENGTH(matrix); i++) in_child(run_case, &matrix[i]);
  for (size_t i = 0; i < LENGTH(nonsense); i++) in_child(run_nonsense, &nonsense[i]);
  in_child(run_readers, &readers[0]);
  return 0;
}
