/*
 * doctor.h - shmccl-doctor: looks at the machine or pod it runs in, or at a recorded tree of one, and says what is
 * right, what is not, why that matters, and what to do.
 *
 * A check reads through this interface only, so that a recorded tree (--root) answers as the machine would:
 *   files       ROOT/path
 *   environment ROOT/proc/self/environ (NAME=value, ended by 0 or by a newline), loaded into the process
 *   questions   what a command or a library answered: ROOT/answers/NAME
 * Nothing is changed, no root is needed, and whatever may hang is asked by a child with a time limit. Texts handed out
 * live as long as the doctor.
 */
#ifndef DOCTOR_H
#define DOCTOR_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "tools/doctor/parse.h"

enum doctor_status { DOCTOR_OK, DOCTOR_WARNING, DOCTOR_FAILURE };

struct doctor_finding {
  enum doctor_status status;
  const char *id;        /* "shm.size": subject and aspect, for grep and for docs/wsl2.md */
  const char *seen;      /* what was seen */
  const char *why, *fix; /* why it matters here, and what to do exactly; NULL with DOCTOR_OK */
};

/* What later checks need of earlier ones. */
struct doctor_facts {
  bool wsl2, container, pod;
  const char *cache; /* what ldconfig -p says; "" if it does not */
  struct doctor_gpus gpus;
  struct doctor_nccl nccl;
};

struct doctor;
typedef void (*doctor_listener)(const struct doctor *d, const struct doctor_finding *finding);

struct doctor {
  const char *root; /* "" for this machine */
  bool recorded;
  uint64_t deadline_ns; /* of all questions together */
  doctor_listener tell; /* called for each finding as it is made */
  struct doctor_facts facts;
  enum doctor_status worst;
  int counts[3];
  struct doctor_finding *findings;
  int nfindings, capacity;
  struct doctor_memory *memory;
};

/* ---- doctor.c: findings and texts -------------------------------------------------------------------------------- */

void doctor_end(struct doctor *d);
const char *doctor_status_name(enum doctor_status status);
void doctor_add(struct doctor *d, struct doctor_finding finding);
char *doctor_text(struct doctor *d, const char *format, ...) __attribute__((format(printf, 2, 3)));
void *doctor_room(struct doctor *d, size_t bytes);    /* lives as long as the doctor; aligned for pointers */
char *doctor_bytes(struct doctor *d, uint64_t bytes); /* "64 MiB" */

#define DOCTOR_SAY_OK(d, name, ...)                                                                                    \
  doctor_add(d, (struct doctor_finding){DOCTOR_OK, name, doctor_text(d, __VA_ARGS__), NULL, NULL})

/* ---- files.c ----------------------------------------------------------------------------------------------------- */

/* The whole file, at most 1 MiB of it, ended by 0; NULL with errno. length may be NULL. */
char *doctor_read(struct doctor *d, const char *path, size_t *length);
/* The same; a file that is there but cannot be read is a finding. */
char *doctor_read_or_say(struct doctor *d, const char *id, const char *path, size_t *length);
bool doctor_exists(const struct doctor *d, const char *path);
/* An open descriptor, or -1 with errno. */
int doctor_open(const struct doctor *d, const char *path, int flags);
/* Names in a folder, sorted, without . and ..; ends with NULL. Never NULL itself. */
char **doctor_list(struct doctor *d, const char *folder);
/* What a symbolic link says; NULL if it is none. */
char *doctor_link(struct doctor *d, const char *path);
/* Where the dynamic loader would find a library: LD_LIBRARY_PATH, the loader's cache, the usual folders. NULL: nowhere.
 */
char *doctor_find_library(struct doctor *d, const char *name);

/* ---- questions.c ------------------------------------------------------------------------------------------------- */

struct doctor_answer {
  char *text;     /* what came; "" if nothing */
  bool answered;  /* the child ended with 0 in time; in a recorded tree: the answer was recorded */
  bool timed_out; /* it did not end in time, and was killed */
};

/* Runs a command, and reads its standard output. */
struct doctor_answer doctor_run(struct doctor *d, const char *name, unsigned limit_ms, const char *const *argv);
/* Runs fn in a forked child: libraries that might hang or crash are loaded there. */
typedef void (*doctor_question_fn)(FILE *out, const void *context);
struct doctor_answer doctor_ask(struct doctor *d, const char *name, unsigned limit_ms, doctor_question_fn fn,
                                const void *context);

/* ---- the checks -------------------------------------------------------------------------------------------------- */

void doctor_check_system(struct doctor *d);
void doctor_check_wslconfig(struct doctor *d);
void doctor_check_swap(struct doctor *d);
void doctor_check_libraries(struct doctor *d);
void doctor_check_gpus(struct doctor *d);
void doctor_check_shm(struct doctor *d);
void doctor_check_memlock(struct doctor *d);
void doctor_check_runtime(struct doctor *d);
void doctor_check_kubernetes(struct doctor *d);
void doctor_check_nccl(struct doctor *d);
void doctor_check_versions(struct doctor *d);
void doctor_check_environment(struct doctor *d);
void doctor_check_plugin(struct doctor *d);
void doctor_check_front(struct doctor *d);
void doctor_check_probe(struct doctor *d);

/* What doctor_check_gpus, doctor_check_plugin and doctor_check_front ask, in a child. */
void doctor_question_gpus(FILE *out, const void *context);
void doctor_question_plugin(FILE *out, const void *nccl_path);
struct doctor_front_question {
  const char *front, *nccl; /* files; "": whatever is found */
};
void doctor_question_front(FILE *out, const void *question);
/* A library where packages and tarballs put it, seen from this program; false: it is not there. */
bool doctor_beside(const char *file, char whole[PATH_MAX]);

/* Bytes of /dev/shm that a job of ngpus ranks needs: the formula is explained at its definition. */
uint64_t doctor_shm_needed(int ngpus);

#endif
