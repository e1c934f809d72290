/*
 * nccl.h - one copy of NCCL in this process: how it finds and loads a plugin, and the plugin's calls as one interface
 * over all versions.
 *
 * Which file names, which symbols first, what is called once per process and what per communicator, when the file is
 * unloaded: as NCCL 2.20 to 2.30 do it. Two copies are two objects of this kind, which share nothing.
 */
#ifndef DRIVER_NCCL_H
#define DRIVER_NCCL_H

#include "abi.h"

#include <pthread.h>
#include <stdbool.h>

enum { NCCL_FIRST_MINOR = 20, NCCL_LAST_MINOR = 30, NCCL_OLDEST_TABLE = 8, NCCL_LAST_EARLY_CLOSER = 27 };

struct nccl {
  const char *plugin; /* what NCCL_NET_PLUGIN would hold: a path or a name */
  int minor;          /* NCCL 2.minor */
  int newest;         /* tables newer than this version are not looked for */
  bool keep;          /* NCCL_NET_PLUGIN_REF_COUNT=1: never unloaded */
  pthread_mutex_t mutex;
  void *library;
  int comms;
  bool started; /* tables up to v10: init was called */
  const void *net, *collnet;
  int net_version, collnet_version; /* 0: none */
  int net_devices, collnet_devices;
};

/* One communicator's view of a plugin. */
struct nccl_comm {
  struct nccl *nccl;
  void *net_context, *collnet_context; /* v11 on */
};

/* The net version that NCCL 2.minor uses at best; the oldest NCCL that uses net version v at best. */
int nccl_newest_net(int minor);
int nccl_minor_for(int net_version);

void nccl_setup(struct nccl *nccl, const char *plugin, int minor, int newest);
/* What the creation and the end of a communicator do with the plugin. false: NCCL would go on without it; *why says so.
 */
bool nccl_comm_begin(struct nccl *nccl, struct nccl_comm *comm, const char **why);
void nccl_comm_end(struct nccl_comm *comm);
/* Up to 2.27 a tuner's end closed the net's file while communicators still used it. */
void nccl_close_early(struct nccl *nccl);
/* The plugin's symbol of the newest tuner version that NCCL 2.minor knows. */
const void *nccl_tuner(const struct nccl *nccl, int *version);

/* ---- the logger given to the plugin ------------------------------------------------------------------------------ */

void nccl_log_verbose(bool verbose);
/* WARN lines of the calling thread so far, and the text of the last one. */
unsigned nccl_warnings(void);
const char *nccl_last_warning(void);
void nccl_logger(ncclDebugLogLevel level, unsigned long flags, const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
const char *nccl_result_name(ncclResult_t result);

/* ---- net: the tables' calls, whatever the version ---------------------------------------------------------------- */

struct net_properties {
  const char *name, *pci_path;
  uint64_t guid;
  int ptr_support, reg_is_global, force_flush, speed, port, max_comms, max_recvs, device_type, device_version;
  float latency;
  int ndevs, first_dev, max_multi_request, rail, plane;
  size_t max_p2p_bytes, max_coll_bytes;
};

ncclResult_t net_properties(const struct nccl *n, int dev, struct net_properties *p);
ncclResult_t net_listen(const struct nccl_comm *c, int dev, void *handle, void **listen);
ncclResult_t net_connect(const struct nccl_comm *c, int dev, void *handle, void **send);
ncclResult_t net_accept(const struct nccl *n, void *listen, void **recv);
ncclResult_t net_reg(const struct nccl *n, void *comm, void *data, size_t size, int type, void **mhandle);
ncclResult_t net_dereg(const struct nccl *n, void *comm, void *mhandle);
/* Sizes beyond int cannot be said to v8 and are passed as what a cast makes of them. */
ncclResult_t net_isend(const struct nccl *n, void *comm, void *data, size_t size, int tag, void *mhandle,
                       void **request);
ncclResult_t net_irecv(const struct nccl *n, void *comm, int count, void **data, const size_t *sizes, int *tags,
                       void **mhandles, void **request);
ncclResult_t net_test(const struct nccl *n, void *request, int *done, int *sizes);
ncclResult_t net_close_send(const struct nccl *n, void *comm);
ncclResult_t net_close_recv(const struct nccl *n, void *comm);
ncclResult_t net_close_listen(const struct nccl *n, void *listen);
/* v11 on; success before. */
ncclResult_t net_finalize(const struct nccl *n, void *context);
ncclResult_t net_set_attributes(const struct nccl_comm *c);
/* Whether this NCCL offers the plugin to leave out receives' completions. */
bool net_offers_optional_completion(const struct nccl *n);

/* ---- collnet ----------------------------------------------------------------------------------------------------- */

ncclResult_t collnet_properties(const struct nccl *n, int dev, struct net_properties *p);
ncclResult_t collnet_listen(const struct nccl_comm *c, int dev, void *handle, void **listen);
ncclResult_t collnet_connect(const struct nccl *n, void *handles[], int nranks, int rank, void *listen, void **comm);
ncclResult_t collnet_support(const struct nccl *n, ncclDataType_t type, ncclRedOp_t op, int *supported);
ncclResult_t collnet_reg(const struct nccl *n, void *comm, void *data, size_t size, int type, void **mhandle);
ncclResult_t collnet_dereg(const struct nccl *n, void *comm, void *mhandle);
ncclResult_t collnet_iallreduce(const struct nccl *n, void *comm, void *send, void *recv, size_t count,
                                ncclDataType_t type, ncclRedOp_t op, void *send_mhandle, void *recv_mhandle,
                                void **request);
ncclResult_t collnet_test(const struct nccl *n, void *request, int *done, int *size);
ncclResult_t collnet_close(const struct nccl *n, void *comm);
ncclResult_t collnet_close_listen(const struct nccl *n, void *listen);

#endif
