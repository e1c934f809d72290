/*
 * test_p2p.c - send, recv and groups of them on device memory through the public API: ranks as threads, each with a
 * GPU, or all on one. Random groups, rings and calls without partners yet, several under way at once on several
 * streams, captured and replayed between eager ones, with collectives and messages on host memory in between; every
 * byte.
 */
#include "device_calls.h"
#include "messages.h"

enum { RANKS_MOST = 5, MESSAGES_MOST = 24, GROUPS_MOST = 3, STREAMS = 2, REPLAYS = 3 };

struct plan {
  uint64_t seed;
  shmccl_unique_id_t id;
  shmccl_config_t config;
  int batches;
  struct device_party party;
};

/* A message with its buffers' twins on the device, guard zones included. */
struct device_message {
  struct message host;
  uint8_t *send, *recv;
};

struct group {
  struct device_message messages[MESSAGES_MOST];
  size_t count;
  cudaStream_t stream;
  struct harness_random own; /* in which order this rank makes its calls: the same each time */
};

struct rank {
  int rank, nranks;
  struct device_party *party;
  shmccl_comm_t *comm;
  cudaStream_t streams[STREAMS];
  struct group groups[GROUPS_MOST];
  int ngroups;
};

/* ---- one message --------------------------------------------------------------------------------------------------
 */

static void open_message(struct device_message *d, const struct message *m, int rank, struct harness_random *own) {
  d->host = *m;
  message_open(&d->host, rank, own);
  d->send = device_twin(&d->host.send);
  d->recv = device_twin(&d->host.recv);
}

static void release_message(struct device_message *d) {
  OK(cudaFree(d->send));
  OK(cudaFree(d->recv));
  message_release(&d->host);
}

static void upload(struct device_message *d, int rank, cudaStream_t stream) {
  const struct message *m = &d->host;
  message_refill(&d->host, rank);
  device_move(d->send, m->send.memory, m->send.capacity, cudaMemcpyHostToDevice, stream);
  device_move(d->recv, m->recv.memory, m->recv.capacity, cudaMemcpyHostToDevice, stream);
}

static void download(struct device_message *d, cudaStream_t stream) {
  const struct message *m = &d->host;
  device_move(m->send.memory, d->send, m->send.capacity, cudaMemcpyDeviceToHost, stream);
  device_move(m->recv.memory, d->recv, m->recv.capacity, cudaMemcpyDeviceToHost, stream);
}

static uint8_t *place(uint8_t *twin, const struct harness_buffer *b) { return twin + (b->data - b->memory); }

static void send_it(const struct device_message *d, shmccl_comm_t *comm, cudaStream_t stream) {
  const struct message *m = &d->host;
  CHECK_OK(shmccl_send(message_bytes(m) ? place(d->send, &m->send) : NULL, m->count, m->type, m->to, comm, stream));
}

static void recv_it(const struct device_message *d, shmccl_comm_t *comm, cudaStream_t stream) {
  const struct message *m = &d->host;
  CHECK_OK(shmccl_recv(message_bytes(m) ? place(d->recv, &m->recv) : NULL, m->count, m->type, m->from, comm, stream));
}

/* ---- groups ------------------------------------------------------------------------------------------------------
 */

static struct message all_to_all(size_t i, int nranks, size_t count, uint64_t seed) {
  return (struct message){(int)i / nranks, (int)i % nranks, SHMCCL_INT32, count, seed + i, {0}, {0}};
}

/* Random messages, or the same from everybody to everybody. */
static void open_group(struct rank *me, struct group *g, struct harness_random *r, struct harness_random *own) {
  const bool all = me->nranks * me->nranks <= MESSAGES_MOST && harness_below(r, 3) == 0;
  const size_t same = harness_below(r, 3000);
  const uint64_t seed = harness_bits(r);
  g->count = all ? (size_t)(me->nranks * me->nranks) : harness_below(r, MESSAGES_MOST);
  g->own = harness_random(harness_bits(own));
  for (size_t i = 0; i < g->count; i++) {
    const struct message m =
        all ? all_to_all(i, me->nranks, same, seed) : message_random(r, me->nranks, i % 8 ? 2000 : 60000);
    open_message(&g->messages[i], &m, me->rank, own);
  }
}

static void upload_group(struct rank *me, struct group *g) {
  for (size_t i = 0; i < g->count; i++) upload(&g->messages[i], me->rank, g->stream);
}

/* Sends in list order and receives in list order, but mixed at random: only the order within a pair counts. */
static void post(const struct rank *me, const struct group *g) {
  struct harness_random own = g->own;
  size_t sends = 0, recvs = 0;
  CHECK_OK(shmccl_group_start(me->comm));
  while (sends < g->count || recvs < g->count) {
    const bool send = recvs == g->count || (sends < g->count && harness_below(&own, 2));
    const struct device_message *d = &g->messages[send ? sends++ : recvs++];
    if (send && d->host.from == me->rank) send_it(d, me->comm, g->stream);
    if (!send && d->host.to == me->rank) recv_it(d, me->comm, g->stream);
  }
  CHECK_OK(shmccl_group_end(me->comm));
}

static void check_group(struct rank *me, struct group *g) {
  for (size_t i = 0; i < g->count; i++) download(&g->messages[i], g->stream);
  OK(cudaStreamSynchronize(g->stream));
  for (size_t i = 0; i < g->count; i++) message_check(&g->messages[i].host, me->rank);
}

static void release_group(struct group *g) {
  for (size_t i = 0; i < g->count; i++) release_message(&g->messages[i]);
}

/* ---- batches -----------------------------------------------------------------------------------------------------
 */

static void open_batch(struct rank *me, struct harness_random *r, struct harness_random *own, bool one_stream) {
  const size_t first = harness_below(r, STREAMS);
  me->ngroups = 1 + (int)harness_below(r, GROUPS_MOST);
  for (int i = 0; i < me->ngroups; i++) {
    me->groups[i].stream = me->streams[one_stream ? first : harness_below(r, STREAMS)];
    open_group(me, &me->groups[i], r, own);
  }
}

static void upload_batch(struct rank *me) {
  for (int i = 0; i < me->ngroups; i++) upload_group(me, &me->groups[i]);
}

/* With a collective behind each group. */
static void post_batch(struct rank *me, struct harness_random *own) {
  for (int i = 0; i < me->ngroups; i++) {
    harness_delay(own);
    post(me, &me->groups[i]);
    CHECK_OK(shmccl_barrier(me->comm, me->groups[i].stream));
  }
}

static void check_batch(struct rank *me) {
  for (int i = 0; i < me->ngroups; i++) check_group(me, &me->groups[i]);
}

static void release_batch(struct rank *me) {
  for (int i = 0; i < me->ngroups; i++) release_group(&me->groups[i]);
}

static void run_eager(struct rank *me, struct harness_random *r, struct harness_random *own) {
  open_batch(me, r, own, false);
  device_party_meet(me->party);
  upload_batch(me);
  post_batch(me, own);
  check_batch(me);
  device_party_meet(me->party);
  release_batch(me);
}

static void run_captured(struct rank *me, struct harness_random *r, struct harness_random *own) {
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  open_batch(me, r, own, true);
  cudaStream_t stream = me->groups[0].stream;
  OK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  post_batch(me, own);
  OK(cudaStreamEndCapture(stream, &graph));
  OK(cudaGraphInstantiate(&exec, graph, 0));
  OK(cudaGraphDestroy(graph));
  device_party_meet(me->party);
  for (int i = 0; i < REPLAYS; i++) {
    upload_batch(me);
    OK(cudaGraphLaunch(exec, stream));
    if (i == 1) { /* the same, eagerly, behind the replay */
      upload_batch(me);
      post_batch(me, own);
    }
    check_batch(me);
  }
  device_party_meet(me->party);
  OK(cudaGraphExecDestroy(exec));
  release_batch(me);
}

/* ---- without groups ----------------------------------------------------------------------------------------------
 */

/* Once around the ring: even ranks send first. With an odd number of ranks the last and first both do. */
static void run_ring(struct rank *me, struct harness_random *r, struct harness_random *own) {
  const uint64_t seed = harness_bits(r);
  const size_t bytes = harness_below(r, 4) ? harness_below(r, 600) : harness_below(r, 50000);
  const int n = me->nranks, next = (me->rank + 1) % n, previous = (me->rank + n - 1) % n;
  const struct message from_me = {me->rank, next, SHMCCL_UINT8, bytes, seed + (uint64_t)me->rank, {0}, {0}};
  const struct message to_me = {previous, me->rank, SHMCCL_UINT8, bytes, seed + (uint64_t)previous, {0}, {0}};
  struct group ring = {.count = 2, .stream = me->streams[0]};
  open_message(&ring.messages[0], &from_me, me->rank, own);
  open_message(&ring.messages[1], &to_me, me->rank, own);
  device_party_meet(me->party);
  upload_group(me, &ring);
  if (me->rank % 2 == 0) send_it(&ring.messages[0], me->comm, ring.stream);
  recv_it(&ring.messages[1], me->comm, ring.stream);
  if (me->rank % 2) send_it(&ring.messages[0], me->comm, ring.stream);
  check_group(me, &ring);
  device_party_meet(me->party);
  release_group(&ring);
}

/* Small messages need no receiver yet: as many as there are slots. */
static void run_ahead(struct rank *me, struct harness_random *r, struct harness_random *own) {
  const int last = me->nranks - 1;
  struct group ahead = {.count = SHMI_PAIR_SLOTS, .stream = me->streams[0]};
  for (int i = 0; i < SHMI_PAIR_SLOTS; i++) {
    const struct message m = {0, last, SHMCCL_INT32, harness_below(r, 200), harness_bits(r), {0}, {0}};
    open_message(&ahead.messages[i], &m, me->rank, own);
  }
  device_party_meet(me->party);
  upload_group(me, &ahead);
  for (int i = 0; me->rank == 0 && i < SHMI_PAIR_SLOTS; i++) send_it(&ahead.messages[i], me->comm, ahead.stream);
  OK(cudaStreamSynchronize(ahead.stream));
  CHECK_OK(shmccl_barrier(me->comm, NULL));
  for (int i = 0; me->rank == last && i < SHMI_PAIR_SLOTS; i++) recv_it(&ahead.messages[i], me->comm, ahead.stream);
  check_group(me, &ahead);
  device_party_meet(me->party);
  release_group(&ahead);
}

/* Also on a communicator with a GPU messages without elements go with those that have some. */
static void run_on_host(struct rank *me, struct harness_random *r, struct harness_random *own) {
  struct message messages[MESSAGES_MOST];
  const size_t count = harness_below(r, MESSAGES_MOST);
  CHECK_OK(shmccl_group_start(me->comm));
  for (size_t i = 0; i < count; i++) {
    struct message *m = &messages[i];
    *m = message_random(r, me->nranks, 2000);
    message_open(m, me->rank, own);
    if (m->from == me->rank) CHECK_OK(shmccl_send(m->send.data, m->count, m->type, m->to, me->comm, NULL));
    if (m->to == me->rank) CHECK_OK(shmccl_recv(m->recv.data, m->count, m->type, m->from, me->comm, NULL));
  }
  CHECK_OK(shmccl_group_end(me->comm));
  for (size_t i = 0; i < count; i++) message_close(&messages[i], me->rank);
}

/* ---- misuse ------------------------------------------------------------------------------------------------------
 */

#define EXPECT_INVALID(call, code)                                                                                     \
  do {                                                                                                                 \
    const shmccl_result_t result_ = (call);                                                                            \
    CHECK_TEXT(result_ == (code), "%s is %s", #call, shmccl_error_string(result_));                                    \
  } while (0)

/* What is refused costs nothing but the call. */
static void run_misuse(struct rank *me) {
  const int peer = me->rank ? 0 : me->nranks - 1;
  uint8_t host[64], *device = device_bytes(64, 0);
  shmccl_comm_t *comm = me->comm;
  EXPECT_INVALID(shmccl_send(host, 64, SHMCCL_INT8, peer, comm, me->streams[0]), SHMCCL_ERROR_INVALID_ARGUMENT);
  CHECK_OK(shmccl_group_start(comm));
  CHECK_OK(shmccl_send(device, 32, SHMCCL_INT8, me->rank, comm, me->streams[0]));
  EXPECT_INVALID(shmccl_send(host, 64, SHMCCL_INT8, peer, comm, NULL), SHMCCL_ERROR_INVALID_ARGUMENT);
  EXPECT_INVALID(shmccl_send(device, 64, SHMCCL_INT8, peer, comm, me->streams[1]), SHMCCL_ERROR_INVALID_ARGUMENT);
  EXPECT_INVALID(shmccl_barrier(comm, me->streams[0]), SHMCCL_ERROR_INVALID_USAGE);
  CHECK_OK(shmccl_recv(device + 16, 32, SHMCCL_INT8, me->rank, comm, me->streams[0]));
  EXPECT_INVALID(shmccl_group_end(comm), SHMCCL_ERROR_INVALID_ARGUMENT); /* they overlap */
  EXPECT_INVALID(shmccl_recv(device, 64, SHMCCL_INT8, me->rank, comm, me->streams[0]), SHMCCL_ERROR_INVALID_USAGE);
  if (me->nranks > 1) {
    CHECK_OK(shmccl_group_start(comm));
    for (int i = 0; i < 257; i++) CHECK_OK(shmccl_send(device, 64, SHMCCL_INT8, peer, comm, me->streams[0]));
    EXPECT_INVALID(shmccl_group_end(comm), SHMCCL_ERROR_INVALID_USAGE);
  }
  OK(cudaFree(device));
}

/* ---- all of it ---------------------------------------------------------------------------------------------------
 */

static void run_rank(int rank, int nranks, void *context) {
  struct plan *plan = context;
  struct harness_random r = harness_random(plan->seed), own = harness_random(plan->seed + 1 + (uint64_t)rank);
  struct rank *me = calloc(1, sizeof *me);
  int devices;
  CHECK(me);
  *me = (struct rank){.rank = rank, .nranks = nranks, .party = &plan->party};
  OK(cudaGetDeviceCount(&devices));
  OK(cudaSetDevice(rank % devices));
  for (int i = 0; i < STREAMS; i++) me->streams[i] = new_stream();
  CHECK_OK(shmccl_comm_init_rank(&me->comm, nranks, &plan->id, rank, &plan->config));
  run_misuse(me);
  for (int i = 0; i < plan->batches; i++) {
    harness_note("batch %d", i);
    device_party_meet(me->party);
    switch (harness_below(&r, 6)) {
    case 0: run_on_host(me, &r, &own); break;
    case 1:
      if (nranks > 1) run_ring(me, &r, &own);
      if (nranks > 1) run_ahead(me, &r, &own);
      break;
    case 2:
    case 3: run_eager(me, &r, &own); break;
    default: run_captured(me, &r, &own);
    }
  }
  CHECK_OK(shmccl_comm_finalize(me->comm));
  CHECK_OK(shmccl_comm_destroy(me->comm));
  for (int i = 0; i < STREAMS; i++) OK(cudaStreamDestroy(me->streams[i]));
  free(me);
}

static void run_all(struct harness_random *r, int nranks) {
  for (int small = 0; small < 2; small++) {
    struct plan plan = {.seed = harness_bits(r), .config = SHMCCL_CONFIG_INITIALIZER, .batches = HARNESS_SLOW ? 4 : 10};
    plan.config.timeout_ms = 60000;
    plan.config.memory = SHMCCL_MEMORY_CUDA;
    if (small) plan.config.staging_bytes = (uint64_t)nranks * (2800 << 10); /* pieces of some pages */
    CHECK_OK(shmccl_get_unique_id(&plan.id));
    device_party_open(&plan.party, nranks);
    harness_threads(nranks, run_rank, &plan, 100);
    device_party_close(&plan.party);
  }
}

/* Arguments: numbers of ranks, where not all up to RANKS_MOST are wanted. */
int main(int argc, char **argv) {
  struct harness_random r = harness_random(harness_seed());
  setenv("SHMCCL_DEBUG", "none", 1); /* misuse's errors */
  for (int i = 1; i < argc; i++) run_all(&r, atoi(argv[i]));
  for (int nranks = 1; argc == 1 && nranks <= RANKS_MOST; nranks++) run_all(&r, nranks);
  check_empty();
  return 0;
}
