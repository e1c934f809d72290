/*
 * device.h - a communicator's device side: its GPU, what is registered for it, the watchdog.
 *
 * device.c makes and ends it, enqueue.c and p2p_device.c give it work, helpers.c are its CPUs, watchdog.c looks after
 * kernels that nobody waits for. A communicator without one knows host memory only.
 *
 * Making one is part of making the communicator, in steps that wait for nobody: every rank opens its GPU and allocates
 * its channels (before it is seen), registers as many as all have and its own process can pin (when all are seen), and
 * uses as many as all could (when all have said so). If one rank has none, no rank has a device side.
 */
#ifndef SHMI_COMM_DEVICE_H
#define SHMI_COMM_DEVICE_H

#include <pthread.h>

#include "coll/launch.h"
#include "comm/comm.h"
#include "comm/helpers.h"
#include "mem/gpu.h"

/* What host and kernels of a rank tell each other, in pinned memory; a line for each writer. */
struct shmi_notice {
  uint32_t leave;
  uint8_t pad[SHMI_LINE - 4];
  uint64_t status;
  uint32_t moved; /* the newest step whose copies are over, where helper threads publish it */
};

enum { SHMI_RECENT_CALLS = 64 };

struct shmi_device {
  struct shmi_gpu *gpu;
  struct shmi_pinned control, staging, told;
  struct shmi_notice *notice; /* the host's address of `told` */
  struct shmi_launch launch;  /* what all launches have in common */
  struct shmi_world pairs;    /* the device's view of the message slots */
  struct shmi_pieces *pieces; /* in device memory */
  struct shmi_pinned slots;   /* of all ranks' engines */
  struct {
    bool ready; /* on all ranks */
    struct shmi_engines at;
    struct shmi_world meetings; /* the device's view of at.slots */
    uint32_t steps;             /* of the calls enqueued so far */
    uint32_t *moved;            /* the device's address of notice->moved */
    struct shmi_helpers *helpers;
  } engines;
  uint32_t channels;                             /* in use; 0 with one rank */
  uint32_t calls;                                /* launched or captured so far */
  struct shmi_call_id recent[SHMI_RECENT_CALLS]; /* the newest of them, by number */
  struct shmi_watchdog {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool runs, stops;
    uint64_t gone_since_ns; /* a rank, seen by the thread; 0: none is */
  } watchdog;
};

/* ---- device.c ---- */

/* The device of a rank whose process is all ranks' (init_all). Asks CUDA only if the options want it. */
int shmi_device_of(int rank, const shmi_options_t *options);
/* Opens the GPU if the options ask for it: comm->device stays NULL if not. device: its number, or SHMI_GPU_CURRENT.
 * Raises what is an error. Also says in the member line what this rank has. */
shmccl_result_t shmi_device_open(shmccl_comm_t *comm, int device);
/* Once all ranks are attached: registers, and says how much. */
shmccl_result_t shmi_device_register(shmccl_comm_t *comm);
/* Whether all have a GPU; then each will say how much it could register, which lacks is about. */
bool shmi_device_is_common(const shmccl_comm_t *comm);
bool shmi_device_lacks(const void *comm, int peer);
/* Once all have said so: what all could is what is used. */
shmccl_result_t shmi_device_agree(shmccl_comm_t *comm);
/* Nothing of this communicator may run on the device any more. */
void shmi_device_close(shmccl_comm_t *comm);
/* From now on every kernel that gives up ends with a CUDA error, not only a captured one: for callers whose programs
 * look at results without asking for errors first. Before the first call. */
void shmi_device_trap(shmccl_comm_t *comm);
/* Whether no kernel of this rank is under way, as far as can be told; while nobody makes a call. */
bool shmi_device_is_idle(const shmccl_comm_t *comm);
/* In a forked child: CUDA and threads are the parent's. */
void shmi_device_forget(shmccl_comm_t *comm);

/* ---- enqueue.c ---- */

/* Whether a call's buffers are device memory; invalid argument if they are of different kinds, another device's, or do
 * not fit the stream. */
shmccl_result_t shmi_device_wanted(const shmccl_comm_t *comm, const struct shmi_call *call, const void *stream,
                                   bool *wanted);
/* Enqueues the call. */
shmccl_result_t shmi_device_run(shmccl_comm_t *comm, struct shmi_call *call, void *stream);
/* Before work is enqueued: the communicator's error, also one that only a kernel has found. */
shmccl_result_t shmi_device_look(shmccl_comm_t *comm);
/* After it: `result` of enqueueing, which ends the communicator if the GPU is lost. */
shmccl_result_t shmi_device_outcome(shmccl_comm_t *comm, shmccl_result_t result);

/* ---- p2p_device.c ---- */

/* Enqueues the messages in device memory of the group that ends, but those to this rank itself, and takes all that are
 * in device memory out of it. *waits: finish is to be called when those in host memory are done. */
shmccl_result_t shmi_device_run_messages(shmccl_comm_t *comm, bool *waits);
/* Waits for what was enqueued so. */
shmccl_result_t shmi_device_finish_messages(shmccl_comm_t *comm);
/* Lanes and messages of a group that has none yet, from those noted in comm: at most SHMI_GROUP_MOST. */
void shmi_device_add_lanes(const shmccl_comm_t *comm, struct shmi_group *group);
/* A kernel has refused a message of `peer`: raises it, as shmi_abort_note. */
void shmi_device_note_message(shmccl_comm_t *comm, int peer);

/* ---- watchdog.c ---- */

shmccl_result_t shmi_watchdog_start(shmccl_comm_t *comm);
void shmi_watchdog_stop(struct shmi_device *device);
/* The number of the next launch, which is kept in mind for messages. */
uint32_t shmi_watchdog_number(struct shmi_device *device, const struct shmi_call_id *call);
/* What it does every now and then: an error that a kernel or another rank has found becomes this rank's, kernels are
 * told to leave. From any thread. */
void shmi_watchdog_look(shmccl_comm_t *comm);

#endif
