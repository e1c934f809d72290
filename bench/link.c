/*
 * Measuring links, and the bound that follows.
 */
#include "link.h"

#include <math.h>
#include <string.h>

enum { LINK_BYTES = 32 << 20, LINK_ITERS = 4, HOP_BYTES = 4, HOP_ITERS = 100, TRIALS = 3 };

void link_begin(struct link *link, int nranks, const struct gpu_card *cards) {
  link->gpus = 0;
  for (int rank = 0; rank < nranks; rank++) {
    int gpu = 0;
    while (gpu < link->gpus && strcmp(link->cards[gpu].bus, cards[rank].bus)) gpu++;
    if (gpu == link->gpus) link->cards[link->gpus++] = cards[rank];
    link->gpu_of[rank] = gpu;
  }
}

/* Of each GPU the first rank, a bit each. */
static uint64_t first_ranks(const struct link *link, int nranks) {
  uint64_t ranks = 0;
  for (int rank = 0, seen = 0; rank < nranks; rank++)
    if (link->gpu_of[rank] == seen) ranks |= 1ull << rank, seen++;
  return ranks;
}

/* *best: seconds a copy, of the slowest GPU in the best trial. */
static enum party_result measure(const struct link *link, struct party *party, struct command command, double *best) {
  command.kind = COMMAND_LINK;
  command.copiers = first_ranks(link, party->nranks);
  *best = INFINITY;
  for (int i = 0; i < TRIALS; i++) {
    struct outcome outcome;
    enum party_result result = party_do(party, &command, &outcome);
    if (result != PARTY_OK) return result;
    *best = fmin(*best, outcome.slowest);
  }
  return PARTY_OK;
}

static enum party_result measure_rate(const struct link *link, struct party *party, enum gpu_direction direction,
                                      double *rate) {
  double seconds;
  const struct command command = {.direction = direction, .bytes = LINK_BYTES, .iters = LINK_ITERS};
  enum party_result result = measure(link, party, command, &seconds);
  if (result == PARTY_OK) *rate = fmax(*rate, (direction == GPU_BOTH ? 2.0 : 1.0) * LINK_BYTES / seconds);
  return result;
}

enum party_result link_measure(struct link *link, struct party *party) {
  const struct command hop = {.direction = GPU_OUT, .bytes = HOP_BYTES, .iters = HOP_ITERS};
  double seconds;
  enum party_result result = measure_rate(link, party, GPU_OUT, &link->out);
  if (result == PARTY_OK) result = measure_rate(link, party, GPU_IN, &link->in);
  if (result == PARTY_OK) result = measure_rate(link, party, GPU_BOTH, &link->both);
  if (result == PARTY_OK) result = measure(link, party, hop, &seconds);
  if (result == PARTY_OK) link->hop = link->hop > 0 ? fmin(link->hop, seconds) : seconds;
  return result;
}

/* ---- the bound --------------------------------------------------------------------------------------------------- */

/* Of one rank, in units of the call's count: a block where buffers hold one per rank. */
static struct link_bytes blocks_of(const struct point *point, int n, int rank) {
  const double others = n - 1, share = others / n;
  const bool root = rank == point->root;
  switch (point->coll) {
  case COLL_ALL_REDUCE: return (struct link_bytes){1, 2 * share};
  case COLL_REDUCE: return root ? (struct link_bytes){share, 2 * share} : (struct link_bytes){1, share};
  case COLL_ALL_GATHER: return (struct link_bytes){1, others};
  case COLL_REDUCE_SCATTER:
  case COLL_ALLTOALL: return (struct link_bytes){others, others};
  case COLL_BROADCAST: return root ? (struct link_bytes){1, 0} : (struct link_bytes){0, 1};
  case COLL_GATHER: return root ? (struct link_bytes){0, others} : (struct link_bytes){1, 0};
  case COLL_SCATTER: return root ? (struct link_bytes){others, 0} : (struct link_bytes){0, 1};
  default: return (struct link_bytes){1, 1};
  }
}

double link_transfer_seconds(const struct link *link, const struct link_bytes *bytes, int nranks) {
  struct link_bytes sums[SHMCCL_MAX_RANKS] = {{0, 0}};
  double most = 0;
  for (int rank = 0; rank < nranks; rank++) {
    struct link_bytes *sum = &sums[link->gpu_of[rank]];
    sum->out += bytes[rank].out;
    sum->in += bytes[rank].in;
    most = fmax(most, fmax(fmax(sum->out / link->out, sum->in / link->in), (sum->out + sum->in) / link->both));
  }
  return most;
}

double link_seconds(const struct link *link, const struct point *point, int nranks) {
  const double unit = (double)point->count * (double)type_bytes(point->type);
  struct link_bytes bytes[SHMCCL_MAX_RANKS] = {{0, 0}};
  for (int rank = 0; rank < nranks && nranks > 1; rank++) {
    const struct link_bytes blocks = blocks_of(point, nranks, rank);
    bytes[rank] = (struct link_bytes){blocks.out * unit, blocks.in * unit};
  }
  return fmax(link->hop / point->messages, link_transfer_seconds(link, bytes, nranks));
}
