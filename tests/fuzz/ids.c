/* ids.c - what other processes send: unique ids, the plugin's handles, the places in them. */
#include <string.h>

#include "fuzz.h"
#include "harness.h"
#include "plugin/handle.h"
#include "plugin/net_layout.h"

const unsigned fuzz_runs = 20000;

enum { KINDS = 3 }; /* the first byte says which */

size_t fuzz_seed(unsigned number, uint8_t to[FUZZ_BYTES_MOST]) {
  const uint8_t arena[SHMI_ID_BYTES] = {1, 2, 3};
  shmccl_unique_id_t id;
  struct shmi_place place;
  setenv("SHMCCL_DEBUG", "none", 1);
  to[0] = (uint8_t)number;
  switch (number) {
  case 0:
    CHECK_OK(shmccl_get_unique_id(&id));
    memcpy(to + 1, &id, sizeof id);
    return 1 + sizeof id;
  case 1: CHECK_OK(shmi_handle_make(to + 1, arena, 5, 6)); return 1 + NCCL_NET_HANDLE_BYTES;
  case 2:
    CHECK_OK(shmi_place_find(&place));
    memcpy(to + 1, &place, sizeof place);
    return 1 + sizeof place;
  default: return 0;
  }
}

/* A communicator of one rank reads the id like any other. */
static void use_id(const shmccl_unique_id_t *id) {
  shmccl_comm_t *comm;
  if (shmccl_comm_init_rank(&comm, 1, id, 0, NULL) == SHMCCL_SUCCESS) shmccl_comm_destroy(comm);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  shmccl_unique_id_t id;
  uint8_t bytes[NCCL_NET_HANDLE_BYTES];
  struct shmi_handle handle;
  struct shmi_place place;
  if (size == 1 + sizeof id && data[0] % KINDS == 0) use_id(memcpy(&id, data + 1, sizeof id));
  if (size == 1 + sizeof bytes && data[0] % KINDS == 1 &&
      shmi_handle_read(memcpy(bytes, data + 1, sizeof bytes), &handle) == SHMCCL_SUCCESS)
    CHECK(handle.link < SHMI_NET_LINKS);
  if (size == 1 + sizeof place && data[0] % KINDS == 2)
    shmi_place_check(memcpy(&place, data + 1, sizeof place), "the peer", "");
  return 0;
}
