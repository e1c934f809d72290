/*
 * sweep.c - every collective with every type and operator on every path, in an order by chance: packets, one shot, two
 * shots, calls and graphs, in place and not, aligned and not. Inputs are random, outputs poisoned, every result is
 * compared bit for bit with exact arithmetic (../reference.h), guard zones and inputs too.
 *
 * Ranks are threads or processes, each with a GPU, or sharing them. With --skew one rank's stream is late before each
 * call, and all calls are in place: who is early must not meet what another has not read yet.
 */
#include <stdio.h>
#include <sys/mman.h>

#include "../cuda/device_calls.h"
#include "arguments.h"
#include "base/clock.h"
#include "kernels.h"

enum { PATHS = 3, GRAPH_REPLAYS = 2, PATIENCE_S = 400 };

static uint64_t ranks = 2, processes = 0, seconds = 60, most = 60000, skew = 0, patience = 60;

/* What is to be combined: operators count for what reduces only. */
struct combination {
  enum shmi_collective collective;
  shmccl_datatype_t type;
  shmccl_redop_t op;
  int path;
};
enum { COMBINATIONS_MOST = SHMI_COLLECTIVE_COUNT * SHMCCL_DATATYPE_COUNT * SHMCCL_REDOP_COUNT * PATHS };

/* Of all ranks, in memory that processes share. */
struct common {
  pthread_barrier_t meeting;
  struct combination combinations[COMBINATIONS_MOST];
  int ncombinations, done;
  bool stops;
  uint64_t seed, deadline_ns;
  shmccl_unique_id_t ids[PATHS];
};

struct rank {
  int rank, nranks;
  struct common *common;
  cudaStream_t stream;
  shmccl_comm_t *comms[PATHS];
};

/* Nothing of any rank runs on a GPU then: freeing memory, for one, may wait for all that does. */
static void meet(const struct rank *me) { pthread_barrier_wait(&me->common->meeting); }

/* ---- combinations ------------------------------------------------------------------------------------------------ */

static void add_collective(struct common *c, enum shmi_collective collective) {
  const bool reduces = call_reduces(&(struct call){.collective = collective});
  const int types = collective == SHMI_BARRIER ? 1 : SHMCCL_DATATYPE_COUNT, ops = reduces ? SHMCCL_REDOP_COUNT : 1;
  for (int i = 0; i < types * ops * PATHS; i++)
    c->combinations[c->ncombinations++] = (struct combination){collective, (shmccl_datatype_t)(i / PATHS / ops),
                                                               (shmccl_redop_t)(i / PATHS % ops), i % PATHS};
}

static void make_combinations(struct common *c) {
  struct harness_random r = harness_random(c->seed);
  for (int i = 0; i < SHMI_COLLECTIVE_COUNT; i++) add_collective(c, (enum shmi_collective)i);
  for (int i = c->ncombinations - 1; i > 0; i--) {
    const size_t other = harness_below(&r, (size_t)i + 1);
    const struct combination one = c->combinations[i];
    c->combinations[i] = c->combinations[other];
    c->combinations[other] = one;
  }
}

static struct call call_of(const struct combination *c, struct harness_random *r, int nranks) {
  struct call call = call_random(r, nranks, most);
  call.collective = c->collective;
  call.type = c->type;
  call.op = c->op;
  if (skew) call.in_place = true;
  call.count = c->collective == SHMI_BARRIER ? 0 : harness_below(r, harness_below(r, 3) ? 3000 : most);
  call.count /= shmccl_datatype_size(call.type);
  return call;
}

/* ---- one call ---------------------------------------------------------------------------------------------------- */

static void be_late(const struct rank *me, struct harness_random *r) {
  const int who = (int)harness_below(r, (size_t)me->nranks);
  struct gpu_spin spin = {.ns = harness_below(r, skew * 1000 + 1)};
  const dim3 one = {1, 1, 1};
  if (who == me->rank) OK(cudaLaunchKernel(gpu_kernel_spin(), one, one, (void *[]){&spin}, 0, me->stream));
}

static void make(struct rank *me, struct device_call *d, int path, struct harness_random *r) {
  if (skew) be_late(me, r);
  device_call_make(d, me->comms[path]);
}

static cudaGraphExec_t capture(struct rank *me, struct device_call *d, int path, struct harness_random *r) {
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  OK(cudaStreamBeginCapture(me->stream, cudaStreamCaptureModeThreadLocal));
  make(me, d, path, r);
  OK(cudaStreamEndCapture(me->stream, &graph));
  OK(cudaGraphInstantiate(&exec, graph, 0));
  OK(cudaGraphDestroy(graph));
  return exec;
}

static void run_eager(struct rank *me, struct device_call *d, int path, struct harness_random *r) {
  meet(me);
  device_call_send(d);
  make(me, d, path, r);
  device_call_check(d);
  meet(me);
}

static void run_graph(struct rank *me, struct device_call *d, int path, struct harness_random *r) {
  cudaGraphExec_t exec = capture(me, d, path, r);
  meet(me);
  for (int i = 0; i < GRAPH_REPLAYS; i++) {
    device_call_send(d);
    OK(cudaGraphLaunch(exec, me->stream));
    device_call_check(d);
  }
  meet(me);
  OK(cudaGraphExecDestroy(exec));
}

static void run_combination(struct rank *me, const struct combination *c, uint64_t seed) {
  struct harness_random r = harness_random(seed);
  for (int graph = 0; graph < 2; graph++) {
    const struct call call = call_of(c, &r, me->nranks);
    struct device_call d;
    char text[256];
    call_text(&call, text);
    harness_note("%s, path %d, %s", text, c->path, graph ? "graph" : "eager");
    device_call_prepare(&d, &call, me->rank, me->nranks, me->stream);
    if (graph)
      run_graph(me, &d, c->path, &r);
    else
      run_eager(me, &d, c->path, &r);
    device_call_release(&d);
  }
}

/* ---- ranks ------------------------------------------------------------------------------------------------------- */

static void open_comms(struct rank *me) {
  static const shmccl_algorithm_t algorithms[PATHS] = {SHMCCL_ALGORITHM_AUTO, SHMCCL_ALGORITHM_ONE_SHOT,
                                                       SHMCCL_ALGORITHM_TWO_SHOT};
  for (int path = 0; path < PATHS; path++) {
    shmccl_config_t config = SHMCCL_CONFIG_INITIALIZER;
    config.memory = SHMCCL_MEMORY_CUDA;
    config.timeout_ms = patience * 1000;
    config.algorithm = algorithms[path];
    if (path == 1) config.chunk_bytes = 8192; /* many turns */
    CHECK_OK(shmccl_comm_init_rank(&me->comms[path], me->nranks, &me->common->ids[path], me->rank, &config));
  }
}

static void close_comms(struct rank *me) {
  for (int path = 0; path < PATHS; path++) CHECK_OK(shmccl_comm_finalize(me->comms[path]));
  meet(me);
  for (int path = 0; path < PATHS; path++) CHECK_OK(shmccl_comm_destroy(me->comms[path]));
}

static void run_rank(int rank, int nranks, void *common) {
  struct common *c = common;
  struct rank me = {.rank = rank, .nranks = nranks, .common = c};
  struct cudaFuncAttributes attributes;
  int devices;
  OK(cudaGetDeviceCount(&devices));
  OK(cudaSetDevice(rank % devices));
  OK(cudaFuncGetAttributes(&attributes, gpu_kernel_spin())); /* loads it */
  me.stream = new_stream();
  open_comms(&me);
  for (int i = 0; i < c->ncombinations; i++) {
    if (rank == 0) c->stops = shmi_now_ns() > c->deadline_ns;
    meet(&me);
    if (c->stops) break;
    run_combination(&me, &c->combinations[i], c->seed + (uint64_t)i);
    if (rank == 0) c->done = i + 1;
  }
  close_comms(&me);
  OK(cudaStreamDestroy(me.stream));
}

static struct common *share(void) {
  struct common *c = mmap(NULL, sizeof *c, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  pthread_barrierattr_t attributes;
  CHECK(c != MAP_FAILED);
  pthread_barrierattr_init(&attributes);
  pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  CHECK(!pthread_barrier_init(&c->meeting, &attributes, (unsigned)ranks));
  return c;
}

int main(int argc, char **argv) {
  const struct argument arguments[] = {{"ranks", &ranks}, {"processes", &processes}, {"seconds", &seconds},
                                       {"most", &most},   {"skew", &skew},           {"patience", &patience},
                                       {NULL, NULL}};
  arguments_read(argc, argv, arguments);
  CHECK(ranks && ranks <= 16 && most);
  struct common *c = share();
  c->seed = harness_seed();
  c->deadline_ns = shmi_now_ns() + seconds * 1000000000;
  make_combinations(c);
  for (int path = 0; path < PATHS; path++) CHECK_OK(shmccl_get_unique_id(&c->ids[path]));
  if (processes)
    harness_processes((int)ranks, run_rank, c, PATIENCE_S); /* CUDA is not in use yet */
  else
    harness_threads((int)ranks, run_rank, c, PATIENCE_S);
  printf("fact sweep {\"ranks\": %llu, \"as\": \"%s\", \"skew_us\": %llu, \"most_bytes\": %llu, \"combinations\": %d, "
         "\"done\": %d}\n",
         (unsigned long long)ranks, processes ? "processes" : "threads", (unsigned long long)skew,
         (unsigned long long)most, c->ncombinations, c->done);
  return c->done ? 0 : 1;
}
