/*
 * options.h - every SHMCCL_* setting that a communicator obeys, with its unit, default and bounds, in one table.
 *
 * A setting comes from the config struct where it is non-zero there, else from the environment, else from the table.
 * Ranks must agree on all of them; the segment's header carries rank 0's. Not in the table: SHMCCL_SHM_DIR (below),
 * SHMCCL_TUNING_FILE (tuning.h), which rank 0 reads when it makes a segment.
 */
#ifndef SHMI_OPTIONS_H
#define SHMI_OPTIONS_H

#include "base/tuning.h"
#include "shmccl.h"

/* The settings in force for one communicator. Fixed width: it lies in the segment's header. */
typedef struct {
  uint64_t timeout_ms;
  uint64_t staging_bytes;
  uint64_t chunk_bytes;         /* 0: by size */
  uint64_t algorithm;           /* shmccl_algorithm_t */
  uint64_t memory;              /* shmccl_memory_t */
  uint64_t engine_bytes;        /* the least that copy engines carry, on device memory */
  uint64_t cpu_reduce;          /* whether CPUs reduce what copy engines carry */
  shmi_thresholds_t thresholds; /* rank 0's, from SHMCCL_TUNING_FILE; the others take them over */
} shmi_options_t;

/* Reads config (may be NULL) and environment. Invalid argument, logged, if either holds nonsense. */
shmccl_result_t shmi_options_read(const shmccl_config_t *config, shmi_options_t *options);

/* The name of the first setting in which the two differ, with both values; NULL if they agree. */
const char *shmi_options_difference(const shmi_options_t *a, const shmi_options_t *b, uint64_t *value_a,
                                    uint64_t *value_b);

/* The folder for segments: SHMCCL_SHM_DIR or /dev/shm. */
const char *shmi_option_shm_dir(void);

/* Thresholds for nranks from the table that SHMCCL_TUNING_FILE names; zeros if there is none, it does not have that
 * number of ranks, or it is refused, which is warned about once per process. */
shmi_thresholds_t shmi_option_thresholds(int nranks);
/* Settings that each process obeys by itself; from the environment only. */
typedef enum {
  SHMI_OPTION_PINNED_BYTES, /* SHMCCL_PINNED_BYTES: the most host memory that the ranks of a communicator pin for GPUs,
                               over all communicators of their processes */
  SHMI_OPTION_NET_BYTES,    /* SHMCCL_NET_BYTES: the most that the NCCL plugin's rings toward this process take */
  SHMI_OPTION_NET_GDR,      /* SHMCCL_NET_GDR: whether the NCCL plugin offers to take CUDA pointers */
  SHMI_OPTION_NCCL_ENV, /* SHMCCL_NCCL_ENV: whether the NCCL plugin sets NCCL's variables: 0 never, 1 always, 2 where
                           it is sensible */
  SHMI_OPTION_TUNER,    /* SHMCCL_TUNER: whether the NCCL plugin's tuner steers NCCL's choice of algorithm */
  SHMI_OPTION_FRONT,    /* SHMCCL_FRONT: what the NCCL front diverts: 0 what is sensible, 1 always, 2 never */
} shmi_local_option_t;
shmccl_result_t shmi_option_local(shmi_local_option_t which, uint64_t *value);

#endif
