/*
 * support.h - ranks as forked processes whose stderr is caught, and a look at what they leave behind.
 *
 * Every rank's function runs in a process of its own, with a private segment folder on tmpfs. After it has returned the
 * process must own as many descriptors and mappings of segments as before, and be able to make a new communicator;
 * after all ranks have ended the folder must be empty. A failed check prints one line and the rank goes on.
 */
#ifndef TROUBLE_SUPPORT_H
#define TROUBLE_SUPPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "shmccl.h"

#define LENGTH(array) (sizeof(array) / sizeof *(array))

/* ---- checks ------------------------------------------------------------------------------------------------------ */

void tr_check(bool good, const char *file, int line, const char *condition, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
void tr_expect(shmccl_result_t got, shmccl_result_t wanted, const char *words, const char *file, int line,
               const char *call);

/* CHECK(condition, "rank %d", rank): what failed, and the circumstances. */
#define CHECK(condition, ...) tr_check((condition), __FILE__, __LINE__, #condition, __VA_ARGS__)
/* The call fails with `code` and has logged exactly one line, which is shmccl_last_error() and holds every one of
 * `words`, separated by '|'. */
#define EXPECT(call, code, words) tr_expect((call), (code), (words), __FILE__, __LINE__, #call)
/* The call succeeds and logs nothing. */
#define EXPECT_OK(call) EXPECT(call, SHMCCL_SUCCESS, NULL)
/* The call fails with an error that was logged before: no line. */
#define EXPECT_AGAIN(call, code) EXPECT(call, code, NULL)

/* How many checks of this process have failed. */
int tr_failed(void);

/* ---- a program ------------------------------------------------------------------------------------------------- */

/* Clears the environment of what launchers and users set, makes the folder, loads what stays loaded. */
void tr_begin(void);
/* Removes the folder, which must be empty; the program's exit status. */
int tr_end(void);
_Noreturn void tr_skip(const char *reason);

/* The private folder. */
const char *tr_folder(void);
/* Entries of a folder, without . and .. */
int tr_entries(const char *folder);

/* A number below `limit` from the seed that tr_begin printed (SHMCCL_TEST_SEED repeats it). */
unsigned tr_random(unsigned limit);

uint64_t tr_now_ns(void);
void tr_sleep_ms(unsigned ms);

/* ---- stderr --------------------------------------------------------------------------------------------------------
 */

/* From here on this process's stderr goes to memory; failed checks still go to the real one. */
void tr_catch_stderr(void);
/* What has been written since the last call; returns the number of lines. */
int tr_caught(char *text, size_t bytes);

/* ---- ranks ------------------------------------------------------------------------------------------------------- */

enum { TR_MOST = 8, TR_ANYHOW = 1 << TR_MOST };

/* What a rank tells the parent, in shared memory. */
struct tr_slot {
  uint32_t phase; /* published by tr_set */
  int32_t child;  /* a process that the rank left running */
  uint64_t told_ns;
  shmccl_result_t result;
  char error[1024];
};

struct tr_job {
  int nranks;
  shmccl_unique_id_t id;
  const void *argument;
  pid_t pids[TR_MOST];
  struct tr_slot *slots; /* [TR_MOST] */
};

typedef void (*tr_rank_fn)(struct tr_job *job, int rank);

/* A job with a new id, and its processes; `argument` is theirs to use. */
void tr_prepare(struct tr_job *job, int nranks, const void *argument);
void tr_launch(struct tr_job *job, tr_rank_fn fn);
/* Both. */
void tr_start(struct tr_job *job, int nranks, tr_rank_fn fn, const void *argument);
/* Waits for them. Ranks in the mask `dead` must have been ended by a signal, the others must have exited with 0.
 * Whoever is still there after 20 s is killed, which is a failure. TR_ANYHOW: however they have ended. */
void tr_join(struct tr_job *job, unsigned dead);
/* Start and join. Nobody may die, and nothing may be left in the folder. */
void tr_run(int nranks, tr_rank_fn fn, const void *argument);

void tr_set(uint32_t *word, uint32_t value);
/* Waits until the word is at least `value`; false after 15 s. */
bool tr_await(const uint32_t *word, uint32_t value);
bool tr_await_all(const struct tr_job *job, uint32_t phase);

/* Writes the result, the thread's last error and the time to the rank's slot. */
void tr_tell(struct tr_job *job, int rank, shmccl_result_t result);

/* A communicator of the job with these options. */
shmccl_comm_t *tr_join_comm(const struct tr_job *job, int rank, const shmccl_config_t *config);

/* ---- traces --------------------------------------------------------------------------------------------------------
 */

struct tr_traces {
  int descriptors, threads, mappings; /* of this process; mappings of files in the segment folder; threads but for the
                                         stand-in CUDA runtime's */
};
struct tr_traces tr_traces(void);
void tr_check_traces(struct tr_traces before, const char *where);
/* Makes a communicator of two ranks in this thread and moves a message through it. */
void tr_check_works(const char *where);
/* Called by a rank: the folder has no room for another communicator of every rank, so none is made afterwards. */
void tr_folder_is_small(void);

#endif
