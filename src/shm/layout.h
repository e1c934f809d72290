/*
 * layout.h - what lies where in a communicator's segment. Shared by all ranks and CUDA kernels.
 *
 *   header | control of rank 0 | ... | staging of rank 0 | ... | device pairs of rank 0 | ...
 *   | channel 0 | channel 1 | ... | engine slots of rank 0 | ...
 *
 * control of a rank, 128-byte lines that this rank alone writes:
 *   member      who it is: written at attach, `state` last
 *   cpus        the CPUs that it may use, a bit each (those from 1024 on are not counted)
 *   abort       why it gave up: `cause` last
 *   step[2]     word of the newest step of either parity, and up to SHMI_INLINE_BYTES of payload beside it
 *   beacon      a line that is written now and then, for peers to time their reading of it (comm/distance.c)
 *   counts      how many collectives it has entered, for ranks that wait in vain
 *   channel[c]  as step, for channel c
 *   engine[2]   as step, for calls by copy engines
 *   pair_out[n] for each peer: the words of the message slots toward it
 *   pair_in[n]  for each peer: how many of its message slots this rank has emptied
 *   then both once more, for messages of device memory
 * staging of a rank, bytes that this rank alone writes, allocated at their first use:
 *   slot[2]     of slot_bytes: n lanes of lane_bytes each (lane d: what rank d reads, where it is not for all)
 *   pair lanes  for each peer pair_places of pair_bytes, of which SHMI_PAIR_SLOTS are in use at a time
 * device pairs of a rank: for each peer SHMI_PAIR_SLOTS of device_pair_bytes
 * channel: for each rank, bytes that this rank alone writes,
 *   slot[2]     of channel_slot_bytes, as above
 *   packets[2]  of packet_bytes: data with their flags beside them (coll/packet.h)
 * engine slots of a rank, bytes that this rank alone writes,
 *   slot[2]     of engine_slot_bytes: n + 1 lanes of engine_lane_bytes (lane n: what this rank's CPU reads itself)
 *
 * A channel is what one CUDA block works through: words, slots and a step number of its own, so that blocks of a kernel
 * need not meet. Host memory has one, with lines and staging of its own. Channels lie one behind the other so that a
 * beginning of the device's part can be registered where there is not enough pinned memory for all.
 *
 * The header is written before the file gets its name and is constant from then on. Offsets only: every process maps
 * the segment somewhere else. Whatever is read here is checked before use (shmi_layout_check).
 */
#ifndef SHMI_LAYOUT_H
#define SHMI_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#include "base/options.h"
#include "base/ordering.h"

#define SHMI_MAGIC 0x6c63636d6873ull /* "shmccl" */
/* tests/crash builds a library of other versions. */
#ifndef SHMI_LAYOUT_VERSION
#define SHMI_LAYOUT_VERSION 4u
#endif
#ifndef SHMI_LIBRARY_VERSION
#define SHMI_LIBRARY_VERSION SHMCCL_VERSION_CODE
#endif
#define SHMI_LINE          128
#define SHMI_STEP_BYTES    512
#define SHMI_PAGE          4096
#define SHMI_INLINE_BYTES  (SHMI_STEP_BYTES - 16)
#define SHMI_PAIR_SLOTS    4
#define SHMI_CHANNELS_MOST 8

struct shmi_header {
  uint64_t magic;
  uint32_t layout_version;
  uint32_t nranks;
  uint64_t total_bytes;
  uint64_t library_version; /* up to here the same in all versions */
  uint64_t control_offset, control_stride;
  uint64_t staging_offset, staging_stride;
  uint64_t slot_bytes, lane_bytes;
  uint64_t pair_bytes, pair_places;
  uint64_t device_offset, channel_stride;              /* the latter: of a rank in a channel */
  uint64_t channels, channel_slot_bytes, packet_bytes; /* 0 channels: no room for device memory */
  uint64_t device_pair_bytes;
  uint64_t engine_offset, engine_slot_bytes, engine_lane_bytes; /* 0 bytes: no room for copy engines */
  uint64_t window_bytes;  /* of a slot: what the data of successive steps wanders through */
  uint64_t budget_bytes;  /* what the sizes above were made from */
  shmi_options_t options; /* rank 0's; the others compare theirs */
  uint8_t id[16];         /* the communicator's: the file may have been given another's name */
};

/* The end of the header's page, in all versions: 0, or what a rank of another version wrote as it left. */
enum { SHMI_REFUSAL_AT = SHMI_PAGE - 8 };
SHMI_FN uint64_t shmi_refusal(int rank, uint32_t library_version) {
  return (uint64_t)(rank + 1) << 32 | library_version;
}

enum shmi_member_state { SHMI_MEMBER_ABSENT = 0, SHMI_MEMBER_ATTACHED = 1, SHMI_MEMBER_LEFT = 2 };

struct shmi_member {
  uint32_t state;           /* enum shmi_member_state; published */
  uint32_t pid;             /* in its own pid namespace: for messages only */
  int32_t node;             /* NUMA node at attach, -1 if unknown */
  uint32_t quota;           /* CPUs' worth of time that its cgroup grants; UINT32_MAX if unlimited */
  uint32_t device_channels; /* that it has allocated; 0: it has no GPU in use */
  uint32_t engine_slots;    /* whether it has allocated those too */
  uint32_t registered;      /* of those of all ranks, for its GPU, plus 1, and SHMI_ENGINES if all engine slots are too;
                               0: not known yet; published */
  uint8_t pad[SHMI_LINE - 28];
};

enum { SHMI_CPU_MASK_BYTES = SHMI_LINE, SHMI_ENGINES = 1 << 16 };

/* What a rank asked for: enough to tell two disagreeing ranks apart in words. */
struct shmi_call_id {
  uint32_t collective, datatype, op, root;
  uint64_t count;
};

struct shmi_abort_line {
  uint32_t cause;           /* shmccl_result_t, 0 while all is well; published */
  int32_t culprit, finder;  /* ranks; culprit -1: none */
  uint32_t has_call;        /* whether this rank was in a collective: */
  struct shmi_call_id call; /* this one */
  uint64_t late;            /* after a time limit: all the ranks that were lacking, a bit each */
  uint8_t pad[SHMI_LINE - 48];
};

/* Small messages need no line but these four: a slot's would be three more, elsewhere. */
struct shmi_step_line {
  uint64_t word; /* shmi_word(step, signature); published */
  uint64_t pad;
  uint8_t payload[SHMI_INLINE_BYTES];
};

/* What a message is, for the words of who receives something else. */
struct shmi_message_id {
  uint64_t count;
  uint32_t datatype, pad;
};

struct shmi_pair_out {
  uint64_t word[SHMI_PAIR_SLOTS]; /* shmi_word(sequence, signature) of the message piece in that slot; published */
  struct shmi_message_id message[SHMI_PAIR_SLOTS]; /* that the piece is of */
  uint8_t pad[SHMI_LINE - (8 + 16) * SHMI_PAIR_SLOTS];
};

struct shmi_pair_in {
  uint32_t emptied; /* pieces taken out of the peer's slots so far, on the circle; published */
  uint32_t pad;
  struct shmi_message_id awaited; /* on a device: what the next piece should have been of, if it was of another */
  uint8_t rest[SHMI_LINE - 24];
};

struct shmi_beacon {
  uint32_t lit;
  uint8_t pad[SHMI_LINE - 4];
};

/* Collectives entered so far on either kind of memory, of communicators that know both. */
struct shmi_counts {
  uint32_t host, device;
  uint64_t large; /* shmi_large(): of those on device memory that copy engines would carry */
  uint8_t pad[SHMI_LINE - 16];
};

/* How many such calls there were, and of the last 32 which were captured: bit 0 is the newest. One word, so that others
 * never see half of it. */
SHMI_FN uint64_t shmi_large_next(uint64_t large, int captured) {
  return ((large >> 32) + 1) << 32 | (uint32_t)((uint32_t)large << 1 | (captured != 0));
}
/* Whether a call that both ranks have made was captured by one only. */
SHMI_FN int shmi_large_differ(uint64_t a, uint64_t b) {
  const int32_t ahead = (int32_t)((uint32_t)(a >> 32) - (uint32_t)(b >> 32));
  const uint64_t newer = ahead < 0 ? b : a, older = ahead < 0 ? a : b;
  const uint32_t by = ahead < 0 ? 0u - (uint32_t)ahead : (uint32_t)ahead;
  return by < 32 && (uint32_t)(((uint32_t)newer >> by ^ (uint32_t)older) << by) != 0;
}

struct shmi_control {
  struct shmi_member member;
  uint8_t cpus[SHMI_CPU_MASK_BYTES];
  struct shmi_abort_line abort;
  struct shmi_step_line step[2];
  uint8_t gap[7 * SHMI_LINE]; /* keeps the beacon out of what processors fetch ahead of the lines above */
  struct shmi_beacon beacon;
  struct shmi_counts counts;
  struct shmi_step_line channel[SHMI_CHANNELS_MOST][2];
  struct shmi_step_line engine[2];
  /* struct shmi_pair_out [nranks], struct shmi_pair_in [nranks] follow, twice */
};

#ifdef __cplusplus
#define SHMI_ASSERT_LAYOUT(condition) static_assert(condition, #condition)
#else
#define SHMI_ASSERT_LAYOUT(condition) _Static_assert(condition, #condition)
#endif
SHMI_ASSERT_LAYOUT(sizeof(struct shmi_header) <= SHMI_REFUSAL_AT);
SHMI_ASSERT_LAYOUT(offsetof(struct shmi_header, total_bytes) == 16);
SHMI_ASSERT_LAYOUT(offsetof(struct shmi_header, library_version) == 24);
SHMI_ASSERT_LAYOUT(sizeof(struct shmi_member) == SHMI_LINE);
SHMI_ASSERT_LAYOUT(sizeof(struct shmi_abort_line) == SHMI_LINE);
SHMI_ASSERT_LAYOUT(sizeof(struct shmi_step_line) == SHMI_STEP_BYTES);
SHMI_ASSERT_LAYOUT(sizeof(struct shmi_pair_out) == SHMI_LINE);
SHMI_ASSERT_LAYOUT(sizeof(struct shmi_pair_in) == SHMI_LINE);
SHMI_ASSERT_LAYOUT(sizeof(struct shmi_control) == 12 * SHMI_LINE + (4 + 2 * SHMI_CHANNELS_MOST) * SHMI_STEP_BYTES);
SHMI_ASSERT_LAYOUT(offsetof(struct shmi_control, step) == 3 * SHMI_LINE);
SHMI_ASSERT_LAYOUT(offsetof(struct shmi_step_line, payload) % 16 == 0);

/* A generation and what it is about in one word that no path tears. Compared for equality: its place holds nothing but
 * the generation awaited or the one SHMI_PAIR_SLOTS (or two) before it, so the 32 bits may wrap. */
SHMI_FN uint64_t shmi_word(uint32_t generation, uint32_t signature) { return (uint64_t)signature << 32 | generation; }
SHMI_FN uint32_t shmi_word_generation(uint64_t word) { return (uint32_t)word; }
SHMI_FN uint32_t shmi_word_signature(uint64_t word) { return (uint32_t)(word >> 32); }

/* One rank's view of the segment, or of one channel of it: where everything is in its own address space. */
struct shmi_world {
  int rank, nranks;
  uint8_t *control, *staging; /* of rank 0 */
  size_t control_stride, staging_stride;
  size_t step_offset, pair_offset; /* in a rank's control */
  size_t slot_bytes, lane_bytes, packet_bytes, pair_bytes, pair_places, window_bytes;
};

SHMI_FN struct shmi_control *shmi_control_of(const struct shmi_world *w, int rank) {
  return (struct shmi_control *)(void *)(w->control + (size_t)rank * w->control_stride);
}
SHMI_FN struct shmi_step_line *shmi_step_of(const struct shmi_world *w, int rank, uint32_t step) {
  return (struct shmi_step_line *)(void *)(w->control + (size_t)rank * w->control_stride + w->step_offset) + (step & 1);
}
SHMI_FN struct shmi_pair_out *shmi_pair_out_of(const struct shmi_world *w, int from, int to) {
  return (struct shmi_pair_out *)(void *)(w->control + (size_t)from * w->control_stride + w->pair_offset) + to;
}
SHMI_FN struct shmi_pair_in *shmi_pair_in_of(const struct shmi_world *w, int to, int from) {
  return (struct shmi_pair_in *)(void *)(shmi_pair_out_of(w, to, 0) + w->nranks) + from;
}
SHMI_FN uint8_t *shmi_slot_of(const struct shmi_world *w, int rank, uint32_t step) {
#ifdef SHMI_BREAK_SLOTS
  step = 0;
#endif
  return w->staging + (size_t)rank * w->staging_stride + (step & 1) * w->slot_bytes;
}
SHMI_FN uint8_t *shmi_packets_of(const struct shmi_world *w, int rank, uint32_t step) {
#ifdef SHMI_BREAK_SLOTS
  step = 0;
#endif
  return w->staging + (size_t)rank * w->staging_stride + 2 * w->slot_bytes + (step & 1) * w->packet_bytes;
}
/* The channel that is `number` behind w, itself a channel. */
SHMI_FN struct shmi_world shmi_channel_of(const struct shmi_world *w, int number) {
  struct shmi_world channel = *w;
  channel.step_offset += (size_t)number * 2 * sizeof(struct shmi_step_line);
  channel.staging += (size_t)number * (size_t)w->nranks * w->staging_stride;
  return channel;
}
SHMI_FN uint8_t *shmi_pair_lane_of(const struct shmi_world *w, int from, int to) {
  return w->staging + (size_t)from * w->staging_stride + 2 * w->slot_bytes +
         (size_t)to * w->pair_places * w->pair_bytes;
}
SHMI_FN uint8_t *shmi_pair_slot_of(const struct shmi_world *w, int from, int to, uint32_t sequence) {
  return shmi_pair_lane_of(w, from, to) + (sequence % w->pair_places) * w->pair_bytes;
}

#ifndef __CUDACC__
/* Bytes of a segment whose staging is not yet allocated: header and control. */
size_t shmi_layout_control_bytes(int nranks);

/* Fills *h for nranks ranks with at most staging_bytes of staging in all; the staging that results is never more. The
 * window is the whole slot; its maker may make it smaller.
 * Returns 0 if that is too little for the smallest layout (shmi_layout_least_staging). */
int shmi_layout_make(struct shmi_header *h, int nranks, uint64_t staging_bytes, const shmi_options_t *options);
uint64_t shmi_layout_least_staging(int nranks);

/* NULL if a header read from a file of file_bytes describes a layout that this library can use without leaving it; else
 * what is wrong with it. */
const char *shmi_layout_check(const struct shmi_header *h, uint64_t file_bytes);

/* What host memory uses of a segment mapped at base. */
struct shmi_world shmi_layout_world(const struct shmi_header *h, uint8_t *base, int rank);
/* Channel 0 of what device memory uses, and its pairs. control, device: where a device finds these two parts of the
 * segment. */
struct shmi_world shmi_layout_channels(const struct shmi_header *h, uint8_t *control, uint8_t *device, int rank);
struct shmi_world shmi_layout_device_pairs(const struct shmi_header *h, uint8_t *control, uint8_t *device, int rank);
/* Bytes from device_offset on that device memory needs with so many channels. */
size_t shmi_layout_device_bytes(const struct shmi_header *h, uint64_t channels);
/* What calls by copy engines use: their lines, and their slots at `slots`. */
struct shmi_world shmi_layout_engines(const struct shmi_header *h, uint8_t *control, uint8_t *slots, int rank);
/* Bytes from engine_offset on. */
size_t shmi_layout_engine_bytes(const struct shmi_header *h);
#endif

#endif
