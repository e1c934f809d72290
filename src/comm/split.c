/*
 * split.c - a communicator into several.
 *
 * Every rank tells all others its color, its key and a random id; the ranks of one color take the id of their first
 * one. So the new name is as hard to guess as any, and nothing has to be derived from the parent.
 */
#include <stdio.h>
#include <string.h>

#include "comm/device.h"

struct wish {
  int32_t color, key;
  uint8_t id[SHMI_ID_BYTES];
};

static bool comes_before(const struct wish *wishes, int a, int b) {
  return wishes[a].key != wishes[b].key ? wishes[a].key < wishes[b].key : a < b;
}

/* Rank and size of `me` among those of its color; *first is the parent rank that becomes rank 0. */
static void place(const struct wish *wishes, int nranks, int me, int *rank, int *size, int *first) {
  *rank = *size = 0;
  *first = me;
  for (int r = 0; r < nranks; r++) {
    if (wishes[r].color != wishes[me].color) continue;
    ++*size;
    *rank += comes_before(wishes, r, me);
    if (comes_before(wishes, r, *first)) *first = r;
  }
}

static uint64_t family_of(const struct wish *wishes, int nranks, int color) {
  uint64_t family = 0;
  for (int r = 0; r < nranks; r++) family |= (uint64_t)(wishes[r].color == color) << r;
  return family;
}

/* The ranks of the parent that become one part, a bit each. They are known to be there, unlike those of an id. */
struct family {
  shmccl_comm_t *parent;
  uint64_t ranks;
};

/* The parent's error and the death of one of them end the wait for the others. No culprit: ranks have other numbers in
 * the part. */
static shmccl_result_t look_at_parent(const void *context, int *culprit) {
  const struct family *family = context;
  char message[128];
  *culprit = -1;
  SHMI_RETURN_IF_ERROR(shmi_abort_look(family->parent));
  for (int peer = 0; peer < family->parent->nranks; peer++) {
    if (!(family->ranks >> peer & 1) || !shmi_comm_has_died(family->parent, peer)) continue;
    snprintf(message, sizeof message, "rank %d: rank %d died while this rank waited for it in split",
             family->parent->rank, peer);
    return shmi_abort_raise(family->parent, SHMCCL_ERROR_PEER_DIED, peer, message);
  }
  return SHMCCL_SUCCESS;
}

/* The others wait for this rank: what keeps it from coming puts the parent into error, where they see it. Not so what
 * all ranks of the part see anyway. */
static shmccl_result_t create_part(shmccl_comm_t **out, int nranks, const uint8_t id[SHMI_ID_BYTES], int rank,
                                   const shmi_options_t *options, const struct family *family) {
  const struct shmi_watch watch = {look_at_parent, family};
  const shmccl_comm_t *parent = family->parent;
  const int device = parent->device ? shmi_gpu_device(parent->device->gpu) : SHMI_GPU_CURRENT;
  shmccl_result_t result = shmi_comm_create_watched(out, nranks, id, rank, options, &watch, device);
  if (result == SHMCCL_SUCCESS || result == SHMCCL_ERROR_PEER_DIED || result == SHMCCL_ERROR_TIMEOUT ||
      result == SHMCCL_ERROR_MISMATCH)
    return result;
  return shmi_abort_raise(family->parent, result, family->parent->rank, NULL);
}

shmccl_result_t shmccl_comm_split(shmccl_comm_t *comm, int color, int key, shmccl_comm_t **newcomm,
                                  const shmccl_config_t *config) {
  struct wish wishes[SHMCCL_MAX_RANKS], mine = {.color = color, .key = key};
  shmi_options_t options;
  int rank, size, first;
  SHMI_RETURN_IF_ERROR(shmi_check_usable(comm, "split", NULL));
  if (!newcomm)
    return shmi_error(SHMCCL_ERROR_INVALID_ARGUMENT, "split: newcomm is NULL: pass where to store the communicator");
  if (color < 0 && color != SHMCCL_SPLIT_NOCOLOR)
    return shmi_error(SHMCCL_ERROR_INVALID_ARGUMENT, "split: color is %d: give 0 or more, or SHMCCL_SPLIT_NOCOLOR",
                      color);
  options = comm->options;
  if (config) SHMI_RETURN_IF_ERROR(shmi_options_read(config, &options));
  SHMI_RETURN_IF_ERROR(shmi_random_id(mine.id));
  SHMI_RETURN_IF_ERROR(shmi_split_exchange(&mine, wishes, sizeof mine, comm));
  if (color == SHMCCL_SPLIT_NOCOLOR) return *newcomm = NULL, SHMCCL_SUCCESS;
  place(wishes, comm->nranks, comm->rank, &rank, &size, &first);
  const struct family family = {comm, family_of(wishes, comm->nranks, color)};
  return create_part(newcomm, size, wishes[first].id, rank, &options, &family);
}
