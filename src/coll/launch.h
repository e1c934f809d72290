/*
 * launch.h - what a kernel of device code is given, what it leaves behind, and what its blocks share: the types that
 * host and device have in common.
 */
#ifndef SHMI_LAUNCH_H
#define SHMI_LAUNCH_H

#include "coll/plan.h"

/* What the host hands to a kernel. All addresses are the device's. */
struct shmi_launch {
  struct shmi_world world;           /* channel 0 */
  struct shmi_call call;             /* the whole */
  struct shmi_channel_state *states; /* of each channel; in device memory */
  const uint32_t *leave;             /* not 0: the host wants kernels to end */
  uint64_t *status;                  /* shmi_status() of a kernel that failed; in pinned memory of this process */
  uint64_t patience_ns;              /* of one wait */
  uint32_t trap;                     /* leave with a device error: nobody will look at status before the result */
  uint32_t number;                   /* of the call, for status */
};

/* What a channel has behind it. */
struct shmi_channel_state {
  uint64_t step;    /* published so far; words and flags carry the lower half */
  uint64_t renewed; /* the step in which the packets last got new flags (packet.h) */
};

enum shmi_device_error {
  SHMI_DEVICE_TOLD = 1, /* to leave, by the host */
  SHMI_DEVICE_LATE,     /* the peer did not come */
  SHMI_DEVICE_MISMATCH, /* the peer made another call */
  SHMI_DEVICE_MESSAGE   /* ... sent another message: shmi_pair_in says which was awaited, shmi_pair_out which came */
};

/* Why a kernel left, the peer that it is about, and its number, in one word. */
SHMI_FN uint64_t shmi_status(uint32_t error, int peer, uint32_t number) {
  return (uint64_t)number << 32 | (uint32_t)peer << 8 | error;
}
SHMI_FN uint32_t shmi_status_error(uint64_t status) { return (uint32_t)status & 0xff; }
SHMI_FN int shmi_status_peer(uint64_t status) { return (int)((uint32_t)status >> 8); }
SHMI_FN uint32_t shmi_status_number(uint64_t status) { return (uint32_t)(status >> 32); }

enum { SHMI_LOOKS_PER_CHECK = 64, SHMI_RENEW_EVERY = 1 << 30 }; /* the latter in steps */
enum { SHMI_LAST_LOOKS = 1 };                                   /* a deadline: told to leave, after once more */

/* ---- groups of messages (messages.h) ------------------------------------------------------------------------- */

enum { SHMI_GROUP_MOST = 256, SHMI_LANES_MOST = 2 * (SHMCCL_MAX_RANKS - 1) };

/* One message of a group. */
struct shmi_posted {
  uint8_t *buffer; /* only read by a send */
  uint64_t count;
  uint32_t signature;         /* equal on both sides */
  uint16_t datatype, element; /* the latter: its bytes */
};

/* The messages of a group to one peer, or from one: what a block works through, in their order. */
struct shmi_lane {
  uint16_t peer, is_send, first, messages;
};

/* Pieces of messages sent and received so far, per peer; numbers on the circle. */
struct shmi_pieces {
  uint32_t sent[SHMCCL_MAX_RANKS], received[SHMCCL_MAX_RANKS];
};

/* What the host hands to the kernel that runs a group: the only argument. */
struct shmi_group {
  struct shmi_launch launch;  /* its world is that of the pairs; its call moves bytes and is nothing else */
  struct shmi_pieces *pieces; /* in device memory */
  uint32_t nlanes;
  struct shmi_lane lanes[SHMI_LANES_MOST];
  struct shmi_posted messages[SHMI_GROUP_MOST]; /* lane by lane */
};

/* ---- what kernels do for copy engines (meeting.h) -------------------------------------------------------------- */

/* The end of a turn: says that this rank is done with it, and waits until all are. */
struct shmi_meeting {
  struct shmi_launch launch; /* its world is that of copy engines */
  uint32_t step;
  uint32_t *moved; /* not NULL: where a helper thread looks, which publishes the step in turn; in pinned memory */
};

/* A reduction of what lies in device memory: to = the own operand and those in the scratch. */
struct shmi_sum {
  struct shmi_launch launch; /* its world's staging is the scratch, a lane for each rank */
  uint8_t *to;
  const uint8_t *own;
  uint64_t count;
};

/* A channel's share of a launch, for all threads of its block. Of a lane: its number of pieces is `step`. */
struct shmi_share {
  struct shmi_world world;
  struct shmi_call call;
  uint64_t step;
  int renew;
};

#endif
