/*
 * tuner_tables.c - the tuner as NCCL 2.21 to 2.30 look for it: five tables over tuner.c.
 *
 * The context is the number of ranks itself, so there is nothing to free, to free twice or to find invalid; NULL leaves
 * NCCL's choice alone. No call ever fails: NCCL would fail the user's collective.
 */
#include <stdlib.h>

#include "plugin/tuner.h"

#define EXPORT __attribute__((visibility("default")))

/* Those whose costs are known. */
static const int algorithms[] = {NCCL_ALGO_TREE, NCCL_ALGO_RING, NCCL_ALGO_COLLNET_CHAIN, NCCL_ALGO_PAT};
static const int protocols[] = {NCCL_PROTO_LL, NCCL_PROTO_SIMPLE};
enum { ALGORITHMS = sizeof algorithms / sizeof algorithms[0], PROTOCOLS = sizeof protocols / sizeof protocols[0] };

static void *context_of(int nranks) { return (void *)(uintptr_t)nranks; }
static int ranks_of(const void *context) {
  const uintptr_t nranks = (uintptr_t)context;
  return nranks <= SHMCCL_MAX_RANKS ? (int)nranks : 0;
}

static nccl_result_t init_v2(size_t nranks, size_t nnodes, nccl_logger_t logger, void **context) {
  if (context) *context = context_of(shmi_tuner_ranks(&(struct shmi_plugin_log){logger}, nranks, nnodes));
  return NCCL_SUCCESS;
}

static nccl_result_t init_v5(void **context, uint64_t comm_id, size_t nranks, size_t nnodes, nccl_logger_t logger,
                             nccl_nvl_domains_t *domains, nccl_tuner_constants_t *constants) {
  (void)comm_id, (void)domains, (void)constants;
  return init_v2(nranks, nnodes, logger, context);
}

static nccl_result_t destroy(void *context) {
  (void)context;
  return NCCL_SUCCESS;
}

/* ---- a table of costs: v3 and later -------------------------------------------------------------------------------
 */

static nccl_result_t get_coll_info_v4(void *context, nccl_func_t func, size_t bytes, int pipelined_ops, float **table,
                                      int nalgorithms, int nprotocols, int registered, int *nchannels) {
  float *costs = (float *)(void *)table; /* nalgorithms x nprotocols; negative: not available */
  const int nranks = ranks_of(context);
  (void)pipelined_ops, (void)registered, (void)nchannels;
  if (!nranks || !costs) return NCCL_SUCCESS;
  const int chain = NCCL_ALGO_COLLNET_CHAIN * nprotocols + NCCL_PROTO_SIMPLE;
  const int collnet = NCCL_ALGO_COLLNET_CHAIN < nalgorithms && NCCL_PROTO_SIMPLE < nprotocols && costs[chain] >= 0.0f;
  for (int i = 0; i < ALGORITHMS * PROTOCOLS; i++) {
    const int algorithm = algorithms[i / PROTOCOLS], protocol = protocols[i % PROTOCOLS];
    if (algorithm >= nalgorithms || protocol >= nprotocols) continue;
    float *cost = &costs[algorithm * nprotocols + protocol];
    const double us = shmi_tuner_cost(nranks, func, algorithm, protocol, bytes, collnet);
    if (*cost >= 0.0f && us >= 0) *cost = (float)us;
  }
  return NCCL_SUCCESS;
}

static nccl_result_t get_coll_info_v3(void *context, nccl_func_t func, size_t bytes, int pipelined_ops, float **table,
                                      int nalgorithms, int nprotocols, int *nchannels) {
  return get_coll_info_v4(context, func, bytes, pipelined_ops, table, nalgorithms, nprotocols, 0, nchannels);
}

/* ---- a choice: v2 --------------------------------------------------------------------------------------------------
 */

/* NCCL does not say what the user has ruled out, so a user who rules out anything is left alone. */
static int user_chooses(void) { return getenv("NCCL_ALGO") != NULL || getenv("NCCL_PROTO") != NULL; }

static nccl_result_t get_coll_info_v2(void *context, nccl_func_t func, size_t bytes, int collnet, int nvls,
                                      int pipelined_ops, int *algorithm, int *protocol, int *nchannels) {
  const int nranks = ranks_of(context);
  double least = -1;
  (void)nvls, (void)pipelined_ops, (void)nchannels;
  if (!nranks || !algorithm || !protocol || user_chooses()) return NCCL_SUCCESS;
  for (int i = 0; i < ALGORITHMS * PROTOCOLS; i++) {
    const int a = algorithms[i / PROTOCOLS], p = protocols[i % PROTOCOLS];
    const double us = shmi_tuner_cost(nranks, func, a, p, bytes, collnet);
    if (a == NCCL_ALGO_PAT || (a == NCCL_ALGO_COLLNET_CHAIN && !collnet) || us < 0) continue;
    if (least >= 0 && us >= least) continue;
    least = us;
    *algorithm = a;
    *protocol = p;
  }
  return NCCL_SUCCESS;
}

/* ---- the tables ----------------------------------------------------------------------------------------------------
 */

EXPORT extern const nccl_tuner_v2_t ncclTunerPlugin_v2;
EXPORT extern const nccl_tuner_v3_t ncclTunerPlugin_v3;
EXPORT extern const nccl_tuner_v4_t ncclTunerPlugin_v4;
EXPORT extern const nccl_tuner_v5_t ncclTunerPlugin_v5;
EXPORT extern const nccl_tuner_v6_t ncclTunerPlugin_v6;

const nccl_tuner_v2_t ncclTunerPlugin_v2 = {SHMI_PLUGIN_NAME, init_v2, get_coll_info_v2, destroy};
const nccl_tuner_v3_t ncclTunerPlugin_v3 = {SHMI_PLUGIN_NAME, init_v2, get_coll_info_v3, destroy};
const nccl_tuner_v4_t ncclTunerPlugin_v4 = {SHMI_PLUGIN_NAME, init_v2, get_coll_info_v4, destroy};
const nccl_tuner_v5_t ncclTunerPlugin_v5 = {SHMI_PLUGIN_NAME, init_v5, get_coll_info_v4, destroy};
const nccl_tuner_v6_t ncclTunerPlugin_v6 = {SHMI_PLUGIN_NAME, init_v5, get_coll_info_v4, destroy, NULL};
