/*
 * rendezvous.c - ranks that meet wrongly: twice the same rank, a missing one, an id that is in use or used again; and
 * whatever can lie in the segment folder under the communicator's name or instead of the folder.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/layout.h"
#include "trouble/support.h"

static const shmccl_config_t hasty = {.size = sizeof(shmccl_config_t), .timeout_ms = 300};
static const shmccl_config_t patient = {.size = sizeof(shmccl_config_t), .timeout_ms = 10000};

/* ---- ranks
 * ----------------------------------------------------------------------------------------------------------- */

static void use(shmccl_comm_t *comm) {
  int32_t one = 1;
  EXPECT_OK(shmccl_allreduce(&one, &one, 1, SHMCCL_INT32, SHMCCL_SUM, comm, NULL));
  CHECK(one >= 2, "sum is %d", (int)one);
}

/* Processes 0 and 1 are rank 0 and 1 of three; process 2 is rank *argument again; process 3 comes as rank 2 after it.
 */
static void twice(struct tr_job *job, int process) {
  const int rank = process == 2 ? *(const int *)job->argument : process == 3 ? 2 : process;
  shmccl_comm_t *comm = NULL;
  if (process == 2) {
    tr_await(&job->slots[0].phase, 1);
    tr_await(&job->slots[1].phase, 1);
    tr_sleep_ms(50);
    EXPECT(shmccl_comm_init_rank(&comm, 3, &job->id, rank, &patient), SHMCCL_ERROR_INVALID_USAGE,
           rank == 0 ? "rank 0|already taken" : "rank 1|already taken");
    CHECK(!comm, "comm was written by a call that failed");
    tr_set(&job->slots[2].phase, 1);
    return;
  }
  if (process == 3) tr_await(&job->slots[2].phase, 1);
  tr_set(&job->slots[process].phase, 1);
  EXPECT_OK(shmccl_comm_init_rank(&comm, 3, &job->id, rank, &patient));
  use(comm);
  shmccl_comm_destroy(comm);
}

/* Ranks 0 and 1 of three; rank 2 does not come. */
static void incomplete(struct tr_job *job, int rank) {
  shmccl_comm_t *comm = NULL;
  EXPECT(shmccl_comm_init_rank(&comm, 3, &job->id, rank, &hasty), SHMCCL_ERROR_TIMEOUT, "rank 2|did not come");
  CHECK(!comm, "comm was written by a call that failed");
}

/* Ranks 1 and 2 of three; rank 0 does not come. */
static void headless(struct tr_job *job, int process) {
  shmccl_comm_t *comm = NULL;
  EXPECT(shmccl_comm_init_rank(&comm, 3, &job->id, process + 1, &hasty), SHMCCL_ERROR_TIMEOUT,
         "rank 0 did not create|same id|300 ms");
  CHECK(!comm, "comm was written by a call that failed");
}

/* An id serves again, once all are attached, while the first communicator lives and after it. */
static void again(struct tr_job *job, int rank) {
  shmccl_comm_t *comms[3];
  for (int i = 0; i < 3; i++) {
    comms[i] = tr_join_comm(job, rank, &patient);
    use(comms[i]);
  }
  use(comms[0]);
  for (int i = 0; i < 3; i++) {
    EXPECT_OK(shmccl_comm_finalize(comms[i]));
    shmccl_comm_destroy(comms[i]);
    comms[i] = tr_join_comm(job, rank, &patient);
    use(comms[i]);
  }
  for (int i = 0; i < 3; i++) shmccl_comm_destroy(comms[i]);
}

/* Four pairs make communicators at the same time in one folder, each creation sweeping it. */
static void crowd(struct tr_job *job, int process) {
  for (int round = 0; round < 40; round++) {
    shmccl_unique_id_t id = job->id;
    int32_t who = 1000 * (process / 2) + round;
    memcpy(id.internal + 16, &who, sizeof who); /* inside the random part */
    shmccl_comm_t *comm = NULL;
    EXPECT_OK(shmccl_comm_init_rank(&comm, 2, &id, process % 2, &patient));
    EXPECT_OK(shmccl_allreduce(&who, &who, 1, SHMCCL_INT32, SHMCCL_SUM, comm, NULL));
    CHECK(who == 2 * (1000 * (process / 2) + round), "sum %d", (int)who);
    shmccl_comm_destroy(comm);
  }
}

static void test_ranks(void) {
  tr_run(8, crowd, NULL);

  for (int rank = 0; rank < 2; rank++) tr_run(4, twice, &rank);
  tr_run(2, incomplete, NULL);
  tr_run(2, headless, NULL);
  for (int nranks = 2; nranks <= 4; nranks++) tr_run(nranks, again, NULL);
}

/* ---- what lies under the name -------------------------------------------------------------------------------------
 */

enum thing {
  EMPTY,
  GARBAGE,
  TRUNCATED,
  SYMLINK,
  HARDLINK,
  DIRECTORY,
  FIFO,
  READABLE,
  FOREIGN,
  OVERLONG,
  HELD_GARBAGE,
  THINGS
};
static const char *const thing_names[THINGS] = {
    "empty file", "garbage",  "truncated header", "symlink",  "hard link",   "directory",
    "fifo",       "mode 644", "other user's",     "overlong", "held garbage"};

static void path_of_id(const shmccl_unique_id_t *id, char path[PATH_MAX]) {
  int length = snprintf(path, PATH_MAX, "%s/shmccl-%u-", tr_folder(), (unsigned)geteuid());
  for (int i = 0; i < 16; i++) length += snprintf(path + length, 3, "%02x", (unsigned char)id->internal[12 + i]);
}

static int put_file(const char *path, const void *bytes, size_t length, mode_t mode) {
  int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode);
  CHECK(fd >= 0 && fchmod(fd, mode) == 0 && write(fd, bytes, length) == (ssize_t)length, "%s: %s", path,
        strerror(errno));
  return fd;
}

static void hold_lock(int fd, int rank) {
  struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = rank, .l_len = 1};
  CHECK(fcntl(fd, F_OFD_SETLK, &l) == 0, "cannot lock: %s", strerror(errno));
}

/* A header that would be right if the file were as long as it says. */
static struct shmi_header overlong_header(void) {
  struct shmi_header h;
  const shmi_options_t options = {.timeout_ms = 10000, .staging_bytes = 64 << 20};
  shmi_layout_make(&h, 2, 64 << 20, &options);
  return h;
}

/* A descriptor that must stay open, or -1. */
static int put(enum thing thing, const char *path, const char *elsewhere) {
  char garbage[8192];
  struct shmi_header header = overlong_header();
  int fd = -1;
  memset(garbage, 0xab, sizeof garbage);
  switch (thing) {
  case EMPTY: fd = put_file(path, "", 0, 0600); break;
  case GARBAGE: fd = put_file(path, garbage, sizeof garbage, 0600); break;
  case TRUNCATED: fd = put_file(path, &header, 20, 0600); break;
  case SYMLINK: CHECK(symlink(elsewhere, path) == 0, "%s", strerror(errno)); break;
  case HARDLINK: CHECK(link(elsewhere, path) == 0, "%s", strerror(errno)); break;
  case DIRECTORY: CHECK(mkdir(path, 0700) == 0, "%s", strerror(errno)); break;
  case FIFO: CHECK(mkfifo(path, 0600) == 0, "%s", strerror(errno)); break;
  case READABLE: fd = put_file(path, garbage, sizeof garbage, 0644); break;
  case FOREIGN:
    fd = put_file(path, garbage, sizeof garbage, 0600);
    CHECK(fchown(fd, 65534, 65534) == 0, "%s", strerror(errno));
    break;
  case OVERLONG:
  case HELD_GARBAGE:
    fd = put_file(path, thing == OVERLONG ? (const void *)&header : garbage, sizeof header, 0600);
    hold_lock(fd, 0);
    return fd;
  default: break;
  }
  if (fd >= 0) close(fd);
  return -1;
}

static bool is_replaced(enum thing thing) {
  return thing == EMPTY || thing == GARBAGE || thing == TRUNCATED || thing == HARDLINK;
}

/* Both ranks meet `thing`: a dead file of ours is replaced, at anything else they stop, and leave it alone. */
static void meet_thing(struct tr_job *job, int rank) {
  const enum thing thing = *(const enum thing *)job->argument;
  shmccl_comm_t *comm = NULL;
  shmccl_result_t result = shmccl_comm_init_rank(&comm, 2, &job->id, rank, &patient);
  CHECK((comm != NULL) == (result == SHMCCL_SUCCESS), "comm was written by a call that failed");
  if (is_replaced(thing)) {
    EXPECT(result, SHMCCL_SUCCESS, NULL);
    if (comm) use(comm);
  } else {
    CHECK(result == SHMCCL_ERROR_INVALID_USAGE || result == SHMCCL_ERROR_SYSTEM, "%s: %s", thing_names[thing],
          shmccl_error_string(result));
    EXPECT(result, result, tr_folder());
  }
  shmccl_comm_destroy(comm);
}

static void test_thing(enum thing thing) {
  struct tr_job job;
  char path[PATH_MAX], elsewhere[PATH_MAX];
  snprintf(elsewhere, sizeof elsewhere, "%s/precious", tr_folder());
  close(put_file(elsewhere, "precious", 8, 0600));
  tr_prepare(&job, 2, &thing);
  path_of_id(&job.id, path);
  int fd = put(thing, path, elsewhere), failed = tr_failed();
  tr_launch(&job, meet_thing);
  tr_join(&job, 0);
  if (fd >= 0) close(fd);
  struct stat st;
  CHECK(stat(elsewhere, &st) == 0 && st.st_size == 8, "the file elsewhere was touched");
  CHECK((lstat(path, &st) != 0) == is_replaced(thing), "is it still there? %s", path);
  if (thing == DIRECTORY) rmdir(path);
  unlink(path);
  unlink(elsewhere);
  if (tr_failed() > failed) printf("with a %s under the name\n", thing_names[thing]);
}

static void test_things(void) {
  for (enum thing thing = 0; thing < THINGS; thing++)
    if (thing != FOREIGN || geteuid() == 0) test_thing(thing);
}

/* ---- two users ------------------------------------------------------------------------------------------------------
 */

/* Rank 1 is another user: each looks under its own user's names, and nobody is let in. */
static void strangers(struct tr_job *job, int rank) {
  shmccl_comm_t *comm = NULL;
  if (rank == 1) CHECK(setgroups(0, NULL) == 0 && setgid(65534) == 0 && setuid(65534) == 0, "%s", strerror(errno));
  EXPECT(shmccl_comm_init_rank(&comm, 2, &job->id, rank, &hasty), SHMCCL_ERROR_TIMEOUT, "as this user");
  CHECK(!comm, "comm was written by a call that failed");
}

static void expect_kept_out(int result, const char *what) { CHECK(result < 0, "another user could %s it", what); }

/* Rank 0 waits with its segment in the folder; rank 1 is another user, who tries to get at it. */
static void intrude(struct tr_job *job, int rank) {
  shmccl_comm_t *comm = NULL;
  char name[PATH_MAX], other[PATH_MAX + 8];
  if (rank == 0) {
    EXPECT(shmccl_comm_init_rank(&comm, 2, &job->id, rank, &hasty), SHMCCL_ERROR_TIMEOUT, "as this user");
    return;
  }
  path_of_id(&job->id, name);
  snprintf(other, sizeof other, "%s-2", name);
  CHECK(setgroups(0, NULL) == 0 && setgid(65534) == 0 && setuid(65534) == 0, "%s", strerror(errno));
  for (int i = 0; i < 5000 && access(name, F_OK); i++) usleep(20);
  CHECK(!access(name, F_OK), "rank 0's segment did not come");
  expect_kept_out(open(name, O_RDONLY | O_CLOEXEC), "read");
  expect_kept_out(open(name, O_RDWR | O_CLOEXEC), "write");
  expect_kept_out(truncate(name, 0), "cut");
  expect_kept_out(chmod(name, 0666), "open");
  expect_kept_out(rename(name, other), "rename");
  expect_kept_out(unlink(name), "remove");
  if (!link(name, other))
    printf("fs.protected_hardlinks is off: names can be added (shm/layout.h: id)\n"), unlink(other);
}

static void test_two_users(void) {
  if (geteuid() != 0) {
    printf("not root: other users are not tried\n");
    return;
  }
  CHECK(chmod(tr_folder(), 01777) == 0, "%s", strerror(errno));
  tr_run(2, strangers, NULL);
  tr_run(2, intrude, NULL);
  CHECK(chmod(tr_folder(), 0700) == 0, "%s", strerror(errno));
}

/* ---- the folder ---------------------------------------------------------------------------------------------------
 */

struct folder {
  const char *path, *words, *words_of_rank_1;
  bool as_nobody;
};

static void meet_folder(struct tr_job *job, int rank) {
  const struct folder *f = job->argument;
  char usual[PATH_MAX];
  shmccl_comm_t *comm = NULL;
  snprintf(usual, sizeof usual, "%s", tr_folder());
  setenv("SHMCCL_SHM_DIR", f->path, 1);
  if (f->as_nobody) CHECK(seteuid(65534) == 0, "%s", strerror(errno));
  uint64_t start = tr_now_ns();
  shmccl_result_t result = shmccl_comm_init_rank(&comm, 2, &job->id, rank, &patient);
  if (f->as_nobody) CHECK(seteuid(0) == 0, "%s", strerror(errno));
  setenv("SHMCCL_SHM_DIR", usual, 1);
  CHECK(result == SHMCCL_ERROR_NO_SPACE || result == SHMCCL_ERROR_SYSTEM || result == SHMCCL_ERROR_INVALID_ARGUMENT,
        "%s: %s", f->path, shmccl_error_string(result));
  EXPECT(result, result, rank ? f->words_of_rank_1 : f->words);
  CHECK(!comm, "comm was written by a call that failed");
  CHECK(tr_now_ns() - start < 5000000000u, "the error came only with the time limit");
}

static void test_folders(void) {
  static char longest[5000];
  static const char absent[] = "/dev/shm/is/not/there|does not exist|SHMCCL_SHM_DIR";
  static const char file[] = "/proc/self/status|does not exist|SHMCCL_SHM_DIR";
  const struct folder folders[] = {{"/dev/shm/is/not/there", absent, absent, false},
                                   {"/proc/self/status", file, file, false},
                                   {tr_folder(), "writable", "Permission denied|as one user", true},
                                   {longest, "too long", "too long", false}};
  memset(longest, 'x', sizeof longest - 1);
  longest[0] = '/';
  for (size_t i = 0; i < LENGTH(folders); i++)
    if (!folders[i].as_nobody || geteuid() == 0) tr_run(2, meet_folder, &folders[i]);
}

/* Any file system with nameless files and byte-range locks will do, if slower: the build folder's. */
static void on_disk(struct tr_job *job, int rank) {
  shmccl_comm_t *comm = tr_join_comm(job, rank, &patient);
  char *data = calloc(1, 1 << 20);
  use(comm);
  EXPECT_OK(shmccl_allreduce(data, data, 1 << 20, SHMCCL_INT8, SHMCCL_SUM, comm, NULL));
  free(data);
  shmccl_comm_destroy(comm);
}

static void test_on_disk(void) {
  char usual[PATH_MAX], disk[] = "/tmp/trouble-XXXXXX";
  snprintf(usual, sizeof usual, "%s", tr_folder());
  CHECK(mkdtemp(disk) != NULL, "%s", strerror(errno));
  setenv("SHMCCL_SHM_DIR", disk, 1);
  tr_run(2, on_disk, NULL);
  setenv("SHMCCL_SHM_DIR", usual, 1);
  CHECK(rmdir(disk) == 0, "%s: %s", disk, strerror(errno));
}

int main(void) {
  tr_begin();
  test_ranks();
  test_things();
  test_two_users();
  test_folders();
  test_on_disk();
  return tr_end();
}
