/*
 * space.c - a segment folder that is too small or full: a clear error on all ranks, at init or at the first use of
 * staging, and never a SIGBUS; what is free is made do with.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "shm/layout.h"
#include "trouble/support.h"

static const shmccl_config_t patient = {.size = sizeof(shmccl_config_t), .timeout_ms = 10000};
static const shmccl_config_t hasty = {.size = sizeof(shmccl_config_t), .timeout_ms = 150};

/* Fills the folder but for `spare` bytes; the file's descriptor. */
static int fill(size_t spare) {
  char path[128];
  struct statvfs v;
  snprintf(path, sizeof path, "%s/filler", tr_folder());
  int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  unlink(path);
  CHECK(fd >= 0 && fstatvfs(fd, &v) == 0, "%s: %s", path, strerror(errno));
  size_t available = (size_t)v.f_bavail * v.f_frsize;
  if (available > spare) CHECK(fallocate(fd, 0, 0, (off_t)(available - spare)) == 0, "%s", strerror(errno));
  return fd;
}

static void mount_small(size_t bytes) {
  char options[64];
  snprintf(options, sizeof options, "size=%zu,mode=700", bytes);
  CHECK(mount("tmpfs", tr_folder(), "tmpfs", 0, options) == 0, "cannot mount: %s", strerror(errno));
}

static void unmount(void) { CHECK(umount(tr_folder()) == 0, "cannot unmount: %s", strerror(errno)); }

/* ---- enough, if little --------------------------------------------------------------------------------------------
 */

/* Sums, sums in two exchanges, and messages of far more than there is staging. */
static void make_do(struct tr_job *job, int rank) {
  enum { COUNT = 40000 };
  int32_t *in = malloc(COUNT * sizeof *in), *out = malloc(COUNT * sizeof *out);
  shmccl_comm_t *comm = tr_join_comm(job, rank, &patient);
  tr_folder_is_small();
  for (int i = 0; i < COUNT; i++) in[i] = rank + i;
  EXPECT_OK(shmccl_allreduce(in, out, COUNT, SHMCCL_INT32, SHMCCL_SUM, comm, NULL));
  for (int i = 0; i < COUNT; i += 999)
    CHECK(out[i] == job->nranks * i + job->nranks * (job->nranks - 1) / 2, "sum %d at %d", (int)out[i], i);
  EXPECT_OK(shmccl_group_start(comm));
  EXPECT_OK(shmccl_send(in, COUNT, SHMCCL_INT32, (rank + 1) % job->nranks, comm, NULL));
  EXPECT_OK(shmccl_recv(out, COUNT, SHMCCL_INT32, (rank + job->nranks - 1) % job->nranks, comm, NULL));
  EXPECT_OK(shmccl_group_end(comm));
  CHECK(out[COUNT - 1] == (rank + job->nranks - 1) % job->nranks + COUNT - 1, "received %d", (int)out[COUNT - 1]);
  shmccl_comm_destroy(comm);
  free(in);
  free(out);
}

static size_t least_bytes(int nranks) {
  return shmi_layout_control_bytes(nranks) + (size_t)shmi_layout_least_staging(nranks);
}

static void test_making_do(void) {
  for (int nranks = 2; nranks <= 4; nranks++)
    for (size_t bytes = 1 << 20; bytes >= least_bytes(nranks); bytes /= 2) {
      mount_small(bytes);
      tr_run(nranks, make_do, NULL);
      unmount();
    }
}

/* ---- full at init ---------------------------------------------------------------------------------------------------
 */

static void full_at_init(struct tr_job *job, int rank) {
  shmccl_comm_t *comm = NULL;
  int fd = -1;
  tr_folder_is_small();
  if (rank == 0) fd = fill(*(const size_t *)job->argument);
  tr_set(&job->slots[rank].phase, 1);
  tr_await_all(job, 1);
  if (rank == 0)
    EXPECT(shmccl_comm_init_rank(&comm, job->nranks, &job->id, rank, &hasty), SHMCCL_ERROR_NO_SPACE,
           "KiB free|are needed|SHMCCL_STAGING_BYTES|shm-size");
  else
    EXPECT(shmccl_comm_init_rank(&comm, job->nranks, &job->id, rank, &hasty), SHMCCL_ERROR_NO_SPACE,
           "rank 0 failed: no space");
  CHECK(!comm, "comm was written by a call that failed");
  tr_set(&job->slots[rank].phase, 2);
  tr_await_all(job, 2);
  if (fd >= 0) close(fd);
  tr_set(&job->slots[rank].phase, 3);
  tr_await_all(job, 3);
}

static void test_full_at_init(void) {
  for (int nranks = 2; nranks <= 3; nranks++)
    for (size_t spare = 0; spare < least_bytes(nranks); spare += least_bytes(nranks) / 3 / 4096 * 4096 + 4096) {
      mount_small(1 << 20);
      tr_run(nranks, full_at_init, &spare);
      unmount();
    }
}

/* ---- full at the first use of staging
 * ---------------------------------------------------------------------------------- */

struct later {
  size_t spare;
  bool messages;
};

static shmccl_result_t use_staging(shmccl_comm_t *comm, int rank, int nranks, bool messages, char *in, char *out) {
  if (!messages) return shmccl_allreduce(in, out, 1 << 20, SHMCCL_INT8, SHMCCL_SUM, comm, NULL);
  shmccl_result_t result = shmccl_group_start(comm);
  if (result == SHMCCL_SUCCESS) result = shmccl_send(in, 1 << 20, SHMCCL_INT8, (rank + 1) % nranks, comm, NULL);
  if (result == SHMCCL_SUCCESS)
    result = shmccl_recv(out, 1 << 20, SHMCCL_INT8, (rank + nranks - 1) % nranks, comm, NULL);
  return result == SHMCCL_SUCCESS ? shmccl_group_end(comm) : result;
}

/* The first to allocate may still get its part; all are told within a second. */
static void full_later(struct tr_job *job, int rank) {
  const struct later *l = job->argument;
  char *in = calloc(1, 1 << 20), *out = calloc(1, 1 << 20);
  int fd = -1;
  shmccl_comm_t *comm = tr_join_comm(job, rank, &patient);
  EXPECT_OK(shmccl_barrier(comm, NULL));
  if (rank == 0) fd = fill(l->spare);
  EXPECT_OK(shmccl_barrier(comm, NULL));
  uint64_t start = tr_now_ns();
  EXPECT(use_staging(comm, rank, job->nranks, l->messages, in, out), SHMCCL_ERROR_NO_SPACE, "");
  CHECK(strstr(shmccl_last_error(), "are needed") || strstr(shmccl_last_error(), "failed: no space"), "%s",
        shmccl_last_error());
  CHECK(tr_now_ns() < start + 1000000000u, "told after more than a second");
  EXPECT_AGAIN(shmccl_barrier(comm, NULL), SHMCCL_ERROR_NO_SPACE);
  shmccl_comm_destroy(comm);
  tr_set(&job->slots[rank].phase, 1);
  tr_await_all(job, 1);
  if (fd >= 0) close(fd);
  tr_set(&job->slots[rank].phase, 2);
  tr_await_all(job, 2);
  free(in);
  free(out);
}

/* No room for the part: all ranks of the split are told at once. */
static void full_at_split(struct tr_job *job, int rank) {
  int fd = -1;
  shmccl_comm_t *comm = tr_join_comm(job, rank, &patient), *part = NULL;
  if (rank == 0) fd = fill(4096);
  EXPECT_OK(shmccl_barrier(comm, NULL));
  uint64_t start = tr_now_ns();
  EXPECT(shmccl_comm_split(comm, 0, 0, &part, NULL), SHMCCL_ERROR_NO_SPACE,
         rank ? "rank 0 failed: no space" : "needed");
  CHECK(tr_now_ns() < start + 1000000000u, "told after more than a second");
  CHECK(!part, "newcomm was written by a call that failed");
  shmccl_comm_destroy(comm);
  tr_set(&job->slots[rank].phase, 1);
  tr_await_all(job, 1);
  if (fd >= 0) close(fd);
  tr_set(&job->slots[rank].phase, 2);
  tr_await_all(job, 2);
}

static void test_full_later(void) {
  mount_small(16 << 20);
  for (int nranks = 2; nranks <= 4; nranks++) {
    tr_run(nranks, full_at_split, NULL);
    for (int messages = 0; messages < 2; messages++)
      for (int parts = 0; parts < 2; parts++) {
        size_t part = messages ? 256 << 10 : 1 << 20; /* less than what all need, at times enough for the first */
        tr_run(nranks, full_later, &(struct later){.spare = part * (size_t)parts, .messages = messages});
      }
  }
  unmount();
}

int main(void) {
  tr_begin();
  if (unshare(CLONE_NEWNS) && unshare(CLONE_NEWUSER | CLONE_NEWNS)) tr_skip("no mount namespace can be made here");
  if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)) tr_skip("mounts cannot be made private here");
  if (mount("tmpfs", tr_folder(), "tmpfs", 0, "size=64k")) tr_skip("a tmpfs cannot be mounted here");
  unmount();
  test_making_do();
  test_full_at_init();
  test_full_later();
  return tr_end();
}
