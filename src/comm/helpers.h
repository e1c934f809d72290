/*
 * helpers.h - threads of a rank that reduce its share of calls which copy engines carry (SHMCCL_CPU_REDUCE).
 *
 * Who writes what: the GPU's copy engines everything in this rank's slots but its own lane, and notice->moved when
 * those of a turn are over; the helpers the own lane, the result; the first of them this rank's word of the step, when
 * both are done. They read the others' slots behind the others' words, as coll/step.h says. So a turn has two executors
 * in a rank, and one publisher.
 *
 * They find no errors: the kernel that waits for the same words does, or the watchdog; then they leave what they were
 * doing and publish nothing more.
 */
#ifndef SHMI_COMM_HELPERS_H
#define SHMI_COMM_HELPERS_H

#include "comm/comm.h"

struct shmi_helpers;
struct shmi_job;

/* Starts the threads, on CPUs of their own where this rank's affinity and quota leave some, near its node. */
shmccl_result_t shmi_helpers_start(struct shmi_helpers **helpers, shmccl_comm_t *comm);
/* No kernel waits for them any more. NULL is accepted. */
void shmi_helpers_stop(struct shmi_helpers *helpers);

/* A call before which `steps` were published, to be given to them when it is enqueued. NULL: no memory. */
struct shmi_job *shmi_helpers_prepare(const struct shmi_call *call, uint32_t steps);
/* Takes the job over. */
void shmi_helpers_give(struct shmi_helpers *helpers, struct shmi_job *job);

/* How many of the masks (a bit per CPU) are equal to that of `rank`; *place says how many of those are of ranks before
 * it. 0 if another mask shares CPUs with it: then nobody can tell who should take which. */
int shmi_helper_group(const uint8_t (*masks)[SHMI_CPU_MASK_BYTES], int nranks, int rank, int *place);
/* The same for this rank of a communicator. */
int shmi_helper_group_of(const shmccl_comm_t *comm, int *place);

#endif
