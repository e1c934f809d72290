/*
 * death.c - a rank that dies in the middle is named by all others within a second.
 *
 * Each rank in turn is killed at a random moment of every kind of call, alone and with children of its own that go on
 * living; also a process of two ranks, a rank that dies or leaves while the others are busy with each other, one that
 * is only stopped, one that is interrupted from the keyboard, and one that just ends after its last call, which is no
 * trouble.
 */
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <threads.h>
#include <unistd.h>

#include "trouble/support.h"

enum op { ALLREDUCE, ALLGATHER, ALLTOALL, SENDRECV, BARRIER, SPLIT, OPS };
static const char *const op_names[OPS] = {"allreduce", "allgather", "alltoall", "send/recv", "barrier", "split"};

enum child { NO_CHILD, FORK_BEFORE, FORK_AFTER, SPAWNED, VFORKED, CHILDREN };

struct plan {
  enum op op;
  size_t bytes; /* that a rank sends to each */
  int signal, victim;
  enum child child; /* of the victim */
  shmccl_config_t config;
};

/* ---- what ranks do -------------------------------------------------------------------------------------------------
 */

/* To everybody else, in one group. */
static shmccl_result_t exchange(shmccl_comm_t *comm, int rank, int nranks, const char *out, char *in, size_t bytes) {
  shmccl_result_t result = shmccl_group_start(comm);
  for (int peer = 0; peer < nranks && result == SHMCCL_SUCCESS; peer++) {
    if (peer == rank) continue;
    result = shmccl_send(out + (size_t)peer * bytes, bytes, SHMCCL_INT8, peer, comm, NULL);
    if (result == SHMCCL_SUCCESS) result = shmccl_recv(in + (size_t)peer * bytes, bytes, SHMCCL_INT8, peer, comm, NULL);
  }
  return result == SHMCCL_SUCCESS ? shmccl_group_end(comm) : result;
}

static shmccl_result_t split(shmccl_comm_t *comm) {
  shmccl_comm_t *part = NULL;
  shmccl_result_t result = shmccl_comm_split(comm, 0, 0, &part, NULL);
  if (result == SHMCCL_SUCCESS) result = shmccl_barrier(part, NULL);
  shmccl_comm_destroy(part);
  return result;
}

static shmccl_result_t call(const struct plan *p, shmccl_comm_t *comm, int rank, int nranks, char *out, char *in) {
  switch (p->op) {
  case ALLREDUCE: return shmccl_allreduce(out, in, p->bytes / 4, SHMCCL_FLOAT32, SHMCCL_SUM, comm, NULL);
  case ALLGATHER: return shmccl_allgather(out, in, p->bytes, SHMCCL_INT8, comm, NULL);
  case ALLTOALL: return shmccl_alltoall(out, in, p->bytes, SHMCCL_INT8, comm, NULL);
  case SPLIT: return split(comm);
  case SENDRECV: return exchange(comm, rank, nranks, out, in, p->bytes);
  default: return shmccl_barrier(comm, NULL);
  }
}

static pid_t leave_child(enum child kind) {
  char program[] = "sleep", seconds[] = "60", *const arguments[] = {program, seconds, NULL};
  extern char **environ;
  pid_t pid = 0;
  if (kind == SPAWNED) {
    CHECK(posix_spawnp(&pid, "sleep", NULL, NULL, arguments, environ) == 0, "cannot spawn");
  } else if (kind == VFORKED) {
    pid = vfork();
    if (pid == 0) {
      execvp("sleep", arguments);
      _exit(1);
    }
  } else {
    pid = fork();
    while (pid == 0) pause();
  }
  return pid;
}

static void mind_child(struct tr_job *job, int rank, const struct plan *p, bool before) {
  if (rank != p->victim || p->child == NO_CHILD || (p->child == FORK_BEFORE) != before) return;
  job->slots[rank].child = leave_child(p->child);
}

/* The same call again and again, until it fails. */
static void work(struct tr_job *job, int rank) {
  const struct plan *p = job->argument;
  char *out = calloc((size_t)job->nranks, p->bytes + 1), *in = calloc((size_t)job->nranks, p->bytes + 1);
  shmccl_result_t result = SHMCCL_SUCCESS;
  mind_child(job, rank, p, true);
  shmccl_comm_t *comm = tr_join_comm(job, rank, &p->config);
  mind_child(job, rank, p, false);
  while (comm && result == SHMCCL_SUCCESS) {
    result = call(p, comm, rank, job->nranks, out, in);
    if (result == SHMCCL_SUCCESS) tr_set(&job->slots[rank].phase, job->slots[rank].phase + 1);
  }
  tr_tell(job, rank, result);
  EXPECT(result, result, "rank "); /* one line, the last error */
  if (comm) CHECK(shmccl_barrier(comm, NULL) == result, "another error than %s", shmccl_error_string(result));
  shmccl_comm_destroy(comm);
  free(out);
  free(in);
}

/* ---- what the parent sees ---------------------------------------------------------------------------------------- */

static bool names(const char *error, int culprit) {
  char with_pid[32], told[32];
  snprintf(with_pid, sizeof with_pid, " rank %d (pid", culprit);
  snprintf(told, sizeof told, ": rank %d died", culprit);
  /* In a part whose ranks had met when others of it gave up: the dead one may have no number there. */
  return strstr(error, with_pid) || strstr(error, told) || strstr(error, "gave up while it was made: peer died");
}

static void check_survivors(struct tr_job *job, unsigned dead, uint64_t died_ns, const char *what) {
  for (int r = 0; r < job->nranks; r++) {
    const struct tr_slot *s = &job->slots[r];
    bool named = false;
    if (dead >> r & 1) continue;
    for (int d = 0; d < job->nranks; d++) named |= dead >> d & 1 && names(s->error, d);
    CHECK(s->result == SHMCCL_ERROR_PEER_DIED, "%s: rank %d: %s, %s", what, r, shmccl_error_string(s->result),
          s->error);
    CHECK(named, "%s: rank %d does not name the dead (mask %x): %s", what, r, dead, s->error);
    CHECK(s->told_ns < died_ns + 1000000000u, "%s: rank %d was told after %llu ms", what, r,
          (unsigned long long)(s->told_ns - died_ns) / 1000000);
  }
}

/* Waits until all survivors have ended or 20 s are over; the slots stay readable. */
static void settle(struct tr_job *job, unsigned dead) {
  for (int r = 0; r < job->nranks; r++) {
    siginfo_t info = {0};
    if (dead >> r & 1) continue;
    for (int i = 0; i < 20000 && info.si_pid == 0; i++) {
      waitid(P_PID, (id_t)job->pids[r], &info, WEXITED | WNOHANG | WNOWAIT);
      if (info.si_pid == 0) tr_sleep_ms(1);
    }
  }
}

static void end_child(struct tr_job *job, int victim, const char *what) {
  pid_t child = job->slots[victim].child;
  char path[64], state = 0;
  if (child <= 0) return;
  snprintf(path, sizeof path, "/proc/%d/stat", (int)child);
  FILE *f = fopen(path, "re");
  if (f) {
    if (fscanf(f, "%*d (%*[^)]) %c", &state) != 1) state = 0;
    fclose(f);
  }
  CHECK(state && state != 'Z', "%s: the dead rank's child should still live", what);
  kill(child, SIGKILL);
}

static void kill_one(int nranks, const struct plan *p) {
  struct tr_job job;
  char what[128];
  const unsigned dead = 1u << p->victim;
  snprintf(what, sizeof what, "%s of %zu bytes, %d ranks, rank %d gets signal %d, child %d", op_names[p->op], p->bytes,
           nranks, p->victim, p->signal, p->child);
  tr_start(&job, nranks, work, p);
  if (tr_await_all(&job, 1)) usleep(tr_random(15000));
  uint64_t died_ns = tr_now_ns();
  kill(job.pids[p->victim], p->signal);
  settle(&job, dead);
  check_survivors(&job, dead, died_ns, what);
  end_child(&job, p->victim, what);
  tr_join(&job, dead);
  CHECK(tr_entries(tr_folder()) == 0, "%s: %d files are left", what, tr_entries(tr_folder()));
}

static const shmccl_config_t patient = {.size = sizeof(shmccl_config_t), .timeout_ms = 15000};

static void test_killed_in_calls(void) {
  static const size_t sizes[] = {8, 4 << 10, 256 << 10, 3 << 20};
  for (int nranks = 2; nranks <= 4; nranks++)
    for (int victim = 0; victim < nranks; victim++)
      for (enum op op = 0; op < OPS; op++)
        kill_one(nranks, &(struct plan){.op = op,
                                        .bytes = sizes[tr_random(LENGTH(sizes))],
                                        .signal = SIGKILL,
                                        .victim = victim,
                                        .config = patient});
}

static void test_children_live_on(void) {
  for (enum child child = FORK_BEFORE; child < CHILDREN; child++)
    for (int victim = 0; victim < 3; victim++)
      kill_one(3, &(struct plan){.op = (enum op)tr_random(OPS),
                                 .bytes = 64 << 10,
                                 .signal = SIGKILL,
                                 .victim = victim,
                                 .child = child,
                                 .config = patient});
}

static void test_interrupted(void) {
  for (int victim = 0; victim < 2; victim++)
    kill_one(2,
             &(struct plan){.op = ALLREDUCE, .bytes = 1 << 20, .signal = SIGINT, .victim = victim, .config = patient});
}

/* ---- a process of several ranks ---------------------------------------------------------------------------------- */

static shmccl_comm_t *threads_comms[2];

static int thread_rank(void *argument) {
  shmccl_comm_t *comm = argument;
  shmccl_result_t result = SHMCCL_SUCCESS;
  while (result == SHMCCL_SUCCESS) result = shmccl_barrier(comm, NULL);
  return 0;
}

struct joiner {
  const struct tr_job *job;
  shmccl_comm_t **comm;
  int rank;
};

static int join_thread(void *argument) {
  struct joiner *j = argument;
  return (int)shmccl_comm_init_rank(j->comm, 4, &j->job->id, j->rank, &patient);
}

/* Process p plays ranks 2p and 2p + 1, each in a thread. */
static void two_ranks(struct tr_job *job, int process) {
  shmccl_result_t results[2] = {SHMCCL_SUCCESS, SHMCCL_SUCCESS};
  struct joiner joiners[2];
  thrd_t threads[2];
  for (int i = 0; i < 2; i++) {
    joiners[i] = (struct joiner){job, &threads_comms[i], 2 * process + i};
    thrd_create(&threads[i], join_thread, &joiners[i]);
  }
  for (int i = 0; i < 2; i++) thrd_join(threads[i], NULL);
  tr_set(&job->slots[process].phase, 1);
  for (int i = 0; i < 2; i++) thrd_create(&threads[i], thread_rank, threads_comms[i]);
  for (int i = 0; i < 2; i++) thrd_join(threads[i], NULL);
  tr_tell(job, process, SHMCCL_SUCCESS);
  for (int i = 0; i < 2; i++) {
    results[i] = shmccl_barrier(threads_comms[i], NULL);
    CHECK(results[i] == SHMCCL_ERROR_PEER_DIED, "rank %d: %s", 2 * process + i, shmccl_error_string(results[i]));
    shmccl_comm_destroy(threads_comms[i]);
  }
  char text[4096];
  int dead = 2 - 2 * process, lines = tr_caught(text, sizeof text);
  CHECK(lines == 2, "%d lines: %s", lines, text);
  CHECK(names(text, dead) || names(text, dead + 1), "neither of ranks %d and %d is named: %s", dead, dead + 1, text);
}

static void test_process_of_two_ranks(void) {
  for (int victim = 0; victim < 2; victim++) {
    struct tr_job job;
    tr_start(&job, 2, two_ranks, NULL);
    if (tr_await_all(&job, 1)) usleep(tr_random(5000));
    uint64_t died_ns = tr_now_ns();
    kill(job.pids[victim], SIGKILL);
    settle(&job, 1u << victim);
    CHECK(job.slots[1 - victim].told_ns < died_ns + 1000000000u, "told after more than a second");
    tr_join(&job, 1u << victim);
  }
}

/* ---- busy with each other ------------------------------------------------------------------------------------------
 */

enum { BUSY_MESSAGES = 4000, BUSY_BYTES = 16 << 20 }; /* many seconds' */

static shmccl_result_t note_exchange(shmccl_comm_t *comm, int peer, const char *out, char *in) {
  shmccl_result_t result = SHMCCL_SUCCESS;
  for (int i = 0; i < BUSY_MESSAGES && result == SHMCCL_SUCCESS; i++) {
    result = shmccl_send(out, BUSY_BYTES, SHMCCL_INT8, peer, comm, NULL);
    if (result == SHMCCL_SUCCESS) result = shmccl_recv(in, BUSY_BYTES, SHMCCL_INT8, peer, comm, NULL);
  }
  return result;
}

/* Ranks 0 and 1 exchange, in one group; rank 0 also waits there for rank 2, which never sends: it leaves, if the
 * argument says so, or is killed. */
static void busy(struct tr_job *job, int rank) {
  const bool *leaves = job->argument;
  char *out = calloc(1, BUSY_BYTES), *in = calloc(1, BUSY_BYTES), word = 0;
  shmccl_comm_t *comm = tr_join_comm(job, rank, &patient);
  if (rank < 2) {
    EXPECT_OK(shmccl_group_start(comm));
    if (rank == 0) EXPECT_OK(shmccl_recv(&word, 1, SHMCCL_INT8, 2, comm, NULL));
    EXPECT_OK(note_exchange(comm, 1 - rank, out, in));
    tr_set(&job->slots[rank].phase, 1);
    shmccl_result_t result = shmccl_group_end(comm);
    tr_tell(job, rank, result);
    EXPECT(result, SHMCCL_ERROR_PEER_DIED, "rank 2 ");
  } else {
    tr_set(&job->slots[rank].phase, 1);
    tr_await_all(job, 1);
    tr_sleep_ms(50);
    while (!*leaves) pause();
    tr_tell(job, rank, SHMCCL_SUCCESS);
  }
  shmccl_comm_destroy(comm);
  free(out);
  free(in);
}

static void test_busy_with_each_other(void) {
  for (int leaves = 0; leaves < 2; leaves++) {
    struct tr_job job;
    const unsigned dead = 1u << 2;
    tr_start(&job, 3, busy, &(bool){leaves});
    tr_await_all(&job, 1);
    if (!leaves) tr_sleep_ms(50);
    uint64_t died_ns = tr_now_ns();
    if (!leaves) kill(job.pids[2], SIGKILL);
    settle(&job, dead);
    check_survivors(&job, dead, leaves ? job.slots[2].told_ns : died_ns, leaves ? "left by rank 2" : "rank 2 killed");
    tr_join(&job, leaves ? 0 : dead);
  }
}

/* ---- stopped, not dead ----------------------------------------------------------------------------------------------
 */

static void test_stopped_for_too_long(void) {
  struct tr_job job;
  struct plan p = {.op = ALLREDUCE, .bytes = 4096, .victim = 1, .config = patient};
  p.config.timeout_ms = 250;
  tr_start(&job, 3, work, &p);
  tr_await_all(&job, 1);
  kill(job.pids[1], SIGSTOP);
  settle(&job, 1u << 1);
  kill(job.pids[1], SIGCONT);
  settle(&job, 0);
  for (int r = 0; r < 3; r++) {
    const struct tr_slot *s = &job.slots[r];
    CHECK(s->result == SHMCCL_ERROR_TIMEOUT, "rank %d: %s: %s", r, shmccl_error_string(s->result), s->error);
    CHECK(strstr(s->error, "for rank 1,") || strstr(s->error, "rank 1 did not come"), "rank %d: %s", r, s->error);
  }
  tr_join(&job, 0);
}

enum { ROUNDS = 300 };

/* Rounds of sums, each checked; then the end without a goodbye, if the argument says so. */
static void sum_rounds(struct tr_job *job, int rank) {
  const bool *just_end = job->argument;
  shmccl_comm_t *comm = tr_join_comm(job, rank, &patient);
  for (int i = 0; i < ROUNDS; i++) {
    int32_t data[1000];
    for (int k = 0; k < 1000; k++) data[k] = rank + i + k;
    EXPECT_OK(shmccl_allreduce(data, data, 1000, SHMCCL_INT32, SHMCCL_SUM, comm, NULL));
    CHECK(data[999] == job->nranks * (i + 999) + job->nranks * (job->nranks - 1) / 2, "wrong sum %d", (int)data[999]);
    tr_set(&job->slots[rank].phase, (uint32_t)i + 1);
    if (!*just_end) usleep(100);
  }
  if (*just_end && rank != job->nranks - 1) _exit(tr_failed() ? 1 : 0);
  shmccl_comm_destroy(comm);
}

static void test_stopped_for_a_while(void) {
  struct tr_job job;
  tr_start(&job, 3, sum_rounds, &(bool){false});
  tr_await_all(&job, 10);
  for (int victim = 0; victim < 3; victim++) {
    kill(job.pids[victim], SIGSTOP);
    tr_sleep_ms(80);
    kill(job.pids[victim], SIGCONT);
  }
  tr_join(&job, 0);
}

static void test_ends_after_last_call(void) {
  for (int nranks = 2; nranks <= 4; nranks++) tr_run(nranks, sum_rounds, &(bool){true});
}

int main(void) {
  tr_begin();
  test_killed_in_calls();
  test_children_live_on();
  test_interrupted();
  test_process_of_two_ranks();
  test_busy_with_each_other();
  test_stopped_for_too_long();
  test_stopped_for_a_while();
  test_ends_after_last_call();
  return tr_end();
}
