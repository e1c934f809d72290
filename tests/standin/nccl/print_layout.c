/*
 * print_layout.c - the layouts that the emulation of NCCL's kernels assumes, as lines "struct size" and "struct.field
 * offset" with NCCL's names, for check_layout.sh. Exits with 77 if the NCCL under test is of another version than this
 * is made for.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#include "layout.h"

int main(void) {
  const char *file = getenv("SHMCCL_TEST_NCCL");
  void *library = file ? dlopen(file, RTLD_NOW) : NULL;
  int (*get_version)(int *) = library ? (int (*)(int *))dlsym(library, "ncclGetVersion") : NULL;
  int version = 0;
  if (!get_version || get_version(&version)) return 1;
  if (version / 100 % 100 != NCCL_MINOR) {
    fprintf(stderr, "skipped: made for NCCL 2.%d, and %s has version code %d\n", NCCL_MINOR, file, version);
    return 77;
  }
#define PRINT_FIELD(ours, field, theirs, name, ...) printf("%s.%s %zu\n", #theirs, #name, offsetof(struct ours, field));
#define PRINT_STRUCT(ours, theirs, ...)             printf("%s %zu\n", #theirs, sizeof(struct ours));
  LAYOUT_FIELDS(PRINT_FIELD)
  LAYOUT_STRUCTS(PRINT_STRUCT)
  return 0;
}
