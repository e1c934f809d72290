/* scenario_groups.c - several operations between ncclGroupStart and ncclGroupEnd, which NCCL launches together. */
#include <string.h>

#include "scenarios.h"

/* ---- collectives ------------------------------------------------------------------------------------------------- */

enum { GROUP_CALLS = 5 };

static void run_group(struct rank *r, size_t bytes) {
  static const struct {
    enum shmi_collective collective;
    shmccl_datatype_t type;
    shmccl_redop_t op;
  } kinds[GROUP_CALLS] = {{SHMI_ALLREDUCE, SHMCCL_FLOAT32, SHMCCL_SUM},
                          {SHMI_ALLREDUCE, SHMCCL_INT32, SHMCCL_MIN},
                          {SHMI_ALLGATHER, SHMCCL_FLOAT16, SHMCCL_SUM},
                          {SHMI_BROADCAST, SHMCCL_INT8, SHMCCL_SUM},
                          {SHMI_ALLTOALL, SHMCCL_FLOAT64, SHMCCL_SUM}};
  struct device_call calls[GROUP_CALLS];
  for (int i = 0; i < GROUP_CALLS; i++) {
    const struct call c = {.collective = kinds[i].collective,
                           .type = kinds[i].type,
                           .op = kinds[i].op,
                           .count = bytes / shmccl_datatype_size(kinds[i].type) + (size_t)i,
                           .seed = r->party->seed + bytes,
                           .exact = true};
    calls[i] = device_call_open(&c, r->rank, r->nranks);
  }
  CHECK_NCCL(nccl.GroupStart());
  for (int i = 0; i < GROUP_CALLS; i++) CHECK_NCCL(device_call_make(&calls[i], r->comm, r->stream));
  CHECK_NCCL(nccl.GroupEnd());
  CHECK_NCCL(rank_wait(r));
  for (int i = 0; i < GROUP_CALLS; i++) {
    device_call_check(&calls[i]);
    device_call_close(&calls[i]);
  }
}

void scenario_groups(struct party *party, int rank) {
  struct rank r = rank_open(party, rank);
  for (size_t bytes = 100; bytes < 3000000; bytes *= 12) run_group(&r, bytes);
  rank_close(&r);
}

/* ---- messages ---------------------------------------------------------------------------------------------------- */

enum { MOST_MESSAGES = 24, MESSAGE_GUARD = 64 };

/* All ranks know all of them; the two concerned have a buffer on the device. */
struct message {
  int from, to;
  size_t bytes;
  uint64_t seed;
  uint8_t *send, *recv;
};

static uint8_t *content(const struct message *m) {
  struct harness_random random = harness_random(m->seed);
  uint8_t *bytes = malloc(m->bytes + sizeof(uint64_t));
  CHECK(bytes);
  for (size_t i = 0; i < m->bytes; i += sizeof(uint64_t)) {
    const uint64_t bits = harness_bits(&random);
    memcpy(bytes + i, &bits, sizeof bits);
  }
  return bytes;
}

static uint8_t *device_poison(size_t bytes) {
  void *p;
  CHECK_CUDA(cudaMalloc(&p, bytes + MESSAGE_GUARD));
  CHECK_CUDA(cudaMemset(p, HARNESS_POISON, bytes + MESSAGE_GUARD));
  CHECK_CUDA(cudaDeviceSynchronize());
  return p;
}

static void open_message(struct message *m, int rank) {
  if (m->from == rank) {
    uint8_t *bytes = content(m);
    m->send = device_poison(m->bytes);
    CHECK_CUDA(cudaMemcpy(m->send, bytes, m->bytes, cudaMemcpyHostToDevice));
    CHECK_CUDA(cudaDeviceSynchronize()); /* which cudaMemcpy need not have waited for */
    free(bytes);
  }
  if (m->to == rank) m->recv = device_poison(m->bytes);
}

static void check_message(const struct message *m) {
  uint8_t *want = content(m), *got = malloc(m->bytes + MESSAGE_GUARD);
  CHECK(got);
  CHECK_CUDA(cudaMemcpy(got, m->recv, m->bytes + MESSAGE_GUARD, cudaMemcpyDeviceToHost));
  CHECK_TEXT(!memcmp(got, want, m->bytes), "%zu bytes from rank %d to %d arrived wrong", m->bytes, m->from, m->to);
  CHECK_TEXT(harness_untouched(got + m->bytes, MESSAGE_GUARD), "bytes behind a message of %zu were written", m->bytes);
  free(want);
  free(got);
}

static void close_message(struct message *m) {
  if (m->recv) check_message(m);
  CHECK_CUDA(cudaFree(m->send));
  CHECK_CUDA(cudaFree(m->recv));
}

/* Messages of a pair keep their order; NCCL takes the pairs in any. */
static void run_messages(struct rank *r, struct message *messages, size_t count) {
  for (size_t i = 0; i < count; i++) open_message(&messages[i], r->rank);
  CHECK_NCCL(nccl.GroupStart());
  for (size_t i = 0; i < count; i++) {
    const struct message *m = &messages[i];
    if (m->send) CHECK_NCCL(nccl.Send(m->send, m->bytes, SHMCCL_UINT8, m->to, r->comm, r->stream));
    if (m->recv) CHECK_NCCL(nccl.Recv(m->recv, m->bytes, SHMCCL_UINT8, m->from, r->comm, r->stream));
  }
  CHECK_NCCL(nccl.GroupEnd());
  CHECK_NCCL(rank_wait(r));
  for (size_t i = 0; i < count; i++) close_message(&messages[i]);
}

static void run_random_messages(struct rank *r, struct harness_random *random) {
  struct message messages[MOST_MESSAGES] = {{0}};
  const size_t count = 1 + harness_below(random, MOST_MESSAGES - 1), n = (size_t)r->nranks;
  for (size_t i = 0; i < count; i++)
    messages[i] = (struct message){.from = (int)harness_below(random, n),
                                   .to = (int)harness_below(random, n),
                                   .bytes = harness_below(random, (size_t)1 << harness_below(random, 22)),
                                   .seed = harness_bits(random)};
  run_messages(r, messages, count);
}

/* Everybody to the next rank, without a group on ranks that only send or receive: a chain. */
static void run_chain(struct rank *r, size_t bytes) {
  for (int from = 0; from + 1 < r->nranks; from++) {
    struct message m = {.from = from, .to = from + 1, .bytes = bytes, .seed = r->party->seed + (uint64_t)from};
    run_messages(r, &m, r->rank == from || r->rank == from + 1);
  }
}

void scenario_messages(struct party *party, int rank) {
  struct rank r = rank_open(party, rank);
  struct harness_random random = harness_random(party->seed);
  run_chain(&r, 3000000);
  for (int i = 0; i < 12; i++) run_random_messages(&r, &random);
  rank_close(&r);
}
