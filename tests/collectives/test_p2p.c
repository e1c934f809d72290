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

enum { MESSAGES_MOST = 40 };

struct plan {
  uint64_t seed;
  shmccl_unique_id_t id;
  shmccl_config_t config;
};

/* One message of a group; all ranks know all of them. */
struct message {
  int from, to;
  shmccl_datatype_t type;
  size_t count;
  uint64_t seed;
  struct harness_buffer send, recv; /* on those two ranks */
};

static size_t bytes_of(const struct message *m) { return m->count * shmccl_datatype_size(m->type); }

static void write_content(const struct message *m, uint8_t *to) {
  struct harness_random r = harness_random(m->seed);
  for (size_t i = 0; i < bytes_of(m); i += 8) {
    const uint64_t bits = harness_bits(&r);
    memcpy(to + i, &bits, bytes_of(m) - i < 8 ? bytes_of(m) - i : 8);
  }
}

static void check_content(const struct message *m, const struct harness_buffer *b, const char *name) {
  struct harness_random r = harness_random(m->seed);
  harness_check_guards(b, name);
  for (size_t i = 0; i < bytes_of(m); i += 8) {
    const uint64_t bits = harness_bits(&r);
    CHECK_TEXT(!memcmp(b->data + i, &bits, bytes_of(m) - i < 8 ? bytes_of(m) - i : 8),
               "%s: byte %zu of %zu from rank %d to %d is wrong", name, i, bytes_of(m), m->from, m->to);
  }
}

static void open_message(struct message *m, int rank, struct harness_random *own) {
  m->send = m->recv = (struct harness_buffer){0};
  if (m->from == rank) write_content(m, harness_take(&m->send, bytes_of(m), harness_below(own, 4)));
  if (m->to == rank) harness_take(&m->recv, bytes_of(m), harness_below(own, 4));
}

static void close_message(struct message *m, int rank) {
  if (m->from == rank) check_content(m, &m->send, "sent");
  if (m->to == rank) check_content(m, &m->recv, "received");
  harness_release(&m->send);
  harness_release(&m->recv);
}

static void send_it(const struct message *m, shmccl_comm_t *comm) {
  CHECK_OK(shmccl_send(bytes_of(m) ? m->send.data : NULL, m->count, m->type, m->to, comm, NULL));
}

static void recv_it(const struct message *m, shmccl_comm_t *comm) {
  CHECK_OK(shmccl_recv(bytes_of(m) ? m->recv.data : NULL, m->count, m->type, m->from, comm, NULL));
}

/* ---- groups -------------------------------------------------------------------------------------------------------
 */

static struct message random_message(struct harness_random *r, int nranks, size_t most) {
  struct message m = {.from = (int)harness_below(r, (size_t)nranks), .to = (int)harness_below(r, (size_t)nranks)};
  m.type = (shmccl_datatype_t)harness_below(r, SHMCCL_DATATYPE_COUNT);
  const size_t limit = (size_t)1 << harness_below(r, 22);
  m.count = harness_below(r, 8) ? harness_below(r, limit < most ? limit : most) / shmccl_datatype_size(m.type) : 0;
  m.seed = harness_bits(r);
  return m;
}

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
  for (size_t i = 0; i < count; i++) open_message(&messages[i], rank, own);
  harness_delay(own);
  CHECK_OK(shmccl_group_start(comm));
  post(messages, count, rank, own, comm);
  CHECK_OK(shmccl_group_end(comm));
  for (size_t i = 0; i < count; i++) close_message(&messages[i], rank);
}

static void run_random_group(struct harness_random *r, int rank, int nranks, struct harness_random *own,
                             shmccl_comm_t *comm) {
  struct message messages[MESSAGES_MOST];
  const size_t count = harness_below(r, MESSAGES_MOST);
  for (size_t i = 0; i < count; i++) messages[i] = random_message(r, nranks, i % 8 ? 5000 : 700000);
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
  open_message(&out, rank, own);
  open_message(&in, rank, own);
  harness_delay(own);
  if (rank % 2 == 0) send_it(&out, comm);
  recv_it(&in, comm);
  if (rank % 2) send_it(&out, comm);
  close_message(&out, rank);
  close_message(&in, rank);
}

/* Small messages need no receiver yet: as many as there are slots. */
static void run_ahead(struct harness_random *r, int rank, int nranks, struct harness_random *own, shmccl_comm_t *comm) {
  const int last = nranks - 1;
  struct message messages[SHMI_PAIR_SLOTS];
  for (int i = 0; i < SHMI_PAIR_SLOTS; i++) {
    messages[i] = (struct message){0, last, SHMCCL_INT32, harness_below(r, 200), harness_bits(r), {0}, {0}};
    open_message(&messages[i], rank, own);
    if (rank == 0) send_it(&messages[i], comm);
  }
  CHECK_OK(shmccl_barrier(comm, NULL));
  for (int i = 0; i < SHMI_PAIR_SLOTS; i++) {
    if (rank == last) recv_it(&messages[i], comm);
    close_message(&messages[i], rank);
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
