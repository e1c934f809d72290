/*
 * nccl_net.h - NCCL's tables for point-to-point networks, versions 8 to 12 (NCCL 2.20 to 2.30).
 *
 * Functions whose arguments several versions share have one typedef, named by the first version that has it.
 */
#ifndef SHMI_NCCL_NET_H
#define SHMI_NCCL_NET_H

#include "plugin/nccl_abi.h"

typedef struct {
  int ndevs;
  int devs[4];
} nccl_net_vdevice_v9_t;

typedef struct {
  int ndevs;
  int devs[8];
} nccl_net_vdevice_v12_t;

typedef struct {
  char *name;
  char *pci_path;
  uint64_t guid;
  int ptr_support; /* NCCL_PTR_* */
  int reg_is_global;
  int speed; /* Mbit/s */
  int port;
  float latency; /* microseconds */
  int max_comms;
  int max_recvs;
  int net_device_type;
  int net_device_version;
} nccl_net_properties_v8_t;

typedef struct {
  char *name;
  char *pci_path;
  uint64_t guid;
  int ptr_support;
  int reg_is_global;
  int force_flush;
  int speed;
  int port;
  float latency;
  int max_comms;
  int max_recvs;
  int net_device_type;
  int net_device_version;
  nccl_net_vdevice_v9_t vdevice;
  size_t max_p2p_bytes;
  size_t max_coll_bytes;
} nccl_net_properties_v9_t; /* v10's too */

typedef struct {
  char *name;
  char *pci_path;
  uint64_t guid;
  int ptr_support;
  int reg_is_global;
  int force_flush;
  int speed;
  int port;
  float latency;
  int max_comms;
  int max_recvs;
  int net_device_type;
  int net_device_version;
  nccl_net_vdevice_v9_t vdevice;
  size_t max_p2p_bytes;
  size_t max_coll_bytes;
  int max_multi_request_size;
} nccl_net_properties_v11_t;

typedef struct {
  char *name;
  char *pci_path;
  uint64_t guid;
  int ptr_support;
  int reg_is_global;
  int force_flush;
  int speed;
  int port;
  float latency;
  int max_comms;
  int max_recvs;
  int net_device_type;
  int net_device_version;
  nccl_net_vdevice_v12_t vdevice;
  size_t max_p2p_bytes;
  size_t max_coll_bytes;
  int max_multi_request_size;
  int16_t rail_id;
  int16_t plane_id;
} nccl_net_properties_v12_t;

/* What connect and accept may hand to GPU code. This plugin has none: it stores NULL. */
typedef struct {
  int net_device_type;
  int net_device_version;
  void *handle;
  size_t size;
  int needs_proxy_progress;
} nccl_net_device_handle_t;

typedef struct {
  int traffic_class;
} nccl_net_comm_config_t;

typedef struct {
  int32_t max_concurrent_peers, min_concurrent_peers, max_flows_per_peer, min_flows_per_peer;
} nccl_net_comm_attr_t;

typedef struct {
  nccl_net_comm_attr_t send, recv;
  uint32_t op, algo, proto;
} nccl_net_attr_t;

typedef nccl_result_t nccl_net_init_v8(nccl_logger_t);
typedef nccl_result_t nccl_net_init_v10(nccl_logger_t, nccl_profiler_t);
typedef nccl_result_t nccl_net_init_v11(void **context, uint64_t comm_id, nccl_net_comm_config_t *, nccl_logger_t,
                                        nccl_profiler_t);
typedef nccl_result_t nccl_net_devices_v8(int *ndevices);
typedef nccl_result_t nccl_net_listen_v8(int device, void *handle, void **listen_comm);
typedef nccl_result_t nccl_net_listen_v11(void *context, int device, void *handle, void **listen_comm);
typedef nccl_result_t nccl_net_connect_v8(int device, void *handle, void **send_comm, nccl_net_device_handle_t **);
typedef nccl_result_t nccl_net_connect_v10(int device, nccl_net_comm_config_t *, void *handle, void **send_comm,
                                           nccl_net_device_handle_t **);
typedef nccl_result_t nccl_net_connect_v11(void *context, int device, void *handle, void **send_comm,
                                           nccl_net_device_handle_t **);
typedef nccl_result_t nccl_net_accept_v8(void *listen_comm, void **recv_comm, nccl_net_device_handle_t **);
typedef nccl_result_t nccl_net_reg_mr_v8(void *comm, void *data, size_t bytes, int type, void **mhandle);
typedef nccl_result_t nccl_net_reg_mr_dmabuf_v8(void *comm, void *data, size_t bytes, int type, uint64_t offset, int fd,
                                                void **mhandle);
typedef nccl_result_t nccl_net_dereg_mr_v8(void *comm, void *mhandle);
typedef nccl_result_t nccl_net_isend_v8(void *send_comm, void *data, int bytes, int tag, void *mhandle, void **request);
typedef nccl_result_t nccl_net_isend_v9(void *send_comm, void *data, size_t bytes, int tag, void *mhandle,
                                        void **request);
typedef nccl_result_t nccl_net_isend_v10(void *send_comm, void *data, size_t bytes, int tag, void *mhandle,
                                         void *profiler, void **request);
typedef nccl_result_t nccl_net_irecv_v8(void *recv_comm, int n, void **data, int *bytes, int *tags, void **mhandles,
                                        void **request);
typedef nccl_result_t nccl_net_irecv_v9(void *recv_comm, int n, void **data, size_t *bytes, int *tags, void **mhandles,
                                        void **request);
typedef nccl_result_t nccl_net_irecv_v10(void *recv_comm, int n, void **data, size_t *bytes, int *tags, void **mhandles,
                                         void **profilers, void **request);
typedef nccl_result_t nccl_net_iflush_v8(void *recv_comm, int n, void **data, int *bytes, void **mhandles,
                                         void **request);
typedef nccl_result_t nccl_net_test_v8(void *request, int *done, int *bytes);
typedef nccl_result_t nccl_net_close_v8(void *comm);
typedef nccl_result_t nccl_net_get_device_mr_v8(void *comm, void *mhandle, void **device_mhandle);
typedef nccl_result_t nccl_net_irecv_consumed_v8(void *recv_comm, int n, void *request);
typedef nccl_result_t nccl_net_finalize_v11(void *context);
typedef nccl_result_t nccl_net_set_attr_v11(void *context, nccl_net_attr_t *);

typedef struct {
  const char *name;
  nccl_net_init_v8 *init;
  nccl_net_devices_v8 *devices;
  nccl_result_t (*get_properties)(int device, nccl_net_properties_v8_t *);
  nccl_net_listen_v8 *listen;
  nccl_net_connect_v8 *connect;
  nccl_net_accept_v8 *accept;
  nccl_net_reg_mr_v8 *reg_mr;
  nccl_net_reg_mr_dmabuf_v8 *reg_mr_dmabuf;
  nccl_net_dereg_mr_v8 *dereg_mr;
  nccl_net_isend_v8 *isend;
  nccl_net_irecv_v8 *irecv;
  nccl_net_iflush_v8 *iflush;
  nccl_net_test_v8 *test;
  nccl_net_close_v8 *close_send;
  nccl_net_close_v8 *close_recv;
  nccl_net_close_v8 *close_listen;
  nccl_net_get_device_mr_v8 *get_device_mr;
  nccl_net_irecv_consumed_v8 *irecv_consumed;
} nccl_net_v8_t;

typedef struct {
  const char *name;
  nccl_net_init_v8 *init;
  nccl_net_devices_v8 *devices;
  nccl_result_t (*get_properties)(int device, nccl_net_properties_v9_t *);
  nccl_net_listen_v8 *listen;
  nccl_net_connect_v8 *connect;
  nccl_net_accept_v8 *accept;
  nccl_net_reg_mr_v8 *reg_mr;
  nccl_net_reg_mr_dmabuf_v8 *reg_mr_dmabuf;
  nccl_net_dereg_mr_v8 *dereg_mr;
  nccl_net_isend_v9 *isend;
  nccl_net_irecv_v9 *irecv;
  nccl_net_iflush_v8 *iflush;
  nccl_net_test_v8 *test;
  nccl_net_close_v8 *close_send;
  nccl_net_close_v8 *close_recv;
  nccl_net_close_v8 *close_listen;
  nccl_net_get_device_mr_v8 *get_device_mr;
  nccl_net_irecv_consumed_v8 *irecv_consumed;
  nccl_result_t (*make_vdevice)(int *device, nccl_net_vdevice_v9_t *);
} nccl_net_v9_t;

typedef struct {
  const char *name;
  nccl_net_init_v10 *init;
  nccl_net_devices_v8 *devices;
  nccl_result_t (*get_properties)(int device, nccl_net_properties_v9_t *);
  nccl_net_listen_v8 *listen;
  nccl_net_connect_v10 *connect;
  nccl_net_accept_v8 *accept;
  nccl_net_reg_mr_v8 *reg_mr;
  nccl_net_reg_mr_dmabuf_v8 *reg_mr_dmabuf;
  nccl_net_dereg_mr_v8 *dereg_mr;
  nccl_net_isend_v10 *isend;
  nccl_net_irecv_v10 *irecv;
  nccl_net_iflush_v8 *iflush;
  nccl_net_test_v8 *test;
  nccl_net_close_v8 *close_send;
  nccl_net_close_v8 *close_recv;
  nccl_net_close_v8 *close_listen;
  nccl_net_get_device_mr_v8 *get_device_mr;
  nccl_net_irecv_consumed_v8 *irecv_consumed;
  nccl_result_t (*make_vdevice)(int *device, nccl_net_vdevice_v9_t *);
} nccl_net_v10_t;

typedef struct {
  const char *name;
  nccl_net_init_v11 *init;
  nccl_net_devices_v8 *devices;
  nccl_result_t (*get_properties)(int device, nccl_net_properties_v11_t *);
  nccl_net_listen_v11 *listen;
  nccl_net_connect_v11 *connect;
  nccl_net_accept_v8 *accept;
  nccl_net_reg_mr_v8 *reg_mr;
  nccl_net_reg_mr_dmabuf_v8 *reg_mr_dmabuf;
  nccl_net_dereg_mr_v8 *dereg_mr;
  nccl_net_isend_v10 *isend;
  nccl_net_irecv_v10 *irecv;
  nccl_net_iflush_v8 *iflush;
  nccl_net_test_v8 *test;
  nccl_net_close_v8 *close_send;
  nccl_net_close_v8 *close_recv;
  nccl_net_close_v8 *close_listen;
  nccl_net_get_device_mr_v8 *get_device_mr;
  nccl_net_irecv_consumed_v8 *irecv_consumed;
  nccl_result_t (*make_vdevice)(int *device, nccl_net_vdevice_v9_t *);
  nccl_net_finalize_v11 *finalize;
  nccl_net_set_attr_v11 *set_attr;
} nccl_net_v11_t;

typedef struct {
  const char *name;
  nccl_net_init_v11 *init;
  nccl_net_devices_v8 *devices;
  nccl_result_t (*get_properties)(int device, nccl_net_properties_v12_t *);
  nccl_net_listen_v11 *listen;
  nccl_net_connect_v11 *connect;
  nccl_net_accept_v8 *accept;
  nccl_net_reg_mr_v8 *reg_mr;
  nccl_net_reg_mr_dmabuf_v8 *reg_mr_dmabuf;
  nccl_net_dereg_mr_v8 *dereg_mr;
  nccl_net_isend_v10 *isend;
  nccl_net_irecv_v10 *irecv;
  nccl_net_iflush_v8 *iflush;
  nccl_net_test_v8 *test;
  nccl_net_close_v8 *close_send;
  nccl_net_close_v8 *close_recv;
  nccl_net_close_v8 *close_listen;
  nccl_net_get_device_mr_v8 *get_device_mr;
  nccl_net_irecv_consumed_v8 *irecv_consumed;
  nccl_result_t (*make_vdevice)(int *device, nccl_net_vdevice_v12_t *);
  nccl_net_finalize_v11 *finalize;
  nccl_net_set_attr_v11 *set_attr;
} nccl_net_v12_t;

/* ---- layout ---------------------------------------------------------------------------------------------------- */

NCCL_ABI_SIZE(nccl_net_vdevice_v9_t, 20);
NCCL_ABI_SIZE(nccl_net_vdevice_v12_t, 36);
NCCL_ABI_SIZE(nccl_net_device_handle_t, 32);
NCCL_ABI_SIZE(nccl_net_comm_config_t, 4);
NCCL_ABI_SIZE(nccl_net_attr_t, 44);
NCCL_ABI_OFFSET(nccl_net_attr_t, op, 32);

NCCL_ABI_SIZE(nccl_net_properties_v8_t, 64);
NCCL_ABI_OFFSET(nccl_net_properties_v8_t, pci_path, 8);
NCCL_ABI_OFFSET(nccl_net_properties_v8_t, guid, 16);
NCCL_ABI_OFFSET(nccl_net_properties_v8_t, ptr_support, 24);
NCCL_ABI_OFFSET(nccl_net_properties_v8_t, reg_is_global, 28);
NCCL_ABI_OFFSET(nccl_net_properties_v8_t, speed, 32);
NCCL_ABI_OFFSET(nccl_net_properties_v8_t, port, 36);
NCCL_ABI_OFFSET(nccl_net_properties_v8_t, latency, 40);
NCCL_ABI_OFFSET(nccl_net_properties_v8_t, max_comms, 44);
NCCL_ABI_OFFSET(nccl_net_properties_v8_t, max_recvs, 48);
NCCL_ABI_OFFSET(nccl_net_properties_v8_t, net_device_type, 52);
NCCL_ABI_OFFSET(nccl_net_properties_v8_t, net_device_version, 56);

/* From v9 on fields are only added behind those before. */
#define NCCL_ABI_PROPERTIES_V9(type)                                                                                   \
  NCCL_ABI_OFFSET(type, pci_path, 8);                                                                                  \
  NCCL_ABI_OFFSET(type, guid, 16);                                                                                     \
  NCCL_ABI_OFFSET(type, ptr_support, 24);                                                                              \
  NCCL_ABI_OFFSET(type, reg_is_global, 28);                                                                            \
  NCCL_ABI_OFFSET(type, force_flush, 32);                                                                              \
  NCCL_ABI_OFFSET(type, speed, 36);                                                                                    \
  NCCL_ABI_OFFSET(type, port, 40);                                                                                     \
  NCCL_ABI_OFFSET(type, latency, 44);                                                                                  \
  NCCL_ABI_OFFSET(type, max_comms, 48);                                                                                \
  NCCL_ABI_OFFSET(type, max_recvs, 52);                                                                                \
  NCCL_ABI_OFFSET(type, net_device_type, 56);                                                                          \
  NCCL_ABI_OFFSET(type, net_device_version, 60);                                                                       \
  NCCL_ABI_OFFSET(type, vdevice, 64)
NCCL_ABI_PROPERTIES_V9(nccl_net_properties_v9_t);
NCCL_ABI_SIZE(nccl_net_properties_v9_t, 104);
NCCL_ABI_OFFSET(nccl_net_properties_v9_t, max_p2p_bytes, 88);
NCCL_ABI_OFFSET(nccl_net_properties_v9_t, max_coll_bytes, 96);
NCCL_ABI_PROPERTIES_V9(nccl_net_properties_v11_t);
NCCL_ABI_SIZE(nccl_net_properties_v11_t, 112);
NCCL_ABI_OFFSET(nccl_net_properties_v11_t, max_p2p_bytes, 88);
NCCL_ABI_OFFSET(nccl_net_properties_v11_t, max_coll_bytes, 96);
NCCL_ABI_OFFSET(nccl_net_properties_v11_t, max_multi_request_size, 104);
NCCL_ABI_PROPERTIES_V9(nccl_net_properties_v12_t);
NCCL_ABI_SIZE(nccl_net_properties_v12_t, 128);
NCCL_ABI_OFFSET(nccl_net_properties_v12_t, max_p2p_bytes, 104);
NCCL_ABI_OFFSET(nccl_net_properties_v12_t, max_coll_bytes, 112);
NCCL_ABI_OFFSET(nccl_net_properties_v12_t, max_multi_request_size, 120);
NCCL_ABI_OFFSET(nccl_net_properties_v12_t, rail_id, 124);
NCCL_ABI_OFFSET(nccl_net_properties_v12_t, plane_id, 126);

/* The n-th member of a table of pointers. */
#define NCCL_ABI_MEMBER(type, member, n) NCCL_ABI_OFFSET(type, member, (n) * sizeof(void *))
#define NCCL_ABI_NET_V8(type)                                                                                          \
  NCCL_ABI_MEMBER(type, name, 0);                                                                                      \
  NCCL_ABI_MEMBER(type, init, 1);                                                                                      \
  NCCL_ABI_MEMBER(type, devices, 2);                                                                                   \
  NCCL_ABI_MEMBER(type, get_properties, 3);                                                                            \
  NCCL_ABI_MEMBER(type, listen, 4);                                                                                    \
  NCCL_ABI_MEMBER(type, connect, 5);                                                                                   \
  NCCL_ABI_MEMBER(type, accept, 6);                                                                                    \
  NCCL_ABI_MEMBER(type, reg_mr, 7);                                                                                    \
  NCCL_ABI_MEMBER(type, reg_mr_dmabuf, 8);                                                                             \
  NCCL_ABI_MEMBER(type, dereg_mr, 9);                                                                                  \
  NCCL_ABI_MEMBER(type, isend, 10);                                                                                    \
  NCCL_ABI_MEMBER(type, irecv, 11);                                                                                    \
  NCCL_ABI_MEMBER(type, iflush, 12);                                                                                   \
  NCCL_ABI_MEMBER(type, test, 13);                                                                                     \
  NCCL_ABI_MEMBER(type, close_send, 14);                                                                               \
  NCCL_ABI_MEMBER(type, close_recv, 15);                                                                               \
  NCCL_ABI_MEMBER(type, close_listen, 16);                                                                             \
  NCCL_ABI_MEMBER(type, get_device_mr, 17);                                                                            \
  NCCL_ABI_MEMBER(type, irecv_consumed, 18)
NCCL_ABI_NET_V8(nccl_net_v8_t);
NCCL_ABI_SIZE(nccl_net_v8_t, 19 * sizeof(void *));
NCCL_ABI_NET_V8(nccl_net_v9_t);
NCCL_ABI_MEMBER(nccl_net_v9_t, make_vdevice, 19);
NCCL_ABI_SIZE(nccl_net_v9_t, 20 * sizeof(void *));
NCCL_ABI_NET_V8(nccl_net_v10_t);
NCCL_ABI_MEMBER(nccl_net_v10_t, make_vdevice, 19);
NCCL_ABI_SIZE(nccl_net_v10_t, 20 * sizeof(void *));
NCCL_ABI_NET_V8(nccl_net_v11_t);
NCCL_ABI_MEMBER(nccl_net_v11_t, make_vdevice, 19);
NCCL_ABI_MEMBER(nccl_net_v11_t, finalize, 20);
NCCL_ABI_MEMBER(nccl_net_v11_t, set_attr, 21);
NCCL_ABI_SIZE(nccl_net_v11_t, 22 * sizeof(void *));
NCCL_ABI_NET_V8(nccl_net_v12_t);
NCCL_ABI_MEMBER(nccl_net_v12_t, make_vdevice, 19);
NCCL_ABI_MEMBER(nccl_net_v12_t, finalize, 20);
NCCL_ABI_MEMBER(nccl_net_v12_t, set_attr, 21);
NCCL_ABI_SIZE(nccl_net_v12_t, 22 * sizeof(void *));

#endif
