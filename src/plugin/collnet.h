/*
 * collnet.h - CollNet: NCCL's all-reduce as one call of the engine, where a ring would make 2(n-1) hops.
 *
 * listen and connect make a communicator of the engine, whose allreduces a worker thread runs in the order in which
 * iallreduce gave them; test looks whether they are done. Host memory, and a
 * GPU's where the plugin takes CUDA pointers (gdr.h). The functions fit the tables' members of all
 * versions but those in collnet_tables.c.
 */
#ifndef SHMI_PLUGIN_COLLNET_H
#define SHMI_PLUGIN_COLLNET_H

#include "plugin/nccl_collnet.h"
#include "plugin/plugin.h"

/* Writes NCCL_NET_HANDLE_BYTES to handle. What comes of *listen_comm logs to log's logger. Does not wait. */
nccl_result_t shmi_collnet_listen(const struct shmi_plugin_log *log, int device, void *handle, void **listen_comm);

/* A meeting of all ranks, which have all ranks' handles; takes at most half a minute. A rank that is refused for what
 * its handle says is refused on all ranks, without a wait. */
nccl_collnet_connect_v8 shmi_collnet_connect;

nccl_collnet_reduce_support_v8 shmi_collnet_reduce_support;
nccl_net_reg_mr_v8 shmi_collnet_reg_mr;
nccl_net_dereg_mr_v8 shmi_collnet_dereg_mr;
nccl_collnet_iallreduce_v9 shmi_collnet_iallreduce;
nccl_collnet_iflush_v8 shmi_collnet_iflush;
nccl_collnet_test_v8 shmi_collnet_test;
nccl_net_close_v8 shmi_collnet_close_coll;
nccl_net_close_v8 shmi_collnet_close_listen;

#endif
