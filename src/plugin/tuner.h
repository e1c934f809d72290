/*
 * tuner.h - which of NCCL's algorithms and protocols is cheapest over this plugin.
 *
 * Every rank decides by itself and all must decide alike, so a decision is a pure function of the call, the number of
 * ranks, what NCCL says is available, and one table. Ranks whose tables differ do not share CollNet: all ranks' hashes
 * are in the handles of its connect, which refuses. So where CollNet is available the tables are equal, and the
 * measured one is used; elsewhere the built-in one is, which is part of the plugin. The net's handles say which, or
 * that there is none, and connect refuses what differs.
 */
#ifndef SHMI_PLUGIN_TUNER_H
#define SHMI_PLUGIN_TUNER_H

#include "plugin/nccl_tuner.h"
#include "plugin/plugin.h"

/* What this process's tuner goes by: SHMCCL_TUNER, the table. Constant once asked for. */
uint64_t shmi_tuner_hash(void);

/* What calls without CollNet are tuned by: 0 with SHMCCL_TUNER=0, else the number of the built-in costs. */
uint32_t shmi_tuner_model(void);

/* Whether, and by how many ranks, calls of a communicator are tuned: 0 leaves NCCL's choice alone. Never fails. */
int shmi_tuner_ranks(const struct shmi_plugin_log *log, size_t nranks, size_t nnodes);

/* Microseconds of a call of `bytes` (all-gather, reduce-scatter: of all ranks together); negative: not known.
 * collnet: whether CollNet is available for this call. */
double shmi_tuner_cost(int nranks, nccl_func_t func, int algorithm, int protocol, size_t bytes, int collnet);

#endif
