/*
 * test_engines.c - which calls copy engines carry, and what that takes: ranks as threads, on the stand-in.
 *
 * That results are right whatever carries them is test_collectives.c's, run with SHMCCL_ENGINE_BYTES=1 too; here they
 * are of usual sizes. The stand-in counts copies, which tell engines from kernels: tests make none of their own.
 */
#include <string.h>

#include "cudart_standin.h"
#include "harness.h"
#include "shm/layout.h"
#include "standin/support.h"

/* What ThreadSanitizer can do in time is less: main() scales the library's thresholds too. */
enum { LEAST = HARNESS_SLOW ? 64 << 10 : 1 << 20, COMMS = 3 };

struct rank {
  int rank, nranks;
  cudaStream_t stream;
};

struct plan {
  void (*run)(struct rank *r, const shmccl_unique_id_t *ids);
  shmccl_unique_id_t ids[COMMS];
};

/* ---- ranks ------------------------------------------------------------------------------------------------------- */

static pthread_barrier_t barrier;

static void run_rank(int rank, int nranks, void *context) {
  const struct plan *plan = context;
  struct rank r = {.rank = rank, .nranks = nranks};
  OK(cudaSetDevice(rank));
  r.stream = new_stream();
  plan->run(&r, plan->ids);
  OK(cudaStreamDestroy(r.stream));
}

static void run(int nranks, void (*fn)(struct rank *, const shmccl_unique_id_t *)) {
  struct plan plan = {.run = fn};
  for (int i = 0; i < COMMS; i++) CHECK_OK(shmccl_get_unique_id(&plan.ids[i]));
  pthread_barrier_init(&barrier, NULL, (unsigned)nranks);
  harness_threads(nranks, run_rank, &plan, 100);
  pthread_barrier_destroy(&barrier);
}

static shmccl_comm_t *join(const struct rank *r, const shmccl_unique_id_t *id) {
  const shmccl_config_t config = {.size = sizeof config, .timeout_ms = 60000, .memory = SHMCCL_MEMORY_CUDA};
  shmccl_comm_t *comm;
  CHECK_OK(shmccl_comm_init_rank(&comm, r->nranks, id, r->rank, &config));
  return comm;
}

static void leave(shmccl_comm_t *comm) {
  CHECK_OK(shmccl_comm_finalize(comm));
  CHECK_OK(shmccl_comm_destroy(comm));
}

/* The host may touch device memory of the stand-in. */
static float *numbers(size_t count, float value) {
  void *p;
  OK(cudaMalloc(&p, count * sizeof(float)));
  for (size_t i = 0; i < count; i++) ((float *)p)[i] = value + (float)(i % 1000);
  return p;
}

static void check_sum(const float *p, size_t count, int nranks) {
  const int ranks = nranks * (nranks - 1) / 2;
  for (size_t i = 0; i < count; i++)
    CHECK_TEXT(p[i] == (float)ranks + (float)nranks * (float)(i % 1000), "element %zu is %g", i, (double)p[i]);
}

static void allreduce(const struct rank *r, float *p, size_t count, shmccl_comm_t *comm, cudaStream_t stream) {
  (void)r;
  CHECK_OK(shmccl_allreduce(p, p, count, SHMCCL_FLOAT32, SHMCCL_SUM, comm, stream));
}

/* How many copies all ranks' devices made during fn, which ends with its stream. */
static unsigned long copies_of(const struct rank *r, void (*fn)(const struct rank *, shmccl_comm_t *),
                               shmccl_comm_t *comm) {
  pthread_barrier_wait(&barrier);
  const unsigned long before = standin_stats().copies;
  pthread_barrier_wait(&barrier);
  fn(r, comm);
  pthread_barrier_wait(&barrier);
  return standin_stats().copies - before;
}

/* ---- who carries ------------------------------------------------------------------------------------------------- */

static void run_one(const struct rank *r, shmccl_comm_t *comm, size_t count) {
  float *p = numbers(count, (float)r->rank);
  allreduce(r, p, count, comm, r->stream);
  OK(cudaStreamSynchronize(r->stream));
  check_sum(p, count, r->nranks);
  OK(cudaFree(p));
}

static void small_call(const struct rank *r, shmccl_comm_t *comm) { run_one(r, comm, LEAST / 4 - 1); }
static void large_call(const struct rank *r, shmccl_comm_t *comm) { run_one(r, comm, LEAST / 4); }
static void odd_call(const struct rank *r, shmccl_comm_t *comm) { run_one(r, comm, 5 * LEAST / 4 + 77); }

static void captured_call(const struct rank *r, shmccl_comm_t *comm) {
  float *p = numbers(LEAST, (float)r->rank);
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  OK(cudaStreamBeginCapture(r->stream, cudaStreamCaptureModeThreadLocal));
  allreduce(r, p, LEAST, comm, r->stream);
  OK(cudaStreamEndCapture(r->stream, &graph));
  OK(cudaGraphInstantiate(&exec, graph, 0));
  OK(cudaGraphLaunch(exec, r->stream));
  OK(cudaStreamSynchronize(r->stream));
  check_sum(p, LEAST, r->nranks);
  OK(cudaGraphExecDestroy(exec));
  OK(cudaGraphDestroy(graph));
  OK(cudaFree(p));
}

/* From a threshold on, and not under capture. */
static void carriers(struct rank *r, const shmccl_unique_id_t *ids) {
  shmccl_comm_t *comm = join(r, ids);
  CHECK(copies_of(r, small_call, comm) == 0);
  CHECK(copies_of(r, large_call, comm) > 0);
  CHECK(copies_of(r, odd_call, comm) > 0);
  CHECK(copies_of(r, captured_call, comm) == 0);
  leave(comm);
}

/* ---- several at once --------------------------------------------------------------------------------------------- */

/* Calls on three communicators, each on two streams, all under way together; the second rank comes late each time. */
static void several(struct rank *r, const shmccl_unique_id_t *ids) {
  enum { CALLS = 2, COUNT = LEAST / 2 + 5 };
  shmccl_comm_t *comms[COMMS];
  cudaStream_t streams[CALLS] = {new_stream(), new_stream()};
  float *p[COMMS][CALLS];
  for (int i = 0; i < COMMS; i++) comms[i] = join(r, &ids[i]);
  for (int k = 0; k < CALLS; k++)
    for (int i = 0; i < COMMS; i++) p[i][k] = numbers(COUNT, (float)r->rank);
  for (int k = 0; k < CALLS; k++)
    for (int i = 0; i < COMMS; i++) {
      if (r->rank == 1) nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
      allreduce(r, p[i][k], COUNT, comms[i], streams[(k + i) % CALLS]);
    }
  for (int k = 0; k < CALLS; k++) OK(cudaStreamSynchronize(streams[k]));
  for (int i = 0; i < COMMS; i++) {
    for (int k = 0; k < CALLS; k++) {
      check_sum(p[i][k], COUNT, r->nranks);
      OK(cudaFree(p[i][k]));
    }
    leave(comms[i]);
  }
  for (int k = 0; k < CALLS; k++) OK(cudaStreamDestroy(streams[k]));
}

/* ---- pinned memory ----------------------------------------------------------------------------------------------- */

/* Slots for engines are given only if that leaves five eighths of the share; without them kernels carry all. */
static void scarce(struct rank *r, const shmccl_unique_id_t *ids) {
  shmccl_comm_t *comm = join(r, ids);
  const size_t lines = 2 * 4096; /* of status, a page a rank, are not registered */
  pthread_barrier_wait(&barrier);
  CHECK_TEXT(standin_stats().host_bytes <= (24u << 20) + lines, "%zu bytes are pinned", standin_stats().host_bytes);
  CHECK(copies_of(r, large_call, comm) == 0);
  leave(comm);
}

/* ---- CPUs -------------------------------------------------------------------------------------------------------- */

/* With CPUs a rank uploads and downloads its message once each, and its GPU adds nothing. */
static void by_cpus(struct rank *r, const shmccl_unique_id_t *ids) {
  shmccl_comm_t *comm = join(r, ids);
  pthread_barrier_wait(&barrier);
  const unsigned long before = standin_stats().kernels;
  CHECK(copies_of(r, odd_call, comm) > 0);
  const unsigned long kernels = standin_stats().kernels - before;
  /* Three ranks' meetings: a chunk each and one more; sums would be as many again. */
  CHECK_TEXT(kernels && kernels <= 3 * 11, "%lu kernels", kernels);
  leave(comm);
}

/* Destroying may have left the rest to a thread. */
static void check_all_freed(void) {
  for (int i = 0; i < 500 && (standin_stats().host_ranges || standin_stats().events); i++)
    nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
  check_empty();
}

int main(void) {
  setenv("SHMCCL_PINNED_BYTES", "1G", 1);
  if (HARNESS_SLOW) {
    setenv("SHMCCL_ENGINE_BYTES", "64K", 1);
    setenv("SHMCCL_CHUNK_BYTES", "40000", 1);
  }
  run(3, carriers);
  run(2, several);
  setenv("SHMCCL_PINNED_BYTES", "24M", 1);
  run(2, scarce);
  setenv("SHMCCL_PINNED_BYTES", "1G", 1);
  setenv("SHMCCL_CPU_REDUCE", "1", 1);
  run(3, by_cpus);
  run(2, several);
  check_all_freed();
  return 0;
}
