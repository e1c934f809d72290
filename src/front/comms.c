/* comms.c - the table of known communicators. One lock for all of it: held for some instructions at a time. */
#include "front/comms.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "comm/device.h"
#include "shm/liveness.h"

enum { BUCKETS = 64 };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t decided = PTHREAD_COND_INITIALIZER;
static struct shmi_front_comm *buckets[BUCKETS];

static struct shmi_front_comm **place_of(nccl_comm_t handle) {
  struct shmi_front_comm **p = &buckets[((uintptr_t)handle >> 6 ^ (uintptr_t)handle >> 12) % BUCKETS];
  while (*p && (*p)->handle != handle) p = &(*p)->next;
  return p;
}

static void report(const struct shmi_front_comm *c) {
  const uint64_t *n = c->calls, *b = c->bytes;
  SHMI_INFO("front: rank %d of %d: %llu calls of %llu bytes in all diverted; %llu of %llu bytes left to NCCL "
            "(not agreed %llu, operator %llu, nothing to gain %llu)",
            c->rank, c->nranks, (unsigned long long)n[SHMI_FRONT_DIVERTED], (unsigned long long)b[SHMI_FRONT_DIVERTED],
            (unsigned long long)(n[SHMI_FRONT_NOT_AGREED] + n[SHMI_FRONT_NOT_OP] + n[SHMI_FRONT_NOT_USEFUL]),
            (unsigned long long)(b[SHMI_FRONT_NOT_AGREED] + b[SHMI_FRONT_NOT_OP] + b[SHMI_FRONT_NOT_USEFUL]),
            (unsigned long long)n[SHMI_FRONT_NOT_AGREED], (unsigned long long)n[SHMI_FRONT_NOT_OP],
            (unsigned long long)n[SHMI_FRONT_NOT_USEFUL]);
}

static void end(struct shmi_front_comm *comm) {
  report(comm);
  if (comm->engine) shmccl_comm_destroy(comm->engine);
  while (comm->expected) {
    struct shmi_expected *next = comm->expected->next;
    free(comm->expected);
    comm->expected = next;
  }
  while (comm->shrinks) {
    struct shmi_shrink *next = comm->shrinks->next;
    free(comm->shrinks);
    comm->shrinks = next;
  }
  free(comm);
}

static struct shmi_front_comm *make(nccl_comm_t handle, const uint8_t id[SHMI_ID_BYTES]) {
  struct shmi_front_comm *comm = calloc(1, sizeof *comm);
  if (!comm) return NULL;
  comm->handle = handle;
  comm->holders = 2; /* the handle, the caller */
  comm->fork_generation = shmi_fork_generation();
  memcpy(comm->id, id, sizeof comm->id);
  return comm;
}

/* Under the lock. The value: the one whose handle it was, which ended behind our back; to be released without it. */
static struct shmi_front_comm *insert(struct shmi_front_comm *comm) {
  struct shmi_front_comm **place = place_of(comm->handle), *stale = *place;
  if (stale) {
    *place = stale->next;
    place = place_of(comm->handle);
  }
  *place = comm;
  return stale;
}

struct shmi_front_comm *shmi_front_enter(nccl_comm_t handle, const uint8_t id[SHMI_ID_BYTES]) {
  struct shmi_front_comm *comm = make(handle, id);
  if (!comm) return NULL;
  pthread_mutex_lock(&lock);
  struct shmi_front_comm *stale = insert(comm);
  pthread_mutex_unlock(&lock);
  shmi_front_release(stale);
  return comm;
}

void shmi_front_expect(struct shmi_front_comm *parent, nccl_comm_t *place, const uint8_t id[SHMI_ID_BYTES]) {
  struct shmi_expected *e = malloc(sizeof *e);
  if (!e) return;
  e->place = place;
  memcpy(e->id, id, sizeof e->id);
  pthread_mutex_lock(&lock);
  e->next = parent->expected;
  parent->expected = e;
  pthread_mutex_unlock(&lock);
}

/* Under one lock: a thread that finds nothing expected any more must find it known. */
struct shmi_front_comm *shmi_front_next_expected(struct shmi_front_comm *parent) {
  struct shmi_front_comm *comm = NULL, *stale = NULL;
  pthread_mutex_lock(&lock);
  while (parent->expected && !comm) {
    struct shmi_expected *e = parent->expected;
    const nccl_comm_t handle = shmi_front_at(e->place); /* NULL: a split without this rank, or NCCL failed */
    parent->expected = e->next;
    if (handle && (comm = make(handle, e->id))) stale = insert(comm);
    free(e);
  }
  pthread_mutex_unlock(&lock);
  shmi_front_release(stale);
  return comm;
}

struct shmi_front_comm *shmi_front_hold(nccl_comm_t handle) {
  if (!handle) return NULL;
  pthread_mutex_lock(&lock);
  struct shmi_front_comm *comm = *place_of(handle);
  if (comm) comm->holders++;
  pthread_mutex_unlock(&lock);
  return comm;
}

void shmi_front_hold_again(struct shmi_front_comm *comm) {
  pthread_mutex_lock(&lock);
  comm->holders++;
  pthread_mutex_unlock(&lock);
}

static void drop(struct shmi_front_comm *comm, enum shmi_front_way way, uint64_t calls, uint64_t bytes) {
  pthread_mutex_lock(&lock);
  comm->calls[way] += calls;
  comm->bytes[way] += bytes;
  const bool last = !--comm->holders;
  pthread_mutex_unlock(&lock);
  if (last) end(comm);
}

void shmi_front_release(struct shmi_front_comm *comm) {
  if (comm) drop(comm, SHMI_FRONT_DIVERTED, 0, 0);
}

void shmi_front_count(struct shmi_front_comm *comm, enum shmi_front_way way, uint64_t bytes) {
  drop(comm, way, 1, bytes);
}

struct shmi_front_comm *shmi_front_leave(nccl_comm_t handle) {
  pthread_mutex_lock(&lock);
  struct shmi_front_comm **place = place_of(handle), *comm = *place;
  if (comm) *place = comm->next;
  pthread_mutex_unlock(&lock);
  return comm;
}

static bool is_forked(const struct shmi_front_comm *comm) { return comm->fork_generation != shmi_fork_generation(); }

bool shmi_front_await(struct shmi_front_comm *comm) {
  pthread_mutex_lock(&lock);
  while (comm->state == SHMI_FRONT_DECIDING && !comm->stopped && !is_forked(comm))
    pthread_cond_wait(&decided, &lock); /* births.c bounds it */
  const bool stopped = comm->stopped;
  pthread_mutex_unlock(&lock);
  return stopped;
}

bool shmi_front_begin(struct shmi_front_comm *comm) {
  pthread_mutex_lock(&lock);
  const bool first = comm->state == SHMI_FRONT_UNDECIDED, never = comm->stopped || comm->finalized || is_forked(comm);
  if (first) comm->state = never ? SHMI_FRONT_DECIDED : SHMI_FRONT_DECIDING;
  const bool decides = first && !never;
  pthread_mutex_unlock(&lock);
  return decides;
}

void shmi_front_decided(struct shmi_front_comm *comm, shmccl_comm_t *engine) {
  pthread_mutex_lock(&lock);
  const bool stopped = comm->stopped;
  comm->engine = engine;
  comm->state = SHMI_FRONT_DECIDED;
  pthread_cond_broadcast(&decided);
  pthread_mutex_unlock(&lock);
  if (stopped && engine) shmccl_comm_abort(engine);
}

bool shmi_front_look(struct shmi_front_comm *comm, shmccl_comm_t **engine) {
  pthread_mutex_lock(&lock);
  const bool is_decided = comm->state == SHMI_FRONT_DECIDED;
  *engine = is_decided && !comm->stopped && !comm->finalized && !comm->suspended ? comm->engine : NULL;
  pthread_mutex_unlock(&lock);
  return is_decided;
}

shmccl_comm_t *shmi_front_engine_of(struct shmi_front_comm *comm) {
  pthread_mutex_lock(&lock);
  shmccl_comm_t *engine = comm->stopped ? NULL : comm->engine;
  pthread_mutex_unlock(&lock);
  return engine;
}

bool shmi_front_set_control(struct shmi_front_comm *comm, shmccl_comm_t *control) {
  pthread_mutex_lock(&lock);
  const bool stopped = comm->stopped;
  comm->control = control;
  pthread_mutex_unlock(&lock);
  return !stopped;
}

void shmi_front_finalize(struct shmi_front_comm *comm) {
  pthread_mutex_lock(&lock);
  comm->finalized = true;
  pthread_mutex_unlock(&lock);
}

void shmi_front_suspend(struct shmi_front_comm *comm, bool suspended) {
  pthread_mutex_lock(&lock);
  comm->suspended = suspended;
  pthread_mutex_unlock(&lock);
}

/* The engine, and whether somebody else holds comm. */
static shmccl_comm_t *stop(struct shmi_front_comm *comm, bool *is_used) {
  pthread_mutex_lock(&lock);
  comm->stopped = true;
  pthread_cond_broadcast(&decided);
  if (comm->control) shmccl_comm_abort(comm->control); /* under the lock: it lives as long as it stands there */
  shmccl_comm_t *engine = comm->engine;
  *is_used = comm->holders > 1;
  pthread_mutex_unlock(&lock);
  return engine;
}

void shmi_front_abort(struct shmi_front_comm *comm) {
  bool is_used;
  shmccl_comm_t *engine = stop(comm, &is_used);
  if (engine) shmccl_comm_abort(engine);
}

void shmi_front_abort_last(struct shmi_front_comm *comm) {
  bool is_used;
  shmccl_comm_t *engine = stop(comm, &is_used);
  if (engine && (is_used || is_forked(comm) || !shmi_device_is_idle(engine))) shmccl_comm_abort(engine);
}
