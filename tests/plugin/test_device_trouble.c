/*
 * test_device_trouble.c - the plugin on device memory when something is missing, fails or dies: what is offered, the
 * budget, ranks that differ, every CUDA call failing once, a lost GPU, a killed peer.
 *
 * Both ends are in one process unless a case says otherwise; each case has a process of its own.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "device_rig.h"

enum { SLOT = 400000, MESSAGES = 12, ENDLESS = 100000, EXCHANGES = 3 };

static const nccl_net_v12_t *net;
static void *context;

static int pointers(void) {
  nccl_net_properties_v12_t properties;
  CHECK(net->get_properties(0, &properties) == NCCL_SUCCESS);
  return properties.ptr_support;
}

static void init(void) {
  net = rig_symbol("ncclNetPlugin_v12");
  CHECK(net->init(&context, 1, NULL, rig_logger, NULL) == NCCL_SUCCESS);
  rig_warnings(NULL);
}

struct pair {
  struct rig_exchange exchange;
  void *send, *recv;
};

static void connect_pair(struct pair *p) {
  memset(p, 0, sizeof *p);
  void *listener = rig_listen_comm(net, context, &p->exchange);
  p->send = rig_send_comm(net, context, &p->exchange);
  p->recv = rig_recv_comm(net, listener);
}

static void alone(harness_rank_fn fn, void *argument) { harness_processes(1, fn, argument, 60); }

/* ---- what is offered --------------------------------------------------------------------------------------------- */

struct offer {
  const char *variable, *value, *fails, *words; /* words NULL: CUDA pointers are offered */
};

static void run_offer(int rank, int nranks, void *argument) {
  const struct offer *o = argument;
  (void)rank, (void)nranks;
  int memory[64];
  void *mhandle;
  struct pair p;
  if (o->variable) setenv(o->variable, o->value, 1);
  if (o->fails) standin_fail(o->fails, 1, cudaErrorMemoryAllocation);
  init();
  EXPECT(pointers() == (o->words ? NCCL_PTR_HOST : NCCL_PTR_HOST | NCCL_PTR_CUDA) ? NCCL_SUCCESS : NCCL_INTERNAL_ERROR,
         NCCL_SUCCESS, o->words);
  EXPECT_QUIETLY(pointers() ? NCCL_SUCCESS : NCCL_INTERNAL_ERROR, NCCL_SUCCESS); /* said once */
  connect_pair(&p);
  void *data = o->words ? (void *)memory : device_bytes(64, 0);
  EXPECT(net->reg_mr(p.send, data, 64, NCCL_PTR_CUDA, &mhandle), o->words ? NCCL_INVALID_ARGUMENT : NCCL_SUCCESS,
         o->words ? "regMr|type 2" : NULL);
  CHECK(net->close_send(p.send) == NCCL_SUCCESS && net->close_recv(p.recv) == NCCL_SUCCESS);
  if (!o->words) OK(cudaFree(data));
  CHECK(net->finalize(context) == NCCL_SUCCESS);
}

static void offers(void) {
  static struct offer all[] = {
      {NULL, NULL, NULL, NULL},
      {"CUDA_DEVICE_MAX_CONNECTIONS", "8", NULL, NULL},
      {"CUDA_DEVICE_MAX_CONNECTIONS", "1", NULL, "host memory only|CUDA_DEVICE_MAX_CONNECTIONS is 1"},
      {"SHMCCL_PINNED_BYTES", "7M", NULL, "host memory only|SHMCCL_PINNED_BYTES"}, /* of two GPUs, each has half */
      {"SHMCCL_PINNED_BYTES", "8M", NULL, NULL},
      {NULL, NULL, "cudaHostRegister", "host memory only|out of memory"},
      {NULL, NULL, "cudaHostGetDevicePointer", "host memory only|out of memory"},
      {NULL, NULL, "cudaGetDeviceCount", "host memory only|sees no GPU"},
      {NULL, NULL, "cudaGetDevice", "host memory only|out of memory"},
  };
  for (size_t i = 0; i < LENGTH(all); i++) alone(run_offer, &all[i]);
}

/* ---- misuse ------------------------------------------------------------------------------------------------------ */

static void run_misuse(int rank, int nranks, void *argument) {
  (void)rank, (void)nranks, (void)argument;
  char pageable[64];
  void *mhandle, *request, *first = device_bytes(4096, 0), *other;
  struct pair p;
  init();
  connect_pair(&p);
  EXPECT(net->reg_mr(p.send, pageable, sizeof pageable, NCCL_PTR_CUDA, &mhandle), NCCL_INVALID_ARGUMENT,
         "no GPU has it");
  EXPECT_QUIETLY(net->reg_mr(p.send, first, 4096, NCCL_PTR_CUDA, &mhandle), NCCL_SUCCESS);
  EXPECT(net->isend(p.send, (char *)first + 4000, 97, 0, mhandle, NULL, &request), NCCL_INVALID_ARGUMENT, "outside");
  OK(cudaSetDevice(1));
  OK(cudaMalloc(&other, 4096));
  EXPECT(net->reg_mr(p.send, other, 4096, NCCL_PTR_CUDA, &mhandle), NCCL_INVALID_USAGE, "device 1|device 0");
  EXPECT_QUIETLY(net->reg_mr(p.recv, other, 4096, NCCL_PTR_CUDA, &mhandle), NCCL_SUCCESS); /* another connection */
  EXPECT_QUIETLY(net->close_send(p.send), NCCL_SUCCESS);
  EXPECT_QUIETLY(net->close_recv(p.recv), NCCL_SUCCESS);
  OK(cudaFree(first));
  OK(cudaFree(other));
  check_empty();
  CHECK(net->finalize(context) == NCCL_SUCCESS);
}

/* Half of 16 MiB for two GPUs is this process's: rings of its own take at most half of that, all of them that. */
static void run_budget(int rank, int nranks, void *argument) {
  (void)rank, (void)nranks, (void)argument;
  enum { PAIRS = 100, SHARE = 8 << 20 };
  static struct pair pairs[PAIRS];
  void *data = device_bytes(4096, 0), *mhandle;
  int made = 0;
  setenv("SHMCCL_PINNED_BYTES", "16M", 1);
  init();
  for (; made < PAIRS; made++) {
    char handle[NCCL_NET_HANDLE_BYTES], text[RIG_LINE];
    void *listener;
    if (net->listen(context, 0, handle, &listener) != NCCL_SUCCESS) {
      CHECK(rig_warnings(text) == 1 && strstr(text, "SHMCCL_PINNED_BYTES"));
      break;
    }
    CHECK(net->close_listen(listener) == NCCL_SUCCESS);
    connect_pair(&pairs[made]);
    EXPECT_QUIETLY(net->reg_mr(pairs[made].send, data, 4096, NCCL_PTR_CUDA, &mhandle), NCCL_SUCCESS);
    EXPECT_QUIETLY(net->reg_mr(pairs[made].recv, data, 4096, NCCL_PTR_CUDA, &mhandle), NCCL_SUCCESS);
    CHECK(standin_stats().host_bytes <= SHARE / 2); /* within a process both ends share a ring */
  }
  CHECK_TEXT(made >= 20 && made < PAIRS, "%d connections", made);
  for (int i = 0; i < made; i++) {
    CHECK(net->close_recv(pairs[i].recv) == NCCL_SUCCESS);
    CHECK(net->close_send(pairs[i].send) == NCCL_SUCCESS);
  }
  OK(cudaFree(data));
  check_empty();
  CHECK(net->finalize(context) == NCCL_SUCCESS);
}

/* One rank was given SHMCCL_NET_GDR, the other was not: both are told, in net and in CollNet. */
static void run_differing(int rank, int nranks, void *argument) {
  struct rig_exchange *exchanges = argument;
  void *handles[RIG_RANKS], *comm;
  setenv("SHMCCL_NET_GDR", rank ? "1" : "0", 1);
  init();
  void *listener = rig_listen_comm(net, context, &exchanges[rank]);
  while (!__atomic_load_n(&exchanges[!rank].written[0], __ATOMIC_ACQUIRE)) usleep(100);
  EXPECT(net->connect(context, 0, exchanges[!rank].handles[0], &comm, NULL), NCCL_INVALID_USAGE, "SHMCCL_NET_GDR");
  const struct rig rig = rig_open(12);
  void *meeting = rig_meet(&rig, &exchanges[2], rank, nranks, handles);
  EXPECT(rig.connect(handles, nranks, rank, meeting, &comm), NCCL_INVALID_USAGE, "SHMCCL_NET_GDR");
  CHECK(rig.close_listen(meeting) == NCCL_SUCCESS && net->close_listen(listener) == NCCL_SUCCESS);
  rig_finalize(&rig);
  CHECK(net->finalize(context) == NCCL_SUCCESS);
}

/* ---- failing calls ----------------------------------------------------------------------------------------------- */

struct fault {
  const char *function;
  bool leaves; /* what the call should have freed */
};

static struct fault faults[] = {
    {"cudaPointerGetAttributes", false},
    {"cudaGetDevice", false},
    {"cudaThreadExchangeStreamCaptureMode", false},
    {"cudaDeviceGetStreamPriorityRange", false},
    {"cudaStreamCreateWithPriority", false},
    {"cudaEventCreateWithFlags", false},
    {"cudaHostRegister", false},
    {"cudaHostGetDevicePointer", false},
    {"cudaMemcpyAsync", false},
    {"cudaEventRecord", false},
    {"cudaEventQuery", false},
    {"cudaHostUnregister", true},
    {"cudaEventDestroy", true},
    {"cudaStreamDestroy", true},
};

static nccl_result_t register_one(struct end *e, void *data, size_t bytes, int type, int m) {
  e->memories[m] = (struct memory){data, NULL, type == NCCL_PTR_CUDA};
  return net->reg_mr(e->comm, data, bytes, type, &e->memories[m].mhandle);
}

static nccl_result_t send_and_receive(struct pair *p, uint8_t *device, size_t bytes) {
  struct end ends[2] = {{.net = net, .comm = p->send, .sends = true}, {.net = net, .comm = p->recv}};
  nccl_result_t result = NCCL_SUCCESS;
  for (int i = 0; i < 2; i++) {
    struct end *e = &ends[i];
    e->slot_bytes = SLOT;
    e->count = MESSAGES;
    e->random = harness_random(7);
    for (int m = 0; m < 2 && result == NCCL_SUCCESS; m++)
      result = register_one(e, device + (size_t)i * bytes, bytes, NCCL_PTR_CUDA, m);
  }
  while (result == NCCL_SUCCESS && !(end_is_done(&ends[0]) && end_is_done(&ends[1]))) {
    result = end_step(&ends[0]);
    if (result == NCCL_SUCCESS) result = end_step(&ends[1]);
    usleep(20);
  }
  return result;
}

/* CollNet of one rank: its copies are made all the same. */
static nccl_result_t reduce(void *coll, const struct rig *rig, uint8_t *device, size_t bytes) {
  void *mhandle, *request = NULL;
  nccl_result_t result = rig->reg_mr(coll, device, bytes, NCCL_PTR_CUDA, &mhandle);
  for (int i = 0; i < 3 && result == NCCL_SUCCESS; i++) {
    result = rig_iallreduce(rig, coll, device, device, bytes, NCCL_UINT8, NCCL_SUM, mhandle, mhandle, &request);
    if (result == NCCL_SUCCESS) result = rig_wait(rig, request, NULL);
  }
  return result;
}

static nccl_result_t session(struct rig_exchange *exchange, const struct rig *rig, uint8_t *device, size_t bytes) {
  struct pair p;
  connect_pair(&p);
  nccl_result_t result = send_and_receive(&p, device, bytes);
  CHECK(net->close_send(p.send) == NCCL_SUCCESS && net->close_recv(p.recv) == NCCL_SUCCESS);
  if (result != NCCL_SUCCESS) return result;
  void *coll = rig_connect(rig, exchange, 0, 1);
  result = reduce(coll, rig, device, bytes);
  CHECK(rig->close_coll(coll) == NCCL_SUCCESS);
  return result;
}

static void check_left(const struct fault *f, unsigned long nth) {
  const struct standin_stats s = standin_stats();
  CHECK_TEXT(f->leaves || (!s.host_ranges && !s.streams && !s.events),
             "call %lu of %s: %ld host ranges, %ld streams, %ld events are left", nth, f->function, s.host_ranges,
             s.streams, s.events);
}

/* One session with the nth call of the function failing; false if there is no such call. */
static bool try_fault(const struct fault *f, unsigned long nth, nccl_result_t *result, struct rig_exchange *exchange,
                      const struct rig *rig, uint8_t *device, size_t bytes) {
  const unsigned long before = standin_calls(f->function);
  char text[RIG_LINE];
  rig_warnings(NULL);
  standin_fail(f->function, nth, cudaErrorUnknown);
  *result = session(exchange, rig, device, bytes);
  standin_fail(NULL, 0, cudaSuccess);
  const int warnings = rig_warnings(text);
  CHECK_TEXT(*result == NCCL_SUCCESS || *result == NCCL_UNHANDLED_CUDA_ERROR || *result == NCCL_SYSTEM_ERROR,
             "call %lu of %s: result %d", nth, f->function, (int)*result);
  CHECK_TEXT(warnings == (*result != NCCL_SUCCESS), "call %lu of %s: result %d, %d warnings, the last: %.300s", nth,
             f->function, (int)*result, warnings, text);
  check_left(f, nth);
  return standin_calls(f->function) >= before + nth;
}

static void run_fault(int rank, int nranks, void *argument) {
  const struct fault *f = argument;
  const size_t bytes = SLOTS * (SLOT + 64);
  (void)rank, (void)nranks;
  uint8_t *device = device_bytes(2 * bytes, 0);
  struct rig_exchange *exchange = rig_exchanges(1);
  nccl_result_t result;
  int failed = 0;
  init();
  pointers();
  const struct rig rig = rig_open(12);
  for (unsigned long nth = 1; try_fault(f, nth, &result, exchange, &rig, device, bytes); nth += 1 + nth / 3)
    failed += result != NCCL_SUCCESS;
  CHECK_TEXT(f->leaves || failed, "%s may fail and nobody notices", f->function);
  CHECK(f->leaves || session(exchange, &rig, device, bytes) == NCCL_SUCCESS);
  OK(cudaFree(device));
  rig_finalize(&rig);
  CHECK(net->finalize(context) == NCCL_SUCCESS);
}

/* ---- a lost GPU, a killed peer ----------------------------------------------------------------------------------- */

static void run_lost(int rank, int nranks, void *argument) {
  (void)rank, (void)nranks, (void)argument;
  struct pair p;
  struct end ends[2];
  nccl_result_t result = NCCL_SUCCESS;
  init();
  connect_pair(&p);
  for (int i = 0; i < 2; i++) end_open(&ends[i], net, i ? p.recv : p.send, !i, SLOT, ENDLESS, 3);
  while (result == NCCL_SUCCESS) {
    for (int i = 0; i < 2 && result == NCCL_SUCCESS; i++) result = end_step(&ends[i]);
    if (ends[1].done == 5) standin_break(0, cudaErrorIllegalAddress);
  }
  EXPECT(result, NCCL_UNHANDLED_CUDA_ERROR, "illegal memory access");
  for (int i = 0; i < 2; i++) end_close(&ends[i], true);
  CHECK(net->finalize(context) == NCCL_SUCCESS);
}

/* Rank 0 lives; rank 1 ends in the middle, with a kernel that spins on each one's GPU. */
struct death {
  struct rig_exchange *exchanges;
  bool survivor_sends;
};

static void run_death(int rank, int nranks, void *argument) {
  const struct death *d = argument;
  const bool sends = (rank == 0) == d->survivor_sends;
  void *listener = NULL, *comm;
  struct spin spin;
  struct end e;
  nccl_result_t result = NCCL_SUCCESS;
  init();
  if (!sends) listener = rig_listen_comm(net, context, &d->exchanges[0]);
  comm = sends ? rig_send_comm(net, context, &d->exchanges[0]) : rig_recv_comm(net, listener);
  end_open(&e, net, comm, sends, SLOT, 100000, 5);
  spin_start(&spin);
  rig_barrier(&d->exchanges[1], rank, nranks);
  while (result == NCCL_SUCCESS) {
    if (rank == 1 && e.done == 30) raise(SIGKILL);
    result = end_step(&e);
    usleep(10);
  }
  EXPECT(result, NCCL_REMOTE_ERROR, "has died");
  spin_end(&spin);
  end_close(&e, true);
  check_empty();
  CHECK(net->finalize(context) == NCCL_SUCCESS);
}

static void deaths(void) {
  for (int sends = 0; sends < 2; sends++) {
    struct death d = {rig_exchanges(2), sends};
    struct harness_outcome outcomes[2];
    harness_outcomes(2, run_death, &d, 60, outcomes);
    CHECK(outcomes[1].signal == SIGKILL);
    CHECK_TEXT(!outcomes[0].timed_out && !outcomes[0].signal && !outcomes[0].status, "the survivor: %s",
               outcomes[0].timed_out ? "hangs" : outcomes[0].message);
  }
}

int main(void) {
  const char *folder = harness_own_folder();
  setenv("SHMCCL_NET_GDR", "1", 1);
  offers();
  alone(run_misuse, NULL);
  alone(run_budget, NULL);
  harness_processes(2, run_differing, rig_exchanges(EXCHANGES), 60);
  for (size_t i = 0; i < LENGTH(faults); i++) alone(run_fault, &faults[i]);
  alone(run_lost, NULL);
  deaths();
  CHECK(harness_entries(folder) == 0);
  return 0;
}
