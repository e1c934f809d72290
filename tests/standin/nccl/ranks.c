/* ranks.c - see ranks.h. */
#include "ranks.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/ordering.h"

/* Waits here end at the latest when the harness ends the test. */

void rank_meet(struct rank *r) {
  uint32_t *meetings = r->party->shared->meetings;
  shmi_publish32(&meetings[r->rank], ++r->meetings);
  for (int peer = 0; peer < r->party->nranks; peer++)
    while (shmi_observe32(&meetings[peer]) < r->meetings) usleep(1000);
}

/* ---- communicators ----------------------------------------------------------------------------------------------- */

/* Rank 0 makes the id; its bootstrap thread lives in that process. */
static struct nccl_id next_id(struct rank *r) {
  struct shared_id *shared = &r->party->shared->ids[r->ncomms++];
  CHECK(r->ncomms <= MOST_COMMS);
  if (r->rank == 0) {
    CHECK_NCCL(nccl.GetUniqueId(&shared->id));
    shmi_publish32(&shared->is_there, 1);
  }
  while (!shmi_observe32(&shared->is_there)) usleep(1000);
  return shared->id;
}

nccl_comm_t rank_create_comm(struct rank *r, int *result) {
  const struct nccl_id id = next_id(r);
  nccl_comm_t comm = NULL;
  *result = nccl.CommInitRank(&comm, r->nranks, id, r->rank);
  return comm;
}

static void choose_gpu(const struct party *party, int rank) {
  int ngpus;
  CHECK_CUDA(cudaGetDeviceCount(&ngpus));
  CHECK_CUDA(cudaSetDevice(party->own_hosts ? 0 : rank));
}

struct rank rank_prepare(struct party *party, int rank) {
  struct rank r = {.party = party, .rank = rank, .nranks = party->nranks};
  char host[32];
  snprintf(host, sizeof host, "host-%d", rank);
  if (party->own_hosts) setenv("NCCL_HOSTID", host, 1);
  choose_gpu(party, rank);
  CHECK_CUDA(cudaStreamCreateWithFlags(&r.stream, cudaStreamNonBlocking));
  return r;
}

struct rank rank_open(struct party *party, int rank) {
  struct rank r = rank_prepare(party, rank);
  int result;
  r.comm = rank_create_comm(&r, &result);
  CHECK_NCCL(result);
  return r;
}

void rank_close(struct rank *r) {
  if (r->comm) CHECK_NCCL(nccl.CommDestroy(r->comm));
  CHECK_CUDA(cudaStreamDestroy(r->stream));
}

int rank_wait(struct rank *r) {
  for (;;) {
    const cudaError_t state = cudaStreamQuery(r->stream);
    int result = NCCL_SUCCESS;
    if (state == cudaSuccess) return NCCL_SUCCESS;
    if (state == cudaErrorLaunchFailure && r->party->traps) return NCCL_UNHANDLED_CUDA_ERROR;
    CHECK_TEXT(state == cudaErrorNotReady, "the stream: %s", cudaGetErrorString(state));
    CHECK_NCCL(nccl.CommGetAsyncError(r->comm, &result));
    if (result != NCCL_SUCCESS && result != NCCL_IN_PROGRESS) return result;
    usleep(50);
  }
}

/* ---- calls on device memory -------------------------------------------------------------------------------------- */

static uint8_t *mirror(const struct harness_buffer *b) {
  void *device = NULL;
  if (b->capacity) CHECK_CUDA(cudaMalloc(&device, b->capacity));
  return device;
}

static void upload(uint8_t *device, const struct harness_buffer *b) {
  if (device) CHECK_CUDA(cudaMemcpy(device, b->memory, b->capacity, cudaMemcpyHostToDevice));
}

static void download(const struct harness_buffer *b, const uint8_t *device) {
  if (device) CHECK_CUDA(cudaMemcpy(b->memory, device, b->capacity, cudaMemcpyDeviceToHost));
}

/* Where on the device a host address within one of the buffers is. */
static uint8_t *translate(const struct device_call *d, const uint8_t *host) {
  const struct harness_buffer *a = &d->host.a, *b = &d->host.b;
  if (!host) return NULL;
  return host >= a->memory && host < a->memory + a->capacity ? d->device_a + (host - a->memory)
                                                             : d->device_b + (host - b->memory);
}

void device_call_fill(struct device_call *d) {
  call_fill(&d->prepared, &d->host);
  upload(d->device_a, &d->host.a);
  upload(d->device_b, &d->host.b);
  CHECK_CUDA(cudaDeviceSynchronize()); /* cudaMemcpy may return before the device has all of it */
}

struct device_call device_call_open(const struct call *c, int rank, int nranks) {
  struct device_call d = {.prepared = call_prepare(c, rank, nranks)};
  call_fill(&d.prepared, &d.host);
  d.device_a = mirror(&d.host.a);
  d.device_b = mirror(&d.host.b);
  d.send = translate(&d, d.host.send);
  d.recv = translate(&d, d.host.recv);
  device_call_fill(&d);
  return d;
}

int device_call_make(const struct device_call *d, nccl_comm_t comm, cudaStream_t stream) {
  const struct call *c = &d->prepared.call;
  const int type = (int)c->type, op = (int)c->op;
  switch (c->collective) {
  case SHMI_ALLREDUCE: return nccl.AllReduce(d->send, d->recv, c->count, type, op, comm, stream);
  case SHMI_ALLGATHER: return nccl.AllGather(d->send, d->recv, c->count, type, comm, stream);
  case SHMI_REDUCE_SCATTER: return nccl.ReduceScatter(d->send, d->recv, c->count, type, op, comm, stream);
  case SHMI_BROADCAST: return nccl.Broadcast(d->send, d->recv, c->count, type, c->root, comm, stream);
  case SHMI_REDUCE: return nccl.Reduce(d->send, d->recv, c->count, type, op, c->root, comm, stream);
  case SHMI_ALLTOALL: return nccl.AlltoAll(d->send, d->recv, c->count, type, comm, stream);
  case SHMI_GATHER: return nccl.Gather(d->send, d->recv, c->count, type, c->root, comm, stream);
  case SHMI_SCATTER: return nccl.Scatter(d->send, d->recv, c->count, type, c->root, comm, stream);
  default: harness_fail(__FILE__, __LINE__, "NCCL has no collective %d", (int)c->collective);
  }
}

void device_call_check(struct device_call *d) {
  download(&d->host.a, d->device_a);
  download(&d->host.b, d->device_b);
  call_check(&d->prepared, &d->host);
}

void device_call_close(struct device_call *d) {
  CHECK_CUDA(cudaFree(d->device_a));
  CHECK_CUDA(cudaFree(d->device_b));
  call_release_buffers(&d->host);
  call_release(&d->prepared);
}

void rank_run(struct rank *r, const struct call *c) {
  char text[256];
  struct device_call d = device_call_open(c, r->rank, r->nranks);
  call_text(c, text);
  harness_note("%.200s", text);
  CHECK_NCCL(device_call_make(&d, r->comm, r->stream));
  CHECK_NCCL(rank_wait(r));
  device_call_check(&d);
  device_call_close(&d);
}
