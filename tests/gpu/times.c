/* times.c - see times.h. */
#include "times.h"

#include <stdio.h>

enum {
  CALLS = 5, /* of a batch, enqueued without a wait in between */
  SLOW_US =
      5000, /* a call that takes longer is timed in one batch: ranks that share a GPU wait for slices of its time */
  MOST_COLLECTIVES = 8
};

static const struct {
  const char *name;
  enum shmi_collective collective;
} collectives[] = {
    {"all_reduce", SHMI_ALLREDUCE}, {"all_gather", SHMI_ALLGATHER}, {"reduce_scatter", SHMI_REDUCE_SCATTER},
    {"broadcast", SHMI_BROADCAST},  {"reduce", SHMI_REDUCE},        {"all_to_all", SHMI_ALLTOALL},
    {"gather", SHMI_GATHER},        {"scatter", SHMI_SCATTER},
};

/* One rank's clock. */
struct stopwatch {
  struct rank *rank;
  cudaEvent_t start, stop;
  float *meeting; /* on the device: an all-reduce of it lines the ranks' streams up */
};

static struct stopwatch stopwatch_open(struct rank *r) {
  struct stopwatch w = {.rank = r};
  CHECK_CUDA(cudaEventCreate(&w.start));
  CHECK_CUDA(cudaEventCreate(&w.stop));
  CHECK_CUDA(cudaMalloc((void **)&w.meeting, sizeof *w.meeting));
  CHECK_CUDA(cudaMemset(w.meeting, 0, sizeof *w.meeting));
  return w;
}

static void stopwatch_close(struct stopwatch *w) {
  CHECK_CUDA(cudaFree(w->meeting));
  CHECK_CUDA(cudaEventDestroy(w->stop));
  CHECK_CUDA(cudaEventDestroy(w->start));
}

static void enqueue(const struct rank *r, const struct device_call *d) {
  for (int i = 0; i < CALLS; i++) CHECK_NCCL(device_call_make(d, r->comm, r->stream));
}

static cudaGraphExec_t capture(const struct rank *r, const struct device_call *d) {
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  CHECK_CUDA(cudaStreamBeginCapture(r->stream, cudaStreamCaptureModeThreadLocal));
  enqueue(r, d);
  CHECK_CUDA(cudaStreamEndCapture(r->stream, &graph));
  CHECK_CUDA(cudaGraphInstantiate(&executable, graph, 0));
  CHECK_CUDA(cudaGraphDestroy(graph));
  return executable;
}

/* Microseconds a call. graph: NULL for eager calls. */
static double time_batch(const struct stopwatch *w, const struct device_call *d, cudaGraphExec_t graph) {
  struct rank *r = w->rank;
  float ms;
  CHECK_NCCL(nccl.AllReduce(w->meeting, w->meeting, 1, SHMCCL_FLOAT32, SHMCCL_SUM, r->comm, r->stream));
  CHECK_CUDA(cudaEventRecord(w->start, r->stream));
  if (graph)
    CHECK_CUDA(cudaGraphLaunch(graph, r->stream));
  else
    enqueue(r, d);
  CHECK_CUDA(cudaEventRecord(w->stop, r->stream));
  CHECK_NCCL(rank_wait(r));
  CHECK_CUDA(cudaEventElapsedTime(&ms, w->start, w->stop));
  return (double)ms * 1000 / CALLS;
}

static double slowest(const struct times *t, int batch) {
  double us = 0;
  for (int r = 0; r < t->party.nranks; r++)
    if (t->us[r][batch] > us) us = t->us[r][batch];
  return us;
}

static void print(const struct times *t, const char *what, int nbatches) {
  printf("time %s", what);
  for (int b = 0; b < nbatches; b++) printf(" %.2f", slowest(t, b));
  printf("\n");
  fflush(stdout);
}

/* A batch to connect and warm up, by whose time all ranks decide alike how many follow; returns that. */
static int time_batches(struct times *t, const struct stopwatch *w, const struct device_call *d,
                        cudaGraphExec_t graph) {
  struct rank *r = w->rank;
  t->us[r->rank][0] = time_batch(w, d, graph);
  rank_meet(r);
  const int nbatches = slowest(t, 0) > SLOW_US ? 1 : TIMES_BATCHES;
  rank_meet(r);
  for (int b = 0; b < nbatches; b++) t->us[r->rank][b] = time_batch(w, d, graph);
  return nbatches;
}

static void time_mode(struct times *t, const struct stopwatch *w, struct device_call *d, const char *name, bool graph) {
  struct rank *r = w->rank;
  char what[96];
  snprintf(what, sizeof what, "%s %zu %s", name, d->prepared.call.count * sizeof(float), graph ? "graph" : "eager");
  harness_note("%s", what);
  device_call_fill(d);
  CHECK_CUDA(cudaDeviceSynchronize()); /* cudaMemcpy may return before the device has all of it */
  cudaGraphExec_t executable = graph ? capture(r, d) : NULL;
  const int nbatches = time_batches(t, w, d, executable);
  device_call_check(d);
  if (executable) CHECK_CUDA(cudaGraphExecDestroy(executable));
  rank_meet(r);
  if (r->rank == 0) print(t, what, nbatches);
  rank_meet(r);
}

static void time_pass(struct times *t, const struct stopwatch *w, size_t ncollectives, bool graph) {
  const struct party *party = &t->party;
  for (size_t i = 0; i < ncollectives; i++)
    for (int s = 0; s < t->nsizes; s++) {
      const struct call c = {.collective = collectives[i].collective,
                             .type = SHMCCL_FLOAT32,
                             .op = SHMCCL_SUM,
                             .count = t->sizes[s] / sizeof(float),
                             .seed = party->seed,
                             .exact = true};
      struct device_call d = device_call_open(&c, w->rank->rank, w->rank->nranks);
      time_mode(t, w, &d, collectives[i].name, graph);
      device_call_close(&d);
    }
}

/*
 * All eager calls first, for a race of NCCL 2.30: while a graph has been destroyed and NCCL has not noticed yet, eager
 * calls may go through a host function, to stay behind the graph's; when it notices, which it looks for in every 11th
 * group only, the next call goes past those that are still queued. Both then change the same lists without a lock
 * ("Proxy append out of bounds", or a hang). It takes connections made after a graph: here there are none.
 */
static void time_collectives(struct times *t, int rank, size_t ncollectives) {
  struct rank r = rank_open(&t->party, rank);
  struct stopwatch w = stopwatch_open(&r);
  time_pass(t, &w, ncollectives, false);
  time_pass(t, &w, ncollectives, true);
  stopwatch_close(&w);
  rank_close(&r);
}

void scenario_times(struct party *party, int rank) {
  time_collectives((struct times *)party, rank, LENGTH(collectives));
}

void scenario_times_all_reduce(struct party *party, int rank) { time_collectives((struct times *)party, rank, 1); }
