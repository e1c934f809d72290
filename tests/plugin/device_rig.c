/* device_rig.c - see device_rig.h. */
#include "device_rig.h"

#include <sched.h>

/* ---- the kernel -------------------------------------------------------------------------------------------------- */

static char spin_symbol;

static cudaError_t run_spin(const struct standin_launch *launch) {
  const int *leave = *(int **)launch->args[0];
  while (!__atomic_load_n(leave, __ATOMIC_ACQUIRE) && standin_broken(launch->device) == cudaSuccess) usleep(200);
  return cudaSuccess;
}

void spin_start(struct spin *s) {
  static const struct standin_kernel kernel = {"spin", run_spin, 1, {sizeof(int *)}, true};
  int *leave = &s->leave;
  void *arguments[] = {&leave};
  standin_kernel_symbol(&spin_symbol, &kernel);
  s->leave = 0;
  s->stream = new_stream();
  OK(cudaLaunchKernel(&spin_symbol, (dim3){1, 1, 1}, (dim3){1, 1, 1}, arguments, 0, s->stream));
  OK(cudaLaunchKernel(&spin_symbol, (dim3){1, 1, 1}, (dim3){1, 1, 1}, arguments, 0, s->stream)); /* and one behind it */
}

void spin_end(struct spin *s) {
  __atomic_store_n(&s->leave, 1, __ATOMIC_RELEASE);
  OK(cudaStreamSynchronize(s->stream));
  OK(cudaStreamDestroy(s->stream));
}

/* ---- messages ---------------------------------------------------------------------------------------------------- */

enum { AROUND = 64, POISON = 0x5a };

static uint8_t value(size_t message, size_t at) { return (uint8_t)(message * 31 + at * 7 + (at >> 8)); }

static void *host_bytes(size_t bytes) {
  void *p;
  OK(cudaHostAlloc(&p, bytes, cudaHostAllocMapped | cudaHostAllocPortable));
  return p;
}

void end_open(struct end *e, const nccl_net_v12_t *net, void *comm, bool sends, size_t slot_bytes, size_t count,
              uint64_t seed) {
  *e = (struct end){.net = net, .comm = comm, .sends = sends, .slot_bytes = slot_bytes, .count = count};
  e->random = harness_random(seed);
  for (int m = 0; m < 2; m++) {
    struct memory *memory = &e->memories[m];
    const size_t bytes = SLOTS * (slot_bytes + AROUND);
    memory->is_on_device = m;
    memory->data = m ? device_bytes(bytes, 0) : host_bytes(bytes);
    EXPECT_QUIETLY(net->reg_mr(comm, memory->data, bytes, m ? NCCL_PTR_CUDA : NCCL_PTR_HOST, &memory->mhandle),
                   NCCL_SUCCESS);
  }
}

/* Small ones, those of a piece and a byte more, none, and anything. Each end chooses its memory by itself. */
static size_t choose_bytes(struct end *e) {
  const size_t most = e->slot_bytes, any = harness_below(&e->random, most + 1);
  switch (harness_below(&e->random, 6)) {
  case 0: return 0;
  case 1: return any % 600;
  case 2: return any % 40000;
  case 3: return most;
  default: return any;
  }
}

static void begin(struct end *e) {
  struct message *m = &e->messages[e->begun % SLOTS];
  const struct memory *memory = &e->memories[(e->begun / 3 + e->sends) % 2 | (e->begun % 5 == 0)];
  size_t capacity = e->slot_bytes;
  void *request = (void *)(uintptr_t)NCCL_NET_OPTIONAL_RECV, *data;
  int tag = 0;
  m->bytes = choose_bytes(e);
  data = m->data = memory->data + e->begun % SLOTS * (e->slot_bytes + AROUND);
  for (size_t i = 0; i < m->bytes && e->sends; i++) m->data[i] = value(e->begun, i);
  if (!e->sends) memset(m->data, POISON, e->slot_bytes + AROUND);
  void *mhandle = memory->mhandle;
  const nccl_result_t result = e->sends ? e->net->isend(e->comm, data, m->bytes, 0, mhandle, NULL, &request)
                                        : e->net->irecv(e->comm, 1, &data, &capacity, &tag, &mhandle, NULL, &request);
  m->request = result == NCCL_SUCCESS ? request : NULL;
  if (m->request) e->begun++;
}

static void check(const struct end *e, const struct message *m) {
  const size_t end = e->slot_bytes + AROUND;
  for (size_t i = 0; i < m->bytes; i++)
    CHECK_TEXT(m->data[i] == value(e->done, i), "message %zu of %zu bytes: byte %zu is %d", e->done, m->bytes, i,
               m->data[i]);
  for (size_t i = m->bytes; i < end; i++)
    CHECK_TEXT(m->data[i] == POISON, "message %zu of %zu bytes: byte %zu behind it was written", e->done, m->bytes, i);
}

nccl_result_t end_step(struct end *e) {
  while (e->begun < e->count && e->begun - e->done < SLOTS) {
    const size_t before = e->begun;
    const struct harness_random random = e->random;
    begin(e);
    if (e->begun != before) continue;
    e->random = random;
    break;
  }
  if (e->done == e->begun) return NCCL_SUCCESS;
  struct message *m = &e->messages[e->done % SLOTS];
  int done = 0, bytes = -1;
  const nccl_result_t result = e->net->test(m->request, &done, &bytes);
  if (result != NCCL_SUCCESS || !done) return result;
  CHECK_TEXT((size_t)bytes == m->bytes, "message %zu: %d bytes instead of %zu", e->done, bytes, m->bytes);
  if (!e->sends) check(e, m);
  e->done++;
  return NCCL_SUCCESS;
}

bool end_is_done(const struct end *e) { return e->done == e->count; }

void end_close(struct end *e, bool has_failed) {
  for (int m = 0; m < 2 && !has_failed; m++)
    EXPECT_QUIETLY(e->net->dereg_mr(e->comm, e->memories[m].mhandle), NCCL_SUCCESS);
  CHECK((e->sends ? e->net->close_send : e->net->close_recv)(e->comm) == NCCL_SUCCESS);
  cudaFreeHost(e->memories[0].data);
  cudaFree(e->memories[1].data);
}

/* ---- connecting -------------------------------------------------------------------------------------------------- */

void *rig_listen_comm(const nccl_net_v12_t *net, void *context, struct rig_exchange *exchange) {
  void *listener = NULL;
  CHECK(net->listen(context, 0, exchange->handles[0], &listener) == NCCL_SUCCESS && listener);
  __atomic_store_n(&exchange->written[0], 1, __ATOMIC_RELEASE);
  return listener;
}

void *rig_send_comm(const nccl_net_v12_t *net, void *context, struct rig_exchange *exchange) {
  void *comm = NULL;
  while (!__atomic_load_n(&exchange->written[0], __ATOMIC_ACQUIRE)) usleep(100);
  CHECK(net->connect(context, 0, exchange->handles[0], &comm, NULL) == NCCL_SUCCESS && comm);
  return comm;
}

void *rig_recv_comm(const nccl_net_v12_t *net, void *listener) {
  void *comm = NULL;
  while (!comm) {
    CHECK(net->accept(listener, &comm, NULL) == NCCL_SUCCESS);
    if (!comm) usleep(100);
  }
  CHECK(net->close_listen(listener) == NCCL_SUCCESS);
  return comm;
}
