/*
 * nccl_api.h - the functions of NCCL that the tests call, taken out of the file that SHMCCL_TEST_NCCL names. NCCL's own
 * header is not needed: its interface is stable, and what is declared here is the same in 2.28 and 2.30. Types and
 * operators have the numbers of shmccl.h.
 */
#ifndef NCCL_API_H
#define NCCL_API_H

#include <stddef.h>

#include <cuda_runtime_api.h>

typedef struct ncclComm *nccl_comm_t;
struct nccl_id {
  char bytes[128];
};

/* Results, as far as the tests tell them apart. */
enum { NCCL_SUCCESS = 0, NCCL_UNHANDLED_CUDA_ERROR = 1, NCCL_IN_PROGRESS = 7 };
enum { NCCL_SCALAR_DEVICE = 0, NCCL_SCALAR_HOST = 1 };

/* X(name without nccl, arguments...): all return a result. */
#define NCCL_FUNCTIONS(X)                                                                                              \
  X(GetVersion, int *)                                                                                                 \
  X(GetUniqueId, struct nccl_id *)                                                                                     \
  X(CommInitRank, nccl_comm_t *, int nranks, struct nccl_id, int rank)                                                 \
  X(CommSplit, nccl_comm_t, int color, int key, nccl_comm_t *, void *config)                                           \
  X(CommDestroy, nccl_comm_t)                                                                                          \
  X(CommAbort, nccl_comm_t)                                                                                            \
  X(CommGetAsyncError, nccl_comm_t, int *)                                                                             \
  X(AllReduce, const void *, void *, size_t, int type, int op, nccl_comm_t, cudaStream_t)                              \
  X(AllGather, const void *, void *, size_t, int type, nccl_comm_t, cudaStream_t)                                      \
  X(ReduceScatter, const void *, void *, size_t, int type, int op, nccl_comm_t, cudaStream_t)                          \
  X(Broadcast, const void *, void *, size_t, int type, int root, nccl_comm_t, cudaStream_t)                            \
  X(Reduce, const void *, void *, size_t, int type, int op, int root, nccl_comm_t, cudaStream_t)                       \
  X(AlltoAll, const void *, void *, size_t, int type, nccl_comm_t, cudaStream_t)                                       \
  X(Gather, const void *, void *, size_t, int type, int root, nccl_comm_t, cudaStream_t)                               \
  X(Scatter, const void *, void *, size_t, int type, int root, nccl_comm_t, cudaStream_t)                              \
  X(Send, const void *, size_t, int type, int peer, nccl_comm_t, cudaStream_t)                                         \
  X(Recv, void *, size_t, int type, int peer, nccl_comm_t, cudaStream_t)                                               \
  X(GroupStart, void)                                                                                                  \
  X(GroupEnd, void)                                                                                                    \
  X(RedOpCreatePreMulSum, int *op, void *scalar, int type, int residence, nccl_comm_t)                                 \
  X(RedOpDestroy, int op, nccl_comm_t)

struct nccl_api {
#define X(name, ...) int (*name)(__VA_ARGS__);
  NCCL_FUNCTIONS(X)
#undef X
  const char *(*GetErrorString)(int result);
  const char *(*GetLastError)(nccl_comm_t);
};
extern struct nccl_api nccl;

/* Fails the test if the file or one of its functions cannot be had. */
void nccl_load(const char *file);

#endif
