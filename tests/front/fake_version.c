/* fake_version.c - the fake NCCL's version: FAKE_NCCL_VERSION, or 2.30.7. */
#include <stdlib.h>

#include "fake_nccl.h"

nccl_result_t ncclGetVersion(int *version) {
  const char *wanted = getenv("FAKE_NCCL_VERSION");
  FAKE_NOTE(GetVersion, (version));
  return *version = wanted ? atoi(wanted) : 23007, NCCL_SUCCESS;
}
