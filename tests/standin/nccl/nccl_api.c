/* nccl_api.c - see nccl_api.h. */
#include "nccl_api.h"

#include <dlfcn.h>
#include <string.h>

#include "harness.h"

struct nccl_api nccl;

static void look_up(void *library, const char *name, void *pointer) {
  void *function = dlsym(library, name);
  CHECK_TEXT(function, "%s is missing", name);
  memcpy(pointer, &function, sizeof function);
}

void nccl_load(const char *file) {
  void *library = dlopen(file, RTLD_NOW);
  CHECK_TEXT(library, "%s", dlerror());
#define X(name, ...) look_up(library, "nccl" #name, &nccl.name);
  NCCL_FUNCTIONS(X)
#undef X
  look_up(library, "ncclGetErrorString", &nccl.GetErrorString);
  look_up(library, "ncclGetLastError", &nccl.GetLastError);
}
