/* calls.c - see nccl.h: the tables' calls, whatever the version. Each is watched (watch.h). */
#include "nccl.h"

#include "watch.h"

#include <limits.h>
#include <string.h>

#define V8(n)  ((const ncclNet_v8_t *)(n)->net)
#define V9(n)  ((const ncclNet_v9_t *)(n)->net)
#define V10(n) ((const ncclNet_v10_t *)(n)->net)
#define V11(n) ((const ncclNet_v11_t *)(n)->net) /* v12 is the same but for getProperties and makeVDevice */
#define V12(n) ((const ncclNet_v12_t *)(n)->net)
#define C8(n)  ((const ncclCollNet_v8_t *)(n)->collnet)
#define C9(n)  ((const ncclCollNet_v9_t *)(n)->collnet)
#define C11(n) ((const ncclCollNet_v11_t *)(n)->collnet)
#define C12(n) ((const ncclCollNet_v12_t *)(n)->collnet)

static ncclResult_t left(ncclResult_t result) {
  watch_leave();
  return result;
}
#define WATCHED(name, call) (watch_enter(name), left(call))

/* A call that takes the same arguments in all versions. */
#define ANY_NET(n, member, ...)                                                                                        \
  WATCHED(#member, (n)->net_version == 8    ? V8(n)->member(__VA_ARGS__)                                               \
                   : (n)->net_version == 9  ? V9(n)->member(__VA_ARGS__)                                               \
                   : (n)->net_version == 10 ? V10(n)->member(__VA_ARGS__)                                              \
                                            : V11(n)->member(__VA_ARGS__))
#define ANY_COLLNET(n, member, ...)                                                                                    \
  WATCHED("collnet " #member, (n)->collnet_version == 8   ? C8(n)->member(__VA_ARGS__)                                 \
                              : (n)->collnet_version < 11 ? C9(n)->member(__VA_ARGS__)                                 \
                                                          : C11(n)->member(__VA_ARGS__))

/* ---- properties -------------------------------------------------------------------------------------------------- */

#define COMMON_PROPERTIES(from)                                                                                        \
  (struct net_properties) {                                                                                            \
    .name = (from).name, .pci_path = (from).pciPath, .guid = (from).guid, .ptr_support = (from).ptrSupport,            \
    .reg_is_global = (from).regIsGlobal, .speed = (from).speed, .port = (from).port, .latency = (from).latency,        \
    .max_comms = (from).maxComms, .max_recvs = (from).maxRecvs, .device_type = (from).netDeviceType,                   \
    .device_version = (from).netDeviceVersion, .ndevs = 1, .max_p2p_bytes = SSIZE_MAX, .max_coll_bytes = SSIZE_MAX,    \
    .max_multi_request = 1, .rail = -1, .plane = -1,                                                                   \
  }
#define ADD_V9_PROPERTIES(to, from)                                                                                    \
  ((to)->force_flush = (from).forceFlush, (to)->ndevs = (from).vProps.ndevs, (to)->first_dev = (from).vProps.devs[0],  \
   (to)->max_p2p_bytes = (from).maxP2pBytes, (to)->max_coll_bytes = (from).maxCollBytes)

/* The plugin sees a struct full of another byte: it must set every field. */
union any_properties {
  ncclNetProperties_v8_t v8;
  ncclNetProperties_v9_t v9;
  ncclNetProperties_v11_t v11;
  ncclNetProperties_v12_t v12;
};

static void unite(int version, const union any_properties *any, struct net_properties *p) {
  switch (version) {
  case 8: *p = COMMON_PROPERTIES(any->v8); break;
  case 9:
  case 10:
    *p = COMMON_PROPERTIES(any->v9);
    ADD_V9_PROPERTIES(p, any->v9);
    break;
  case 11:
    *p = COMMON_PROPERTIES(any->v11);
    ADD_V9_PROPERTIES(p, any->v11);
    p->max_multi_request = any->v11.maxMultiRequestSize;
    break;
  default:
    *p = COMMON_PROPERTIES(any->v12);
    ADD_V9_PROPERTIES(p, any->v12);
    p->max_multi_request = any->v12.maxMultiRequestSize;
    p->rail = any->v12.railId;
    p->plane = any->v12.planeId;
  }
}

ncclResult_t net_properties(const struct nccl *n, int dev, struct net_properties *p) {
  union any_properties any;
  ncclResult_t result;
  memset(&any, 0xa5, sizeof any);
  watch_enter("getProperties");
  switch (n->net_version) {
  case 8: result = V8(n)->getProperties(dev, &any.v8); break;
  case 9: result = V9(n)->getProperties(dev, &any.v9); break;
  case 10: result = V10(n)->getProperties(dev, &any.v9); break;
  case 11: result = V11(n)->getProperties(dev, &any.v11); break;
  default: result = V12(n)->getProperties(dev, &any.v12);
  }
  watch_leave();
  if (result == ncclSuccess) unite(n->net_version, &any, p);
  return result;
}

ncclResult_t collnet_properties(const struct nccl *n, int dev, struct net_properties *p) {
  union any_properties any;
  ncclResult_t result;
  memset(&any, 0xa5, sizeof any);
  watch_enter("collnet getProperties");
  switch (n->collnet_version) {
  case 8: result = C8(n)->getProperties(dev, &any.v8); break;
  case 9:
  case 10: result = C9(n)->getProperties(dev, &any.v9); break;
  case 11: result = C11(n)->getProperties(dev, &any.v11); break;
  default: result = C12(n)->getProperties(dev, &any.v12);
  }
  watch_leave();
  if (result == ncclSuccess) unite(n->collnet_version, &any, p);
  return result;
}

/* ---- net --------------------------------------------------------------------------------------------------------- */

ncclResult_t net_listen(const struct nccl_comm *c, int dev, void *handle, void **listen) {
  const struct nccl *n = c->nccl;
  switch (n->net_version) {
  case 8: return WATCHED("listen", V8(n)->listen(dev, handle, listen));
  case 9: return WATCHED("listen", V9(n)->listen(dev, handle, listen));
  case 10: return WATCHED("listen", V10(n)->listen(dev, handle, listen));
  default: return WATCHED("listen", V11(n)->listen(c->net_context, dev, handle, listen));
  }
}

/* NCCL passes a place for a device handle that it does not ask for: *dev is NULL. */
ncclResult_t net_connect(const struct nccl_comm *c, int dev, void *handle, void **send) {
  const struct nccl *n = c->nccl;
  ncclNetDeviceHandle_t *none = NULL;
  ncclNetCommConfig_t config = {.trafficClass = -1};
  switch (n->net_version) {
  case 8: return WATCHED("connect", V8(n)->connect(dev, handle, send, &none));
  case 9: return WATCHED("connect", V9(n)->connect(dev, handle, send, &none));
  case 10: return WATCHED("connect", V10(n)->connect(dev, &config, handle, send, &none));
  default: return WATCHED("connect", V11(n)->connect(c->net_context, dev, handle, send, &none));
  }
}

ncclResult_t net_accept(const struct nccl *n, void *listen, void **recv) {
  ncclNetDeviceHandle_t *none = NULL;
  return ANY_NET(n, accept, listen, recv, &none);
}

ncclResult_t net_reg(const struct nccl *n, void *comm, void *data, size_t size, int type, void **mhandle) {
  return ANY_NET(n, regMr, comm, data, size, type, mhandle);
}

ncclResult_t net_dereg(const struct nccl *n, void *comm, void *mhandle) { return ANY_NET(n, deregMr, comm, mhandle); }

ncclResult_t net_isend(const struct nccl *n, void *comm, void *data, size_t size, int tag, void *mhandle,
                       void **request) {
  switch (n->net_version) {
  case 8: return WATCHED("isend", V8(n)->isend(comm, data, (int)size, tag, mhandle, request));
  case 9: return WATCHED("isend", V9(n)->isend(comm, data, size, tag, mhandle, request));
  case 10: return WATCHED("isend", V10(n)->isend(comm, data, size, tag, mhandle, NULL, request));
  default: return WATCHED("isend", V11(n)->isend(comm, data, size, tag, mhandle, NULL, request));
  }
}

enum { MAX_GROUP = 8 };

ncclResult_t net_irecv(const struct nccl *n, void *comm, int count, void **data, const size_t *sizes, int *tags,
                       void **mhandles, void **request) {
  int narrow[MAX_GROUP] = {0};
  size_t wide[MAX_GROUP] = {0};
  void *no_events[MAX_GROUP] = {0};
  for (int i = 0; i < count && i < MAX_GROUP; i++) wide[i] = sizes[i], narrow[i] = (int)sizes[i];
  switch (n->net_version) {
  case 8: return WATCHED("irecv", V8(n)->irecv(comm, count, data, narrow, tags, mhandles, request));
  case 9: return WATCHED("irecv", V9(n)->irecv(comm, count, data, wide, tags, mhandles, request));
  case 10: return WATCHED("irecv", V10(n)->irecv(comm, count, data, wide, tags, mhandles, no_events, request));
  default: return WATCHED("irecv", V11(n)->irecv(comm, count, data, wide, tags, mhandles, no_events, request));
  }
}

ncclResult_t net_test(const struct nccl *n, void *request, int *done, int *sizes) {
  return ANY_NET(n, test, request, done, sizes);
}

ncclResult_t net_close_send(const struct nccl *n, void *comm) { return ANY_NET(n, closeSend, comm); }
ncclResult_t net_close_recv(const struct nccl *n, void *comm) { return ANY_NET(n, closeRecv, comm); }
ncclResult_t net_close_listen(const struct nccl *n, void *listen) { return ANY_NET(n, closeListen, listen); }

ncclResult_t net_finalize(const struct nccl *n, void *context) {
  return n->net_version < 11 ? ncclSuccess : WATCHED("finalize", V11(n)->finalize(context));
}

ncclResult_t net_set_attributes(const struct nccl_comm *c) {
  const struct nccl *n = c->nccl;
  ncclNetAttr_t attributes;
  memset(&attributes, -1, sizeof attributes);
  if (n->net_version < 11 || !V11(n)->setNetAttr) return ncclSuccess;
  return WATCHED("setNetAttr", V11(n)->setNetAttr(c->net_context, &attributes));
}

/* 2.24 brought it with v9; a later NCCL hides it from a v8 table. */
bool net_offers_optional_completion(const struct nccl *n) { return n->net_version >= 9; }

/* ---- collnet ----------------------------------------------------------------------------------------------------- */

ncclResult_t collnet_listen(const struct nccl_comm *c, int dev, void *handle, void **listen) {
  const struct nccl *n = c->nccl;
  switch (n->collnet_version) {
  case 8: return WATCHED("collnet listen", C8(n)->listen(dev, handle, listen));
  case 9:
  case 10: return WATCHED("collnet listen", C9(n)->listen(dev, handle, listen));
  default: return WATCHED("collnet listen", C11(n)->listen(c->collnet_context, dev, handle, listen));
  }
}

/* The one call that may block, until all ranks are in it: not watched. */
ncclResult_t collnet_connect(const struct nccl *n, void *handles[], int nranks, int rank, void *listen, void **comm) {
  return n->collnet_version == 8   ? C8(n)->connect(handles, nranks, rank, listen, comm)
         : n->collnet_version < 11 ? C9(n)->connect(handles, nranks, rank, listen, comm)
                                   : C11(n)->connect(handles, nranks, rank, listen, comm);
}

ncclResult_t collnet_support(const struct nccl *n, ncclDataType_t type, ncclRedOp_t op, int *supported) {
  return ANY_COLLNET(n, reduceSupport, type, op, supported);
}

ncclResult_t collnet_reg(const struct nccl *n, void *comm, void *data, size_t size, int type, void **mhandle) {
  return ANY_COLLNET(n, regMr, comm, data, size, type, mhandle);
}

ncclResult_t collnet_dereg(const struct nccl *n, void *comm, void *mhandle) {
  return ANY_COLLNET(n, deregMr, comm, mhandle);
}

ncclResult_t collnet_iallreduce(const struct nccl *n, void *comm, void *send, void *recv, size_t count,
                                ncclDataType_t type, ncclRedOp_t op, void *send_mhandle, void *recv_mhandle,
                                void **request) {
  const char *name = "iallreduce";
  switch (n->collnet_version) {
  case 8:
    return WATCHED(name,
                   C8(n)->iallreduce(comm, send, recv, (int)count, type, op, send_mhandle, recv_mhandle, request));
  case 9:
  case 10:
    return WATCHED(name, C9(n)->iallreduce(comm, send, recv, count, type, op, send_mhandle, recv_mhandle, request));
  default:
    return WATCHED(name, C11(n)->iallreduce(comm, send, recv, count, type, op, send_mhandle, recv_mhandle, request));
  }
}

ncclResult_t collnet_test(const struct nccl *n, void *request, int *done, int *size) {
  return ANY_COLLNET(n, test, request, done, size);
}

ncclResult_t collnet_close(const struct nccl *n, void *comm) { return ANY_COLLNET(n, closeColl, comm); }
ncclResult_t collnet_close_listen(const struct nccl *n, void *listen) { return ANY_COLLNET(n, closeListen, listen); }
