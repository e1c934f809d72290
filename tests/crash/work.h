/*
 * work.h - what ranks do while one of them is hurt.
 *
 * A work is a short life of a communicator: made, used, finalized, destroyed. Every call's results are checked if the
 * call says that it succeeded.
 */
#ifndef CRASH_WORK_H
#define CRASH_WORK_H

#include "crash/points.h"
#include "trouble/support.h"

enum work {
  LIFE,
  ALLREDUCE,
  ALLREDUCE_TWO_SHOT,
  ALLGATHER,
  REDUCE_SCATTER,
  BROADCAST,
  REDUCE,
  ALLTOALL,
  GATHER,
  SCATTER,
  BARRIER,
  SEND_RECV,
  GROUP,
  SPLIT,
  WORKS
};
extern const char *const work_names[WORKS];

struct work_plan {
  enum work work;
  int nranks, victim;
  enum action action;
  uint32_t at;
  uint64_t timeout_ms;
  struct mark *marks; /* of the ranks, shared */
};

/* Plays `rank`. Writes its first error, or success, to *outcome, which must be empty. */
void work_run(const struct work_plan *plan, const shmccl_unique_id_t *id, int rank, struct tr_slot *outcome);

#endif
