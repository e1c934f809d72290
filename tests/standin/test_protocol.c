/*
 * test_protocol.c - the library's kernels (coll/kernels.h) launched as host code will: three ranks, each a stream of a
 * device of its own, on device memory and a registered segment; every result is compared. Then calls are captured and
 * replayed: their steps go on from replay to replay, since they are counted on the device.
 */
#include <sys/mman.h>

#include "calls.h"
#include "coll/kernels.h"
#include "coll/launch.h"
#include "comm/comm.h"
#include "support.h"

enum { RANKS = 3, CALLS = 20, REPLAYS = 3, MOST_BYTES = 40000 };

struct rank {
  struct shmi_launch launch; /* device addresses */
  cudaStream_t stream;
  uint8_t *send, *recv;  /* device memory */
  struct notice *notice; /* pinned memory of the host */
  struct prepared prepared;
  struct buffers buffers; /* on the host */
};

/* What host and kernels of a rank tell each other. */
struct notice {
  uint32_t leave;
  uint64_t status;
  uint32_t missed[SHMCCL_MAX_RANKS];
};

/* The segment, as a device sees it. */
struct setting {
  struct shmi_header header;
  shmi_options_t options;
  uint8_t *control, *device;
};

/* ---- ranks ------------------------------------------------------------------------------------------------------- */

static void launch(struct rank *r) {
  const struct shmi_call *c = &r->launch.call;
  void *args[] = {&r->launch};
  OK(cudaLaunchKernel(shmi_kernel_of((shmccl_datatype_t)c->id.datatype, (shmccl_redop_t)c->id.op),
                      (dim3){c->channels, 1, 1}, (dim3){SHMI_KERNEL_THREADS, 1, 1}, args, 0, r->stream));
}

static void copy_in(struct rank *r) {
  const struct prepared *p = &r->prepared;
  if (p->send_bytes) OK(cudaMemcpyAsync(r->send, p->input, p->send_bytes, cudaMemcpyHostToDevice, r->stream));
  if (p->recv_bytes) OK(cudaMemsetAsync(r->recv, HARNESS_POISON, p->recv_bytes, r->stream));
}

static void check(struct rank *r, int number) {
  OK(cudaSetDevice(number));
  OK(cudaStreamSynchronize(r->stream));
  CHECK(r->notice->status == 0);
  if (r->prepared.recv_bytes) OK(cudaMemcpy(r->buffers.recv, r->recv, r->prepared.recv_bytes, cudaMemcpyDeviceToHost));
  harness_rank = number;
  call_check(&r->prepared, &r->buffers);
  harness_rank = -1;
}

static void start(struct rank *r, int number, const struct setting *s, const struct call *c) {
  OK(cudaSetDevice(number));
  r->prepared = call_prepare(c, number, RANKS);
  call_fill(&r->prepared, &r->buffers);
  r->launch.call = (struct shmi_call){
      .id = {(uint32_t)c->collective, (uint32_t)c->type, (uint32_t)c->op, (uint32_t)c->root, c->count},
      .sendbuf = r->prepared.send_bytes ? r->send : NULL,
      .recvbuf = r->prepared.recv_bytes ? r->recv : NULL,
      .element = shmccl_datatype_size(c->type)};
  shmi_select_device(&r->launch.world, (int)s->header.channels, &s->options, &r->launch.call);
  copy_in(r);
  launch(r);
}

static void finish(struct rank *r) {
  call_release(&r->prepared);
  call_release_buffers(&r->buffers);
}

static void set_up(struct rank *r, int number, const struct setting *s) {
  void *notice;
  OK(cudaSetDevice(number));
  OK(cudaHostAlloc((void **)&r->notice, sizeof *r->notice, cudaHostAllocMapped | cudaHostAllocPortable));
  OK(cudaHostGetDevicePointer(&notice, r->notice, 0));
  memset(r->notice, 0, sizeof *r->notice);
  r->launch = (struct shmi_launch){
      .world = shmi_layout_channels(&s->header, s->control, s->device, number),
      .states = device_bytes(s->header.channels * sizeof *r->launch.states, 0),
      .leave = &((struct notice *)notice)->leave,
      .status = &((struct notice *)notice)->status,
      .missed = ((struct notice *)notice)->missed,
      .patience_ns = 20000000000,
  };
  r->stream = new_stream();
  r->send = device_bytes(RANKS * MOST_BYTES, 0);
  r->recv = device_bytes(RANKS * MOST_BYTES, 0);
}

static void tear_down(struct rank *r, int number) {
  OK(cudaSetDevice(number));
  OK(cudaStreamDestroy(r->stream));
  OK(cudaFree(r->launch.states));
  OK(cudaFree(r->send));
  OK(cudaFree(r->recv));
  OK(cudaFreeHost(r->notice));
}

/* ---- calls ------------------------------------------------------------------------------------------------------- */

static struct call choose(struct harness_random *r) {
  struct call c = call_random(r, RANKS, MOST_BYTES);
  c.in_place = false;
  return c;
}

static void run_one(struct rank *ranks, const struct setting *s, const struct call *c) {
  for (int n = 0; n < RANKS; n++) start(&ranks[n], n, s, c);
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

/* As one registration. */
static void *open_segment(struct setting *s) {
  void *segment, *device;
  s->options.staging_bytes = RANKS * (2800 << 10);
  CHECK(shmi_layout_make(&s->header, RANKS, s->options.staging_bytes, &s->options) && s->header.channels);
  segment = mmap(NULL, s->header.total_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(segment != MAP_FAILED);
  OK(cudaHostRegister(segment, s->header.total_bytes, cudaHostRegisterMapped | cudaHostRegisterPortable));
  OK(cudaHostGetDevicePointer(&device, segment, 0));
  CHECK((device == segment) == !setting("STANDIN_HOST_ALIAS"));
  s->control = (uint8_t *)device + s->header.control_offset;
  s->device = (uint8_t *)device + s->header.device_offset;
  return segment;
}

int main(void) {
  struct harness_random random = harness_random(harness_seed());
  struct rank ranks[RANKS] = {0};
  struct setting s = {0};
  void *segment = open_segment(&s);
  for (int n = 0; n < RANKS; n++) set_up(&ranks[n], n, &s);
  for (int i = 0; i < CALLS; i++) {
    const struct call c = choose(&random);
    char text[256];
    call_text(&c, text);
    harness_note("call %d: %s", i, text);
    s.options.chunk_bytes = harness_below(&random, 2) ? 64 + harness_below(&random, 5000) : 0;
    run_one(ranks, &s, &c);
    if (i % 4 == 3) replay(ranks);
    for (int n = 0; n < RANKS; n++) finish(&ranks[n]);
  }
  for (int n = 0; n < RANKS; n++) tear_down(&ranks[n], n);
  OK(cudaHostUnregister(segment));
  munmap(segment, s.header.total_bytes);
  check_empty();
  return 0;
}
