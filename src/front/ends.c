/* ends.c - errors and ends of communicators: the truth about both sides, ours before NCCL's. */
#include <stdio.h>

#include "front/births.h"
#include "plugin/plugin.h"

/* An error of the engine that nobody has reported yet. */
static nccl_result_t engine_state(struct shmi_front_comm *comm) {
  shmccl_result_t state = SHMCCL_SUCCESS;
  shmccl_comm_t *engine = shmi_front_engine_of(comm);
  char text[160];
  if (!engine || shmccl_comm_get_async_error(engine, &state) != SHMCCL_SUCCESS || state == SHMCCL_SUCCESS)
    return NCCL_SUCCESS;
  snprintf(text, sizeof text, "shmccl, rank %d of %d: %s (its log says more)", comm->rank, comm->nranks,
           shmccl_error_string(state));
  return shmi_front_error(shmi_plugin_result(state), text);
}

/* NCCL's state of it, and if that is well the front's. */
static void add_own_state(struct shmi_front_comm *comm, nccl_result_t *state) {
  if (*state == NCCL_SUCCESS) shmi_births_of(comm);
  if (*state == NCCL_SUCCESS && !shmi_birth_is_over(comm)) *state = NCCL_IN_PROGRESS;
  if (*state != NCCL_SUCCESS && *state != NCCL_IN_PROGRESS) return;
  const nccl_result_t own = engine_state(comm);
  if (own != NCCL_SUCCESS) *state = own;
}

/* NCCL itself asks it, too, and then means its own state only. */
nccl_result_t ncclCommGetAsyncError(nccl_comm_t handle, nccl_result_t *state) {
  const void *caller = SHMI_CALLER();
  const struct shmi_nccl *nccl = shmi_nccl_for(caller);
  const nccl_result_t result = SHMI_NCCL_CALL(nccl, CommGetAsyncError, (handle, state));
  struct shmi_front_comm *comm = result == NCCL_SUCCESS && !shmi_nccl_calls(caller) ? shmi_front_hold(handle) : NULL;
  if (comm) add_own_state(comm, state);
  shmi_front_release(comm);
  return result;
}

nccl_result_t ncclCommAbort(nccl_comm_t handle) {
  const struct shmi_nccl *nccl = shmi_nccl_real();
  struct shmi_front_comm *comm = shmi_front_leave(handle);
  if (comm) shmi_front_abort_last(comm);
  const nccl_result_t result = SHMI_NCCL_CALL(nccl, CommAbort, (handle));
  shmi_front_release(comm);
  return result;
}

/* Our kernels of this rank may still be under way: the engine's destroy takes that into account, as NCCL's does. */
nccl_result_t ncclCommDestroy(nccl_comm_t handle) {
  const struct shmi_nccl *nccl = shmi_nccl_real();
  shmi_front_release(shmi_front_leave(handle));
  return SHMI_NCCL_CALL(nccl, CommDestroy, (handle));
}

nccl_result_t ncclCommFinalize(nccl_comm_t handle) {
  const struct shmi_nccl *nccl = shmi_nccl_real();
  struct shmi_front_comm *comm = shmi_front_hold(handle);
  if (comm) shmi_front_finalize(comm);
  shmi_front_release(comm);
  return SHMI_NCCL_CALL(nccl, CommFinalize, (handle));
}

nccl_result_t ncclCommRevoke(nccl_comm_t handle, int flags) {
  const struct shmi_nccl *nccl = shmi_nccl_real();
  struct shmi_front_comm *comm = shmi_front_hold(handle);
  if (comm) shmi_front_abort(comm);
  shmi_front_release(comm);
  return SHMI_NCCL_CALL(nccl, CommRevoke, (handle, flags));
}

static void suspend(nccl_comm_t handle, bool suspended) {
  struct shmi_front_comm *comm = shmi_front_hold(handle);
  if (comm) shmi_front_suspend(comm, suspended);
  shmi_front_release(comm);
}

nccl_result_t ncclCommSuspend(nccl_comm_t handle, int flags) {
  const struct shmi_nccl *nccl = shmi_nccl_real();
  const nccl_result_t result = SHMI_NCCL_CALL(nccl, CommSuspend, (handle, flags));
  if (result == NCCL_SUCCESS || result == NCCL_IN_PROGRESS) suspend(handle, true);
  return result;
}

nccl_result_t ncclCommResume(nccl_comm_t handle) {
  const struct shmi_nccl *nccl = shmi_nccl_real();
  const nccl_result_t result = SHMI_NCCL_CALL(nccl, CommResume, (handle));
  if (result == NCCL_SUCCESS || result == NCCL_IN_PROGRESS) suspend(handle, false);
  return result;
}

SHMI_SECOND_NAME(CommGetAsyncError)
SHMI_SECOND_NAME(CommAbort)
SHMI_SECOND_NAME(CommDestroy)
SHMI_SECOND_NAME(CommFinalize)
SHMI_SECOND_NAME(CommRevoke)
SHMI_SECOND_NAME(CommSuspend)
SHMI_SECOND_NAME(CommResume)
