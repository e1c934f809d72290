/*
 * gpu.h - what the benchmark asks of CUDA: one rank's hold on its GPU. gpu_cuda.c does it; gpu_none.c says that it
 * cannot, where the program is built without CUDA. No type of CUDA appears here: a stream is a `void *`.
 *
 * Buffers of a rank stay in host memory, where they are filled and compared; each has a twin on the device, which is
 * what calls get. A call that returns false has written the cause to the `error` that gpu_open() was given.
 */
#ifndef BENCH_GPU_H
#define BENCH_GPU_H

#include "verify.h"

enum { GPUS_MOST = 16, GPU_ERROR_BYTES = 256 };

struct gpu_card {
  char name[64];
  char bus[16]; /* its PCI address: programs number the same GPU differently */
};

struct gpus {
  int count; /* that are used: the first GPUS_MOST at most */
  struct gpu_card cards[GPUS_MOST];
  char missing[GPU_ERROR_BYTES]; /* why there is none */
};

/* What there is. Asks in a child: a process that has used CUDA can start no ranks by fork(). */
void gpu_find(struct gpus *gpus);

struct gpu;

/* The calling thread uses rank r's GPU, r % gpus, from now on: the communicator that it makes will too. error:
 * GPU_ERROR_BYTES. */
bool gpu_use(int rank, char *error);
/* Which one that is. */
bool gpu_used(struct gpu_card *card, char *error);
/* On the GPU that the thread uses. buffers: sendbuf and recvbuf, which must outlive the hold. error: as above, used by
 * all calls. NULL: it cannot be had. */
struct gpu *gpu_open(const struct buffer buffers[2], char *error);
/* NULL is accepted. */
void gpu_close(struct gpu *gpu);
void *gpu_stream(const struct gpu *gpu);

/* ---- buffers ---------------------------------------------------------------------------------------------------- */

/* The device's place for a place in either buffer; NULL for NULL. */
void *gpu_twin(const struct gpu *gpu, const void *host);
/* Copies the first `bytes` of both buffers, and the guards before and behind, to the device or back; waits. */
bool gpu_push(struct gpu *gpu, size_t bytes);
bool gpu_pull(struct gpu *gpu, size_t bytes);

/* ---- work on the stream ----------------------------------------------------------------------------------------- */

bool gpu_wait(struct gpu *gpu);
/* What is enqueued between the two becomes the hold's graph, in place of the one before, and is not run. */
bool gpu_capture_begin(struct gpu *gpu);
bool gpu_capture_end(struct gpu *gpu);
bool gpu_replay(struct gpu *gpu, uint64_t times);

/* Marks the time at which the stream has come so far. */
bool gpu_mark(struct gpu *gpu);
/* Waits for all marks and forgets them. *seconds: from the first to the last; spans: NULL, or seconds between
 * neighbours. */
bool gpu_read_marks(struct gpu *gpu, double *seconds, float *spans);

/* ---- the link --------------------------------------------------------------------------------------------------- */

enum gpu_direction { GPU_OUT, GPU_IN, GPU_BOTH }; /* to the host, from it, and both at once */

/* Allocates `bytes` of pinned memory for each direction, or less where less can be pinned, unless that is done; returns
 * how many, 0 if it fails. */
size_t gpu_link_open(struct gpu *gpu, size_t bytes);
/* Gives them back, before ranks need pinned memory for something else. NULL is accepted. */
void gpu_link_close(struct gpu *gpu);
/* Seconds that the copy engines need for so many of those bytes each way. */
bool gpu_time_link(struct gpu *gpu, enum gpu_direction direction, size_t bytes, uint64_t iters, double *seconds);

#endif
