/* error.c - ncclGetLastError() tells the newest error of either side. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "front/real.h"
#include "plugin/plugin.h"

enum { TEXT_BYTES = 1024 };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char newest[TEXT_BYTES]; /* empty: NCCL's is newer */

static void set(const char *text) {
  pthread_mutex_lock(&lock);
  snprintf(newest, sizeof newest, "%s", text);
  pthread_mutex_unlock(&lock);
}

nccl_result_t shmi_front_error(nccl_result_t result, const char *text) { return set(text), result; }

nccl_result_t shmi_front_theirs(nccl_result_t result) {
  if (result != NCCL_SUCCESS && result != NCCL_IN_PROGRESS) set("");
  return result;
}

nccl_result_t shmi_front_engine(shmccl_result_t result) {
  if (result == SHMCCL_SUCCESS) return NCCL_SUCCESS;
  return shmi_front_error(shmi_plugin_result(result), shmccl_last_error());
}

/* The text stays as it is until the thread asks again. */
const char *ncclGetLastError(nccl_comm_t comm) {
  static _Thread_local char text[TEXT_BYTES];
  const struct shmi_nccl *nccl = shmi_nccl_for(SHMI_CALLER());
  pthread_mutex_lock(&lock);
  memcpy(text, newest, sizeof text);
  pthread_mutex_unlock(&lock);
  return *text || !nccl || !nccl->GetLastError ? text : nccl->GetLastError(comm);
}

/* Programs print it when they could not start: it works without an NCCL. */
const char *ncclGetErrorString(nccl_result_t result) {
  static const char *const texts[] = {"no error",
                                      "unhandled cuda error (run with NCCL_DEBUG=INFO for details)",
                                      "unhandled system error (run with NCCL_DEBUG=INFO for details)",
                                      "internal error",
                                      "invalid argument",
                                      "invalid usage",
                                      "remote process exited or there was a network error",
                                      "NCCL operation in progress"};
  const struct shmi_nccl *nccl = shmi_nccl_for(SHMI_CALLER());
  if (nccl && nccl->GetErrorString) return nccl->GetErrorString(result);
  return (unsigned)result < sizeof texts / sizeof *texts ? texts[result] : "unknown result code";
}

SHMI_SECOND_NAME(GetLastError)
SHMI_SECOND_NAME(GetErrorString)
