/*
 * usage.c - calls that are right in themselves and wrong where they are made: after finalize, in a group, after an
 * error, in a forked child, after a peer has destroyed its communicator.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "trouble/support.h"

static const shmccl_config_t patient = {.size = sizeof(shmccl_config_t), .timeout_ms = 10000};

static void check_usable(shmccl_comm_t *comm, int nranks) {
  int32_t one = 1, sum = 0;
  EXPECT_OK(shmccl_allreduce(&one, &sum, 1, SHMCCL_INT32, SHMCCL_SUM, comm, NULL));
  CHECK(sum == nranks, "sum is %d", (int)sum);
}

/* Every call that moves data or waits fails with `code` and its line. */
static void expect_all(shmccl_comm_t *comm, shmccl_result_t code, const char *words) {
  int32_t in[8] = {0}, out[8] = {0};
  shmccl_comm_t *part = NULL;
  EXPECT(shmccl_allreduce(in, out, 1, SHMCCL_INT32, SHMCCL_SUM, comm, NULL), code, words);
  EXPECT(shmccl_allgather(in, out, 1, SHMCCL_INT32, comm, NULL), code, words);
  EXPECT(shmccl_reduce_scatter(in, out, 1, SHMCCL_INT32, SHMCCL_SUM, comm, NULL), code, words);
  EXPECT(shmccl_broadcast(in, out, 1, SHMCCL_INT32, 0, comm, NULL), code, words);
  EXPECT(shmccl_reduce(in, out, 1, SHMCCL_INT32, SHMCCL_SUM, 0, comm, NULL), code, words);
  EXPECT(shmccl_alltoall(in, out, 1, SHMCCL_INT32, comm, NULL), code, words);
  EXPECT(shmccl_gather(in, out, 1, SHMCCL_INT32, 0, comm, NULL), code, words);
  EXPECT(shmccl_scatter(in, out, 1, SHMCCL_INT32, 0, comm, NULL), code, words);
  EXPECT(shmccl_barrier(comm, NULL), code, words);
  EXPECT(shmccl_comm_split(comm, 0, 0, &part, NULL), code, words);
  EXPECT(shmccl_comm_finalize(comm), code, words);
  CHECK(!part, "newcomm was written by a call that failed");
}

static void expect_messages(shmccl_comm_t *comm, shmccl_result_t code, const char *words) {
  int32_t data = 0;
  EXPECT(shmccl_send(&data, 1, SHMCCL_INT32, 0, comm, NULL), code, words);
  EXPECT(shmccl_recv(&data, 1, SHMCCL_INT32, 0, comm, NULL), code, words);
  EXPECT(shmccl_group_start(comm), code, words);
  EXPECT(shmccl_group_end(comm), code, words);
}

static void expect_queries(shmccl_comm_t *comm, int rank, int nranks, shmccl_result_t wanted) {
  int number = -1;
  shmccl_result_t state = SHMCCL_ERROR_INTERNAL;
  EXPECT_OK(shmccl_comm_count(comm, &number));
  CHECK(number == nranks, "%d ranks", number);
  EXPECT_OK(shmccl_comm_user_rank(comm, &number));
  CHECK(number == rank, "rank %d", number);
  EXPECT_OK(shmccl_comm_get_async_error(comm, &state));
  CHECK(state == wanted, "async error %s", shmccl_error_string(state));
}

/* Ranks end in any order after it, without a destroy, and nobody is dead. */
static void finalized(struct tr_job *job, int rank) {
  shmccl_comm_t *comm = tr_join_comm(job, rank, &patient);
  EXPECT_OK(shmccl_comm_finalize(comm));
  expect_all(comm, SHMCCL_ERROR_INVALID_USAGE, "finalized");
  expect_messages(comm, SHMCCL_ERROR_INVALID_USAGE, "finalized");
  if (rank == 0 && job->nranks > 1) _exit(tr_failed() ? 1 : 0);
  tr_sleep_ms(30);
  expect_queries(comm, rank, job->nranks, SHMCCL_SUCCESS);
  EXPECT_OK(shmccl_comm_destroy(comm));
}

static void grouped(struct tr_job *job, int rank) {
  int32_t out = 3, in = 0, other = 0;
  shmccl_comm_t *comm = tr_join_comm(job, rank, &patient);
  EXPECT(shmccl_group_end(comm), SHMCCL_ERROR_INVALID_USAGE, "group_end|shmccl_group_start");
  EXPECT_OK(shmccl_group_start(comm));
  EXPECT(shmccl_group_start(comm), SHMCCL_ERROR_INVALID_USAGE, "do not nest");
  expect_all(comm, SHMCCL_ERROR_INVALID_USAGE, "in a group");
  EXPECT_OK(shmccl_send(&out, 1, SHMCCL_INT32, rank, comm, NULL));
  EXPECT_OK(shmccl_recv(&in, 1, SHMCCL_INT32, rank, comm, NULL));
  EXPECT_OK(shmccl_group_end(comm));
  CHECK(in == 3, "received %d from itself", (int)in);
  EXPECT(shmccl_send(&out, 1, SHMCCL_INT32, rank, comm, NULL), SHMCCL_ERROR_INVALID_USAGE, "itself|recv");
  EXPECT(shmccl_recv(&other, 1, SHMCCL_INT32, rank, comm, NULL), SHMCCL_ERROR_INVALID_USAGE, "itself|send");
  EXPECT_OK(shmccl_group_start(comm));
  EXPECT_OK(shmccl_send(&out, 1, SHMCCL_INT32, rank, comm, NULL));
  EXPECT_OK(shmccl_recv(&other, 4, SHMCCL_INT8, rank, comm, NULL));
  EXPECT(shmccl_group_end(comm), SHMCCL_ERROR_INVALID_USAGE, "itself|same count and datatype");
  CHECK(other == 0, "a message that does not fit was received");
  EXPECT(shmccl_group_end(comm), SHMCCL_ERROR_INVALID_USAGE, "shmccl_group_start");
  EXPECT_OK(shmccl_group_start(comm));
  EXPECT_OK(shmccl_group_end(comm));
  check_usable(comm, job->nranks);
  EXPECT_OK(shmccl_group_start(comm)); /* destroyed with an open group */
  EXPECT_OK(shmccl_send(&out, 1, SHMCCL_INT32, rank, comm, NULL));
  shmccl_comm_destroy(comm);
}

static void aborted(struct tr_job *job, int rank) {
  shmccl_comm_t *comm = tr_join_comm(job, rank, &patient);
  int32_t data = 0;
  EXPECT_OK(shmccl_barrier(comm, NULL));
  tr_set(&job->slots[rank].phase, 1);
  tr_await_all(job, 1);
  if (rank == job->nranks - 1) EXPECT_OK(shmccl_comm_abort(comm));
  if (rank == job->nranks - 1) EXPECT_OK(shmccl_comm_abort(comm));
  tr_set(&job->slots[rank].phase, 2);
  tr_await_all(job, 2);
  expect_queries(comm, rank, job->nranks, SHMCCL_ERROR_ABORTED);
  EXPECT(shmccl_send(&data, 1, SHMCCL_INT32, 0, comm, NULL), SHMCCL_ERROR_ABORTED, "shmccl_comm_abort()");
  expect_all(comm, SHMCCL_ERROR_ABORTED, NULL);
  expect_messages(comm, SHMCCL_ERROR_ABORTED, NULL);
  shmccl_comm_destroy(comm);
}

/* ---- fork ----------------------------------------------------------------------------------------------------------
 */

static _Noreturn void be_child(shmccl_comm_t *comm, bool destroys) {
  int number = -1;
  shmccl_result_t state = SHMCCL_ERROR_INTERNAL;
  tr_catch_stderr();
  expect_all(comm, SHMCCL_ERROR_INVALID_USAGE, "parent process|after fork");
  expect_messages(comm, SHMCCL_ERROR_INVALID_USAGE, "parent process|after fork");
  EXPECT(shmccl_comm_abort(comm), SHMCCL_ERROR_INVALID_USAGE, "parent process");
  EXPECT(shmccl_comm_get_async_error(comm, &state), SHMCCL_ERROR_INVALID_USAGE, "parent process");
  EXPECT(shmccl_comm_count(comm, &number), SHMCCL_ERROR_INVALID_USAGE, "parent process");
  EXPECT(shmccl_comm_user_rank(comm, &number), SHMCCL_ERROR_INVALID_USAGE, "parent process");
  CHECK(number == -1 && state == SHMCCL_ERROR_INTERNAL, "a call that failed has written a result");
  CHECK(tr_traces().mappings == 0, "the child has the segment mapped");
  tr_check_works("child");
  if (destroys) EXPECT_OK(shmccl_comm_destroy(comm));
  tr_check_works("child");
  _exit(tr_failed() ? 1 : 0);
}

/* Rank 0 forks: a child that destroys, one that does not, and one that stays while the parent goes on. */
static void forked(struct tr_job *job, int rank) {
  shmccl_comm_t *comm = tr_join_comm(job, rank, &patient);
  int32_t data[1000] = {1};
  check_usable(comm, job->nranks);
  for (int i = 0; i < 2 && rank == 0; i++) {
    int status = -1;
    pid_t pid = fork();
    if (pid == 0) be_child(comm, i == 0);
    waitpid(pid, &status, 0);
    CHECK(status == 0, "the child failed: %x", (unsigned)status);
  }
  EXPECT_OK(shmccl_allreduce(data, data, 1000, SHMCCL_INT32, SHMCCL_SUM, comm, NULL));
  CHECK(data[0] == job->nranks, "sum is %d", (int)data[0]);
  check_usable(comm, job->nranks);
  shmccl_comm_destroy(comm);
}

/* ---- a peer that leaves ---------------------------------------------------------------------------------------------
 */

static void left_alone(struct tr_job *job, int rank) {
  shmccl_comm_t *comm = tr_join_comm(job, rank, &patient);
  int32_t data = 0;
  check_usable(comm, job->nranks);
  tr_set(&job->slots[rank].phase, 1);
  tr_await_all(job, 1);
  if (rank == 0) {
    tr_sleep_ms(20);
    EXPECT_OK(shmccl_comm_destroy(comm));
    return;
  }
  shmccl_result_t result = rank == 1 ? shmccl_recv(&data, 1, SHMCCL_INT32, 0, comm, NULL) : shmccl_barrier(comm, NULL);
  EXPECT(result, SHMCCL_ERROR_PEER_DIED, rank == 1 && job->nranks == 2 ? "rank 0 |destroyed" : "rank 0 ");
  EXPECT_AGAIN(shmccl_barrier(comm, NULL), SHMCCL_ERROR_PEER_DIED);
  shmccl_comm_destroy(comm);
}

/* Splitting goes on after the parent communicator is gone, and the parent after its parts. */
static void outlived(struct tr_job *job, int rank) {
  shmccl_comm_t *comm = tr_join_comm(job, rank, &patient), *part = NULL, *all = NULL;
  EXPECT_OK(shmccl_comm_split(comm, rank % 2, rank, &part, NULL));
  EXPECT_OK(shmccl_comm_split(comm, 0, -rank, &all, NULL));
  check_usable(comm, job->nranks);
  shmccl_comm_destroy(comm);
  check_usable(part, (job->nranks + 1 - rank % 2) / 2);
  shmccl_comm_destroy(part);
  check_usable(all, job->nranks);
  shmccl_comm_destroy(all);
}

/* A process that has never had a segment; run as a program of its own, since tr_begin makes one. */
static int forked_alone(void) {
  shmccl_comm_t *comm;
  int status = -1;
  if (shmccl_comm_init_all(&comm, 1, NULL) != SHMCCL_SUCCESS) return 1;
  pid_t pid = fork();
  if (pid == 0) _exit(shmccl_barrier(comm, NULL) == SHMCCL_ERROR_INVALID_USAGE ? 0 : 1);
  waitpid(pid, &status, 0);
  shmccl_comm_destroy(comm);
  return status != 0;
}

int main(int argc, char **argv) {
  if (argc > 1) return forked_alone();
  tr_begin();
  char command[PATH_MAX];
  snprintf(command, sizeof command, "%s alone 2>/dev/null", argv[0]);
  CHECK(system(command) == 0, "a communicator of one rank could be used in a forked child");
  for (int nranks = 1; nranks <= 3; nranks++) {
    tr_run(nranks, finalized, NULL);
    tr_run(nranks, grouped, NULL);
    tr_run(nranks, aborted, NULL);
    tr_run(nranks, forked, NULL);
    if (nranks > 1) tr_run(nranks, left_alone, NULL);
    tr_run(nranks, outlived, NULL);
  }
  return tr_end();
}
