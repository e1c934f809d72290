/* scenario_collectives.c - one collective at a time, and collectives in a CUDA graph. */
#include "scenarios.h"

static const size_t sizes[] = {0, 4, 1000, 65548, 1 << 20, 3000004}; /* bytes */

static const enum shmi_collective collectives[] = {SHMI_ALLREDUCE, SHMI_ALLGATHER, SHMI_REDUCE_SCATTER, SHMI_BROADCAST,
                                                   SHMI_REDUCE,    SHMI_ALLTOALL,  SHMI_GATHER,         SHMI_SCATTER};

/* NCCL has no all-to-all, gather and scatter in place. */
static bool can_be_in_place(enum shmi_collective c) {
  return c != SHMI_ALLTOALL && c != SHMI_GATHER && c != SHMI_SCATTER;
}

static struct call float_sum(struct party *party, enum shmi_collective collective, size_t bytes) {
  return (struct call){.collective = collective,
                       .type = SHMCCL_FLOAT32,
                       .op = SHMCCL_SUM,
                       .root = (int)(bytes % (size_t)party->nranks),
                       .count = bytes / sizeof(float),
                       .seed = party->seed + bytes,
                       .exact = true};
}

static void run_sizes(struct rank *r, enum shmi_collective collective) {
  for (size_t i = 0; i < LENGTH(sizes); i++) {
    struct call c = float_sum(r->party, collective, sizes[i]);
    rank_run(r, &c);
    c.in_place = can_be_in_place(collective);
    rank_run(r, &c);
  }
}

void scenario_allreduce(struct party *party, int rank) {
  struct rank r = rank_open(party, rank);
  run_sizes(&r, SHMI_ALLREDUCE);
  rank_close(&r);
}

void scenario_collectives(struct party *party, int rank) {
  struct rank r = rank_open(party, rank);
  for (size_t i = 0; i < LENGTH(collectives); i++) run_sizes(&r, collectives[i]);
  rank_close(&r);
}

/* ---- types ------------------------------------------------------------------------------------------------------- */

static bool is_fp8(shmccl_datatype_t type) { return type == SHMCCL_FLOAT8E4M3 || type == SHMCCL_FLOAT8E5M2; }

/* NCCL reduces fp8 from compute capability 9.0 on. */
static bool gpu_has_fp8(void) {
  int gpu, major;
  CHECK_CUDA(cudaGetDevice(&gpu));
  CHECK_CUDA(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, gpu));
  return major >= 9;
}

/* NCCL averages floats by a factor, which is exact for powers of two only. */
static bool is_exact(int nranks, shmccl_datatype_t type, shmccl_redop_t op) {
  return op != SHMCCL_AVG || type < SHMCCL_FLOAT16 || (nranks & (nranks - 1)) == 0;
}

static void run_type(struct rank *r, enum shmi_collective collective, shmccl_datatype_t type) {
  for (int op = 0; op < SHMCCL_REDOP_COUNT; op++)
    if (is_exact(r->nranks, type, (shmccl_redop_t)op))
      rank_run(r, &(struct call){.collective = collective,
                                 .type = type,
                                 .op = (shmccl_redop_t)op,
                                 .count = 1 + 997 * (size_t)(type + op),
                                 .seed = r->party->seed + (uint64_t)op,
                                 .exact = true});
}

/* A user's operator: the sum of the inputs times a scalar, which is on the host or on the device. */
static void run_scaled_sum(struct rank *r, int residence) {
  struct call c = float_sum(r->party, SHMI_ALLREDUCE, 40000);
  struct device_call d = device_call_open(&c, r->rank, r->nranks);
  float *scalar, *expected = (float *)d.prepared.expected;
  int op;
  CHECK_CUDA(cudaMallocHost((void **)&scalar, sizeof *scalar));
  *scalar = 2;
  for (size_t i = 0; i < c.count; i++) expected[i] *= *scalar;
  CHECK_NCCL(nccl.RedOpCreatePreMulSum(&op, scalar, SHMCCL_FLOAT32, residence, r->comm));
  CHECK_NCCL(nccl.AllReduce(d.send, d.recv, c.count, SHMCCL_FLOAT32, op, r->comm, r->stream));
  CHECK_NCCL(nccl.RedOpDestroy(op, r->comm));
  CHECK_NCCL(rank_wait(r));
  device_call_check(&d);
  device_call_close(&d);
  CHECK_CUDA(cudaFreeHost(scalar));
}

void scenario_types(struct party *party, int rank) {
  struct rank r = rank_open(party, rank);
  for (int type = 0; type < SHMCCL_DATATYPE_COUNT; type++) {
    if (is_fp8((shmccl_datatype_t)type) && !gpu_has_fp8()) continue;
    run_type(&r, SHMI_ALLREDUCE, (shmccl_datatype_t)type);
    run_type(&r, SHMI_REDUCE_SCATTER, (shmccl_datatype_t)type);
    run_type(&r, SHMI_REDUCE, (shmccl_datatype_t)type);
  }
  run_scaled_sum(&r, NCCL_SCALAR_HOST);
  run_scaled_sum(&r, NCCL_SCALAR_DEVICE);
  rank_close(&r);
}

/* ---- at random --------------------------------------------------------------------------------------------------- */

static struct call random_call(struct harness_random *random, int nranks) {
  struct call c = call_random(random, nranks, 3000000);
  c.collective = collectives[harness_below(random, LENGTH(collectives))];
  c.in_place &= can_be_in_place(c.collective);
  c.send_misalignment = c.recv_misalignment = 0;
  c.exact = call_reduces(&c);
  if (c.exact && is_fp8(c.type)) c.type = SHMCCL_BFLOAT16;
  if (!is_exact(nranks, c.type, c.op)) c.op = SHMCCL_SUM;
  return c;
}

void scenario_random(struct party *party, int rank) {
  struct rank r = rank_open(party, rank);
  struct harness_random random = harness_random(party->seed), own = harness_random(party->seed + 1 + (uint64_t)rank);
  for (int i = 0; i < 100; i++) {
    const struct call c = random_call(&random, r.nranks);
    harness_delay(&own);
    rank_run(&r, &c);
  }
  rank_close(&r);
}

/* ---- CUDA graphs ------------------------------------------------------------------------------------------------- */

enum { GRAPH_CALLS = 3, GRAPH_LAUNCHES = 4 };

static cudaGraphExec_t capture(struct rank *r, const struct device_call *calls) {
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  CHECK_CUDA(cudaStreamBeginCapture(r->stream, cudaStreamCaptureModeThreadLocal));
  for (int i = 0; i < GRAPH_CALLS; i++) CHECK_NCCL(device_call_make(&calls[i], r->comm, r->stream));
  CHECK_CUDA(cudaStreamEndCapture(r->stream, &graph));
  CHECK_CUDA(cudaGraphInstantiate(&executable, graph, 0));
  CHECK_CUDA(cudaGraphDestroy(graph));
  return executable;
}

void scenario_graph(struct party *party, int rank) {
  struct rank r = rank_open(party, rank);
  struct device_call calls[GRAPH_CALLS];
  for (int i = 0; i < GRAPH_CALLS; i++) {
    const struct call c = float_sum(party, collectives[i], 1000 + (size_t)i * 300000);
    calls[i] = device_call_open(&c, rank, r.nranks);
  }
  cudaGraphExec_t executable = capture(&r, calls);
  for (int launch = 0; launch < GRAPH_LAUNCHES; launch++) {
    const struct call eager = float_sum(party, SHMI_ALLREDUCE, 4000 << launch);
    for (int i = 0; i < GRAPH_CALLS; i++) device_call_fill(&calls[i]);
    CHECK_CUDA(cudaGraphLaunch(executable, r.stream));
    CHECK_NCCL(rank_wait(&r));
    for (int i = 0; i < GRAPH_CALLS; i++) device_call_check(&calls[i]);
    rank_run(&r, &eager);
  }
  CHECK_CUDA(cudaGraphExecDestroy(executable));
  for (int i = 0; i < GRAPH_CALLS; i++) device_call_close(&calls[i]);
  rank_close(&r);
}
