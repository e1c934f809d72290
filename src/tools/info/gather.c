/* gather.c - asks the machine and the library. */
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "reduce/reduce.h"
#include "tools/info/info.h"
#include "topo/hwloc.h"

#define STRING_(x) #x
#define STRING(x)  STRING_(x)

#ifdef __clang__
#define COMPILER __VERSION__
#else
#define COMPILER "gcc " __VERSION__
#endif

static struct build gather_build(void) {
  return (struct build){
      .version = STRING(SHMCCL_VERSION_MAJOR) "." STRING(SHMCCL_VERSION_MINOR) "." STRING(SHMCCL_VERSION_PATCH),
      .compiler = COMPILER,
      .type = INFO_BUILD_TYPE,
      .cuda = INFO_CUDA,
      .hwloc = "headers of " INFO_HWLOC_VERSION ", opened at run time"};
}

/* ---- machine ----------------------------------------------------------------------------------------------------- */

static void read_cpu_name(char text[TEXT]) {
  char line[512];
  FILE *f = fopen("/proc/cpuinfo", "re");
  snprintf(text, TEXT, "unknown");
  while (f && fgets(line, sizeof line, f)) {
    char *colon = strchr(line, ':');
    if (strncmp(line, "model name", 10) || !colon) continue;
    snprintf(text, TEXT, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
    break;
  }
  if (f) fclose(f);
}

static void gather_nodes(struct machine *m) {
  const struct shmi_hwloc *h = shmi_hwloc();
  if (!h) return;
  const unsigned version = h->get_api_version();
  snprintf(m->hwloc, sizeof m->hwloc, "interface %u.%u", version >> 16, version >> 8 & 0xff);
  hwloc_obj_t object = h->get_obj_by_depth(h->topology, HWLOC_TYPE_DEPTH_NUMANODE, 0);
  for (; object && m->nnodes < NODES_MOST; object = object->next_cousin) {
    struct node *node = &m->nodes[m->nnodes++];
    node->index = (int)object->os_index;
    node->memory_bytes = object->attr->numanode.local_memory;
    h->bitmap_list_snprintf(node->cpus, sizeof node->cpus, object->cpuset);
  }
}

static void gather_machine(struct machine *m) {
  struct utsname name;
  uint8_t mask[1024];
  if (!uname(&name))
    snprintf(m->kernel, sizeof m->kernel, "%.60s %.120s %.60s", name.sysname, name.release, name.machine);
  read_cpu_name(m->cpu);
  snprintf(m->isa, sizeof m->isa, "%s", shmi_reduce_isa());
  m->wsl2 = shmi_topo_is_wsl2();
  m->cpus_online = (int)sysconf(_SC_NPROCESSORS_ONLN);
  m->cpus_usable = shmi_topo_affinity(mask, sizeof mask);
  m->quota = shmi_topo_quota("");
  m->caches = shmi_topo_caches();
  gather_nodes(m);
}

static void gather_folder(struct folder *folder) {
  struct statfs s;
  folder->path = shmi_option_shm_dir();
  folder->found = !statfs(folder->path, &s);
  if (!folder->found) return;
  folder->is_tmpfs = s.f_type == TMPFS_MAGIC;
  folder->bytes = (uint64_t)s.f_blocks * (uint64_t)s.f_bsize;
  folder->free_bytes = (uint64_t)s.f_bavail * (uint64_t)s.f_bsize;
}

/* ---- settings ---------------------------------------------------------------------------------------------------- */

/* name: of a row of variables.def */
static struct setting *find_setting(struct info *info, const char *name) {
  for (int i = 0; i < info->nsettings; i++)
    if (!strcmp(info->settings[i].name, name)) return &info->settings[i];
  abort();
}

static void gather_settings(struct info *info) {
  for (const struct shmi_variable *v = shmi_variables; v->name && info->nsettings < SETTINGS_MOST; v++) {
    if (v->door == SHMI_DOOR_TESTS) continue;
    struct setting *s = &info->settings[info->nsettings++];
    const char *text = getenv(v->name);
    const bool given = text && *text;
    *s = (struct setting){v->name, v->initial, v->unit, v->meaning, "", given ? "environment" : "default"};
    snprintf(s->value, sizeof s->value, "%s", given ? text : v->initial);
  }
}

/* What the library made of it: it goes on without a value that it does not know. */
static void set_effective(struct info *info, const char *name, const char *value) {
  struct setting *s = find_setting(info, name);
  if (!strcmp(s->origin, "environment") && strcasecmp(s->value, value))
    s->origin = "invalid";
  else
    snprintf(s->value, sizeof s->value, "%s", value);
}

static void gather_launcher(struct info *info) {
  const char *rank, *nranks;
  struct setting *by_hand = find_setting(info, "SHMCCL_RANK");
  info->launcher = shmi_launcher_seen(&rank, &nranks);
  if (!info->launcher || !strcmp(by_hand->origin, "environment")) return;
  by_hand->origin = "launcher";
  snprintf(by_hand->value, sizeof by_hand->value, "%s", rank);
  by_hand = find_setting(info, "SHMCCL_NRANKS");
  by_hand->origin = "launcher";
  snprintf(by_hand->value, sizeof by_hand->value, "%s", nranks ? nranks : "not set");
}

/* Without those that the library refuses: it names the variable in its line. */
static void read_options(struct info *info) {
  while (shmi_options_read(NULL, &info->options) != SHMCCL_SUCCESS) {
    const char *line = shmccl_last_error();
    int refused = -1;
    for (int i = 0; i < info->nsettings; i++) {
      const char *name = info->settings[i].name;
      if (getenv(name) && !strncmp(line, name, strlen(name)) && line[strlen(name)] == ' ') refused = i;
    }
    if (refused < 0) return;
    info->settings[refused].origin = "invalid";
    unsetenv(info->settings[refused].name);
  }
}

static void add_threshold(struct info *info, const char *name, uint64_t bytes, const char *meaning) {
  if (info->nsettings == SETTINGS_MOST) return;
  struct setting *s = &info->settings[info->nsettings++];
  *s = (struct setting){name, "by size", "bytes", meaning, "by size", bytes ? "tuning file" : "default"};
  if (bytes) snprintf(s->value, sizeof s->value, "%llu", (unsigned long long)bytes);
}

static void gather_thresholds(struct info *info) {
  static struct shmi_tuning tuning;
  char message[SHMI_TUNING_MESSAGE_BYTES];
  const shmi_thresholds_t *t = &info->options.thresholds;
  if (shmi_tuning_path() && shmi_tuning_read(shmi_tuning_path(), &tuning, message))
    find_setting(info, "SHMCCL_TUNING_FILE")->origin = "invalid";
  info->options.thresholds = shmi_option_thresholds(info->nranks); /* says what is wrong */
  add_threshold(info, "one-shot-most", t->one_shot_most, "the largest message that a reduction does in one shot");
  add_threshold(info, "reduce-chunk", t->reduce_chunk,
                "the most that a rank stages in one step of a two-shot reduction");
  add_threshold(info, "copy-chunk", t->copy_chunk, "the most that it stages in one step of any other collective");
}

static bool is_valid(const struct info *info) {
  for (int i = 0; i < info->nsettings; i++)
    if (!strcmp(info->settings[i].origin, "invalid")) return false;
  return true;
}

/* ---- together ---------------------------------------------------------------------------------------------------- */

/* As of ranks that are all started from here. */
static bool is_oversubscribed(const struct machine *m, int nranks) {
  const uint32_t usable = (uint32_t)m->cpus_usable;
  return (uint32_t)nranks > (usable < m->quota ? usable : m->quota);
}

static int ranks_of_launcher(struct info *info) {
  const int nranks = atoi(find_setting(info, "SHMCCL_NRANKS")->value);
  return nranks >= 2 && nranks <= SHMCCL_MAX_RANKS ? nranks : DEFAULT_RANKS;
}

void info_gather(struct info *info, int nranks) {
  info->build = gather_build();
  gather_machine(&info->machine);
  gather_folder(&info->folder);
  gather_settings(info);
  gather_launcher(info);
  set_effective(info, "SHMCCL_DEBUG",
                shmi_log_enabled(SHMI_LOG_INFO)   ? "info"
                : shmi_log_enabled(SHMI_LOG_WARN) ? "warn"
                                                  : "none");
  set_effective(info, "SHMCCL_ISA", info->machine.isa);
  read_options(info);
  info->nranks = nranks ? nranks : ranks_of_launcher(info);
  gather_thresholds(info);
  info->oversubscribed = is_oversubscribed(&info->machine, info->nranks);
  info->planned = shmi_segment_plan(&info->plan, info->nranks, &info->options) == SHMCCL_SUCCESS;
  if (info->planned) info_choose(info);
  info->all_well = info->planned && is_valid(info);
}
