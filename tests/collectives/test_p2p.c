/*
 * test_p2p.c - send and recv, alone and in groups, deliver every byte in order: rings, all-to-all, messages to oneself,
 * many messages of a pair in both directions, empty ones and ones of many times the slots, between collectives.
 *
 * Built twice: ranks as processes, and (HARNESS_THREADS) as threads of one process.
 */
#include <stdio.h>
#include <string.h>

#include "calls.h"
#include "comm/comm.h"
#include "messages.h"

enum { MESSAGES_MOST = 40 };

struct plan {
  uint64_t seed;
  shmccl_unique_id_t id;
  shmccl_config_t config;
};

static void send_it(const struct message *m, shmccl_comm_t *comm) {
  CHECK_OK(shmccl_send(message_bytes(m) ? m->send.data : NULL, m->count, m->type, m->to, comm, NULL));
}

static void recv_it(const struct message *m, shmccl_comm_t *comm) {
  CHECK_OK(shmccl_recv(message_bytes(m) ? m->recv.data : NULL, m->count, m->type, m->from, comm, NULL));
}

/* ---- groups -------------------------------------------------------------------------------------------------------
 */

/* Sends in list order and receives in list order, but mixed at random: only the order within a pair counts. */
static void post(const struct message *messages, size_t count, int rank, struct harness_random *own,
                 shmccl_comm_t *comm) {
  size_t sends = 0, recvs = 0;
  while (sends < count || recvs < count) {
    const bool send = recvs == count || (sends < count && harness_below(own, 2));
    const struct message *m = send ? &messages[sends++] : &messages[recvs++];
    if (send && m->from == rank) send_it(m, comm);
    if (!send && m->to == rank) recv_it(m, comm);
  }
}

static void run_group(struct message *messages, size_t count, int rank, struct harness_random *own,
                      shmccl_comm_t *comm) {
  for (size_t i = 0; i < count; i++) message_open(&messages[i], rank, own);
  harness_delay(own);
  CHECK_OK(shmccl_group_start(comm));
  post(messages, count, rank, own, comm);
  CHECK_OK(shmccl_group_end(comm));
  for (size_t i = 0; i < count; i++) message_close(&messages[i], rank);
}

static void run_random_group(struct harness_random *r, int rank, int nranks, struct harness_random *own,
                             shmccl_comm_t *comm) {
  struct message messages[MESSAGES_MOST];
  const size_t count = harness_below(r, MESSAGES_MOST);
  for (size_t i = 0; i < count; i++) messages[i] = message_random(r, nranks, i % 8 ? 5000 : 700000);
  run_group(messages, count, rank, own, comm);
}

/* Everybody to everybody, himself included, the same type and size. */
static void run_all_to_all(struct harness_random *r, int rank, int nranks, size_t bytes, struct harness_random *own,
                           shmccl_comm_t *comm) {
  struct message messages[MESSAGES_MOST];
  size_t count = 0;
  for (int from = 0; from < nranks; from++)
    for (int to = 0; to < nranks; to++)
      messages[count++] =
          (struct message){.from = from, .to = to, .type = SHMCCL_UINT8, .count = bytes, .seed = harness_bits(r)};
  run_group(messages, count, rank, own, comm);
}

/* ---- without groups -------------------------------------------------------------------------------------------------
 */

/* Once around the ring: even ranks send first. With an odd number of ranks the last and first both do. */
static void run_ring(struct harness_random *r, int rank, int nranks, size_t bytes, struct harness_random *own,
                     shmccl_comm_t *comm) {
  const uint64_t seed = harness_bits(r);
  const int next = (rank + 1) % nranks, previous = (rank + nranks - 1) % nranks;
  struct message out = {rank, next, SHMCCL_UINT8, bytes, seed + (uint64_t)rank, {0}, {0}};
  struct message in = {previous, rank, SHMCCL_UINT8, bytes, seed + (uint64_t)previous, {0}, {0}};
  message_open(&out, rank, own);
  message_open(&in, rank, own);
  harness_delay(own);
  if (rank % 2 == 0) send_it(&out, comm);
  recv_it(&in, comm);
  if (rank % 2) send_it(&out, comm);
  message_close(&out, rank);
  message_close(&in, rank);
}

/* Small messages need no receiver yet: as many as there are slots. */
static void run_ahead(struct harness_random *r, int rank, int nranks, struct harness_random *own, shmccl_comm_t *comm) {
  const int last = nranks - 1;
  struct message messages[SHMI_PAIR_SLOTS];
  for (int i = 0; i < SHMI_PAIR_SLOTS; i++) {
    messages[i] = (struct message){0, last, SHMCCL_INT32, harness_below(r, 200), harness_bits(r), {0}, {0}};
    message_open(&messages[i], rank, own);
    if (rank == 0) send_it(&messages[i], comm);
  }
  CHECK_OK(shmccl_barrier(comm, NULL));
  for (int i = 0; i < SHMI_PAIR_SLOTS; i++) {
    if (rank == last) recv_it(&messages[i], comm);
    message_close(&messages[i], rank);
  }
}

/* ---- one communicator
 * ------------------------------------------------------------------------------------------------ */

static void run_rank(int rank, int nranks, void *context) {
  const struct plan *plan = context;
  struct harness_random r = harness_random(plan->seed), own = harness_random(plan->seed + 1 + (uint64_t)rank);
  struct buffers buffers = {0};
  shmccl_comm_t *comm;
  CHECK_OK(shmccl_comm_init_rank(&comm, nranks, &plan->id, rank, &plan->config));
  for (int i = 0; i < (HARNESS_SLOW ? 8 : 60); i++) {
    const struct call c = call_random(&r, nranks, 20000);
    comm->far = harness_bits(&own); /* whatever this machine's caches are like */
    run_random_group(&r, rank, nranks, &own, comm);
    if (i % 2) call_once(&c, &buffers, comm);
    run_ring(&r, rank, nranks, i % 3 ? harness_below(&r, 600) : harness_below(&r, 300000), &own, comm);
    if (i % 5 == 0) run_all_to_all(&r, rank, nranks, harness_below(&r, 100000), &own, comm);
    run_ahead(&r, rank, nranks, &own, comm);
  }
  CHECK_OK(shmccl_comm_finalize(comm));
  CHECK_OK(shmccl_comm_destroy(comm));
  call_release_buffers(&buffers);
}

int main(void) {
  struct harness_random r = harness_random(harness_seed());
  for (int nranks = 2; nranks <= 5; nranks++)
    for (int small = 0; small < 2; small++) {
      const uint64_t least = shmi_layout_least_staging(nranks);
      struct plan plan = {.seed = harness_bits(&r), .config = SHMCCL_CONFIG_INITIALIZER};
      plan.config.timeout_ms = 60000;
      if (small) plan.config.staging_bytes = least > 65536 ? least : 65536;
      CHECK_OK(shmccl_get_unique_id(&plan.id));
      harness_ranks(nranks, run_rank, &plan, 120);
    }
  return 0;
}
