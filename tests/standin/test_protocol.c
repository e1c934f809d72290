/*
 * test_protocol.c - the protocol of coll/step.h as a kernel: three ranks, each a stream of a device of its own, launch
 * it with their world and their call by value, on device memory and a registered segment, and every result is compared.
 * Then one call is captured and replayed: its steps go on from replay to replay, since they are counted on the device.
 */
#include <sched.h>
#include <sys/mman.h>
#include <time.h>

#include "calls.h"
#include "coll/host.h"
#include "coll/step.h"
#include "comm/comm.h"
#include "support.h"

enum { RANKS = 3, THREADS = 4, CALLS = 20, REPLAYS = 3, TILE = 64, MOST_BYTES = 5000 };

struct rank {
  struct shmi_world world; /* device addresses */
  struct shmi_call call;
  cudaStream_t stream;
  uint32_t *steps; /* these four: device memory */
  int *error;
  uint8_t *send, *recv;
  struct prepared prepared;
  struct buffers buffers; /* on the host */
};

static char run_call; /* the kernel's symbol: see test_kernels.c */

/* ---- the kernel -------------------------------------------------------------------------------------------------- */

struct waiting {
  const struct standin_thread *thread;
  const struct shmi_world *world;
  const struct shmi_call *call;
};

static int await(void *context, uint32_t step) {
  const struct waiting *w = context;
  const time_t end = time(NULL) + 20;
  for (int peer = 0; peer < w->world->nranks; peer++) {
    const uint64_t *place = &shmi_step_of(w->world, peer, step)->word;
    uint64_t word;
    while (word = shmi_observe64(place), shmi_word_generation(word) != step) {
      if (time(NULL) > end || standin_broken(w->thread->launch->device) != cudaSuccess) return SHMCCL_ERROR_TIMEOUT;
      sched_yield();
    }
    if (shmi_word_signature(word) != w->call->signature) return SHMCCL_ERROR_MISMATCH;
  }
  return 0;
}

static cudaError_t run_call_thread(const struct standin_thread *t) {
  struct waiting waiting = {t, t->launch->args[0], t->launch->args[1]};
  uint32_t *steps = *(uint32_t **)t->launch->args[2];
  struct shmi_block block = {.tid = (int)t->tid,
                             .nthreads = (int)t->nthreads,
                             .step = *steps,
                             .world = waiting.world,
                             .call = waiting.call,
                             .tile = TILE,
                             .await = await,
                             .context = &waiting,
                             .barrier = t->barrier,
                             .agreed = t->shared};
  block.reduce = shmi_reduce_lookup((shmccl_datatype_t)waiting.call->id.datatype, (shmccl_redop_t)waiting.call->id.op);
  const int error = shmi_block_run(&block);
  standin_block_sync(t);
  if (t->tid == 0) {
    *steps = block.step;
    **(int **)t->launch->args[3] = error;
  }
  return cudaSuccess;
}

static cudaError_t run(const struct standin_launch *l) { return standin_run_grid(l, THREADS, run_call_thread); }

static const struct standin_kernel kernel = {
    "run_call",
    run,
    4,
    {sizeof(struct shmi_world), sizeof(struct shmi_call), sizeof(uint32_t *), sizeof(int *)},
    false};

/* ---- ranks ------------------------------------------------------------------------------------------------------- */

static void launch(struct rank *r) {
  void *args[] = {&r->world, &r->call, &r->steps, &r->error};
  OK(cudaLaunchKernel(&run_call, (dim3){1, 1, 1}, (dim3){128, 1, 1}, args, sizeof(int), r->stream));
}

static void copy_in(struct rank *r) {
  const struct prepared *p = &r->prepared;
  if (p->send_bytes) OK(cudaMemcpyAsync(r->send, p->input, p->send_bytes, cudaMemcpyHostToDevice, r->stream));
  if (p->recv_bytes) OK(cudaMemsetAsync(r->recv, HARNESS_POISON, p->recv_bytes, r->stream));
}

static void check(struct rank *r, int number) {
  OK(cudaSetDevice(number));
  OK(cudaStreamSynchronize(r->stream));
  CHECK(device_int(r->error) == 0);
  if (r->prepared.recv_bytes) OK(cudaMemcpy(r->buffers.recv, r->recv, r->prepared.recv_bytes, cudaMemcpyDeviceToHost));
  harness_rank = number;
  call_check(&r->prepared, &r->buffers);
  harness_rank = -1;
}

static void start(struct rank *r, int number, const shmccl_comm_t *settings, const struct call *c) {
  OK(cudaSetDevice(number));
  r->prepared = call_prepare(c, number, RANKS);
  call_fill(&r->prepared, &r->buffers);
  r->call = (struct shmi_call){
      .id = {(uint32_t)c->collective, (uint32_t)c->type, (uint32_t)c->op, (uint32_t)c->root, c->count},
      .sendbuf = r->prepared.send_bytes ? r->send : NULL,
      .recvbuf = r->prepared.recv_bytes ? r->recv : NULL,
      .element = shmccl_datatype_size(c->type)};
  shmi_select(settings, &r->call);
  copy_in(r);
  launch(r);
}

static void finish(struct rank *r) {
  call_release(&r->prepared);
  call_release_buffers(&r->buffers);
}

static void set_up(struct rank *r, int number, const struct shmi_header *header, uint8_t *segment) {
  OK(cudaSetDevice(number));
  r->world = shmi_layout_world(header, segment, number);
  r->stream = new_stream();
  r->steps = device_bytes(sizeof *r->steps, 0);
  r->error = device_bytes(sizeof *r->error, 0xff);
  r->send = device_bytes(RANKS * MOST_BYTES, 0);
  r->recv = device_bytes(RANKS * MOST_BYTES, 0);
}

static void tear_down(struct rank *r, int number) {
  OK(cudaSetDevice(number));
  OK(cudaStreamDestroy(r->stream));
  OK(cudaFree(r->steps));
  OK(cudaFree(r->error));
  OK(cudaFree(r->send));
  OK(cudaFree(r->recv));
}

/* ---- calls ------------------------------------------------------------------------------------------------------- */

static struct call choose(struct harness_random *r) {
  struct call c = call_random(r, RANKS, MOST_BYTES);
  c.in_place = false;
  return c;
}

static void run_one(struct rank *ranks, const shmccl_comm_t *settings, const struct call *c) {
  for (int n = 0; n < RANKS; n++) start(&ranks[n], n, settings, c);
  for (int n = 0; n < RANKS; n++) check(&ranks[n], n);
}

static cudaGraphExec_t capture(struct rank *r, int number) {
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  OK(cudaSetDevice(number));
  OK(cudaStreamBeginCapture(r->stream, cudaStreamCaptureModeThreadLocal));
  launch(r);
  OK(cudaStreamEndCapture(r->stream, &graph));
  OK(cudaGraphInstantiate(&exec, graph, 0));
  OK(cudaGraphDestroy(graph));
  return exec;
}

static void replay(struct rank *ranks) {
  cudaGraphExec_t execs[RANKS];
  for (int n = 0; n < RANKS; n++) execs[n] = capture(&ranks[n], n);
  for (int i = 0; i < REPLAYS; i++) {
    for (int n = 0; n < RANKS; n++) {
      OK(cudaSetDevice(n));
      copy_in(&ranks[n]);
      OK(cudaGraphLaunch(execs[n], ranks[n].stream));
    }
    for (int n = 0; n < RANKS; n++) check(&ranks[n], n);
  }
  for (int n = 0; n < RANKS; n++) OK(cudaGraphExecDestroy(execs[n]));
}

int main(void) {
  struct harness_random random = harness_random(harness_seed());
  struct rank ranks[RANKS] = {0};
  struct shmi_header header;
  shmccl_comm_t settings = {.nranks = RANKS};
  const shmi_options_t options = {.staging_bytes = shmi_layout_least_staging(RANKS)};
  void *device;
  standin_kernel_symbol(&run_call, &kernel);
  CHECK(shmi_layout_make(&header, RANKS, options.staging_bytes, &options));
  void *segment = mmap(NULL, header.total_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(segment != MAP_FAILED);
  OK(cudaHostRegister(segment, header.total_bytes, cudaHostRegisterMapped | cudaHostRegisterPortable));
  OK(cudaHostGetDevicePointer(&device, segment, 0));
  CHECK((device == segment) == !setting("STANDIN_HOST_ALIAS"));
  settings.world = shmi_layout_world(&header, segment, 0);
  for (int n = 0; n < RANKS; n++) set_up(&ranks[n], n, &header, device);
  for (int i = 0; i < CALLS; i++) {
    const struct call c = choose(&random);
    char text[256];
    call_text(&c, text);
    harness_note("call %d: %s", i, text);
    settings.options.chunk_bytes = 64 + harness_below(&random, 5000);
    run_one(ranks, &settings, &c);
    if (i == CALLS - 1) replay(ranks);
    for (int n = 0; n < RANKS; n++) finish(&ranks[n]);
  }
  for (int n = 0; n < RANKS; n++) tear_down(&ranks[n], n);
  OK(cudaHostUnregister(segment));
  munmap(segment, header.total_bytes);
  check_empty();
  return 0;
}
