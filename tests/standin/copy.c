/*
 * copy.c - copies and fills of the stand-in, and their checks: an address must be one that the device, or the host, can
 * use.
 */
#include "internal.h"

#include <fcntl.h>
#include <unistd.h>

static unsigned long copies, fills;

void si_copy_stats(struct standin_stats *stats) {
  stats->copies = __atomic_load_n(&copies, __ATOMIC_RELAXED);
  stats->fills = __atomic_load_n(&fills, __ATOMIC_RELAXED);
}

/* ---- copies ------------------------------------------------------------------------------------------------------ */

struct copy {
  void *to;
  const void *from;
  size_t width, height, to_pitch, from_pitch;
  bool staged; /* the source's bytes follow */
  char data[];
};

static cudaError_t run_copy(void *arg) {
  const struct copy *c = arg;
  const char *from = c->staged ? c->data : c->from;
  const size_t pitch = c->staged ? c->width : c->from_pitch;
  __atomic_add_fetch(&copies, 1, __ATOMIC_RELAXED);
  for (size_t y = 0; y < c->height; y++) memmove((char *)c->to + y * c->to_pitch, from + y * pitch, c->width);
  return cudaSuccess;
}

static size_t extent(size_t width, size_t height, size_t pitch) { return (height - 1) * pitch + width; }

/* Memory of any device: copies between devices go through the host where they must. */
static bool some_device_can_use(const void *p, size_t bytes) {
  struct si_range r;
  return si_find(p, &r) && standin_device_can_use(p, bytes, r.device);
}

static cudaError_t check_copy(const struct copy *c, enum cudaMemcpyKind kind) {
  const size_t to_bytes = extent(c->width, c->height, c->to_pitch);
  const size_t from_bytes = extent(c->width, c->height, c->from_pitch);
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if (si_was_freed(c->to) || si_was_freed(c->from)) return cudaErrorInvalidValue;
  if (kind == cudaMemcpyDefault) return cudaSuccess;
  if (to_device ? !some_device_can_use(c->to, to_bytes) : !si_host_can_use(c->to)) return cudaErrorInvalidValue;
  if (from_device ? !some_device_can_use(c->from, from_bytes) : !si_host_can_use(c->from)) return cudaErrorInvalidValue;
  return cudaSuccess;
}

/* With the source's bytes, taken now, if it is pageable. */
static struct copy *complete(const struct copy *c, bool capturing, size_t *bytes) {
  struct si_range r;
  const bool staged = !capturing && !si_find(c->from, &r);
  *bytes = sizeof *c + (staged ? c->width * c->height : 0);
  struct copy *full = si_alloc(*bytes);
  *full = *c;
  full->staged = staged;
  for (size_t y = 0; staged && y < c->height; y++)
    memcpy(full->data + y * c->width, (const char *)c->from + y * c->from_pitch, c->width);
  return full;
}

/* As documented: from pageable memory the data is taken before this returns, to pageable memory it waits. (Within a
 * capture both are only addresses.) */
static cudaError_t copy(const struct copy *c, enum cudaMemcpyKind kind, cudaStream_t handle, bool wait) {
  struct si_position where;
  struct si_range r;
  struct CUstream_st *s;
  size_t bytes;
  if ((unsigned)kind > cudaMemcpyDefault) return cudaErrorInvalidMemcpyDirection;
  if (!c->width || !c->height) return cudaSuccess;
  cudaError_t error = check_copy(c, kind);
  if (error == cudaSuccess) error = si_stream(handle, &s);
  if (error != cudaSuccess) return error;
  struct copy *full = complete(c, si_capturing(s), &bytes);
  error = si_submit(handle, cudaGraphNodeTypeMemcpy, run_copy, full, bytes, &where);
  free(full);
  if (error == cudaSuccess && (wait || !si_find(c->to, &r))) si_wait(where);
  return error == cudaSuccess && wait ? standin_broken(si_device) : error;
}

cudaError_t si_copy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t s, bool wait) {
  const struct copy c = {.to = to, .from = from, .width = bytes, .height = 1, .to_pitch = bytes, .from_pitch = bytes};
  return copy(&c, kind, s, wait);
}

static cudaError_t copy_2d(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t height,
                           enum cudaMemcpyKind kind, cudaStream_t s, bool wait) {
  const struct copy c = {
      .to = to, .from = from, .width = width, .height = height, .to_pitch = to_pitch, .from_pitch = from_pitch};
  if (width > to_pitch || width > from_pitch) return cudaErrorInvalidPitchValue;
  return copy(&c, kind, s, wait);
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind) {
  ENTER(UNSAFE);
  return si_fail(si_copy(to, from, bytes, kind, NULL, true));
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t s) {
  ENTER(SAFE);
  return si_fail(si_copy(to, from, bytes, kind, s, false));
}

cudaError_t cudaMemcpyPeer(void *to, int to_device, const void *from, int from_device, size_t bytes) {
  ENTER(UNSAFE);
  NEED(si_valid_device(to_device) && si_valid_device(from_device), cudaErrorInvalidDevice);
  return si_fail(si_copy(to, from, bytes, cudaMemcpyDeviceToDevice, NULL, true));
}

cudaError_t cudaMemcpyPeerAsync(void *to, int to_device, const void *from, int from_device, size_t bytes,
                                cudaStream_t s) {
  ENTER(SAFE);
  NEED(si_valid_device(to_device) && si_valid_device(from_device), cudaErrorInvalidDevice);
  return si_fail(si_copy(to, from, bytes, cudaMemcpyDeviceToDevice, s, false));
}

cudaError_t cudaMemcpy2D(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t height,
                         enum cudaMemcpyKind kind) {
  ENTER(UNSAFE);
  return si_fail(copy_2d(to, to_pitch, from, from_pitch, width, height, kind, NULL, true));
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                              size_t height, enum cudaMemcpyKind kind, cudaStream_t s) {
  ENTER(SAFE);
  return si_fail(copy_2d(to, to_pitch, from, from_pitch, width, height, kind, s, false));
}

/* Unlike cudaMemcpyAsync it does not translate the host's address of pinned memory: on WSL2 that faults. */
static bool faults_in_batch(const void *p) {
  struct si_range r;
  return si_find(p, &r) && !standin_device_can_use(p, 1, r.device);
}

cudaError_t cudaMemcpyBatchAsync(void *const *to, const void *const *from, const size_t *bytes, size_t count,
                                 struct cudaMemcpyAttributes *attributes, size_t *attribute_indices, size_t nattributes,
                                 cudaStream_t s) {
  ENTER(SAFE);
  (void)attributes, (void)attribute_indices, (void)nattributes;
  NEED(s && s != cudaStreamLegacy, cudaErrorInvalidValue);
  for (size_t i = 0; i < count; i++) {
    if (faults_in_batch(to[i]) || faults_in_batch(from[i])) {
      standin_break(si_device, cudaErrorIllegalAddress);
      return si_fail(cudaErrorIllegalAddress);
    }
    TRY(si_copy(to[i], from[i], bytes[i], cudaMemcpyDefault, s, false));
  }
  return cudaSuccess;
}

/* ---- fills ------------------------------------------------------------------------------------------------------- */

struct fill {
  char *to;
  int value;
  size_t width, height, pitch;
  bool anonymous;
};

enum { CLEAR_BY_PAGE = 1 << 18 };

/* Zeros, but leaves out pages that were never written and are zero anyway: much of what is cleared is never used. Only
 * for private anonymous memory, where the top bits of a pagemap entry (in memory, swapped) tell. */
static void clear(char *p, size_t bytes) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  char *first = (char *)(((uintptr_t)p + page - 1) & ~(page - 1)),
       *end = (char *)((uintptr_t)(p + bytes) & ~(page - 1));
  const int fd = bytes < CLEAR_BY_PAGE ? -1 : open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  uint64_t entries[512];
  ssize_t got;
  if (fd < 0) {
    memset(p, 0, bytes);
    return;
  }
  memset(p, 0, (size_t)(first - p));
  while (first < end &&
         (got = pread(fd, entries, sizeof entries, (off_t)((uintptr_t)first / page * sizeof *entries))) > 0)
    for (size_t i = 0; i < (size_t)got / sizeof *entries && first < end; i++, first += page)
      if (entries[i] >> 62) memset(first, 0, page);
  memset(first, 0, (size_t)(p + bytes - first));
  close(fd);
}

static cudaError_t run_fill(void *arg) {
  const struct fill *f = arg;
  __atomic_add_fetch(&fills, 1, __ATOMIC_RELAXED);
  for (size_t y = 0; y < f->height; y++)
    if (f->anonymous && !f->value)
      clear(f->to + y * f->pitch, f->width);
    else
      memset(f->to + y * f->pitch, f->value, f->width);
  return cudaSuccess;
}

static cudaError_t fill(void *to, size_t pitch, int value, size_t width, size_t height, cudaStream_t s, bool wait) {
  struct fill f = {to, value, width, height, pitch, false};
  struct si_position where;
  struct si_range r;
  if (!width || !height) return cudaSuccess;
  if (!some_device_can_use(to, extent(width, height, pitch))) return cudaErrorInvalidValue;
  f.anonymous = si_find(to, &r) && r.kind == SI_DEVICE;
  const cudaError_t error = si_submit(s, cudaGraphNodeTypeMemset, run_fill, &f, sizeof f, &where);
  if (error == cudaSuccess && wait) si_wait(where);
  return error;
}

cudaError_t cudaMemset(void *p, int value, size_t bytes) {
  ENTER(UNSAFE);
  return si_fail(fill(p, bytes, value, bytes, 1, NULL, true));
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t s) {
  ENTER(SAFE);
  return si_fail(fill(p, bytes, value, bytes, 1, s, false));
}

cudaError_t cudaMemset2D(void *p, size_t pitch, int value, size_t width, size_t height) {
  ENTER(UNSAFE);
  return si_fail(fill(p, pitch, value, width, height, NULL, true));
}

cudaError_t cudaMemset2DAsync(void *p, size_t pitch, int value, size_t width, size_t height, cudaStream_t s) {
  ENTER(SAFE);
  return si_fail(fill(p, pitch, value, width, height, s, false));
}
