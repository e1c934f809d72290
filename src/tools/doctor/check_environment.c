/* check_environment.c - variables that are misspelt, contradict each other, or do not do here what they say. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/options.h"
#include "base/spelling.h"
#include "base/variables.h"
#include "tools/doctor/doctor.h"

static const char id[] = "environment";

static void add(struct doctor *d, enum doctor_status status, const char *seen, const char *why, const char *fix) {
  doctor_add(d, (struct doctor_finding){status, id, seen, why, fix});
}

/* ---- files of NCCL ----------------------------------------------------------------------------------------------- */

/* NCCL adds what ~/.nccl.conf and /etc/nccl.conf set, unless the environment sets it too: so does this process. */
static void load_conf(struct doctor *d, const char *path) {
  char line[1024];
  const char *text = doctor_read_or_say(d, id, path, NULL);
  while ((text = doctor_next_line(text, line, sizeof line))) {
    char *equals = strchr(line, '=');
    if (*line == '#' || !equals) continue;
    *equals = 0;
    if (!strncmp(line, "NCCL_", 5)) setenv(line, equals + 1, 0);
  }
}

static void load_confs(struct doctor *d) {
  const char *named = getenv("NCCL_CONF_FILE"), *home = getenv("HOME");
  if (named && *named)
    load_conf(d, named);
  else if (home && *home)
    load_conf(d, doctor_text(d, "%s/.nccl.conf", home));
  load_conf(d, "/etc/nccl.conf");
}

/* ---- spelling ---------------------------------------------------------------------------------------------------- */

static const char *const nccl_names[] = {
#define NAME(name) "NCCL_" #name,
#include "tools/doctor/nccl_names.def"
#undef NAME
    NULL};

static const char *const vllm_names[] = {"VLLM_NCCL_SO_PATH",
                                         "VLLM_NCCL_INCLUDE_PATH",
                                         "VLLM_SKIP_P2P_CHECK",
                                         "VLLM_DISABLE_PYNCCL",
                                         "VLLM_DISABLE_NCCL4PY",
                                         "VLLM_USE_NCCL_SYMM_MEM",
                                         "VLLM_ALLREDUCE_USE_SYMM_MEM",
                                         "VLLM_WORKER_MULTIPROC_METHOD",
                                         "VLLM_RINGBUFFER_WARNING_INTERVAL",
                                         "VLLM_HOST_IP",
                                         "VLLM_PORT",
                                         "VLLM_LOGGING_LEVEL",
                                         "VLLM_USE_V1",
                                         "VLLM_USE_MODELSCOPE",
                                         "VLLM_ATTENTION_BACKEND",
                                         "VLLM_CACHE_ROOT",
                                         "VLLM_CONFIG_ROOT",
                                         "VLLM_ENGINE_ITERATION_TIMEOUT_S",
                                         "VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS",
                                         "VLLM_ENABLE_V1_MULTIPROCESSING",
                                         "VLLM_API_KEY",
                                         NULL};

static bool is_among(const char *name, const char *const *names) {
  for (; *names; names++)
    if (!strcmp(name, *names)) return true;
  return false;
}

/* The name that differs by a slip of the hand: there are more variables than these lists have. */
static const char *slip_of(const char *name, const char *const *names) {
  int to_start;
  if (strlen(name) > SHMI_SPELLING_MOST) return NULL;
  for (; *names; names++) {
    const int length = (int)strlen(*names);
    if (shmi_spelling_distance(name, *names, &to_start) <= (length > 14 ? 2 : 1)) return *names;
  }
  return NULL;
}

static void check_slip(struct doctor *d, const char *name, const char *const *names) {
  const char *meant = is_among(name, names) ? NULL : slip_of(name, names);
  if (meant)
    add(d, DOCTOR_WARNING, doctor_text(d, "%s is set, and nearly %s", name, meant), "a misspelt variable has no effect",
        doctor_text(d, "write %s, unless another program reads %s", meant, name));
}

static void check_ours(struct doctor *d, const char *name) {
  if (shmi_variable_find(name)) return;
  const struct shmi_variable *meant = shmi_variable_nearest(name);
  add(d, DOCTOR_WARNING, doctor_text(d, "%s is set, and shmccl knows no such variable", name), "it has no effect",
      meant ? doctor_text(d, "write %s", meant->name) : "unset it; README.md lists those that there are");
}

static void check_spelling(struct doctor *d) {
  for (char **entry = environ; entry && *entry; entry++) {
    const char *name = doctor_text(d, "%.*s", (int)strcspn(*entry, "="), *entry);
    if (!strncmp(name, "NCCL_", 5)) check_slip(d, name, nccl_names);
    if (!strncmp(name, "VLLM_", 5)) check_slip(d, name, vllm_names);
    if (!strncmp(name, "SHMCCL_", 7)) check_ours(d, name);
  }
}

/* ---- values ------------------------------------------------------------------------------------------------------ */

static bool is(const char *name, const char *value) {
  const char *text = getenv(name);
  return text && !strcasecmp(text, value);
}

static bool given(const char *name) {
  const char *text = getenv(name);
  return text && *text;
}

static bool names_plugin(void) {
  const char *plugin = getenv("NCCL_NET_PLUGIN");
  return is("NCCL_NET", "shmccl") || (plugin && strstr(plugin, "shmccl"));
}

static void check_ours_values(struct doctor *d) {
  static const shmi_local_option_t plugins[] = {SHMI_OPTION_NET_BYTES, SHMI_OPTION_NET_GDR, SHMI_OPTION_NCCL_ENV,
                                                SHMI_OPTION_TUNER};
  shmi_options_t options;
  uint64_t value;
  if (shmi_options_read(NULL, &options) != SHMCCL_SUCCESS)
    add(d, DOCTOR_FAILURE, doctor_text(d, "%s", shmccl_last_error()), "no communicator can be created", "as it says");
  for (size_t i = 0; i < sizeof plugins / sizeof *plugins; i++)
    if (shmi_option_local(plugins[i], &value) != SHMCCL_SUCCESS)
      add(d, DOCTOR_FAILURE, doctor_text(d, "%s", shmccl_last_error()), "the plugin refuses to start", "as it says");
}

static void check_front_values(struct doctor *d) {
  const char *real = getenv("SHMCCL_NCCL_LIB");
  uint64_t value;
  if (shmi_option_local(SHMI_OPTION_FRONT, &value) != SHMCCL_SUCCESS)
    add(d, DOCTOR_WARNING, doctor_text(d, "%s", shmccl_last_error()), "the NCCL front diverts nothing", "as it says");
  if (real && *real && !doctor_exists(d, real))
    add(d, DOCTOR_FAILURE, doctor_text(d, "SHMCCL_NCCL_LIB=%s: there is no such file", real),
        "behind the NCCL front every call fails", "unset it, or name an existing libnccl.so.2");
}

static void check_plugin_values(struct doctor *d) {
  const char *net = getenv("NCCL_NET");
  if (net && *net && strcasecmp(net, "shmccl"))
    add(d, DOCTOR_FAILURE, doctor_text(d, "NCCL_NET=%s beside NCCL_NET_PLUGIN=shmccl", net),
        "NCCL then uses that network only, and never the plugin", "unset NCCL_NET, or set NCCL_NET=shmccl");
  if (is("NCCL_NET", "shmccl") && !given("NCCL_NET_PLUGIN"))
    add(d, DOCTOR_FAILURE, "NCCL_NET=shmccl without NCCL_NET_PLUGIN",
        "NCCL loads libnccl-net.so only, unless told otherwise, and fails without the network it was asked for",
        "set NCCL_NET_PLUGIN=shmccl");
  if (is("SHMCCL_NCCL_ENV", "0") && !is("NCCL_SHM_DISABLE", "1"))
    add(d, DOCTOR_WARNING, "SHMCCL_NCCL_ENV=0, and NCCL_SHM_DISABLE is not 1",
        "NCCL then keeps to its own shared memory between the GPUs of a host, and never comes to the plugin",
        "unset SHMCCL_NCCL_ENV, or set NCCL_SHM_DISABLE=1 and NCCL_P2P_DISABLE=1");
  if (is("NCCL_SHM_DISABLE", "0") || is("NCCL_P2P_DISABLE", "0"))
    add(d, DOCTOR_WARNING, "NCCL_SHM_DISABLE=0 or NCCL_P2P_DISABLE=0 beside NCCL_NET_PLUGIN=shmccl",
        "the plugin sets both to 1 where they are not set, so that NCCL comes to it; what is set stays", "unset both");
}

/* NCCL without the plugin, told not to use what one host has. */
static void check_nccl_alone(struct doctor *d) {
  if (is("NCCL_SHM_DISABLE", "1") && is("NCCL_P2P_DISABLE", "1"))
    add(d, DOCTOR_FAILURE, "NCCL_SHM_DISABLE=1 and NCCL_P2P_DISABLE=1 without NCCL_NET_PLUGIN=shmccl",
        "NCCL sends between the GPUs of this host through sockets",
        "set NCCL_NET_PLUGIN=shmccl, or unset NCCL_SHM_DISABLE");
}

static void check_nccl_values(struct doctor *d) {
  const int version = d->facts.nccl.version;
  if (given("NCCL_HOSTID"))
    add(d, DOCTOR_WARNING, doctor_text(d, "NCCL_HOSTID=%s", getenv("NCCL_HOSTID")),
        "it makes NCCL believe in other hosts than there are: for tests only", "unset it");
  if (is("NCCL_ALGO", "CollNetChain"))
    add(d, DOCTOR_FAILURE, "NCCL_ALGO=CollNetChain",
        "collectives other than all-reduce are left without an algorithm, and fail",
        "NCCL_ALGO='allreduce:collnetchain;allgather:ring;reducescatter:ring;broadcast:ring;reduce:ring', or unset it");
  if (is("NCCL_SHM_USE_CUDA_MEMCPY", "1") && version >= 23007)
    add(d, DOCTOR_WARNING, "NCCL_SHM_USE_CUDA_MEMCPY=1 with NCCL 2.30.7 or newer",
        "this NCCL has no such mode any more", "unset it");
  if (d->facts.wsl2 && !is("NCCL_CUMEM_ENABLE", "0") && (d->facts.container || given("NCCL_CUMEM_ENABLE")))
    add(d, DOCTOR_WARNING,
        doctor_text(d, "NCCL_CUMEM_ENABLE is %s on WSL 2",
                    given("NCCL_CUMEM_ENABLE") ? getenv("NCCL_CUMEM_ENABLE") : "not set"),
        "drivers there say that memory can be shared by file descriptors, and then fail (NVIDIA/cuda-python#1045)",
        "set NCCL_CUMEM_ENABLE=0");
  if (version >= 22803 && version < 23003 && names_plugin() && !is("NCCL_NET_PLUGIN_REF_COUNT", "1"))
    add(d, DOCTOR_WARNING, "NCCL 2.28.3 to 2.29.7 without NCCL_NET_PLUGIN_REF_COUNT=1",
        "when the last communicator goes these forget the plugin's name: later ones use sockets, without a word",
        "set NCCL_NET_PLUGIN_REF_COUNT=1");
}

static void check_vllm_values(struct doctor *d) {
  const char *path = getenv("VLLM_NCCL_SO_PATH");
  if (path && *path && !doctor_exists(d, path))
    add(d, DOCTOR_FAILURE, doctor_text(d, "VLLM_NCCL_SO_PATH=%s: there is no such file", path),
        "vLLM ends at its start", "unset it, or name an existing libnccl.so.2");
}

static void check_devices(struct doctor *d) {
  const char *devices = getenv("NVIDIA_VISIBLE_DEVICES");
  if (!devices || !d->facts.container) return;
  if (!strcmp(devices, "void") || !strcmp(devices, "none") || !*devices)
    add(d, DOCTOR_WARNING, doctor_text(d, "NVIDIA_VISIBLE_DEVICES=%s", devices),
        "NVIDIA's runtime gives this container no GPU",
        d->facts.pod ? "ask for nvidia.com/gpu in resources.limits" : "docker run --gpus all");
}

void doctor_check_environment(struct doctor *d) {
  const int before = d->counts[DOCTOR_WARNING] + d->counts[DOCTOR_FAILURE];
  load_confs(d);
  check_spelling(d);
  check_ours_values(d);
  check_front_values(d);
  if (names_plugin())
    check_plugin_values(d);
  else
    check_nccl_alone(d);
  check_nccl_values(d);
  check_vllm_values(d);
  check_devices(d);
  if (d->counts[DOCTOR_WARNING] + d->counts[DOCTOR_FAILURE] == before)
    DOCTOR_SAY_OK(d, id, "NCCL_*, SHMCCL_*, VLLM_*: nothing misspelt, nothing that contradicts itself");
}
