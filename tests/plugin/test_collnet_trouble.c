/*
 * test_collnet_trouble.c - what goes wrong around CollNet: misuse, damaged handles, ranks that disagree, die, leave or
 * never come, forks. Each time the fitting result, one warning, no hang, nothing left behind.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/seccomp.h>

#include "collnet_rig.h"
#include "comm/helpers.h"

enum { COUNT = 1000, MANY = 1 << 16, LIMIT_S = 100, VANISHED_S = 25 /* less than connect waits */ };

static int post(const struct rig *rig, void *coll, float *values, void **request) {
  return rig_iallreduce(rig, coll, values, values, COUNT, NCCL_FLOAT32, NCCL_SUM, NULL, NULL, request);
}

static void use_it(const struct rig *rig, void *coll) {
  static _Thread_local float values[COUNT];
  void *request = NULL;
  CHECK(post(rig, coll, values, &request) == NCCL_SUCCESS && request);
  CHECK(rig_wait(rig, request, NULL) == NCCL_SUCCESS);
}

/* ---- misuse ------------------------------------------------------------------------------------------------------ */

static void misuse_of_set_up(const struct rig *rig) {
  char handle[NCCL_NET_HANDLE_BYTES], other[NCCL_NET_HANDLE_BYTES];
  void *handles[1] = {handle}, *others[1] = {other}, *nothing[1] = {NULL}, *comm, *listen_comm, *second, *coll;
  EXPECT(rig_listen(rig, 1, handle, &comm), NCCL_INVALID_ARGUMENT, "listen|device 1");
  EXPECT(rig_listen(rig, 0, NULL, &comm), NCCL_INVALID_ARGUMENT, "listen|NULL");
  EXPECT(rig_listen(rig, 0, handle, NULL), NCCL_INVALID_ARGUMENT, "listen|NULL");
  EXPECT_QUIETLY(rig_listen(rig, 0, handle, &listen_comm), NCCL_SUCCESS);
  EXPECT_QUIETLY(rig_listen(rig, 0, other, &second), NCCL_SUCCESS);
  EXPECT(rig->connect(handles, 0, 0, listen_comm, &coll), NCCL_INVALID_ARGUMENT, "connect|0 of 0");
  EXPECT(rig->connect(handles, 65, 0, listen_comm, &coll), NCCL_INVALID_ARGUMENT, "connect|0 of 65|64");
  EXPECT(rig->connect(handles, 1, 1, listen_comm, &coll), NCCL_INVALID_ARGUMENT, "connect|1 of 1");
  EXPECT(rig->connect(handles, 1, -1, listen_comm, &coll), NCCL_INVALID_ARGUMENT, "connect|-1 of 1");
  EXPECT(rig->connect(nothing, 1, 0, listen_comm, &coll), NCCL_INVALID_ARGUMENT, "connect|rank 0 is NULL");
  EXPECT(rig->connect(others, 1, 0, listen_comm, &coll), NCCL_INVALID_ARGUMENT, "connect|not the one");
  CHECK(rig->connect(NULL, 1, 0, listen_comm, &coll) == NCCL_INVALID_ARGUMENT);
  CHECK(rig->connect(handles, 1, 0, NULL, &coll) == NCCL_INVALID_ARGUMENT);
  CHECK(rig->connect(handles, 1, 0, listen_comm, NULL) == NCCL_INVALID_ARGUMENT);
  CHECK(rig->close_listen(NULL) == NCCL_INVALID_ARGUMENT);
  EXPECT_QUIETLY(rig->connect(handles, 1, 0, listen_comm, &coll), NCCL_SUCCESS);
  CHECK(rig->close_listen(coll) == NCCL_INVALID_ARGUMENT);
  CHECK(rig->close_coll(listen_comm) == NCCL_INVALID_ARGUMENT);
  EXPECT_QUIETLY(rig->close_coll(coll), NCCL_SUCCESS);
  EXPECT_QUIETLY(rig->close_listen(second), NCCL_SUCCESS);
  EXPECT_QUIETLY(rig->close_listen(listen_comm), NCCL_SUCCESS);
}

static void misuse_of_memory(const struct rig *rig, void *coll) {
  static float values[2 * COUNT];
  void *mhandle, *second, *request = values;
  EXPECT(rig->reg_mr(coll, values, sizeof values, NCCL_PTR_CUDA, &mhandle), NCCL_INVALID_USAGE, "regMr|type 2");
  EXPECT(rig->reg_mr(coll, NULL, 1, NCCL_PTR_HOST, &mhandle), NCCL_INVALID_ARGUMENT, "regMr|NULL");
  EXPECT(rig->reg_mr(coll, values, 1, NCCL_PTR_HOST, NULL), NCCL_INVALID_ARGUMENT, "regMr|NULL");
  CHECK(rig->reg_mr(NULL, values, 1, NCCL_PTR_HOST, &mhandle) == NCCL_INVALID_ARGUMENT);
  EXPECT(rig->dereg_mr(coll, values), NCCL_INVALID_ARGUMENT, "deregMr|not registered");
  EXPECT_QUIETLY(rig->dereg_mr(coll, NULL), NCCL_SUCCESS);
  EXPECT_QUIETLY(rig->reg_mr(coll, values, COUNT * 4, NCCL_PTR_HOST, &mhandle), NCCL_SUCCESS);
  EXPECT_QUIETLY(rig->reg_mr(coll, values, 2 * COUNT * 4, NCCL_PTR_HOST, &second), NCCL_SUCCESS);
  /* One element more than is registered; a handle that is none; the other buffer's too. */
  EXPECT(rig_iallreduce(rig, coll, values, values, COUNT + 1, NCCL_FLOAT32, NCCL_SUM, mhandle, second, &request),
         NCCL_INVALID_ARGUMENT, "iallreduce|registered");
  EXPECT(rig_iallreduce(rig, coll, values, values, COUNT + 1, NCCL_FLOAT32, NCCL_SUM, second, mhandle, &request),
         NCCL_INVALID_ARGUMENT, "iallreduce|registered");
  EXPECT(rig_iallreduce(rig, coll, values, values, 1, NCCL_FLOAT32, NCCL_SUM, values, second, &request),
         NCCL_INVALID_ARGUMENT, "iallreduce|registered");
  EXPECT_QUIETLY(rig->dereg_mr(coll, mhandle), NCCL_SUCCESS);
  EXPECT(rig->dereg_mr(coll, mhandle), NCCL_INVALID_ARGUMENT, "deregMr|not registered");
  EXPECT(rig_iallreduce(rig, coll, values, values, 1, NCCL_FLOAT32, NCCL_SUM, mhandle, NULL, &request),
         NCCL_INVALID_ARGUMENT, "iallreduce|registered");
  CHECK(request == values); /* written on success only */
}

static void misuse_of_calls(const struct rig *rig, void *coll) {
  static float values[2 * COUNT];
  void *request = NULL;
  int done = -1;
  EXPECT(rig_iallreduce(rig, coll, values, values, 1, (nccl_datatype_t)12, NCCL_SUM, NULL, NULL, &request),
         NCCL_INVALID_ARGUMENT, "iallreduce|type 12");
  EXPECT(rig_iallreduce(rig, coll, values, values, 1, NCCL_FLOAT32, NCCL_AVG, NULL, NULL, &request),
         NCCL_INVALID_ARGUMENT, "iallreduce|operator 4");
  EXPECT(rig_iallreduce(rig, coll, values, values + 1, 2, NCCL_FLOAT32, NCCL_SUM, NULL, NULL, &request),
         NCCL_INVALID_ARGUMENT, "iallreduce|overlap");
  EXPECT(rig_iallreduce(rig, coll, NULL, values, 1, NCCL_FLOAT32, NCCL_SUM, NULL, NULL, &request),
         NCCL_INVALID_ARGUMENT, "iallreduce|NULL");
  EXPECT(rig_iallreduce(rig, coll, values, NULL, 1, NCCL_FLOAT32, NCCL_SUM, NULL, NULL, &request),
         NCCL_INVALID_ARGUMENT, "iallreduce|NULL");
  EXPECT(rig_iallreduce(rig, coll, values, values, 1, NCCL_FLOAT32, NCCL_SUM, NULL, NULL, NULL), NCCL_INVALID_ARGUMENT,
         "iallreduce|NULL");
  EXPECT(rig_iallreduce(rig, coll, values, values, (size_t)-1, NCCL_FLOAT32, NCCL_SUM, NULL, NULL, &request),
         NCCL_INVALID_ARGUMENT, "iallreduce|elements: at most");
  CHECK(rig_iallreduce(rig, values, values, values, 1, NCCL_FLOAT32, NCCL_SUM, NULL, NULL, &request) ==
        NCCL_INVALID_ARGUMENT);
  CHECK(rig->test(NULL, &done, NULL) == NCCL_INVALID_ARGUMENT);
  CHECK(rig->test((void *)1, &done, NULL) == NCCL_INVALID_ARGUMENT);
  CHECK(post(rig, coll, values, &request) == NCCL_SUCCESS && request);
  CHECK(rig->test(request, NULL, NULL) == NCCL_INVALID_ARGUMENT);
  CHECK(rig_wait(rig, request, NULL) == NCCL_SUCCESS);
  CHECK(rig->test(request, &done, NULL) == NCCL_INVALID_ARGUMENT); /* reported as done before */
  EXPECT_QUIETLY(rig_iallreduce(rig, coll, NULL, NULL, 0, NCCL_FLOAT32, NCCL_SUM, NULL, NULL, &request), NCCL_SUCCESS);
  CHECK(rig_wait(rig, request, NULL) == NCCL_SUCCESS);
  request = values;
  EXPECT_QUIETLY(rig->iflush(coll, values, 4, NULL, &request), NCCL_SUCCESS);
  CHECK(request == NULL);
}

static void misuse(int rank, int nranks, void *context) {
  (void)rank, (void)nranks;
  for (int version = RIG_OLDEST; version <= RIG_NEWEST; version++) {
    const struct rig rig = rig_open(version);
    struct rig_exchange *exchange = rig_exchanges(1);
    misuse_of_set_up(&rig);
    void *coll = rig_connect(&rig, exchange, 0, 1);
    misuse_of_memory(&rig, coll);
    misuse_of_calls(&rig, coll);
    use_it(&rig, coll); /* nothing of all that has done harm */
    EXPECT_QUIETLY(rig.close_coll(coll), NCCL_SUCCESS);
    rig_finalize(&rig);
  }
  (void)context;
}

/* ---- ranks that do not fit together ------------------------------------------------------------------------------ */

struct plan {
  struct rig_exchange *exchange;
  void (*harm)(char *handle);   /* what happens to the last rank's handle on its way */
  const char *variable, *value; /* what the last rank has in its environment */
  nccl_result_t result;
  const char *words;
};

static void lose_bytes(char *handle) { memset(handle + 20, 0, NCCL_NET_HANDLE_BYTES - 20); }
static void flip_bit(char *handle) { handle[30] ^= 4; }
static void forget(char *handle) { memset(handle, 0, NCCL_NET_HANDLE_BYTES); }
static void age(char *handle) { handle[8] ^= 1; }

/* All ranks are refused alike, at once, with one line. */
static void be_refused(int rank, int nranks, void *context) {
  const struct plan *plan = context;
  const struct rig rig = rig_open(RIG_NEWEST);
  char copy[NCCL_NET_HANDLE_BYTES];
  void *handles[RIG_RANKS], *coll = NULL;
  if (rank == nranks - 1 && plan->variable) setenv(plan->variable, plan->value, 1);
  void *listen_comm = rig_meet(&rig, plan->exchange, rank, nranks, handles);
  memcpy(copy, handles[nranks - 1], sizeof copy);
  if (plan->harm) plan->harm(copy);
  handles[nranks - 1] = copy;
  const nccl_result_t result = rig.connect(handles, nranks, rank, listen_comm, &coll);
  char last[RIG_LINE];
  CHECK(result == plan->result && coll == NULL && rig_warnings(last) == 1);
  CHECK_TEXT(strstr(last, plan->words) || (rank == nranks - 1 && plan->variable), "%s", last);
  CHECK(rig.close_listen(listen_comm) == NCCL_SUCCESS);
}

static void refuse(const char *variable, const char *value, void (*harm)(char *), nccl_result_t result,
                   const char *words) {
  struct plan plan = {rig_exchanges(1), harm, variable, value, result, words};
  harness_processes(3, be_refused, &plan, LIMIT_S);
}

/* Rank 1 never connects. */
static void wait_in_vain(int rank, int nranks, void *context) {
  const struct plan *plan = context;
  const struct rig rig = rig_open(RIG_NEWEST);
  void *handles[RIG_RANKS], *coll = NULL;
  setenv("SHMCCL_TIMEOUT_MS", "300", 1);
  void *listen_comm = rig_meet(&rig, plan->exchange, rank, nranks, handles);
  if (rank != 1) EXPECT(rig.connect(handles, nranks, rank, listen_comm, &coll), NCCL_REMOTE_ERROR, "rank");
  rig_barrier(plan->exchange + 1, rank, nranks); /* until then rank 1 is there: only the time limit helps */
  CHECK(coll == NULL && rig.close_listen(listen_comm) == NCCL_SUCCESS);
}

/* Between listen and connect a rank dies, or closes what it listens on; which one, `variable` says. The others' limit
 * is longer than the test's. */
static void vanish(int rank, int nranks, void *context) {
  const struct plan *plan = context;
  const struct rig rig = rig_open(RIG_NEWEST);
  const int victim = atoi(plan->variable);
  void *handles[RIG_RANKS], *coll = NULL;
  void *listen_comm = rig_meet(&rig, plan->exchange, rank, nranks, handles);
  if (rank == victim) {
    usleep(50000); /* the others are in connect by then, mostly */
    if (!plan->value) kill(getpid(), SIGKILL);
  } else {
    EXPECT(rig.connect(handles, nranks, rank, listen_comm, &coll), NCCL_REMOTE_ERROR, plan->words);
    rig_barrier(plan->exchange + 1, rank - (rank > victim), nranks - 1); /* or the other would miss this one too */
  }
  CHECK(coll == NULL && rig.close_listen(listen_comm) == NCCL_SUCCESS);
}

static void lose(const char *victim, const char *how, const char *words) {
  struct harness_outcome outcomes[3];
  struct plan plan = {.exchange = rig_exchanges(2), .variable = victim, .value = how, .words = words};
  harness_outcomes(3, vanish, &plan, VANISHED_S, outcomes);
  for (int r = 0; r < 3; r++)
    CHECK_TEXT(!how && r == atoi(victim) ? outcomes[r].signal == SIGKILL : !outcomes[r].status, "rank %d", r);
}

/* ---- death and departure ----------------------------------------------------------------------------------------- */

/* Requests of one rank that another lets down: all fail alike, and one line says why. */
static void be_let_down(const struct rig *rig, void *coll, const char *words) {
  static float values[8][COUNT];
  void *requests[8] = {0}, *late;
  nccl_result_t result = NCCL_SUCCESS;
  char last[RIG_LINE];
  int posted = 0;
  while (posted < 8 && post(rig, coll, values[posted], &requests[posted]) == NCCL_SUCCESS) posted++;
  for (int i = 0; i < posted && result == NCCL_SUCCESS; i++) result = rig_wait(rig, requests[i], NULL);
  CHECK(result == NCCL_REMOTE_ERROR || posted < 8);
  CHECK(post(rig, coll, values[0], &late) == NCCL_REMOTE_ERROR);
  CHECK(rig_warnings(last) == 1);
  CHECK_TEXT(strstr(last, words), "%s", last);
}

static void die(int rank, int nranks, void *context) {
  const struct plan *plan = context;
  const struct rig rig = rig_open(RIG_NEWEST);
  void *coll = rig_connect(&rig, plan->exchange, rank, nranks);
  for (int i = 0; i < 3; i++) use_it(&rig, coll);
  if (rank == 1) {
    static float values[MANY];
    void *request;
    rig_iallreduce(&rig, coll, values, values, MANY, NCCL_FLOAT32, NCCL_SUM, NULL, NULL, &request);
    kill(getpid(), SIGKILL);
  }
  be_let_down(&rig, coll, "rank 1");
  CHECK(rig.close_coll(coll) == NCCL_SUCCESS);
}

/* As when NCCL aborts: closed with requests in flight that no other rank answers. */
static void leave(int rank, int nranks, void *context) {
  const struct plan *plan = context;
  const struct rig rig = rig_open(RIG_NEWEST);
  void *coll = rig_connect(&rig, plan->exchange, rank, nranks);
  use_it(&rig, coll);
  rig_barrier(plan->exchange + 1, rank, nranks);
  if (rank == 1) {
    static float values[2][COUNT];
    void *request;
    for (int i = 0; i < 2; i++) CHECK(post(&rig, coll, values[i], &request) == NCCL_SUCCESS && request);
  } else if (rank == 0) {
    usleep(200000); /* the others wait by then */
    be_let_down(&rig, coll, "rank");
  }
  CHECK(rig.close_coll(coll) == NCCL_SUCCESS);
}

/* Ranks that call different things are told so; none gets a wrong sum. */
static void disagree(int rank, int nranks, void *context) {
  const struct plan *plan = context;
  const struct rig rig = rig_open(RIG_NEWEST);
  static float values[COUNT];
  void *coll = rig_connect(&rig, plan->exchange, rank, nranks), *request;
  CHECK(rig_iallreduce(&rig, coll, values, values, COUNT - (size_t)rank, NCCL_FLOAT32, NCCL_SUM, NULL, NULL,
                       &request) == NCCL_SUCCESS);
  EXPECT(rig_wait(&rig, request, NULL), NCCL_INVALID_USAGE, "disagree|999 float32|1000 float32");
  CHECK(rig.close_coll(coll) == NCCL_SUCCESS);
}

/* NCCL is told to come again when too much is in flight, and loses nothing. */
static void overfill(int rank, int nranks, void *context) {
  const struct plan *plan = context;
  const struct rig rig = rig_open(RIG_NEWEST);
  static float values[64][COUNT];
  void *coll = rig_connect(&rig, plan->exchange, rank, nranks), *requests[64];
  int posted = 0, done = 0;
  for (int i = 0; i < 64; i++)
    for (int k = 0; k < COUNT; k++) values[i][k] = (float)i;
  while (done < 64) {
    while (posted < 64) {
      requests[posted] = values;
      CHECK(post(&rig, coll, values[posted], &requests[posted]) == NCCL_SUCCESS);
      if (!requests[posted]) break;
      posted++;
    }
    CHECK(posted - done <= NCCL_NET_MAX_REQUESTS && (posted == 64 || posted - done == NCCL_NET_MAX_REQUESTS));
    CHECK(rig_wait(&rig, requests[done], NULL) == NCCL_SUCCESS);
    for (int k = 0; k < COUNT; k++) CHECK(values[done][k] == (float)(nranks * done));
    done++;
  }
  CHECK(rig.close_coll(coll) == NCCL_SUCCESS && rig_warnings(NULL) == 0);
}

/* ---- forks ------------------------------------------------------------------------------------------------------- */

/* A child, which has no worker thread, can close its copy; the parent goes on. */
static void fork_once(int rank, int nranks, void *context) {
  const struct plan *plan = context;
  const struct rig rig = rig_open(RIG_NEWEST);
  int status = -1;
  void *coll = rig_connect(&rig, plan->exchange, rank, nranks);
  use_it(&rig, coll);
  const pid_t child = fork();
  if (child == 0) _exit(rig.close_coll(coll) == NCCL_SUCCESS ? 0 : 2);
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
  use_it(&rig, coll);
  CHECK(rig.close_coll(coll) == NCCL_SUCCESS);
}

/* ---- no system call in test -------------------------------------------------------------------------------------- */

#if !defined(__SANITIZE_ADDRESS__) && !HARNESS_SLOW
struct strict {
  const struct rig *rig;
  void *request;
  uint32_t done;
};

/* From here on this thread may read, write and exit; the kernel kills it for anything else. */
static void *test_strictly(void *context) {
  struct strict *s = context;
  int done = 0;
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT)) return NULL;
  while (!done)
    if (s->rig->test(s->request, &done, NULL) != NCCL_SUCCESS) break;
  __atomic_store_n(&s->done, (uint32_t)done, __ATOMIC_RELEASE);
  syscall(SYS_exit, 0);
  return NULL;
}

static void test_without_system_calls(int rank, int nranks, void *context) {
  const struct plan *plan = context;
  const struct rig rig = rig_open(RIG_NEWEST);
  static float values[COUNT];
  struct strict s = {.rig = &rig};
  pthread_t thread;
  void *coll = rig_connect(&rig, plan->exchange, rank, nranks);
  if (rank == 1) usleep(100000); /* long waits too */
  CHECK(post(&rig, coll, values, &s.request) == NCCL_SUCCESS && s.request);
  CHECK(pthread_create(&thread, NULL, test_strictly, &s) == 0 && pthread_join(thread, NULL) == 0);
  CHECK(__atomic_load_n(&s.done, __ATOMIC_ACQUIRE));
  CHECK(rig.close_coll(coll) == NCCL_SUCCESS);
}
#else
static void test_without_system_calls(int rank, int nranks, void *context) { (void)rank, (void)nranks, (void)context; }
#endif

/* ---- cores ------------------------------------------------------------------------------------------------------- */

/* Ranks with one mask divide it; those whose masks overlap in part leave it to the kernel. */
static void check_groups(void) {
  uint8_t masks[4][SHMI_CPU_MASK_BYTES] = {{0x0f}, {0xf0}, {0x0f}, {0xf0}};
  const uint8_t(*all)[SHMI_CPU_MASK_BYTES] = (const uint8_t(*)[SHMI_CPU_MASK_BYTES])masks;
  int place = -1;
  for (int r = 0; r < 4; r++) CHECK(shmi_helper_group(all, 4, r, &place) == 2 && place == r / 2);
  masks[3][0] = 0x1f;
  CHECK(shmi_helper_group(all, 4, 0, &place) == 0 && shmi_helper_group(all, 4, 1, &place) == 0);
  CHECK(shmi_helper_group(all, 3, 2, &place) == 2 && place == 1);
  CHECK(shmi_helper_group(all, 1, 0, &place) == 1 && place == 0);
}

static void run(int nranks, harness_rank_fn fn) {
  struct plan plan = {.exchange = rig_exchanges(2)};
  harness_processes(nranks, fn, &plan, LIMIT_S);
}

int main(void) {
  const char *folder = harness_own_folder();
  struct harness_outcome outcomes[3];
  struct plan plan = {.exchange = rig_exchanges(1)};
  setenv("SHMCCL_DEBUG", "none", 1); /* rig_logger sees every line */
  check_groups();
  run(1, misuse);
  refuse(NULL, NULL, lose_bytes, NCCL_INVALID_ARGUMENT, "the handle of rank 2 is damaged");
  refuse(NULL, NULL, flip_bit, NCCL_INVALID_ARGUMENT, "the handle of rank 2 is damaged");
  refuse(NULL, NULL, forget, NCCL_INVALID_ARGUMENT, "the handle of rank 2 is damaged");
  refuse(NULL, NULL, age, NCCL_INVALID_USAGE, "rank 2 runs another version");
  refuse("SHMCCL_SHM_DIR", "/proc", NULL, NCCL_SYSTEM_ERROR, "rank 2 (pid ");
  refuse("SHMCCL_TUNER", "0", NULL, NCCL_INVALID_USAGE, "the tuner of rank 2 goes by another table");
  run(3, wait_in_vain);
  lose("1", NULL, "rank 1 died");
  lose("0", NULL, "rank 0 died"); /* who makes the segment */
  lose("2", "closes", "rank 2 died or");
  harness_outcomes(3, die, &plan, LIMIT_S, outcomes);
  for (int r = 0; r < 3; r++) CHECK_TEXT(r == 1 ? outcomes[r].signal == SIGKILL : !outcomes[r].status, "rank %d", r);
  run(3, leave);
  run(2, disagree);
  run(2, overfill);
  run(2, fork_once);
  run(2, test_without_system_calls);
  CHECK(harness_entries(folder) == 0);
  return 0;
}
