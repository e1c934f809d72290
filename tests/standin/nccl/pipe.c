/* pipe.c - see pipe.h. */
#include "pipe.h"

#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/ordering.h"
#include "cudart_standin.h"

void give_up(const char *format, ...) {
  char text[256];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  fprintf(stderr, "stand-in NCCL kernels: %s\n", text);
  abort();
}

bool is_aborted(const struct block *b) {
  return shmi_observe32(b->comm->abort_flag) != 0 || standin_broken(b->device) != cudaSuccess;
}

static size_t div_up(size_t x, size_t unit) { return (x + unit - 1) / unit; }
static size_t round_up(size_t x, size_t unit) { return div_up(x, unit) * unit; }

/* ---- waiting ----------------------------------------------------------------------------------------------------- */

/* Yields at first, then sleeps: the proxies need the cores that kernels leave to them. */
static void relax(int spins) {
  if (spins < 50)
    sched_yield();
  else
    nanosleep(&(struct timespec){.tv_nsec = spins < 1000 ? 20000 : 200000}, NULL);
}

/* Until *counter >= least. Counters of the receiving side start below 0, as if STEPS had been consumed. */
static void await(const struct block *b, const uint64_t *counter, int64_t least) {
  for (int spins = 0; (int64_t)shmi_observe64(counter) < least && !is_aborted(b); spins++) relax(spins);
}

static void await_data(const struct pipe *p, const struct pipe_end *e) {
  await(p->block, e->conn->tail, (int64_t)e->step + p->slice_steps);
}

static void await_room(const struct pipe *p, const struct pipe_end *e) {
  await(p->block, e->conn->head, (int64_t)e->step + p->slice_steps - STEPS);
}

static struct fifo_slot *fifo_slot(const struct pipe_end *e) {
  return e->conn->fifo ? &e->conn->fifo[e->step % STEPS] : NULL;
}

/* For the proxy, before the step is published. */
static void announce(const struct pipe_end *e, size_t bytes) {
  if (e->conn->fifo) shmi_publish64((uint64_t *)&fifo_slot(e)->size, bytes);
}

static void publish_consumed(struct pipe *p) {
  for (int i = 0; i < p->nrecv; i++) {
    p->recv[i].step += (uint64_t)p->slice_steps;
    shmi_publish64(p->recv[i].conn->head, p->recv[i].step);
  }
}

static void publish_sent(struct pipe *p) {
  for (int i = 0; i < p->nsend; i++) {
    p->send[i].step += (uint64_t)p->slice_steps;
    if (p->protocol != LL) shmi_publish64(p->send[i].conn->tail, p->send[i].step); /* LL's flags tell it all */
  }
}

/* ---- opening ----------------------------------------------------------------------------------------------------- */

/* A host address in a connection is an error that real hardware does not show everywhere. */
static void check_addresses(const struct block *b, const struct conn *c, enum protocol protocol) {
  const void *const addresses[] = {c->head, c->tail, c->fifo, c->buffs[protocol]};
  static const char *const names[] = {"head", "tail", "fifo", "buffer"};
  for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++)
    if (addresses[i] && !standin_device_can_use(addresses[i], sizeof(uint64_t), b->device))
      give_up("the %s of a connection, %p, is no address of device %d", names[i], addresses[i], b->device);
}

static struct pipe_end open_end(const struct pipe *p, struct conn *c) {
  check_addresses(p->block, c, p->protocol);
  return (struct pipe_end){c, round_up(c->step, (size_t)p->slices * (size_t)p->slice_steps)};
}

static bool moves_bytes(const struct function *f) {
  return f->collective != ALL_REDUCE && f->collective != REDUCE && f->collective != REDUCE_SCATTER;
}

void pipe_open(struct pipe *p, const struct block *b, const struct function *function, uint64_t redop_argument,
               const struct pipe_plan *plan) {
  const bool simple = function->protocol == SIMPLE;
  const size_t usual_step = (size_t)b->comm->buff_bytes[SIMPLE] / STEPS;
  struct peer **peers = b->channel->peers;
  *p = (struct pipe){.block = b,
                     .protocol = function->protocol,
                     .arithmetic = {moves_bytes(function) ? SUM : function->op, function->element, redop_argument},
                     .element_bytes = moves_bytes(function) ? 1 : element_bytes(function->element),
                     .slices = simple ? plan->slices : 1,
                     .slice_steps = simple ? plan->slice_steps : 1};
  p->step_elements = (plan->step_bytes ? plan->step_bytes : usual_step) / p->element_bytes;
  for (; p->nrecv < plan->most_recv && plan->recv[p->nrecv] != -1; p->nrecv++)
    p->recv[p->nrecv] = open_end(p, &peers[plan->recv[p->nrecv]]->recv[plan->conn_index]);
  for (; p->nsend < plan->most_send && plan->send[p->nsend] != -1; p->nsend++)
    p->send[p->nsend] = open_end(p, &peers[plan->send[p->nsend]]->send[plan->conn_index]);
}

void pipe_close(struct pipe *p) {
  for (int i = 0; i < p->nrecv; i++) p->recv[i].conn->step = p->recv[i].step;
  for (int i = 0; i < p->nsend; i++) p->send[i].conn->step = p->send[i].step;
}

/* ---- combining --------------------------------------------------------------------------------------------------- */

enum { MOST_ENDS = TREE_ARITY + 1 }; /* and the user's buffer */

/* Where the elements of one slice come from and go to. The user's input is the last source. */
struct slice {
  const void *from[MOST_ENDS];
  void *to[MOST_ENDS];
  int nfrom, nto;
  size_t elements;
};

static void combine(const struct pipe *p, unsigned what, struct slice *s) {
  const size_t bytes = s->elements * p->element_bytes;
  void *scaled = NULL;
  if (!bytes || !s->nto) return;
  if (!s->to[0] || !s->from[0]) give_up("%zu bytes from %p to %p", bytes, s->from[0], s->to[0]);
  if ((what & FROM_INPUT) && p->arithmetic.op == PRE_MUL_SUM) {
    scaled = malloc(bytes);
    arithmetic_before(&p->arithmetic, scaled, s->from[s->nfrom - 1], s->elements);
    s->from[s->nfrom - 1] = scaled;
  }
  if (s->nfrom > 1)
    arithmetic_combine(&p->arithmetic, s->to[0], s->from, s->nfrom, s->elements);
  else if (s->to[0] != s->from[0])
    memcpy(s->to[0], s->from[0], bytes);
  if (what & COMPLETE) arithmetic_after(&p->arithmetic, s->to[0], s->elements);
  for (int i = 1; i < s->nto; i++) memcpy(s->to[i], s->to[0], bytes);
  free(scaled);
}

/* ---- SIMPLE: counters tell when a slot is full or free ----------------------------------------------------------- */

static char *slot(const struct pipe_end *e) {
  const struct fifo_slot *f = fifo_slot(e);
  if (f && f->mode == 1) return e->conn->buffs[SIMPLE] + *(const volatile int *)&f->offset;
  return e->conn->buffs[SIMPLE] + (e->step % STEPS) * (size_t)e->conn->step_bytes;
}

static void move_slice(struct pipe *p, unsigned what, const void *in, void *out, size_t elements) {
  struct slice s = {.elements = elements};
  for (int i = 0; i < p->nrecv && (what & DO_RECV); i++) {
    await_data(p, &p->recv[i]);
    s.from[s.nfrom++] = slot(&p->recv[i]);
  }
  for (int i = 0; i < p->nsend && (what & DO_SEND); i++) {
    await_room(p, &p->send[i]);
    announce(&p->send[i], elements * p->element_bytes);
    s.to[s.nto++] = slot(&p->send[i]);
  }
  if (is_aborted(p->block)) return;
  if (what & TO_OUTPUT) s.to[s.nto++] = out;
  if (what & FROM_INPUT) s.from[s.nfrom++] = in;
  combine(p, what, &s);
  if (what & DO_RECV) publish_consumed(p);
  if (what & DO_SEND) publish_sent(p);
}

/* NCCL cuts a chunk into even slices of whole 16 elements, and none below a 32nd of a full one. */
static void move_simple(struct pipe *p, unsigned what, const char *in, char *out, size_t elements) {
  const size_t full = p->step_elements * (size_t)p->slice_steps;
  const size_t even = div_up(elements, 16 * (size_t)p->slices) * 16, each = even > full / 32 ? even : full / 32;
  for (int s = 0; s < p->slices && !is_aborted(p->block); s++) {
    const size_t begin = (size_t)s * each < elements ? (size_t)s * each : elements;
    const size_t n = elements - begin < each ? elements - begin : each, at = begin * p->element_bytes;
    move_slice(p, what, in ? in + at : NULL, out ? out + at : NULL, n);
  }
}

/* ---- LL and LL128: every line carries a flag, the number of its step --------------------------------------------- */

/* A line of LL: twice 4 bytes of data and 4 of flag. Of LL128: 15 words of data and one of flag; lines go in sixteens.
 * NCCL's own places of the data within the lines of LL128 differ; nobody but kernels looks at them. */
static const struct line_format {
  size_t bytes, data_bytes, together;
} formats[] = {[LL] = {16, 8, 1}, [LL128] = {128, 120, 16}};

static char *first_line(const struct pipe *p, const struct pipe_end *e) {
  return e->conn->buffs[p->protocol] + e->step % STEPS * ((size_t)p->block->comm->buff_bytes[p->protocol] / STEPS);
}

static void put_half(char *line, const char *data, uint64_t flag) {
  uint32_t bits;
  memcpy(&bits, data, sizeof bits);
  shmi_publish64((uint64_t *)line, flag << 32 | bits);
}

static void put_line(enum protocol protocol, char *line, const char *data, uint64_t flag) {
  if (protocol == LL) {
    put_half(line, data, flag);
    put_half(line + 8, data + 4, flag);
    return;
  }
  memcpy(line, data, formats[LL128].data_bytes);
  shmi_publish64((uint64_t *)(line + formats[LL128].data_bytes), flag);
}

/* Whether the line is there; then its data is copied. */
static bool take_line(enum protocol protocol, const char *line, char *data, uint64_t flag) {
  if (protocol == LL) {
    const uint64_t a = shmi_observe64((const uint64_t *)line), b = shmi_observe64((const uint64_t *)(line + 8));
    const uint32_t bits[] = {(uint32_t)a, (uint32_t)b};
    memcpy(data, bits, sizeof bits);
    return a >> 32 == (uint32_t)flag && b >> 32 == (uint32_t)flag;
  }
  if (shmi_observe64((const uint64_t *)(line + formats[LL128].data_bytes)) != flag) return false;
  memcpy(data, line, formats[LL128].data_bytes);
  return true;
}

static void take_lines(const struct pipe *p, const struct pipe_end *e, char *data, size_t nlines) {
  const struct line_format *f = &formats[p->protocol];
  const char *line = first_line(p, e);
  for (size_t i = 0; i < nlines; i++)
    for (int spins = 0; !take_line(p->protocol, line + i * f->bytes, data + i * f->data_bytes, e->step + 1); spins++) {
      if (is_aborted(p->block)) return;
      relax(spins);
    }
}

static void put_lines(const struct pipe *p, const struct pipe_end *e, const char *data, size_t nlines) {
  const struct line_format *f = &formats[p->protocol];
  char *line = first_line(p, e);
  for (size_t i = 0; i < nlines; i++) put_line(p->protocol, line + i * f->bytes, data + i * f->data_bytes, e->step + 1);
}

static void move_lines(struct pipe *p, unsigned what, const void *in, void *out, size_t elements) {
  const struct line_format *f = &formats[p->protocol];
  const size_t bytes = elements * p->element_bytes, nlines = round_up(div_up(bytes, f->data_bytes), f->together);
  const size_t room = (nlines + 1) * f->data_bytes;
  char *const staged = calloc(MOST_ENDS, room), *const sent = staged + TREE_ARITY * room;
  struct slice s = {.elements = elements};
  for (int i = 0; i < p->nsend && (what & DO_SEND); i++) {
    await_room(p, &p->send[i]);
    announce(&p->send[i], nlines * f->bytes);
  }
  for (int i = 0; i < p->nrecv && (what & DO_RECV); i++) {
    take_lines(p, &p->recv[i], staged + (size_t)i * room, nlines);
    s.from[s.nfrom++] = staged + (size_t)i * room;
  }
  if (is_aborted(p->block)) goto free_staged;
  if (what & DO_SEND) s.to[s.nto++] = sent;
  if (what & TO_OUTPUT) s.to[s.nto++] = out;
  if (what & FROM_INPUT) s.from[s.nfrom++] = in;
  combine(p, what, &s);
  for (int i = 0; i < p->nsend && (what & DO_SEND); i++) put_lines(p, &p->send[i], sent, nlines);
  if (what & DO_RECV) publish_consumed(p);
  if (what & DO_SEND) publish_sent(p);
free_staged:
  free(staged);
}

void pipe_move(struct pipe *p, unsigned what, const void *in, void *out, ssize_t elements) {
  const size_t count = elements < 0 ? 0 : (size_t)elements;
  if (p->protocol == SIMPLE)
    move_simple(p, what, in, out, count);
  else
    move_lines(p, what, in, out, count);
}
