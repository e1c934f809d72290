/* nccl_collnet.h - NCCL's tables for networks that reduce, versions 8 to 12 (NCCL 2.20 to 2.30). */
#ifndef SHMI_NCCL_COLLNET_H
#define SHMI_NCCL_COLLNET_H

#include "plugin/nccl_net.h"

typedef struct {
  void *mhandle;
  void *address;
  uint32_t size;
} nccl_sge_v8_t;

typedef struct {
  void *mhandle;
  void *address;
  size_t size;
} nccl_sge_v9_t;

typedef nccl_result_t nccl_collnet_init_v11(void **context, uint64_t comm_id, nccl_logger_t);
typedef nccl_result_t nccl_collnet_connect_v8(void *handles[], int nranks, int rank, void *listen_comm,
                                              void **coll_comm);
typedef nccl_result_t nccl_collnet_reduce_support_v8(nccl_datatype_t, nccl_redop_t, int *supported);
typedef nccl_result_t nccl_collnet_iallreduce_v8(void *coll_comm, void *sendbuf, void *recvbuf, int count,
                                                 nccl_datatype_t, nccl_redop_t, void *send_mhandle, void *recv_mhandle,
                                                 void **request);
typedef nccl_result_t nccl_collnet_iallreduce_v9(void *coll_comm, void *sendbuf, void *recvbuf, size_t count,
                                                 nccl_datatype_t, nccl_redop_t, void *send_mhandle, void *recv_mhandle,
                                                 void **request);
typedef nccl_result_t nccl_collnet_iallgather_v8(void *coll_comm, void *sendbuf, int nparts, nccl_sge_v8_t *parts,
                                                 size_t bytes_per_rank, size_t window_offset, size_t window_bytes,
                                                 void *send_mhandle, void **request);
typedef nccl_result_t nccl_collnet_iallgather_v9(void *coll_comm, void *sendbuf, int nparts, nccl_sge_v9_t *parts,
                                                 size_t bytes_per_rank, size_t window_offset, size_t window_bytes,
                                                 void *send_mhandle, void **request);
typedef nccl_result_t nccl_collnet_ireducescatter_v8(void *coll_comm, int nparts, nccl_sge_v8_t *parts, void *recvbuf,
                                                     size_t bytes_per_rank, size_t window_offset, size_t window_bytes,
                                                     nccl_datatype_t, nccl_redop_t, void *recv_mhandle, void **request);
typedef nccl_result_t nccl_collnet_ireducescatter_v9(void *coll_comm, int nparts, nccl_sge_v9_t *parts, void *recvbuf,
                                                     size_t bytes_per_rank, size_t window_offset, size_t window_bytes,
                                                     nccl_datatype_t, nccl_redop_t, void *recv_mhandle, void **request);
typedef nccl_result_t nccl_collnet_iflush_v8(void *coll_comm, void *data, int bytes, void *mhandle, void **request);
typedef nccl_result_t nccl_collnet_test_v8(void *request, int *done, int *bytes);

/* Members 5 to 16, which all versions have; those that changed are given by name. */
#define NCCL_COLLNET_CALLS(iallreduce_fn, iallgather_fn, ireducescatter_fn)                                            \
  nccl_collnet_connect_v8 *connect;                                                                                    \
  nccl_collnet_reduce_support_v8 *reduce_support;                                                                      \
  nccl_net_reg_mr_v8 *reg_mr;                                                                                          \
  nccl_net_reg_mr_dmabuf_v8 *reg_mr_dmabuf;                                                                            \
  nccl_net_dereg_mr_v8 *dereg_mr;                                                                                      \
  iallreduce_fn *iallreduce;                                                                                           \
  iallgather_fn *iallgather;                                                                                           \
  ireducescatter_fn *ireducescatter;                                                                                   \
  nccl_collnet_iflush_v8 *iflush;                                                                                      \
  nccl_collnet_test_v8 *test;                                                                                          \
  nccl_net_close_v8 *close_coll;                                                                                       \
  nccl_net_close_v8 *close_listen

typedef struct {
  const char *name;
  nccl_net_init_v8 *init;
  nccl_net_devices_v8 *devices;
  nccl_result_t (*get_properties)(int device, nccl_net_properties_v8_t *);
  nccl_net_listen_v8 *listen;
  NCCL_COLLNET_CALLS(nccl_collnet_iallreduce_v8, nccl_collnet_iallgather_v8, nccl_collnet_ireducescatter_v8);
} nccl_collnet_v8_t;

typedef struct {
  const char *name;
  nccl_net_init_v8 *init;
  nccl_net_devices_v8 *devices;
  nccl_result_t (*get_properties)(int device, nccl_net_properties_v9_t *);
  nccl_net_listen_v8 *listen;
  NCCL_COLLNET_CALLS(nccl_collnet_iallreduce_v9, nccl_collnet_iallgather_v9, nccl_collnet_ireducescatter_v9);
  nccl_result_t (*make_vdevice)(int *device, nccl_net_vdevice_v9_t *);
} nccl_collnet_v9_t; /* v10's too */
typedef nccl_collnet_v9_t nccl_collnet_v10_t;

typedef struct {
  const char *name;
  nccl_collnet_init_v11 *init;
  nccl_net_devices_v8 *devices;
  nccl_result_t (*get_properties)(int device, nccl_net_properties_v11_t *);
  nccl_net_listen_v11 *listen;
  NCCL_COLLNET_CALLS(nccl_collnet_iallreduce_v9, nccl_collnet_iallgather_v9, nccl_collnet_ireducescatter_v9);
  nccl_result_t (*make_vdevice)(int *device, nccl_net_vdevice_v9_t *);
  nccl_net_finalize_v11 *finalize;
} nccl_collnet_v11_t;

typedef struct {
  const char *name;
  nccl_collnet_init_v11 *init;
  nccl_net_devices_v8 *devices;
  nccl_result_t (*get_properties)(int device, nccl_net_properties_v12_t *);
  nccl_net_listen_v11 *listen;
  NCCL_COLLNET_CALLS(nccl_collnet_iallreduce_v9, nccl_collnet_iallgather_v9, nccl_collnet_ireducescatter_v9);
  nccl_result_t (*make_vdevice)(int *device, nccl_net_vdevice_v12_t *);
  nccl_net_finalize_v11 *finalize;
} nccl_collnet_v12_t;

/* ---- layout ---------------------------------------------------------------------------------------------------- */

NCCL_ABI_SIZE(nccl_sge_v8_t, 24);
NCCL_ABI_OFFSET(nccl_sge_v8_t, address, 8);
NCCL_ABI_OFFSET(nccl_sge_v8_t, size, 16);
NCCL_ABI_SIZE(nccl_sge_v9_t, 24);
NCCL_ABI_OFFSET(nccl_sge_v9_t, address, 8);
NCCL_ABI_OFFSET(nccl_sge_v9_t, size, 16);

#define NCCL_ABI_COLLNET_V8(type)                                                                                      \
  NCCL_ABI_MEMBER(type, name, 0);                                                                                      \
  NCCL_ABI_MEMBER(type, init, 1);                                                                                      \
  NCCL_ABI_MEMBER(type, devices, 2);                                                                                   \
  NCCL_ABI_MEMBER(type, get_properties, 3);                                                                            \
  NCCL_ABI_MEMBER(type, listen, 4);                                                                                    \
  NCCL_ABI_MEMBER(type, connect, 5);                                                                                   \
  NCCL_ABI_MEMBER(type, reduce_support, 6);                                                                            \
  NCCL_ABI_MEMBER(type, reg_mr, 7);                                                                                    \
  NCCL_ABI_MEMBER(type, reg_mr_dmabuf, 8);                                                                             \
  NCCL_ABI_MEMBER(type, dereg_mr, 9);                                                                                  \
  NCCL_ABI_MEMBER(type, iallreduce, 10);                                                                               \
  NCCL_ABI_MEMBER(type, iallgather, 11);                                                                               \
  NCCL_ABI_MEMBER(type, ireducescatter, 12);                                                                           \
  NCCL_ABI_MEMBER(type, iflush, 13);                                                                                   \
  NCCL_ABI_MEMBER(type, test, 14);                                                                                     \
  NCCL_ABI_MEMBER(type, close_coll, 15);                                                                               \
  NCCL_ABI_MEMBER(type, close_listen, 16)
NCCL_ABI_COLLNET_V8(nccl_collnet_v8_t);
NCCL_ABI_SIZE(nccl_collnet_v8_t, 17 * sizeof(void *));
NCCL_ABI_COLLNET_V8(nccl_collnet_v9_t);
NCCL_ABI_MEMBER(nccl_collnet_v9_t, make_vdevice, 17);
NCCL_ABI_SIZE(nccl_collnet_v9_t, 18 * sizeof(void *));
NCCL_ABI_COLLNET_V8(nccl_collnet_v11_t);
NCCL_ABI_MEMBER(nccl_collnet_v11_t, make_vdevice, 17);
NCCL_ABI_MEMBER(nccl_collnet_v11_t, finalize, 18);
NCCL_ABI_SIZE(nccl_collnet_v11_t, 19 * sizeof(void *));
NCCL_ABI_COLLNET_V8(nccl_collnet_v12_t);
NCCL_ABI_MEMBER(nccl_collnet_v12_t, make_vdevice, 17);
NCCL_ABI_MEMBER(nccl_collnet_v12_t, finalize, 18);
NCCL_ABI_SIZE(nccl_collnet_v12_t, 19 * sizeof(void *));

#endif
