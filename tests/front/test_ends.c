/*
 * test_ends.c - trouble and ends behind the front, before the fake NCCL: what is aborted never passes as a result,
 * eager or captured; ranks that die or call differently; finalize, suspend, resume, revoke with work under way; groups
 * of which a part fails; forked children; ends while the ranks still agree. Ranks are processes: what they do to their
 * GPU is theirs alone.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/ordering.h"
#include "rig.h"

static nccl_comm_t comm_of(int rank, int nranks) {
  nccl_comm_t comm;
  rig_load();
  CUDA(cudaSetDevice(rank));
  OK(front.CommInitRank(&comm, nranks, rig_shared->id[0], rank));
  return comm;
}

static void *after_a_while(void *context) {
  void (*const *act)(void) = context;
  usleep(200000);
  return (*act)(), NULL;
}

/* One that another thread of this process ends while a call is under way. */
static nccl_comm_t ending;
static void abort_it(void) { OK(front.CommAbort(ending)); }
static void revoke_it(void) { OK(front.CommRevoke(ending, 0)); }

static nccl_result_t wait_for_error(nccl_comm_t comm) {
  nccl_result_t state = NCCL_SUCCESS;
  while (state == NCCL_SUCCESS) {
    OK(front.CommGetAsyncError(comm, &state));
    usleep(1000);
  }
  CHECK_TEXT(strstr(front.GetLastError(comm), "shmccl"), "%s", front.GetLastError(comm));
  return state;
}

/* The stream has ended with an error that stays: whoever reads the buffer gets it too, however late he looks. */
static void expect_trap(const struct data *d) {
  float value = 0;
  cudaError_t error = cudaStreamSynchronize(d->stream);
  CHECK_TEXT(error == cudaErrorLaunchFailure, "the stream: %s", cudaGetErrorString(error));
  cudaGetLastError();
  for (int i = 0; i < 2; i++) {
    error = cudaMemcpy(&value, d->buffer, sizeof value, cudaMemcpyDeviceToHost);
    CHECK_TEXT(error == cudaErrorLaunchFailure, "a copy of what was aborted: %s", cudaGetErrorString(error));
    cudaGetLastError();
  }
}

/* Eager, or captured and launched. */
static void call_now(nccl_comm_t comm, const struct data *d, bool captured) {
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  if (!captured) {
    OK(rig_call(comm, d));
    return;
  }
  CUDA(cudaStreamBeginCapture(d->stream, cudaStreamCaptureModeThreadLocal));
  OK(rig_call(comm, d));
  CUDA(cudaStreamEndCapture(d->stream, &graph));
  CUDA(cudaGraphInstantiate(&executable, graph, 0));
  CUDA(cudaGraphDestroy(graph));
  CUDA(cudaGraphLaunch(executable, d->stream));
  CUDA(cudaGraphExecDestroy(executable)); /* once it has run */
}

/* ---- aborted, eager and captured --------------------------------------------------------------------------------- */

struct ending {
  void (*act)(void);
  bool captured;
};

static void end_under_way(nccl_comm_t comm, const struct data *d, const struct ending *e) {
  void (*act)(void) = e->act;
  pthread_t thread;
  ending = comm;
  CHECK(!pthread_create(&thread, NULL, after_a_while, &act));
  call_now(comm, d, e->captured);
  expect_trap(d);
  CHECK(!pthread_join(thread, NULL));
}

/* The other rank is told. It has nothing under way, so its GPU goes on. */
static void be_told(nccl_comm_t comm, struct data *d) {
  CHECK(wait_for_error(comm) == NCCL_REMOTE_ERROR);
  CHECK(rig_call(comm, d) == NCCL_REMOTE_ERROR);
  OK(front.CommAbort(comm));
  rig_close(d);
}

static void run_ended(int rank, int nranks, void *context) {
  const struct ending *e = context;
  nccl_comm_t comm = comm_of(rank, nranks);
  struct data d = rig_open();
  CHECK(!rig_all_reduce(comm, &d, rank, nranks));
  rig_meet(rank, nranks, 1);
  if (rank == 0)
    end_under_way(comm, &d, e);
  else
    be_told(comm, &d);
  if (rank == 0 && e->act == revoke_it) OK(front.CommAbort(comm));
  rig_meet(rank, nranks, 2);
}

static void test_ended(void) {
  const struct ending endings[] = {{abort_it, false}, {abort_it, true}, {revoke_it, false}, {revoke_it, true}};
  for (size_t i = 0; i < LENGTH(endings); i++) {
    printf("%s, %s\n", endings[i].act == abort_it ? "abort" : "revoke", endings[i].captured ? "captured" : "eager");
    rig_prepare();
    harness_processes(2, run_ended, (void *)(uintptr_t)&endings[i], RIG_SECONDS);
  }
}

/* Some programs abort at their end. Who has nothing under way disturbs nobody; a call that needs it ends all the same.
 */
static void run_idle(int rank, int nranks, void *context) {
  nccl_result_t state;
  (void)context;
  nccl_comm_t comm = comm_of(rank, nranks);
  struct data d = rig_open();
  CHECK(!rig_all_reduce(comm, &d, rank, nranks));
  if (rank == 0) OK(front.CommAbort(comm));
  rig_meet(rank, nranks, 1);
  if (rank == 0) {
    rig_close(&d);
    return;
  }
  usleep(500000);
  OK(front.CommGetAsyncError(comm, &state));
  CHECK_TEXT(state == NCCL_SUCCESS, "state %d", (int)state);
  OK(rig_call(comm, &d));
  expect_trap(&d);
  CHECK(wait_for_error(comm) == NCCL_REMOTE_ERROR);
  OK(front.CommAbort(comm));
}

static void test_idle(void) {
  rig_prepare();
  harness_processes(2, run_idle, NULL, RIG_SECONDS);
}

/* After a revoke calls are NCCL's, which says that it is revoked. */
static void run_revoked(int rank, int nranks, void *context) {
  (void)context;
  nccl_comm_t comm = comm_of(rank, nranks);
  struct data d = rig_open();
  CHECK(!rig_all_reduce(comm, &d, rank, nranks));
  rig_meet(rank, nranks, 1);
  OK(front.CommRevoke(comm, 0));
  CHECK(rig_all_reduce(comm, &d, rank, nranks)); /* the fake only counts revokes */
  rig_meet(rank, nranks, 2);
  OK(front.CommDestroy(comm));
  rig_close(&d);
}

static void test_revoked(void) {
  rig_prepare();
  harness_processes(2, run_revoked, NULL, RIG_SECONDS);
}

/* ---- a rank that dies, one that calls differently ---------------------------------------------------------------- */

struct death {
  bool captured, finalized; /* the call that waits for the dead; before it died */
};

static void run_death(int rank, int nranks, void *context) {
  const struct death *how = context;
  nccl_comm_t comm = comm_of(rank, nranks);
  struct data d = rig_open();
  CHECK(!rig_all_reduce(comm, &d, rank, nranks));
  rig_meet(rank, nranks, 1);
  if (rank == 1) {
    usleep(how->finalized ? 200000 : 0);
    raise(SIGKILL);
  }
  call_now(comm, &d, how->captured);
  if (how->finalized) OK(front.CommFinalize(comm));
  expect_trap(&d);
  CHECK(wait_for_error(comm) == NCCL_REMOTE_ERROR);
  CHECK(how->finalized || rig_call(comm, &d) != NCCL_SUCCESS);
  OK(front.CommAbort(comm));
}

static void check_outcomes(const struct harness_outcome *o, int nranks, int victim) {
  for (int r = 0; r < nranks; r++)
    CHECK_TEXT(!o[r].timed_out && (r == victim ? o[r].signal == SIGKILL : !o[r].signal && !o[r].status),
               "rank %d: %s signal %d, status %d: %.300s", r, o[r].timed_out ? "late," : "", o[r].signal, o[r].status,
               o[r].message);
}

static void test_death(void) {
  struct harness_outcome outcomes[2];
  const struct death deaths[] = {{false, false}, {true, false}, {false, true}};
  for (size_t i = 0; i < LENGTH(deaths); i++) {
    rig_prepare();
    harness_outcomes(2, run_death, (void *)(uintptr_t)&deaths[i], RIG_SECONDS, outcomes);
    check_outcomes(outcomes, 2, 1);
  }
}

static void run_mismatch(int rank, int nranks, void *context) {
  (void)context;
  nccl_comm_t comm = comm_of(rank, nranks);
  struct data d = rig_open();
  const size_t count = 8 + (size_t)rank;
  rig_meet(rank, nranks, 1);
  OK(front.AllReduce(d.buffer, d.buffer, count, NCCL_FLOAT32, NCCL_SUM, comm, d.stream));
  expect_trap(&d);
  CHECK(wait_for_error(comm) == NCCL_INVALID_USAGE);
  rig_meet(rank, nranks, 2);
  OK(front.CommAbort(comm));
}

static void test_mismatch(void) {
  rig_prepare();
  harness_processes(2, run_mismatch, NULL, RIG_SECONDS);
}

/* ---- finalize, suspend, resume ------------------------------------------------------------------------------------
 */

/* Rank 0 finalizes while its call waits for the other's. */
static void run_finalize(int rank, int nranks, void *context) {
  (void)context;
  nccl_comm_t comm = comm_of(rank, nranks);
  struct data d = rig_open();
  rig_fill(&d, (float)rank);
  if (rank == 1) rig_meet(rank, nranks, 1);
  OK(rig_call(comm, &d));
  CHECK(rig_count("AllReduce") == 0);
  OK(front.CommFinalize(comm));
  if (rank == 0) rig_meet(rank, nranks, 1);
  rig_expect_sum(&d, nranks);
  CHECK(rig_count("CommFinalize") == 1);
  CHECK(rig_all_reduce(comm, &d, rank, nranks)); /* NCCL's to refuse; the fake does it */
  OK(front.CommDestroy(comm));
  rig_close(&d);
}

static void test_finalize(void) {
  rig_prepare();
  harness_processes(2, run_finalize, NULL, RIG_SECONDS);
}

static void run_suspend(int rank, int nranks, void *context) {
  const nccl_result_t refused = NCCL_INVALID_USAGE;
  (void)context;
  nccl_comm_t comm = comm_of(rank, nranks);
  struct data d = rig_open();
  rig_answer(refused);
  CHECK(front.CommSuspend(comm, 1) == refused);
  CHECK(!rig_all_reduce(comm, &d, rank, nranks));
  rig_answer(NCCL_SUCCESS);
  for (int i = 0; i < 2; i++) {
    OK(front.CommSuspend(comm, 1));
    CHECK(rig_all_reduce(comm, &d, rank, nranks)); /* NCCL's to refuse; the fake does it */
    rig_answer(refused);
    CHECK(front.CommResume(comm) == refused);
    CHECK(rig_all_reduce(comm, &d, rank, nranks));
    rig_answer(NCCL_SUCCESS);
    OK(front.CommResume(comm));
    CHECK(!rig_all_reduce(comm, &d, rank, nranks));
  }
  rig_meet(rank, nranks, 1);
  OK(front.CommDestroy(comm));
  rig_close(&d);
}

static void test_suspend(void) {
  rig_prepare();
  harness_processes(2, run_suspend, NULL, RIG_SECONDS);
}

/* ---- groups of which a part fails ---------------------------------------------------------------------------------
 */

static nccl_result_t group_of(nccl_comm_t comm, const struct data *d, void *buffer, nccl_result_t answer) {
  OK(front.GroupStart());
  OK(front.AllReduce(buffer, buffer, RIG_COUNT, NCCL_FLOAT32, NCCL_SUM, comm, d->stream));
  rig_answer(answer);
  CHECK(front.Send(d->buffer, 1, NCCL_FLOAT32, 0, comm, d->stream) == answer);
  const nccl_result_t result = front.GroupEnd();
  rig_answer(NCCL_SUCCESS);
  return result;
}

/* NCCL's part fails: ours is made on every rank, right, and the program is told. Ours fails: NCCL's is made. Afterwards
 * groups work. */
static void run_half(int rank, int nranks, void *context) {
  float host[RIG_COUNT] = {0};
  (void)context;
  nccl_comm_t comm = comm_of(rank, nranks);
  struct data d = rig_open();
  rig_fill(&d, (float)rank);
  CHECK(group_of(comm, &d, d.buffer, rank ? NCCL_SUCCESS : NCCL_INTERNAL_ERROR) ==
        (rank ? NCCL_SUCCESS : NCCL_INTERNAL_ERROR));
  rig_expect_sum(&d, nranks);
  CHECK(rig_count("Send") == 1 && rig_count("GroupEnd") == 1);
  CHECK(group_of(comm, &d, host, NCCL_SUCCESS) == NCCL_INVALID_ARGUMENT);
  CHECK(rig_count("Send") == 2 && rig_count("GroupEnd") == 2);
  CHECK_TEXT(strstr(front.GetLastError(comm), "memory"), "%s", front.GetLastError(comm));
  rig_fill(&d, (float)rank);
  OK(group_of(comm, &d, d.buffer, NCCL_SUCCESS));
  rig_expect_sum(&d, nranks);
  CHECK(!rig_all_reduce(comm, &d, rank, nranks)); /* at once: no group is open */
  CHECK(rig_count("AllReduce") == 0);
  rig_meet(rank, nranks, 1);
  OK(front.CommDestroy(comm));
  rig_close(&d);
}

static void test_half(void) {
  rig_prepare();
  harness_processes(2, run_half, NULL, RIG_SECONDS);
}

/* ---- forked children ----------------------------------------------------------------------------------------------
 */

/* A child that uses what it has no right to gets errors within its time, and does its parent no harm. */
static void fork_child(nccl_comm_t comm, const struct data *d, bool destroys) {
  nccl_result_t state;
  int status;
  const pid_t child = fork();
  CHECK(child >= 0);
  if (!child) {
    alarm(10);
    const bool refused = rig_call(comm, d) != NCCL_SUCCESS;
    front.CommGetAsyncError(comm, &state);
    if (destroys) front.CommDestroy(comm);
    _exit(refused ? 0 : 1);
  }
  CHECK(waitpid(child, &status, 0) == child);
  CHECK_TEXT(WIFEXITED(status) && !WEXITSTATUS(status), "the child: status %x", (unsigned)status);
}

static void run_forked(int rank, int nranks, void *context) {
  (void)context;
  nccl_comm_t comm = comm_of(rank, nranks);
  struct data d = rig_open();
  for (int destroys = 0; destroys < 2; destroys++) {
    CHECK(!rig_all_reduce(comm, &d, rank, nranks));
    if (rank == 0) fork_child(comm, &d, destroys);
    CHECK(!rig_all_reduce(comm, &d, rank, nranks));
  }
  rig_meet(rank, nranks, 1);
  OK(front.CommDestroy(comm));
  rig_close(&d);
}

static void test_forked(void) {
  rig_prepare();
  harness_processes(2, run_forked, NULL, RIG_SECONDS);
}

/* ---- while the ranks agree ----------------------------------------------------------------------------------------
 */

static nccl_comm_t begin_to_agree(int rank, int nranks) {
  struct { /* as far as the fake reads it */
    size_t size;
    unsigned magic, version;
    int blocking;
  } config = {.size = sizeof config};
  nccl_comm_t comm = NULL;
  nccl_result_t state;
  CHECK(front.CommInitRankConfig(&comm, nranks, rig_shared->id[0], rank, &config) == NCCL_IN_PROGRESS);
  do {
    usleep(1000);
    OK(front.CommGetAsyncError(comm, &state));
  } while (!rig_count("CommCuDevice")); /* the front asks for it when it starts */
  CHECK(state == NCCL_IN_PROGRESS);
  return comm;
}

struct waiting {
  nccl_comm_t comm;
  const struct data *data;
  nccl_result_t result;
};

static void *call_waiting(void *context) {
  struct waiting *w = context;
  w->result = rig_call(w->comm, w->data);
  return NULL;
}

/* A call that waits for the agreement is told of the abort, and is not given to NCCL, whose communicator is gone. */
static void abort_a_waiting_call(nccl_comm_t comm, const struct data *d) {
  struct waiting w = {.comm = comm, .data = d, .result = NCCL_SUCCESS};
  pthread_t thread;
  CHECK(!pthread_create(&thread, NULL, call_waiting, &w));
  usleep(200000);
  OK(front.CommAbort(comm));
  CHECK(!pthread_join(thread, NULL));
  CHECK_TEXT(w.result == NCCL_INVALID_USAGE && !rig_count("AllReduce"), "result %d", (int)w.result);
}

/* Rank 1 has no front, so rank 0 waits for it, for 10 s. Meanwhile it forks a child that calls, calls, and aborts. */
static void run_aborted_agreement(int rank, int nranks, void *context) {
  (void)context;
  rig_load();
  if (rank) front = fake;
  CUDA(cudaSetDevice(rank));
  struct data d = rig_open();
  if (rank == 0) {
    nccl_comm_t comm = begin_to_agree(rank, nranks);
    fork_child(comm, &d, false);
    abort_a_waiting_call(comm, &d);
    rig_meet(rank, nranks, 1);
  } else {
    nccl_comm_t comm;
    OK(front.CommInitRank(&comm, nranks, rig_shared->id[0], rank));
    rig_meet(rank, nranks, 1);
    OK(front.CommAbort(comm));
  }
  rig_close(&d);
}

static void test_aborted_agreement(void) {
  rig_prepare();
  harness_processes(2, run_aborted_agreement, NULL, 9);
}

struct dying {
  unsigned delay_us;
};

/* Segments of the library that this process has mapped: those of the fake, of the meeting, of the engine. */
static int segments(void) {
  char line[512], newest[512] = "";
  FILE *maps = fopen("/proc/self/maps", "r");
  int count = 0;
  CHECK(maps);
  while (fgets(line, sizeof line, maps)) {
    const char *name = strstr(line, "/shmccl-0-");
    if (!name || !strcmp(name, newest)) continue;
    strcpy(newest, name);
    count++;
  }
  fclose(maps);
  return count;
}

static void *die(void *context) {
  while (segments() < 2) usleep(50);
  usleep(((const struct dying *)context)->delay_us);
  raise(SIGKILL);
  return NULL;
}

/* The last rank dies that long after it has come to the meeting (test_front.c is about one that does not come).
 * Whatever the others came to: nobody waits, and no call succeeds. */
static void run_dying(int rank, int nranks, void *context) {
  nccl_comm_t comm;
  pthread_t thread;
  nccl_result_t state = NCCL_SUCCESS;
  rig_load();
  CUDA(cudaSetDevice(rank));
  struct data d = rig_open();
  if (rank == nranks - 1) CHECK(!pthread_create(&thread, NULL, die, context));
  OK(front.CommInitRank(&comm, nranks, rig_shared->id[0], rank));
  if (rank == nranks - 1) pause();
  while (rig_call(comm, &d) == NCCL_SUCCESS && state == NCCL_SUCCESS && cudaStreamQuery(d.stream) != cudaSuccess) {
    OK(front.CommGetAsyncError(comm, &state));
    usleep(1000);
  }
  CHECK(cudaStreamSynchronize(d.stream) != cudaSuccess || state != NCCL_SUCCESS || rig_call(comm, &d) != NCCL_SUCCESS);
  OK(front.CommAbort(comm));
}

static void test_dying(void) {
  enum { N = 3 };
  struct harness_outcome outcomes[N];
  struct harness_random random = harness_random(harness_seed());
  const size_t limits[] = {1000, 5000, 10000, 20000, 50000};
  for (size_t i = 0; i < LENGTH(limits); i++) {
    struct dying dying = {.delay_us = (unsigned)harness_below(&random, limits[i])};
    printf("killed after %u us\n", dying.delay_us);
    rig_prepare();
    harness_outcomes(N, run_dying, &dying, RIG_SECONDS, outcomes);
    check_outcomes(outcomes, N, N - 1);
  }
}

/* ---- threads: calls, questions and an end at once -----------------------------------------------------------------
 */

struct asker {
  nccl_comm_t comm;
  uint32_t done;
};

static void *ask(void *context) {
  struct asker *asker = context;
  nccl_result_t state;
  while (!shmi_observe32(&asker->done)) {
    OK(front.CommGetAsyncError(asker->comm, &state));
    front.GetLastError(asker->comm);
    usleep(100);
  }
  return NULL;
}

static uint32_t revoked;
static void *revoke_soon(void *comm) {
  struct harness_random random = harness_random((uintptr_t)comm);
  usleep((unsigned)harness_below(&random, 20000));
  OK(front.CommRevoke(comm, 0));
  shmi_publish32(&revoked, 1);
  return NULL;
}

static bool goes_on(nccl_comm_t comm, const struct data *d) {
  nccl_result_t state = NCCL_SUCCESS;
  const cudaError_t error = cudaStreamQuery(d->stream);
  OK(front.CommGetAsyncError(comm, &state));
  return !shmi_observe32(&revoked) && state == NCCL_SUCCESS && (error == cudaSuccess || error == cudaErrorNotReady);
}

/* Rank 0's communicator is revoked by another thread while both call, and while a third asks for errors. */
static void run_race(int rank, int nranks, void *context) {
  nccl_comm_t comm;
  pthread_t asks, revokes;
  (void)context;
  CUDA(cudaSetDevice(rank));
  struct data d = rig_open();
  OK(front.CommInitRank(&comm, nranks, rig_shared->id[0], rank));
  struct asker asker = {.comm = comm};
  CHECK(!pthread_create(&asks, NULL, ask, &asker));
  if (rank == 0) CHECK(!pthread_create(&revokes, NULL, revoke_soon, comm));
  while (goes_on(comm, &d) && rig_call(comm, &d) == NCCL_SUCCESS) usleep(50);
  if (rank == 0) CHECK(!pthread_join(revokes, NULL));
  shmi_publish32(&asker.done, 1);
  CHECK(!pthread_join(asks, NULL));
  OK(front.CommAbort(comm));
  cudaStreamSynchronize(d.stream); /* ends */
}

static void test_race(void) {
  rig_prepare();
  harness_threads(2, run_race, NULL, RIG_SECONDS);
}

int main(void) {
  const char *folder = harness_own_folder();
  rig_begin();
  test_ended();
  test_idle();
  test_revoked();
  test_death();
  test_mismatch();
  test_finalize();
  test_suspend();
  test_half();
  test_forked();
  test_aborted_agreement();
  test_dying();
  test_race();
  CHECK_TEXT(harness_entries(folder) == 0, "%d files are left in %s", harness_entries(folder), folder);
  return 0;
}
