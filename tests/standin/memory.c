/*
 * memory.c - memory of the stand-in. All that CUDA knows of is in one list of ranges.
 *
 * Device memory is anonymous host memory with an inaccessible page behind it. What is freed stays inaccessible, at an
 * address that is not given out again soon, so that overruns and late accesses fault and a kernel that is launched with
 * a freed address is told. Small device allocations start with garbage, as they may on a GPU.
 *
 * Some host memory can be mapped a second time, so that the device's address of it differs from the host's. CUDA
 * promises the same address only for what cudaHostAlloc returns without cudaHostAllocWriteCombined:
 * STANDIN_HOST_ALIAS=1 gives another to the rest, 2 to all.
 */
#include "internal.h"

#include <sys/mman.h>
#include <unistd.h>

enum { FREED_KEPT = 1024, POISON = 0xa5, POISONED_MOST = 1 << 20 };

struct span {
  char *start;
  size_t bytes;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct si_range *ranges;
static size_t nranges, room;
static size_t used[SI_MAX_DEVICES], pinned;
static struct span freed[FREED_KEPT];
static size_t nfreed; /* ever */

static size_t page(void) { return (size_t)sysconf(_SC_PAGESIZE); }
static size_t round_up(size_t n) { return (n + page() - 1) / page() * page(); }
static char *page_of(const void *p) { return (char *)((uintptr_t)p & ~(page() - 1)); }
static bool on_device(const struct si_range *r) { return r->kind != SI_PINNED; }
static bool aliased(const struct si_range *r) { return r->alias != r->base; }
static bool inside(const void *p, const char *start, size_t bytes) { return (uintptr_t)p - (uintptr_t)start < bytes; }

/* ---- the list of ranges ------------------------------------------------------------------------------------------ */

/* Under the lock: room for it within the device's memory or the limit of pinned memory. */
static bool account(const struct si_range *r) {
  const struct si_options *o = si_options();
  if (r->kind == SI_DEVICE) {
    if (r->bytes > o->memory - used[r->device]) return false;
    used[r->device] += r->bytes;
  } else if (r->kind == SI_PINNED) {
    if (o->pinned_limit && (pinned > o->pinned_limit || r->bytes > o->pinned_limit - pinned)) return false;
    pinned += r->bytes;
  }
  return true;
}

static bool overlaps(const struct si_range *a, const char *start, size_t bytes) {
  return inside(start, a->base, a->bytes) || inside(a->base, start, bytes);
}

static cudaError_t add(const struct si_range *r) {
  cudaError_t error = cudaSuccess;
  pthread_mutex_lock(&lock);
  for (size_t i = 0; i < nranges; i++)
    if (overlaps(&ranges[i], r->base, r->bytes)) error = cudaErrorHostMemoryAlreadyRegistered;
  if (error == cudaSuccess && !account(r)) error = cudaErrorMemoryAllocation;
  if (error == cudaSuccess && nranges == room) {
    room = 2 * room + 64;
    ranges = realloc(ranges, room * sizeof *ranges);
    if (!ranges) si_die("out of memory");
  }
  if (error == cudaSuccess) ranges[nranges++] = *r;
  pthread_mutex_unlock(&lock);
  return error;
}

/* Under the lock. */
static struct si_range *find(const void *p) {
  for (size_t i = nranges; i-- > 0;)
    if (inside(p, ranges[i].base, ranges[i].bytes) || inside(p, ranges[i].alias, ranges[i].bytes)) return &ranges[i];
  return NULL;
}

bool si_find(const void *p, struct si_range *range) {
  pthread_mutex_lock(&lock);
  const struct si_range *r = find(p);
  if (r) *range = *r;
  pthread_mutex_unlock(&lock);
  return r != NULL;
}

/* Out of the list, by its first byte. */
static bool take(const void *p, bool registered, bool of_device, struct si_range *range) {
  pthread_mutex_lock(&lock);
  struct si_range *r = find(p);
  const bool found = r && r->base == p && r->registered == registered && on_device(r) == of_device;
  if (found) {
    *range = *r;
    if (r->kind == SI_DEVICE) used[r->device] -= r->bytes;
    if (r->kind == SI_PINNED) pinned -= r->bytes;
    *r = ranges[--nranges];
  }
  pthread_mutex_unlock(&lock);
  return found;
}

void si_memory_stats(struct standin_stats *stats) {
  pthread_mutex_lock(&lock);
  for (size_t i = 0; i < nranges; i++) {
    if (ranges[i].kind == SI_SYMBOL) continue;
    *(on_device(&ranges[i]) ? &stats->device_bytes : &stats->host_bytes) += ranges[i].bytes;
    ++*(on_device(&ranges[i]) ? &stats->device_ranges : &stats->host_ranges);
  }
  pthread_mutex_unlock(&lock);
}

/* ---- whose address is it? ---------------------------------------------------------------------------------------- */

static bool device_reaches(const struct si_range *r, int device) {
  return r->kind != SI_DEVICE || r->device == device || si_options()->p2p;
}

bool standin_device_can_use(const void *p, size_t bytes, int device) {
  struct si_range r;
  if (!bytes) return true;
  if (!si_find(p, &r) || !device_reaches(&r, device)) return false;
  return inside(p, r.alias, r.bytes) && (size_t)((const char *)p - r.alias) + bytes <= r.bytes;
}

bool si_host_can_use(const void *p) {
  struct si_range r;
  return !si_find(p, &r) || r.kind == SI_MANAGED || (r.kind == SI_PINNED && inside(p, r.base, r.bytes));
}

bool si_was_freed(const void *p) {
  bool yes = false;
  pthread_mutex_lock(&lock);
  for (size_t i = 0; i < FREED_KEPT && i < nfreed; i++) yes = yes || inside(p, freed[i].start, freed[i].bytes);
  pthread_mutex_unlock(&lock);
  return yes;
}

static bool in_memory(const void *p) {
  unsigned char resident = 0;
  return !mincore(page_of(p), 1, &resident) && resident & 1;
}

const char *si_bad_address(uint64_t p, int device) {
  const void *address = (const void *)(uintptr_t)p;
  struct si_range r;
  if (p < 1 << 16 || p >> 47) return NULL;
  if (si_find(address, &r)) {
    if (!inside(address, r.alias, r.bytes)) return "the host's address of memory that has another on the device";
    return device_reaches(&r, device) ? NULL : "memory of another device";
  }
  if (si_was_freed(address)) return "freed memory";
  return in_memory(address) ? "pageable host memory" : NULL;
}

/* ---- getting and giving back ------------------------------------------------------------------------------------- */

/* Whole pages; one more, inaccessible, follows. */
static char *map_private(size_t bytes) {
  char *p = mmap(NULL, bytes + page(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) return NULL;
  if (!mprotect(p, bytes, PROT_READ | PROT_WRITE)) return p;
  munmap(p, bytes + page());
  return NULL;
}

/* The same pages at two addresses; `at`: the first is to be there, with its contents. */
static bool map_twice(size_t bytes, char *at, char **base, char **alias) {
  int fd = memfd_create("cudart-standin", MFD_CLOEXEC);
  if (fd < 0) return false;
  *alias = *base = MAP_FAILED;
  if (!ftruncate(fd, (off_t)bytes) && (!at || pwrite(fd, at, bytes, 0) == (ssize_t)bytes)) {
    *alias = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    *base = mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | (at ? MAP_FIXED : 0), fd, 0);
  }
  close(fd);
  return *alias != MAP_FAILED && *base != MAP_FAILED;
}

static bool pinned_alias(unsigned flags) {
  return si_options()->host_alias > (flags & cudaHostAllocWriteCombined ? 0 : 1);
}

static bool map(struct si_range *r) {
  if (r->kind == SI_PINNED && pinned_alias(r->flags)) return map_twice(r->mapped, NULL, &r->base, &r->alias);
  r->base = r->alias = map_private(r->mapped);
  return r->base != NULL;
}

/* Inaccessible from now on, and not given out again before FREED_KEPT others were freed. */
static void close_span(char *start, size_t bytes) {
  struct span oldest = {0};
  if (mmap(start, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
    si_die("cannot take %zu bytes of memory back", bytes);
  pthread_mutex_lock(&lock);
  struct span *place = &freed[nfreed++ % FREED_KEPT];
  oldest = *place;
  *place = (struct span){start, bytes};
  pthread_mutex_unlock(&lock);
  if (oldest.start) munmap(oldest.start, oldest.bytes);
}

static void unmap(const struct si_range *r) {
  if (aliased(r)) close_span(page_of(r->alias), r->mapped);
  if (!r->registered) close_span(r->base, r->mapped + (aliased(r) ? 0 : page()));
}

static cudaError_t run_unmap(void *arg) {
  unmap(arg);
  return cudaSuccess;
}

cudaError_t si_allocate(void **p, size_t bytes, enum si_range_kind kind, unsigned flags) {
  struct si_range r = {.bytes = bytes, .mapped = round_up(bytes), .kind = kind, .device = si_device, .flags = flags};
  if (!p) return cudaErrorInvalidValue;
  *p = NULL;
  if (!bytes) return cudaSuccess;
  if (bytes > si_options()->memory && kind != SI_PINNED) return cudaErrorMemoryAllocation;
  if (!map(&r)) return cudaErrorMemoryAllocation;
  if (kind == SI_DEVICE && bytes <= POISONED_MOST) memset(r.base, POISON, bytes);
  const cudaError_t error = add(&r);
  if (error == cudaSuccess)
    *p = r.base;
  else
    unmap(&r);
  return error;
}

/* Gone for CUDA at once; the mapping stays until the device has done what was submitted before. */
static cudaError_t release(void *p, bool of_device) {
  struct si_range r;
  if (!take(p, false, of_device, &r)) return cudaErrorInvalidValue;
  si_after_device(r.device, run_unmap, &r, sizeof r);
  return cudaSuccess;
}

cudaError_t si_release_now(void *p) {
  struct si_range r;
  if (!take(p, false, true, &r)) return cudaErrorInvalidValue;
  unmap(&r);
  return cudaSuccess;
}

void si_add_symbol(void *p, size_t bytes) {
  const struct si_range r = {.base = p, .alias = p, .bytes = bytes, .kind = SI_SYMBOL, .registered = true};
  add(&r);
}

cudaError_t cudaMalloc(void **p, size_t bytes) {
  ENTER(UNSAFE);
  return si_fail(si_allocate(p, bytes, SI_DEVICE, 0));
}

cudaError_t cudaMallocManaged(void **p, size_t bytes, unsigned flags) {
  ENTER(UNSAFE);
  return si_fail(si_allocate(p, bytes, SI_MANAGED, flags));
}

cudaError_t cudaMallocPitch(void **p, size_t *pitch, size_t width, size_t height) {
  ENTER(UNSAFE);
  NEED(pitch, cudaErrorInvalidValue);
  *pitch = (width + 511) / 512 * 512;
  return si_fail(si_allocate(p, *pitch * height, SI_DEVICE, 0));
}

cudaError_t cudaMallocHost(void **p, size_t bytes) {
  ENTER(UNSAFE);
  return si_fail(si_allocate(p, bytes, SI_PINNED, 0));
}

cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned flags) {
  ENTER(UNSAFE);
  NEED(!(flags & ~(unsigned)(cudaHostAllocPortable | cudaHostAllocMapped | cudaHostAllocWriteCombined)),
       cudaErrorInvalidValue);
  return si_fail(si_allocate(p, bytes, SI_PINNED, flags));
}

/* CUDA may wait for the device here. That can deadlock kernels that wait for each other, so it is done on demand only:
 * STANDIN_FREE_WAITS. */
cudaError_t cudaFree(void *p) {
  ENTER(UNSAFE);
  struct si_range r;
  if (!p) return cudaSuccess;
  NEED(si_find(p, &r), cudaErrorInvalidValue);
  if (si_options()->free_waits) TRY(si_device_wait(r.device));
  return si_fail(release(p, true));
}

cudaError_t cudaFreeHost(void *p) {
  ENTER(UNSAFE);
  if (!p) return cudaSuccess;
  return si_fail(release(p, false));
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes) {
  ENTER(SAFE);
  const size_t total = si_options()->memory;
  pthread_mutex_lock(&lock);
  if (free_bytes) *free_bytes = total - used[si_device];
  pthread_mutex_unlock(&lock);
  if (total_bytes) *total_bytes = total;
  return cudaSuccess;
}

/* ---- the caller's own host memory -------------------------------------------------------------------------------- */

/* Another address for the same pages. Shared mappings (a file in /dev/shm) can be mapped again directly. Private memory
 * has to become a shared mapping first; only whole pages, or neighbours would be hit. */
static bool second_address(struct si_range *r) {
  char *first = page_of(r->base);
  const size_t before = (size_t)(r->base - first);
  r->mapped = round_up(before + r->bytes);
  char *again = mremap(first, 0, r->mapped, MREMAP_MAYMOVE); /* old size 0: a copy of a shared mapping */
  if (again == MAP_FAILED) {
    if (before || r->bytes % page()) {
      si_say(0, "cudaHostRegister(%p, %zu): with STANDIN_HOST_ALIAS private memory must be whole pages",
             (void *)r->base, r->bytes);
      return false;
    }
    if (!map_twice(r->mapped, first, &first, &again)) return false;
  }
  r->alias = again + before;
  return true;
}

cudaError_t cudaHostRegister(void *p, size_t bytes, unsigned flags) {
  ENTER(UNSAFE);
  struct si_range r = {.base = p, .alias = p, .bytes = bytes, .kind = SI_PINNED, .registered = true};
  struct si_range old;
  r.device = si_device;
  r.flags = flags;
  NEED(p && bytes && !(flags & ~(unsigned)0xf), cudaErrorInvalidValue);
  NEED(!(flags & (cudaHostRegisterIoMemory | cudaHostRegisterReadOnly)), cudaErrorNotSupported);
  NEED(!si_find(p, &old), cudaErrorHostMemoryAlreadyRegistered);
  NEED(!si_options()->host_alias || second_address(&r), cudaErrorNotSupported);
  const cudaError_t error = add(&r);
  if (error != cudaSuccess) unmap(&r);
  return si_fail(error);
}

cudaError_t cudaHostUnregister(void *p) {
  ENTER(UNSAFE);
  struct si_range r;
  NEED(take(p, true, false, &r), cudaErrorHostMemoryNotRegistered);
  si_after_device(r.device, run_unmap, &r, sizeof r);
  return cudaSuccess;
}

cudaError_t cudaHostGetDevicePointer(void **device, void *host, unsigned flags) {
  ENTER(SAFE);
  struct si_range r;
  NEED(device && !flags, cudaErrorInvalidValue);
  NEED(si_find(host, &r) && r.kind == SI_PINNED && inside(host, r.base, r.bytes), cudaErrorInvalidValue);
  *device = r.alias + ((char *)host - r.base);
  return cudaSuccess;
}

cudaError_t cudaHostGetFlags(unsigned *flags, void *p) {
  ENTER(SAFE);
  struct si_range r;
  NEED(flags && si_find(p, &r) && r.kind == SI_PINNED, cudaErrorInvalidValue);
  *flags = r.flags | cudaHostAllocMapped;
  return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *a, const void *p) {
  ENTER(SAFE);
  struct si_range r;
  NEED(a, cudaErrorInvalidValue);
  *a = (struct cudaPointerAttributes){.type = cudaMemoryTypeUnregistered, .device = cudaInvalidDeviceId};
  if (!si_find(p, &r)) return cudaSuccess;
  const size_t offset = (size_t)((const char *)p - (inside(p, r.base, r.bytes) ? r.base : r.alias));
  a->type = r.kind == SI_PINNED    ? cudaMemoryTypeHost
            : r.kind == SI_MANAGED ? cudaMemoryTypeManaged
                                   : cudaMemoryTypeDevice;
  a->device = r.device;
  a->devicePointer = r.alias + offset;
  a->hostPointer = r.kind == SI_PINNED || r.kind == SI_MANAGED ? r.base + offset : NULL;
  return cudaSuccess;
}

/* ---- memory of other processes: not offered, as cudaDeviceCanAccessPeer says ------------------------------------- */

cudaError_t cudaIpcGetMemHandle(cudaIpcMemHandle_t *handle, void *p) {
  ENTER(SAFE);
  (void)handle, (void)p;
  return si_fail(cudaErrorNotSupported);
}

cudaError_t cudaIpcOpenMemHandle(void **p, cudaIpcMemHandle_t handle, unsigned flags) {
  ENTER(SAFE);
  (void)p, (void)handle, (void)flags;
  return si_fail(cudaErrorNotSupported);
}

cudaError_t cudaIpcCloseMemHandle(void *p) {
  ENTER(SAFE);
  (void)p;
  return si_fail(cudaErrorNotSupported);
}
