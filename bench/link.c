/*
 * Measuring links, and the bound that follows.
 */
#include "link.h"

#include <math.h>

enum { LINK_BYTES = 32 << 20, LINK_ITERS = 4, HOP_BYTES = 4, HOP_ITERS = 100, TRIALS = 3 };

/* *best: seconds a copy, of the slowest GPU in the best trial. */
static enum party_result measure(const struct link *link, struct party *party, struct command command, double *best) {
  command.kind = COMMAND_LINK;
  command.copiers = link->gpus; /* the first rank of each */
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

struct bytes {
  double out, in;
};

/* Of one rank, in units of the call's count: a block where buffers hold one per rank. */
static struct bytes blocks_of(const struct point *point, int n, int rank) {
  const double others = n - 1, share = others / n;
  const bool root = rank == point->root;
  switch (point->coll) {
  case COLL_ALL_REDUCE: return (struct bytes){1, 2 * share};
  case COLL_REDUCE: return root ? (struct bytes){share, 2 * share} : (struct bytes){1, share};
  case COLL_ALL_GATHER: return (struct bytes){1, others};
  case COLL_REDUCE_SCATTER:
  case COLL_ALLTOALL: return (struct bytes){others, others};
  case COLL_BROADCAST: return root ? (struct bytes){1, 0} : (struct bytes){0, 1};
  case COLL_GATHER: return root ? (struct bytes){0, others} : (struct bytes){1, 0};
  case COLL_SCATTER: return root ? (struct bytes){others, 0} : (struct bytes){0, 1};
  default: return (struct bytes){1, 1};
  }
}

static double seconds_of_gpu(const struct link *link, const struct point *point, int nranks, int gpu) {
  const double unit = (double)point->count * (double)type_bytes(point->type);
  struct bytes sum = {0, 0};
  for (int rank = gpu; rank < nranks && nranks > 1; rank += link->gpus) {
    const struct bytes b = blocks_of(point, nranks, rank);
    sum.out += b.out * unit;
    sum.in += b.in * unit;
  }
  return fmax(fmax(sum.out / link->out, sum.in / link->in), (sum.out + sum.in) / link->both);
}

double link_seconds(const struct link *link, const struct point *point, int nranks) {
  double most = link->hop / point->messages;
  for (int gpu = 0; gpu < link->gpus; gpu++) most = fmax(most, seconds_of_gpu(link, point, nranks, gpu));
  return most;
}
