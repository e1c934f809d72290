/*
 * scarcity.c - too few descriptors, too little address space, too small files, no stderr to write to: result codes, and
 * the process lives. A storm of signals lets every call make progress.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "comm/create.h"
#include "trouble/support.h"

#if defined(__SANITIZE_ADDRESS__)
#define OWNS_ADDRESS_SPACE 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define OWNS_ADDRESS_SPACE 1
#endif
#endif
#ifndef OWNS_ADDRESS_SPACE
#define OWNS_ADDRESS_SPACE 0
#endif

static const shmi_options_t options = {.timeout_ms = 10000, .staging_bytes = 64 << 20};
static const uint8_t id_bytes[SHMI_ID_BYTES] = {9};

static rlim_t limit(int resource, rlim_t value) {
  struct rlimit r;
  getrlimit(resource, &r);
  rlim_t before = r.rlim_cur;
  r.rlim_cur = value;
  CHECK(setrlimit(resource, &r) == 0, "setrlimit: %s", strerror(errno));
  return before;
}

/* With `value` as the limit: the result of making two ranks, which are destroyed again. */
static shmccl_result_t make_limited(int resource, rlim_t value) {
  shmccl_comm_t *comms[2] = {NULL};
  rlim_t before = limit(resource, value);
  shmccl_result_t result = shmccl_comm_init_all(comms, 2, NULL);
  limit(resource, before);
  CHECK((comms[0] != NULL) == (result == SHMCCL_SUCCESS), "comms was written by a call that failed");
  for (int r = 0; r < 2; r++) shmccl_comm_destroy(comms[r]);
  return result;
}

static void few_descriptors(struct tr_job *job, int rank) {
  (void)job, (void)rank;
  int spare = 0, lowest = dup(STDERR_FILENO);
  shmccl_result_t result = SHMCCL_ERROR_SYSTEM;
  close(lowest);
  for (; spare < 10 && result != SHMCCL_SUCCESS; spare++) {
    struct tr_traces before = tr_traces();
    result = make_limited(RLIMIT_NOFILE, (rlim_t)(lowest + spare));
    if (result != SHMCCL_SUCCESS) EXPECT(result, SHMCCL_ERROR_SYSTEM, "ulimit -n");
    tr_check_traces(before, "few descriptors");
  }
  CHECK(spare > 2 && result == SHMCCL_SUCCESS, "%d spare descriptors: %s", spare, shmccl_error_string(result));
}

static rlim_t address_space(void) {
  unsigned long long pages = 0;
  FILE *f = fopen("/proc/self/statm", "re");
  if (f && fscanf(f, "%llu", &pages) != 1) pages = 0;
  if (f) fclose(f);
  return (rlim_t)pages * 4096;
}

static void little_address_space(struct tr_job *job, int rank) {
  (void)job, (void)rank;
  for (rlim_t spare = 0; spare < 160 << 20; spare += 20 << 20) {
    struct tr_traces before = tr_traces();
    shmccl_result_t result = make_limited(RLIMIT_AS, address_space() + spare);
    CHECK(result == SHMCCL_SUCCESS || result == SHMCCL_ERROR_SYSTEM || result == SHMCCL_ERROR_NO_MEMORY, "%s",
          shmccl_error_string(result));
    CHECK(spare > 0 || result != SHMCCL_SUCCESS, "a segment without address space");
    if (result == SHMCCL_ERROR_SYSTEM) EXPECT(result, result, "cannot map|ulimit -v");
    tr_check_traces(before, "little address space");
  }
}

static void small_files(struct tr_job *job, int rank) {
  (void)job, (void)rank;
  EXPECT(make_limited(RLIMIT_FSIZE, 1 << 20), SHMCCL_ERROR_SYSTEM, "ulimit -f");
}

static void odd_umask(struct tr_job *job, int rank) {
  mode_t before = umask(0777);
  shmccl_comm_t *comm = tr_join_comm(job, rank, NULL);
  umask(before);
  EXPECT_OK(shmccl_barrier(comm, NULL));
  shmccl_comm_destroy(comm);
}

/* ---- stderr -------------------------------------------------------------------------------------------------------
 */

static void check_error(const char *what) {
  shmccl_result_t result = shmccl_barrier(NULL, NULL);
  CHECK(result == SHMCCL_ERROR_INVALID_ARGUMENT, "%s: %s", what, shmccl_error_string(result));
  CHECK(strstr(shmccl_last_error(), "comm is NULL"), "%s: %s", what, shmccl_last_error());
}

static void no_stderr(struct tr_job *job, int rank) {
  int kept = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 50), pipes[2], full = open("/dev/full", O_WRONLY | O_CLOEXEC);
  sigset_t pending;
  (void)job, (void)rank;
  CHECK(pipe2(pipes, O_CLOEXEC) == 0, "%s", strerror(errno));
  close(pipes[0]);
  dup2(pipes[1], STDERR_FILENO);
  check_error("a pipe that nobody reads");
  sigpending(&pending);
  CHECK(!sigismember(&pending, SIGPIPE), "SIGPIPE is left pending");
  dup2(full, STDERR_FILENO);
  check_error("a full device");
  close(STDERR_FILENO);
  check_error("closed");
  dup2(kept, STDERR_FILENO);
  close(kept);
  close(full);
  close(pipes[1]);
}

/* With 0, 1 and 2 closed the segment's descriptors must not take their place: lines would be written into it. */
static void stderr_is_no_segment(struct tr_job *job, int rank) {
  int kept[3];
  shmccl_comm_t *comms[2] = {NULL};
  (void)job, (void)rank;
  for (int fd = 0; fd < 3; fd++) kept[fd] = fcntl(fd, F_DUPFD_CLOEXEC, 50), close(fd);
  for (int r = 0; r < 2; r++) {
    shmccl_result_t result = shmi_comm_attach(&comms[r], 2, id_bytes, r, &options, -1);
    CHECK(result == SHMCCL_SUCCESS, "rank %d: %s", r, shmccl_last_error());
    check_error("closed");
  }
  for (int r = 0; r < 2 && comms[r]; r++) CHECK(shmi_comm_meet(comms[r]) == SHMCCL_SUCCESS, "%s", shmccl_last_error());
  for (int r = 0; r < 2; r++) shmccl_comm_destroy(comms[r]);
  for (int fd = 0; fd < 3; fd++) dup2(kept[fd], fd), close(kept[fd]);
}

/* ---- signals ------------------------------------------------------------------------------------------------------
 */

static void ignore(int number) { (void)number; }

/* A profiler's timer, faster than any: system calls are interrupted all the time. */
static void storm(struct tr_job *job, int rank) {
  enum { COUNT = 1 << 20 };
  struct sigaction action = {.sa_handler = ignore}; /* no SA_RESTART */
  struct itimerval timer = {{0, 100}, {0, 100}};
  const shmccl_config_t patient = {.size = sizeof(shmccl_config_t), .timeout_ms = 15000};
  int32_t *data = malloc(COUNT * sizeof *data), *in = malloc(COUNT * sizeof *in);
  for (int i = 0; i < COUNT; i++) data[i] = i + rank;
  sigaction(SIGALRM, &action, NULL);
  setitimer(ITIMER_REAL, &timer, NULL);
  shmccl_comm_t *comm = tr_join_comm(job, rank, &patient);
  EXPECT_OK(shmccl_allreduce(data, data, COUNT, SHMCCL_INT32, SHMCCL_SUM, comm, NULL));
  CHECK(data[COUNT - 1] == 2 * (COUNT - 1) + 1, "sum %d", (int)data[COUNT - 1]);
  EXPECT_OK(shmccl_group_start(comm));
  EXPECT_OK(shmccl_send(data, COUNT, SHMCCL_INT32, 1 - rank, comm, NULL));
  EXPECT_OK(shmccl_recv(in, COUNT, SHMCCL_INT32, 1 - rank, comm, NULL));
  EXPECT_OK(shmccl_group_end(comm));
  CHECK(!memcmp(data, in, COUNT * sizeof *in), "wrong message");
  shmccl_comm_destroy(comm);
  timer = (struct itimerval){{0, 0}, {0, 0}};
  setitimer(ITIMER_REAL, &timer, NULL);
  free(data);
  free(in);
}

int main(void) {
  tr_begin();
  tr_run(2, storm, NULL);
  tr_run(1, few_descriptors, NULL);
  if (!OWNS_ADDRESS_SPACE) tr_run(1, little_address_space, NULL);
  tr_run(1, small_files, NULL);
  tr_run(2, odd_umask, NULL);
  tr_run(1, no_stderr, NULL);
  tr_run(1, stderr_is_no_segment, NULL);
  return tr_end();
}
