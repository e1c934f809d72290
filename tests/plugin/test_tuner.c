/*
 * test_tuner.c - the tuner of the built plugin, every version of its table: what it may write and what not, what makes
 * it leave NCCL's choice alone, what it chooses, and that no input makes it fail.
 *
 * Each case runs in a process of its own, since what a process's tuner goes by is read once.
 */
#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/tuning.h"
#include "harness.h"
#include "plugin/nccl_tuner.h"

enum { ALGORITHMS = 7, PROTOCOLS = 3, FUNCTIONS = 5 };

/* ---- loading ----------------------------------------------------------------------------------------------------- */

static int warnings;

static void logger(nccl_log_level_t level, unsigned long subsystems, const char *file, int line, const char *format,
                   ...) __attribute__((format(printf, 5, 6)));
static void logger(nccl_log_level_t level, unsigned long subsystems, const char *file, int line, const char *format,
                   ...) {
  (void)subsystems, (void)file, (void)line, (void)format;
  warnings += level == NCCL_LOG_WARN;
}

static const void *table_of(int version) {
  char name[32];
  void *plugin = dlopen(PLUGIN_FILE, RTLD_NOW | RTLD_LOCAL);
  CHECK_TEXT(plugin, "%s", dlerror());
  snprintf(name, sizeof name, "ncclTunerPlugin_v%d", version);
  const void *table = dlsym(plugin, name);
  CHECK_TEXT(table, "%s", name);
  return table;
}

static void *init(int version, size_t nranks, size_t nnodes) {
  void *context = &warnings;
  if (version <= 4) {
    const nccl_tuner_v4_t *t = table_of(version); /* init is the same in versions 2 to 4 */
    CHECK(!strcmp(t->name, "shmccl") && t->init(nranks, nnodes, logger, &context) == NCCL_SUCCESS);
  } else {
    const nccl_tuner_v6_t *t = table_of(version);
    nccl_tuner_constants_t constants, before;
    memset(&constants, 0x5a, sizeof constants);
    before = constants;
    CHECK(!strcmp(t->name, "shmccl"));
    CHECK(t->init(&context, 7, nranks, nnodes, logger, NULL, &constants) == NCCL_SUCCESS);
    CHECK(!memcmp(&before, &constants, sizeof before) && (version < 6 || !t->get_chunk_size));
  }
  CHECK(context != &warnings);
  return context;
}

/* nchannels stays as it is. */
static void ask(int version, void *context, nccl_func_t func, size_t bytes, float *costs, int nalgorithms,
                int nprotocols) {
  float **table = (float **)(void *)costs;
  int nchannels = 77;
  if (version == 3) {
    const nccl_tuner_v3_t *t = table_of(3);
    CHECK(t->get_coll_info(context, func, bytes, 1, table, nalgorithms, nprotocols, &nchannels) == NCCL_SUCCESS);
  } else {
    const nccl_tuner_v4_t *t = table_of(version); /* get_coll_info is the same from version 4 on */
    CHECK(t->get_coll_info(context, func, bytes, 1, table, nalgorithms, nprotocols, 0, &nchannels) == NCCL_SUCCESS);
  }
  CHECK(nchannels == 77);
}

static void end(int version, void *context) {
  const nccl_tuner_v4_t *t = table_of(version); /* so is the place of destroy and finalize */
  CHECK(t->destroy(context) == NCCL_SUCCESS);
}

/* ---- tables ------------------------------------------------------------------------------------------------------ */

/* As NCCL's model leaves it: what is available has a cost of its own. */
static void fill(float costs[ALGORITHMS][PROTOCOLS], unsigned available) {
  for (int i = 0; i < ALGORITHMS * PROTOCOLS; i++)
    costs[i / PROTOCOLS][i % PROTOCOLS] = available >> i & 1 ? 1000.0f + (float)i : -1.0f;
}

static unsigned bit(int algorithm, int protocol) { return 1u << (algorithm * PROTOCOLS + protocol); }

/* What NCCL takes: the lowest cost that is not negative. */
static unsigned choice(float costs[ALGORITHMS][PROTOCOLS]) {
  int best = -1;
  for (int i = 0; i < ALGORITHMS * PROTOCOLS; i++) {
    const float cost = costs[i / PROTOCOLS][i % PROTOCOLS];
    if (cost >= 0.0f && (best < 0 || cost < costs[best / PROTOCOLS][best % PROTOCOLS])) best = i;
  }
  return best < 0 ? 0 : 1u << best;
}

/* What is chosen of what NCCL offers over a network: trees and CollNet for allreduce only. */
static unsigned choose(int version, void *context, nccl_func_t func, size_t bytes, bool collnet) {
  unsigned available = bit(NCCL_ALGO_RING, NCCL_PROTO_LL) | bit(NCCL_ALGO_RING, NCCL_PROTO_SIMPLE);
  float costs[ALGORITHMS][PROTOCOLS];
  if (func == NCCL_FUNC_ALLREDUCE)
    available |= bit(NCCL_ALGO_TREE, NCCL_PROTO_LL) | bit(NCCL_ALGO_TREE, NCCL_PROTO_SIMPLE);
  if (collnet) available |= bit(NCCL_ALGO_COLLNET_CHAIN, NCCL_PROTO_SIMPLE);
  fill(costs, available);
  ask(version, context, func, bytes, costs[0], ALGORITHMS, PROTOCOLS);
  return choice(costs);
}

static bool left_alone(int version, size_t nranks, size_t nnodes) {
  float costs[ALGORITHMS][PROTOCOLS], before[ALGORITHMS][PROTOCOLS];
  void *context = init(version, nranks, nnodes);
  bool alone = true;
  fill(before, 0x1fffff);
  for (int func = 0; func < FUNCTIONS; func++) {
    memcpy(costs, before, sizeof costs);
    ask(version, context, (nccl_func_t)func, 1 << 20, costs[0], ALGORITHMS, PROTOCOLS);
    alone &= !memcmp(costs, before, sizeof costs);
  }
  end(version, context);
  return alone;
}

/* ---- cases ------------------------------------------------------------------------------------------------------- */

static void never_overwrites(int version, struct harness_random *r) {
  float costs[ALGORITHMS][PROTOCOLS], before[ALGORITHMS][PROTOCOLS];
  void *context = init(version, 2 + harness_below(r, 63), 0);
  end(version, context);
  for (int i = 0; i < 2000; i++) {
    const size_t nranks = 2 + harness_below(r, 63), bytes = harness_bits(r) >> harness_below(r, 64);
    const int nalgorithms = (int)harness_below(r, ALGORITHMS + 1), nprotocols = (int)harness_below(r, PROTOCOLS + 1);
    context = init(version, nranks, nranks);
    fill(before, (unsigned)harness_bits(r));
    memcpy(costs, before, sizeof costs);
    ask(version, context, (nccl_func_t)harness_below(r, 20), bytes, costs[0], nalgorithms, nprotocols);
    for (int k = 0; k < ALGORITHMS * PROTOCOLS; k++) {
      const float was = before[k / PROTOCOLS][k % PROTOCOLS], is = costs[k / PROTOCOLS][k % PROTOCOLS];
      CHECK(k < nalgorithms * nprotocols && was >= 0.0f ? is >= 0.0f && is < 1e30f : is == was);
    }
    end(version, context);
  }
  ask(version, NULL, NCCL_FUNC_ALLREDUCE, 1, costs[0], ALGORITHMS, PROTOCOLS);
  ask(version, init(version, 4, 4), NCCL_FUNC_ALLREDUCE, 1, NULL, ALGORITHMS, PROTOCOLS);
}

static void costs_rise(int version, struct harness_random *r) {
  float before[ALGORITHMS][PROTOCOLS], costs[ALGORITHMS][PROTOCOLS];
  void *context = init(version, 4, 4);
  const nccl_func_t func = (nccl_func_t)harness_below(r, FUNCTIONS);
  fill(before, 0);
  for (size_t bytes = 1; bytes <= (size_t)1 << 40; bytes *= 2) {
    fill(costs, 0x1fffff);
    ask(version, context, func, bytes, costs[0], ALGORITHMS, PROTOCOLS);
    for (int k = 0; k < ALGORITHMS * PROTOCOLS; k++)
      CHECK(costs[k / PROTOCOLS][k % PROTOCOLS] >= before[k / PROTOCOLS][k % PROTOCOLS]);
    memcpy(before, costs, sizeof costs);
  }
}

static void chooses(int rank, int nranks, void *unused) {
  const unsigned collnet = bit(NCCL_ALGO_COLLNET_CHAIN, NCCL_PROTO_SIMPLE);
  struct harness_random r = harness_random(*(uint64_t *)unused);
  (void)rank, (void)nranks;
  for (int version = 3; version <= 6; version++) {
    void *context = init(version, 4, 4);
    never_overwrites(version, &r);
    costs_rise(version, &r);
    for (size_t bytes = 64 << 10; bytes <= (size_t)1 << 30; bytes *= 4)
      CHECK(choose(version, context, NCCL_FUNC_ALLREDUCE, bytes, true) == collnet);
    CHECK(choose(version, context, NCCL_FUNC_ALLREDUCE, 8, false) == bit(NCCL_ALGO_TREE, NCCL_PROTO_LL));
    CHECK(choose(version, context, NCCL_FUNC_ALLREDUCE, 1 << 28, false) == bit(NCCL_ALGO_RING, NCCL_PROTO_SIMPLE));
    CHECK(choose(version, context, NCCL_FUNC_ALLGATHER, 8, false) == bit(NCCL_ALGO_RING, NCCL_PROTO_LL));
    CHECK(choose(version, context, NCCL_FUNC_BROADCAST, 1 << 28, false) == bit(NCCL_ALGO_RING, NCCL_PROTO_SIMPLE));
    end(version, context);
  }
  for (int version = 3; version <= 6; version++) {
    CHECK(!left_alone(version, 4, 4));
    /* One host that NCCL serves by itself, one rank, more than the engine knows. */
    CHECK(left_alone(version, 4, 1) && left_alone(version, 1, 1) && left_alone(version, 65, 65));
    CHECK(left_alone(version, 0, 0) && left_alone(version, (size_t)-1, (size_t)-1));
  }
  CHECK(warnings == 0);
}

/* Version 2 names its choice, and what NCCL put there stays if there is none. */
static void chooses_by_name(int rank, int nranks, void *unused) {
  const nccl_tuner_v2_t *t = table_of(2);
  int algorithm = -1, protocol = -1, nchannels = 77;
  void *context = init(2, 4, 4), *alone = init(2, 4, 1);
  (void)rank, (void)nranks, (void)unused;
  CHECK(t->get_coll_info(alone, NCCL_FUNC_ALLREDUCE, 1 << 20, 1, 0, 1, &algorithm, &protocol, &nchannels) == 0);
  CHECK(algorithm == -1 && protocol == -1);
  CHECK(t->get_coll_info(context, NCCL_FUNC_ALLREDUCE, 1 << 20, 1, 0, 1, &algorithm, &protocol, &nchannels) == 0);
  CHECK(algorithm == NCCL_ALGO_COLLNET_CHAIN && protocol == NCCL_PROTO_SIMPLE);
  CHECK(t->get_coll_info(context, NCCL_FUNC_ALLREDUCE, 1 << 28, 0, 0, 1, &algorithm, &protocol, &nchannels) == 0);
  CHECK(algorithm == NCCL_ALGO_RING && protocol == NCCL_PROTO_SIMPLE);
  CHECK(t->get_coll_info(context, NCCL_FUNC_REDUCE_SCATTER, 8, 1, 0, 1, &algorithm, &protocol, &nchannels) == 0);
  CHECK(algorithm == NCCL_ALGO_RING && protocol == NCCL_PROTO_LL && nchannels == 77);
  algorithm = protocol = -1;
  CHECK(t->get_coll_info(context, (nccl_func_t)14, 8, 1, 0, 1, &algorithm, &protocol, &nchannels) == 0);
  CHECK(t->get_coll_info(context, NCCL_FUNC_ALLREDUCE, 8, 1, 0, 1, NULL, NULL, NULL) == 0);
  setenv("NCCL_PROTO", "Simple", 1);
  CHECK(t->get_coll_info(context, NCCL_FUNC_ALLREDUCE, 8, 1, 0, 1, &algorithm, &protocol, &nchannels) == 0);
  CHECK(algorithm == -1 && protocol == -1);
  CHECK(t->destroy(context) == NCCL_SUCCESS && t->destroy(NULL) == NCCL_SUCCESS);
}

/* context: a variable that switches it off, "NAME=value". */
static void leaves_alone(int rank, int nranks, void *context) {
  (void)rank, (void)nranks;
  putenv(context);
  for (int version = 3; version <= 6; version++) CHECK(left_alone(version, 4, 4));
  CHECK(warnings == 0);
}

/* context: a setting that is nonsense: one warning, and the built-in costs. */
static void survives(int rank, int nranks, void *context) {
  (void)rank, (void)nranks;
  putenv(context);
  CHECK(!left_alone(3, 4, 4) && warnings == 1);
  CHECK(!left_alone(5, 2, 2) && warnings == 1);
}

/* A table of this machine in which four ranks' allreduce takes ages. It counts where CollNet is available, since there
 * the ranks have compared their tables. */
static void goes_by_the_table(int rank, int nranks, void *context) {
  (void)rank, (void)nranks;
  CHECK(setenv("SHMCCL_TUNING_FILE", context, 1) == 0);
  for (int version = 3; version <= 6; version++) {
    void *four = init(version, 4, 4), *three = init(version, 3, 3);
    const unsigned collnet = bit(NCCL_ALGO_COLLNET_CHAIN, NCCL_PROTO_SIMPLE);
    CHECK(choose(version, four, NCCL_FUNC_ALLREDUCE, 1 << 20, true) != collnet);
    CHECK(choose(version, three, NCCL_FUNC_ALLREDUCE, 1 << 20, true) == collnet); /* not in the table */
    CHECK(choose(version, four, NCCL_FUNC_ALLREDUCE, 8, false) == bit(NCCL_ALGO_TREE, NCCL_PROTO_LL));
  }
  CHECK(warnings == 0);
}

static void write_table(const char *path) {
  const struct shmi_tuning_machine here = shmi_tuning_this_machine();
  FILE *file = fopen(path, "w");
  CHECK(file);
  fprintf(file, "shmccl-tuning %d\nlibrary %d.%d.%d\ncpu %s\ncores %d\n", SHMI_TUNING_FORMAT, SHMCCL_VERSION_MAJOR,
          SHMCCL_VERSION_MINOR, SHMCCL_VERSION_PATCH, here.cpu, here.cores);
  fprintf(file, "copy-gbs 10\ncached-copy-gbs 20\nhandover-us 0.1\n");
  fprintf(file, "ranks 4\none-shot-most 1024\nreduce-chunk 1024\ncopy-chunk 1024\n");
  fprintf(file, "allreduce 1024 1000000\nallreduce 1048576 2000000\nend\n");
  CHECK(!fclose(file));
}

int main(void) {
  char path[] = "/tmp/shmccl-tuning-XXXXXX";
  uint64_t seed = harness_seed();
  const int fd = mkstemp(path);
  CHECK(fd >= 0 && !close(fd));
  setenv("SHMCCL_DEBUG", "none", 1); /* logger sees every line */
  harness_processes(1, chooses, &seed, 60);
  harness_processes(1, chooses_by_name, NULL, 20);
  static char off[] = "SHMCCL_TUNER=0", other[] = "NCCL_NET=Socket", nonsense[] = "SHMCCL_TUNER=maybe",
              nowhere[] = "SHMCCL_TUNING_FILE=/nowhere", empty[64];
  harness_processes(1, leaves_alone, off, 20);
  harness_processes(1, leaves_alone, other, 20);
  harness_processes(1, survives, nonsense, 20);
  harness_processes(1, survives, nowhere, 20);
  snprintf(empty, sizeof empty, "SHMCCL_TUNING_FILE=%s", path);
  harness_processes(1, survives, empty, 20);
  write_table(path);
  harness_processes(1, goes_by_the_table, path, 20);
  unlink(path);
  return 0;
}
