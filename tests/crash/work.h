/*
 * work.h - what ranks do while one of them is hurt.
 *
 * A work is a short life of a communicator: made, used, finalized, destroyed (engine.c), of the plugin's connections
 * (plugin.c), or of a communicator of NCCL's with the front before it (front.c). Every call's results are checked if
 * the call says that it succeeded.
 */
#ifndef CRASH_WORK_H
#define CRASH_WORK_H

#include "crash/points.h"
#include "trouble/support.h"

enum { RANKS_MOST = 8, WORKS_MOST = 28 };

extern const char *const work_names[WORKS_MOST]; /* as many as there are */
extern const int work_ranks_most;

struct work_plan {
  int work;
  int nranks, victim;
  enum action action;
  uint32_t at;
  uint64_t timeout_ms;
  struct mark *marks; /* of the ranks, shared */
};

/* Whether this action is tried: all end somehow, but one that the other ranks need not notice. */
bool work_tries(const struct work_plan *plan);
/* Whether the time limit may be what tells the others. */
bool work_may_time_out(const struct work_plan *plan);
/* Whether the error of `rank` names the victim. */
bool work_names_victim(const struct work_plan *plan, int rank, const char *error);
/* Whether one of the numbers behind a "rank" in text, but for the speaker's at its start, is this one. */
bool text_names(const char *text, int speaker, int rank);

/* Plays `rank`. Writes its first error, or success, to *outcome, which must be empty. */
void work_run(const struct work_plan *plan, const shmccl_unique_id_t *id, int rank, struct tr_slot *outcome);

#endif
