/*
 * mover_cuda.c - a thread for each GPU, with the CUDA runtime.
 *
 * The two streams have the highest priority: CUDA gives them hardware queues that others' streams do not fill. Every
 * copy is followed by an event of its own, which the thread polls; it never waits within CUDA. Events of a stream end
 * in order, so a stream's copies under way are a ring.
 *
 * A mover's lock is held by its thread while it looks at the tracks, and by whoever opens or closes one. The first
 * failure of a mover is its last: its thread then waits until its streams carry nothing any more, and ends.
 */
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/ordering.h"
#include "base/thread.h"
#include "mem/cuda_calls.h"
#include "mem/cuda_pinned.h"
#include "mem/mover.h"
#include "shm/liveness.h"

enum { LINE = 128, UNDER_WAY = 64, LOOKS = 64 };
static const uint64_t IDLE_NS = 50000, PATIENCE_NS = 10000000000;
static const struct timespec moment = {.tv_nsec = 10000};

struct copy {
  void *to;
  const void *from;
  size_t bytes;
};

struct shmi_track {
  /* the poster's */
  _Alignas(LINE) uint32_t posted;
  struct copy copies[SHMI_TRACK_COPIES]; /* copy i at i % SHMI_TRACK_COPIES, given back by `done` */
  /* the mover's */
  _Alignas(LINE) uint32_t done;
  uint32_t begun;
  bool is_closing;
  /* constant */
  _Alignas(LINE) struct mover *mover;
  enum shmi_direction direction;
  uint32_t fork_generation;
  struct shmi_track *next; /* under the mover's lock */
};

struct stream {
  cudaStream_t stream;
  cudaEvent_t events[UNDER_WAY];
  struct shmi_track *tracks[UNDER_WAY]; /* whose copy it is */
  uint32_t begun, done;                 /* on the circle */
};

struct mover {
  int device, users; /* users: under movers_lock */
  struct mover *next;
  pthread_t thread;
  pthread_mutex_t lock; /* of the tracks' list and of all that is the mover's in them */
  struct shmi_track *tracks;
  struct stream streams[2]; /* by direction */
  sem_t waiting;            /* a count of posts, more or less: it wakes the thread */
  uint32_t stopping;
  uint32_t has_failed, is_over; /* published */
  bool is_told;                 /* under lock */
  const char *what;             /* of the failure */
  cudaError_t error;
};

/* Host memory that is registered: both ends of a connection within a process share its ring. */
struct pin {
  struct pin *next;
  struct shmi_pinned pinned;
  int device, users;
};

static pthread_mutex_t movers_lock = PTHREAD_MUTEX_INITIALIZER; /* of all below */
static struct mover *movers;
static struct pin *pins;
static uint32_t fork_generation;

/* ---- the thread -------------------------------------------------------------------------------------------------- */

static bool fail(struct mover *m, cudaError_t error, const char *what) {
  cudaGetLastError(); /* what is not sticky ends here */
  m->error = error;
  m->what = what;
  shmi_publish32(&m->has_failed, 1);
  return false;
}

static cudaError_t submit(const struct stream *s, const struct copy *c, enum shmi_direction direction,
                          cudaEvent_t event) {
  const enum cudaMemcpyKind kind = direction == SHMI_FROM_DEVICE ? cudaMemcpyDeviceToHost : cudaMemcpyHostToDevice;
  const cudaError_t error = c->bytes ? cudaMemcpyAsync(c->to, c->from, c->bytes, kind, s->stream) : cudaSuccess;
  return error == cudaSuccess ? cudaEventRecord(event, s->stream) : error;
}

/* What the track has posted, as far as the stream has room. */
static bool begin(struct mover *m, struct shmi_track *track) {
  struct stream *s = &m->streams[track->direction];
  const uint32_t before = track->begun, posted = shmi_observe32(&track->posted);
  while (!track->is_closing && track->begun != posted && s->begun - s->done < UNDER_WAY) {
    const uint32_t at = s->begun % UNDER_WAY;
    const cudaError_t error =
        submit(s, &track->copies[track->begun % SHMI_TRACK_COPIES], track->direction, s->events[at]);
    if (error != cudaSuccess) return fail(m, error, "starting a copy");
    s->tracks[at] = track;
    s->begun++;
    track->begun++;
  }
  return track->begun != before;
}

static bool end(struct mover *m, struct stream *s) {
  const uint32_t before = s->done;
  while (s->done != s->begun) {
    const uint32_t at = s->done % UNDER_WAY;
    const cudaError_t error = cudaEventQuery(s->events[at]);
    if (error == cudaErrorNotReady) break;
    if (error != cudaSuccess) return fail(m, error, "a copy");
    shmi_publish32(&s->tracks[at]->done, s->tracks[at]->done + 1);
    s->done++;
  }
  return s->done != before;
}

/* Whether anything went on. */
static bool go_round(struct mover *m) {
  bool moved = false;
  pthread_mutex_lock(&m->lock);
  for (struct shmi_track *track = m->tracks; track && !m->has_failed; track = track->next) moved |= begin(m, track);
  for (int d = 0; d < 2 && !m->has_failed; d++) moved |= end(m, &m->streams[d]);
  pthread_mutex_unlock(&m->lock);
  return moved;
}

static bool is_busy(const struct mover *m) {
  return m->streams[0].begun != m->streams[0].done || m->streams[1].begun != m->streams[1].done;
}

/* All posts before this are seen by a look at the tracks after it. */
static bool was_posted(struct mover *m) {
  bool posted = false;
  while (!sem_trywait(&m->waiting)) posted = true;
  return posted;
}

/* The next copy mostly follows soon. */
static void await_post(struct mover *m) {
  const uint64_t until = shmi_now_ns() + IDLE_NS;
  while (!was_posted(m)) {
    sched_yield();
    if (shmi_now_ns() < until) continue;
    while (sem_wait(&m->waiting)) continue; /* interrupted */
    return;
  }
}

/* What was submitted must not run any more when tracks are closed and their memory goes. */
static void let_end(struct mover *m) {
  const uint64_t until = shmi_now_ns() + PATIENCE_NS;
  for (int d = 0; d < 2; d++)
    while (cudaStreamQuery(m->streams[d].stream) == cudaErrorNotReady) {
      if (shmi_now_ns() > until) return;
      nanosleep(&moment, NULL);
    }
  cudaGetLastError();
  shmi_publish32(&m->is_over, 1);
}

static void *work(void *context) {
  struct mover *m = context;
  struct scope scope;
  pthread_setname_np(pthread_self(), "shmccl-mover");
  const cudaError_t error = enter(&scope, m->device);
  if (error != cudaSuccess) fail(m, error, "choosing the GPU");
  for (int looks = 0; !m->has_failed && !shmi_observe32(&m->stopping);) {
    if (go_round(m))
      looks = 0;
    else if (!is_busy(m))
      await_post(m);
    else if (looks++ < LOOKS)
      sched_yield();
    else
      nanosleep(&moment, NULL);
  }
  if (m->has_failed) let_end(m);
  return NULL;
}

/* ---- movers ------------------------------------------------------------------------------------------------------ */

/* A device that some thread has chosen; of this one, memory that is not a device's is refused. */
static shmccl_result_t device_of(const void *memory, int *device) {
  struct cudaPointerAttributes a;
  const cudaError_t error = cudaPointerGetAttributes(&a, memory);
  if (error != cudaSuccess) return report(error, "cudaPointerGetAttributes");
  if (a.type != cudaMemoryTypeDevice && a.type != cudaMemoryTypeManaged)
    return shmi_error(SHMCCL_ERROR_INVALID_ARGUMENT, "%p was given as CUDA memory, but no GPU has it", memory);
  *device = a.device;
  return SHMCCL_SUCCESS;
}

static cudaError_t make_stream(struct stream *s, int priority) {
  cudaError_t error = cudaStreamCreateWithPriority(&s->stream, cudaStreamNonBlocking, priority);
  for (int i = 0; i < UNDER_WAY && error == cudaSuccess; i++)
    error = cudaEventCreateWithFlags(&s->events[i], cudaEventDisableTiming);
  return error;
}

static cudaError_t make_streams(struct mover *m) {
  struct scope scope = {.device = m->device};
  int lowest, highest;
  cudaError_t error = enter(&scope, m->device);
  if (error == cudaSuccess) error = cudaDeviceGetStreamPriorityRange(&lowest, &highest);
  for (int d = 0; d < 2 && error == cudaSuccess; d++) error = make_stream(&m->streams[d], highest);
  leave(&scope, m->device);
  return error;
}

static void free_mover(struct mover *m) {
  for (int d = 0; d < 2; d++) {
    for (int i = 0; i < UNDER_WAY; i++)
      if (m->streams[d].events[i]) cudaEventDestroy(m->streams[d].events[i]);
    if (m->streams[d].stream) cudaStreamDestroy(m->streams[d].stream);
  }
  cudaGetLastError();
  pthread_mutex_destroy(&m->lock);
  sem_destroy(&m->waiting);
  free(m);
}

static shmccl_result_t start(struct mover *m) {
  const cudaError_t error = make_streams(m);
  if (error != cudaSuccess) return report(error, "making streams and events");
  const int number = shmi_thread_start(&m->thread, work, m);
  if (number) return shmi_error(SHMCCL_ERROR_SYSTEM, "no thread for a GPU's copies: error %d", number);
  return SHMCCL_SUCCESS;
}

/* With movers_lock held. */
static shmccl_result_t make_mover(struct mover **out, int device) {
  struct mover *m = calloc(1, sizeof *m);
  if (!m) return shmi_error(SHMCCL_ERROR_NO_MEMORY, "no memory for a GPU's copies: %m");
  m->device = device;
  pthread_mutex_init(&m->lock, NULL);
  sem_init(&m->waiting, 0, 0);
  const shmccl_result_t result = start(m);
  if (result != SHMCCL_SUCCESS) return free_mover(m), result;
  m->next = movers;
  movers = m;
  *out = m;
  return SHMCCL_SUCCESS;
}

/* With movers_lock held. Of a failed one: until its last track is closed, there is no other. */
static shmccl_result_t use_mover(struct mover **out, int device) {
  struct mover *m = movers;
  while (m && m->device != device) m = m->next;
  if (!m) SHMI_RETURN_IF_ERROR(make_mover(&m, device));
  m->users++;
  *out = m;
  return SHMCCL_SUCCESS;
}

/* With movers_lock held. */
static void leave_mover(struct mover *m) {
  if (--m->users) return;
  for (struct mover **at = &movers; *at; at = &(*at)->next)
    if (*at == m) {
      *at = m->next;
      break;
    }
  shmi_publish32(&m->stopping, 1);
  sem_post(&m->waiting);
  pthread_join(m->thread, NULL);
  free_mover(m);
}

/* A forked child has neither the threads nor the GPU. */
static void enter_movers(void) {
  pthread_mutex_lock(&movers_lock);
  if (fork_generation != shmi_fork_generation()) movers = NULL, pins = NULL;
  fork_generation = shmi_fork_generation();
}

static void leave_movers(void) { pthread_mutex_unlock(&movers_lock); }

int shmi_mover_devices(void) {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) count = 0;
  cudaGetLastError();
  return count;
}

static const char *probe_here(int device, void *page, size_t bytes) {
  struct shmi_pinned pinned;
  const char *why = shmi_cuda_register(device, &pinned, page, bytes, UINT64_MAX);
  if (!why) shmi_cuda_unregister(device, &pinned);
  return why;
}

const char *shmi_mover_probe(void) {
  const size_t bytes = (size_t)sysconf(_SC_PAGESIZE);
  int device;
  if (!shmi_mover_devices()) return "this process sees no GPU";
  const cudaError_t error = cudaGetDevice(&device);
  if (error != cudaSuccess) return cudaGetLastError(), cudaGetErrorString(error);
  void *page = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return "there is no memory";
  const char *why = probe_here(device, page, bytes);
  munmap(page, bytes);
  return why;
}

/* ---- tracks -------------------------------------------------------------------------------------------------------
 */

shmccl_result_t shmi_track_open(struct shmi_track **out, const void *memory, enum shmi_direction direction) {
  struct mover *m;
  int device;
  SHMI_RETURN_IF_ERROR(device_of(memory, &device));
  struct shmi_track *track = aligned_alloc(LINE, sizeof *track);
  if (!track) return shmi_error(SHMCCL_ERROR_NO_MEMORY, "no memory for a GPU's copies: %m");
  enter_movers();
  const shmccl_result_t result = use_mover(&m, device);
  leave_movers();
  if (result != SHMCCL_SUCCESS) return free(track), result;
  *track = (struct shmi_track){.mover = m, .direction = direction, .fork_generation = shmi_fork_generation()};
  pthread_mutex_lock(&m->lock);
  track->next = m->tracks;
  m->tracks = track;
  pthread_mutex_unlock(&m->lock);
  *out = track;
  return SHMCCL_SUCCESS;
}

/* Once nothing of it runs it is nobody's but the caller's. */
static bool take_out(struct shmi_track *track) {
  struct mover *m = track->mover;
  struct shmi_track **at = &m->tracks;
  pthread_mutex_lock(&m->lock);
  track->is_closing = true;
  const bool is_idle = track->begun == track->done || shmi_observe32(&m->is_over);
  while (is_idle && *at != track) at = &(*at)->next;
  if (is_idle) *at = track->next;
  pthread_mutex_unlock(&m->lock);
  return is_idle;
}

bool shmi_track_close(struct shmi_track *track) {
  const uint64_t until = shmi_now_ns() + PATIENCE_NS;
  if (!track) return true;
  if (track->fork_generation != shmi_fork_generation()) return false;
  while (!take_out(track)) {
    if (shmi_now_ns() > until) return false;
    nanosleep(&moment, NULL);
  }
  enter_movers();
  leave_mover(track->mover);
  leave_movers();
  free(track);
  return true;
}

shmccl_result_t shmi_track_check(const struct shmi_track *track, const void *memory) {
  int device;
  SHMI_RETURN_IF_ERROR(device_of(memory, &device));
  if (device == track->mover->device) return SHMCCL_SUCCESS;
  return shmi_error(SHMCCL_ERROR_INVALID_USAGE, "memory of device %d: the connection began with memory of device %d",
                    device, track->mover->device);
}

void shmi_track_post(struct shmi_track *track, void *to, const void *from, size_t bytes) {
  track->copies[track->posted % SHMI_TRACK_COPIES] = (struct copy){to, from, bytes};
  shmi_publish32(&track->posted, track->posted + 1);
  sem_post(&track->mover->waiting);
}

uint32_t shmi_track_done(const struct shmi_track *track) { return shmi_observe32(&track->done); }

shmccl_result_t shmi_track_state(const struct shmi_track *track) {
  struct mover *m = track->mover;
  if (!shmi_observe32(&m->has_failed)) return SHMCCL_SUCCESS;
  pthread_mutex_lock(&m->lock);
  const bool is_told = m->is_told;
  m->is_told = true;
  pthread_mutex_unlock(&m->lock);
  if (is_told) return SHMCCL_ERROR_CUDA;
  return report(m->error, m->what);
}

/* ---- registered memory ------------------------------------------------------------------------------------------- */

static struct pin **find_pin(const void *host) {
  struct pin **at = &pins;
  while (*at && (*at)->pinned.host != host) at = &(*at)->next;
  return at;
}

static const char *pin(int device, void *host, size_t bytes, uint64_t most) {
  struct pin *p = *find_pin(host);
  if (p) return p->users++, NULL;
  p = calloc(1, sizeof *p);
  if (!p) return "there is no memory";
  const char *why = shmi_cuda_register(device, &p->pinned, host, bytes, most);
  if (why) return free(p), why;
  p->device = device;
  p->users = 1;
  p->next = pins;
  pins = p;
  return NULL;
}

shmccl_result_t shmi_track_pin(const struct shmi_track *track, void *host, size_t bytes, uint64_t most) {
  enter_movers();
  const char *why = pin(track->mover->device, host, bytes, most);
  leave_movers();
  if (!why) return SHMCCL_SUCCESS;
  return shmi_error(SHMCCL_ERROR_NO_MEMORY,
                    "cannot register %zu KiB of host memory for the GPU: %s: raise SHMCCL_PINNED_BYTES, lower "
                    "NCCL_MAX_NCHANNELS, or unset SHMCCL_NET_GDR",
                    bytes >> 10, why);
}

void shmi_mover_unpin(void *host) {
  enter_movers();
  struct pin **at = find_pin(host), *p = *at;
  if (p && --p->users == 0) {
    *at = p->next;
    shmi_cuda_unregister(p->device, &p->pinned);
    free(p);
  }
  leave_movers();
}
