/* scenario_communicators.c - the life of communicators: several, divided, created again, and ended by trouble. */
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "scenarios.h"

static struct call some_call(const struct party *party, enum shmi_collective collective, size_t bytes) {
  return (struct call){.collective = collective,
                       .type = SHMCCL_FLOAT32,
                       .op = SHMCCL_SUM,
                       .count = bytes / sizeof(float),
                       .seed = party->seed + bytes,
                       .exact = true};
}

static void run_some(struct rank *r, size_t bytes) {
  const struct call reduce = some_call(r->party, SHMI_ALLREDUCE, bytes),
                    gather = some_call(r->party, SHMI_ALLGATHER, bytes);
  rank_run(r, &reduce);
  rank_run(r, &gather);
}

/* As some programs do: no communicator is left in between. */
void scenario_communicators(struct party *party, int rank) {
  struct rank r = rank_open(party, rank);
  for (int round = 0; round < 3; round++) {
    int result;
    nccl_comm_t first = r.comm, second = rank_create_comm(&r, &result);
    CHECK_NCCL(result);
    for (size_t bytes = 1000; bytes < 1000000; bytes *= 30) {
      run_some(&r, bytes);
      r.comm = r.comm == first ? second : first;
    }
    CHECK_NCCL(nccl.CommDestroy(first));
    r.comm = second;
    run_some(&r, 300000);
    CHECK_NCCL(nccl.CommDestroy(second));
    r.comm = rank_create_comm(&r, &result);
    CHECK_NCCL(result);
  }
  run_some(&r, 5000);
  rank_close(&r);
}

/* Every second rank, in reverse order; used in turn with the whole. */
static void run_halves(struct rank *r) {
  struct rank half = *r;
  CHECK_NCCL(nccl.CommSplit(r->comm, r->rank % 2, -r->rank, &half.comm, NULL));
  half.nranks = (r->nranks + 1 - r->rank % 2) / 2;
  half.rank = half.nranks - 1 - r->rank / 2;
  for (size_t bytes = 1000; bytes < 1000000; bytes *= 30) {
    if (half.nranks > 1) run_some(&half, bytes);
    run_some(r, bytes);
  }
  CHECK_NCCL(nccl.CommDestroy(half.comm));
}

/* All but rank 0. */
static void run_rest(struct rank *r) {
  enum { NO_COLOR = -1 };
  struct rank rest = *r;
  CHECK_NCCL(nccl.CommSplit(r->comm, r->rank ? 7 : NO_COLOR, r->rank, &rest.comm, NULL));
  CHECK((rest.comm == NULL) == (r->rank == 0));
  rest.nranks--;
  rest.rank--;
  if (rest.comm && rest.nranks > 1) run_some(&rest, 70000);
  if (rest.comm) CHECK_NCCL(nccl.CommDestroy(rest.comm));
}

void scenario_split(struct party *party, int rank) {
  struct rank r = rank_open(party, rank);
  run_halves(&r);
  run_rest(&r);
  run_some(&r, 5000);
  rank_close(&r);
}

/* ---- trouble ----------------------------------------------------------------------------------------------------- */

/* Makes calls until NCCL reports an error, then aborts. That it reports one in bounded time is what is tested: the
 * harness ends a test that waits for ever. */
static void run_until_error(struct rank *r) {
  const struct call c = some_call(r->party, SHMI_ALLREDUCE, 3000000);
  struct device_call d = device_call_open(&c, r->rank, r->nranks);
  int result = NCCL_SUCCESS;
  while (result == NCCL_SUCCESS) {
    result = device_call_make(&d, r->comm, r->stream);
    if (result == NCCL_SUCCESS) result = rank_wait(r);
  }
  printf("rank %d: NCCL says: %s\n", r->rank, nccl.GetErrorString(result));
  const int aborted = nccl.CommAbort(r->comm);
  r->comm = NULL;
  const cudaError_t error = cudaStreamSynchronize(r->stream);      /* the kernels have ended */
  if (r->party->traps && error == cudaErrorLaunchFailure) exit(0); /* this process cannot use its GPU any more */
  CHECK_NCCL(aborted);
  CHECK_CUDA(error);
  device_call_close(&d);
}

void scenario_failure(struct party *party, int rank) {
  struct rank r = rank_prepare(party, rank);
  int result;
  r.comm = rank_create_comm(&r, &result);
  if (result == NCCL_SUCCESS)
    run_until_error(&r);
  else
    r.comm = NULL;
  rank_close(&r);
}

void scenario_death(struct party *party, int rank) {
  struct rank r = rank_open(party, rank);
  run_some(&r, 5000);
  rank_meet(&r);
  if (rank == party->nranks - 1) {
    const struct call c = some_call(party, SHMI_ALLREDUCE, 3000000);
    const struct device_call d = device_call_open(&c, rank, r.nranks);
    CHECK_NCCL(device_call_make(&d, r.comm, r.stream));
    raise(SIGKILL);
  }
  run_until_error(&r);
  rank_close(&r);
}

void scenario_abort(struct party *party, int rank) {
  struct rank r = rank_open(party, rank);
  run_some(&r, 5000);
  rank_meet(&r);
  if (rank > 0) {
    run_until_error(&r);
  } else {
    CHECK_NCCL(nccl.CommAbort(r.comm));
    r.comm = NULL;
  }
  rank_close(&r);
}
