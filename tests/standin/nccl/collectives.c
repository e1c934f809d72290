/*
 * collectives.c - the schedules of NCCL's kernels: which chunk goes where in which order. Ring, tree, and the CollNet
 * chain with one rank per node.
 */
#include <string.h>

#include "kernels.h"

/* One channel's part of a collective, in elements. */
struct share {
  ssize_t total; /* of all channels */
  ssize_t offset, count, chunk;
};

static struct share share_of(const struct task *t, size_t bytes_per_element) {
  static const size_t grain_bytes[] = {[LL] = 16, [LL128] = 1920, [SIMPLE] = 512};
  const struct work_coll *w = t->coll;
  const ssize_t lo = (ssize_t)w->split.lo, mid = (ssize_t)w->split.mid, hi = (ssize_t)w->split.hi;
  const ssize_t grain = (ssize_t)(grain_bytes[t->function->protocol] / bytes_per_element);
  const int index = t->block->channel_id - w->channel_lo, nmid = (int)w->channel_hi - w->channel_lo - 1;
  const ssize_t total = lo + mid * nmid + hi;
  if (index == 0) return (struct share){total, 0, lo, (ssize_t)w->split.grains_lo * grain};
  if (index == nmid + 1) return (struct share){total, lo + mid * nmid, hi, (ssize_t)w->split.grains_hi * grain};
  return (struct share){total, lo + mid * (index - 1), mid, (ssize_t)w->split.grains_mid * grain};
}

static ssize_t least(ssize_t a, ssize_t b) { return a < b ? a : b; }

static char *at(void *buffer, ssize_t index, const struct pipe *p) {
  return (char *)buffer + index * (ssize_t)p->element_bytes;
}

/* ---- ring -------------------------------------------------------------------------------------------------------- */

static void open_ring(struct pipe *p, const struct task *t, int slices, int slice_steps) {
  const struct block *b = t->block;
  pipe_open(p, b, t->function, t->coll->redop_arg,
            &(struct pipe_plan){.recv = &b->channel->ring.prev,
                                .send = &b->channel->ring.next,
                                .most_recv = 1,
                                .most_send = 1,
                                .slices = slices,
                                .slice_steps = slice_steps});
}

/* Once round to reduce, once more to distribute; the hop in the middle does both. */
static void all_reduce_ring(const struct task *t) {
  const int n = t->block->comm->nranks, me = t->block->channel->ring.index;
  struct pipe p;
  open_ring(&p, t, 2, STEPS / 4);
  struct share s = share_of(t, p.element_bytes);
  const ssize_t round = n * s.chunk, pack = (ssize_t)(16 / p.element_bytes);
  for (ssize_t base = 0; base < s.count && !is_aborted(t->block); base += round) {
    const ssize_t left = s.count - base;
    if (left < round) s.chunk = ((left + n - 1) / n + pack - 1) / pack * pack;
    for (int hop = 1; hop < 2 * n; hop++) {
      const ssize_t first = (me + 2 * n - hop) % n * s.chunk, at_user = s.offset + base + first;
      unsigned what = 0;
      if (hop > 1) what |= DO_RECV;
      if (hop < 2 * n - 1) what |= DO_SEND;
      if (hop <= n) what |= FROM_INPUT;
      if (hop >= n) what |= TO_OUTPUT;
      if (hop == n) what |= COMPLETE;
      pipe_move(&p, what, at(t->coll->sendbuf, at_user, &p), at(t->coll->recvbuf, at_user, &p),
                least(s.chunk, left - first));
    }
  }
  pipe_close(&p);
}

static void all_gather_ring(const struct task *t) {
  const int n = t->block->comm->nranks, *order = t->block->channel->ring.user_ranks;
  struct pipe p;
  open_ring(&p, t, 2, STEPS / 4);
  const struct share s = share_of(t, p.element_bytes);
  for (ssize_t base = 0; base < s.count && !is_aborted(t->block); base += s.chunk) {
    const ssize_t elements = least(s.chunk, s.count - base), offset = s.offset + base;
    pipe_move(&p, DO_SEND | FROM_INPUT | TO_OUTPUT, at(t->coll->sendbuf, offset, &p),
              at(t->coll->recvbuf, offset + order[0] * s.total, &p), elements);
    for (int hop = 1; hop < n; hop++)
      pipe_move(&p, TO_OUTPUT | DO_RECV | (hop < n - 1 ? DO_SEND : 0u), NULL,
                at(t->coll->recvbuf, offset + order[n - hop] * s.total, &p), elements);
  }
  pipe_close(&p);
}

static void reduce_scatter_ring(const struct task *t) {
  const int n = t->block->comm->nranks, *order = t->block->channel->ring.user_ranks;
  struct pipe p;
  open_ring(&p, t, 2, STEPS / 4);
  const struct share s = share_of(t, p.element_bytes);
  for (ssize_t base = 0; base < s.count && !is_aborted(t->block); base += s.chunk) {
    const ssize_t elements = least(s.chunk, s.count - base), offset = s.offset + base;
    for (int hop = 1; hop <= n; hop++)
      pipe_move(&p, FROM_INPUT | (hop > 1 ? DO_RECV : 0u) | (hop < n ? DO_SEND : TO_OUTPUT | COMPLETE),
                at(t->coll->sendbuf, offset + order[n - hop] * s.total, &p), at(t->coll->recvbuf, offset, &p),
                elements);
  }
  pipe_close(&p);
}

static void broadcast_ring(const struct task *t) {
  const int root = (int)t->coll->root, *order = t->block->channel->ring.user_ranks;
  struct pipe p;
  open_ring(&p, t, 1, 1);
  const struct share s = share_of(t, p.element_bytes);
  const unsigned what = order[0] == root ? DO_SEND | FROM_INPUT : order[1] == root ? DO_RECV : DO_RECV | DO_SEND;
  for (ssize_t base = 0; base < s.count && !is_aborted(t->block); base += s.chunk) {
    const ssize_t offset = s.offset + base;
    pipe_move(&p, what | TO_OUTPUT, at(t->coll->sendbuf, offset, &p), at(t->coll->recvbuf, offset, &p),
              least(s.chunk, s.count - base));
  }
  pipe_close(&p);
}

/* The chain begins behind the root and ends at it. */
static void reduce_ring(const struct task *t) {
  const int root = (int)t->coll->root, n = t->block->comm->nranks, *order = t->block->channel->ring.user_ranks;
  struct pipe p;
  open_ring(&p, t, 1, 1);
  const struct share s = share_of(t, p.element_bytes);
  const unsigned what = order[n - 1] == root ? DO_SEND
                        : order[0] == root   ? DO_RECV | TO_OUTPUT | COMPLETE
                                             : DO_RECV | DO_SEND;
  for (ssize_t base = 0; base < s.count && !is_aborted(t->block); base += s.chunk) {
    const ssize_t offset = s.offset + base;
    pipe_move(&p, what | FROM_INPUT, at(t->coll->sendbuf, offset, &p), at(t->coll->recvbuf, offset, &p),
              least(s.chunk, s.count - base));
  }
  pipe_close(&p);
}

/* ---- tree -------------------------------------------------------------------------------------------------------- */

/* The root reduces and distributes in one task; everybody else has one for the way up and one for the way down. */
static void all_reduce_tree(const struct task *t) {
  const struct tree *tree = &t->block->channel->tree;
  const bool root = tree->up == -1, leaf = tree->down[0] == -1;
  const struct pipe_plan up = {.recv = tree->down, .most_recv = TREE_ARITY, .send = &tree->up, .most_send = 1},
                         down = {.recv = &tree->up, .most_recv = 1, .send = tree->down, .most_send = TREE_ARITY},
                         top = {
                             .recv = tree->down, .most_recv = TREE_ARITY, .send = tree->down, .most_send = TREE_ARITY};
  const unsigned what_up = FROM_INPUT | DO_SEND | (leaf ? 0u : DO_RECV),
                 what_down = TO_OUTPUT | DO_RECV | (leaf ? 0u : DO_SEND),
                 what_top = FROM_INPUT | DO_RECV | DO_SEND | TO_OUTPUT | COMPLETE;
  const unsigned what = root ? what_top : t->sends ? what_up : what_down;
  struct pipe_plan plan = root ? top : t->sends ? up : down;
  plan.slices = plan.slice_steps = 1;
  struct pipe p;
  pipe_open(&p, t->block, t->function, t->coll->redop_arg, &plan);
  const struct share s = share_of(t, p.element_bytes);
  for (ssize_t base = 0; base < s.count && !is_aborted(t->block); base += s.chunk) {
    const ssize_t offset = s.offset + base;
    pipe_move(&p, what, at(t->coll->sendbuf, offset, &p), at(t->coll->recvbuf, offset, &p),
              least(s.chunk, s.count - base));
  }
  pipe_close(&p);
}

/* ---- CollNet ----------------------------------------------------------------------------------------------------- */

/* With one rank per node the chain has one link: to the network and back, two tasks. The network counts as the rank
 * behind the last; the channels take turns at chunks. */
static void all_reduce_collnet_chain(const struct task *t) {
  const int network = t->block->comm->nranks;
  const int index = t->block->channel_id - t->coll->channel_lo,
            nchannels = t->coll->channel_hi - t->coll->channel_lo + 1;
  const ssize_t count = (ssize_t)t->coll->collnet.count, chunk = t->coll->collnet.chunk;
  struct pipe p;
  pipe_open(&p, t->block, t->function, t->coll->redop_arg,
            t->sends
                ? &(struct pipe_plan){.send = &network, .most_send = 1, .conn_index = 1, .slices = 1, .slice_steps = 1}
                : &(struct pipe_plan){.recv = &network, .most_recv = 1, .slices = 1, .slice_steps = 1});
  for (ssize_t base = index * chunk; base - index * chunk < count && !is_aborted(t->block); base += nchannels * chunk)
    pipe_move(&p, t->sends ? DO_SEND | FROM_INPUT : DO_RECV | TO_OUTPUT | COMPLETE, at(t->coll->sendbuf, base, &p),
              at(t->coll->recvbuf, base, &p), least(chunk, count - base));
  pipe_close(&p);
}

/* ---- choice ------------------------------------------------------------------------------------------------------ */

typedef void (*schedule)(const struct task *);

static schedule schedule_of(const struct block *b, const struct function *f) {
  static const schedule rings[COLLECTIVES] = {[ALL_GATHER] = all_gather_ring,
                                              [ALL_REDUCE] = all_reduce_ring,
                                              [BROADCAST] = broadcast_ring,
                                              [REDUCE] = reduce_ring,
                                              [REDUCE_SCATTER] = reduce_scatter_ring};
  if (f->algorithm == RING) return rings[f->collective];
  if (f->collective != ALL_REDUCE) return NULL;
  if (f->algorithm == TREE) return all_reduce_tree;
  return f->algorithm == COLLNET_CHAIN && b->comm->nnodes == b->comm->nranks ? all_reduce_collnet_chain : NULL;
}

void run_collective(const struct block *b, const struct function *f, const struct work_coll *given) {
  struct work_coll w = *given;
  const struct task task = {.run = schedule_of(b, f), .block = b, .function = f, .coll = &w};
  struct task both[] = {task, task};
  const bool one_task = f->algorithm == RING || (f->algorithm == TREE && b->channel->tree.up == -1);
  if (!task.run) give_up("collective %d with algorithm %d is not emulated", (int)f->collective, (int)f->algorithm);
  if (w.reg_used || w.net_reg_used) give_up("registered user buffers are not emulated");
  if (w.redop_arg_is_ptr) memcpy(&w.redop_arg, (const void *)w.redop_arg, element_bytes(f->element));
  both[0].sends = true;
  run_tasks(both, one_task ? 1 : 2);
}
