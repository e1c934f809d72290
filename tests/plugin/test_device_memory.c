/*
 * test_device_memory.c - net and CollNet on device memory: all sizes, host and device memory at either end, eight in
 * flight, registration meanwhile and while a stream is captured, and a kernel that spins on every GPU until all is
 * done.
 *
 * Built with LYING_EVENTS every event of CUDA says at once that it is done (negative control): that must be seen.
 */
#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "device_rig.h"

enum { SLOT = HARNESS_SLOW ? 800000 : 1500000, MESSAGES = HARNESS_SLOW ? 20 : 100, EXCHANGES = 16 };

#ifdef LYING_EVENTS
/* "Done", whatever is asked. */
cudaError_t cudaEventQuery(cudaEvent_t event) { return (void)event, cudaSuccess; }
#endif

struct job {
  uint64_t seed;
  struct rig_exchange *exchanges;
};

static bool may_spin(void) { return !setting("STANDIN_ONE_QUEUE"); }

static const nccl_net_v12_t *open_net(void **context, int rank) {
  const nccl_net_v12_t *net = rig_symbol("ncclNetPlugin_v12");
  nccl_net_properties_v12_t properties;
  OK(cudaSetDevice(rank % setting("STANDIN_DEVICES")));
  CHECK(net->init(context, 1, NULL, rig_logger, NULL) == NCCL_SUCCESS);
  CHECK(net->get_properties(0, &properties) == NCCL_SUCCESS);
  CHECK(properties.ptr_support == (NCCL_PTR_HOST | NCCL_PTR_CUDA));
  return net;
}

/* ---- net --------------------------------------------------------------------------------------------------------- */

struct registrar {
  const nccl_net_v12_t *net;
  void *comm;
  uint8_t *memory;
  int leave;
};

/* NCCL's service thread, as it registers users' buffers. */
static void *register_meanwhile(void *context) {
  struct registrar *r = context;
  while (!__atomic_load_n(&r->leave, __ATOMIC_ACQUIRE)) {
    void *mhandle;
    CHECK(r->net->reg_mr(r->comm, r->memory, 4096, NCCL_PTR_CUDA, &mhandle) == NCCL_SUCCESS);
    usleep(500);
    CHECK(r->net->dereg_mr(r->comm, mhandle) == NCCL_SUCCESS);
  }
  return NULL;
}

static void move(struct end ends[2]) {
  while (!end_is_done(&ends[0]) || !end_is_done(&ends[1])) {
    const size_t before = ends[0].done + ends[1].done;
    for (int i = 0; i < 2; i++) CHECK(end_step(&ends[i]) == NCCL_SUCCESS);
    if (ends[0].done + ends[1].done == before) sched_yield();
  }
}

static void run_net(int rank, int nranks, void *context) {
  const struct job *job = context;
  void *plugin_context;
  struct end ends[2];
  struct spin spin;
  cudaGraph_t graph;
  pthread_t thread;
  const nccl_net_v12_t *net = open_net(&plugin_context, rank);
  void *listener = rig_listen_comm(net, plugin_context, &job->exchanges[rank]);
  void *send = rig_send_comm(net, plugin_context, &job->exchanges[!rank]), *recv = rig_recv_comm(net, listener);
  end_open(&ends[0], net, send, true, SLOT, MESSAGES, job->seed + (uint64_t)rank);
  end_open(&ends[1], net, recv, false, SLOT, MESSAGES, job->seed + (uint64_t)!rank);
  struct registrar registrar = {net, recv, ends[1].memories[1].data, 0};
  cudaStream_t captured = new_stream();
  rig_barrier(&job->exchanges[2], rank, nranks);
  if (may_spin()) spin_start(&spin);
  OK(cudaStreamBeginCapture(captured, cudaStreamCaptureModeGlobal));
  CHECK(!pthread_create(&thread, NULL, register_meanwhile, &registrar));
  move(ends);
  __atomic_store_n(&registrar.leave, 1, __ATOMIC_RELEASE);
  pthread_join(thread, NULL);
  OK(cudaStreamEndCapture(captured, &graph));
  rig_barrier(&job->exchanges[3], rank, nranks); /* nobody captures any more */
  OK(cudaGraphDestroy(graph));
  if (may_spin()) spin_end(&spin);
  for (int i = 0; i < 2; i++) end_close(&ends[i], false);
  OK(cudaStreamDestroy(captured));
  CHECK(net->finalize(plugin_context) == NCCL_SUCCESS);
}

/* ---- CollNet ----------------------------------------------------------------------------------------------------- */

enum { JOBS = HARNESS_SLOW ? 6 : 30, MOST = 700001 };

struct area {
  int32_t *data; /* SLOTS * MOST elements */
  void *mhandle;
};

static struct area make_area(const struct rig *rig, void *coll, bool is_on_device) {
  const size_t bytes = (size_t)SLOTS * MOST * sizeof(int32_t);
  struct area a = {is_on_device ? device_bytes(bytes, 0) : NULL, NULL};
  if (!is_on_device) OK(cudaHostAlloc((void **)&a.data, bytes, cudaHostAllocMapped));
  EXPECT_QUIETLY(rig->reg_mr(coll, a.data, bytes, is_on_device ? NCCL_PTR_CUDA : NCCL_PTR_HOST, &a.mhandle),
                 NCCL_SUCCESS);
  return a;
}

/* Of chunks of 1 MiB: less, a whole number, one more and one less. */
static size_t count_of(struct harness_random *r) {
  static const size_t counts[] = {0, 1, 1000, 262143, 262144, 262145, 524288, 700001};
  return harness_below(r, 4) ? counts[harness_below(r, LENGTH(counts))] : harness_below(r, MOST);
}

static int32_t input(int rank, int job, size_t i) { return rank * 1000003 + job * 101 + (int32_t)(i * 3); }

static void check_sum(const int32_t *data, size_t count, int nranks, int job) {
  for (size_t i = 0; i < count; i++) {
    int32_t sum = 0;
    for (int r = 0; r < nranks; r++) sum += input(r, job, i);
    CHECK_TEXT(data[i] == sum, "job %d: element %zu of %zu", job, i, count);
  }
}

struct flight {
  void *request;
  int32_t *result;
  size_t count;
};

static void land(const struct rig *rig, struct flight *f, int nranks, int job) {
  int bytes;
  CHECK(rig_wait(rig, f->request, &bytes) == NCCL_SUCCESS && (size_t)bytes == f->count * sizeof(int32_t));
  check_sum(f->result, f->count, nranks, job);
}

static void run_collnet(int rank, int nranks, void *context) {
  const struct job *job = context;
  struct harness_random shared = harness_random(job->seed), own = harness_random(job->seed + (uint64_t)rank + 1);
  struct flight flights[SLOTS];
  struct spin spin;
  void *net_context;
  const nccl_net_v12_t *net = open_net(&net_context, rank);
  const struct rig rig = rig_open(12);
  void *coll = rig_connect(&rig, &job->exchanges[4 + nranks], rank, nranks);
  const struct area from[] = {make_area(&rig, coll, false), make_area(&rig, coll, true)};
  const struct area to[] = {make_area(&rig, coll, false), make_area(&rig, coll, true)};
  if (may_spin()) spin_start(&spin);
  for (int j = 0; j < JOBS + SLOTS; j++) {
    struct flight *f = &flights[j % SLOTS];
    if (j >= SLOTS) land(&rig, f, nranks, j - SLOTS);
    if (j >= JOBS) continue;
    const struct area *in = &from[harness_below(&own, 2)];
    const struct area *out = harness_below(&own, 3) ? &to[harness_below(&own, 2)] : in; /* or in place */
    int32_t *sendbuf = in->data + (size_t)(j % SLOTS) * MOST;
    f->count = count_of(&shared);
    f->result = out->data + (size_t)(j % SLOTS) * MOST;
    for (size_t i = 0; i < f->count; i++) sendbuf[i] = input(rank, j, i);
    CHECK(rig_iallreduce(&rig, coll, sendbuf, f->result, f->count, NCCL_INT32, NCCL_SUM, in->mhandle, out->mhandle,
                         &f->request) == NCCL_SUCCESS &&
          f->request);
  }
  if (may_spin()) spin_end(&spin);
  rig_barrier(&job->exchanges[9 + nranks], rank, nranks);
  CHECK(rig.close_coll(coll) == NCCL_SUCCESS);
  for (int i = 0; i < 2; i++) {
    OK((i ? cudaFree : cudaFreeHost)(from[i].data));
    OK((i ? cudaFree : cudaFreeHost)(to[i].data));
  }
  rig_finalize(&rig);
  CHECK(net->finalize(net_context) == NCCL_SUCCESS);
}

int main(void) {
  struct job job = {harness_seed(), rig_exchanges(EXCHANGES)};
  harness_own_folder();
  setenv("SHMCCL_NET_GDR", "1", 1);
  harness_ranks(2, run_net, &job, 100);
  for (int nranks = 1; nranks <= 4; nranks++) harness_ranks(nranks, run_collnet, &job, 100);
#ifdef HARNESS_THREADS
  check_empty();
#endif
  return 0;
}
