/*
 * question_front.c - loads the NCCL front as vLLM does, behind PyTorch, which has loaded NCCL; and asks it for NCCL's
 * version: it answers only if it has found an NCCL behind itself. In a child.
 */
#include <dlfcn.h>
#include <link.h>
#include <string.h>

#include "tools/doctor/doctor.h"

static void *open_front(const char *named) {
  char whole[PATH_MAX];
  if (*named) return dlopen(named, RTLD_NOW | RTLD_LOCAL);
  void *library = dlopen("libshmccl-nccl.so", RTLD_NOW | RTLD_LOCAL);
  return library || !doctor_beside("libshmccl-nccl.so", whole) ? library : dlopen(whole, RTLD_NOW | RTLD_LOCAL);
}

static int say_real(struct dl_phdr_info *info, size_t size, void *out) {
  (void)size;
  if (strstr(info->dlpi_name, "libnccl.so")) fprintf(out, "real %s\n", info->dlpi_name);
  return 0;
}

static void ask(FILE *out, void *library) {
  int (*get_version)(int *), version = 0;
  const char *(*get_last_error)(void *);
  *(void **)(void *)&get_version = dlsym(library, "ncclGetVersion");
  *(void **)(void *)&get_last_error = dlsym(library, "ncclGetLastError");
  if (!dlsym(library, "shmccl_nccl_front") || !get_version || !get_last_error)
    fprintf(out, "front-error it is no NCCL front of shmccl\n");
  else if (get_version(&version))
    fprintf(out, "front-error %s\n", get_last_error(NULL));
  else
    fprintf(out, "version %d\n", version), dl_iterate_phdr(say_real, out);
}

void doctor_question_front(FILE *out, const void *question) {
  const struct doctor_front_question *q = question;
  struct link_map *map;
  if (*q->nccl) (void)dlopen(q->nccl, RTLD_NOW | RTLD_LOCAL);
  void *library = open_front(q->front);
  if (!library) {
    fprintf(out, "front-error %s\n", dlerror());
    return;
  }
  if (!dlinfo(library, RTLD_DI_LINKMAP, &map)) fprintf(out, "front %s\n", map->l_name);
  ask(out, library);
}
