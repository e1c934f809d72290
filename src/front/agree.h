/* agree.h - the ranks' agreement on one communicator. */
#ifndef SHMI_AGREE_H
#define SHMI_AGREE_H

#include "front/comms.h"

/* SHMCCL_FRONT. */
enum { SHMI_FRONT_AUTO, SHMI_FRONT_ALWAYS, SHMI_FRONT_NEVER };
/* Nonsense is `never`, and warned about once. */
uint64_t shmi_front_setting(void);

/* Collective over comm's ranks, in a thread of each, within bounded time: the engine's communicator, on the device that
 * NCCL's is on; NULL if the calls stay with NCCL, which holds for all ranks. Logs one line, on rank 0. */
shmccl_comm_t *shmi_front_agree(struct shmi_front_comm *comm);

#endif
