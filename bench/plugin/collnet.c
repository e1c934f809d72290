/*
 * collnet.c - NCCL's CollNet chain with one rank a node: copy to the send FIFO, iallreduce, copy from the receive FIFO.
 *
 * One channel, chunks as NCCL chooses them, whole chunks whatever is left of the message, eight under way.
 */
#include "way.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

struct chain {
  const struct team *team;
  const nccl_collnet_v10_t *collnet;
  void *comm, *send_mhandle, *recv_mhandle;
  char *send, *recv;
};

static void *chain_open(const struct team *team, const char *plugin) {
  struct chain *c = calloc(1, sizeof *c);
  char mine[NCCL_NET_HANDLE_BYTES], all[TEAM_MOST][TEAM_BYTES];
  void *handles[TEAM_MOST], *listen_comm;
  const size_t bytes = WAY_STEPS * WAY_STEP_BYTES;
  if (!c) team_fail(team, "no memory");
  c->team = team;
  c->collnet = way_symbol(team, plugin, "ncclCollNetPlugin_v10");
  way_check(team, c->collnet->init(way_logger), "init");
  way_check(team, c->collnet->listen(0, mine, &listen_comm), "listen");
  team_gather(team, mine, sizeof mine, all);
  for (int r = 0; r < team->nranks; r++) handles[r] = all[r];
  way_check(team, c->collnet->connect(handles, team->nranks, team->rank, listen_comm, &c->comm), "connect");
  way_check(team, c->collnet->close_listen(listen_comm), "closeListen");
  c->send = way_fifo(team);
  c->recv = way_fifo(team);
  way_check(team, c->collnet->reg_mr(c->comm, c->send, bytes, NCCL_PTR_HOST, &c->send_mhandle), "regMr");
  way_check(team, c->collnet->reg_mr(c->comm, c->recv, bytes, NCCL_PTR_HOST, &c->recv_mhandle), "regMr");
  return c;
}

/* NCCL's, for one channel and one rank a node. */
static size_t chunk_bytes(size_t bytes) {
  if (bytes / (256 << 10) >= 64) return 256 << 10;
  if (bytes / (128 << 10) >= 8) return 128 << 10;
  return bytes / (64 << 10) >= 1 ? 64 << 10 : 32 << 10;
}

static void *start(struct chain *c, size_t step, size_t chunk) {
  const size_t at = step % WAY_STEPS * WAY_STEP_BYTES;
  void *request = NULL;
  while (!request)
    way_check(c->team,
              c->collnet->iallreduce(c->comm, c->send + at, c->recv + at, chunk / sizeof(float), NCCL_FLOAT32, NCCL_SUM,
                                     c->send_mhandle, c->recv_mhandle, &request),
              "iallreduce");
  return request;
}

static void finish(struct chain *c, void *request) {
  for (int done = 0, bytes; !done;) {
    way_check(c->team, c->collnet->test(request, &done, &bytes), "test");
    if (!done) sched_yield();
  }
}

static void chain_allreduce(void *self, const float *sendbuf, float *recvbuf, size_t count, int kernel) {
  struct chain *c = self;
  const size_t bytes = count * sizeof *sendbuf, chunk = chunk_bytes(bytes), steps = (bytes + chunk - 1) / chunk;
  void *requests[WAY_STEPS];
  for (size_t posted = 0, done = 0; done < steps;) {
    const size_t step = posted < steps && posted < done + WAY_STEPS ? posted : done;
    const size_t at = step * chunk, length = bytes - at < chunk ? bytes - at : chunk;
    const size_t slot = step % WAY_STEPS;
    if (step == posted) {
      if (kernel) memcpy(c->send + slot * WAY_STEP_BYTES, (const char *)sendbuf + at, length);
      requests[slot] = start(c, posted++, chunk);
    } else {
      finish(c, requests[slot]);
      if (kernel) memcpy((char *)recvbuf + at, c->recv + slot * WAY_STEP_BYTES, length);
      done++;
    }
  }
}

static void chain_close(void *self) {
  struct chain *c = self;
  c->collnet->dereg_mr(c->comm, c->send_mhandle);
  c->collnet->dereg_mr(c->comm, c->recv_mhandle);
  way_check(c->team, c->collnet->close_coll(c->comm), "closeColl");
  free(c->send);
  free(c->recv);
  free(c);
}

const struct way way_collnet = {"collnet", chain_open, chain_allreduce, chain_close};
