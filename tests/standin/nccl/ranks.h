/*
 * ranks.h - the ranks of a test with a real NCCL: one communicator and stream each, calls of tests/collectives/calls.h
 * made on device memory and checked byte by byte.
 */
#ifndef NCCL_RANKS_H
#define NCCL_RANKS_H

#include "../../collectives/calls.h"
#include "nccl_api.h"

#define CHECK_CUDA(call)                                                                                               \
  do {                                                                                                                 \
    const cudaError_t error_ = (call);                                                                                 \
    CHECK_TEXT(error_ == cudaSuccess, "%s: %s", #call, cudaGetErrorString(error_));                                    \
  } while (0)
#define CHECK_NCCL(call)                                                                                               \
  do {                                                                                                                 \
    const int nccl_result_ = (call);                                                                                   \
    CHECK_TEXT(nccl_result_ == NCCL_SUCCESS, "%s: %s: %s", #call, nccl.GetErrorString(nccl_result_),                   \
               nccl.GetLastError(NULL));                                                                               \
  } while (0)

enum { MOST_COMMS = 16 }; /* that one test creates by id */

struct party;
typedef void (*scenario_fn)(struct party *party, int rank);

/* What all ranks of a test share. */
struct party {
  scenario_fn scenario;
  int nranks;
  bool threads;   /* ranks are threads of one process, each with a GPU of its own */
  bool own_hosts; /* each process claims to be a host of its own and has a GPU to itself */
  bool traps;     /* what is aborted ends with a CUDA error, which stays: the front is before NCCL */
  uint64_t seed;
  struct shared *shared;
};

/* In memory that all processes share. */
struct shared {
  struct shared_id {
    struct nccl_id id;
    uint32_t is_there;
  } ids[MOST_COMMS];
  uint32_t meetings[SHMCCL_MAX_RANKS]; /* at which a rank has arrived so far */
};

struct rank {
  struct party *party;
  int rank, nranks;
  int ncomms;        /* created by id so far */
  uint32_t meetings; /* so far */
  nccl_comm_t comm;
  cudaStream_t stream;
};

/* Chooses the GPU and creates a stream; _open the first communicator too. */
struct rank rank_prepare(struct party *party, int rank);
struct rank rank_open(struct party *party, int rank);
void rank_close(struct rank *r);

/* Creates the next communicator of all ranks of the party. *result: NCCL's. */
nccl_comm_t rank_create_comm(struct rank *r, int *result);

/* Waits until all ranks of the party have called it; without NCCL. */
void rank_meet(struct rank *r);

/* Waits until the stream has done all, or NCCL has an error to report; that is returned. */
int rank_wait(struct rank *r);

/* A call on device memory: open fills the buffers, make enqueues, close waits, compares and frees. Several may be open.
 */
struct device_call {
  struct prepared prepared;
  struct buffers host; /* what the device's buffers are copied from and to, guard zones included */
  uint8_t *device_a, *device_b;
  uint8_t *send, *recv; /* on the device */
};
struct device_call device_call_open(const struct call *c, int rank, int nranks);
/* Poisons and fills the buffers anew, to run the call once more. */
void device_call_fill(struct device_call *d);
/* The result of NCCL's call. */
int device_call_make(const struct device_call *d, nccl_comm_t comm, cudaStream_t stream);
void device_call_check(struct device_call *d);
void device_call_close(struct device_call *d);

/* All of it on r's communicator. */
void rank_run(struct rank *r, const struct call *c);

#endif
