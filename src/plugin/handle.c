/* handle.c - makes and checks handles. */
#include "plugin/handle.h"

#include <string.h>

#include "base/log.h"
#include "plugin/gdr.h"
#include "plugin/net_layout.h"
#include "plugin/tuner.h"

static const char magic[8] = "shmccln";

/* FNV-1a: finds damage, not malice. */
static uint32_t check_of(struct shmi_handle h) {
  uint32_t hash = 0x811c9dc5;
  h.check = 0;
  for (size_t i = 0; i < sizeof h; i++) hash = (hash ^ ((const uint8_t *)&h)[i]) * 0x01000193;
  return hash;
}

shmccl_result_t shmi_handle_make(void *bytes, const uint8_t arena[SHMI_ID_BYTES], int link, uint64_t key) {
  struct shmi_handle h = {.version = SHMI_NET_VERSION,
                          .key = key,
                          .link = (uint16_t)link,
                          .cuda = (uint16_t)shmi_gdr_offered(),
                          .tuner = shmi_tuner_model()};
  memcpy(h.magic, magic, sizeof magic);
  memcpy(h.arena, arena, SHMI_ID_BYTES);
  SHMI_RETURN_IF_ERROR(shmi_place_find(&h.place));
  h.check = check_of(h);
  memset(bytes, 0, NCCL_NET_HANDLE_BYTES);
  memcpy(bytes, &h, sizeof h);
  return SHMCCL_SUCCESS;
}

/* Ranks that choose algorithms by different costs, or some by NCCL's own, hang sooner or later. */
static shmccl_result_t check_tuner(const struct shmi_handle *h) {
  const uint32_t mine = shmi_tuner_model();
  const char *theirs = !h->tuner ? "off" : mine ? "another version's" : "on";
  if (h->tuner == mine) return SHMCCL_SUCCESS;
  return shmi_error(SHMCCL_ERROR_INVALID_USAGE,
                    "cannot connect: the tuner is %s in the peer (pid %u) and %s here: give all ranks the same "
                    "SHMCCL_TUNER and libnccl-net-shmccl.so",
                    theirs, h->place.pid, mine ? "on" : "off");
}

/* NCCL's buffers, protocols and registered buffers follow from it, and NCCL does not compare it. */
static shmccl_result_t check_cuda(const struct shmi_handle *h) {
  if (h->cuda == shmi_gdr_offered()) return SHMCCL_SUCCESS;
  return shmi_error(SHMCCL_ERROR_INVALID_USAGE,
                    "cannot connect: %s takes CUDA pointers and %s does not: give all ranks the same SHMCCL_NET_GDR; "
                    "the log of a rank that was given 1 and cannot says why",
                    h->cuda ? "the peer" : "this process", h->cuda ? "this process" : "the peer");
}

shmccl_result_t shmi_handle_read(const void *bytes, struct shmi_handle *out) {
  struct shmi_handle h;
  memcpy(&h, bytes, sizeof h);
  if (memcmp(h.magic, magic, sizeof magic))
    return shmi_error(SHMCCL_ERROR_INVALID_ARGUMENT, "cannot connect: these 128 bytes are no handle of shmccl: all "
                                                     "ranks must use the same NCCL_NET_PLUGIN");
  if (h.version != SHMI_NET_VERSION)
    return shmi_error(SHMCCL_ERROR_INVALID_USAGE,
                      "cannot connect: the peer's handle has version %u, this library makes %u: all ranks must load "
                      "the same libnccl-net-shmccl.so",
                      h.version, (unsigned)SHMI_NET_VERSION);
  if (h.check != check_of(h) || h.link >= SHMI_NET_LINKS)
    return shmi_error(SHMCCL_ERROR_INVALID_ARGUMENT, "cannot connect: the peer's handle was damaged on its way");
  SHMI_RETURN_IF_ERROR(shmi_place_check(&h.place, "the peer", SHMI_ONE_HOST_ONLY));
  SHMI_RETURN_IF_ERROR(check_tuner(&h));
  SHMI_RETURN_IF_ERROR(check_cuda(&h));
  *out = h;
  return SHMCCL_SUCCESS;
}
