/* layout.c - sizes of a segment: made by rank 0, checked by everybody else. */
#include "shm/layout.h"

#include <string.h>

/* A rank's slot in use should stay in its core's cache, so larger ones only cost memory; oversubscribed ranks want long
 * steps, fewer meetings (docs/performance.md). */
enum { SLOT_MOST = 2 << 20, PAIR_MOST = 64 << 10, PAIR_LEAST = 1 << 10, PAIR_PLACES_MOST = 32 };

/* Of a channel. Packets: twice the 96 KiB that one-shot reads at most, over all channels. Slots: with all channels a
 * MiB a turn, which takes a PCIe 5 link several times as long as the meeting. */
enum { PACKET_BYTES = 24 << 10, CHANNEL_SLOT_MOST = 128 << 10, CHANNEL_SLOT_LEAST = 8 << 10 };

/* Of a message slot: what a block moves in one go; with four of them under way a link is full. */
enum { DEVICE_PAIR_MOST = 64 << 10, DEVICE_PAIR_LEAST = 4 << 10 };

/* Of copy engines: a turn's worth. Copies of less than some 100 KiB cost more to start than to make. */
enum { ENGINE_SLOT_MOST = 4 << 20, ENGINE_SLOT_LEAST = 256 << 10 };

/* Every rank registers everybody's device staging: what the processes of a communicator pin together. */
static const uint64_t DEVICE_BYTES_MOST = 160 << 20, ENGINE_BYTES_MOST = 64 << 20;

static uint64_t round_down(uint64_t value, uint64_t unit) { return value / unit * unit; }
static uint64_t smaller(uint64_t a, uint64_t b) { return a < b ? a : b; }
static uint64_t round_up(uint64_t value, uint64_t unit) { return round_down(value + unit - 1, unit); }

static uint64_t pair_lines_bytes(uint64_t nranks) {
  return nranks * (sizeof(struct shmi_pair_out) + sizeof(struct shmi_pair_in));
}

static uint64_t control_stride(uint64_t nranks) {
  return round_up(sizeof(struct shmi_control) + 2 * pair_lines_bytes(nranks), SHMI_PAGE);
}

size_t shmi_layout_control_bytes(int nranks) { return SHMI_PAGE + (size_t)nranks * control_stride((uint64_t)nranks); }

static uint64_t pair_bytes_total(uint64_t nranks, uint64_t pair_places, uint64_t pair_bytes) {
  return round_up(nranks * pair_places * pair_bytes, SHMI_PAGE);
}

uint64_t shmi_layout_least_staging(int nranks) {
  uint64_t n = (uint64_t)nranks;
  return n * (2 * n * SHMI_PAGE + pair_bytes_total(n, SHMI_PAIR_SLOTS, PAIR_LEAST));
}

/* Point-to-point slots get at most a quarter of what there is. */
static uint64_t choose_pair_bytes(uint64_t nranks, uint64_t staging_bytes) {
  uint64_t bytes = PAIR_MOST;
  while (bytes > PAIR_LEAST && nranks * pair_bytes_total(nranks, SHMI_PAIR_SLOTS, bytes) > staging_bytes / 4)
    bytes /= 2;
  return bytes;
}

/* More places than slots where there is room, so that a place has left the receiver's cache before it is written again
 * (docs/performance.md). A power of two: the piece numbers wrap. */
static uint64_t choose_pair_places(uint64_t nranks, uint64_t staging_bytes, uint64_t pair_bytes) {
  uint64_t places = SHMI_PAIR_SLOTS;
  while (places < PAIR_PLACES_MOST && nranks * pair_bytes_total(nranks, 2 * places, pair_bytes) <= staging_bytes / 4)
    places *= 2;
  return places;
}

/* Large groups have small parts, and need fewer channels to fill their links. */
static uint64_t choose_channels(uint64_t nranks) { return nranks <= 16 ? SHMI_CHANNELS_MOST : 2; }

static uint64_t device_pairs_stride(const struct shmi_header *h) {
  return h->nranks * SHMI_PAIR_SLOTS * h->device_pair_bytes;
}

size_t shmi_layout_device_bytes(const struct shmi_header *h, uint64_t channels) {
  return h->nranks * (device_pairs_stride(h) + channels * h->channel_stride);
}

/* Message slots get at most a quarter of it. */
static uint64_t choose_device_pair_bytes(const struct shmi_header *h, uint64_t budget) {
  uint64_t bytes = DEVICE_PAIR_MOST;
  while (bytes > DEVICE_PAIR_LEAST && (uint64_t)h->nranks * h->nranks * SHMI_PAIR_SLOTS * bytes > budget / 4)
    bytes /= 2;
  return bytes;
}

/* Device staging takes at most a quarter of what there is, and nothing that the smallest layout needs; with less than
 * the least slots there is none. Returns what it takes. */
static uint64_t lay_device(struct shmi_header *h, uint64_t n, uint64_t staging_bytes) {
  const uint64_t most = smaller(staging_bytes / 4, DEVICE_BYTES_MOST / n), channels = choose_channels(n);
  const uint64_t budget = smaller(most, staging_bytes - shmi_layout_least_staging((int)n));
  h->device_pair_bytes = choose_device_pair_bytes(h, budget);
  const uint64_t pairs = n * device_pairs_stride(h), each = budget > pairs ? (budget - pairs) / n / channels / 2 : 0;
  if (each < CHANNEL_SLOT_LEAST + PACKET_BYTES) {
    h->device_pair_bytes = 0;
    return 0;
  }
  h->channels = channels;
  h->packet_bytes = PACKET_BYTES;
  h->channel_slot_bytes = smaller(round_down(each - PACKET_BYTES, SHMI_PAGE), CHANNEL_SLOT_MOST);
  h->channel_stride = 2 * (h->channel_slot_bytes + h->packet_bytes);
  return shmi_layout_device_bytes(h, channels);
}

size_t shmi_layout_engine_bytes(const struct shmi_header *h) { return h->nranks * 2 * h->engine_slot_bytes; }

/* Copy engines get as much at most, of the staging_bytes that are `left`; nothing with few channels. */
static uint64_t lay_engines(struct shmi_header *h, uint64_t n, uint64_t staging_bytes, uint64_t left) {
  const uint64_t most = smaller(staging_bytes / 4, ENGINE_BYTES_MOST / n);
  const uint64_t budget = smaller(most, left - shmi_layout_least_staging((int)n));
  const uint64_t slot = smaller(budget / n / 2, ENGINE_SLOT_MOST);
  if (!h->channels || slot < ENGINE_SLOT_LEAST) return 0;
  h->engine_lane_bytes = round_down(slot / (n + 1), SHMI_PAGE);
  h->engine_slot_bytes = h->engine_lane_bytes * (n + 1);
  return shmi_layout_engine_bytes(h);
}

int shmi_layout_make(struct shmi_header *h, int nranks, uint64_t staging_bytes, const shmi_options_t *options) {
  uint64_t n = (uint64_t)nranks;
  if (staging_bytes < shmi_layout_least_staging(nranks)) return 0;
  memset(h, 0, sizeof *h);
  h->magic = SHMI_MAGIC;
  h->layout_version = SHMI_LAYOUT_VERSION;
  h->library_version = SHMI_LIBRARY_VERSION;
  h->nranks = (uint32_t)n;
  h->budget_bytes = staging_bytes;
  staging_bytes -= lay_device(h, n, staging_bytes);
  staging_bytes -= lay_engines(h, n, h->budget_bytes, staging_bytes);
  h->pair_bytes = choose_pair_bytes(n, staging_bytes);
  h->pair_places = choose_pair_places(n, staging_bytes, h->pair_bytes);
  const uint64_t for_pairs = pair_bytes_total(n, h->pair_places, h->pair_bytes);
  uint64_t for_slots = staging_bytes / n - for_pairs;
  uint64_t slot = smaller(for_slots / 2, SLOT_MOST);
  h->lane_bytes = round_down(slot / n, SHMI_PAGE);
  h->slot_bytes = h->lane_bytes * n;
  h->window_bytes = h->slot_bytes;
  h->control_offset = SHMI_PAGE;
  h->control_stride = control_stride(n);
  h->staging_offset = shmi_layout_control_bytes(nranks);
  h->staging_stride = 2 * h->slot_bytes + for_pairs;
  h->device_offset = h->staging_offset + n * h->staging_stride;
  h->engine_offset = h->device_offset + shmi_layout_device_bytes(h, h->channels);
  h->total_bytes = h->engine_offset + shmi_layout_engine_bytes(h);
  h->options = *options;
  return 1;
}

const char *shmi_layout_check(const struct shmi_header *h, uint64_t file_bytes) {
  struct shmi_header expected;
  if (h->magic != SHMI_MAGIC) return "it is no shmccl segment";
  if (h->layout_version != SHMI_LAYOUT_VERSION) return "it was made by another version of shmccl";
  if (h->nranks < 2 || h->nranks > SHMCCL_MAX_RANKS) return "its number of ranks is impossible";
  if (h->total_bytes != file_bytes) return "its size is not what its header says";
  /* The sizes are a function of ranks and budget, so a header is right if it is the one we would have made. */
  if (h->budget_bytes > h->options.staging_bytes ||
      !shmi_layout_make(&expected, (int)h->nranks, h->budget_bytes, &h->options))
    return "its layout is impossible";
  if (!shmi_thresholds_valid(&h->options.thresholds)) return "its thresholds are impossible";
  if (h->window_bytes < SHMI_LINE || h->window_bytes > h->slot_bytes) return "its window is impossible";
  expected.window_bytes = h->window_bytes;
  memcpy(expected.id, h->id, sizeof expected.id);
  if (memcmp(h, &expected, sizeof expected)) return "its layout is inconsistent";
  return NULL;
}

struct shmi_world shmi_layout_world(const struct shmi_header *h, uint8_t *base, int rank) {
  return (struct shmi_world){.rank = rank,
                             .nranks = (int)h->nranks,
                             .control = base + h->control_offset,
                             .staging = base + h->staging_offset,
                             .control_stride = h->control_stride,
                             .staging_stride = h->staging_stride,
                             .step_offset = offsetof(struct shmi_control, step),
                             .pair_offset = sizeof(struct shmi_control),
                             .slot_bytes = h->slot_bytes,
                             .lane_bytes = h->lane_bytes,
                             .pair_bytes = h->pair_bytes,
                             .pair_places = h->pair_places,
                             .window_bytes = h->window_bytes};
}

struct shmi_world shmi_layout_channels(const struct shmi_header *h, uint8_t *control, uint8_t *device, int rank) {
  return (struct shmi_world){.rank = rank,
                             .nranks = (int)h->nranks,
                             .control = control,
                             .staging = device + h->nranks * device_pairs_stride(h),
                             .control_stride = h->control_stride,
                             .staging_stride = h->channel_stride,
                             .step_offset = offsetof(struct shmi_control, channel),
                             .slot_bytes = h->channel_slot_bytes,
                             .lane_bytes = round_down(h->channel_slot_bytes / h->nranks, SHMI_LINE),
                             .packet_bytes = h->packet_bytes};
}

struct shmi_world shmi_layout_device_pairs(const struct shmi_header *h, uint8_t *control, uint8_t *device, int rank) {
  return (struct shmi_world){.rank = rank,
                             .nranks = (int)h->nranks,
                             .control = control,
                             .staging = device,
                             .control_stride = h->control_stride,
                             .staging_stride = device_pairs_stride(h),
                             .pair_offset = sizeof(struct shmi_control) + pair_lines_bytes(h->nranks),
                             .pair_bytes = h->device_pair_bytes,
                             .pair_places = SHMI_PAIR_SLOTS};
}

struct shmi_world shmi_layout_engines(const struct shmi_header *h, uint8_t *control, uint8_t *slots, int rank) {
  return (struct shmi_world){.rank = rank,
                             .nranks = (int)h->nranks,
                             .control = control,
                             .staging = slots,
                             .control_stride = h->control_stride,
                             .staging_stride = 2 * h->engine_slot_bytes,
                             .step_offset = offsetof(struct shmi_control, engine),
                             .slot_bytes = h->engine_slot_bytes,
                             .lane_bytes = h->engine_lane_bytes};
}
