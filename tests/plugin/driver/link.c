/* link.c - see link.h. */
#include "link.h"

#include "base/clock.h"
#include "base/ordering.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

static const size_t ring_bytes[] = {512u << 10, 4915200, 4u << 20};
enum { GUARD_PAGE = 4096, LL_LINE = 16, LL128_LINE = 128, LL128_WORDS = 16, ROUND_BASE = 4 };

/* A request slot holds this before a call that must overwrite it. */
static uint64_t stale_request[16];

static void set_failure(struct link *l, enum link_thread thread, const char *what, const char *why) {
  struct failure *f = &l->failures[thread];
  if (f->set) return;
  snprintf(f->text, sizeof f->text, "%s %s rank %d lane %d: %s (last warning: %.100s)", what, l->sends ? "to" : "from",
           l->peer, l->lane, why, nccl_last_warning());
  shmi_publish32(&f->set, 1);
}

/* Whether the call succeeded; if not, that is how the link ends. */
static bool accepted(struct link *l, enum link_thread thread, ncclResult_t result, const char *call) {
  if (result != ncclSuccess) set_failure(l, thread, call, nccl_result_name(result));
  return result == ncclSuccess;
}

/* ---- operations and messages, the same at both ends -------------------------------------------------------------- */

static struct op op_at(const struct link *l, unsigned index, uint64_t steps_before) {
  struct harness_random r = harness_random(world_mix(l->key, index));
  const size_t choice = harness_below(&r, 8);
  struct op op = {.protocol = NCCL_PROTO_SIMPLE, .slice = 1};
  if (!l->simple_only && choice < 4) op.protocol = choice < 3 ? NCCL_PROTO_LL : NCCL_PROTO_LL128;
  if (!l->simple_only && op.protocol == NCCL_PROTO_SIMPLE) op.slice = 1 + (unsigned)harness_below(&r, 2);
  op.nsteps = op.slice * (1 + (unsigned)harness_below(&r, 12));
  op.style = (unsigned)harness_below(&r, 5);
  op.base = (steps_before + ROUND_BASE - 1) / ROUND_BASE * ROUND_BASE;
  return op;
}

static size_t step_bytes(const struct op *op) { return ring_bytes[op->protocol] / NCCL_STEPS; }

static size_t slot_bytes(const struct link *l, const struct op *op) {
  return l->simple_only ? step_bytes(op) / 4 : step_bytes(op) * op->slice; /* point to point: 128 KiB */
}

static size_t message_bytes(const struct link *l, const struct op *op, uint64_t step) {
  static const size_t units[] = {LL_LINE, LL128_LINE, 1};
  struct harness_random r = harness_random(world_mix(l->key, step << 20));
  const size_t most = slot_bytes(l, op), small = harness_below(&r, 600), any = harness_below(&r, most + 1);
  const size_t choices[] = {most, small, any, harness_below(&r, 2) ? small : 0, any / 16};
  return choices[op->style] / units[op->protocol] * units[op->protocol];
}

static uint8_t *slot(const struct link *l, const struct op *op, uint64_t step) {
  return l->ring[op->protocol] + step % NCCL_STEPS * step_bytes(op);
}

static uint64_t word_of(const struct link *l, uint64_t step, size_t i) {
  return (l->key ^ step * 0xd1342543de82ef95) + i * 0x9e3779b97f4a7c15;
}

static void start_op(const struct link *l, struct cursor *c) {
  c->op = op_at(l, c->index, c->op.base + c->op.nsteps);
  c->posted = c->moved = c->done = 0;
}

/* ---- set-up: the service thread ---------------------------------------------------------------------------------- */

static void allocate(struct link *l) {
  size_t total = 0, offset = GUARD_PAGE;
  for (int p = 0; p < NCCL_PROTOS; p++) total += ring_bytes[p];
  l->memory = mmap(NULL, total + 2 * GUARD_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(l->memory != MAP_FAILED);
  CHECK(!mprotect(l->memory, GUARD_PAGE, PROT_NONE));
  CHECK(!mprotect(l->memory + GUARD_PAGE + total, GUARD_PAGE, PROT_NONE));
  for (int p = 0; p < NCCL_PROTOS; offset += ring_bytes[p++]) l->ring[p] = l->memory + offset;
}

static void release(struct link *l) {
  size_t total = 0;
  for (int p = 0; p < NCCL_PROTOS; p++) total += ring_bytes[p];
  munmap(l->memory, total + 2 * GUARD_PAGE);
}

static void connected(struct link *l) {
  const struct nccl *n = l->comm->nccl;
  allocate(l);
  for (int p = 0; p < NCCL_PROTOS; p++) {
    const ncclResult_t result = net_reg(n, l->connection, l->ring[p], ring_bytes[p], NCCL_PTR_HOST, &l->mhandles[p]);
    if (!accepted(l, LINK_SERVICE, result, "regMr")) return;
  }
  start_op(l, &l->proxy);
  start_op(l, &l->kernel);
  l->state = LINK_READY;
  shmi_publish32(&l->ready, 1);
}

static bool pending_too_long(const struct link *l) {
  return world_gone_for(l->world, l->comm_index, l->peer) > l->world->settings.patience_s;
}

static bool begin_send(struct link *l) {
  if (!world_take(l->world, l->comm_index, l->peer, l->self, l->lane, l->handle)) {
    if (world_gone_for(l->world, l->comm_index, l->peer) > 0.1)
      set_failure(l, LINK_SERVICE, "waiting for a handle", "it has gone");
    return false;
  }
  l->state = LINK_PENDING;
  return accepted(l, LINK_SERVICE, net_set_attributes(l->comm), "setNetAttr");
}

static bool advance_send(struct link *l) {
  l->connection = NULL;
  const ncclResult_t result = net_connect(l->comm, 0, l->handle, &l->connection);
  if (!accepted(l, LINK_SERVICE, result, "connect")) return false;
  if (l->connection) connected(l);
  CHECK_TEXT(l->connection || !pending_too_long(l), "connect does not notice that rank %d is gone", l->peer);
  return l->state == LINK_READY;
}

static bool begin_recv(struct link *l) {
  l->listen = NULL;
  if (!accepted(l, LINK_SERVICE, net_listen(l->comm, 0, l->handle, &l->listen), "listen")) return false;
  CHECK(l->listen);
  world_post(l->world, l->comm_index, l->self, l->peer, l->lane, l->handle);
  l->state = LINK_PENDING;
  return true;
}

/* Nobody can know that a peer which never connected is gone, so that is found out here and not asked of the plugin. */
static bool advance_recv(struct link *l) {
  const struct nccl *n = l->comm->nccl;
  l->connection = NULL;
  if (!accepted(l, LINK_SERVICE, net_accept(n, l->listen, &l->connection), "accept")) return false;
  if (l->connection) {
    void *listen = l->listen;
    l->listen = NULL;
    if (accepted(l, LINK_SERVICE, net_close_listen(n, listen), "closeListen")) connected(l);
  } else if (world_gone_for(l->world, l->comm_index, l->peer) > 1) {
    set_failure(l, LINK_SERVICE, "accept", "it has gone");
  }
  return l->state == LINK_READY;
}

bool link_advance_setup(struct link *l) {
  harness_delay(&l->service_random);
  if (l->state == LINK_WAITING) return l->sends ? begin_send(l) : begin_recv(l);
  if (l->state == LINK_PENDING) return l->sends ? advance_send(l) : advance_recv(l);
  return false;
}

void link_close(struct link *l) {
  const struct nccl *n = l->comm->nccl;
  if (l->listen) CHECK(net_close_listen(n, l->listen) == ncclSuccess);
  if (l->connection) {
    for (int p = 0; p < NCCL_PROTOS; p++) CHECK(net_dereg(n, l->connection, l->mhandles[p]) == ncclSuccess);
    CHECK((l->sends ? net_close_send : net_close_recv)(n, l->connection) == ncclSuccess);
    release(l);
  }
  l->state = LINK_CLOSED;
}

void *link_register(struct link *l, void *data, size_t size) {
  void *mhandle = NULL;
  const ncclResult_t result = net_reg(l->comm->nccl, l->connection, data, size, NCCL_PTR_HOST, &mhandle);
  accepted(l, LINK_SERVICE, result, "regMr beside traffic");
  return mhandle;
}

void link_unregister(struct link *l, void *mhandle) {
  accepted(l, LINK_SERVICE, net_dereg(l->comm->nccl, l->connection, mhandle), "deregMr beside traffic");
}

bool link_finished(const struct link *l) {
  return shmi_observe32(&l->kernel_finished) && shmi_observe32(&l->proxy_finished);
}

/* ---- the proxy: the progress thread ------------------------------------------------------------------------------ */

/* A slot's old content: a stale pointer, NULL, or what is left of its last request. */
static void soil(struct link *l, void **request) {
  const size_t choice = harness_below(&l->proxy_random, 4);
  if (choice < 2) *request = stale_request;
  if (choice == 2) *request = NULL;
}

static void check_written(const struct link *l, const void *request, const char *call) {
  CHECK_TEXT(request != stale_request && request != (void *)NCCL_NET_OPTIONAL_RECV_COMPLETION,
             "%s returned without writing *request (rank %d, lane %d)", call, l->peer, l->lane);
}

static bool test(struct link *l, unsigned number, int *bytes) {
  int done = -1;
  void *request = l->requests[(l->proxy.op.base + number) % NCCL_STEPS];
  if (!accepted(l, LINK_PROXY, net_test(l->comm->nccl, request, &done, bytes), "test")) return false;
  CHECK_TEXT(done == 0 || done == 1, "test set done to %d", done);
  return done;
}

static void finish_op(struct link *l) {
  if (l->proxy.done < l->proxy.op.nsteps) return;
  l->proxy.index++;
  if (l->proxy.index < l->nops)
    start_op(l, &l->proxy);
  else
    shmi_publish32(&l->proxy_finished, 1);
}

static bool flags_are_there(const struct op *op, const uint8_t *data, size_t bytes, uint64_t step) {
  const uint64_t *words = (const void *)data;
  const size_t nwords = bytes / 8;
  if (op->protocol == NCCL_PROTO_LL)
    for (size_t i = 0; i < nwords; i++)
      if (shmi_observe64(&words[i]) >> 32 != (uint32_t)(step + 1)) return false;
  if (op->protocol == NCCL_PROTO_LL128)
    for (size_t i = LL128_WORDS - 1; i < nwords; i += LL128_WORDS)
      if (shmi_observe64(&words[i]) != step + 1) return false;
  return true;
}

/* Passes on the step that the kernel has written, if it has. */
static bool send_step(struct link *l) {
  struct cursor *c = &l->proxy;
  const uint64_t step = c->op.base + c->moved, size = shmi_observe64(&l->fifo_size[step % NCCL_STEPS]);
  uint8_t *data = slot(l, &c->op, step);
  void **request = &l->requests[step % NCCL_STEPS];
  if (!size || (c->op.protocol != NCCL_PROTO_LL && shmi_observe64(&l->tail) <= step)) return false;
  CHECK_TEXT(size - 1 == message_bytes(l, &c->op, step), "the driver's kernel and proxy disagree");
  if (!flags_are_there(&c->op, data, size - 1, step)) return false;
  soil(l, request);
  const ncclResult_t result =
      net_isend(l->comm->nccl, l->connection, data, size - 1, l->self, l->mhandles[c->op.protocol], request);
  if (!accepted(l, LINK_PROXY, result, "isend")) return false;
  check_written(l, *request, "isend");
  if (!*request) return false;
  c->posted = c->moved += c->op.slice;
  return true;
}

static bool advance_send_proxy(struct link *l) {
  struct cursor *c = &l->proxy;
  int bytes = 0;
  if (c->moved < c->op.nsteps && c->moved + c->op.slice <= c->done + NCCL_STEPS && send_step(l)) return true;
  if (l->failures[LINK_PROXY].set || c->done == c->moved) return false;
  if (!test(l, c->done, c->done % 3 ? &bytes : NULL)) return false;
  shmi_publish64(&l->fifo_size[(c->op.base + c->done) % NCCL_STEPS], 0);
  c->done += c->op.slice;
  shmi_publish64(&l->head, c->op.base + c->done);
  finish_op(l);
  return true;
}

/* Up to 2.29 a receive is no longer than the operation. */
static size_t capacity(const struct link *l, const struct op *op, uint64_t step) {
  const bool exact = l->comm->nccl->minor < NCCL_LAST_MINOR && world_mix(l->key, step) % 2;
  return exact ? message_bytes(l, op, step) : slot_bytes(l, op);
}

static bool post_recv(struct link *l) {
  struct cursor *c = &l->proxy;
  const uint64_t step = c->op.base + c->posted;
  uint8_t *data = slot(l, &c->op, step);
  const size_t bytes = capacity(l, &c->op, step);
  void **request = &l->requests[step % NCCL_STEPS];
  int tag = l->peer;
  if (!l->clean) memset(data, HARNESS_POISON, step_bytes(&c->op) * c->op.slice);
  l->clean = true;
  soil(l, request);
  if (c->op.protocol != NCCL_PROTO_SIMPLE && net_offers_optional_completion(l->comm->nccl))
    *request = (void *)NCCL_NET_OPTIONAL_RECV_COMPLETION;
  const ncclResult_t result =
      net_irecv(l->comm->nccl, l->connection, 1, (void *[]){data}, &bytes, &tag, &l->mhandles[c->op.protocol], request);
  if (!accepted(l, LINK_PROXY, result, "irecv")) return false;
  check_written(l, *request, "irecv");
  if (!*request) return false;
  l->clean = false;
  c->posted += c->op.slice;
  return true;
}

static void check_tail(const struct link *l, const struct op *op, uint64_t step) {
  const size_t bytes = message_bytes(l, op, step), all = step_bytes(op) * op->slice;
  CHECK_TEXT(harness_untouched(slot(l, op, step) + bytes, all - bytes),
             "something was written behind the %zu bytes of step %llu from rank %d", bytes, (unsigned long long)step,
             l->peer);
}

static bool receive(struct link *l) {
  struct cursor *c = &l->proxy;
  const uint64_t step = c->op.base + c->moved;
  const size_t expected = message_bytes(l, &c->op, step);
  int bytes = 0;
  if (!test(l, c->moved, &bytes)) return false;
  CHECK_TEXT((size_t)bytes == expected, "step %llu from rank %d lane %d: test says %d bytes, sent were %zu",
             (unsigned long long)step, l->peer, l->lane, bytes, expected);
  c->moved += c->op.slice;
  shmi_publish64(&l->tail, c->op.base + c->moved);
  return true;
}

static bool advance_recv_proxy(struct link *l) {
  struct cursor *c = &l->proxy;
  bool moved = false;
  if (c->posted < c->op.nsteps && c->posted + c->op.slice <= c->done + NCCL_STEPS) moved = post_recv(l);
  if (!l->failures[LINK_PROXY].set && c->moved < c->posted) moved |= receive(l);
  if (c->done < c->moved && shmi_observe64(&l->head) >= c->op.base + c->done + c->op.slice) {
    check_tail(l, &c->op, c->op.base + c->done);
    c->done += c->op.slice;
    moved = true;
    finish_op(l);
  }
  return moved;
}

bool link_advance_proxy(struct link *l) {
  if (!shmi_observe32(&l->ready) || l->proxy.index == l->nops) return false;
  if (harness_below(&l->proxy_random, 16) == 0) harness_delay(&l->proxy_random);
  const bool moved = l->sends ? advance_send_proxy(l) : advance_recv_proxy(l);
  CHECK_TEXT(moved || l->failures[LINK_PROXY].set || !pending_too_long(l),
             "nothing tells that rank %d has been gone for %u s", l->peer, l->world->settings.patience_s);
  return moved;
}

/* ---- the kernel: a thread in the GPU's place --------------------------------------------------------------------- */

static void fill(const struct link *l, uint8_t *to, size_t bytes, uint64_t step) {
  for (size_t i = 0; i < bytes / 8; i++) ((uint64_t *)(void *)to)[i] = word_of(l, step, i);
  const uint64_t last = word_of(l, step, bytes / 8);
  memcpy(to + bytes / 8 * 8, &last, bytes % 8);
}

static void write_lines(struct link *l, const struct op *op, uint8_t *to, size_t bytes, uint64_t step) {
  uint64_t *words = (void *)to;
  for (size_t i = 0; i < bytes / 8; i++) {
    if (op->protocol == NCCL_PROTO_LL)
      shmi_publish64(&words[i], (uint32_t)word_of(l, step, i) | (step + 1) << 32);
    else
      shmi_publish64(&words[i], i % LL128_WORDS == LL128_WORDS - 1 ? step + 1 : word_of(l, step, i));
    if (i % 2048 == 0) harness_delay(&l->kernel_random);
  }
}

static void next_step(struct link *l) {
  struct cursor *c = &l->kernel;
  c->done += c->op.slice;
  l->line = 0;
  if (c->done < c->op.nsteps) return;
  c->index++;
  if (c->index < l->nops)
    start_op(l, c);
  else
    shmi_publish32(&l->kernel_finished, 1);
}

static bool advance_send_kernel(struct link *l) {
  const struct op *op = &l->kernel.op;
  const uint64_t step = op->base + l->kernel.done;
  const size_t bytes = message_bytes(l, op, step);
  uint8_t *to = slot(l, op, step);
  if (step + op->slice > shmi_observe64(&l->head) + NCCL_STEPS || shmi_observe64(&l->fifo_size[step % NCCL_STEPS]))
    return false;
  if (op->protocol == NCCL_PROTO_SIMPLE)
    fill(l, to, bytes, step);
  else if (op->protocol == NCCL_PROTO_LL128)
    write_lines(l, op, to, bytes, step);
  shmi_publish64(&l->fifo_size[step % NCCL_STEPS], bytes + 1);
  if (op->protocol == NCCL_PROTO_LL) write_lines(l, op, to, bytes, step);
  shmi_publish64(&l->tail, step + op->slice);
  next_step(l);
  return true;
}

/* As a GPU's volatile load: ThreadSanitizer is not to take the protocol's race for a mistake. */
__attribute__((no_sanitize("thread"), noinline)) static uint64_t poll(const volatile uint64_t *word) { return *word; }

/* LL's unit is the 8-byte word: 4 bytes of data, 4 of flag. One load must show both. */
static bool ll_word_is_there(const struct link *l, const uint64_t *words, size_t i, uint64_t step) {
  const uint64_t word = poll(&words[i]);
  if (word >> 32 != (uint32_t)(step + 1)) return false;
  CHECK_TEXT((uint32_t)word == (uint32_t)word_of(l, step, i),
             "LL step %llu from rank %d: word %zu has its flag before its data", (unsigned long long)step, l->peer, i);
  return true;
}

/* LL128's is the line: 15 words of data, one of flag. */
static bool ll128_line_is_there(const struct link *l, const uint64_t *words, size_t first, uint64_t step) {
  if (poll(&words[first + LL128_WORDS - 1]) != step + 1) return false;
  for (size_t i = first; i < first + LL128_WORDS - 1; i++)
    CHECK_TEXT(poll(&words[i]) == word_of(l, step, i),
               "LL128 step %llu from rank %d: line %zu has its flag before its data", (unsigned long long)step, l->peer,
               first / LL128_WORDS);
  return true;
}

/* Polls on from where it stopped. */
static bool poll_lines(struct link *l, const struct op *op, const uint8_t *from, size_t bytes, uint64_t step) {
  const uint64_t *words = (const void *)from;
  const bool ll = op->protocol == NCCL_PROTO_LL;
  const size_t start = l->line;
  while (l->line < bytes / 8 && (ll ? ll_word_is_there : ll128_line_is_there)(l, words, l->line, step))
    l->line += ll ? 1 : LL128_WORDS;
  return l->line > start;
}

static void check_bytes(const struct link *l, const uint8_t *from, size_t bytes, uint64_t step) {
  for (size_t i = 0; i < (bytes + 7) / 8; i++) {
    const uint64_t right = word_of(l, step, i);
    const size_t n = bytes - 8 * i < 8 ? bytes - 8 * i : 8;
    CHECK_TEXT(!memcmp(from + 8 * i, &right, n), "step %llu from rank %d lane %d: byte %zu of %zu is wrong",
               (unsigned long long)step, l->peer, l->lane, 8 * i, bytes);
  }
}

/* A message may have come with other lines than it was sent with: those of its own never come. */
static void check_patience(struct link *l, bool moved, uint64_t step) {
  enum { LINES_S = 60 };
  if (moved || !l->line_since_ns) l->line_since_ns = shmi_now_ns();
  CHECK_TEXT(shmi_now_ns() - l->line_since_ns < LINES_S * 1000000000ull,
             "step %llu from rank %d lane %d: word %zu is wrong, or has not come for %d s", (unsigned long long)step,
             l->peer, l->lane, l->line, LINES_S);
}

static bool advance_recv_kernel(struct link *l) {
  const struct op *op = &l->kernel.op;
  const uint64_t step = op->base + l->kernel.done;
  const size_t bytes = message_bytes(l, op, step);
  const uint8_t *from = slot(l, op, step);
  bool moved = true;
  if (op->protocol == NCCL_PROTO_SIMPLE) {
    if (shmi_observe64(&l->tail) < step + op->slice) return false;
    check_bytes(l, from, bytes, step);
  } else {
    moved = poll_lines(l, op, from, bytes, step);
    if (l->line < bytes / 8) return check_patience(l, moved, step), moved;
    l->line_since_ns = 0;
  }
  shmi_publish64(&l->head, step + op->slice);
  next_step(l);
  return true;
}

bool link_advance_kernel(struct link *l) {
  if (!shmi_observe32(&l->ready) || l->kernel.index == l->nops) return false;
  harness_delay(&l->kernel_random);
  return l->sends ? advance_send_kernel(l) : advance_recv_kernel(l);
}
