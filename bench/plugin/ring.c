/*
 * ring.c - NCCL's ring all-reduce over net: one channel, Simple protocol.
 *
 * The message is cut into loops of nranks chunks. In a loop a rank sends its own piece of one chunk, then receives,
 * reduces and sends on, then receives and sends on, then receives: 2 (nranks - 1) messages, each in slices of a FIFO's
 * step. Sends and receives are two streams with up to eight steps under way; the kernel works in order.
 */
#include "way.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_BYTES = 4 * WAY_STEP_BYTES };

struct stream {
  void *comm, *mhandle, *requests[WAY_STEPS];
  char *fifo;
  uint32_t posted, done; /* steps */
};

struct ring {
  const struct team *team;
  const nccl_net_v10_t *net;
  struct stream send, recv;
  size_t received[WAY_STEPS];
};

/* ---- set-up ------------------------------------------------------------------------------------------------------ */

static void connect_both(struct ring *r, char next_handle[NCCL_NET_HANDLE_BYTES], void *listen_comm) {
  nccl_net_device_handle_t *none = NULL;
  while (!r->send.comm || !r->recv.comm) {
    if (!r->send.comm) way_check(r->team, r->net->connect(0, NULL, next_handle, &r->send.comm, &none), "connect");
    if (!r->recv.comm) way_check(r->team, r->net->accept(listen_comm, &r->recv.comm, &none), "accept");
    sched_yield();
  }
}

static void prepare(struct ring *r, struct stream *s) {
  s->fifo = way_fifo(r->team);
  way_check(r->team, r->net->reg_mr(s->comm, s->fifo, WAY_STEPS * WAY_STEP_BYTES, NCCL_PTR_HOST, &s->mhandle), "regMr");
}

static void *ring_open(const struct team *team, const char *plugin) {
  struct ring *r = calloc(1, sizeof *r);
  char mine[NCCL_NET_HANDLE_BYTES], all[TEAM_MOST][TEAM_BYTES];
  void *listen_comm;
  int ndevices = 0;
  if (!r) team_fail(team, "no memory");
  r->team = team;
  r->net = way_symbol(team, plugin, "ncclNetPlugin_v10");
  way_check(team, r->net->init(way_logger, NULL), "init");
  way_check(team, r->net->devices(&ndevices), "devices");
  way_check(team, r->net->listen(0, mine, &listen_comm), "listen");
  team_gather(team, mine, sizeof mine, all);
  connect_both(r, all[(team->rank + 1) % team->nranks], listen_comm);
  way_check(team, r->net->close_listen(listen_comm), "closeListen");
  prepare(r, &r->send);
  prepare(r, &r->recv);
  return r;
}

static void ring_close(void *self) {
  struct ring *r = self;
  r->net->dereg_mr(r->send.comm, r->send.mhandle);
  r->net->dereg_mr(r->recv.comm, r->recv.mhandle);
  way_check(r->team, r->net->close_send(r->send.comm), "closeSend");
  way_check(r->team, r->net->close_recv(r->recv.comm), "closeRecv");
  free(r->send.fifo);
  free(r->recv.fifo);
  free(r);
}

/* ---- the streams: NCCL's progress thread ------------------------------------------------------------------------- */

static char *step_of(const struct stream *s, uint32_t step) { return s->fifo + step % WAY_STEPS * WAY_STEP_BYTES; }

static void send_step(struct ring *r, size_t bytes) {
  struct stream *s = &r->send;
  void **request = &s->requests[s->posted % WAY_STEPS];
  do {
    *request = NULL;
    way_check(r->team, r->net->isend(s->comm, step_of(s, s->posted), bytes, 0, s->mhandle, NULL, request), "isend");
  } while (!*request);
  s->posted++;
}

/* `consumed` steps are free again; no more than `needed` in all will come. */
static void post_receives(struct ring *r, uint32_t consumed, uint32_t needed) {
  struct stream *s = &r->recv;
  while (s->posted != needed && s->posted - consumed < WAY_STEPS) {
    void *data = step_of(s, s->posted), *request = NULL, *profiler = NULL;
    size_t bytes = WAY_STEP_BYTES;
    int tag = 0;
    way_check(r->team, r->net->irecv(s->comm, 1, &data, &bytes, &tag, &s->mhandle, &profiler, &request), "irecv");
    if (!request) return;
    s->requests[s->posted++ % WAY_STEPS] = request;
  }
}

static void progress(struct ring *r, struct stream *s) {
  int done = 0, bytes = 0;
  if (s->done == s->posted) return;
  way_check(r->team, r->net->test(s->requests[s->done % WAY_STEPS], &done, &bytes), "test");
  if (done) s->done++;
}

/* ---- the kernel -------------------------------------------------------------------------------------------------- */

struct loop { /* nranks chunks from `first` on, the last of them maybe short or empty */
  size_t first, chunk, count;
  int kernel;
};

static size_t chunk_count(const struct loop *l, size_t chunk) {
  const size_t at = l->first + chunk * l->chunk;
  if (at >= l->count) return 0;
  return l->count - at < l->chunk ? l->count - at : l->chunk;
}

static void reduce(float *to, const float *a, const float *b, size_t count) {
  for (size_t i = 0; i < count; i++) to[i] = a[i] + b[i];
}

/* One slice of a hop, at element `at`. Hop 0 only sends, hops up to n-1 reduce, the last only receives. */
static void work(struct ring *r, int hop, const float *sendbuf, float *recvbuf, size_t at, size_t count,
                 uint32_t consumed) {
  const int n = r->team->nranks;
  float *out = (float *)(void *)step_of(&r->send, r->send.posted);
  const float *in = (const float *)(const void *)step_of(&r->recv, consumed);
  if (hop == 0) {
    memcpy(out, sendbuf + at, count * sizeof *out);
  } else if (hop < n - 1) {
    reduce(out, in, sendbuf + at, count);
  } else if (hop == n - 1) {
    reduce(recvbuf + at, in, sendbuf + at, count);
    memcpy(out, recvbuf + at, count * sizeof *out);
  } else {
    memcpy(recvbuf + at, in, count * sizeof *out);
    if (hop < 2 * n - 2) memcpy(out, in, count * sizeof *out);
  }
}

static uint32_t slices_of(size_t count) {
  const size_t slice = WAY_STEP_BYTES / sizeof(float);
  return count ? (uint32_t)((count + slice - 1) / slice) : 1; /* an empty chunk is a message too */
}

static void run_loop(struct ring *r, const struct loop *l, const float *sendbuf, float *recvbuf, uint32_t *consumed) {
  const int n = r->team->nranks, hops = 2 * n - 2;
  const size_t most = WAY_STEP_BYTES / sizeof(float);
  uint32_t needed = r->recv.posted;
  for (int hop = 1; hop <= hops; hop++)
    needed += slices_of(chunk_count(l, (size_t)((r->team->rank - hop + 2 * n) % n)));
  for (int hop = 0; hop <= hops; hop++) {
    const size_t chunk = (size_t)((r->team->rank - hop + 2 * n) % n), count = chunk_count(l, chunk);
    for (size_t done = 0, slices = slices_of(count); slices; slices--) {
      const size_t slice = count - done < most ? count - done : most;
      const uint32_t had = *consumed;
      while ((hop > 0 && r->recv.done == had) || (hop < hops && r->send.posted - r->send.done == WAY_STEPS)) {
        post_receives(r, had, needed);
        progress(r, &r->recv);
        progress(r, &r->send);
        if (hop > 0 && r->recv.done == had) sched_yield();
      }
      if (l->kernel) work(r, hop, sendbuf, recvbuf, l->first + chunk * l->chunk + done, slice, had);
      if (hop < hops) send_step(r, slice * sizeof(float));
      if (hop > 0) *consumed = had + 1;
      done += slice;
    }
  }
}

static void ring_allreduce(void *self, const float *sendbuf, float *recvbuf, size_t count, int kernel) {
  struct ring *r = self;
  const size_t n = (size_t)r->team->nranks, most = CHUNK_BYTES / sizeof(float), share = (count + n - 1) / n;
  const size_t chunk = share < most ? share : most;
  uint32_t consumed = r->recv.done;
  for (size_t first = 0; first < count; first += chunk * n)
    run_loop(r, &(struct loop){first, chunk, count, kernel}, sendbuf, recvbuf, &consumed);
  while (r->send.done != r->send.posted) progress(r, &r->send);
}

const struct way way_ring = {"ring", ring_open, ring_allreduce, ring_close};
