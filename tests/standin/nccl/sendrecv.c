/*
 * sendrecv.c - point to point: each message is cut into one part per channel, and all parts that a batch has on this
 * channel are moved at the same time.
 */
#include <string.h>

#include "kernels.h"

/* NCCL's 8-bit form of a chunk size: 3 bits of fraction, 5 of exponent. */
static size_t decode_chunk(uint8_t x) {
  const size_t exponent = x >> 3, fraction = x & 7;
  return exponent ? (fraction | 8) << (exponent - 1) : fraction;
}

static void move_message(const struct task *t) {
  const struct work_p2p *w = t->p2p;
  const size_t bytes = t->sends ? w->send_bytes : w->recv_bytes;
  const size_t chunk = decode_chunk(t->sends ? w->send_chunk_fp8 : w->recv_chunk_fp8);
  const struct pipe_plan send = {.send = &w->send_rank, .most_send = 1}, recv = {.recv = &w->recv_rank, .most_recv = 1};
  struct pipe_plan plan = t->sends ? send : recv;
  plan.conn_index = plan.slices = plan.slice_steps = 1;
  plan.step_bytes = (size_t)t->block->comm->p2p_chunk_bytes;
  struct pipe p;
  size_t moved = 0;
  pipe_open(&p, t->block, t->function, 0, &plan);
  do {
    const size_t n = bytes - moved < chunk ? bytes - moved : chunk;
    if (t->sends)
      pipe_move(&p, DO_SEND | FROM_INPUT, w->send_addr + moved, NULL, (ssize_t)n);
    else
      pipe_move(&p, DO_RECV | TO_OUTPUT, NULL, w->recv_addr + moved, (ssize_t)n);
    moved += n;
  } while (moved < bytes && !is_aborted(t->block));
  pipe_close(&p);
}

/* Narrows a message to its part for a channel; false if that channel has none. */
static bool narrow(char **addr, size_t *bytes, int part, int nparts) {
  enum { UNIT = 4096 };
  if (part >= nparts) return false;
  const size_t each = ((*bytes + (size_t)nparts - 1) / (size_t)nparts + UNIT - 1) / UNIT * UNIT;
  const size_t begin = each * (size_t)part < *bytes ? each * (size_t)part : *bytes;
  *addr += begin;
  *bytes = *bytes - begin < each ? *bytes - begin : each;
  return true;
}

/* Adds the tasks of one work. */
static int add_tasks(struct task *tasks, const struct task *like, struct work_p2p *w, const struct function *f) {
  const int part = (like->block->channel_id - w->channel_base) & (w->nchannels - 1);
  const bool send = narrow(&w->send_addr, &w->send_bytes, part, w->send_channels);
  const bool recv = narrow(&w->recv_addr, &w->recv_bytes, part, w->recv_channels);
  int n = 0;
  if (w->send_rank == like->block->comm->rank) {
    if (send && w->send_addr != w->recv_addr) memmove(w->recv_addr, w->send_addr, w->send_bytes);
    return 0;
  }
  if ((send && (w->send_ipc_reg || w->send_net_reg)) || (recv && (w->recv_ipc_reg || w->recv_net_reg)))
    give_up("registered user buffers are not emulated");
  if (send) {
    tasks[n] = *like;
    tasks[n].sends = true;
    tasks[n].function = &f[w->send_ll];
    tasks[n++].p2p = w;
  }
  if (recv) {
    tasks[n] = *like;
    tasks[n].function = &f[w->recv_ll];
    tasks[n++].p2p = w;
  }
  return n;
}

void run_sendrecv(const struct block *b, const struct function *f, const struct work_p2p *works, int count) {
  struct function by_protocol[] = {*f, *f}; /* SIMPLE, LL */
  struct work_p2p own[MOST_WORKS];
  struct task tasks[2 * MOST_WORKS];
  const struct task like = {.run = move_message, .block = b};
  int n = 0;
  by_protocol[0].protocol = SIMPLE;
  by_protocol[1].protocol = LL;
  for (int i = 0; i < count; i++) {
    own[i] = works[i];
    n += add_tasks(&tasks[n], &like, &own[i], by_protocol);
  }
  run_tasks(tasks, n);
}
