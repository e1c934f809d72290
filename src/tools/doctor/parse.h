/*
 * parse.h - pure functions from texts to facts: what the kernel, ldconfig, NCCL and the doctor's own questions print.
 *
 * All accept any bytes: what is not understood is left out.
 */
#ifndef DOCTOR_PARSE_H
#define DOCTOR_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The next line of a text, without its end, copied into line (cut to fit); returns what follows, NULL at the end. */
const char *doctor_next_line(const char *text, char *line, size_t bytes);

/* ---- versions ---------------------------------------------------------------------------------------------------- */

/* Compares the numbers in two versions ("580.65.06", "6.6.87.2-microsoft"): < 0, 0, > 0. Stops at the first part that
 * is no number; a missing part counts as 0. */
int doctor_compare_versions(const char *a, const char *b);

/* ---- kernel ------------------------------------------------------------------------------------------------------ */

struct doctor_mount {
  char device[128], type[32], options[256];
};
/* The mount that `path` lies on, of the text of /proc/mounts: the longest mount point that holds it, the last of
 * equals. */
bool doctor_mount_of(const char *mounts, const char *path, struct doctor_mount *mount);
/* The value of a mount option such as "size=65536k" in bytes; 0 if it is not there. */
uint64_t doctor_mount_size(const char *options);

/* Bytes of all swap spaces in the text of /proc/swaps. */
uint64_t doctor_swap_bytes(const char *swaps);
/* A row of /proc/meminfo in bytes; 0 if it is not there. */
uint64_t doctor_meminfo(const char *meminfo, const char *name);
/* The soft limit of "Max locked memory" in the text of /proc/self/limits: bytes, UINT64_MAX if unlimited; false if it
 * is not there. */
bool doctor_memlock(const char *limits, uint64_t *bytes);
/* Total and free bytes of the first file system in the output of `df -B1`. */
bool doctor_df(const char *df, uint64_t *total, uint64_t *free_bytes);

/* ---- loader ------------------------------------------------------------------------------------------------------ */

/* The path of a library in the output of ldconfig -p, the first for this machine's kind. */
bool doctor_cached_library(const char *cache, const char *name, char *path, size_t bytes);

/* ---- NCCL -------------------------------------------------------------------------------------------------------- */

/* Major * 10000 + minor * 100 + patch, as ncclGetVersion gives it; 0 if unknown. */
struct doctor_nccl {
  char path[512], error[256];
  int version, cuda_major;
};
/* Finds "NCCL version 2.27.5+cuda12.9" in the bytes of a library. */
bool doctor_nccl_version(const char *bytes, size_t length, struct doctor_nccl *nccl);

/* The newest and oldest net tables (ncclNetPlugin_vN) that an NCCL looks for. */
void doctor_net_tables(int nccl_version, int *oldest, int *newest);

/* ---- answers to the doctor's own questions ----------------------------------------------------------------------- */

enum { DOCTOR_GPUS_MOST = 16, DOCTOR_TABLES_MOST = 32 };

enum doctor_driver_model { DOCTOR_MODEL_UNKNOWN, DOCTOR_MODEL_WDDM, DOCTOR_MODEL_TCC, DOCTOR_MODEL_MCDM };

/* doctor_question_gpus: one fact a line.
 *   driver 581.15 | cuda-driver 13000 | gpu INDEX MODEL BYTES NAME | peer A B 0|1 | pinned BYTES | pinned-error BYTES
 *   CODE | host-pointer 0|1 | missing LIBRARY | error LIBRARY TEXT */
struct doctor_gpus {
  char driver[32];
  int cuda_driver; /* 13000; 0 if unknown */
  int ngpus;
  struct {
    enum doctor_driver_model model;
    uint64_t memory_bytes;
    char name[96];
  } gpu[DOCTOR_GPUS_MOST];
  int peers_asked, peers_possible; /* ordered pairs */
  bool pinned_asked;
  uint64_t pinned_bytes;       /* the largest step that could be registered */
  uint64_t pinned_error_bytes; /* the step that failed; 0 if none did */
  int pinned_error;            /* CUDA's code */
  int host_pointer;            /* the device can use the host's address of registered memory: 0, 1; -1 unknown */
  char missing[128];           /* libraries that could not be opened, with a space after each */
  char errors[512];            /* lines */
};
void doctor_parse_gpus(const char *text, struct doctor_gpus *gpus);

/* doctor_question_plugin: glibc 2.39 | needs 2.34 | nccl VERSION | nccl-error TEXT | plugin PATH | plugin-error TEXT |
 *   beside PATH | table ncclNetPlugin_v11 */
struct doctor_plugin {
  char glibc[16], needs[16], path[512], beside[512], error[512];
  int nccl_version;
  char nccl_error[256];
  int ntables;
  char table[DOCTOR_TABLES_MOST][32];
};
void doctor_parse_plugin(const char *text, struct doctor_plugin *plugin);

/* doctor_question_front: front PATH | front-error TEXT | version 22809 | real PATH */
struct doctor_front {
  char path[512], error[512], real[512];
  int version; /* of the NCCL behind it; 0: none */
};
void doctor_parse_front(const char *text, struct doctor_front *front);
/* Whether a file is the NCCL front, by its name. */
bool doctor_is_front(const char *path);

#endif
