/*
 * explore.c - the protocols on the memory of model.h: every interleaving of small shapes, with every order of stores
 * and loads that nothing orders.
 *
 * What runs is the code itself: of a device coll/device.h, step.h, packet.h, messages.h and pair.h (on block.h), of
 * host memory shmccl_allreduce() and so on down to coll/host.c, except that a wait for peers (comm/wait.c) is the
 * model's.
 *
 *   explore                    all shapes: how many states and executions each has; a failure, with what led to it
 *   explore --controls         each publish and each observe is made to order nothing, by itself; a shape must fail
 *   explore --trace FILE:LINE  what leads to that failure
 *
 * Built with a piece of the protocol missing (SHMI_BREAK_*) a shape must fail: CMakeLists.txt.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block.h"
#include "comm/device.h"
#include "reduce/reduce.h"
#include "shm/liveness.h"

/* What runs: of a device collectives in slots, in two shots, in packets, and messages; of the host collectives and
 * messages; of the host a call that one rank aborts, or makes with another count. REFUSED: of a device a message that
 * the receiver's kernel does not await, which its host's watchdog sees. */
enum kind { SLOTS, TWO_SHOT, PACKETS, LANES, REFUSED, HOST, HOST_SEND, HOST_LANES, ABORTED, DISAGREEING };

enum { RANKS_MOST = 3, CALLS_MOST = 4, USER_BYTES = 4096, STATES_MOST = 2000000, MESSAGES_MOST = 2 };

struct shape {
  const char *name;
  enum kind kind;
  int nranks, nthreads;                        /* the latter: of a block */
  int ncalls;                                  /* LANES, HOST_LANES: groups of messages */
  enum shmi_collective collective[CALLS_MOST]; /* the root is rank 0 */
  size_t count, chunk;                         /* bytes */
  uint64_t step;                               /* the last one, or the last piece, before */
  bool renew;                                  /* the first call gives packets new flags: they hold those that follow */
};

static const struct shape *shape;

/* ---- memory --------------------------------------------------------------------------------------------------------
 */

/* What the threads of a rank share, at the end of the arena; the segment is at its beginning. */
struct shared {
  struct shmi_channel_state state;
  struct shmi_pieces pieces;
  struct block_shared block[2]; /* of this kernel and of the one before, in which slower threads may still be */
  struct shmi_notice notice;
  _Alignas(16) uint8_t send[USER_BYTES], recv[USER_BYTES];
};

/* What no thread writes that another one reads. */
struct rank {
  struct shmi_world world;
  struct shmi_launch launch[CALLS_MOST];
  struct shmi_group group;
  struct shmccl_comm comm;
  struct shmi_device device;
  struct shmi_message messages[MESSAGES_MOST];
};

static struct rank ranks[RANKS_MOST];

static struct shared *shared_of(int rank) {
  return (struct shared *)(void *)(model_arena + MODEL_ARENA_BYTES) - rank - 1;
}

static bool is_host(void) { return shape->kind >= HOST; }
/* Rank 0 sends and rank 1 receives. */
static bool is_one_way(void) { return shape->kind == LANES || shape->kind == REFUSED || shape->kind == HOST_SEND; }
static bool is_message(void) { return is_one_way() || shape->kind == HOST_LANES; }

/* Bytes between the buffers of two calls. */
static size_t user_stride(void) { return ((size_t)shape->nranks * shape->count + 15) / 16 * 16; }
static uint8_t *send_of(int rank, int call) { return shared_of(rank)->send + (size_t)call * user_stride(); }
static uint8_t *recv_of(int rank, int call) { return shared_of(rank)->recv + (size_t)call * user_stride(); }

static uint8_t input(int rank, int call, size_t i) { return (uint8_t)(1 + rank * 67 + call * 29 + (int)i * 5); }

static size_t control_bytes(int nranks) {
  return sizeof(struct shmi_control) +
         2 * (size_t)nranks * (sizeof(struct shmi_pair_out) + sizeof(struct shmi_pair_in));
}

/* What the watchdog looks for a kernel's pairs by. */
static struct shmi_header header_of(void) {
  return (struct shmi_header){.nranks = (uint32_t)shape->nranks,
                              .control_stride = control_bytes(shape->nranks),
                              .device_offset = (uint64_t)shape->nranks * control_bytes(shape->nranks),
                              .device_pair_bytes = BLOCK_PIECE};
}

static void size_staging(struct shmi_world *w) {
  const size_t n = (size_t)w->nranks;
  if (is_message()) {
    w->pair_bytes = BLOCK_PIECE;
    w->pair_places = SHMI_PAIR_SLOTS;
  } else if (shape->kind == PACKETS) {
    w->packet_bytes = SHMI_PACKETS * ((shape->count + SHMI_UNIT - 1) / SHMI_UNIT) * n;
  } else {
    w->lane_bytes = shape->kind == TWO_SHOT ? 64 : (shape->chunk + 15) / 16 * 16;
    w->slot_bytes = n * w->lane_bytes;
  }
  w->staging_stride = 2 * (w->slot_bytes + w->packet_bytes) + n * w->pair_places * w->pair_bytes;
}

static struct shmi_world world_of(int rank) {
  const size_t stride = control_bytes(shape->nranks);
  const struct shmi_header h = header_of();
  if (shape->kind == LANES || shape->kind == REFUSED)
    return shmi_layout_device_pairs(&h, model_arena, model_arena + h.device_offset, rank);
  struct shmi_world w = {.rank = rank,
                         .nranks = shape->nranks,
                         .control = model_arena,
                         .staging = model_arena + (size_t)shape->nranks * stride,
                         .control_stride = stride,
                         .step_offset = offsetof(struct shmi_control, step),
                         .pair_offset = sizeof(struct shmi_control)};
  size_staging(&w);
  return w;
}

/* Where the trace says that something is. */
static void name_control(const struct shmi_world *w, int rank, size_t at, char *text, size_t bytes) {
  const size_t step = offsetof(struct shmi_control, step), abort = offsetof(struct shmi_control, abort);
  const size_t line = sizeof(struct shmi_step_line), out = w->pair_offset;
  const size_t in = out + (size_t)w->nranks * sizeof(struct shmi_pair_out);
  if (at >= step && at < step + 2 * line)
    snprintf(text, bytes, "rank %d, line of parity %zu, +%zu", rank, (at - step) / line, (at - step) % line);
  else if (at >= abort && at < step)
    snprintf(text, bytes, "rank %d, abort line, +%zu", rank, at - abort);
  else if (at >= out && at < in)
    snprintf(text, bytes, "rank %d, pair out to %zu, +%zu", rank, (at - out) / SHMI_LINE, (at - out) % SHMI_LINE);
  else if (at >= in)
    snprintf(text, bytes, "rank %d, pair in from %zu, +%zu", rank, (at - in) / SHMI_LINE, (at - in) % SHMI_LINE);
  else
    snprintf(text, bytes, "rank %d, control +%zu", rank, at);
}

static void name_place(size_t offset, char *text, size_t bytes) {
  const struct shmi_world *w = &ranks[0].world;
  const size_t staging = (size_t)(w->staging - w->control), end = staging + (size_t)w->nranks * w->staging_stride;
  const size_t back = MODEL_ARENA_BYTES - 1 - offset;
  if (offset < staging)
    name_control(w, (int)(offset / w->control_stride), offset % w->control_stride, text, bytes);
  else if (offset < end)
    snprintf(text, bytes, "rank %zu, staging +%zu", (offset - staging) / w->staging_stride,
             (offset - staging) % w->staging_stride);
  else
    snprintf(text, bytes, "rank %zu, own memory +%zu", back / sizeof(struct shared),
             sizeof(struct shared) - 1 - back % sizeof(struct shared));
}

/* ---- before the first call -----------------------------------------------------------------------------------------
 */

static struct shmi_call call_of(int rank, int i) {
  const struct shmi_world *w = &ranks[rank].world;
  return (struct shmi_call){.id = {.collective = shape->collective[i], .count = shape->count},
                            .sendbuf = send_of(rank, i),
                            .recvbuf = recv_of(rank, i),
                            .element = 1,
                            .count = shape->count,
                            .block = shape->count,
                            .chunk = shape->chunk,
                            .lane_stride = w->lane_bytes,
                            .places = 1,
                            .signature = 0x1000 + (uint32_t)i,
                            .two_shot = shape->kind == TWO_SHOT,
                            .packets = shape->kind == PACKETS,
                            .channels = 1};
}

static struct shmi_launch launch_of(int rank, int i) {
  struct shared *s = shared_of(rank);
  return (struct shmi_launch){.world = ranks[rank].world,
                              .call = call_of(rank, i),
                              .states = &s->state,
                              .leave = &s->notice.leave,
                              .status = &s->notice.status,
                              .patience_ns = UINT32_MAX};
}

/* Rank 0 sends, rank 1 receives: one lane, and two messages in each group. */
static void prepare_group(int rank) {
  struct shmi_group *g = &ranks[rank].group;
  struct shared *s = shared_of(rank);
  g->launch = launch_of(rank, 0);
  g->pieces = &s->pieces;
  g->lanes[0] = (struct shmi_lane){.peer = (uint16_t)!rank, .is_send = !rank, .messages = MESSAGES_MOST};
  for (int i = 0; i < MESSAGES_MOST; i++)
    g->messages[i] = (struct shmi_posted){.buffer = rank ? recv_of(rank, i) : send_of(rank, i),
                                          .count = shape->count + (shape->kind == REFUSED && rank),
                                          .element = 1,
                                          .signature = (uint32_t)(shape->kind == REFUSED ? rank : i)};
  s->pieces.sent[1] = s->pieces.received[0] = (uint32_t)shape->step;
}

static void prepare_comm(int rank) {
  struct rank *r = &ranks[rank];
  struct shmccl_comm *c = &r->comm;
  memset(c, 0, sizeof *c);
  c->rank = rank;
  c->nranks = shape->nranks;
  c->world = r->world;
  c->segment.base = model_arena;
  c->segment.header = header_of();
  c->device = shape->kind == REFUSED ? &r->device : NULL;
  r->device.notice = &shared_of(rank)->notice;
  c->fork_generation = shmi_fork_generation();
  c->options.chunk_bytes = shape->chunk;
  c->options.algorithm = shape->count > 1024 ? SHMCCL_ALGORITHM_TWO_SHOT : SHMCCL_ALGORITHM_ONE_SHOT;
  c->steps = (uint32_t)shape->step;
  c->slots_allocated = true;
  c->lanes_allocated = UINT64_MAX;
  c->stream_bytes = SIZE_MAX;
  c->messages = r->messages;
  c->messages_capacity = MESSAGES_MOST;
  for (int peer = 0; peer < shape->nranks; peer++) c->sent[peer] = c->received[peer] = (uint32_t)shape->step;
}

/* As the two steps before left them. Flags that are to be renewed: those of the first two calls behind that. */
static void leave_steps(const struct shmi_world *w) {
#ifdef SHMI_BREAK_RENEW
  const uint32_t renewal = 1;
#else
  const uint32_t renewal = 4;
#endif
  const uint32_t last = (uint32_t)shape->step;
  for (uint32_t step = last - 1; step != last + 1; step++) {
    const uint32_t flag = !shape->renew ? step : step + renewal + (renewal & 1);
    shmi_step_of(w, w->rank, step)->word = shmi_word(step, 0);
    for (size_t i = 0; i < w->packet_bytes / SHMI_PACKETS; i++)
      shmi_packets_put(shmi_packets_at(w, w->rank, flag, i), 0, flag);
  }
}

static void leave_pairs(const struct shmi_world *w) {
  const uint32_t last = (uint32_t)shape->step;
  for (int peer = 0; peer < w->nranks; peer++) {
    for (uint32_t number = last - SHMI_PAIR_SLOTS + 1; number != last + 1; number++)
      shmi_pair_out_of(w, w->rank, peer)->word[number % SHMI_PAIR_SLOTS] = shmi_word(number, 0);
    shmi_pair_in_of(w, w->rank, peer)->emptied = last;
  }
}

static void prepare_rank(int rank) {
  struct rank *r = &ranks[rank];
  struct shared *s = shared_of(rank);
  r->world = world_of(rank);
  s->state = (struct shmi_channel_state){shape->step, shape->renew ? shape->step - SHMI_RENEW_EVERY : shape->step};
  for (int i = 0; i < shape->ncalls * (shape->kind == LANES ? MESSAGES_MOST : 1); i++)
    for (size_t k = 0; k < (size_t)shape->nranks * shape->count; k++) send_of(rank, i)[k] = input(rank, i, k);
  for (int i = 0; i < shape->ncalls && !is_message() && !is_host(); i++) r->launch[i] = launch_of(rank, i);
  if (shape->kind == LANES || shape->kind == REFUSED) prepare_group(rank);
  if (is_host() || shape->kind == REFUSED) prepare_comm(rank);
  leave_steps(&r->world);
  if (is_message()) leave_pairs(&r->world);
}

static void prepare(void) {
  memset(model_arena, 0, sizeof model_arena);
  for (int n = 0; n < shape->nranks; n++) prepare_rank(n);
}

/* ---- threads -------------------------------------------------------------------------------------------------------
 */

static void run_kernels(int rank, int tid) {
  for (int i = 0; i < shape->ncalls; i++) {
    const struct shmi_launch *l = &ranks[rank].launch[i];
    struct block_shared *s = &shared_of(rank)->block[i & 1];
    struct shmi_block b = {.tid = tid, .nthreads = shape->nthreads, .launch = l, .shared = s};
    if (shmi_block_kernel(&b, &s->share, 0)) model_fail("a kernel left with an error");
  }
}

static void run_lane(int rank, int tid) {
  const struct shmi_group *g = &ranks[rank].group;
  struct block_shared *s = &shared_of(rank)->block[0];
  struct shmi_block b = {.tid = tid, .nthreads = shape->nthreads, .launch = &g->launch, .shared = s};
  const int error = shmi_block_lane(&b, g, &s->share, 0);
  if (error != (shape->kind == REFUSED && rank ? SHMI_DEVICE_MESSAGE : 0))
    model_fail("a kernel left with another result");
}

/* Until it knows why rank 1's kernel has left. */
static void watch_kernel(void) {
  struct shmccl_comm *comm = &ranks[1].comm;
  for (;;) {
    shmi_watchdog_look(comm);
    if (shmi_abort_peek(comm) == SHMCCL_ERROR_MISMATCH) return;
    model_wait();
  }
}

static shmccl_result_t call(int rank, int i, size_t count) {
  shmccl_comm_t *comm = &ranks[rank].comm;
  const uint8_t *send = send_of(rank, i);
  uint8_t *recv = recv_of(rank, i);
  switch (shape->collective[i]) {
  case SHMI_ALLREDUCE: return shmccl_allreduce(send, recv, count, SHMCCL_UINT8, SHMCCL_SUM, comm, NULL);
  case SHMI_ALLGATHER: return shmccl_allgather(send, recv, count, SHMCCL_UINT8, comm, NULL);
  case SHMI_ALLTOALL: return shmccl_alltoall(send, recv, count, SHMCCL_UINT8, comm, NULL);
  case SHMI_BROADCAST: return shmccl_broadcast(send, recv, count, SHMCCL_UINT8, 0, comm, NULL);
  case SHMI_GATHER: return shmccl_gather(send, recv, count, SHMCCL_UINT8, 0, comm, NULL);
  default: abort();
  }
}

/* To the next rank, from the one before. */
static shmccl_result_t exchange(int rank, int i) {
  shmccl_comm_t *comm = &ranks[rank].comm;
  const int n = shape->nranks;
  shmccl_group_start(comm);
  shmccl_send(send_of(rank, i), shape->count, SHMCCL_UINT8, (rank + 1) % n, comm, NULL);
  shmccl_recv(recv_of(rank, i), shape->count, SHMCCL_UINT8, (rank + n - 1) % n, comm, NULL);
  return shmccl_group_end(comm);
}

static shmccl_result_t send_or_receive(int rank) {
  shmccl_comm_t *comm = &ranks[rank].comm;
  return rank ? shmccl_recv(recv_of(1, 0), shape->count, SHMCCL_UINT8, 0, comm, NULL)
              : shmccl_send(send_of(0, 0), shape->count, SHMCCL_UINT8, 1, comm, NULL);
}

static void expect(shmccl_result_t result, shmccl_result_t expected) {
  if (result != expected) model_fail("a call returned another result");
}

static void run_host(int rank) {
  switch (shape->kind) {
  case ABORTED:
    if (rank == 0) expect(shmccl_comm_abort(&ranks[0].comm), SHMCCL_SUCCESS);
    expect(call(rank, 0, shape->count), SHMCCL_ERROR_ABORTED);
    break;
  case DISAGREEING: expect(call(rank, 0, shape->count - (rank == 0)), SHMCCL_ERROR_MISMATCH); break;
  case HOST_SEND: expect(send_or_receive(rank), SHMCCL_SUCCESS); break;
  case HOST_LANES:
    for (int i = 0; i < shape->ncalls; i++) expect(exchange(rank, i), SHMCCL_SUCCESS);
    break;
  default:
    for (int i = 0; i < shape->ncalls; i++) expect(call(rank, i, shape->count), SHMCCL_SUCCESS);
  }
}

static void run_thread(int number) {
  if (is_host())
    run_host(number);
  else if (shape->kind == REFUSED && number == 2)
    watch_kernel();
  else if (shape->kind == LANES || shape->kind == REFUSED)
    run_lane(number / shape->nthreads, number % shape->nthreads);
  else
    run_kernels(number / shape->nthreads, number % shape->nthreads);
}

/* ---- what the linker puts in place of the library's (--wrap) -------------------------------------------------------
 */

shmccl_result_t __wrap_shmi_wait_pause(struct shmi_wait *w, shmi_wait_lacks_fn lacks, const void *context);
shmccl_result_t __wrap_shmi_wait_glance(struct shmi_wait *w, shmi_wait_lacks_fn lacks, const void *context);
int __wrap_nanosleep(const struct timespec *time, struct timespec *left);
shmi_reduce_fn __wrap_shmi_reduce_lookup(shmccl_datatype_t datatype, shmccl_redop_t op);
void __wrap_shmi_copy(void *to, const void *from, size_t bytes);
int __wrap_shmi_liveness_held(int lock_fd, int rank);

/* A look in vain. */
shmccl_result_t __wrap_shmi_wait_pause(struct shmi_wait *w, shmi_wait_lacks_fn lacks, const void *context) {
  (void)lacks, (void)context;
  SHMI_RETURN_IF_ERROR(shmi_abort_look(w->comm));
  model_wait();
  return SHMCCL_SUCCESS;
}

shmccl_result_t __wrap_shmi_wait_glance(struct shmi_wait *w, shmi_wait_lacks_fn lacks, const void *context) {
  (void)lacks, (void)context;
  return shmi_abort_look(w->comm);
}

int __wrap_nanosleep(const struct timespec *time, struct timespec *left) {
  (void)time, (void)left;
  model_wait();
  return 0;
}

/* Nobody dies. */
int __wrap_shmi_liveness_held(int lock_fd, int rank) {
  (void)lock_fd, (void)rank;
  return 1;
}

static void sum_bytes(void *to, const void *const *from, int nsources, size_t count) {
  for (size_t i = 0; i < count; i++) {
    uint8_t sum = 0;
    for (int r = 0; r < nsources; r++) sum = (uint8_t)(sum + ((const uint8_t *)from[r])[i]);
    ((uint8_t *)to)[i] = sum;
  }
}

shmi_reduce_fn __wrap_shmi_reduce_lookup(shmccl_datatype_t datatype, shmccl_redop_t op) {
  (void)datatype, (void)op;
  return sum_bytes;
}

void __wrap_shmi_copy(void *to, const void *from, size_t bytes) { block_put(to, from, bytes); }

/* ---- results -------------------------------------------------------------------------------------------------------
 */

/* Byte k of what `rank` must have received in call i. */
static uint8_t expected(int rank, int i, size_t k) {
  const size_t count = shape->count;
  const int block = (int)(k / count), n = shape->nranks;
  uint8_t sum = 0;
  if (is_message()) return input((rank + n - 1) % n, i, k);
  switch (shape->collective[i]) {
  case SHMI_BROADCAST: return input(0, i, k);
  case SHMI_ALLGATHER:
  case SHMI_GATHER: return input(block, i, k % count);
  case SHMI_ALLTOALL: return input(block, i, (size_t)rank * count + k % count);
  default:
    if (shape->collective[i] == SHMI_REDUCE_SCATTER) k += (size_t)rank * count;
    for (int r = 0; r < n; r++) sum = (uint8_t)(sum + input(r, i, k));
    return sum;
  }
}

static size_t received(int rank, int i) {
  const enum shmi_collective c = shape->collective[i];
  if (shape->kind == ABORTED || shape->kind == DISAGREEING || shape->kind == REFUSED) return 0;
  if (is_one_way()) return rank == 1 ? shape->count : 0;
  if (c == SHMI_GATHER && rank) return 0;
  if (is_message() || (c != SHMI_ALLGATHER && c != SHMI_GATHER && c != SHMI_ALLTOALL)) return shape->count;
  return shape->count * (size_t)shape->nranks;
}

static const char *check(void) {
  for (int r = 0; r < shape->nranks; r++)
    for (int i = 0; i < shape->ncalls * (shape->kind == LANES ? MESSAGES_MOST : 1); i++)
      for (size_t k = 0; k < received(r, i); k++)
        if (recv_of(r, i)[k] != expected(r, i, k)) return "a result is wrong";
  return NULL;
}

/* ---- what is explored ----------------------------------------------------------------------------------------------
 */

#define SUM  SHMI_ALLREDUCE
#define ALL  SHMI_ALLGATHER
#define RS   SHMI_REDUCE_SCATTER
#define A2A  SHMI_ALLTOALL
#define BC   SHMI_BROADCAST
#define GA   SHMI_GATHER
#define WRAP (1ull << 32)
#define HALF (1ull << 31)

static const struct shape shapes[] = {
    {"device, slots, 2 ranks, 3 calls", SLOTS, 2, 1, 3, {SUM, ALL, SUM}, 8, 8, WRAP - 2, false},
    {"device, slots, 2 ranks of 2 threads, 3 calls", SLOTS, 2, 2, 3, {SUM, RS, SUM}, 16, 16, HALF - 2, false},
    {"device, slots, 2 ranks of 2 threads, 3 chunks", SLOTS, 2, 2, 1, {ALL}, 48, 16, WRAP - 2, false},
    {"device, slots, 3 ranks, 2 calls", SLOTS, 3, 1, 2, {SUM, A2A}, 8, 8, WRAP - 1, false},
    {"device, slots, 3 ranks, 3 chunks", SLOTS, 3, 1, 1, {ALL}, 24, 8, HALF - 2, false},
    {"device, slots, 3 ranks, 3 calls with a root", SLOTS, 3, 1, 3, {BC, GA, BC}, 8, 8, WRAP - 2, false},
    {"device, two-shot, 2 ranks, 2 calls", TWO_SHOT, 2, 1, 2, {SUM, SUM}, 128, 128, WRAP - 2, false},
    {"device, two-shot, 2 ranks, 2 chunks", TWO_SHOT, 2, 1, 1, {SUM}, 256, 128, HALF - 2, false},
    {"device, two-shot, 3 ranks, 2 chunks", TWO_SHOT, 3, 1, 1, {SUM}, 384, 192, WRAP - 1, false},
    {"device, packets, 2 ranks, 3 calls", PACKETS, 2, 1, 3, {SUM, ALL, SUM}, 8, 8, WRAP - 2, false},
    {"device, packets, 2 ranks of 2 threads, 2 calls", PACKETS, 2, 2, 2, {SUM, SUM}, 16, 16, HALF - 1, false},
    {"device, packets, 3 ranks, 3 calls with a root", PACKETS, 3, 1, 3, {BC, GA, BC}, 8, 8, WRAP - 2, false},
    {"device, packets, 2 ranks, new flags, 2 calls", PACKETS, 2, 1, 2, {SUM, SUM}, 8, 8, WRAP - 4, true},
    {"device, messages, 2 x 4 pieces", LANES, 2, 1, 1, {0}, 32, 0, WRAP - 4, false},
    {"device, messages, threads, 2 x 3 pieces", LANES, 2, 2, 1, {0}, 24, 0, WRAP - 3, false},
    {"device, another message, and the watchdog", REFUSED, 2, 1, 1, {0}, 8, 0, WRAP - 1, false},
    {"host, inline, 2 ranks, 4 calls", HOST, 2, 1, 4, {SUM, ALL, A2A, SUM}, 8, 64, WRAP - 2, false},
    {"host, inline, 3 ranks, 2 calls", HOST, 3, 1, 2, {SUM, GA}, 8, 64, WRAP - 1, false},
    {"host, slots, 2 ranks, 3 chunks", HOST, 2, 1, 1, {ALL}, 1536, 512, WRAP - 2, false},
    {"host, slots, 3 ranks, 2 calls", HOST, 3, 1, 2, {BC, BC}, 512, 512, WRAP - 1, false},
    {"host, two-shot, 2 ranks, 3 chunks", HOST, 2, 1, 1, {SUM}, 1536, 512, WRAP - 2, false},
    {"host, a message, 2 ranks, 8 pieces", HOST_SEND, 2, 1, 1, {0}, 64, 0, WRAP - 4, false},
    {"host, messages, 2 ranks, 2 pieces each way", HOST_LANES, 2, 1, 1, {0}, 16, 0, WRAP - 1, false},
    {"host, messages, 3 ranks, 2 groups", HOST_LANES, 3, 1, 2, {0}, 8, 0, WRAP - 1, false},
    {"host, aborted, 2 ranks", ABORTED, 2, 1, 1, {SUM}, 8, 64, WRAP - 1, false},
    {"host, aborted, 3 ranks", ABORTED, 3, 1, 1, {SUM}, 8, 64, WRAP - 1, false},
    {"host, disagreeing, 2 ranks", DISAGREEING, 2, 1, 1, {SUM}, 8, 64, WRAP - 1, false},
    {"host, disagreeing, 3 ranks", DISAGREEING, 3, 1, 1, {SUM}, 8, 64, WRAP - 1, false},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static struct model_program program_of(const struct shape *s) {
  shape = s;
  return (struct model_program){.nthreads = s->nranks * s->nthreads + (s->kind == REFUSED),
                                .threads_per_block = s->nthreads,
                                .prepare = prepare,
                                .thread = run_thread,
                                .check = check,
                                .name = name_place};
}

static struct model_outcome explore(const struct shape *s) {
  const struct model_program program = program_of(s);
  return model_explore(&program, STATES_MOST);
}

static void trace(const struct shape *s) {
  const struct model_program program = program_of(s);
  model_print_failure(&program);
}

static int explore_all(void) {
  uint64_t states = 0, executions = 0;
  for (int i = 0; i < SHAPES; i++) {
    const struct model_outcome o = explore(&shapes[i]);
    printf("%-48s %8llu states %8llu executions%s\n", shapes[i].name, (unsigned long long)o.states,
           (unsigned long long)o.executions, o.complete || o.failure ? "" : ": not all");
    if (o.failure) {
      printf("failed: %s\n", o.failure);
      trace(&shapes[i]);
    }
    if (!o.complete) return 1;
    states += o.states;
    executions += o.executions;
  }
  printf("%-48s %8llu states %8llu executions\n", "all", (unsigned long long)states, (unsigned long long)executions);
  return 0;
}

/* ---- controls ------------------------------------------------------------------------------------------------------
 */

/* Uses whose order nothing here depends on, and why they have one. */
static const struct {
  const char *file, *function, *reason;
} exceptions[] = {
    {"src/comm/collectives.c", "shmccl_comm_finalize",
     "who sees that a rank has left reads nothing more of it; an announcement, and so a point of tests/crash"},
    {"src/comm/watchdog.c", "has_left",
     "the other side of that: what is read of the member then was there from the start"},
};

static const char *reason_of(const struct race_use *use) {
  for (size_t i = 0; i < sizeof exceptions / sizeof *exceptions; i++)
    if (!strcmp(race_file(use), exceptions[i].file) && !strcmp(use->function, exceptions[i].function))
      return exceptions[i].reason;
  return NULL;
}

/* Whether some shape fails with this use weakened. */
static bool is_noticed(const struct race_use *use, bool traces) {
  model_weaken(use);
  printf("%s:%d %s, %s: ", race_file(use), use->line, use->function, use->primitive);
  for (int i = 0; i < SHAPES; i++) {
    const struct model_outcome o = explore(&shapes[i]);
    if (!o.failure) continue;
    printf("execution %llu of \"%s\": %s\n", (unsigned long long)o.executions, shapes[i].name, o.failure);
    if (traces) trace(&shapes[i]);
    return true;
  }
  printf("no execution fails\n");
  return false;
}

/* Noticed, or known why not. */
static bool is_controlled(const struct race_use *use) {
  const char *reason = reason_of(use);
  const bool noticed = is_noticed(use, false);
  if (reason) printf("  %s: %s\n", noticed ? "and is listed as one that needs no order" : "listed", reason);
  return noticed == !reason;
}

static bool is_ordering(const struct race_use *use) {
  return strstr(use->primitive, "publish") || strstr(use->primitive, "observe");
}

static bool is_repeated(const struct race_use **use) {
  for (const struct race_use **u = __start_race_uses; u < use; u++)
    if (race_is_same(*u, *use)) return true;
  return false;
}

static int control_all(void) {
  int missed = 0;
  for (const struct race_use **use = __start_race_uses; use < __stop_race_uses; use++)
    if (is_ordering(*use) && !is_repeated(use)) missed += !is_controlled(*use);
  return missed > 0;
}

static int trace_use(const char *place) {
  char text[256];
  for (const struct race_use **use = __start_race_uses; use < __stop_race_uses; use++) {
    snprintf(text, sizeof text, "%s:%d", race_file(*use), (*use)->line);
    if (is_ordering(*use) && strstr(text, place)) return !is_noticed(*use, true);
  }
  fprintf(stderr, "no use of a publish or an observe is at %s\n", place);
  return 2;
}

int main(int argc, char **argv) {
  setenv("SHMCCL_DEBUG", "none", 1);
  setvbuf(stdout, NULL, _IOLBF, 0);
  if (argc == 2 && !strcmp(argv[1], "--controls")) return control_all();
  if (argc == 3 && !strcmp(argv[1], "--trace")) return trace_use(argv[2]);
  if (argc == 1) return explore_all();
  fprintf(stderr, "usage: explore [--controls | --trace FILE:LINE]\n");
  return 2;
}
