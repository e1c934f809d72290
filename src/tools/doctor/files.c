/* files.c - reading, of this machine or below a recorded tree's root; links of a recorded tree stay inside it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tools/doctor/doctor.h"

enum { FILE_MOST = 1 << 20, NAMES_MOST = 4096 };

int doctor_open(const struct doctor *d, const char *path, int flags) {
  flags |= flags & O_PATH ? O_CLOEXEC : O_CLOEXEC | O_NONBLOCK; /* a FIFO in a file's place does not stop us */
  if (!d->recorded) return open(path, flags | O_NOCTTY);
  const struct open_how how = {.flags = (uint64_t)(unsigned)flags, .resolve = RESOLVE_IN_ROOT};
  const int folder = open(d->root, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) return -1;
  const int fd = (int)syscall(SYS_openat2, folder, path, &how, sizeof how), reason = errno;
  close(folder);
  errno = reason;
  return fd;
}

char *doctor_read(struct doctor *d, const char *path, size_t *length) {
  const int fd = doctor_open(d, path, O_RDONLY);
  if (fd < 0) return NULL;
  char *bytes = malloc(FILE_MOST + 1);
  size_t have = 0;
  ssize_t more = -1;
  while (bytes && have < FILE_MOST && (more = read(fd, bytes + have, FILE_MOST - have)) > 0) have += (size_t)more;
  const int reason = errno;
  close(fd);
  if (more < 0) return free(bytes), errno = reason, NULL;
  char *text = doctor_room(d, have + 1);
  memcpy(text, bytes, have);
  text[have] = 0;
  free(bytes);
  if (length) *length = have;
  return text;
}

char *doctor_read_or_say(struct doctor *d, const char *id, const char *path, size_t *length) {
  char *text = doctor_read(d, path, length);
  if (!text && errno != ENOENT && errno != ENOTDIR)
    doctor_add(d, (struct doctor_finding){DOCTOR_WARNING, id,
                                          doctor_text(d, "%s cannot be read: %s", path, strerror(errno)),
                                          "what it says could not be checked",
                                          doctor_text(d,
                                                      "make it readable for this user, or look at it as its owner: "
                                                      "ls -l %s",
                                                      path)});
  return text;
}

bool doctor_exists(const struct doctor *d, const char *path) {
  const int fd = doctor_open(d, path, O_PATH);
  if (fd >= 0) close(fd);
  return fd >= 0;
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

char **doctor_list(struct doctor *d, const char *folder) {
  char **names = doctor_room(d, (NAMES_MOST + 1) * sizeof(char *));
  int count = 0;
  const int fd = doctor_open(d, folder, O_RDONLY | O_DIRECTORY);
  DIR *dir = fd < 0 ? NULL : fdopendir(fd);
  const struct dirent *entry;
  while (dir && count < NAMES_MOST && (entry = readdir(dir)))
    if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..")) names[count++] = doctor_text(d, "%s", entry->d_name);
  if (dir)
    closedir(dir);
  else if (fd >= 0)
    close(fd);
  names[count] = NULL;
  qsort(names, (size_t)count, sizeof *names, by_name);
  return names;
}

char *doctor_link(struct doctor *d, const char *path) {
  char target[PATH_MAX];
  const int fd = doctor_open(d, path, O_PATH | O_NOFOLLOW);
  if (fd < 0) return NULL;
  const ssize_t length = readlinkat(fd, "", target, sizeof target);
  close(fd);
  return length < 0 ? NULL : doctor_text(d, "%.*s", (int)length, target);
}

/* The first folder of a list with colons that has the file. */
static char *find_in(struct doctor *d, const char *folders, const char *name) {
  for (const char *f = folders; f && *f;) {
    const size_t length = strcspn(f, ":");
    char *path = doctor_text(d, "%.*s/%s", (int)length, f, name);
    if (length && doctor_exists(d, path)) return path;
    f += length + (f[length] == ':');
  }
  return NULL;
}

char *doctor_find_library(struct doctor *d, const char *name) {
  char cached[512];
  char *path = find_in(d, getenv("LD_LIBRARY_PATH"), name);
  if (path) return path;
  if (doctor_cached_library(d->facts.cache, name, cached, sizeof cached)) return doctor_text(d, "%s", cached);
  return find_in(d,
                 "/lib/x86_64-linux-gnu:/usr/lib/x86_64-linux-gnu:/lib/aarch64-linux-gnu:"
                 "/usr/lib/aarch64-linux-gnu:/lib64:/usr/lib64:/lib:/usr/lib",
                 name);
}
