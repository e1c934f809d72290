/*
 * test_collnet.c - CollNet's all-reduce through the built plugin: every type and operator, any size, in place or not,
 * eight requests in flight, ranks that drift apart, memory registered meanwhile by another thread, every version of the
 * table; results bit for bit. At the end all close with requests in flight.
 *
 * Built twice: ranks as processes, and (HARNESS_THREADS) as threads of one process.
 */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "collectives/calls.h"
#include "collnet_rig.h"

enum { IN_FLIGHT = 8, RANKS_MOST = 4, ROUNDS = HARNESS_SLOW ? 100 : 300 };

struct plan {
  uint64_t seed;
  int version;
  struct rig_exchange *exchange;
};

/* One request that may be under way, in memory that is registered for it or not. */
struct flight {
  struct prepared prepared;
  struct buffers buffers;
  void *send_mhandle, *recv_mhandle, *request;
};

/* First every type with every operator, then at random. */
static struct call choose(struct harness_random *r, int nranks, int round) {
  const int combinations = SHMCCL_DATATYPE_COUNT * SHMCCL_AVG;
  struct call c = call_random(r, nranks, round % 16 == 0 ? 1 << 21 : 1 << 16);
  c.collective = SHMI_ALLREDUCE;
  c.op = (shmccl_redop_t)(round % SHMCCL_AVG);
  if (round < combinations) c.type = (shmccl_datatype_t)(round / SHMCCL_AVG);
  return c;
}

static void *register_some(const struct rig *rig, void *coll, void *data, size_t bytes, struct harness_random *r) {
  void *mhandle = NULL;
  if (bytes && harness_below(r, 2)) CHECK(rig->reg_mr(coll, data, bytes, NCCL_PTR_HOST, &mhandle) == NCCL_SUCCESS);
  return mhandle;
}

static void depart(const struct rig *rig, void *coll, struct flight *f, const struct call *c, int rank, int nranks,
                   struct harness_random *own) {
  f->prepared = call_prepare(c, rank, nranks);
  call_fill(&f->prepared, &f->buffers);
  f->send_mhandle = register_some(rig, coll, f->buffers.send, f->prepared.send_bytes, own);
  f->recv_mhandle = register_some(rig, coll, f->buffers.recv, f->prepared.recv_bytes, own);
  f->request = f; /* NCCL may leave anything there */
  CHECK(rig_iallreduce(rig, coll, f->buffers.send, f->buffers.recv, c->count, (nccl_datatype_t)c->type,
                       (nccl_redop_t)c->op, f->send_mhandle, f->recv_mhandle, &f->request) == NCCL_SUCCESS);
  CHECK(f->request && f->request != f);
}

static void arrive(const struct rig *rig, void *coll, struct flight *f) {
  char text[256];
  int bytes = -1;
  call_text(&f->prepared.call, text);
  harness_note("%s", text);
  CHECK(rig_wait(rig, f->request, &bytes) == NCCL_SUCCESS);
  CHECK(bytes == (int)f->prepared.recv_bytes);
  call_check(&f->prepared, &f->buffers);
  CHECK(rig->dereg_mr(coll, f->send_mhandle) == NCCL_SUCCESS);
  CHECK(rig->dereg_mr(coll, f->recv_mhandle) == NCCL_SUCCESS);
  call_release(&f->prepared);
}

/* NCCL's service thread, beside the one that posts and tests. */
struct service {
  const struct rig *rig;
  void *coll;
  uint32_t stop;
};

static void *serve(void *context) {
  struct service *s = context;
  static _Thread_local char memory[64];
  while (!__atomic_load_n(&s->stop, __ATOMIC_RELAXED)) {
    void *mhandle;
    CHECK(s->rig->reg_mr(s->coll, memory, sizeof memory, NCCL_PTR_HOST, &mhandle) == NCCL_SUCCESS);
    sched_yield();
    CHECK(s->rig->dereg_mr(s->coll, mhandle) == NCCL_SUCCESS);
  }
  return NULL;
}

/* As after an abort: nobody waits for what was posted, and what becomes of it is not told. */
static void close_abruptly(const struct rig *rig, void *coll, struct harness_random *own) {
  static _Thread_local float values[1 << 14];
  void *request;
  harness_delay(own);
  rig_iallreduce(rig, coll, values, values, LENGTH(values), NCCL_FLOAT32, NCCL_SUM, NULL, NULL, &request);
  harness_delay(own);
  CHECK(rig->close_coll(coll) == NCCL_SUCCESS);
}

static void run_rank(int rank, int nranks, void *context) {
  const struct plan *plan = context;
  struct harness_random common = harness_random(plan->seed), own = harness_random(plan->seed + 1 + (uint64_t)rank);
  struct flight flights[IN_FLIGHT] = {0};
  const struct rig rig = rig_open(plan->version);
  void *coll = rig_connect(&rig, plan->exchange, rank, nranks);
  struct service service = {.rig = &rig, .coll = coll};
  pthread_t servant;
  int departed = 0, arrived = 0;
  CHECK(!pthread_create(&servant, NULL, serve, &service));
  while (arrived < ROUNDS) {
    const bool may_depart = departed < ROUNDS && departed < arrived + IN_FLIGHT;
    if (may_depart && (departed == arrived || harness_below(&own, 4))) {
      const struct call c = choose(&common, nranks, departed);
      depart(&rig, coll, &flights[departed++ % IN_FLIGHT], &c, rank, nranks, &own);
    } else {
      arrive(&rig, coll, &flights[arrived++ % IN_FLIGHT]);
    }
    harness_delay(&own);
  }
  __atomic_store_n(&service.stop, 1, __ATOMIC_RELAXED);
  CHECK(!pthread_join(servant, NULL));
#ifndef HARNESS_THREADS /* they share the count, and others may have closed already */
  CHECK(rig_warnings(NULL) == 0);
#endif
  close_abruptly(&rig, coll, &own);
  rig_finalize(&rig);
  for (int i = 0; i < IN_FLIGHT; i++) call_release_buffers(&flights[i].buffers);
}

static void check_support(int version) {
  const struct rig rig = rig_open(version);
  for (int type = -1; type <= 12; type++) {
    for (int op = -1; op <= 6; op++) {
      int supported = -1;
      CHECK(rig.reduce_support((nccl_datatype_t)type, (nccl_redop_t)op, &supported) == NCCL_SUCCESS);
      CHECK(supported == (type >= 0 && type < 12 && op >= 0 && op <= NCCL_MIN));
    }
  }
  rig_finalize(&rig);
}

int main(void) {
  const char *folder = harness_own_folder();
  uint64_t seed = harness_seed();
  setenv("SHMCCL_DEBUG", "none", 1); /* rig_logger sees every line */
  for (int version = RIG_OLDEST; version <= RIG_NEWEST; version++) {
    check_support(version);
    struct plan plan = {.seed = seed++, .version = version, .exchange = rig_exchanges(1)};
    harness_ranks(2 + version % (RANKS_MOST - 1), run_rank, &plan, 250);
    CHECK(harness_entries(folder) == 0);
  }
  return 0;
}
