/*
 * group.h - what a thread has put off until its outermost ncclGroupEnd().
 *
 * NCCL starts nothing before that, and in a program with several GPUs in one thread the peers' calls come later in the
 * same group: so diverted calls are put off too. At the end they come first, in their order, then NCCL's, on every
 * rank.
 */
#ifndef SHMI_GROUP_H
#define SHMI_GROUP_H

#include "front/births.h"
#include "front/divert.h"

/* Outside a group both are false, and nothing is put off. A call holds its communicator until it is made. */
bool shmi_group_is_open(void);
bool shmi_group_put_birth(const struct shmi_birth *birth);
/* Takes over the hold. A result other than success if there is no memory. */
nccl_result_t shmi_group_put_call(struct shmi_front_comm *comm, const struct shmi_front_call *call);

/* Makes a call now; takes over the hold, and counts. */
nccl_result_t shmi_front_make(struct shmi_front_comm *comm, const struct shmi_front_call *call);

#endif
