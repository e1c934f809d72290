/*
 * rig.h - what the front's tests in C share: the front and the fake NCCL behind it, loaded side by side; ranks with a
 * buffer and a stream each; an all-reduce whose result is checked and of which it is known who made it.
 */
#ifndef FRONT_RIG_H
#define FRONT_RIG_H

#include <cuda_runtime_api.h>

#include "front/nccl_api.h"
#include "harness.h"

enum { RIG_RANKS = 4, RIG_COUNT = 3000, RIG_SECONDS = 50 };

struct api {
#define SYMBOL(name, parameters, arguments)                 nccl_result_t(*name) parameters;
#define OTHER(result, name, parameters, arguments, lacking) result(*name) parameters;
#include "front/symbols.def"
};
extern struct api front, fake;
/* The fake's record (fake_nccl.h). */
extern int (*rig_count)(const char *name);
extern void (*rig_answer)(int result);

#define OK(call)                                                                                                       \
  do {                                                                                                                 \
    const nccl_result_t result_ = (call);                                                                              \
    CHECK_TEXT(result_ == NCCL_SUCCESS, "%s: %d: %s", #call, (int)result_, front.GetLastError(NULL));                  \
  } while (0)
#define CUDA(call)                                                                                                     \
  do {                                                                                                                 \
    const cudaError_t error_ = (call);                                                                                 \
    CHECK_TEXT(error_ == cudaSuccess, "%s: %s", #call, cudaGetErrorString(error_));                                    \
  } while (0)

/* In memory that all processes share. */
extern struct rig_shared {
  nccl_unique_id_t id[RIG_RANKS];
  uint32_t met[RIG_RANKS];
} * rig_shared;

/* Before the first test. */
void rig_begin(void);
/* Before each: new ids, and nobody has met. */
void rig_prepare(void);
/* In each rank that is a process of its own: its environment is as it shall be. */
void rig_load(void);
/* Waits until all ranks have called it with that number; numbers rise. */
void rig_meet(int rank, int nranks, uint32_t number);

struct data {
  float *buffer; /* RIG_COUNT elements for each of RIG_RANKS */
  cudaStream_t stream;
};
struct data rig_open(void);
void rig_close(struct data *d);
/* Element i becomes value + i. */
void rig_fill(const struct data *d, float value);
/* Element i is first + step * i, once the stream is done. */
void rig_expect(const struct data *d, float first, float step);
/* The sum of what rank r filled with value r. */
void rig_expect_sum(const struct data *d, int nranks);

/* In place, of what is in the buffer, not waited for. */
nccl_result_t rig_call(nccl_comm_t comm, const struct data *d);
/* Fills, calls, checks the sum; whether NCCL was asked. */
bool rig_all_reduce(nccl_comm_t comm, const struct data *d, int rank, int nranks);

#endif
