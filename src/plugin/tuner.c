/*
 * tuner.c - a model of what a call costs: latency by hops, then bytes by the rate at which a core copies.
 *
 * Over this plugin every byte that a rank sends or receives is copied once by its progress thread; with CollNet the
 * engine does the reduction, whose times `shmccl-perf --tune` measures. What happens on the GPU's side of a hop has not
 * been measured yet: those constants are NCCL's own, of its model for networks.
 */
#include "plugin/tuner.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/hash.h"
#include "base/options.h"
#include "base/tuning.h"
#include "plugin/device.h"

static const double COPY_GBS = 10; /* of one core, in main memory: where nothing was measured */
enum { COLLNET_LEAST_BYTES = 32 << 10 };
enum { MODEL = 1 }; /* to be counted up with every change of what a call is said to cost */

/* NCCL's constants, microseconds. */
struct latency {
  double base, hop;
};
static const struct latency ring_latency[] = {[NCCL_PROTO_LL] = {6.6, 5.0}, [NCCL_PROTO_SIMPLE] = {8.4, 14.0}};
static const struct latency tree_latency[] = {[NCCL_PROTO_LL] = {6.8, 5.0}, [NCCL_PROTO_SIMPLE] = {8.4, 14.0}};
static const struct latency pat_latency = {8.0, 4.0};
static const double PAT_RANK_US = 2.8, COLLNET_US = 14.0;

/* ---- the table -----------------------------------------------------------------------------------------------------
 */

static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct {
  bool on;
  bool measured; /* `tuning` is valid */
  struct shmi_tuning tuning;
  uint64_t hash;
} table;

/* Field by field: between them lies what nobody wrote. */
static void add_tuning(struct shmi_hash *h, const struct shmi_tuning *t) {
  shmi_hash_add(h, &t->copy_gbs, sizeof t->copy_gbs);
  for (int i = 0; i < t->nsets; i++) {
    shmi_hash_add(h, &t->sets[i].nranks, sizeof t->sets[i].nranks);
    for (int k = 0; k < t->sets[i].npoints; k++) {
      shmi_hash_add(h, &t->sets[i].points[k].bytes, sizeof t->sets[i].points[k].bytes);
      shmi_hash_add(h, &t->sets[i].points[k].us, sizeof t->sets[i].points[k].us);
    }
  }
}

static uint64_t hash_of_table(void) {
  uint8_t hash[SHMI_HASH_BYTES];
  uint64_t beginning;
  struct shmi_hash h = shmi_hash_begin("tuner");
  shmi_hash_add(&h, &(uint32_t){MODEL}, sizeof(uint32_t));
  shmi_hash_add(&h, &table.on, sizeof table.on);
  if (table.measured) add_tuning(&h, &table.tuning);
  shmi_hash_end(h, hash);
  memcpy(&beginning, hash, sizeof beginning);
  return beginning;
}

/* A setting that is nonsense is warned about, and is no reason to fail. */
static bool is_on(void) {
  uint64_t wanted;
  return shmi_option_local(SHMI_OPTION_TUNER, &wanted) != SHMCCL_SUCCESS || wanted;
}

static void load(void) {
  char message[SHMI_TUNING_MESSAGE_BYTES];
  const char *path = shmi_tuning_path();
  table.on = is_on();
  if (path) table.measured = shmi_tuning_read(path, &table.tuning, message) == 0;
  if (path && !table.measured) shmi_log_error("%s; the tuner goes by its built-in costs", message);
  table.hash = hash_of_table();
}

uint64_t shmi_tuner_hash(void) {
  pthread_once(&once, load);
  return table.hash;
}

uint32_t shmi_tuner_model(void) {
  pthread_once(&once, load);
  return table.on ? MODEL : 0;
}

/* ---- what a call costs ----------------------------------------------------------------------------------------------
 */

static double microseconds(double bytes, double gbs) { return bytes / (gbs * 1000); }

static double engine_us(const struct shmi_tuning *measured, int nranks, double copy_gbs, size_t bytes) {
  const double us = measured ? shmi_tuning_allreduce_us(measured, nranks, bytes) : -1;
  if (us >= 0) return us;
  /* Two shots: stage the others' shares, reduce the own one, collect the others'. */
  const double others = (double)(nranks - 1) / nranks;
  return 3 + nranks + microseconds((double)bytes * (2 * others + 0.5), copy_gbs);
}

/* Of a binary tree. */
static int levels(int nranks) {
  int n = 0;
  while (1 << n < nranks) n++;
  return n;
}

/* Hops of the longest way, and bytes that a rank sends, and receives, per byte of the call. */
struct way {
  double hops, traffic;
};

static struct way ring_way(nccl_func_t func, int nranks) {
  const double others = nranks - 1;
  switch (func) {
  case NCCL_FUNC_ALLREDUCE: return (struct way){2 * others, 2 * others / nranks};
  case NCCL_FUNC_ALLGATHER:
  case NCCL_FUNC_REDUCE_SCATTER: return (struct way){others, others / nranks};
  case NCCL_FUNC_BROADCAST:
  case NCCL_FUNC_REDUCE: break;
  }
  return (struct way){others, 1};
}

/* LL sends a flag with every word. */
static double net_us(struct latency latency, struct way way, int protocol, double copy_gbs, size_t bytes) {
  const double flags = protocol == NCCL_PROTO_LL ? 2 : 1;
  return latency.base + latency.hop * way.hops + microseconds(2 * way.traffic * flags * (double)bytes, copy_gbs);
}

static double allreduce_us(const struct shmi_tuning *measured, int nranks, int algorithm, int protocol, double copy_gbs,
                           size_t bytes) {
  if (algorithm == NCCL_ALGO_TREE)
    return net_us(tree_latency[protocol], (struct way){2 * levels(nranks), 2}, protocol, copy_gbs, bytes);
  if (algorithm == NCCL_ALGO_COLLNET_CHAIN && protocol == NCCL_PROTO_SIMPLE) /* whole chunks */
    return COLLNET_US +
           engine_us(measured, nranks, copy_gbs, bytes < COLLNET_LEAST_BYTES ? COLLNET_LEAST_BYTES : bytes);
  return -1;
}

double shmi_tuner_cost(int nranks, nccl_func_t func, int algorithm, int protocol, size_t bytes, int collnet) {
  pthread_once(&once, load);
  const struct shmi_tuning *measured = collnet && table.measured ? &table.tuning : NULL;
  const double copy_gbs = measured ? measured->copy_gbs : COPY_GBS;
  const bool scatters = func == NCCL_FUNC_ALLGATHER || func == NCCL_FUNC_REDUCE_SCATTER;
  if ((unsigned)func > NCCL_FUNC_ALLREDUCE || (protocol != NCCL_PROTO_LL && protocol != NCCL_PROTO_SIMPLE)) return -1;
  if (algorithm == NCCL_ALGO_RING)
    return net_us(ring_latency[protocol], ring_way(func, nranks), protocol, copy_gbs, bytes);
  if (algorithm == NCCL_ALGO_PAT && scatters && protocol == NCCL_PROTO_SIMPLE) {
    const struct way way = {levels(nranks), ring_way(func, nranks).traffic};
    return PAT_RANK_US * nranks + net_us(pat_latency, way, protocol, copy_gbs, bytes);
  }
  if (func == NCCL_FUNC_ALLREDUCE) return allreduce_us(measured, nranks, algorithm, protocol, copy_gbs, bytes);
  return -1;
}

/* ---- whether to tune --------------------------------------------------------------------------------------------- */

/* Another network than ours carries the traffic if the user says so, or on several hosts. */
static bool carries_traffic(void) {
  const char *net = getenv("NCCL_NET");
  int ndevices = 0;
  if (net && *net && strcasecmp(net, SHMI_PLUGIN_NAME)) return false;
  return shmi_plugin_devices(&ndevices) == NCCL_SUCCESS && ndevices > 0;
}

/* Where the plugin carries the traffic of a host, NCCL sees a node per rank. */
int shmi_tuner_ranks(const struct shmi_plugin_log *log, size_t nranks, size_t nnodes) {
  const struct shmi_log_sink before = shmi_plugin_log_enter(log);
  pthread_once(&once, load);
  shmi_plugin_log_leave(before);
  if (!table.on || nnodes != nranks || nranks < 2 || nranks > SHMCCL_MAX_RANKS || !carries_traffic()) return 0;
  shmi_plugin_info(log, NCCL_SUBSYS_TUNING, "tuner: %zu ranks: %s costs (table %016llx)", nranks,
                   table.measured && shmi_tuning_find(&table.tuning, (int)nranks) ? "measured" : "built-in",
                   (unsigned long long)table.hash);
  return (int)nranks;
}
