/*
 * Writing beside, moving over.
 */
#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool fail(const char *flag, const char *path) {
  fprintf(stderr, "shmccl-perf: %s %s: cannot write: %s\n", flag, path, strerror(errno));
  return false;
}

/* What is no regular file (a terminal, /dev/null) is written where it is. */
static bool is_special(const char *path) {
  struct stat info;
  return !stat(path, &info) && !S_ISREG(info.st_mode);
}

static int open_beside(const char *path, char beside[PATH_MAX]) {
  if (is_special(path)) {
    *beside = '\0';
    return open(path, O_WRONLY | O_CLOEXEC);
  }
  if (snprintf(beside, PATH_MAX, "%s.%d.tmp", path, (int)getpid()) >= PATH_MAX) return errno = ENAMETOOLONG, -1;
  return open(beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
}

bool file_try(const char *flag, const char *path) {
  char beside[PATH_MAX];
  int fd = open_beside(path, beside);
  if (fd < 0) return fail(flag, path);
  close(fd);
  if (*beside) unlink(beside);
  return true;
}

static bool write_all(int fd, const char *text, size_t bytes) {
  while (bytes) {
    ssize_t done = write(fd, text, bytes);
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) return false;
    text += done;
    bytes -= (size_t)done;
  }
  return true;
}

bool file_write(const char *flag, const char *path, const char *text, size_t bytes) {
  char beside[PATH_MAX];
  int fd = open_beside(path, beside);
  if (fd < 0) return fail(flag, path);
  bool good = write_all(fd, text, bytes);
  good = !close(fd) && good;
  if (*beside && good) good = !rename(beside, path);
  if (good) return true;
  int cause = errno;
  if (*beside) unlink(beside);
  errno = cause;
  return fail(flag, path);
}
