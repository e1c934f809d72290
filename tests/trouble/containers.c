/*
 * containers.c - ranks in containers of their own: user, mount and process-id namespaces.
 *
 * Those that share the segment folder work together, though each is process 1 of its namespace, so that a dead rank's
 * process id is always somebody's; those that do not are told so: at once where the id says where it was made, by the
 * time limit where nothing does. A child that outlives its parent keeps no rank alive.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "comm/create.h"
#include "trouble/support.h"

static const shmccl_config_t hasty = {.size = sizeof(shmccl_config_t), .timeout_ms = 500};
static const shmccl_config_t patient = {.size = sizeof(shmccl_config_t), .timeout_ms = 10000};

enum { CHILD_EXIT = 3 };

static bool write_file(const char *path, const char *text) {
  const int fd = open(path, O_WRONLY | O_CLOEXEC);
  const bool good = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
  if (fd >= 0) close(fd);
  return good;
}

/* As container engines do it without root, and keep the user. */
static bool enter_namespaces(void) {
  char uids[64], gids[64];
  snprintf(uids, sizeof uids, "%u %u 1", (unsigned)geteuid(), (unsigned)geteuid());
  snprintf(gids, sizeof gids, "%u %u 1", (unsigned)getegid(), (unsigned)getegid());
  return !unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID) && write_file("/proc/self/setgroups", "deny") &&
         write_file("/proc/self/uid_map", uids) && write_file("/proc/self/gid_map", gids);
}

/* Ends with the state of process 1, without a leak check, which knows no such process. */
static _Noreturn void hold_container(struct tr_job *job, int rank, void (*fn)(struct tr_job *, int)) {
  int status = -1;
  CHECK(enter_namespaces(), "%s", strerror(errno));
  const pid_t pid = fork();
  if (pid == 0) {
    CHECK(getpid() == 1, "process %d", (int)getpid());
    fn(job, rank);
    _exit(tr_failed() ? 1 : 0);
  }
  tr_set((uint32_t *)&job->slots[rank].child, (uint32_t)pid);
  waitpid(pid, &status, 0);
  CHECK(status == 0 || (WIFSIGNALED(status) && job->slots[rank].phase == 2), "container of rank %d: status %x", rank,
        (unsigned)status);
  _exit(tr_failed() ? 1 : 0);
}

/* Runs fn as process 1 of new namespaces; the rank itself waits for it. */
static void in_container(struct tr_job *job, int rank, void (*fn)(struct tr_job *, int)) {
  int status = -1;
  const pid_t pid = fork();
  if (pid == 0) hold_container(job, rank, fn);
  waitpid(pid, &status, 0);
  CHECK(status == 0, "rank %d: status %x", rank, (unsigned)status);
}

/* ---- one folder ----------------------------------------------------------------------------------------------------
 */

static void sum(struct tr_job *job, int rank) {
  int32_t values[20000];
  shmccl_comm_t *comm = tr_join_comm(job, rank, &patient);
  for (size_t i = 0; i < LENGTH(values); i++) values[i] = rank + (int32_t)i;
  EXPECT_OK(shmccl_allreduce(values, values, LENGTH(values), SHMCCL_INT32, SHMCCL_SUM, comm, NULL));
  CHECK(values[77] == job->nranks * 77 + job->nranks * (job->nranks - 1) / 2, "sum is %d", (int)values[77]);
  EXPECT_OK(shmccl_comm_finalize(comm));
  shmccl_comm_destroy(comm);
}

static void sum_in_container(struct tr_job *job, int rank) { in_container(job, rank, sum); }

/* Rank 1 dies, process 1 of its namespace: rank 0 is process 1 too, so that number is alive. */
static void meet_until_death(struct tr_job *job, int rank) {
  shmccl_result_t result = SHMCCL_SUCCESS;
  shmccl_comm_t *comm = tr_join_comm(job, rank, &patient);
  if (rank == 1) {
    job->slots[1].told_ns = tr_now_ns();
    tr_set(&job->slots[1].phase, 2);
    for (;;) pause(); /* until the parent kills it: its own SIGKILL does not reach process 1 of a namespace */
  }
  while (result == SHMCCL_SUCCESS) result = shmccl_barrier(comm, NULL);
  EXPECT(result, SHMCCL_ERROR_PEER_DIED, "rank 1 (pid 1)");
  CHECK(tr_now_ns() < job->slots[1].told_ns + 2000000000u, "told after more than two seconds");
  shmccl_comm_destroy(comm);
}

static void die_in_container(struct tr_job *job, int rank) { in_container(job, rank, meet_until_death); }

static void test_death(void) {
  struct tr_job job;
  tr_start(&job, 2, die_in_container, NULL);
  if (tr_await(&job.slots[1].phase, 2)) kill(job.slots[1].child, SIGKILL);
  tr_join(&job, 0);
}

/* ---- a child that outlives its parent -------------------------------------------------------------------------------
 */

/* Rank 1's process ends in its container's process 2; a grandchild stays, with all that fork leaves it. */
static void leave_child(struct tr_job *job, int rank) {
  shmccl_comm_t *comm = tr_join_comm(job, rank, &patient);
  shmccl_result_t result = SHMCCL_SUCCESS;
  if (rank == 1) {
    const pid_t child = fork();
    if (child == 0) {
      for (;;) pause();
    }
    tr_set((uint32_t *)&job->slots[1].child, (uint32_t)child);
    _exit(CHILD_EXIT);
  }
  while (result == SHMCCL_SUCCESS) result = shmccl_barrier(comm, NULL);
  EXPECT(result, SHMCCL_ERROR_PEER_DIED, "rank 1 ");
  shmccl_comm_destroy(comm);
}

static void leave_orphan(struct tr_job *job, int rank) {
  int status = -1;
  const pid_t pid = fork();
  if (pid == 0) {
    leave_child(job, rank);
    exit(tr_failed() ? 1 : 0);
  }
  waitpid(pid, &status, 0);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == (rank == 1 ? CHILD_EXIT : 0), "status %x", (unsigned)status);
}

static void test_orphan(void) {
  struct tr_job job;
  tr_start(&job, 2, leave_orphan, NULL);
  tr_await((uint32_t *)&job.slots[1].child, 1);
  const pid_t orphan = job.slots[1].child;
  tr_join(&job, 0);
  CHECK(kill(orphan, SIGKILL) == 0, "the child did not outlive its parent");
  CHECK(tr_entries(tr_folder()) == 0, "%d files are left", tr_entries(tr_folder()));
}

/* ---- two folders ---------------------------------------------------------------------------------------------------
 */

static void mount_own_folder(void) {
  const bool mounted =
      !mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) && !mount("tmpfs", tr_folder(), "tmpfs", 0, "size=16m");
  CHECK(mounted, "cannot mount: %s", strerror(errno));
}

/* The id's maker has the first folder; rank 1 has another. Rank 0 waits for it in vain. */
static void apart(struct tr_job *job, int rank) {
  const uint64_t start_ns = tr_now_ns();
  shmccl_comm_t *comm = NULL;
  if (rank == 1) {
    mount_own_folder();
    EXPECT(shmccl_comm_init_rank(&comm, 2, &job->id, rank, &patient), SHMCCL_ERROR_SYSTEM,
           "made this id|another|--ipc=host|SHMCCL_SHM_DIR");
    CHECK(tr_now_ns() < start_ns + 2000000000u, "told after more than two seconds");
  } else {
    EXPECT(shmccl_comm_init_rank(&comm, 2, &job->id, rank, &hasty), SHMCCL_ERROR_TIMEOUT,
           "rank 1 did not come|not started|elsewhere|--ipc=host");
  }
  CHECK(!comm, "comm was written by a call that failed");
}

static void apart_in_containers(struct tr_job *job, int rank) { in_container(job, rank, apart); }

/* With an id that does not say where it was made, as a launcher's job id does not. */
static void apart_by_name(struct tr_job *job, int rank) {
  static const uint8_t id[SHMI_ID_BYTES] = {9, 9, 9};
  const shmi_options_t options = {.timeout_ms = 500, .staging_bytes = 1 << 20};
  shmccl_comm_t *comm = NULL;
  mount_own_folder();
  EXPECT(shmi_comm_create(&comm, job->nranks, id, rank, &options), SHMCCL_ERROR_TIMEOUT,
         rank == 0 ? "rank 1 did not come|not started|elsewhere|--ipc=host"
                   : "rank 0 did not create|not come|elsewhere|--ipc=host");
}

static void apart_by_name_in_containers(struct tr_job *job, int rank) { in_container(job, rank, apart_by_name); }

int main(void) {
  tr_begin();
  const pid_t pid = fork();
  if (pid == 0) _exit(enter_namespaces() ? 0 : 1);
  int status = -1;
  waitpid(pid, &status, 0);
  test_orphan();
  if (status != 0) tr_skip("no user, mount and process-id namespaces can be made here");
  for (int nranks = 2; nranks <= 4; nranks++) tr_run(nranks, sum_in_container, NULL);
  test_death();
  tr_run(2, apart_in_containers, NULL);
  tr_run(2, apart_by_name_in_containers, NULL);
  return tr_end();
}
