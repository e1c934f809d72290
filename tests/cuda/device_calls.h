/*
 * device_calls.h - calls.h on device memory: a call's buffers, guard zones included, have twins on the device, which go
 * there before the call and come back after it, all on the call's stream.
 */
#ifndef DEVICE_CALLS_H
#define DEVICE_CALLS_H

#include <pthread.h>
#include <string.h>

#include "../standin/support.h"
#include "calls.h"

/* 1 where the runtime is CUDA's own: set by the build. */
#ifndef TESTS_ON_GPU
#define TESTS_ON_GPU 0
#endif

/*
 * Ranks that are threads. Where some share a GPU, freeing memory, or ending a graph, may wait for whatever runs there
 * (STANDIN_FREE_WAITS on the stand-in): for another rank's kernel, which waits for this rank's next call. So they meet
 * before and after what is under way.
 */
struct device_party {
  pthread_barrier_t meeting;
  bool meets;
};

static inline void device_party_open(struct device_party *p, int nranks) {
  int devices;
  OK(cudaGetDeviceCount(&devices));
  p->meets = nranks > devices && (TESTS_ON_GPU || setting("STANDIN_FREE_WAITS"));
  CHECK(!pthread_barrier_init(&p->meeting, NULL, (unsigned)nranks));
}

static inline void device_party_meet(struct device_party *p) {
  if (p->meets) pthread_barrier_wait(&p->meeting);
}

static inline void device_party_close(struct device_party *p) { pthread_barrier_destroy(&p->meeting); }

struct device_call {
  struct prepared prepared;
  struct buffers host;
  uint8_t *a, *b;        /* twins of host.a and host.b */
  struct buffers device; /* only send and recv */
  cudaStream_t stream;
};

static inline uint8_t *device_twin(const struct harness_buffer *b) {
  void *p = NULL;
  if (b->memory) OK(cudaMalloc(&p, b->capacity));
  return p;
}

/* The twin of a place in either buffer. */
static inline uint8_t *device_place(const struct device_call *c, const uint8_t *p) {
  const struct harness_buffer *a = &c->host.a, *b = &c->host.b;
  if (!p) return NULL;
  if (a->memory && p >= a->memory && p <= a->memory + a->capacity) return c->a + (p - a->memory);
  return c->b + (p - b->memory);
}

static inline void device_call_prepare(struct device_call *c, const struct call *call, int rank, int nranks,
                                       cudaStream_t stream) {
  *c = (struct device_call){.prepared = call_prepare(call, rank, nranks), .stream = stream};
  call_fill(&c->prepared, &c->host);
  c->a = device_twin(&c->host.a);
  c->b = device_twin(&c->host.b);
  c->device.send = device_place(c, c->host.send);
  c->device.recv = device_place(c, c->host.recv);
}

static inline void device_move(uint8_t *to, const uint8_t *from, size_t bytes, enum cudaMemcpyKind kind,
                               cudaStream_t stream) {
  if (to && from) OK(cudaMemcpyAsync(to, from, bytes, kind, stream));
}

static inline void device_call_send(struct device_call *c) {
  call_fill(&c->prepared, &c->host);
  device_move(c->a, c->host.a.memory, c->host.a.capacity, cudaMemcpyHostToDevice, c->stream);
  device_move(c->b, c->host.b.memory, c->host.b.capacity, cudaMemcpyHostToDevice, c->stream);
}

static inline void device_call_make(struct device_call *c, shmccl_comm_t *comm) {
  call_make_on(&c->prepared, &c->device, comm, c->stream);
}

static inline void device_call_check(struct device_call *c) {
  device_move(c->host.a.memory, c->a, c->host.a.capacity, cudaMemcpyDeviceToHost, c->stream);
  device_move(c->host.b.memory, c->b, c->host.b.capacity, cudaMemcpyDeviceToHost, c->stream);
  OK(cudaStreamSynchronize(c->stream));
  call_check(&c->prepared, &c->host);
}

static inline void device_call_release(struct device_call *c) {
  OK(cudaFree(c->a));
  OK(cudaFree(c->b));
  call_release(&c->prepared);
  call_release_buffers(&c->host);
}

#endif
