/*
 * question_plugin.c - loads NCCL and the plugin as NCCL does, in a child: neither is known to be whole.
 *
 * NCCL opens the name in NCCL_NET_PLUGIN, then libnccl-net-NAME.so, with RTLD_NOW | RTLD_LOCAL, and looks for tables by
 * name. Nothing in them is called here.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <gnu/libc-version.h>
#include <libgen.h>
#include <limits.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/doctor/doctor.h"
#include "tools/doctor/elf.h"

static void load_nccl(FILE *out, const char *path) {
  int (*get_version)(int *), version;
  if (!*path) return;
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    fprintf(out, "nccl-error %s\n", dlerror());
    return;
  }
  *(void **)(void *)&get_version = dlsym(library, "ncclGetVersion");
  if (get_version && !get_version(&version))
    fprintf(out, "nccl %d\n", version);
  else
    fprintf(out, "nccl-error %s has no ncclGetVersion\n", path);
}

static void say_needs(FILE *out, const char *path) {
  struct stat st;
  char version[16];
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  if (!fstat(fd, &st) && st.st_size > 0) {
    void *bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (bytes != MAP_FAILED && doctor_elf_glibc(bytes, (size_t)st.st_size, version, sizeof version) && *version)
      fprintf(out, "needs %s\n", version);
  }
  close(fd);
}

static void say_tables(FILE *out, void *library) {
  static const char *const kinds[] = {"ncclNetPlugin", "ncclCollNetPlugin", "ncclTunerPlugin"};
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
    for (int version = 12; version >= 1; version--) {
      char name[64];
      snprintf(name, sizeof name, "%s_v%d", kinds[i], version);
      if (dlsym(library, name)) fprintf(out, "table %s\n", name);
    }
}

/* ../lib and ../lib/ARCHITECTURE. */
bool doctor_beside(const char *file, char whole[PATH_MAX]) {
  static const char *const folders[] = {"../lib", "../lib/x86_64-linux-gnu", "../lib/aarch64-linux-gnu", "."};
  char self[PATH_MAX], path[2 * PATH_MAX];
  const ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
  if (length < 0) return false;
  self[length] = 0;
  const char *folder = dirname(self);
  for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
    snprintf(path, sizeof path, "%s/%s/%s", folder, folders[i], file);
    if (realpath(path, whole)) return true;
  }
  return false;
}

static void look_beside(FILE *out, const char *file) {
  char whole[PATH_MAX];
  if (!doctor_beside(file, whole)) return;
  fprintf(out, "beside %s\n", whole);
  say_needs(out, whole);
}

static void *open_plugin(const char *name, char *file, size_t bytes, char *error, size_t error_bytes) {
  snprintf(file, bytes, "%s", name);
  void *library = strchr(name, '/') || strstr(name, ".so") ? dlopen(file, RTLD_NOW | RTLD_LOCAL) : NULL;
  if (library) return library;
  if (!strchr(name, '/') && !strstr(name, ".so")) snprintf(file, bytes, "libnccl-net-%s.so", name);
  library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
  if (!library) snprintf(error, error_bytes, "%s", dlerror());
  return library;
}

/* The first name of a list with commas that means ours. */
static const char *wanted_name(char *names) {
  char *rest;
  for (char *name = strtok_r(names, ",", &rest); name; name = strtok_r(NULL, ",", &rest))
    if (strstr(name, "shmccl")) return name;
  return "shmccl";
}

static void load_plugin(FILE *out) {
  char names[PATH_MAX], file[PATH_MAX + 32], error[512] = "";
  struct link_map *map;
  const char *given = getenv("NCCL_NET_PLUGIN");
  snprintf(names, sizeof names, "%s", given ? given : "");
  void *library = open_plugin(wanted_name(names), file, sizeof file, error, sizeof error);
  if (!library) {
    fprintf(out, "plugin-error %s\n", error);
    look_beside(out, strrchr(file, '/') ? strrchr(file, '/') + 1 : file);
    return;
  }
  if (!dlinfo(library, RTLD_DI_LINKMAP, &map)) {
    fprintf(out, "plugin %s\n", map->l_name);
    say_needs(out, map->l_name);
  }
  say_tables(out, library);
}

void doctor_question_plugin(FILE *out, const void *nccl_path) {
  fprintf(out, "glibc %s\n", gnu_get_libc_version());
  load_nccl(out, nccl_path);
  load_plugin(out);
}
