/*
 * comm.h - one rank's communicator object, and what the files of this room share.
 *
 * comm.c makes and frees it; wait.c bounds every wait; abort.c holds the one error that a communicator can be in;
 * select.c turns arguments into a call with a schedule; collectives.c and p2p.c are the entry points.
 */
#ifndef SHMI_COMM_H
#define SHMI_COMM_H

#include <stdbool.h>

#include "base/log.h"
#include "coll/plan.h"
#include "comm/distance.h"
#include "shm/segment.h"

struct shmi_message { /* a send or receive noted in a group */
  uint8_t *buffer;    /* only read if is_send */
  void *stream;       /* if it is on_device */
  size_t bytes, done;
  struct shmi_message_id id;
  uint32_t signature; /* of id */
  int peer;
  bool is_send, on_device, complete;
};

struct shmi_group_kind { /* what a group's messages have in common */
  bool host, device;     /* some have data there */
  bool enqueued;         /* some are on a device, on this stream: */
  void *stream;
};

/* What else ends the wait for ranks that have not come yet: looked at now and then; an error, logged by `look`, because
 * of rank *culprit, which is -1 if none of this communicator. */
struct shmi_watch {
  shmccl_result_t (*look)(const void *context, int *culprit);
  const void *context;
};

struct shmccl_comm {
  int rank, nranks;
  const struct shmi_watch *watch; /* while it is created; may be NULL */
  struct shmi_device *device;     /* comm/device.h; NULL: host memory only */
  shmi_options_t options;         /* in force, the same on all ranks */
  struct shmi_segment segment;    /* with one rank: none, and world lies in private memory */
  struct shmi_world world;
  uint32_t steps; /* published so far */
  uint32_t fork_generation;
  bool slots_allocated;
  uint64_t lanes_allocated; /* bit p: the pair slots toward rank p */
  bool oversubscribed;      /* more ranks' threads than CPUs: spinning would keep a peer from running */
  bool finalized, in_group;
  size_t stream_bytes;                /* calls with more user memory write it past the caches */
  const struct shmi_call_id *calling; /* the collective that the owner is in, or NULL */
  uint64_t far;                       /* bit r: rank r is far (distance.c) */
  uint32_t sized_calls, sized_groups; /* large enough for distance.c, of collectives and of send and recv */
  uint32_t lit, lit_seen[SHMCCL_MAX_RANKS];
  struct shmi_distance distances[SHMCCL_MAX_RANKS];
  uint32_t abort_claimed;                                      /* shmi_claim: who may write this rank's abort line */
  uint32_t abort_logged;                                       /* shmi_claim: who logs it */
  uint64_t late;                                               /* shmi_abort_line's, as this rank knows it */
  shmccl_result_t abort_told;                                  /* what this object's calls have already reported */
  uint32_t sent[SHMCCL_MAX_RANKS], received[SHMCCL_MAX_RANKS]; /* pieces, per peer, on the circle */
  struct shmi_message *messages;
  size_t nmessages, messages_capacity;
  struct shmi_group_kind kind; /* of these messages */
};

/* ---- comm.c ---- */

/* Creates rank's object of the communicator named by id and waits for the others. */
shmccl_result_t shmi_comm_create(shmccl_comm_t **comm, int nranks, const uint8_t id[SHMI_ID_BYTES], int rank,
                                 const shmi_options_t *options);
/* The same for ranks of which more is known than the id: `watch`, used during the call only. device: of the rank, or
 * SHMI_GPU_CURRENT. */
shmccl_result_t shmi_comm_create_watched(shmccl_comm_t **comm, int nranks, const uint8_t id[SHMI_ID_BYTES], int rank,
                                         const shmi_options_t *options, const struct shmi_watch *watch, int device);
/* Whether `peer` was attached and died. A rank that has left is no dead one. */
bool shmi_comm_has_died(const shmccl_comm_t *comm, int peer);
shmccl_result_t shmi_random_id(uint8_t id[SHMI_ID_BYTES]);
/* An object that may be used by this process now: created here, not in a forked parent. */
shmccl_result_t shmi_comm_check(const shmccl_comm_t *comm);

/* Whether ranks of so many busy threads each are more than their CPUs: the same answer on all ranks, once all are
 * attached. */
bool shmi_comm_oversubscribed(const shmccl_comm_t *comm, uint32_t threads);

/* Asks that staging not yet allocated comes from the NUMA node of the rank that will read it. */
void shmi_place_for(const shmccl_comm_t *comm, void *address, size_t bytes, int reader);

/* ---- environment.c ---- */

/* The launcher that shmccl_comm_init_env() would believe, and what it says, unchecked (NULL: nothing). NULL: none. */
const char *shmi_launcher_seen(const char **rank, const char **nranks);
/* Whether a launcher's variables show that this job has ranks on other hosts; its name. */
int shmi_job_spans_hosts(const char **launcher);

/* ---- abort.c: the first error of a communicator is its last ---- */

/* Puts the communicator into error `cause`, found by this rank, because of rank culprit (-1: none); returns the error
 * that it is in from now on (an earlier one wins). message: logged, if this is the first; NULL if it was logged
 * already. */
shmccl_result_t shmi_abort_raise(shmccl_comm_t *comm, shmccl_result_t cause, int culprit, const char *message);
/* The error that the communicator is in, reported in full once; SHMCCL_SUCCESS if none. One cache line per rank. */
shmccl_result_t shmi_abort_look(shmccl_comm_t *comm);
/* A peer's word carries another signature than ours: raises the mismatch and says what either rank called. */
shmccl_result_t shmi_abort_mismatch(shmccl_comm_t *comm, int peer);
/* For the watchdog of device memory (watchdog.c), beside the owner, about a call that the owner is not in any more
 * (NULL: unknown). note: as raise, if there is no error yet; message NULL: a mismatch. notice: as look; whether there
 * is one. */
void shmi_abort_note(shmccl_comm_t *comm, shmccl_result_t cause, int culprit, const struct shmi_call_id *call,
                     const char *message);
bool shmi_abort_notice(shmccl_comm_t *comm, const struct shmi_call_id *call);
/* Whether it is in error because of something outside, so that none of its ranks is the culprit. */
bool shmi_abort_is_foreign(const shmccl_comm_t *comm);
/* As look, without reporting, for any thread. */
shmccl_result_t shmi_abort_peek(const shmccl_comm_t *comm);

/* ---- wait.c ---- */

/* One wait for words of peers. */
struct shmi_wait {
  shmccl_comm_t *comm;
  const char *what; /* "allreduce", for messages */
  uint64_t looks;   /* in vain, since the last progress */
  uint64_t started_ns, checked_ns;
};

static inline struct shmi_wait shmi_wait_begin(shmccl_comm_t *comm, const char *what) {
  return (struct shmi_wait){.comm = comm, .what = what};
}

/* Whether the waiter still lacks something from `peer`; looks at memory each time. */
typedef bool (*shmi_wait_lacks_fn)(const void *context, int peer);

/* Called after a look in vain: spins, yields or sleeps, by how long it has been; now and then looks at aborts, at the
 * liveness of the peers that are lacking and at the time limit. An error is final: raised and logged. */
shmccl_result_t shmi_wait_pause(struct shmi_wait *w, shmi_wait_lacks_fn lacks, const void *context);

/* For waits that make progress all the time: looks at aborts, and now and then at liveness, without waiting. */
shmccl_result_t shmi_wait_glance(struct shmi_wait *w, shmi_wait_lacks_fn lacks, const void *context);

/* The ranks that `lacks` names, as " 2 3" and a bit each; returns the first, -1 if there is none. */
enum { SHMI_RANKS_TEXT = 128 };
int shmi_lacking_text(const shmccl_comm_t *comm, shmi_wait_lacks_fn lacks, const void *context,
                      char text[SHMI_RANKS_TEXT], uint64_t *ranks);
/* " 2 3" */
void shmi_ranks_text(uint64_t ranks, char text[SHMI_RANKS_TEXT]);

/* After progress in a wait that goes on: patience and time limit start again. */
static inline void shmi_wait_progress(struct shmi_wait *w) { w->looks = 0; }

/* ---- distance.c: how far apart ranks' cores are ---- */

/* Whether a call of this size should measure; *calls counts them: the same answer on ranks that count the same calls.
 */
bool shmi_distance_wanted(uint32_t *calls, size_t bytes);
/* Writes this rank's line; times those of the peers that have written theirs since the last time. */
void shmi_distance_light(shmccl_comm_t *comm);
void shmi_distance_measure(shmccl_comm_t *comm);

/* ---- select.c ---- */

extern const char *const shmi_collective_names[SHMI_COLLECTIVE_COUNT];

/* The root of an allgather or barrier that split or finalize makes, so that it matches no other call. */
enum { SHMI_INNER = 1 };
/* "allreduce"; "split" and "finalize" for their inner calls. */
const char *shmi_call_name(const struct shmi_call_id *id);

/* Chooses schedule and chunks for *call, whose id, element and buffers are set: a pure function of the id, the number
 * of ranks and what was agreed at init. */
void shmi_select(const shmccl_comm_t *comm, struct shmi_call *call);
/* The same for device memory: packets, or slots and how many channels share the call. channel: any of `channels`. */
void shmi_select_device(const struct shmi_world *channel, int channels, const shmi_options_t *options,
                        struct shmi_call *call);
/* The same for copy engines; false if the call is not for them. slots: theirs. */
enum { SHMI_SCRATCH_SLOTS = 2 }; /* that the operands of a turn need at most, on the device */
bool shmi_select_engines(const struct shmi_world *slots, const shmi_options_t *options, struct shmi_call *call);
/* "allreduce of 12 float32, sum" */
void shmi_call_text(const struct shmi_call_id *id, char *text, size_t bytes);

/* ---- collectives.c, api.c ---- */

/* The allgather of split. */
shmccl_result_t shmi_split_exchange(const void *mine, void *all, size_t bytes, shmccl_comm_t *comm);

/* What every call on a communicator checks first. */
shmccl_result_t shmi_check_usable(const shmccl_comm_t *comm, const char *name, const void *stream);

const char *shmi_datatype_name(uint32_t datatype);

/* ---- p2p.c ---- */

/* What to say when this rank wanted to receive another message from `peer` than was sent. */
enum { SHMI_OTHER_MESSAGE_TEXT = 256 };
void shmi_other_message_text(const shmccl_comm_t *comm, int peer, const struct shmi_message_id *awaited,
                             const struct shmi_message_id *sent, char text[SHMI_OTHER_MESSAGE_TEXT]);

#endif
