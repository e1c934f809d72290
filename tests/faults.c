/* faults.c - the wrappers: __wrap_X stands in for X, __real_X is X. */
#include "faults.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

/* NOLINTBEGIN(bugprone-reserved-identifier,clang-analyzer-valist.Uninitialized): the linker's names; a mistake of clang
 * 14 */

enum { GUARD_BYTES = 1 << 20 };

static uint32_t wanted = UINT32_MAX, calls, jumping;
static enum faults_kind wanted_kind;
static bool is_on, guards;
static const char *fired;

void faults_arm(enum faults_kind kind, uint32_t number) {
  wanted_kind = kind;
  wanted = number;
}

void faults_on(void) { __atomic_store_n(&is_on, true, __ATOMIC_RELAXED); }
void faults_off(void) { __atomic_store_n(&is_on, false, __ATOMIC_RELAXED); }
const char *faults_fired(void) { return __atomic_load_n(&fired, __ATOMIC_RELAXED); }
void faults_guard_mappings(void) { guards = true; }
uint32_t faults_jumping_clocks(void) { return __atomic_load_n(&jumping, __ATOMIC_RELAXED); }

static bool fails(enum faults_kind kind, const char *function, int error) {
  if (kind != wanted_kind || !__atomic_load_n(&is_on, __ATOMIC_RELAXED)) return false;
  if (__atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED) != wanted) return false;
  __atomic_store_n(&fired, function, __ATOMIC_RELAXED);
  errno = error;
  return true;
}

/* A function with fixed arguments that fails with `error`, and what it returns then. */
#define WRAP(kind, type, name, failed, error, parameters, arguments)                                                   \
  type __real_##name parameters;                                                                                       \
  type __wrap_##name parameters;                                                                                       \
  type __wrap_##name parameters { return fails(kind, #name, error) ? (failed) : __real_##name arguments; }

/* ---- memory ------------------------------------------------------------------------------------------------------ */

WRAP(FAULTS_TAKING, void *, malloc, NULL, ENOMEM, (size_t bytes), (bytes))
WRAP(FAULTS_TAKING, void *, calloc, NULL, ENOMEM, (size_t n, size_t bytes), (n, bytes))
WRAP(FAULTS_TAKING, void *, realloc, NULL, ENOMEM, (void *old, size_t bytes), (old, bytes))
WRAP(FAULTS_TAKING, void *, aligned_alloc, NULL, ENOMEM, (size_t alignment, size_t bytes), (alignment, bytes))
WRAP(FAULTS_TAKING, int, madvise, -1, ENOMEM, (void *at, size_t bytes, int advice), (at, bytes, advice))

void *__real_mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset);
int __real_munmap(void *at, size_t bytes);
int __wrap_munmap(void *at, size_t bytes);

void *__wrap_mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset) {
  if (fails(FAULTS_TAKING, "mmap", ENOMEM)) return MAP_FAILED;
  if (!guards || fd < 0) return __real_mmap(at, bytes, protection, flags, fd, offset);
  uint8_t *all =
      __real_mmap(NULL, bytes + 2 * GUARD_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (all == MAP_FAILED) return all;
  return __real_mmap(all + GUARD_BYTES, bytes, protection, flags | MAP_FIXED, fd, offset);
}

/* Only the library's own mappings come here: each has its guards, if any has. */
int __wrap_munmap(void *at, size_t bytes) {
  if (!guards) return __real_munmap(at, bytes);
  return __real_munmap((uint8_t *)at - GUARD_BYTES, bytes + 2 * GUARD_BYTES);
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const unsigned mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, unsigned) : 0;
  va_end(arguments);
  return fails(FAULTS_TAKING, "open", EMFILE) ? -1 : __real_open(path, flags, mode);
}

int __real_openat(int folder, const char *path, int flags, ...);
int __wrap_openat(int folder, const char *path, int flags, ...);
int __wrap_openat(int folder, const char *path, int flags, ...) {
  return fails(FAULTS_TAKING, "openat", EMFILE) ? -1 : __real_openat(folder, path, flags);
}

int __real_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...) {
  va_list arguments;
  va_start(arguments, command);
  void *argument = va_arg(arguments, void *);
  va_end(arguments);
  return fails(FAULTS_TAKING, "fcntl", ENOLCK) ? -1 : __real_fcntl(fd, command, argument);
}

WRAP(FAULTS_TAKING, DIR *, opendir, NULL, EMFILE, (const char *path), (path))
WRAP(FAULTS_TAKING, FILE *, fopen, NULL, EMFILE, (const char *path, const char *mode), (path, mode))
WRAP(FAULTS_TAKING, int, access, -1, EIO, (const char *path, int mode), (path, mode))
WRAP(FAULTS_TAKING, int, ftruncate, -1, ENOSPC, (int fd, off_t bytes), (fd, bytes))
WRAP(FAULTS_TAKING, int, fallocate, -1, ENOSPC, (int fd, int mode, off_t at, off_t bytes), (fd, mode, at, bytes))
WRAP(FAULTS_TAKING, int, fchmod, -1, EPERM, (int fd, mode_t mode), (fd, mode))
WRAP(FAULTS_TAKING, int, fstat, -1, EIO, (int fd, struct stat *st), (fd, st))
WRAP(FAULTS_TAKING, int, fstatat, -1, EIO, (int folder, const char *path, struct stat *st, int flags),
     (folder, path, st, flags))
WRAP(FAULTS_TAKING, int, lstat, -1, EIO, (const char *path, struct stat *st), (path, st))
WRAP(FAULTS_TAKING, int, stat, -1, EIO, (const char *path, struct stat *st), (path, st))
WRAP(FAULTS_TAKING, int, statvfs, -1, EIO, (const char *path, struct statvfs *v), (path, v))
WRAP(FAULTS_TAKING, ssize_t, pread, -1, EIO, (int fd, void *to, size_t bytes, off_t at), (fd, to, bytes, at))
WRAP(FAULTS_TAKING, off_t, lseek, -1, EIO, (int fd, off_t at, int whence), (fd, at, whence))
WRAP(FAULTS_TAKING, int, linkat, -1, ENOSPC, (int a, const char *from, int b, const char *to, int flags),
     (a, from, b, to, flags))
WRAP(FAULTS_REMOVING, int, unlink, -1, EIO, (const char *path), (path))
WRAP(FAULTS_REMOVING, int, unlinkat, -1, EIO, (int folder, const char *path, int flags), (folder, path, flags))

/* ---- the rest ---------------------------------------------------------------------------------------------------- */

WRAP(FAULTS_TAKING, ssize_t, getrandom, -1, ENOSYS, (void *to, size_t bytes, unsigned flags), (to, bytes, flags))
WRAP(FAULTS_TAKING, int, getrlimit, -1, EIO, (__rlimit_resource_t resource, struct rlimit *limit), (resource, limit))
WRAP(FAULTS_TAKING, long, sysconf, -1, EINVAL, (int name), (name))
WRAP(FAULTS_TAKING, int, gethostname, -1, EIO, (char *name, size_t bytes), (name, bytes))
WRAP(FAULTS_TAKING, void *, dlopen, NULL, ENOMEM, (const char *path, int flags), (path, flags))
WRAP(FAULTS_TAKING, int, pthread_create, EAGAIN, EAGAIN,
     (pthread_t * id, const pthread_attr_t *attributes, void *(*run)(void *), void *context),
     (id, attributes, run, context))

int __real_clock_gettime(clockid_t clock, struct timespec *t);
int __wrap_clock_gettime(clockid_t clock, struct timespec *t);
int __wrap_clock_gettime(clockid_t clock, struct timespec *t) {
  const bool steady = clock == CLOCK_MONOTONIC || clock == CLOCK_MONOTONIC_COARSE || clock == CLOCK_MONOTONIC_RAW;
  if (!steady) __atomic_fetch_add(&jumping, 1, __ATOMIC_RELAXED);
  return __real_clock_gettime(clock, t);
}

/* NOLINTEND(bugprone-reserved-identifier,clang-analyzer-valist.Uninitialized) */
