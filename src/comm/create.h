/* create.h - the parts of creating a communicator object, for callers that create several in one thread: each for all
 * of them before the next. */
#ifndef SHMI_CREATE_H
#define SHMI_CREATE_H

#include "comm/comm.h"

/* Attaches rank to the segment without waiting for others (ranks other than 0 wait for rank 0's segment). */
shmccl_result_t shmi_comm_attach(shmccl_comm_t **comm, int nranks, const uint8_t id[SHMI_ID_BYTES], int rank,
                                 const shmi_options_t *options, int device);
/* Waits until all ranks are attached, and registers memory for this rank's GPU if all have one. */
shmccl_result_t shmi_comm_meet(shmccl_comm_t *comm);
/* Waits until all have registered theirs. */
shmccl_result_t shmi_comm_settle(shmccl_comm_t *comm);
/* Frees an object in any state; NULL is fine. */
void shmi_comm_free(shmccl_comm_t *comm);

#endif
