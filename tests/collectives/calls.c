/* calls.c - see calls.h. */
#include "calls.h"

#include <stdio.h>
#include <string.h>

#include "reference.h"

/* ---- shapes ------------------------------------------------------------------------------------------------------ */

bool call_reduces(const struct call *c) {
  return c->collective == SHMI_ALLREDUCE || c->collective == SHMI_REDUCE || c->collective == SHMI_REDUCE_SCATTER;
}

bool call_rooted(const struct call *c) {
  return c->collective == SHMI_BROADCAST || c->collective == SHMI_REDUCE || c->collective == SHMI_GATHER ||
         c->collective == SHMI_SCATTER;
}

size_t call_send_blocks(const struct call *c, int nranks) {
  const bool many =
      c->collective == SHMI_REDUCE_SCATTER || c->collective == SHMI_ALLTOALL || c->collective == SHMI_SCATTER;
  return many ? (size_t)nranks : 1;
}

size_t call_recv_blocks(const struct call *c, int nranks) {
  const bool many = c->collective == SHMI_ALLGATHER || c->collective == SHMI_ALLTOALL || c->collective == SHMI_GATHER;
  return many ? (size_t)nranks : 1;
}

bool call_sends(const struct call *c, int rank) {
  if (c->collective == SHMI_BARRIER) return false;
  return (c->collective != SHMI_BROADCAST && c->collective != SHMI_SCATTER) || rank == c->root;
}

bool call_receives(const struct call *c, int rank) {
  if (c->collective == SHMI_BARRIER) return false;
  return (c->collective != SHMI_REDUCE && c->collective != SHMI_GATHER) || rank == c->root;
}

struct call call_random(struct harness_random *r, int nranks, size_t most) {
  struct call c = {
      .collective = (enum shmi_collective)harness_below(r, SHMI_COLLECTIVE_COUNT),
      .type = (shmccl_datatype_t)harness_below(r, SHMCCL_DATATYPE_COUNT),
      .op = (shmccl_redop_t)harness_below(r, SHMCCL_REDOP_COUNT),
      .root = (int)harness_below(r, (size_t)nranks),
      .in_place = harness_below(r, 3) == 0,
      .send_misalignment = harness_below(r, 2) ? harness_below(r, 64) : 0,
      .recv_misalignment = harness_below(r, 2) ? harness_below(r, 64) : 0,
      .seed = harness_bits(r),
  };
  /* All magnitudes alike: small messages take other paths than large ones. */
  const size_t magnitude = harness_below(r, 24), limit = (size_t)1 << magnitude;
  c.count = harness_below(r, limit < most ? limit : most) / shmccl_datatype_size(c.type);
  if (c.collective == SHMI_BARRIER) c.count = 0;
  return c;
}

static const char *const types[] = {"int8",    "uint8",   "int32",   "uint32",   "int64",      "uint64",
                                    "float16", "float32", "float64", "bfloat16", "float8e4m3", "float8e5m2"};
static const char *const ops[] = {"sum", "prod", "max", "min", "avg"};
static const char *const collectives[] = {"allreduce", "allgather", "reduce_scatter", "broadcast", "reduce",
                                          "alltoall",  "gather",    "scatter",        "barrier"};

void call_text(const struct call *c, char text[256]) {
  snprintf(text, 256, "%s %s %s root %d count %zu%s misaligned %zu %zu seed 0x%llx", collectives[c->collective],
           types[c->type], call_reduces(c) ? ops[c->op] : "", c->root, c->count, c->in_place ? " in place" : "",
           c->send_misalignment, c->recv_misalignment, (unsigned long long)c->seed);
}

/* ---- inputs ------------------------------------------------------------------------------------------------------ */

/* Inputs repeat after so many elements, a prime, so that long messages cost little and yet no chunk, tile or slot is a
 * multiple of it: a piece in the wrong place is seen. */
enum { PERIOD = 251 };

/* Fraction bits and exponent bits of the float types; 0, 0 for integers. */
static const struct {
  int fraction, exponent;
} formats[SHMCCL_DATATYPE_COUNT] = {
    [SHMCCL_FLOAT16] = {10, 5}, [SHMCCL_FLOAT32] = {23, 8},   [SHMCCL_FLOAT64] = {52, 11},
    [SHMCCL_BFLOAT16] = {7, 8}, [SHMCCL_FLOAT8E4M3] = {3, 4}, [SHMCCL_FLOAT8E5M2] = {2, 5},
};

/* Of the floats most are near 1, where sums round; some are any bits, denormals, zeros, infinities and NaNs. */
static uint64_t random_element(struct harness_random *r, shmccl_datatype_t type) {
  const int fraction = formats[type].fraction;
  const uint64_t ones = ((uint64_t)1 << formats[type].exponent) - 1, choice = harness_below(r, 32);
  uint64_t bits = harness_bits(r), exponent;
  if (fraction == 0 || choice < 4) return bits;
  if (choice == 4) bits = bits >> fraction << fraction;
  if (choice == 4 || choice == 5)
    exponent = choice == 4 && harness_below(r, 2) ? ones : 0;
  else
    exponent = ones / 2 - 2 + harness_below(r, 5);
  return (bits & ~(ones << fraction)) | exponent << fraction;
}

/* Of such magnitude that the sum of 4 has no more bits than the type, and neither has its quarter. */
static uint64_t exact_element(struct harness_random *r, const struct call *c) {
  static const int most[SHMCCL_DATATYPE_COUNT] = {
      [SHMCCL_INT8] = 25,      [SHMCCL_UINT8] = 50,    [SHMCCL_INT32] = 1000,   [SHMCCL_UINT32] = 1000,
      [SHMCCL_INT64] = 1000,   [SHMCCL_UINT64] = 1000, [SHMCCL_FLOAT16] = 500,  [SHMCCL_FLOAT32] = 1000,
      [SHMCCL_FLOAT64] = 1000, [SHMCCL_BFLOAT16] = 50, [SHMCCL_FLOAT8E4M3] = 3, [SHMCCL_FLOAT8E5M2] = 1,
  };
  const bool is_float = formats[c->type].fraction != 0, has_sign = is_float || c->type % 2 == 0;
  const int64_t magnitude =
      c->op == SHMCCL_PROD ? 1 + (int64_t)harness_below(r, 2) : (int64_t)harness_below(r, (size_t)most[c->type] + 1);
  const int64_t value = has_sign && harness_below(r, 2) ? -magnitude : magnitude;
  const float as_float = (float)value;
  uint32_t bits;
  memcpy(&bits, &as_float, sizeof bits);
  return is_float ? reference_convert(bits, SHMCCL_FLOAT32, c->type) : (uint64_t)value;
}

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

/* The first `count` elements, or a whole period of them, of what rank sends. */
static uint8_t *make_period(const struct call *c, int rank, size_t count) {
  const size_t size = shmccl_datatype_size(c->type);
  struct harness_random r = harness_random(c->seed + (uint64_t)rank * 0x51ed2701);
  uint8_t *elements = malloc(PERIOD * sizeof(uint64_t));
  CHECK(elements);
  for (size_t i = 0; i < smaller(count, PERIOD); i++) {
    const uint64_t bits = c->exact ? exact_element(&r, c) : random_element(&r, c->type);
    memcpy(elements + i * size, &bits, size); /* the low bytes: little endian */
  }
  return elements;
}

/* Elements [first, first + count) of an array that repeats `period`. */
static void unroll(uint8_t *to, const uint8_t *period, size_t first, size_t count, size_t size) {
  while (count) {
    const size_t at = first % PERIOD, length = smaller(count, PERIOD - at);
    memcpy(to, period + at * size, length * size);
    to += length * size;
    first += length;
    count -= length;
  }
}

/* ---- results ----------------------------------------------------------------------------------------------------- */

/* Elements [first, first + count) of what rank sends, to `to`. */
static void sent_by(const struct call *c, int rank, int nranks, size_t first, size_t count, uint8_t *to) {
  uint8_t *period = make_period(c, rank, c->count * call_send_blocks(c, nranks));
  unroll(to, period, first, count, shmccl_datatype_size(c->type));
  free(period);
}

/* The same of the reduction of what all send. */
static void reduction(const struct call *c, int nranks, size_t first, size_t count, uint8_t *to) {
  const size_t total = c->count * call_send_blocks(c, nranks), size = shmccl_datatype_size(c->type);
  void *periods[SHMCCL_MAX_RANKS];
  const void *sources[SHMCCL_MAX_RANKS];
  uint8_t result[PERIOD * sizeof(uint64_t)];
  for (int r = 0; r < nranks; r++) sources[r] = periods[r] = make_period(c, r, total);
  reference_reduce(result, sources, nranks, smaller(total, PERIOD), c->type, c->op);
  unroll(to, result, first, count, size);
  for (int r = 0; r < nranks; r++) free(periods[r]);
}

static void expect(const struct call *c, int rank, int nranks, uint8_t *to) {
  const size_t block = c->count * shmccl_datatype_size(c->type), mine = (size_t)rank * c->count;
  switch (c->collective) {
  case SHMI_ALLREDUCE:
  case SHMI_REDUCE:
  case SHMI_REDUCE_SCATTER:
    if (nranks == 1) /* nothing to reduce: copied */
      sent_by(c, 0, 1, 0, c->count, to);
    else
      reduction(c, nranks, c->collective == SHMI_REDUCE_SCATTER ? mine : 0, c->count, to);
    break;
  case SHMI_ALLGATHER:
  case SHMI_GATHER:
    for (int r = 0; r < nranks; r++) sent_by(c, r, nranks, 0, c->count, to + (size_t)r * block);
    break;
  case SHMI_ALLTOALL:
    for (int r = 0; r < nranks; r++) sent_by(c, r, nranks, mine, c->count, to + (size_t)r * block);
    break;
  case SHMI_BROADCAST: sent_by(c, c->root, nranks, 0, c->count, to); break;
  case SHMI_SCATTER: sent_by(c, c->root, nranks, mine, c->count, to); break;
  default: break;
  }
}

struct prepared call_prepare(const struct call *c, int rank, int nranks) {
  const size_t block = c->count * shmccl_datatype_size(c->type);
  struct prepared p = {.call = *c, .rank = rank, .nranks = nranks};
  p.send_bytes = call_sends(c, rank) ? block * call_send_blocks(c, nranks) : 0;
  p.recv_bytes = call_receives(c, rank) ? block * call_recv_blocks(c, nranks) : 0;
  p.input = malloc(p.send_bytes + 1);
  p.expected = malloc(p.recv_bytes + 1);
  CHECK(p.input && p.expected);
  if (p.send_bytes) sent_by(c, rank, nranks, 0, c->count * call_send_blocks(c, nranks), p.input);
  if (p.recv_bytes) expect(c, rank, nranks, p.expected);
  return p;
}

void call_release(struct prepared *p) {
  free(p->input);
  free(p->expected);
}

/* ---- one run ----------------------------------------------------------------------------------------------------- */

static bool shares_memory(const struct prepared *p) { return p->call.in_place && p->send_bytes && p->recv_bytes; }

/* Where this rank's own block is in a buffer of `bytes`, of which the other one is `other` long. */
static size_t own_block(const struct prepared *p, size_t bytes, size_t other) {
  return bytes > other ? (size_t)p->rank * other : 0;
}

void call_fill(const struct prepared *p, struct buffers *buffers) {
  const struct call *c = &p->call;
  const size_t block = c->count * shmccl_datatype_size(c->type);
  if (shares_memory(p)) {
    uint8_t *base =
        harness_take(&buffers->a, p->send_bytes > p->recv_bytes ? p->send_bytes : p->recv_bytes, c->send_misalignment);
    buffers->send = base + own_block(p, p->recv_bytes, p->send_bytes);
    buffers->recv = base + own_block(p, p->send_bytes, p->recv_bytes);
  } else {
    buffers->send = harness_take(&buffers->a, p->send_bytes, c->send_misalignment);
    /* Where nothing is to be received, a buffer that must stay as it is; or none. */
    buffers->recv = harness_take(&buffers->b, p->recv_bytes ? p->recv_bytes : block, c->recv_misalignment);
    if (!p->recv_bytes && c->in_place) buffers->recv = NULL;
    if (!p->send_bytes && c->in_place) buffers->send = NULL;
  }
  if (p->send_bytes) memcpy(buffers->send, p->input, p->send_bytes);
}

static void check_bytes(const struct prepared *p, const char *what, const uint8_t *got, const uint8_t *want,
                        size_t bytes) {
  const size_t size = shmccl_datatype_size(p->call.type);
  char text[256];
  size_t i = 0;
  uint64_t got_bits = 0, want_bits = 0;
  if (bytes == 0 || !memcmp(got, want, bytes)) return;
  while (got[i] == want[i]) i++;
  i /= size;
  memcpy(&got_bits, got + i * size, size);
  memcpy(&want_bits, want + i * size, size);
  call_text(&p->call, text);
  harness_fail(__FILE__, __LINE__, "%s, element %zu of %zu is 0x%llx, not 0x%llx: %d ranks, %s", what, i, bytes / size,
               (unsigned long long)got_bits, (unsigned long long)want_bits, p->nranks, text);
}

void call_check(const struct prepared *p, const struct buffers *buffers) {
  const size_t size = shmccl_datatype_size(p->call.type);
  harness_check_guards(&buffers->a, "sendbuf");
  if (p->recv_bytes) check_bytes(p, "recvbuf", buffers->recv, p->expected, p->recv_bytes);
  if (!shares_memory(p)) {
    harness_check_guards(&buffers->b, "recvbuf");
    if (p->send_bytes) check_bytes(p, "sendbuf", buffers->send, p->input, p->send_bytes);
    if (!p->recv_bytes) CHECK(harness_untouched(buffers->b.data, buffers->b.bytes));
  } else if (p->send_bytes > p->recv_bytes) { /* the blocks for others lie before and behind recvbuf */
    const size_t before = (size_t)(buffers->recv - buffers->send), behind = before + p->recv_bytes;
    CHECK(before % size == 0);
    check_bytes(p, "sendbuf before recvbuf", buffers->send, p->input, before);
    check_bytes(p, "sendbuf behind recvbuf", buffers->send + behind, p->input + behind, p->send_bytes - behind);
  }
}

void call_release_buffers(struct buffers *buffers) {
  harness_release(&buffers->a);
  harness_release(&buffers->b);
}

void call_make_on(const struct prepared *p, const struct buffers *buffers, shmccl_comm_t *comm, void *stream) {
  const struct call *c = &p->call;
  const uint8_t *send = buffers->send;
  uint8_t *recv = buffers->recv;
  switch (c->collective) {
  case SHMI_ALLREDUCE: CHECK_OK(shmccl_allreduce(send, recv, c->count, c->type, c->op, comm, stream)); break;
  case SHMI_ALLGATHER: CHECK_OK(shmccl_allgather(send, recv, c->count, c->type, comm, stream)); break;
  case SHMI_REDUCE_SCATTER: CHECK_OK(shmccl_reduce_scatter(send, recv, c->count, c->type, c->op, comm, stream)); break;
  case SHMI_BROADCAST: CHECK_OK(shmccl_broadcast(send, recv, c->count, c->type, c->root, comm, stream)); break;
  case SHMI_REDUCE: CHECK_OK(shmccl_reduce(send, recv, c->count, c->type, c->op, c->root, comm, stream)); break;
  case SHMI_ALLTOALL: CHECK_OK(shmccl_alltoall(send, recv, c->count, c->type, comm, stream)); break;
  case SHMI_GATHER: CHECK_OK(shmccl_gather(send, recv, c->count, c->type, c->root, comm, stream)); break;
  case SHMI_SCATTER: CHECK_OK(shmccl_scatter(send, recv, c->count, c->type, c->root, comm, stream)); break;
  default: CHECK_OK(shmccl_barrier(comm, stream)); break;
  }
}

void call_make(const struct prepared *p, const struct buffers *buffers, shmccl_comm_t *comm) {
  call_make_on(p, buffers, comm, NULL);
}

void call_run(const struct prepared *p, struct buffers *buffers, shmccl_comm_t *comm) {
  call_fill(p, buffers);
  call_make(p, buffers, comm);
  call_check(p, buffers);
}

void call_once(const struct call *c, struct buffers *buffers, shmccl_comm_t *comm) {
  int rank, nranks;
  CHECK_OK(shmccl_comm_user_rank(comm, &rank));
  CHECK_OK(shmccl_comm_count(comm, &nranks));
  struct prepared p = call_prepare(c, rank, nranks);
  call_run(&p, buffers, comm);
  call_release(&p);
}
