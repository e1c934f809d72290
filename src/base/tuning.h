/*
 * tuning.h - the table that `shmccl-perf --tune` measures and writes (docs/benchmark.md has its format).
 *
 * Its readers are the library, which takes the thresholds for its number of ranks from it (rank 0 reads and publishes
 * them with the options, so that all ranks agree), and the NCCL tuner plugin, which asks for times. A table belongs to
 * one machine and one version of the library; read elsewhere it is refused. Plain C that needs no other file of the
 * library (tools compile it in); numbers are those of the C locale, whatever the program's.
 */
#ifndef SHMI_TUNING_H
#define SHMI_TUNING_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
  SHMI_TUNING_FORMAT = 1,
  SHMI_TUNING_CPU_BYTES = 128,
  SHMI_TUNING_SETS_MOST = 16, /* numbers of ranks */
  SHMI_TUNING_POINTS_MOST = 64,
  SHMI_TUNING_MESSAGE_BYTES = 512
};

/* What selection obeys, in bytes; 0: the built-in value. Fixed width: lies in the segment's header. */
typedef struct {
  uint64_t one_shot_most; /* the largest message that a reduction does in one shot */
  uint64_t reduce_chunk;  /* the most that a rank stages in one turn of a two-shot reduction */
  uint64_t copy_chunk;    /* ... of a collective that does not reduce */
} shmi_thresholds_t;

/* A measured allreduce of float32 on host memory: bytes of a rank's sendbuf, microseconds of one call. */
struct shmi_tuning_point {
  uint64_t bytes;
  double us;
};

/* What was measured with one number of ranks. */
struct shmi_tuning_set {
  int nranks;
  shmi_thresholds_t thresholds;
  int npoints;                                              /* at least 1 */
  struct shmi_tuning_point points[SHMI_TUNING_POINTS_MOST]; /* by rising bytes */
};

/* What a table is valid for. */
struct shmi_tuning_machine {
  char cpu[SHMI_TUNING_CPU_BYTES]; /* model; "unknown" where the kernel does not say */
  int cores;                       /* CPUs that are online, whether this process may use them or not */
  int library;                     /* SHMCCL_VERSION_CODE */
};

struct shmi_tuning {
  struct shmi_tuning_machine machine;
  double copy_gbs;        /* GB/s (10^9) that one rank alone copies in main memory */
  double cached_copy_gbs; /* ... in its caches */
  double handover_us;     /* a cache line's way from core to core; 0 on a machine with one core */
  int nsets;
  struct shmi_tuning_set sets[SHMI_TUNING_SETS_MOST]; /* each nranks once */
};

/* This machine and this library. */
struct shmi_tuning_machine shmi_tuning_this_machine(void);

/* Reads the table at `path`, which must be complete, well-formed and of this machine and version. Returns 0, or -1
 * after writing one line to `message` that names file, line, cause and remedy; *tuning is written on success only.
 * About 17 KiB: not for small stacks. Any thread. */
int shmi_tuning_read(const char *path, struct shmi_tuning *tuning, char message[SHMI_TUNING_MESSAGE_BYTES]);

/* The file that SHMCCL_TUNING_FILE names, NULL if it is unset or empty: there is no default. */
const char *shmi_tuning_path(void);

/* The set for that number of ranks, NULL if it was not measured. */
const struct shmi_tuning_set *shmi_tuning_find(const struct shmi_tuning *tuning, int nranks);

/* Microseconds of an allreduce of `bytes` per rank among `nranks`: on the line between the two measured sizes around
 * it, the smallest's time below all, the largest's bandwidth above all. Negative if that number of ranks was not
 * measured. */
double shmi_tuning_allreduce_us(const struct shmi_tuning *tuning, int nranks, uint64_t bytes);

/* Whether every threshold is 0 or within its bounds: for values that came through shared memory. */
int shmi_thresholds_valid(const shmi_thresholds_t *thresholds);

#ifdef __cplusplus
}
#endif
#endif
