/*
 * divert.h - one collective as the front sees it, and which of them the engine takes.
 */
#ifndef SHMI_DIVERT_H
#define SHMI_DIVERT_H

#include "front/comms.h"

struct shmi_front_call {
  enum shmi_collective collective;
  const void *sendbuf;
  void *recvbuf;
  size_t count; /* as NCCL's call of that name has it */
  nccl_datatype_t datatype;
  nccl_redop_t op; /* of those that reduce */
  int root;        /* of those that have one */
  void *stream;
};

/* A pure function of what all ranks pass alike, so that all choose alike; not of buffers, alignment, capture. */
enum shmi_front_way shmi_front_way_of(const struct shmi_front_call *call, int nranks);
/* That one rank sends; for counters. */
uint64_t shmi_front_bytes(const struct shmi_front_call *call);

/* Makes the call on the communicator's engine. The engine has logged what is wrong. */
shmccl_result_t shmi_front_run(const struct shmi_front_call *call, shmccl_comm_t *engine);

#endif
