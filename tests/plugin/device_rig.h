/*
 * device_rig.h - the plugin on the stand-in CUDA runtime, under NCCL's pattern on device pointers: while a kernel
 * spins on the same GPU, messages of host and device memory, eight in flight, every byte and what is around it checked.
 */
#ifndef DEVICE_RIG_H
#define DEVICE_RIG_H

#include "collnet_rig.h"
#include "standin/support.h"

enum { SLOTS = 8 };

/* A kernel on a stream of the calling thread's device that ends when told, as NCCL's do: nothing of the plugin may wait
 * for it. */
struct spin {
  cudaStream_t stream;
  int leave;
};
void spin_start(struct spin *spin);
void spin_end(struct spin *spin);

/* One end of a connection, with a slot for each message in flight in either memory. */
struct end {
  const nccl_net_v12_t *net;
  void *comm;
  bool sends;
  struct memory {
    uint8_t *data;
    void *mhandle;
    bool is_on_device;
  } memories[2];
  size_t slot_bytes, count; /* messages in all */
  struct harness_random random;
  size_t begun, done;
  struct message {
    void *request;
    size_t bytes;
    uint8_t *data;
  } messages[SLOTS];
};

/* Both ends take the same seed: sizes follow from it. */
void end_open(struct end *e, const nccl_net_v12_t *net, void *comm, bool sends, size_t slot_bytes, size_t count,
              uint64_t seed);
/* Begins and tests what can be; the first error. */
nccl_result_t end_step(struct end *e);
bool end_is_done(const struct end *e);
/* Deregisters, unless it has failed; closes; frees. */
void end_close(struct end *e, bool has_failed);

/* Connects the calling rank to the other one of two, in both directions, by an exchange for each. */
void *rig_send_comm(const nccl_net_v12_t *net, void *context, struct rig_exchange *exchange);
void *rig_listen_comm(const nccl_net_v12_t *net, void *context, struct rig_exchange *exchange);
void *rig_recv_comm(const nccl_net_v12_t *net, void *listener);

#endif
