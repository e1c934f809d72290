/* group.c - ncclGroupStart() and ncclGroupEnd(). */
#include "front/group.h"

#include <stdlib.h>

struct put_off {
  struct shmi_front_comm *comm;
  struct shmi_front_call call;
};

static _Thread_local struct group {
  unsigned depth;
  struct put_off *calls;
  struct shmi_birth *births;
  size_t ncalls, calls_capacity, nbirths, births_capacity;
} group;

bool shmi_group_is_open(void) { return group.depth > 0; }

/* Room for one more. */
static bool grow(void **array, size_t *capacity, size_t count, size_t element) {
  if (count < *capacity) return true;
  const size_t wanted = *capacity ? *capacity * 2 : 16;
  void *larger = realloc(*array, wanted * element);
  if (!larger) return false;
  *array = larger;
  *capacity = wanted;
  return true;
}

/* Without memory for it the communicator is NCCL's alone, as far as this rank goes; the others see that it does not
 * come. */
bool shmi_group_put_birth(const struct shmi_birth *birth) {
  if (!group.depth) return false;
  void *births = group.births;
  if (grow(&births, &group.births_capacity, group.nbirths, sizeof *birth)) {
    group.births = births;
    group.births[group.nbirths++] = *birth;
  } else {
    shmi_front_release(birth->parent);
  }
  return true;
}

nccl_result_t shmi_group_put_call(struct shmi_front_comm *comm, const struct shmi_front_call *call) {
  void *calls = group.calls;
  if (!grow(&calls, &group.calls_capacity, group.ncalls, sizeof *group.calls)) {
    shmi_front_release(comm);
    return shmi_front_engine(shmi_error(SHMCCL_ERROR_NO_MEMORY, "no memory for the calls of a group: %m"));
  }
  group.calls = calls;
  group.calls[group.ncalls++] = (struct put_off){comm, *call};
  return NCCL_SUCCESS;
}

/* All of them, so that the other ranks are not kept waiting for those behind one that fails; the first error. */
static nccl_result_t make_calls(void) {
  nccl_result_t first = NCCL_SUCCESS;
  for (size_t i = 0; i < group.ncalls; i++) {
    const nccl_result_t result = shmi_front_make(group.calls[i].comm, &group.calls[i].call);
    if (first == NCCL_SUCCESS) first = result;
  }
  group.ncalls = 0;
  return first;
}

static void drop_calls(void) {
  for (size_t i = 0; i < group.ncalls; i++) shmi_front_release(group.calls[i].comm);
  group.ncalls = 0;
}

static void drop_births(void) {
  for (size_t i = 0; i < group.nbirths; i++) shmi_front_release(group.births[i].parent);
}

/* A thread may end after any group: nothing is kept for its next one. */
static void clear(void) {
  free(group.calls);
  free(group.births);
  group = (struct group){0};
}

/* ---- NCCL's calls ------------------------------------------------------------------------------------------------ */

nccl_result_t ncclGroupStart(void) {
  const struct shmi_nccl *nccl = shmi_nccl_real();
  const nccl_result_t result = SHMI_NCCL_CALL(nccl, GroupStart, ());
  if (result == NCCL_SUCCESS) group.depth++;
  return result;
}

nccl_result_t ncclGroupEnd(void) {
  const struct shmi_nccl *nccl = shmi_nccl_real();
  if (group.depth > 1) {
    group.depth--;
    return SHMI_NCCL_CALL(nccl, GroupEnd, ());
  }
  const nccl_result_t ours = make_calls();
  const nccl_result_t theirs = SHMI_NCCL_CALL(nccl, GroupEnd, ());
  group.depth = 0;
  shmi_births_end(group.births, group.nbirths, theirs);
  clear();
  return theirs == NCCL_SUCCESS || (theirs == NCCL_IN_PROGRESS && ours != NCCL_SUCCESS) ? ours : theirs;
}

/* The end of a group of which nothing is made. */
nccl_result_t ncclGroupSimulateEnd(void *info) {
  const struct shmi_nccl *nccl = shmi_nccl_real();
  const nccl_result_t result = SHMI_NCCL_CALL(nccl, GroupSimulateEnd, (info));
  if (group.depth > 1) {
    group.depth--;
    return result;
  }
  drop_calls();
  drop_births();
  clear();
  return result;
}

SHMI_SECOND_NAME(GroupStart)
SHMI_SECOND_NAME(GroupEnd)
SHMI_SECOND_NAME(GroupSimulateEnd)
