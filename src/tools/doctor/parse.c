/* parse.c - line by line, no allocation, no state. */
#include "tools/doctor/parse.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *doctor_next_line(const char *text, char *line, size_t bytes) {
  if (!text || !*text) return NULL;
  const size_t length = strcspn(text, "\n");
  snprintf(line, bytes, "%.*s", (int)length, text);
  line[strcspn(line, "\r")] = 0;
  return text + length + (text[length] == '\n');
}

static void copy(char *to, size_t bytes, const char *from) {
  const size_t length = strnlen(from, bytes - 1);
  memcpy(to, from, length);
  to[length] = 0;
}

/* What follows `word` and a space at the beginning of line; NULL if it begins otherwise. */
static const char *after(const char *line, const char *word) {
  const size_t length = strlen(word);
  return !strncmp(line, word, length) && line[length] == ' ' ? line + length + 1 : NULL;
}

/* ---- versions ---------------------------------------------------------------------------------------------------- */

static unsigned long version_part(const char **text) {
  char *end;
  if (!isdigit((unsigned char)**text)) return *text = "", 0;
  const unsigned long part = strtoul(*text, &end, 10);
  *text = *end == '.' ? end + 1 : "";
  return part;
}

int doctor_compare_versions(const char *a, const char *b) {
  while (*a || *b) {
    const unsigned long part_a = version_part(&a), part_b = version_part(&b);
    if (part_a != part_b) return part_a < part_b ? -1 : 1;
  }
  return 0;
}

/* ---- kernel ------------------------------------------------------------------------------------------------------ */

static bool holds(const char *point, const char *path) {
  const size_t length = strlen(point);
  if (!strcmp(point, "/")) return true;
  return !strncmp(point, path, length) && (path[length] == 0 || path[length] == '/');
}

bool doctor_mount_of(const char *mounts, const char *path, struct doctor_mount *mount) {
  char line[1024], point[512];
  size_t longest = 0;
  while ((mounts = doctor_next_line(mounts, line, sizeof line))) {
    struct doctor_mount m;
    if (sscanf(line, "%127s %511s %31s %255s", m.device, point, m.type, m.options) != 4) continue;
    if (!holds(point, path) || strlen(point) < longest) continue;
    longest = strlen(point);
    *mount = m;
  }
  return longest > 0;
}

static uint64_t scaled(uint64_t number, char unit) {
  switch (tolower((unsigned char)unit)) {
  case 'k': return number << 10;
  case 'm': return number << 20;
  case 'g': return number << 30;
  default: return number;
  }
}

uint64_t doctor_mount_size(const char *options) {
  for (const char *o = options; o; o = strchr(o, ','), o += o != NULL) {
    char *end;
    if (strncmp(o, "size=", 5) || !isdigit((unsigned char)o[5])) continue;
    const uint64_t number = strtoull(o + 5, &end, 10);
    return *end == '%' ? 0 : scaled(number, *end);
  }
  return 0;
}

uint64_t doctor_swap_bytes(const char *swaps) {
  char line[512];
  unsigned long long kilobytes;
  uint64_t sum = 0;
  while ((swaps = doctor_next_line(swaps, line, sizeof line)))
    if (sscanf(line, "/%*s %*s %llu", &kilobytes) == 1) sum += (uint64_t)kilobytes << 10;
  return sum;
}

uint64_t doctor_meminfo(const char *meminfo, const char *name) {
  char line[256];
  const size_t length = strlen(name);
  while ((meminfo = doctor_next_line(meminfo, line, sizeof line)))
    if (!strncmp(line, name, length) && line[length] == ':') return strtoull(line + length + 1, NULL, 10) << 10;
  return 0;
}

bool doctor_memlock(const char *limits, uint64_t *bytes) {
  static const char title[] = "Max locked memory";
  char line[256];
  while ((limits = doctor_next_line(limits, line, sizeof line))) {
    if (strncmp(line, title, sizeof title - 1)) continue;
    const char *value = line + sizeof title - 1;
    value += strspn(value, " ");
    if (!strncmp(value, "unlimited", 9)) return *bytes = UINT64_MAX, true;
    if (!isdigit((unsigned char)*value)) return false;
    return *bytes = strtoull(value, NULL, 10), true;
  }
  return false;
}

bool doctor_df(const char *df, uint64_t *total, uint64_t *free_bytes) {
  char line[512];
  unsigned long long all, used, available;
  while ((df = doctor_next_line(df, line, sizeof line)))
    if (sscanf(line, "%*s %llu %llu %llu", &all, &used, &available) == 3) {
      *total = all, *free_bytes = available;
      return true;
    }
  return false;
}

/* ---- loader ------------------------------------------------------------------------------------------------------ */

/* "	libcuda.so.1 (libc6,x86-64) => /usr/lib/wsl/lib/libcuda.so.1" */
bool doctor_cached_library(const char *cache, const char *name, char *path, size_t bytes) {
  char line[1024];
  const size_t length = strlen(name);
  while ((cache = doctor_next_line(cache, line, sizeof line))) {
    const char *start = line + strspn(line, " \t"), *arrow = strstr(start, " => ");
    if (strncmp(start, name, length) || start[length] != ' ' || !arrow) continue;
    if (sizeof(void *) == 8 && !strstr(start, "64")) continue; /* x86-64, AArch64, ...: not a 32-bit one */
    copy(path, bytes, arrow + 4);
    return true;
  }
  return false;
}

/* ---- NCCL -------------------------------------------------------------------------------------------------------- */

bool doctor_nccl_version(const char *bytes, size_t length, struct doctor_nccl *nccl) {
  static const char title[] = "NCCL version ";
  const char *at = bytes, *const end = bytes + length;
  while (at < end && (at = memmem(at, (size_t)(end - at), title, sizeof title - 1))) {
    char text[64];
    int major, minor, patch = 0, cuda = 0;
    at += sizeof title - 1;
    snprintf(text, sizeof text, "%.*s", (int)(end - at < 63 ? end - at : 63), at);
    if (sscanf(text, "%d.%d.%d+cuda%d", &major, &minor, &patch, &cuda) < 2) continue;
    if (major < 1 || major > 99 || minor < 0 || minor > 99 || patch < 0 || patch > 99) continue;
    nccl->version = major * 10000 + minor * 100 + patch;
    nccl->cuda_major = cuda;
    return true;
  }
  return false;
}

void doctor_net_tables(int nccl_version, int *oldest, int *newest) {
  const int minor = nccl_version / 100;
  *oldest = minor < 226 ? 5 : 6;
  *newest = minor < 220 ? 7 : minor < 224 ? 8 : minor < 226 ? 9 : minor < 228 ? 10 : minor < 230 ? 11 : 12;
}

/* ---- answers ----------------------------------------------------------------------------------------------------- */

static enum doctor_driver_model model_of(const char *word) {
  static const char *const words[] = {"unknown", "wddm", "tcc", "mcdm"};
  for (int i = 0; i < 4; i++)
    if (!strcmp(word, words[i])) return (enum doctor_driver_model)i;
  return DOCTOR_MODEL_UNKNOWN;
}

static void parse_gpu(const char *line, struct doctor_gpus *g) {
  char model[16];
  int index, name = 0;
  unsigned long long bytes;
  if (sscanf(line, "gpu %d %15s %llu %n", &index, model, &bytes, &name) < 3 || !name) return;
  if (g->ngpus == DOCTOR_GPUS_MOST) return;
  g->gpu[g->ngpus].model = model_of(model);
  g->gpu[g->ngpus].memory_bytes = bytes;
  copy(g->gpu[g->ngpus++].name, sizeof g->gpu[0].name, line + name);
}

static void append(char *text, size_t bytes, const char *more, const char *end) {
  const size_t length = strlen(text);
  snprintf(text + length, bytes - length, "%s%s", more, end);
}

static void parse_gpu_line(const char *line, struct doctor_gpus *g) {
  const char *rest;
  int possible;
  unsigned long long bytes;
  if ((rest = after(line, "driver"))) copy(g->driver, sizeof g->driver, rest);
  if (sscanf(line, "peer %*d %*d %d", &possible) == 1) g->peers_asked++, g->peers_possible += possible != 0;
  if (sscanf(line, "pinned %llu", &bytes) == 1) g->pinned_asked = true, g->pinned_bytes = bytes;
  if (sscanf(line, "pinned-error %llu %d", &bytes, &g->pinned_error) == 2)
    g->pinned_asked = true, g->pinned_error_bytes = bytes;
  if ((rest = after(line, "missing"))) append(g->missing, sizeof g->missing, rest, " ");
  if ((rest = after(line, "error"))) append(g->errors, sizeof g->errors, rest, "; ");
  (void)sscanf(line, "cuda-driver %d", &g->cuda_driver);
  (void)sscanf(line, "host-pointer %d", &g->host_pointer);
  parse_gpu(line, g);
}

void doctor_parse_gpus(const char *text, struct doctor_gpus *gpus) {
  char line[512];
  *gpus = (struct doctor_gpus){.host_pointer = -1};
  while ((text = doctor_next_line(text, line, sizeof line))) parse_gpu_line(line, gpus);
}

static void parse_plugin_line(const char *line, struct doctor_plugin *p) {
  const struct {
    const char *word;
    char *to;
    size_t bytes;
  } texts[] = {
      {"glibc", p->glibc, sizeof p->glibc},        {"needs", p->needs, sizeof p->needs},
      {"plugin", p->path, sizeof p->path},         {"beside", p->beside, sizeof p->beside},
      {"plugin-error", p->error, sizeof p->error}, {"nccl-error", p->nccl_error, sizeof p->nccl_error},
  };
  const char *rest;
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
    if ((rest = after(line, texts[i].word))) copy(texts[i].to, texts[i].bytes, rest);
  (void)sscanf(line, "nccl %d", &p->nccl_version);
  if ((rest = after(line, "table")) && p->ntables < DOCTOR_TABLES_MOST)
    copy(p->table[p->ntables++], sizeof p->table[0], rest);
}

void doctor_parse_plugin(const char *text, struct doctor_plugin *plugin) {
  char line[1024];
  *plugin = (struct doctor_plugin){0};
  while ((text = doctor_next_line(text, line, sizeof line))) parse_plugin_line(line, plugin);
}

static void parse_front_line(const char *line, struct doctor_front *f) {
  const char *rest;
  if ((rest = after(line, "front"))) copy(f->path, sizeof f->path, rest);
  if ((rest = after(line, "front-error"))) copy(f->error, sizeof f->error, rest);
  if ((rest = after(line, "real"))) copy(f->real, sizeof f->real, rest);
  (void)sscanf(line, "version %d", &f->version);
}

void doctor_parse_front(const char *text, struct doctor_front *front) {
  char line[1024];
  *front = (struct doctor_front){0};
  while ((text = doctor_next_line(text, line, sizeof line))) parse_front_line(line, front);
}

bool doctor_is_front(const char *path) { return path && strstr(path, "libshmccl-nccl"); }
