/*
 * wrap.c - step numbers in device memory pass 2^30, at which packets get new flags, and 2^32 in the middle of calls,
 * and numbers of pieces of messages pass 2^32. The counters of fresh communicators are set to just below; lines and
 * packets still hold 0 then, which a counter that had really run so far would have overwritten, so 0 comes a little
 * later.
 */
#include <stdio.h>

#include "../cuda/device_calls.h"
#include "arguments.h"
#include "coll/pair.h"
#include "comm/device.h"

enum { RANKS_MOST = 4, CALLS = 40, BYTES_MOST = 40000, MESSAGE_BYTES = 3000 };

static uint64_t ranks = 2;

struct plan {
  uint64_t seed;
  shmccl_comm_t *comms[RANKS_MOST];
  struct device_party party;
};

static uint64_t steps_of(const shmccl_comm_t *comm) {
  struct shmi_channel_state state;
  OK(cudaMemcpy(&state, comm->device->launch.states, sizeof state, cudaMemcpyDeviceToHost));
  return state.step;
}

static void set_steps(const shmccl_comm_t *comm, struct shmi_channel_state start) {
  struct shmi_channel_state states[SHMI_CHANNELS_MOST];
  for (int i = 0; i < SHMI_CHANNELS_MOST; i++) states[i] = start;
  OK(cudaMemcpy(comm->device->launch.states, states, sizeof states, cudaMemcpyHostToDevice));
}

/* The host's view of the lines: what a receiver would have left there. */
static void set_pieces(const shmccl_comm_t *comm, uint32_t pieces) {
  const struct shmi_header *h = &comm->segment.header;
  const struct shmi_world world = shmi_layout_device_pairs(h, comm->segment.base + h->control_offset,
                                                           comm->segment.base + h->device_offset, comm->rank);
  const struct shmi_message_id none = {0, 0, 0};
  struct shmi_pieces all;
  for (int peer = 0; peer < SHMCCL_MAX_RANKS; peer++) all.sent[peer] = all.received[peer] = pieces;
  OK(cudaMemcpy(comm->device->pieces, &all, sizeof all, cudaMemcpyHostToDevice));
  for (int peer = 0; peer < comm->nranks; peer++) {
    if (peer == comm->rank) continue;
    for (uint32_t i = 0; i < SHMI_PAIR_SLOTS; i++) shmi_pair_publish(&world, peer, pieces - i, 0, &none);
    shmi_pair_empty(&world, peer, pieces);
  }
}

static void run_call(shmccl_comm_t *comm, struct plan *plan, struct harness_random *r, cudaStream_t stream) {
  const struct call call = call_random(r, comm->nranks, BYTES_MOST);
  struct device_call d;
  char text[256];
  call_text(&call, text);
  harness_note("%s", text);
  device_call_prepare(&d, &call, comm->rank, comm->nranks, stream);
  device_party_meet(&plan->party);
  device_call_send(&d);
  device_call_make(&d, comm);
  device_call_check(&d);
  device_party_meet(&plan->party);
  device_call_release(&d);
}

static void pass_on(shmccl_comm_t *comm, uint8_t *buffer, int i, cudaStream_t stream) {
  const int n = comm->nranks, next = (comm->rank + 1) % n, previous = (comm->rank + n - 1) % n;
  uint8_t bytes[MESSAGE_BYTES];
  for (int k = 0; k < MESSAGE_BYTES; k++) bytes[k] = (uint8_t)(k * 7 + i + comm->rank);
  OK(cudaMemcpyAsync(buffer, bytes, sizeof bytes, cudaMemcpyHostToDevice, stream));
  CHECK_OK(shmccl_group_start(comm));
  CHECK_OK(shmccl_send(buffer, MESSAGE_BYTES, SHMCCL_UINT8, next, comm, stream));
  CHECK_OK(shmccl_recv(buffer + MESSAGE_BYTES, MESSAGE_BYTES, SHMCCL_UINT8, previous, comm, stream));
  CHECK_OK(shmccl_group_end(comm));
  OK(cudaMemcpyAsync(bytes, buffer + MESSAGE_BYTES, sizeof bytes, cudaMemcpyDeviceToHost, stream));
  OK(cudaStreamSynchronize(stream));
  for (int k = 0; k < MESSAGE_BYTES; k++)
    CHECK_TEXT(bytes[k] == (uint8_t)(k * 7 + i + previous), "byte %d of message %d is wrong", k, i);
}

static void run_rank(int rank, int nranks, void *context) {
  struct plan *plan = context;
  struct harness_random r = harness_random(plan->seed);
  shmccl_comm_t *comm = plan->comms[rank];
  int devices;
  (void)nranks;
  OK(cudaGetDeviceCount(&devices));
  OK(cudaSetDevice(rank % devices));
  cudaStream_t stream = new_stream();
  uint8_t *buffer = device_bytes(2 * MESSAGE_BYTES, 0);
  for (int i = 0; i < CALLS; i++) {
    run_call(comm, plan, &r, stream);
    device_party_meet(&plan->party);
    pass_on(comm, buffer, i, stream);
  }
  device_party_meet(&plan->party);
  OK(cudaFree(buffer));
  OK(cudaStreamDestroy(stream));
}

static void run(struct shmi_channel_state start, uint64_t limit, uint64_t seed) {
  struct plan plan = {.seed = seed};
  shmccl_config_t config = SHMCCL_CONFIG_INITIALIZER;
  config.memory = SHMCCL_MEMORY_CUDA;
  config.timeout_ms = 60000;
  device_party_open(&plan.party, (int)ranks);
  CHECK_OK(shmccl_comm_init_all(plan.comms, (int)ranks, &config));
  for (int i = 0; i < (int)ranks; i++) {
    set_steps(plan.comms[i], start);
    set_pieces(plan.comms[i], (uint32_t)-20);
  }
  harness_threads((int)ranks, run_rank, &plan, 100);
  for (int i = 0; i < (int)ranks; i++) {
    const uint64_t steps = steps_of(plan.comms[i]);
    CHECK_TEXT(steps > limit, "%llu steps: not past %llu", (unsigned long long)steps, (unsigned long long)limit);
    printf("fact wrap {\"rank\": %d, \"from\": %llu, \"past\": %llu, \"to\": %llu}\n", i,
           (unsigned long long)start.step, (unsigned long long)limit, (unsigned long long)steps);
  }
  for (int i = 0; i < (int)ranks; i++) CHECK_OK(shmccl_comm_destroy(plan.comms[i]));
  device_party_close(&plan.party);
}

int main(int argc, char **argv) {
  const struct argument arguments[] = {{"ranks", &ranks}, {NULL, NULL}};
  const uint64_t renewal = SHMI_RENEW_EVERY, wrap = (uint64_t)1 << 32;
  arguments_read(argc, argv, arguments);
  CHECK(ranks >= 2 && ranks <= RANKS_MOST);
  struct harness_random r = harness_random(harness_seed());
  const uint64_t before = 8 + harness_below(&r, 20);
  run((struct shmi_channel_state){renewal - before, 0}, renewal, harness_bits(&r));
  run((struct shmi_channel_state){wrap - before, wrap - before - renewal}, wrap, harness_bits(&r));
  return 0;
}
