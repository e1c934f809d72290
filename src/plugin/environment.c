/* environment.c - decides whether NCCL's variables are set, and sets them without disturbing other threads. */
#include "plugin/environment.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/ordering.h"
#include "comm/comm.h"
#include "topo/peers.h"

/* ---- what the environment says ---------------------------------------------------------------------------------- */

int shmi_plugin_steps_aside(void) {
  const char *launcher;
  return shmi_job_spans_hosts(&launcher);
}

/* NCCL_NET=shmccl, or a plugin's name or path with "shmccl" in it and no other network chosen. */
static int is_named(void) {
  const char *net = getenv("NCCL_NET"), *plugin = getenv("NCCL_NET_PLUGIN");
  if (net && *net) return !strcasecmp(net, SHMI_PLUGIN_NAME);
  return plugin && strstr(plugin, SHMI_PLUGIN_NAME);
}

/* Why NCCL's variables are not set; NULL: they are. */
static const char *objection(uint64_t wanted) {
  if (wanted == 0) return "SHMCCL_NCCL_ENV is 0";
  if (wanted == 1) return NULL;
  if (!is_named()) return "neither NCCL_NET_PLUGIN nor NCCL_NET names shmccl (SHMCCL_NCCL_ENV=1 sets them anyway)";
  switch (shmi_gpus_have_p2p()) {
  case 0: return NULL;
  case 1: return "GPUs of this machine reach each other (P2P), which is faster (SHMCCL_NCCL_ENV=1 sets them anyway)";
  default: return "the driver does not say whether GPUs reach each other (P2P) (SHMCCL_NCCL_ENV=1 sets them anyway)";
  }
}

/* ---- setting --------------------------------------------------------------------------------------------------------
 */

/* "name=value" each, never written to. */
static char shm_disable[] = "NCCL_SHM_DISABLE=1", p2p_disable[] = "NCCL_P2P_DISABLE=1";
/* For CUDA pointers: at any distance from the GPU, for sends too; without LL, whose 8-byte units copy engines need not
 * write whole. */
static char gdr_level[] = "NCCL_NET_GDR_LEVEL=SYS", gdr_read[] = "NCCL_NET_GDR_READ=1", proto[] = "NCCL_PROTO=Simple";
static const struct variable {
  char *text;
  const char *purpose;
} variables[] = {{shm_disable, "routes what stays on this host through the plugin"},
                 {p2p_disable, "routes what stays on this host through the plugin"},
                 {gdr_level, "gives the plugin CUDA pointers"},
                 {gdr_read, "gives the plugin CUDA pointers"},
                 {proto, "leaves out protocols that copy engines cannot carry"}};
enum { VARIABLES = sizeof variables / sizeof *variables, WITHOUT_GDR = 2 };

static size_t name_length(const char *variable) { return (size_t)(strchr(variable, '=') - variable); }

static const char *value_of(char *const *entries, const char *variable) {
  const size_t length = name_length(variable);
  for (; *entries; entries++)
    if (!strncmp(*entries, variable, length + 1)) return *entries + length + 1;
  return NULL;
}

/* The entries of `old` and those of the first `wanted` variables that it lacks; NULL if it lacks none, or there is no
 * memory. */
static char **extended(char **old, int wanted, int added[VARIABLES]) {
  size_t count = 0;
  int lacking = 0;
  while (old[count]) count++;
  for (int i = 0; i < wanted; i++) lacking += added[i] = !value_of(old, variables[i].text);
  char **entries = lacking ? malloc((count + VARIABLES + 1) * sizeof *entries) : NULL;
  if (!entries) return NULL;
  memcpy(entries, old, count * sizeof *entries);
  for (int i = 0; i < wanted; i++)
    if (added[i]) entries[count++] = variables[i].text;
  entries[count] = NULL;
  return entries;
}

/*
 * Not setenv(): until glibc 2.41 that may move the array of pointers and free the old one, under other threads that are
 * in getenv(). Here a new array, complete, takes the place of the old one, and neither the old one nor any string is
 * freed or written: whoever is walking the old one finishes there. Against another thread's setenv() at the same moment
 * the exchange fails and is tried again, if that one has moved the array; if it has changed an entry in place, within
 * the time it takes to copy some hundred pointers, its change may be lost: the C library offers nothing against that.
 */
static void add_variables(int wanted, int added[VARIABLES]) {
  static char *nothing[] = {NULL};
  static char **kept; /* leak checkers: it is meant to stay, also when setenv() has replaced it */
  for (int tries = 0; tries < 100; tries++) {
    char **old = environ;
    char **entries = extended(old ? old : nothing, wanted, added);
    if (!entries) break;
    kept = entries;
    if (shmi_replace_pointer(&environ, old, kept)) return;
    free(kept);
  }
  memset(added, 0, VARIABLES * sizeof *added);
}

static void set_variables(const struct shmi_plugin_log *log, int wanted) {
  int added[VARIABLES];
  add_variables(wanted, added);
  for (int i = 0; i < wanted; i++) {
    const struct variable *v = &variables[i];
    if (added[i])
      shmi_plugin_info(log, NCCL_SUBSYS_ENV, "set %s, which %s in NCCL", v->text, v->purpose);
    else
      shmi_plugin_info(log, NCCL_SUBSYS_ENV, "left %.*s as it was set: %s", (int)name_length(v->text), v->text,
                       value_of(environ, v->text));
  }
}

/* ---- init ------------------------------------------------------------------------------------------------------- */

static void decide(const struct shmi_plugin_log *log, uint64_t wanted, uint64_t gdr) {
  const char *launcher;
  if (shmi_job_spans_hosts(&launcher)) {
    shmi_plugin_info(log, NCCL_SUBSYS_INIT,
                     "stepping aside: %s runs this job on several hosts, which NCCL's own networks connect", launcher);
    return;
  }
  const char *why_not = objection(wanted);
  if (why_not)
    shmi_plugin_info(log, NCCL_SUBSYS_ENV, "left NCCL's environment alone: %s", why_not);
  else
    set_variables(log, gdr ? VARIABLES : WITHOUT_GDR);
}

shmccl_result_t shmi_plugin_prepare(const struct shmi_plugin_log *log) {
  static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  static int decided;
  uint64_t wanted, gdr, unused;
  shmi_log_configure();
  SHMI_RETURN_IF_ERROR(shmi_option_local(SHMI_OPTION_NET_BYTES, &unused));
  SHMI_RETURN_IF_ERROR(shmi_option_local(SHMI_OPTION_NET_GDR, &gdr));
  SHMI_RETURN_IF_ERROR(shmi_option_local(SHMI_OPTION_NCCL_ENV, &wanted));
  pthread_mutex_lock(&lock);
  if (!decided) decide(log, wanted, gdr);
  decided = 1;
  pthread_mutex_unlock(&lock);
  return SHMCCL_SUCCESS;
}
