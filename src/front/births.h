/*
 * births.h - from a communicator that NCCL has created to the decision, the same on all of its ranks, whether its calls
 * are diverted.
 *
 * The ranks meet in shared memory under a name that all derive alike, tell each other what they have, and make the
 * engine's communicator together. Whoever lacks a peer, a GPU or memory ends that for all; nobody decides alone.
 */
#ifndef SHMI_BIRTHS_H
#define SHMI_BIRTHS_H

#include "front/comms.h"

/* One that NCCL was asked for; it stands at *place once NCCL is done. */
struct shmi_birth {
  nccl_comm_t *place;
  uint8_t id[SHMI_ID_BYTES];
  struct shmi_front_comm *parent; /* it is made of this one, held; or NULL */
};

/* NCCL's result for all of these was `result`: decides for those that are complete, in a thread each if there are
 * several, and waits for that; remembers those that NCCL goes on creating. Releases the parents. */
void shmi_births_end(const struct shmi_birth *births, size_t count, nccl_result_t result);

/* NCCL says that parent is done: what it was making of it is there. Starts to decide about these. */
void shmi_births_of(struct shmi_front_comm *parent);

/* NCCL says that it is done creating it: whether the front is too. Starts to decide, without waiting. */
bool shmi_birth_is_over(struct shmi_front_comm *comm);
/* The same, and waits for it. True if it was aborted or revoked meanwhile: its handle may be no more. */
bool shmi_birth_finish(struct shmi_front_comm *comm);

/* Whether this process diverts anything at all; says why not, once. */
bool shmi_front_wanted(void);

#endif
