/*
 * link.h - what the links between GPUs and host memory allow: their rates, measured with the copy engines in the same
 * run, and which bytes of a row must cross them.
 */
#ifndef BENCH_LINK_H
#define BENCH_LINK_H

#include "party.h"

/* Of each GPU while all of them copy, the slowest one's. */
struct link {
  int gpus; /* in use; 0: ranks are on host memory, and nothing below counts */
  struct gpu_card cards[SHMCCL_MAX_RANKS];
  int gpu_of[SHMCCL_MAX_RANKS]; /* each rank's */
  double out;                   /* bytes a second from the GPU to pinned memory */
  double in;                    /* ... and the other way */
  double both;                  /* of both directions at once, added up */
  double hop;                   /* seconds of a copy of 4 bytes behind another */
};

/* cards: of each rank, the same one for ranks that share it. */
void link_begin(struct link *link, int nranks, const struct gpu_card *cards);

/* Again is better: the best rates seen count. */
enum party_result link_measure(struct link *link, struct party *party);

/* The least seconds that the point can take. Ranks exchange through host memory and GPUs reduce; a byte is uploaded
 * once, however many ranks read it, and an allreduce is split among the ranks. All ranks of a GPU share its
 * link. It counts the larger of both directions, and both together; and at least one hop. */
double link_seconds(const struct link *link, const struct point *point, int nranks);

/* What a rank sends over its link, and gets. */
struct link_bytes {
  double out, in;
};
/* Seconds that the link of the busiest GPU needs for bytes[rank]. */
double link_transfer_seconds(const struct link *link, const struct link_bytes *bytes, int nranks);

#endif
