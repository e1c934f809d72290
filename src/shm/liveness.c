/* liveness.c - OFD locks, and the register of descriptors that a forked child must close. */
#include "shm/liveness.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/ordering.h"
#include "shmccl.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int *descriptors;
static int n_descriptors, capacity;
static uint32_t fork_generation;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void before_fork(void) { pthread_mutex_lock(&lock); }
static void after_fork_parent(void) { pthread_mutex_unlock(&lock); }

static void after_fork_child(void) {
  for (int i = 0; i < n_descriptors; i++) close(descriptors[i]);
  n_descriptors = 0;
  shmi_note32(&fork_generation, fork_generation + 1);
  pthread_mutex_unlock(&lock);
}

static void install(void) { pthread_atfork(before_fork, after_fork_parent, after_fork_child); }

static int remember(int fd) {
  if (n_descriptors == capacity) {
    int *more = realloc(descriptors, (size_t)(capacity + 16) * sizeof *more);
    if (!more) return 0;
    descriptors = more;
    capacity += 16;
  }
  descriptors[n_descriptors++] = fd;
  return 1;
}

/* Never 0, 1 or 2, which a program that has closed them writes its messages to. */
static int open_high(const char *path, int flags) {
  int low = open(path, flags);
  if (low < 0 || low > STDERR_FILENO) return low;
  int fd = fcntl(low, F_DUPFD_CLOEXEC, STDERR_FILENO + 1), error = errno;
  close(low);
  errno = error;
  return fd;
}

/* Opens and registers under the lock: a fork in between would leave the child with a descriptor that nobody closes. */
int shmi_liveness_open(const char *path, int flags) {
  pthread_once(&once, install);
  pthread_mutex_lock(&lock);
  int fd = open_high(path, O_RDWR | O_CLOEXEC | flags);
  if (fd >= 0 && !remember(fd)) {
    close(fd);
    fd = -1;
    errno = ENOMEM;
  }
  pthread_mutex_unlock(&lock);
  return fd;
}

/* Under the lock, for the same reason. */
static void forget_and_close(int fd) {
  pthread_mutex_lock(&lock);
  for (int i = 0; i < n_descriptors; i++)
    if (descriptors[i] == fd) descriptors[i] = descriptors[--n_descriptors];
  if (n_descriptors == 0) {
    free(descriptors);
    descriptors = NULL;
    capacity = 0;
  }
  close(fd);
  pthread_mutex_unlock(&lock);
}

static struct flock range(int first, int length) {
  return (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = first, .l_len = length};
}

int shmi_liveness_claim(int fd, int rank) {
  struct flock l = range(rank, 1);
  return fcntl(fd, F_OFD_SETLK, &l) ? errno : 0;
}

void shmi_liveness_drop(int fd, int rank) {
  struct flock l = range(rank, 1);
  l.l_type = F_UNLCK;
  fcntl(fd, F_OFD_SETLK, &l);
}

void shmi_liveness_release(int fd) { forget_and_close(fd); }

static int held(int fd, struct flock l) {
  if (fcntl(fd, F_OFD_GETLK, &l)) return -1;
  return l.l_type != F_UNLCK;
}

int shmi_liveness_held(int fd, int rank) { return held(fd, range(rank, 1)); }
int shmi_liveness_any_held(int fd) { return held(fd, range(0, SHMCCL_MAX_RANKS)) != 0; }

/* Every communicator asks for it when it is made, so forks are counted from then on, also if it has no segment. */
uint32_t shmi_fork_generation(void) {
  pthread_once(&once, install);
  return shmi_peek32(&fork_generation);
}
