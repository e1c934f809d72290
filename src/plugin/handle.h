/*
 * handle.h - the 128 bytes that a receiver's NCCL carries to a sender's: which link of which arena, on which host.
 *
 * NCCL moves them as they are, so both ends must be the same version of this library; a check sum finds what was
 * damaged on the way. Nothing in them is trusted before it is checked.
 */
#ifndef SHMI_PLUGIN_HANDLE_H
#define SHMI_PLUGIN_HANDLE_H

#include "plugin/nccl_abi.h"
#include "shm/place.h"
#include "shm/segment.h"

struct shmi_handle {
  char magic[8];
  uint32_t version;
  uint32_t check; /* of all other bytes */
  uint8_t arena[SHMI_ID_BYTES];
  uint64_t key;
  struct shmi_place place; /* the listener's */
  uint16_t link;
  uint16_t cuda;  /* 1: the listener takes CUDA pointers */
  uint32_t tuner; /* what the listener's tuner goes by */
};
_Static_assert(sizeof(struct shmi_handle) <= NCCL_NET_HANDLE_BYTES, "handle");

/* Fills NCCL_NET_HANDLE_BYTES bytes. */
shmccl_result_t shmi_handle_make(void *bytes, const uint8_t arena[SHMI_ID_BYTES], int link, uint64_t key);

/* Reads them: damaged, of another version, of another host or another /dev/shm, of another tuner, of one who
 * takes CUDA pointers while this process does not, or the other way round, are errors. */
shmccl_result_t shmi_handle_read(const void *bytes, struct shmi_handle *handle);

#endif
