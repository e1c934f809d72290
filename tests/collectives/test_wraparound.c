/*
 * test_wraparound.c - step and message numbers may pass 2^31 and 2^32 in the middle of calls: they are compared on the
 * circle and for equality only.
 *
 * The counters of fresh communicators are set to just below those values, then enough calls are made to pass them.
 * Their lines still hold 0 then, which only a counter that has really run so far would have overwritten; so they start
 * early enough that 0 comes after a whole turn of lines and slots.
 */
#include "calls.h"
#include "coll/pair.h"
#include "comm/comm.h"

enum { RANKS_MOST = 4, CALLS = 40 };

struct plan {
  uint64_t seed;
  shmccl_comm_t *comms[RANKS_MOST];
};

static void set_counters(shmccl_comm_t *comm, uint32_t steps, uint32_t pieces) {
  comm->steps = steps;
  for (int peer = 0; peer < comm->nranks; peer++) {
    comm->sent[peer] = comm->received[peer] = pieces;
    shmi_pair_empty(&comm->world, peer, pieces);
  }
}

/* Several pieces to the next rank, from the one before. */
static void exchange(shmccl_comm_t *comm, struct harness_random *r) {
  const size_t bytes = harness_below(r, 8 * comm->world.pair_bytes);
  struct harness_buffer send = {0}, recv = {0};
  const int next = (comm->rank + 1) % comm->nranks, previous = (comm->rank + comm->nranks - 1) % comm->nranks;
  uint8_t *out = harness_take(&send, bytes, 0), *in = harness_take(&recv, bytes, 1);
  for (size_t i = 0; i < bytes; i++) out[i] = (uint8_t)(i * 7 + i / 251 + (size_t)comm->rank);
  CHECK_OK(shmccl_group_start(comm));
  CHECK_OK(shmccl_send(out, bytes, SHMCCL_UINT8, next, comm, NULL));
  CHECK_OK(shmccl_recv(in, bytes, SHMCCL_UINT8, previous, comm, NULL));
  CHECK_OK(shmccl_group_end(comm));
  for (size_t i = 0; i < bytes; i++) CHECK(in[i] == (uint8_t)(i * 7 + i / 251 + (size_t)previous));
  harness_check_guards(&recv, "recvbuf");
  harness_release(&send);
  harness_release(&recv);
}

static void run_rank(int rank, int nranks, void *context) {
  const struct plan *plan = context;
  shmccl_comm_t *comm = plan->comms[rank];
  struct harness_random r = harness_random(plan->seed);
  struct buffers buffers = {0};
  for (int i = 0; i < CALLS; i++) {
    const struct call c = call_random(&r, nranks, 2500);
    call_once(&c, &buffers, comm);
    exchange(comm, &r);
  }
  call_release_buffers(&buffers);
}

static void run(int nranks, uint32_t limit, struct harness_random *r) {
  struct plan plan = {.seed = harness_bits(r)};
  shmccl_config_t config = SHMCCL_CONFIG_INITIALIZER;
  const uint32_t steps = limit - 2 - 1 - (uint32_t)harness_below(r, 25);
  const uint32_t pieces = limit - SHMI_PAIR_SLOTS - 1 - (uint32_t)harness_below(r, 60);
  config.timeout_ms = 60000;
  config.chunk_bytes = 512;
  config.staging_bytes = shmi_layout_least_staging(nranks) + 65536;
  CHECK_OK(shmccl_comm_init_all(plan.comms, nranks, &config));
  for (int i = 0; i < nranks; i++) set_counters(plan.comms[i], steps, pieces);
  harness_threads(nranks, run_rank, &plan, 100);
  for (int i = 0; i < nranks; i++) {
    shmccl_comm_t *comm = plan.comms[i];
    const int next = (i + 1) % nranks;
    CHECK_TEXT(comm->steps - limit < 100000 && comm->sent[next] - limit < 100000, "%u steps, %u pieces: not past %u",
               comm->steps, comm->sent[next], limit);
    CHECK_OK(shmccl_comm_destroy(comm));
  }
}

int main(void) {
  struct harness_random r = harness_random(harness_seed());
  for (int nranks = 2; nranks <= RANKS_MOST; nranks++)
    for (int i = 0; i < 4; i++) run(nranks, i % 2 ? 1u << 31 : 0, &r);
  return 0;
}
