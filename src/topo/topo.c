/* topo.c - hwloc and /proc, behind six questions. */
#include "topo/topo.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "topo/hwloc.h"

/* ---- CPUs ------------------------------------------------------------------------------------------------------- */

int shmi_topo_affinity(uint8_t *mask, size_t bytes) {
  unsigned char set[1024] = {0}; /* 8192 CPUs: the kernel refuses a mask shorter than its own */
  int count = 0;
  memset(mask, 0, bytes);
  if (syscall(SYS_sched_getaffinity, 0, sizeof set, set) < 0) return 0;
  memcpy(mask, set, bytes < sizeof set ? bytes : sizeof set);
  for (size_t i = 0; i < sizeof set; i++) count += __builtin_popcount(set[i]);
  return count;
}

static int read_text(const char *root, const char *path, char *text, int bytes) {
  char full[4096];
  snprintf(full, sizeof full, "%s%s", root, path);
  FILE *f = fopen(full, "re");
  if (!f) return 0;
  size_t length = fread(text, 1, (size_t)bytes - 1, f);
  text[length] = 0;
  fclose(f);
  return length > 0;
}

static uint32_t cpus_worth(long long quota, long long period) {
  if (quota <= 0 || period <= 0) return UINT32_MAX;
  return (uint32_t)((quota + period - 1) / period);
}

/* Inside a container the cgroup's own files are mounted at the top; outside, the path in /proc/self/cgroup names it. */
static uint32_t quota_at(const char *root, const char *group) {
  char path[1024], text[128], period_text[128];
  long long quota, period;
  snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", group);
  if (read_text(root, path, text, sizeof text))
    return sscanf(text, "%lld %lld", &quota, &period) == 2 ? cpus_worth(quota, period) : UINT32_MAX;
  snprintf(path, sizeof path, "/sys/fs/cgroup/cpu%s/cpu.cfs_quota_us", group);
  if (!read_text(root, path, text, sizeof text)) return UINT32_MAX;
  snprintf(path, sizeof path, "/sys/fs/cgroup/cpu%s/cpu.cfs_period_us", group);
  if (!read_text(root, path, period_text, sizeof period_text)) return UINT32_MAX;
  return cpus_worth(strtoll(text, NULL, 10), strtoll(period_text, NULL, 10));
}

/* Whether "cpu" is in a list of controllers with commas between them; version 2 has an empty one. */
static int governs_cpu(const char *list) {
  if (!*list) return 1;
  for (const char *c = list; c; c = strchr(c, ','), c += c != NULL)
    if (!strncmp(c, "cpu", 3) && (c[3] == 0 || c[3] == ',')) return 1;
  return 0;
}

/* The group of a line of /proc/self/cgroup that governs CPU time: v2 "0::/path", v1 "4:cpu,cpuacct:/path". */
static int group_of(char *line, char *group, size_t bytes) {
  char *controllers = strchr(line, ':'), *path = controllers ? strchr(controllers + 1, ':') : NULL;
  if (!path) return 0;
  *path = 0;
  if (!governs_cpu(controllers + 1)) return 0;
  snprintf(group, bytes, "%s", path + 1);
  return 1;
}

uint32_t shmi_topo_quota(const char *root) {
  char text[4096], group[900];
  uint32_t least = quota_at(root, "");
  if (!read_text(root, "/proc/self/cgroup", text, sizeof text)) return least;
  char *rest;
  for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
    if (!group_of(line, group, sizeof group)) continue;
    for (char *slash; (slash = strrchr(group, '/')) && group[1]; *slash = 0) { /* every ancestor limits too */
      uint32_t quota = quota_at(root, group);
      if (quota < least) least = quota;
    }
  }
  return least;
}

int shmi_topo_node(void) {
  unsigned cpu, node;
  return syscall(SYS_getcpu, &cpu, &node, NULL) ? -1 : (int)node;
}

/* From sysfs, not from sysconf(): in virtual machines the C library multiplies CPUID's answers to ten times the truth.
 */
struct shmi_caches shmi_topo_caches(void) {
  struct shmi_caches caches = {.second = 1 << 20, .last = 8 << 20};
  for (int index = 0; index < 10; index++) { /* levels in rising order */
    char path[96], text[32], unit = 0;
    unsigned long size;
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", index);
    if (!read_text("", path, text, sizeof text) || sscanf(text, "%lu%c", &size, &unit) != 2) break;
    caches.last = unit == 'M' ? size << 20 : size << 10;
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/level", index);
    if (read_text("", path, text, sizeof text) && text[0] == '2') caches.second = caches.last;
  }
  return caches;
}

int shmi_topo_is_wsl2(void) {
  char text[256];
  return read_text("", "/proc/sys/kernel/osrelease", text, sizeof text) &&
         (strstr(text, "microsoft") || strstr(text, "Microsoft"));
}

/* ---- placement ----------------------------------------------------------------------------------------------------
 */

/* The object of that type with that OS index; NULL if there is none, or no hwloc. */
static hwloc_obj_t find_object(hwloc_obj_type_t type, int os_index) {
  const struct shmi_hwloc *h = shmi_hwloc();
  if (!h || os_index < 0) return NULL;
  const int depth = h->get_type_depth(h->topology, type);
  hwloc_obj_t object = h->get_obj_by_depth(h->topology, depth, 0);
  while (object && object->os_index != (unsigned)os_index) object = object->next_cousin;
  return object;
}

int shmi_topo_place(void *address, size_t bytes, int node) {
  const struct shmi_hwloc *h = shmi_hwloc();
  hwloc_obj_t object = find_object(HWLOC_OBJ_NUMANODE, node);
  if (!object || h->get_nbobjs_by_depth(h->topology, object->depth) < 2) return -1;
  return h->set_area_membind(h->topology, address, bytes, object->nodeset, HWLOC_MEMBIND_BIND, HWLOC_MEMBIND_BYNODESET);
}

/* ---- helper threads --------------------------------------------------------------------------------------------- */

static int has_bit(const uint8_t *mask, size_t bytes, int cpu) {
  return cpu >= 0 && (size_t)cpu / 8 < bytes && mask[cpu / 8] >> (cpu % 8) & 1;
}

static hwloc_obj_t core_of(int cpu) {
  hwloc_obj_t object = find_object(HWLOC_OBJ_PU, cpu);
  while (object && object->type != HWLOC_OBJ_CORE) object = object->parent;
  return object;
}

static int node_has(int node, int cpu) {
  hwloc_obj_t object = find_object(HWLOC_OBJ_NUMANODE, node);
  return !object || !object->cpuset || shmi_hwloc()->bitmap_isset(object->cpuset, (unsigned)cpu);
}

static int same_core(int a, int b) {
  hwloc_obj_t core = core_of(a);
  return a == b || (core && core == core_of(b));
}

static int shares_core(int cpu, const int *others, int n) {
  for (int i = 0; i < n; i++)
    if (same_core(cpu, others[i])) return 1;
  return 0;
}

static int is_among(int cpu, const int *others, int n) {
  for (int i = 0; i < n; i++)
    if (others[i] == cpu) return 1;
  return 0;
}

int shmi_topo_helpers(int *cpus, int wanted, const int *busy, int nbusy, int node) {
  uint8_t mask[1024];
  int allowed = shmi_topo_affinity(mask, sizeof mask), n = 0;
  uint32_t quota = shmi_topo_quota("");
  if (quota < (uint32_t)allowed) allowed = (int)quota;
  if (wanted > allowed - nbusy) wanted = allowed - nbusy;
  /* Best first: own core on the node, own core anywhere, second thread of a core. */
  for (int pass = 0; pass < 3; pass++)
    for (int cpu = 0; cpu < 8 * (int)sizeof mask && n < wanted; cpu++) {
      if (!has_bit(mask, sizeof mask, cpu) || is_among(cpu, busy, nbusy) || is_among(cpu, cpus, n)) continue;
      if (pass < 2 && (shares_core(cpu, busy, nbusy) || shares_core(cpu, cpus, n))) continue;
      if (pass < 1 && !node_has(node, cpu)) continue;
      cpus[n++] = cpu;
    }
  return n;
}
