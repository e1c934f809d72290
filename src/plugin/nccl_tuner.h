/* nccl_tuner.h - NCCL's tables for tuners, versions 2 to 6 (NCCL 2.21 to 2.30). */
#ifndef SHMI_NCCL_TUNER_H
#define SHMI_NCCL_TUNER_H

#include "plugin/nccl_abi.h"

typedef struct {
  int domains, least_ranks_per_domain, most_ranks_per_domain;
} nccl_nvl_domains_t;

/* Of NCCL's model, which a tuner may change while it is initialised. Second index: protocol, 1, 2 or 4 nodes, ... */
typedef struct {
  double base_latencies[7][3];  /* algorithm, protocol */
  double hw_latencies[3][7][3]; /* NVLink, PCI, NET; algorithm; protocol */
  double ll_max_bws[4][3];      /* GPU generation; 1, 2, 4 nodes; so below */
  double ring_ll128_bws[4][3];
  double tree_ll128_bws[4][3];
  double tree_bws[4][3];
  double nvls_tree_bws[4][3];
} nccl_tuner_constants_t;

typedef nccl_result_t nccl_tuner_init_v2(size_t nranks, size_t nnodes, nccl_logger_t, void **context);
typedef nccl_result_t nccl_tuner_init_v5(void **context, uint64_t comm_id, size_t nranks, size_t nnodes, nccl_logger_t,
                                         nccl_nvl_domains_t *, nccl_tuner_constants_t *);
typedef nccl_result_t nccl_tuner_get_coll_info_v2(void *context, nccl_func_t, size_t bytes, int collnet, int nvls,
                                                  int pipelined_ops, int *algorithm, int *protocol, int *nchannels);
/* table: float[nalgorithms][nprotocols] without gaps, whatever its type says; -1: not available. */
typedef nccl_result_t nccl_tuner_get_coll_info_v3(void *context, nccl_func_t, size_t bytes, int pipelined_ops,
                                                  float **table, int nalgorithms, int nprotocols, int *nchannels);
typedef nccl_result_t nccl_tuner_get_coll_info_v4(void *context, nccl_func_t, size_t bytes, int pipelined_ops,
                                                  float **table, int nalgorithms, int nprotocols, int registered,
                                                  int *nchannels);
typedef nccl_result_t nccl_tuner_destroy_v2(void *context);
typedef nccl_result_t nccl_tuner_get_chunk_size_v6(void *context, nccl_func_t, size_t bytes, int algorithm,
                                                   int protocol, int nchannels, size_t *chunk_bytes);

typedef struct {
  const char *name;
  nccl_tuner_init_v2 *init;
  nccl_tuner_get_coll_info_v2 *get_coll_info;
  nccl_tuner_destroy_v2 *destroy;
} nccl_tuner_v2_t;

typedef struct {
  const char *name;
  nccl_tuner_init_v2 *init;
  nccl_tuner_get_coll_info_v3 *get_coll_info;
  nccl_tuner_destroy_v2 *destroy;
} nccl_tuner_v3_t;

typedef struct {
  const char *name;
  nccl_tuner_init_v2 *init;
  nccl_tuner_get_coll_info_v4 *get_coll_info;
  nccl_tuner_destroy_v2 *destroy;
} nccl_tuner_v4_t;

typedef struct {
  const char *name;
  nccl_tuner_init_v5 *init;
  nccl_tuner_get_coll_info_v4 *get_coll_info;
  nccl_tuner_destroy_v2 *finalize;
} nccl_tuner_v5_t;

typedef struct {
  const char *name;
  nccl_tuner_init_v5 *init;
  nccl_tuner_get_coll_info_v4 *get_coll_info;
  nccl_tuner_destroy_v2 *finalize;
  nccl_tuner_get_chunk_size_v6 *get_chunk_size; /* may be NULL */
} nccl_tuner_v6_t;

/* ---- layout ---------------------------------------------------------------------------------------------------- */

NCCL_ABI_SIZE(nccl_nvl_domains_t, 12);
NCCL_ABI_SIZE(nccl_tuner_constants_t, 1152);
NCCL_ABI_OFFSET(nccl_tuner_constants_t, hw_latencies, 168);
NCCL_ABI_OFFSET(nccl_tuner_constants_t, ll_max_bws, 672);
NCCL_ABI_OFFSET(nccl_tuner_constants_t, ring_ll128_bws, 768);
NCCL_ABI_OFFSET(nccl_tuner_constants_t, tree_ll128_bws, 864);
NCCL_ABI_OFFSET(nccl_tuner_constants_t, tree_bws, 960);
NCCL_ABI_OFFSET(nccl_tuner_constants_t, nvls_tree_bws, 1056);
#define NCCL_ABI_TUNER(type, last)                                                                                     \
  NCCL_ABI_OFFSET(type, name, 0);                                                                                      \
  NCCL_ABI_OFFSET(type, init, sizeof(void *));                                                                         \
  NCCL_ABI_OFFSET(type, get_coll_info, 2 * sizeof(void *));                                                            \
  NCCL_ABI_OFFSET(type, last, 3 * sizeof(void *))
NCCL_ABI_TUNER(nccl_tuner_v2_t, destroy);
NCCL_ABI_SIZE(nccl_tuner_v2_t, 4 * sizeof(void *));
NCCL_ABI_TUNER(nccl_tuner_v3_t, destroy);
NCCL_ABI_SIZE(nccl_tuner_v3_t, 4 * sizeof(void *));
NCCL_ABI_TUNER(nccl_tuner_v4_t, destroy);
NCCL_ABI_SIZE(nccl_tuner_v4_t, 4 * sizeof(void *));
NCCL_ABI_TUNER(nccl_tuner_v5_t, finalize);
NCCL_ABI_SIZE(nccl_tuner_v5_t, 4 * sizeof(void *));
NCCL_ABI_TUNER(nccl_tuner_v6_t, finalize);
NCCL_ABI_OFFSET(nccl_tuner_v6_t, get_chunk_size, 4 * sizeof(void *));
NCCL_ABI_SIZE(nccl_tuner_v6_t, 5 * sizeof(void *));

#endif
