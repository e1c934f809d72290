/* device.cu - the protocol between a sender and a receiver compiles for a GPU, where no kernel uses it yet. */
#include "coll/pair.h"

__global__ void run_pair(struct shmi_world world, int peer, uint32_t number, uint32_t signature,
                         struct shmi_message_id message, uint32_t *come) {
  if (shmi_pair_has_room(&world, peer, number)) shmi_pair_publish(&world, peer, number, signature, &message);
  if (shmi_pair_has_come(&world, peer, number, come)) shmi_pair_empty(&world, peer, number);
}
