/* tuner.c - see tuner.h. */
#include "tuner.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { QUESTIONS = 3000, MAX_CHANNELS = 64, GUARD = 16, CELLS = NCCL_MAX_ALGOS * NCCL_PROTOS };

struct tuner {
  int version;
  const void *table;
  void *context;
};
#define T2(t) ((const ncclTuner_v2_t *)(t)->table)
#define T3(t) ((const ncclTuner_v3_t *)(t)->table)
#define T4(t) ((const ncclTuner_v4_t *)(t)->table)
#define T5(t) ((const ncclTuner_v5_t *)(t)->table)
#define T6(t) ((const ncclTuner_v6_t *)(t)->table)

/* One question and its answer. */
struct question {
  int func, nalgos, pipe_ops, registered;
  size_t bytes;
  float costs[CELLS + GUARD];
  int nchannels;
  int algo, proto; /* v2 */
};

static void begin(struct tuner *t, size_t nranks, size_t nnodes) {
  ncclNvlDomainInfo_v5_t domain = {1, (int)nranks, (int)nranks};
  ncclTunerConstants_v5_t constants;
  for (size_t i = 0; i < sizeof constants / sizeof(double); i++) ((double *)&constants)[i] = 1 + (double)i;
  ncclResult_t result;
  if (t->version == 2)
    result = T2(t)->init(nranks, nnodes, nccl_logger, &t->context);
  else if (t->version < 5)
    result = T4(t)->init(nranks, nnodes, nccl_logger, &t->context);
  else
    result = T5(t)->init(&t->context, 0xc0113c7, nranks, nnodes, nccl_logger, &domain, &constants);
  CHECK_TEXT(result == ncclSuccess, "tuner v%d: init: %s", t->version, nccl_result_name(result));
  for (size_t i = 0; i < sizeof constants / sizeof(double); i++) CHECK(((double *)&constants)[i] >= 0);
}

static void end(struct tuner *t) {
  CHECK((t->version < 5 ? T4(t)->destroy : T5(t)->finalize)(t->context) == ncclSuccess);
}

static struct question ask_for(struct harness_random *r) {
  struct question q = {.func = (int)harness_below(r, ncclNumFuncs), .nalgos = 6 + (int)harness_below(r, 2)};
  q.pipe_ops = 1 + (int)harness_below(r, 4);
  q.registered = (int)harness_below(r, 2);
  q.bytes = harness_bits(r) >> (24 + harness_below(r, 40));
  q.algo = q.proto = -1;
  for (int i = 0; i < CELLS + GUARD; i++)
    q.costs[i] = harness_below(r, 3) ? (float)harness_below(r, 1000000) / 7 : -1.0f;
  return q;
}

static ncclResult_t ask(const struct tuner *t, struct question *q) {
  float **costs = (float **)(void *)q->costs; /* NCCL passes its array so */
  switch (t->version) {
  case 2:
    return T2(t)->getCollInfo(t->context, q->func, q->bytes, 1, 0, q->pipe_ops, &q->algo, &q->proto, &q->nchannels);
  case 3:
    return T3(t)->getCollInfo(t->context, q->func, q->bytes, q->pipe_ops, costs, q->nalgos, NCCL_PROTOS, &q->nchannels);
  case 4:
    return T4(t)->getCollInfo(t->context, q->func, q->bytes, q->pipe_ops, costs, q->nalgos, NCCL_PROTOS, q->registered,
                              &q->nchannels);
  default:
    return T5(t)->getCollInfo(t->context, q->func, q->bytes, q->pipe_ops, costs, q->nalgos, NCCL_PROTOS, q->registered,
                              &q->nchannels);
  }
}

static void check_answer(const struct question *before, const struct question *after) {
  const int cells = before->nalgos * NCCL_PROTOS;
  CHECK_TEXT(after->nchannels >= 0 && after->nchannels <= MAX_CHANNELS, "%d channels", after->nchannels);
  CHECK_TEXT((after->algo < 0) == (after->proto < 0), "algorithm %d with protocol %d", after->algo, after->proto);
  CHECK(after->algo < NCCL_MAX_ALGOS && after->proto < NCCL_PROTOS);
  for (int i = 0; i < CELLS + GUARD; i++) {
    const float old = before->costs[i], now = after->costs[i];
    CHECK_TEXT(i < cells || now == old, "cell %d of a table of %d was changed", i, cells);
    CHECK_TEXT(old >= 0 || now == -1.0f, "algorithm %d, protocol %d was excluded and now costs %g", i / NCCL_PROTOS,
               i % NCCL_PROTOS, (double)now);
    CHECK_TEXT(old < 0 || (isfinite(now) && (now >= 0 || now == -1.0f)), "a cost of %g", (double)now);
  }
}

/* NCCL clamps the chunk size to the buffer's, not to anything above 0. */
static void check_chunks(const struct tuner *t, const struct question *q) {
  size_t chunk = 128 << 10;
  if (t->version < 6 || !T6(t)->getChunkSize) return;
  CHECK(T6(t)->getChunkSize(t->context, q->func, q->bytes, NCCL_ALGO_RING, NCCL_PROTO_SIMPLE, 2, &chunk) ==
        ncclSuccess);
  CHECK_TEXT(chunk > 0, "a chunk size of 0");
}

/* Ranks that ask the same must hear the same, whatever else each has asked. */
static void question(const struct tuner *a, const struct tuner *b, struct harness_random *r) {
  const struct question q = ask_for(r);
  struct question first = q, second = q;
  CHECK_TEXT(ask(a, &first) == ncclSuccess,
             "tuner v%d: getCollInfo fails, which NCCL takes for the collective's failure", a->version);
  check_answer(&q, &first);
  check_chunks(a, &q);
  if (harness_below(r, 2)) return;
  CHECK(ask(b, &second) == ncclSuccess);
  const bool same = !memcmp(first.costs, second.costs, sizeof first.costs) && first.nchannels == second.nchannels &&
                    first.algo == second.algo && first.proto == second.proto;
  CHECK_TEXT(same, "two communicators of the same shape hear different answers");
}

static void all_excluded(const struct tuner *t) {
  struct question q = {
      .func = ncclAllReduce, .nalgos = NCCL_MAX_ALGOS, .bytes = 1 << 20, .pipe_ops = 1, .algo = -1, .proto = -1};
  for (int i = 0; i < CELLS + GUARD; i++) q.costs[i] = -1;
  const struct question before = q;
  CHECK(ask(t, &q) == ncclSuccess);
  check_answer(&before, &q);
}

static void rank_main(int rank, int nranks, void *context) {
  struct world *w = context;
  struct harness_random r = harness_random(w->settings.seed + (unsigned)rank);
  struct nccl *n = world_nccl(0);
  struct nccl_comm comm;
  struct tuner a = {0}, b = {0};
  const char *why;
  CHECK_TEXT(nccl_comm_begin(n, &comm, &why), "%s: %s", w->settings.plugin, why);
  a.table = nccl_tuner(n, &a.version);
  CHECK_TEXT(a.table || n->minor == NCCL_FIRST_MINOR, "no tuner table for NCCL 2.%d", n->minor);
  if (a.table) {
    b = a;
    begin(&a, (size_t)nranks, (size_t)nranks);
    begin(&b, (size_t)nranks, (size_t)nranks);
    for (int i = 0; i < QUESTIONS; i++) question(&a, &b, &r);
    all_excluded(&a);
    end(&b);
    end(&a);
  }
  nccl_comm_end(&comm);
}

void tuner_run(struct world *w) {
  world_reset(w);
  world_run(w, rank_main, WORLD_SECONDS);
}
