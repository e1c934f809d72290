/*
 * test_collectives.c - the collectives on device memory through the public API: ranks as threads, each with a GPU, or
 * all on one. Random calls, several under way at once on several streams, captured and replayed between eager ones,
 * with calls on host memory in between; every result bit for bit.
 */
#include "device_calls.h"
#include "shm/layout.h"

enum { RANKS_MOST = 5, BATCH_MOST = 4, STREAMS = 2, REPLAYS = 3, MOST_BYTES = HARNESS_SLOW ? 20000 : 60000 };

struct plan {
  uint64_t seed;
  shmccl_unique_id_t id;
  shmccl_config_t config;
  int batches;
  struct device_party party;
};

struct rank {
  int rank, nranks;
  struct device_party *party;
  shmccl_comm_t *comm;
  cudaStream_t streams[STREAMS];
  struct device_call calls[BATCH_MOST];
  int ncalls;
};

static void prepare(struct rank *me, struct harness_random *r, bool one_stream) {
  me->ncalls = 1 + (int)harness_below(r, BATCH_MOST);
  const size_t first = harness_below(r, STREAMS);
  for (int i = 0; i < me->ncalls; i++) {
    const struct call c = call_random(r, me->nranks, harness_below(r, 3) ? 2000 : MOST_BYTES);
    const size_t stream = one_stream ? first : harness_below(r, STREAMS);
    char text[256];
    call_text(&c, text);
    harness_note("call %d of %d: %s", i, me->ncalls, text);
    device_call_prepare(&me->calls[i], &c, me->rank, me->nranks, me->streams[stream]);
  }
}

static void release(struct rank *me) {
  for (int i = 0; i < me->ncalls; i++) device_call_release(&me->calls[i]);
}

static void send_all(struct rank *me) {
  for (int i = 0; i < me->ncalls; i++) device_call_send(&me->calls[i]);
}

static void make_all(struct rank *me, struct harness_random *delays) {
  for (int i = 0; i < me->ncalls; i++) {
    harness_delay(delays);
    device_call_make(&me->calls[i], me->comm);
  }
}

static void check_all(struct rank *me) {
  for (int i = 0; i < me->ncalls; i++) device_call_check(&me->calls[i]);
}

static void run_eager(struct rank *me, struct harness_random *r, struct harness_random *delays) {
  prepare(me, r, false);
  device_party_meet(me->party);
  send_all(me);
  make_all(me, delays);
  check_all(me);
  device_party_meet(me->party);
  release(me);
}

/* Streams of one capture: all fork from the first and join it again. */
static cudaGraphExec_t capture(struct rank *me, struct harness_random *delays, bool forks) {
  cudaStream_t origin = me->calls[0].stream, other = me->streams[origin == me->streams[0]];
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  cudaEvent_t event;
  OK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  OK(cudaStreamBeginCapture(origin, cudaStreamCaptureModeThreadLocal));
  OK(cudaEventRecord(event, origin));
  if (forks) OK(cudaStreamWaitEvent(other, event, 0));
  make_all(me, delays);
  if (forks) OK(cudaEventRecord(event, other));
  if (forks) OK(cudaStreamWaitEvent(origin, event, 0));
  OK(cudaStreamEndCapture(origin, &graph));
  OK(cudaGraphInstantiate(&exec, graph, 0));
  OK(cudaGraphDestroy(graph));
  OK(cudaEventDestroy(event));
  return exec;
}

/* Inputs go there and results come back on the stream of the replays. */
static void run_captured(struct rank *me, struct harness_random *r, struct harness_random *delays) {
  const bool forks = harness_below(r, 2);
  prepare(me, r, !forks);
  cudaGraphExec_t exec = capture(me, delays, forks);
  cudaStream_t stream = me->calls[0].stream;
  for (int i = 0; i < me->ncalls; i++) me->calls[i].stream = stream;
  device_party_meet(me->party);
  for (int i = 0; i < REPLAYS; i++) {
    send_all(me);
    OK(cudaGraphLaunch(exec, stream));
    if (i == 1) { /* the same, eagerly, behind the replay */
      send_all(me);
      make_all(me, delays);
    }
    check_all(me);
  }
  device_party_meet(me->party);
  OK(cudaGraphExecDestroy(exec));
  release(me);
}

static void run_on_host(struct rank *me, struct harness_random *r) {
  struct buffers buffers = {0};
  const struct call c = call_random(r, me->nranks, MOST_BYTES);
  call_once(&c, &buffers, me->comm);
  call_release_buffers(&buffers);
}

static void run_rank(int rank, int nranks, void *context) {
  struct plan *plan = context;
  struct harness_random r = harness_random(plan->seed), delays = harness_random(plan->seed + 1 + (uint64_t)rank);
  struct rank me = {.rank = rank, .nranks = nranks, .party = &plan->party};
  int devices;
  OK(cudaGetDeviceCount(&devices));
  OK(cudaSetDevice(rank % devices));
  for (int i = 0; i < STREAMS; i++) me.streams[i] = new_stream();
  CHECK_OK(shmccl_comm_init_rank(&me.comm, nranks, &plan->id, rank, &plan->config));
  for (int i = 0; i < plan->batches; i++) {
    const size_t which = harness_below(&r, 8);
    if (which == 0)
      run_on_host(&me, &r);
    else if (which < 5)
      run_eager(&me, &r, &delays);
    else
      run_captured(&me, &r, &delays);
  }
  CHECK_OK(shmccl_comm_finalize(me.comm));
  CHECK_OK(shmccl_comm_destroy(me.comm));
  for (int i = 0; i < STREAMS; i++) OK(cudaStreamDestroy(me.streams[i]));
}

static void run(int nranks, uint64_t seed, shmccl_algorithm_t algorithm, uint64_t chunk_bytes, int batches) {
  struct plan plan = {.seed = seed, .config = SHMCCL_CONFIG_INITIALIZER, .batches = batches};
  plan.config.timeout_ms = 60000;
  plan.config.memory = SHMCCL_MEMORY_CUDA;
  plan.config.algorithm = algorithm;
  plan.config.chunk_bytes = chunk_bytes;
  CHECK_OK(shmccl_get_unique_id(&plan.id));
  device_party_open(&plan.party, nranks);
  harness_threads(nranks, run_rank, &plan, 100);
  device_party_close(&plan.party);
}

static void run_all(struct harness_random *r, int nranks, int batches) {
  run(nranks, harness_bits(r), SHMCCL_ALGORITHM_AUTO, 0, batches);
  if (nranks == 1) return;
  run(nranks, harness_bits(r), SHMCCL_ALGORITHM_ONE_SHOT, 1000, batches / 2);
  run(nranks, harness_bits(r), SHMCCL_ALGORITHM_TWO_SHOT, 0, batches / 2);
}

/* Arguments: numbers of ranks, where not all up to RANKS_MOST are wanted. */
int main(int argc, char **argv) {
  struct harness_random r = harness_random(harness_seed());
  const int batches = HARNESS_SLOW ? 8 : 20;
  for (int i = 1; i < argc; i++) run_all(&r, atoi(argv[i]), batches);
  for (int nranks = 1; argc == 1 && nranks <= RANKS_MOST; nranks++) run_all(&r, nranks, batches);
  check_empty();
  return 0;
}
