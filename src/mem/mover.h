/*
 * mover.h - copies between a GPU's memory and host memory, for threads that may make no CUDA call.
 *
 * Almost any call of CUDA can wait for a kernel that runs, and a kernel of NCCL runs until the thread that would call
 * has moved its data. So each GPU in use has a thread here that makes all calls, with two streams that carry nothing
 * but copies. A track is one user's copies in one direction, in order. One thread at a time posts copies and looks how
 * many are done: it takes no lock, and makes a system call only where a post has to wake the thread. All else by any
 * thread.
 *
 * mover_cuda.c implements it; mover_none.c does where the library is built without CUDA. No type of CUDA appears here.
 */
#ifndef SHMI_MOVER_H
#define SHMI_MOVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shmccl.h"

struct shmi_track;

enum { SHMI_TRACK_COPIES = 32 }; /* that may be posted and not done; a power of two */
enum shmi_direction { SHMI_FROM_DEVICE, SHMI_TO_DEVICE };

/* How many GPUs this process sees; 0 if none can be used. */
int shmi_mover_devices(void);
/* Whether the calling thread's GPU can do this: NULL, or why not. Starts the GPU. */
const char *shmi_mover_probe(void);

/* A track of the GPU that `memory` is on. Starts its thread if this is its first track. */
shmccl_result_t shmi_track_open(struct shmi_track **track, const void *memory, enum shmi_direction direction);
/* Returns when none of its copies runs any more; what has not begun is dropped. After a while it gives up and returns
 * false: the track and what it copies must then be left alone for ever. NULL is accepted. */
bool shmi_track_close(struct shmi_track *track);

/* Whether `memory` is on the track's GPU; an error if it is not, or on none. */
shmccl_result_t shmi_track_check(const struct shmi_track *track, const void *memory);

/* Registers whole pages of host memory, which a track's host end must be, if this process then has no more than `most`
 * bytes registered in all. Memory that is registered already is counted once more. */
shmccl_result_t shmi_track_pin(const struct shmi_track *track, void *host, size_t bytes, uint64_t most);
void shmi_mover_unpin(void *host);

/* Posts a copy. None: only a place in the order. */
void shmi_track_post(struct shmi_track *track, void *to, const void *from, size_t bytes);
/* How many are done of all that were posted, on the circle; what they wrote is seen then. */
uint32_t shmi_track_done(const struct shmi_track *track);
/* Success, or the failure that all tracks of the GPU are in, after which none of their copies is done. The first one
 * who asks logs it. */
shmccl_result_t shmi_track_state(const struct shmi_track *track);

#endif
