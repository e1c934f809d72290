/*
 * gpu.h - one communicator's hold on its GPU: the few things that the library asks of CUDA.
 *
 * cuda.c implements it; none.c does where the library is built without CUDA. No type of CUDA appears here: a stream is
 * a `void *`, the caller's cudaStream_t.
 *
 * Every call may be made while streams of the process are being captured, and leaves the thread's current device as it
 * was. What fails is logged with CUDA's text and returned as SHMCCL_ERROR_CUDA; nothing stays behind in
 * cudaGetLastError(). A hold is used by one thread at a time.
 */
#ifndef SHMI_GPU_H
#define SHMI_GPU_H

#include <stdbool.h>

#include "coll/engine.h"
#include "coll/launch.h"
#include "shmccl.h"
#include "topo/peers.h"

struct shmi_gpu;

enum { SHMI_GPU_CURRENT = -1 }; /* the device that the calling thread uses */

/* Whether this process uses its current device already. Starts nothing: a program that has no use for a GPU must not
 * pay for one. */
bool shmi_gpu_in_use(void);
/* How many devices there are; 0 if none can be used. */
int shmi_gpu_count(void);
/* Makes a device the calling thread's; the value is the one before. -1, or one that is not there: does nothing. */
int shmi_gpu_choose(int device);
/* A device's place, as NVML writes it; "" if it cannot be used. */
void shmi_gpu_bus_id(int device, char text[SHMI_BUS_ID_BYTES]);

/* Loads all kernels: one that is loaded later would wait for those that are running. */
shmccl_result_t shmi_gpu_open(struct shmi_gpu **gpu, int device);
/* Nothing of the communicator may run any more. NULL is accepted. */
void shmi_gpu_close(struct shmi_gpu *gpu);
int shmi_gpu_device(const struct shmi_gpu *gpu);

/* ---- memory ------------------------------------------------------------------------------------------------------ */

/* Host memory that the device reaches; the two addresses differ on WSL2. Zeros: none. */
struct shmi_pinned {
  void *host, *device;
  size_t bytes;
  bool registered; /* or allocated */
};

/* Registers whole pages of host memory, if this process then has no more than `most` bytes registered in all. Returns
 * NULL, or why it could not, which is not logged: there may be enough for less. */
const char *shmi_gpu_register(const struct shmi_gpu *gpu, struct shmi_pinned *p, void *host, size_t bytes,
                              uint64_t most);
/* Allocates some, all zeros. */
shmccl_result_t shmi_gpu_pin(const struct shmi_gpu *gpu, struct shmi_pinned *p, size_t bytes);
/* Either's end. */
void shmi_gpu_unpin(const struct shmi_gpu *gpu, struct shmi_pinned *p);

/* Device memory, all zeros. */
shmccl_result_t shmi_gpu_allocate(const struct shmi_gpu *gpu, void **p, size_t bytes);
void shmi_gpu_free(const struct shmi_gpu *gpu, void *p);

enum shmi_memory_kind {
  SHMI_MEMORY_HOST,
  SHMI_MEMORY_DEVICE, /* this device's, or managed */
  SHMI_MEMORY_OTHER   /* another device's */
};
shmccl_result_t shmi_gpu_kind_of(const struct shmi_gpu *gpu, const void *p, enum shmi_memory_kind *kind);

/* ---- work -------------------------------------------------------------------------------------------------------- */

/* Launches a kernel behind everything that was launched through this hold before, on whatever stream; under capture,
 * behind what the same capture holds. Also sets launch->trap under capture: nobody looks at a status between replays.
 */
shmccl_result_t shmi_gpu_launch(struct shmi_gpu *gpu, struct shmi_launch *launch, void *stream);
shmccl_result_t shmi_gpu_launch_group(struct shmi_gpu *gpu, struct shmi_group *group, void *stream);
/* A stream for launches that the calling thread waits for: behind nothing of the caller's. */
void *shmi_gpu_own_stream(const struct shmi_gpu *gpu);
/* Waits for what was launched last outside captures. */
shmccl_result_t shmi_gpu_finish(struct shmi_gpu *gpu);
/* Launches a copy within the device, as above. */
shmccl_result_t shmi_gpu_copy(struct shmi_gpu *gpu, void *to, const void *from, size_t bytes, void *stream);

/* ---- copy engines ------------------------------------------------------------------------------------------------ */

/* What a call by copy engines is enqueued from. */
struct shmi_carry {
  struct shmi_engines engines;
  struct shmi_meeting meeting; /* whose launch has the call; step: the newest before the call */
};

/* Makes the streams for copies: before the first of these calls. */
shmccl_result_t shmi_gpu_open_engines(struct shmi_gpu *gpu);
/* Enqueues a call by copy engines, between the launches before and behind it, on a stream that is not captured. If that
 * fails when a part is enqueued already, what was launched cannot be followed any more. */
shmccl_result_t shmi_gpu_carry(struct shmi_gpu *gpu, const struct shmi_carry *carry, void *stream);
shmccl_result_t shmi_gpu_is_captured(const struct shmi_gpu *gpu, void *stream, bool *captured);

/* Whether nothing that was launched is under way any more. False where that cannot be told: graphs may be replayed. */
bool shmi_gpu_is_idle(const struct shmi_gpu *gpu);
/* Whether the device is beyond use, or what was launched cannot be followed any more. */
bool shmi_gpu_is_lost(const struct shmi_gpu *gpu);

/* Waits for all that the device was given through this hold so far, replays included. Returns NULL, or what became of
 * it, which is not logged. While some stream is captured, replays cannot be waited for: patiently: until then too. */
const char *shmi_gpu_wait(const struct shmi_gpu *gpu, bool patiently);

#endif
