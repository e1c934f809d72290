/*
 * nccl_api.h - the types of NCCL's functions, declared from their published layout, and the functions.
 *
 * Results, data types and operators are those of the plugin interface (plugin/nccl_abi.h). Only src/front includes
 * this.
 */
#ifndef SHMI_NCCL_API_H
#define SHMI_NCCL_API_H

#include "plugin/nccl_abi.h"

typedef struct nccl_comm *nccl_comm_t;

typedef struct {
  char internal[128];
} nccl_unique_id_t;

typedef struct {
  int nranks, rank, stride;
} nccl_team_t;

typedef struct {
  void *base;
} nccl_multimem_t;

enum { NCCL_SHRINK_ABORT = 1 }; /* a flag of ncclCommShrink */

NCCL_ABI_SIZE(nccl_unique_id_t, 128);
NCCL_ABI_SIZE(nccl_team_t, 12);
NCCL_ABI_SIZE(nccl_multimem_t, sizeof(void *));

#pragma GCC visibility push(default)
#define SYMBOL(name, parameters, arguments)                                                                            \
  nccl_result_t nccl##name parameters;                                                                                 \
  nccl_result_t pnccl##name parameters;
#define OTHER(result, name, parameters, arguments, lacking)                                                            \
  result nccl##name parameters;                                                                                        \
  result pnccl##name parameters;
#include "front/symbols.def"
#pragma GCC visibility pop

/* NCCL exports each name twice: programs that wrap ncclX call pncclX. Here both are one function. Where it is defined.
 */
#define SHMI_SECOND_NAME(name) extern __typeof__(nccl##name) pnccl##name __attribute__((alias("nccl" #name)));

#endif
