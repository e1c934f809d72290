/*
 * segment.c - create, attach, allocate, sweep.
 *
 * Creation is a file without a name (O_TMPFILE) that is sized, filled in and locked, then linked under its name, which
 * fails if the name exists. So there is no moment at which somebody can see a segment that is not complete and alive.
 * Rank 0 removes its own name; while it lives its lock keeps everybody else from doing so. Removing a dead file takes
 * the sweeper's lock on it first, so only one sweeper removes the name, and no new file can take it before: a sweep
 * never removes a living segment.
 */
#include "shm/segment.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/log.h"
#include "shm/liveness.h"
#include "topo/topo.h"

enum { WINDOW_LEAST = 256 << 10, ALLOCATION_PIECE = 256 << 10 };
enum { NAME_HEX = 2 * SHMI_ID_BYTES };

static void name_prefix(char out[32]) { snprintf(out, 32, "shmccl-%u-", (unsigned)geteuid()); }

/* False if it is too long. */
static int write_path(char path[PATH_MAX], const uint8_t id[SHMI_ID_BYTES]) {
  char prefix[32], hex[NAME_HEX + 1];
  name_prefix(prefix);
  for (int i = 0; i < SHMI_ID_BYTES; i++) snprintf(hex + 2 * i, 3, "%02x", id[i]);
  return snprintf(path, PATH_MAX, "%s/%s%s", shmi_option_shm_dir(), prefix, hex) < PATH_MAX;
}

static shmccl_result_t make_path(char path[PATH_MAX], const uint8_t id[SHMI_ID_BYTES]) {
  if (write_path(path, id)) return SHMCCL_SUCCESS;
  return shmi_error(SHMCCL_ERROR_INVALID_ARGUMENT, "SHMCCL_SHM_DIR is too long: give a shorter path");
}

/* ---- allocation ---------------------------------------------------------------------------------------------- */

/* In pieces: a signal makes the kernel undo the whole of an unfinished one, and a profiler's timer would never let a
 * large one finish. */
static int allocate(int fd, size_t offset, size_t length) {
  while (length > 0) {
    const size_t piece = length < ALLOCATION_PIECE ? length : ALLOCATION_PIECE;
    if (!fallocate(fd, 0, (off_t)offset, (off_t)piece))
      offset += piece, length -= piece;
    else if (errno != EINTR)
      return errno;
    SHMI_POINT("piece allocated");
  }
  return 0;
}

static shmccl_result_t no_space(size_t wanted, int error) {
  const char *folder = shmi_option_shm_dir();
  struct statvfs v;
  unsigned long long available = statvfs(folder, &v) ? 0 : (unsigned long long)v.f_bavail * v.f_frsize;
  return shmi_error(
      SHMCCL_ERROR_NO_SPACE,
      "%s has %llu KiB free, %zu KiB are needed (%s): enlarge it (docker --shm-size, Kubernetes emptyDir "
      "with medium Memory, mount -o remount,size=), or lower SHMCCL_STAGING_BYTES (NCCL plugin: SHMCCL_NET_BYTES)",
      folder, available >> 10, (wanted + 1023) >> 10, strerror(error));
}

shmccl_result_t shmi_segment_allocate(const struct shmi_segment *s, size_t offset, size_t length) {
  int error = allocate(s->lock_fd, offset, length);
  return error ? no_space(length, error) : SHMCCL_SUCCESS;
}

void shmi_segment_give_back(const struct shmi_segment *s, size_t offset, size_t length) {
  fallocate(s->lock_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)length);
}

/* UINT64_MAX: a tmpfs without a limit says 0 blocks. */
uint64_t shmi_segment_space(void) {
  struct statvfs v;
  if (statvfs(shmi_option_shm_dir(), &v) || v.f_blocks == 0) return UINT64_MAX;
  return (uint64_t)v.f_bavail * v.f_frsize;
}

/* Staging that fits into what is free now; 0 if not even the smallest does. */
static uint64_t fit_staging(int nranks, uint64_t wanted) {
  const uint64_t available = shmi_segment_space(), control = shmi_layout_control_bytes(nranks);
  if (available == UINT64_MAX || available >= control + wanted) return wanted;
  return available > control ? (available - control) / SHMI_PAGE * SHMI_PAGE : 0;
}

static shmccl_result_t cannot_use_folder(int error) {
  const char *folder = shmi_option_shm_dir();
  if (error == ENOENT || error == ENOTDIR)
    return shmi_error(SHMCCL_ERROR_NO_SPACE,
                      "the segment folder %s does not exist: mount a tmpfs there (mount -t tmpfs tmpfs /dev/shm), or "
                      "set SHMCCL_SHM_DIR",
                      folder);
  if (error == EOPNOTSUPP || error == EISDIR)
    return shmi_error(SHMCCL_ERROR_SYSTEM,
                      "the file system of %s cannot make files without a name (O_TMPFILE): use a tmpfs", folder);
  if (error == ENOSPC) return no_space(SHMI_PAGE, error);
  if (error == EMFILE || error == ENFILE)
    return shmi_error(SHMCCL_ERROR_SYSTEM, "cannot open a file in %s: %s: raise ulimit -n", folder, strerror(error));
  return shmi_error(SHMCCL_ERROR_SYSTEM, "cannot create a file in %s: %s: it must be writable by uid %u", folder,
                    strerror(error), (unsigned)geteuid());
}

/* ---- mapping ----------------------------------------------------------------------------------------------------- */

/* Maps the file behind fd. The caller closes fd; the mapping stays. */
static shmccl_result_t map(struct shmi_segment *s, int fd, size_t bytes) {
  void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (base == MAP_FAILED)
    return shmi_error(SHMCCL_ERROR_SYSTEM, "cannot map %zu bytes of %s: %m: check ulimit -v and vm.max_map_count",
                      bytes, s->path);
  madvise(base, bytes, MADV_DONTFORK); /* liveness.h: a child must not keep the file open */
  s->base = base;
  s->bytes = bytes;
  return SHMCCL_SUCCESS;
}

/* The path by which the file behind fd can be opened again, or linked. */
struct fd_path {
  char text[32];
};
static struct fd_path path_of(int fd) {
  struct fd_path path;
  snprintf(path.text, sizeof path.text, "/proc/self/fd/%d", fd);
  return path;
}

static shmccl_result_t cannot_reopen(void) {
  return shmi_error(SHMCCL_ERROR_SYSTEM, "cannot open a descriptor again: %m: is /proc mounted, is ulimit -n enough?");
}

/* ---- sweeping -------------------------------------------------------------------------------------------------- */

enum { SWEEPER = SHMCCL_MAX_RANKS }; /* this byte's lock: the right to remove the name */

static int is_ours(const struct stat *st) {
  return S_ISREG(st->st_mode) && st->st_uid == geteuid() && (st->st_mode & 07777) == 0600;
}

/* Removes name (in folder) if it is a segment of ours that nobody alive holds. Returns 1 if the name is gone. */
static int bury(int folder, const char *name) {
  struct stat opened, named;
  int gone = 0, fd = openat(folder, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return errno == ENOENT;
  if (!fstat(fd, &opened) && is_ours(&opened) && !shmi_liveness_any_held(fd)) {
    struct flock sweeper = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = SWEEPER, .l_len = 1};
    if (!fcntl(fd, F_OFD_SETLK, &sweeper) && !fstatat(folder, name, &named, AT_SYMLINK_NOFOLLOW) &&
        named.st_ino == opened.st_ino && named.st_dev == opened.st_dev)
      gone = !unlinkat(folder, name, 0);
  }
  close(fd);
  return gone;
}

static int is_segment_name(const char *name, const char *prefix) {
  size_t length = strlen(prefix);
  return !strncmp(name, prefix, length) && strlen(name) == length + NAME_HEX &&
         strspn(name + length, "0123456789abcdef") == NAME_HEX;
}

void shmi_segment_sweep(void) {
  char prefix[32];
  DIR *folder = opendir(shmi_option_shm_dir());
  if (!folder) return; /* create reports it */
  name_prefix(prefix);
  for (struct dirent *e; (e = readdir(folder));)
    if (is_segment_name(e->d_name, prefix) && bury(dirfd(folder), e->d_name))
      SHMI_INFO("removed %s, left by a communicator whose processes are gone", e->d_name);
  closedir(folder);
}

/* ---- creation -------------------------------------------------------------------------------------------------- */

static shmccl_result_t open_nameless(int *fd) {
  *fd = open(shmi_option_shm_dir(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (*fd < 0) return cannot_use_folder(errno);
  SHMI_POINT("file opened");
  if (!fchmod(*fd, 0600)) return SHMCCL_SUCCESS; /* whatever the umask */
  shmccl_result_t result = cannot_use_folder(errno);
  close(*fd);
  return result;
}

/* The kernel ends a process that exceeds it. */
static shmccl_result_t check_file_limit(size_t bytes) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_FSIZE, &limit) || limit.rlim_cur >= bytes) return SHMCCL_SUCCESS;
  return shmi_error(SHMCCL_ERROR_SYSTEM,
                    "files may have %llu KiB, %zu KiB are needed: raise ulimit -f, or lower SHMCCL_STAGING_BYTES",
                    (unsigned long long)limit.rlim_cur >> 10, (bytes + 1023) >> 10);
}

static uint64_t smaller(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* As large as a core's own cache, but both slots of all ranks together at most a quarter of the last-level cache. */
static uint64_t choose_window(const struct shmi_header *h) {
  const struct shmi_caches caches = shmi_topo_caches();
  const uint64_t window = smaller(caches.second, caches.last / 8 / h->nranks);
  return smaller(window < WINDOW_LEAST ? WINDOW_LEAST : window, h->slot_bytes);
}

/* The header of a segment in the folder as it is now, by what is free there. */
static shmccl_result_t plan(struct shmi_header *h, int nranks, const shmi_options_t *options) {
  const uint64_t staging = fit_staging(nranks, options->staging_bytes);
  if (!shmi_layout_make(h, nranks, staging, options))
    return no_space(shmi_layout_control_bytes(nranks) + shmi_layout_least_staging(nranks), ENOSPC);
  h->window_bytes = choose_window(h);
  if (staging < options->staging_bytes)
    SHMI_INFO("%s is short of space: %llu KiB of staging instead of %llu", shmi_option_shm_dir(),
              (unsigned long long)staging >> 10, (unsigned long long)options->staging_bytes >> 10);
  return SHMCCL_SUCCESS;
}

shmccl_result_t shmi_segment_plan(struct shmi_header *h, int nranks, const shmi_options_t *options) {
  struct shmi_header header;
  if (access(shmi_option_shm_dir(), F_OK)) return cannot_use_folder(errno);
  SHMI_RETURN_IF_ERROR(plan(&header, nranks, options));
  *h = header;
  return SHMCCL_SUCCESS;
}

static shmccl_result_t fill(struct shmi_segment *s, int fd, const struct shmi_contents *contents) {
  SHMI_RETURN_IF_ERROR(check_file_limit(contents->bytes));
  int error = ftruncate(fd, (off_t)contents->bytes) ? errno : allocate(fd, 0, contents->allocated);
  if (error) return no_space(contents->allocated, error);
  SHMI_RETURN_IF_ERROR(map(s, fd, contents->bytes));
  SHMI_POINT("file sized and mapped");
  memcpy(s->base, contents->head, contents->head_bytes);
  return SHMCCL_SUCCESS;
}

static shmccl_result_t claim(struct shmi_segment *s, int rank) {
  SHMI_POINT("before the lock");
  int error = shmi_liveness_claim(s->lock_fd, rank);
  SHMI_POINT("after the lock");
  if (!error) return SHMCCL_SUCCESS;
  if (error == EAGAIN || error == EACCES)
    return shmi_error(SHMCCL_ERROR_INVALID_USAGE,
                      "rank %d of this communicator is already taken by another process or "
                      "thread: give each its own rank",
                      rank);
  return shmi_error(SHMCCL_ERROR_SYSTEM, "cannot lock %s: %s: its file system must support byte-range locks", s->path,
                    strerror(error));
}

static shmccl_result_t link_name(struct shmi_segment *s, int fd) {
  for (int tries = 0; tries < 100; tries++) {
    if (!linkat(AT_FDCWD, path_of(fd).text, AT_FDCWD, s->path, AT_SYMLINK_FOLLOW)) {
      SHMI_POINT("named");
      return s->named = 1, SHMCCL_SUCCESS;
    }
    if (errno != EEXIST) return shmi_error(SHMCCL_ERROR_SYSTEM, "cannot name %s: %m: is /proc mounted?", s->path);
    if (!bury(AT_FDCWD, s->path)) usleep(1000); /* a sweeper may be at it */
    struct stat st;
    if (!lstat(s->path, &st) && !is_ours(&st))
      return shmi_error(SHMCCL_ERROR_INVALID_USAGE,
                        "%s exists and is no segment of ours (uid %u, mode %o): remove it, or "
                        "use another id",
                        s->path, (unsigned)st.st_uid, (unsigned)st.st_mode & 07777);
  }
  return shmi_error(SHMCCL_ERROR_INVALID_USAGE,
                    "rank 0 of this communicator is already taken, or its id is in use by "
                    "another (%s): give each communicator an id of its own",
                    s->path);
}

shmccl_result_t shmi_segment_make(struct shmi_segment *s, const uint8_t id[SHMI_ID_BYTES],
                                  const struct shmi_contents *contents) {
  int fd;
  shmccl_result_t result;
  *s = (struct shmi_segment){.lock_fd = -1};
  SHMI_RETURN_IF_ERROR(make_path(s->path, id));
  SHMI_RETURN_IF_ERROR(open_nameless(&fd));
  result = fill(s, fd, contents);
  if (result != SHMCCL_SUCCESS) goto close_file;
  s->lock_fd = shmi_liveness_open(path_of(fd).text, 0);
  result = s->lock_fd < 0 ? cannot_reopen() : claim(s, 0);
  if (result == SHMCCL_SUCCESS) result = link_name(s, fd);
close_file:
  close(fd);
  if (result != SHMCCL_SUCCESS) shmi_segment_detach(s, 0);
  return result;
}

shmccl_result_t shmi_segment_create(struct shmi_segment *s, const uint8_t id[SHMI_ID_BYTES], int nranks,
                                    const shmi_options_t *options) {
  const size_t control = shmi_layout_control_bytes(nranks);
  struct shmi_header header;
  SHMI_RETURN_IF_ERROR(plan(&header, nranks, options));
  memcpy(header.id, id, sizeof header.id);
  SHMI_RETURN_IF_ERROR(
      shmi_segment_make(s, id, &(struct shmi_contents){header.total_bytes, control, &header, sizeof header}));
  s->header = header;
  return SHMCCL_SUCCESS;
}

void shmi_segment_unlink(struct shmi_segment *s) {
  if (!s->named) return;
  SHMI_POINT("before the name goes");
  unlink(s->path);
  SHMI_POINT("after the name went");
  s->named = 0;
}

/* Silent: the trouble itself has been reported. A size needs no memory, which may be what is lacking. */
void shmi_segment_refuse(const uint8_t id[SHMI_ID_BYTES], shmccl_result_t cause, unsigned ms) {
  struct shmi_segment s = {.lock_fd = -1};
  if (!write_path(s.path, id)) return;
  const int fd = open(shmi_option_shm_dir(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd < 0) return;
  if (!fchmod(fd, 0600) && !ftruncate(fd, (off_t)cause)) s.lock_fd = shmi_liveness_open(path_of(fd).text, 0);
  if (s.lock_fd >= 0 && !shmi_liveness_claim(s.lock_fd, 0))
    s.named = !linkat(AT_FDCWD, path_of(fd).text, AT_FDCWD, s.path, AT_SYMLINK_FOLLOW);
  close(fd);
  if (s.named) usleep(ms * 1000);
  shmi_segment_detach(&s, 0);
}

/* ---- attaching ----------------------------------------------------------------------------------------------- */

static shmccl_result_t check_owner(const struct shmi_segment *s, int fd) {
  struct stat st;
  if (!fstat(fd, &st) && is_ours(&st)) return SHMCCL_SUCCESS;
  return shmi_error(SHMCCL_ERROR_INVALID_USAGE,
                    "%s is no segment of ours (uid %u, mode %o): remove it, or use another id", s->path,
                    (unsigned)st.st_uid, (unsigned)st.st_mode & 07777);
}

struct shmi_version_text shmi_version_text(uint32_t library, uint32_t layout) {
  struct shmi_version_text v;
  int length = snprintf(v.text, sizeof v.text, "%u.%u.%u", library / 10000, library / 100 % 100, library % 100);
  if (layout) snprintf(v.text + length, sizeof v.text - (size_t)length, " (layout %u)", layout);
  return v;
}

/* Rank 0 is told too: it would wait for this rank until its time limit. */
static shmccl_result_t check_version(const struct shmi_segment *s, int rank, const struct shmi_header *h) {
  const uint64_t refusal = shmi_refusal(rank, SHMI_LIBRARY_VERSION);
  if (h->magic != SHMI_MAGIC ||
      (h->layout_version == SHMI_LAYOUT_VERSION && h->library_version == SHMI_LIBRARY_VERSION))
    return SHMCCL_SUCCESS;
  if (pwrite(s->lock_fd, &refusal, sizeof refusal, SHMI_REFUSAL_AT) < 0) SHMI_INFO("%s: %m", s->path);
  return shmi_error(SHMCCL_ERROR_MISMATCH,
                    "rank 0 runs shmccl %s, rank %d runs %s (%s): all ranks must load the same libshmccl",
                    shmi_version_text((uint32_t)h->library_version, h->layout_version).text, rank,
                    shmi_version_text(SHMI_LIBRARY_VERSION, SHMI_LAYOUT_VERSION).text, s->path);
}

/* A maker that could not make it tells so by a size that is none. */
static shmccl_result_t check_refusal(const struct shmi_segment *s) {
  struct stat st;
  if (fstat(s->lock_fd, &st) || st.st_size == 0 || st.st_size > SHMCCL_ERROR_CUDA) return SHMCCL_SUCCESS;
  return shmi_error((shmccl_result_t)st.st_size,
                    "rank 0 failed: %s: it could not create the communicator; its own log says why",
                    shmccl_error_string((shmccl_result_t)st.st_size));
}

static shmccl_result_t check_header(const struct shmi_segment *s, const uint8_t id[SHMI_ID_BYTES], int rank,
                                    struct shmi_header *h) {
  struct stat st;
  const char *wrong = "its header cannot be read";
  if (pread(s->lock_fd, h, sizeof *h, 0) == (ssize_t)sizeof *h && !fstat(s->lock_fd, &st)) {
    SHMI_RETURN_IF_ERROR(check_version(s, rank, h));
    wrong = shmi_layout_check(h, (uint64_t)st.st_size);
  }
  if (wrong)
    return shmi_error(SHMCCL_ERROR_INVALID_USAGE, "cannot use %s: %s: all ranks must load the same libshmccl", s->path,
                      wrong);
  if (memcmp(h->id, id, sizeof h->id))
    return shmi_error(SHMCCL_ERROR_INVALID_USAGE,
                      "%s is another communicator's: somebody has given it this name: keep others from writing to %s",
                      s->path, shmi_option_shm_dir());
  if (rank >= (int)h->nranks)
    return shmi_error(SHMCCL_ERROR_MISMATCH,
                      "this is rank %d, but rank 0 was told that there are %u ranks: pass the same "
                      "nranks everywhere",
                      rank, h->nranks);
  return SHMCCL_SUCCESS;
}

shmccl_result_t shmi_segment_map(struct shmi_segment *s, size_t bytes) {
  int fd = open(path_of(s->lock_fd).text, O_RDWR | O_CLOEXEC);
  if (fd < 0) return cannot_reopen();
  shmccl_result_t result = map(s, fd, bytes);
  close(fd);
  return result;
}

/* With a living segment open as lock_fd: check, claim, map. */
static shmccl_result_t join(struct shmi_segment *s, const uint8_t id[SHMI_ID_BYTES], int rank) {
  SHMI_POINT("segment found");
  SHMI_RETURN_IF_ERROR(check_refusal(s));
  SHMI_RETURN_IF_ERROR(check_header(s, id, rank, &s->header));
  SHMI_RETURN_IF_ERROR(claim(s, rank));
  return shmi_segment_map(s, s->header.total_bytes);
}

/* A dead creator's file counts as none. */
static shmccl_result_t open_living(struct shmi_segment *s, const uint8_t id[SHMI_ID_BYTES]) {
  SHMI_RETURN_IF_ERROR(make_path(s->path, id));
  s->lock_fd = shmi_liveness_open(s->path, O_NOFOLLOW | O_NONBLOCK);
  if (s->lock_fd < 0 && errno == ENOENT && !access(shmi_option_shm_dir(), F_OK)) return SHMCCL_SUCCESS;
  if (s->lock_fd < 0 && (errno == ENOENT || errno == ENOTDIR || errno == EMFILE || errno == ENFILE))
    return cannot_use_folder(errno);
  if (s->lock_fd < 0)
    return shmi_error(SHMCCL_ERROR_SYSTEM, "cannot open %s: %m: the ranks must run as one user and see one %s", s->path,
                      shmi_option_shm_dir());
  SHMI_RETURN_IF_ERROR(check_owner(s, s->lock_fd));
  if (shmi_liveness_held(s->lock_fd, 0) == 0) shmi_segment_detach(s, 0);
  return SHMCCL_SUCCESS;
}

shmccl_result_t shmi_segment_open(struct shmi_segment *s, const uint8_t id[SHMI_ID_BYTES]) {
  *s = (struct shmi_segment){.lock_fd = -1};
  shmccl_result_t result = open_living(s, id);
  if (result != SHMCCL_SUCCESS) shmi_segment_detach(s, 0);
  return result;
}

shmccl_result_t shmi_segment_attach(struct shmi_segment *s, const uint8_t id[SHMI_ID_BYTES], int rank) {
  SHMI_RETURN_IF_ERROR(shmi_segment_open(s, id));
  if (s->lock_fd < 0) return SHMCCL_SUCCESS;
  shmccl_result_t result = join(s, id, rank);
  if (result != SHMCCL_SUCCESS) shmi_segment_detach(s, 0);
  return result;
}

void shmi_segment_detach(struct shmi_segment *s, int forked) {
  if (!forked) {
    shmi_segment_unlink(s);
    if (s->base) munmap(s->base, s->bytes);
    SHMI_POINT("unmapped");
    if (s->lock_fd >= 0) shmi_liveness_release(s->lock_fd);
    SHMI_POINT("lock gone");
  }
  s->base = NULL;
  s->lock_fd = -1;
}
