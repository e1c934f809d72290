/*
 * select.c - which schedule a call takes, and how much it moves per turn: a pure function of the call, the number of
 * ranks and what was agreed at init, so that all ranks come to the same answer; the signature in every word proves that
 * they did. The thresholds were measured: docs/performance.md.
 */
#include <stdio.h>

#include "coll/kernels.h"
#include "coll/units.h"
#include "comm/comm.h"

const char *const shmi_collective_names[SHMI_COLLECTIVE_COUNT] = {
    "allreduce", "allgather", "reduce_scatter", "broadcast", "reduce", "alltoall", "gather", "scatter", "barrier"};

/* Bytes. */
enum {
  ONE_SHOT_READ_MOST = 128 << 10, /* that a rank reads of the others in a one-shot reduction; two-shot reads less */
  ONE_SHOT_READ_MOST_OVERSUBSCRIBED = 256 << 10, /* ... where a second meeting costs a round of context switches */
  TWO_SHOT_CHUNK_LEAST = 256 << 10,
  TWO_SHOT_CHUNK_MOST = 1 << 20,
  CHUNK_LEAST = 64 << 10,
  CHUNK_MOST = 512 << 10,
  CHUNK_OVERSUBSCRIBED = 2 << 20, /* few meetings */
  COMPACT_LANES = 1 << 10,        /* lanes up to this size lie side by side, larger ones on pages of their own */
  PLACES_MOST = 64,               /* small pieces stay in the second-level cache after all */
  PACKET_READ_MOST = 96 << 10,    /* device memory: that a rank reads of the others with flags beside the data */
  DEVICE_PART_LEAST = 16 << 10,   /* ... and that is worth a block, or a turn, of its own */
  ENGINE_CHUNK_LEAST = 512 << 10, /* ... a turn of copy engines */
  ENGINE_TURNS = 8,               /* ... which fill and drain for two of them */
};

const char *shmi_call_name(const struct shmi_call_id *id) {
  if (id->collective == SHMI_ALLGATHER && id->root == SHMI_INNER) return "split";
  if (id->collective == SHMI_BARRIER && id->root == SHMI_INNER) return "finalize";
  if (id->collective == SHMI_MESSAGES) return "send/recv";
  return id->collective < SHMI_COLLECTIVE_COUNT ? shmi_collective_names[id->collective] : "?";
}

static uint32_t mix(uint64_t x) {
  x ^= x >> 31;
  x *= 0x7fb5d329728ea185ull;
  x ^= x >> 27;
  x *= 0x81dadef4bc2dd44dull;
  return (uint32_t)(x >> 32);
}

/* Fields lie side by side and are never added: a difference in one must not be made up for by another. */
static uint32_t signature_of(const struct shmi_call *c) {
  const uint32_t what = c->id.collective | c->id.datatype << 4 | c->id.op << 8 | (c->id.root & 0xff) << 12 |
                        (uint32_t)c->two_shot << 20 | (uint32_t)c->inline_data << 21 | (uint32_t)c->packets << 22 |
                        (uint32_t)c->channels << 24 | (uint32_t)c->engine << 28;
  return mix((uint64_t)mix(c->id.count * 0x9e3779b97f4a7c15ull + c->chunk) << 32 | what);
}

static bool has_lanes(const struct shmi_call *c) { return c->two_shot || shmi_has_blocks(c); }

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

static size_t clamp(size_t value, size_t least, size_t most) { return value < least ? least : smaller(value, most); }

static bool wants_two_shot(const shmccl_comm_t *comm, const struct shmi_call *c) {
  const uint64_t most = comm->oversubscribed ? ONE_SHOT_READ_MOST_OVERSUBSCRIBED : ONE_SHOT_READ_MOST;
  if (c->id.collective != SHMI_ALLREDUCE && c->id.collective != SHMI_REDUCE) return false;
  if (comm->options.algorithm != SHMCCL_ALGORITHM_AUTO) return comm->options.algorithm == SHMCCL_ALGORITHM_TWO_SHOT;
  const uint64_t measured = comm->options.thresholds.one_shot_most;
  if (measured) return c->id.count * c->element > measured;
  return c->id.count * c->element * (uint64_t)(comm->nranks - 1) > most;
}

/* What a rank stages in one turn: some turns for the pipeline to fill, as few meetings as that allows. */
static size_t wanted_chunk_bytes(const shmccl_comm_t *comm, const struct shmi_call *c) {
  const size_t bytes = c->id.count * c->element * (shmi_has_blocks(c) ? (size_t)comm->nranks : 1);
  const shmi_thresholds_t *t = &comm->options.thresholds;
  const size_t measured = c->two_shot ? t->reduce_chunk : t->copy_chunk;
  if (comm->options.chunk_bytes) return comm->options.chunk_bytes;
  if (comm->oversubscribed) return measured ? measured : CHUNK_OVERSUBSCRIBED;
  const size_t most = measured ? measured : c->two_shot ? TWO_SHOT_CHUNK_MOST : CHUNK_MOST;
  return clamp(bytes / (c->two_shot ? 8 : 2), smaller(c->two_shot ? TWO_SHOT_CHUNK_LEAST : CHUNK_LEAST, most), most);
}

/* Successive steps put their `bytes` at successive places of a window. */
static void wander(struct shmi_call *c, size_t bytes, size_t window) {
  c->piece = bytes > SHMI_LINE ? (bytes + SHMI_LINE - 1) / SHMI_LINE * SHMI_LINE : SHMI_LINE;
  c->places = (uint32_t)clamp(window / c->piece, 1, PLACES_MOST);
}

/* A lane is as long as the longest piece that one turn puts there, as far as there is room. */
static void lay_lanes(const shmccl_comm_t *comm, struct shmi_call *c) {
  size_t n = (size_t)comm->nranks, lane = comm->world.lane_bytes / c->element;
  if (c->two_shot) { /* chunk is of the message, and its share goes to a lane: whole groups of 64 elements */
    c->chunk = smaller(smaller(c->chunk, c->id.count), lane / 64 * 64 * n);
    lane = shmi_share_of(c->chunk, comm->nranks, 0, &(size_t){0});
  } else {
    c->chunk = smaller(smaller(c->chunk / n + (c->chunk < n), c->id.count), lane);
    lane = c->chunk;
  }
  const size_t bytes = lane * c->element, window = comm->world.window_bytes;
  if (bytes <= COMPACT_LANES) {
    c->lane_stride = (bytes + 15) / 16 * 16;
    wander(c, c->lane_stride * n, window);
  } else {
    c->lane_stride = comm->world.lane_bytes;
    wander(c, bytes, smaller(c->lane_stride, window / n));
  }
}

static void lay_whole(const shmccl_comm_t *comm, struct shmi_call *c) {
  c->chunk = smaller(smaller(c->chunk, c->id.count), comm->world.slot_bytes / c->element);
  c->lane_stride = c->chunk * c->element;
  wander(c, c->lane_stride, comm->world.window_bytes);
}

void shmi_select(const shmccl_comm_t *comm, struct shmi_call *c) {
  c->count = c->id.count;
  c->block = c->count * c->element;
  c->two_shot = wants_two_shot(comm, c);
  c->nchunks = 0;
  c->nsteps = 1;
  c->inline_data = 1;
  c->places = 1;
  c->piece = 0;
  c->chunk = c->id.count ? wanted_chunk_bytes(comm, c) / c->element : 0;
  if (c->chunk) {
    has_lanes(c) ? lay_lanes(comm, c) : lay_whole(comm, c);
    c->inline_data = c->lane_stride * (has_lanes(c) ? (size_t)comm->nranks : 1) <= SHMI_INLINE_BYTES;
    c->nchunks = (uint32_t)((c->id.count + c->chunk - 1) / c->chunk);
    c->nsteps = c->nchunks + c->two_shot;
  }
  c->signature = signature_of(c);
}

/* ---- device memory: not yet measured on a GPU -------------------------------------------------------------------- */

/* One block for what its threads take in one go. */
static bool fits_packets(const struct shmi_world *channel, size_t most, struct shmi_call *c) {
  const size_t units = shmi_units_of(c);
  c->channels = (uint8_t)clamp((units + SHMI_KERNEL_THREADS - 1) / SHMI_KERNEL_THREADS, 1, most);
  return c->count * c->element * (size_t)(channel->nranks - 1) <= PACKET_READ_MOST &&
         shmi_packet_bytes(c, channel->nranks) <= channel->packet_bytes;
}

/* Some turns of each channel's part, so that both directions of the link are in use. */
static void lay_parts(const struct shmi_world *channel, size_t most, size_t chunk_bytes, struct shmi_call *c) {
  const size_t n = (size_t)channel->nranks, bytes = c->count * c->element * (shmi_has_blocks(c) ? n : 1);
  const size_t parts = clamp(bytes / DEVICE_PART_LEAST, 1, most),
               turn = clamp(bytes / parts / 4, DEVICE_PART_LEAST, bytes);
  const size_t wanted = (chunk_bytes ? chunk_bytes : turn) / c->element, lane = channel->lane_bytes / c->element;
  c->channels = (uint8_t)parts;
  if (c->two_shot) {
    c->chunk = clamp(wanted, 1, lane / 64 * 64 * n);
    c->lane_stride = channel->lane_bytes;
  } else if (shmi_has_blocks(c)) {
    c->chunk = clamp(wanted / n, 1, lane);
    c->lane_stride = channel->lane_bytes;
  } else {
    c->chunk = clamp(wanted, 1, channel->slot_bytes / c->element);
    c->lane_stride = channel->slot_bytes;
  }
}

void shmi_select_device(const struct shmi_world *channel, int channels, const shmi_options_t *options,
                        struct shmi_call *c) {
  const bool reduces = c->id.collective == SHMI_ALLREDUCE || c->id.collective == SHMI_REDUCE;
  c->count = c->id.count;
  c->block = c->count * c->element;
  c->engine = SHMI_BY_KERNEL;
  c->two_shot =
      reduces && (options->algorithm == SHMCCL_ALGORITHM_AUTO ? channel->nranks > 2
                                                              : options->algorithm == SHMCCL_ALGORITHM_TWO_SHOT);
  c->inline_data = 0;
  c->places = 1;
  c->piece = 0;
  c->chunk = 1;
  c->packets = options->algorithm != SHMCCL_ALGORITHM_TWO_SHOT && fits_packets(channel, (size_t)channels, c);
  if (c->packets)
    c->two_shot = 0;
  else
    lay_parts(channel, (size_t)channels, options->chunk_bytes, c);
  c->signature = signature_of(c);
}

/* Of the larger buffer. */
static size_t engine_bytes(const struct shmi_call *c, size_t n) {
  const bool has_n = shmi_has_blocks(c) || c->id.collective == SHMI_ALLGATHER || c->id.collective == SHMI_GATHER;
  return c->id.count * c->element * (has_n ? n : 1);
}

static void lay_engines(const struct shmi_world *slots, size_t wanted, struct shmi_call *c) {
  const size_t n = (size_t)slots->nranks, slot = slots->slot_bytes;
  const bool reduces = c->id.collective == SHMI_ALLREDUCE || c->id.collective == SHMI_REDUCE;
  c->lane_stride = c->engine == SHMI_BY_ENGINES_AND_CPUS ? slots->lane_bytes
                   : has_lanes(c)                        ? slot / n / SHMI_LINE * SHMI_LINE
                   : reduces ? smaller(slot, SHMI_SCRATCH_SLOTS * slot / n / SHMI_LINE * SHMI_LINE) /* in the scratch */
                             : slot;
  const size_t lane = c->lane_stride / c->element;
  c->chunk = c->two_shot ? clamp(wanted, 1, lane / 64 * 64 * n) : clamp(has_lanes(c) ? wanted / n : wanted, 1, lane);
}

bool shmi_select_engines(const struct shmi_world *slots, const shmi_options_t *options, struct shmi_call *c) {
  const bool all = c->id.collective == SHMI_ALLREDUCE, reduces = all || c->id.collective == SHMI_REDUCE;
  const size_t bytes = engine_bytes(c, (size_t)slots->nranks);
  if (bytes < options->engine_bytes) return false;
  c->count = c->id.count;
  c->block = c->count * c->element;
  c->engine = all && options->cpu_reduce ? SHMI_BY_ENGINES_AND_CPUS : SHMI_BY_ENGINES;
  c->two_shot =
      reduces && (options->algorithm == SHMCCL_ALGORITHM_AUTO ? slots->nranks > 2
                                                              : options->algorithm == SHMCCL_ALGORITHM_TWO_SHOT);
  c->two_shot |= c->engine == SHMI_BY_ENGINES_AND_CPUS;
  c->inline_data = 0;
  c->packets = 0;
  c->channels = 0;
  c->places = 1;
  c->piece = 0;
  lay_engines(slots,
              (options->chunk_bytes ? options->chunk_bytes : clamp(bytes / ENGINE_TURNS, ENGINE_CHUNK_LEAST, bytes)) /
                  c->element,
              c);
  c->nchunks = (uint32_t)((c->count + c->chunk - 1) / c->chunk);
  c->nsteps = c->nchunks + c->two_shot;
  c->signature = signature_of(c);
  return true;
}

void shmi_call_text(const struct shmi_call_id *id, char *text, size_t bytes) {
  static const char *const ops[SHMCCL_REDOP_COUNT] = {"sum", "prod", "max", "min", "avg"};
  bool reduces =
      id->collective == SHMI_ALLREDUCE || id->collective == SHMI_REDUCE_SCATTER || id->collective == SHMI_REDUCE;
  bool rooted = id->collective == SHMI_BROADCAST || id->collective == SHMI_REDUCE || id->collective == SHMI_GATHER ||
                id->collective == SHMI_SCATTER;
  bool inner = !rooted && id->root == SHMI_INNER;
  int length = snprintf(text, bytes, "%s", shmi_call_name(id));
  if (id->collective < SHMI_BARRIER && !inner && length < (int)bytes)
    length += snprintf(text + length, bytes - (size_t)length, " of %llu %s", (unsigned long long)id->count,
                       shmi_datatype_name(id->datatype));
  if (reduces && length < (int)bytes)
    length += snprintf(text + length, bytes - (size_t)length, ", %s", id->op < SHMCCL_REDOP_COUNT ? ops[id->op] : "?");
  if (rooted && length < (int)bytes) snprintf(text + length, bytes - (size_t)length, ", root %u", id->root);
}
