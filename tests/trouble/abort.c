/*
 * abort.c - shmccl_comm_abort() from another thread ends what all ranks are blocked in, and the async error tells of
 * aborts and deaths without a call.
 */
#include <signal.h>
#include <stdlib.h>
#include <threads.h>
#include <unistd.h>

#include "trouble/support.h"

static const shmccl_config_t patient = {.size = sizeof(shmccl_config_t), .timeout_ms = 15000};

enum blocked { IN_BARRIER, IN_ALLREDUCE, IN_SEND, IN_RECV, IN_GROUP, BLOCKED };

static shmccl_result_t block(enum blocked how, shmccl_comm_t *comm, int absent, char *data) {
  switch (how) {
  case IN_BARRIER: return shmccl_barrier(comm, NULL);
  case IN_ALLREDUCE: return shmccl_allreduce(data, data, 1 << 20, SHMCCL_INT8, SHMCCL_SUM, comm, NULL);
  case IN_SEND: return shmccl_send(data, 1 << 20, SHMCCL_INT8, absent, comm, NULL);
  case IN_RECV: return shmccl_recv(data, 1 << 20, SHMCCL_INT8, absent, comm, NULL);
  default: break;
  }
  shmccl_result_t result = shmccl_group_start(comm);
  if (result == SHMCCL_SUCCESS) result = shmccl_recv(data, 1 << 20, SHMCCL_INT8, absent, comm, NULL);
  return result == SHMCCL_SUCCESS ? shmccl_group_end(comm) : result;
}

struct aborter {
  struct tr_job *job;
  shmccl_comm_t *comm;
};

static int abort_soon(void *argument) {
  struct aborter *a = argument;
  tr_sleep_ms(10 + tr_random(20));
  a->job->slots[0].told_ns = tr_now_ns();
  CHECK(shmccl_comm_abort(a->comm) == SHMCCL_SUCCESS, "%s", shmccl_last_error());
  return 0;
}

/* The last rank never makes the call that the others are blocked in; a second thread of rank 0 ends it. */
static void aborted(struct tr_job *job, int rank) {
  const enum blocked how = *(const enum blocked *)job->argument;
  const bool is_absent = rank == job->nranks - 1;
  char *data = calloc(1, 1 << 20);
  shmccl_result_t state = SHMCCL_SUCCESS;
  struct aborter aborter = {job, tr_join_comm(job, rank, &patient)};
  shmccl_comm_t *comm = aborter.comm;
  thrd_t thread;
  EXPECT_OK(shmccl_barrier(comm, NULL));
  tr_set(&job->slots[rank].phase, 1);
  tr_await_all(job, 1);
  if (rank == 0) thrd_create(&thread, abort_soon, &aborter);
  if (is_absent) {
    for (int i = 0; i < 10000 && state == SHMCCL_SUCCESS; i++) {
      EXPECT_OK(shmccl_comm_get_async_error(comm, &state));
      tr_sleep_ms(1);
    }
    CHECK(state == SHMCCL_ERROR_ABORTED, "async error %s", shmccl_error_string(state));
    EXPECT(shmccl_barrier(comm, NULL), SHMCCL_ERROR_ABORTED, "rank 0 called shmccl_comm_abort()");
  } else {
    EXPECT(block(how, comm, job->nranks - 1, data), SHMCCL_ERROR_ABORTED, "rank 0 called shmccl_comm_abort()");
  }
  if (rank == 0) thrd_join(thread, NULL);
  CHECK(tr_now_ns() < job->slots[0].told_ns + 1000000000u, "told after more than a second");
  EXPECT_AGAIN(shmccl_barrier(comm, NULL), SHMCCL_ERROR_ABORTED);
  shmccl_comm_destroy(comm);
  free(data);
}

/* Looks, and makes no call, until rank 1 is dead. */
static void watch(struct tr_job *job, int rank) {
  shmccl_result_t state = SHMCCL_SUCCESS;
  shmccl_comm_t *comm = tr_join_comm(job, rank, &patient);
  EXPECT_OK(shmccl_barrier(comm, NULL));
  EXPECT_OK(shmccl_comm_get_async_error(comm, &state));
  CHECK(state == SHMCCL_SUCCESS, "async error %s", shmccl_error_string(state));
  tr_set(&job->slots[rank].phase, 1);
  if (rank == 1) pause();
  while (state == SHMCCL_SUCCESS) EXPECT_OK(shmccl_comm_get_async_error(comm, &state));
  tr_tell(job, rank, state);
  CHECK(state == SHMCCL_ERROR_PEER_DIED, "async error %s", shmccl_error_string(state));
  EXPECT(shmccl_barrier(comm, NULL), SHMCCL_ERROR_PEER_DIED, "rank 1 ");
  shmccl_comm_destroy(comm);
}

static void test_watching(void) {
  struct tr_job job;
  tr_start(&job, 3, watch, NULL);
  tr_await_all(&job, 1);
  uint64_t died_ns = tr_now_ns();
  kill(job.pids[1], SIGKILL);
  for (int r = 0; r < 3; r += 2)
    for (int i = 0; i < 10000 && !job.slots[r].told_ns; i++) usleep(500);
  for (int r = 0; r < 3; r += 2)
    CHECK(job.slots[r].told_ns && job.slots[r].told_ns < died_ns + 1000000000u, "rank %d was told late", r);
  tr_join(&job, 1u << 1);
}

int main(void) {
  tr_begin();
  for (int nranks = 2; nranks <= 4; nranks++)
    for (enum blocked how = 0; how < BLOCKED; how++) tr_run(nranks, aborted, &how);
  test_watching();
  return tr_end();
}
