/*
 * net_tables.c - the network as NCCL's tables of versions 8 to 12 have it.
 *
 * Thin: checks what a caller can get wrong, gives the engine's messages to the caller's log, converts.
 */
#include <limits.h>

#include "plugin/device.h"
#include "plugin/environment.h"
#include "plugin/gdr.h"
#include "plugin/net.h"

#define EXPORT __attribute__((visibility("default")))

/* ---- errors ---------------------------------------------------------------------------------------------------------
 */

static nccl_result_t misuse(const char *text) {
  const struct shmi_plugin_log log = shmi_context_newest_log();
  return shmi_plugin_error(&log, NCCL_INVALID_ARGUMENT, "%s", text);
}

static nccl_result_t converted(shmccl_result_t result) {
  return result == SHMCCL_SUCCESS ? NCCL_SUCCESS : shmi_plugin_result(result);
}

static int is_comm(const struct shmi_net_comm *c) {
  return c && (c->kind == SHMI_NET_SENDER || c->kind == SHMI_NET_RECEIVER);
}

/* ---- contexts -------------------------------------------------------------------------------------------------------
 */

/* Of the versions without a context argument. */
static struct shmi_context *newest[3];

static nccl_result_t init_implied(int version, nccl_logger_t logger) {
  const struct shmi_plugin_log log = {logger};
  const struct shmi_log_sink before = shmi_plugin_log_enter(&log);
  shmccl_result_t result = shmi_plugin_prepare(&log);
  if (result == SHMCCL_SUCCESS) result = shmi_context_renew(&newest[version - 8], logger);
  shmi_plugin_log_leave(before);
  return converted(result);
}

static nccl_result_t init_v11(void **context, uint64_t comm_id, nccl_net_comm_config_t *config, nccl_logger_t logger,
                              nccl_profiler_t profiler) {
  (void)comm_id, (void)config, (void)profiler;
  const struct shmi_plugin_log log = {logger};
  struct shmi_context *made;
  if (!context) return misuse("init: nowhere to store the context");
  const struct shmi_log_sink before = shmi_plugin_log_enter(&log);
  shmccl_result_t result = shmi_plugin_prepare(&log);
  if (result == SHMCCL_SUCCESS) result = shmi_context_create(logger, &made);
  shmi_plugin_log_leave(before);
  if (result == SHMCCL_SUCCESS) *context = made;
  return converted(result);
}

/* NCCL may finalize after an init that failed, with whatever its variable held. */
static nccl_result_t finalize(void *context) {
  if (!context || shmi_context_finalize(context)) return NCCL_SUCCESS;
  return misuse("finalize: this context was not given by init, or is finalized already");
}

/* ---- connections ----------------------------------------------------------------------------------------------------
 */

/* Takes over the hold on the context, which is NULL if there is none. */
static nccl_result_t listen(struct shmi_context *context, int device, void *handle, void **out) {
  struct shmi_net_listener *listener;
  if (!context) return misuse("listen: init was not called, or its context is finalized");
  shmccl_result_t result = SHMCCL_ERROR_INVALID_ARGUMENT;
  const struct shmi_log_sink before = shmi_plugin_log_enter(&context->log);
  if (device != 0 || !handle || !out)
    shmi_log_error("listen: device %d, handle %p, out %p: there is device 0 only", device, handle, (void *)out);
  else
    result = shmi_net_listen(context, handle, &listener);
  shmi_plugin_log_leave(before);
  if (result == SHMCCL_SUCCESS) return *out = listener, NCCL_SUCCESS;
  shmi_context_release(context, NULL, 0);
  return converted(result);
}

static nccl_result_t connect(struct shmi_context *context, int device, const void *handle, void **out,
                             nccl_net_device_handle_t **device_comm) {
  struct shmi_net_comm *comm;
  if (!context) return misuse("connect: init was not called, or its context is finalized");
  shmccl_result_t result = SHMCCL_ERROR_INVALID_ARGUMENT;
  const struct shmi_log_sink before = shmi_plugin_log_enter(&context->log);
  if (device != 0 || !handle || !out)
    shmi_log_error("connect: device %d, handle %p, out %p: there is device 0 only", device, handle, (void *)out);
  else
    result = shmi_net_connect(context, handle, &comm);
  shmi_plugin_log_leave(before);
  if (result != SHMCCL_SUCCESS) return shmi_context_release(context, NULL, 0), converted(result);
  if (device_comm) *device_comm = NULL;
  *out = comm;
  return NCCL_SUCCESS;
}

static nccl_result_t accept(void *listen_comm, void **out, nccl_net_device_handle_t **device_comm) {
  struct shmi_net_listener *listener = listen_comm;
  struct shmi_net_comm *comm;
  if (!listener || listener->kind != SHMI_NET_LISTENER || !out) return misuse("accept: this is no open listener");
  const struct shmi_log_sink before = shmi_plugin_log_enter(&listener->context->log);
  const shmccl_result_t result = shmi_net_accept(listener, &comm);
  shmi_plugin_log_leave(before);
  if (result != SHMCCL_SUCCESS) return converted(result);
  if (device_comm) *device_comm = NULL;
  *out = comm;
  return NCCL_SUCCESS;
}

static nccl_result_t close_listen(void *listen_comm) {
  struct shmi_net_listener *listener = listen_comm;
  if (!listener || listener->kind != SHMI_NET_LISTENER) return misuse("closeListen: this is no open listener");
  shmi_net_close_listener(listener);
  return NCCL_SUCCESS;
}

static nccl_result_t close_send(void *send_comm) {
  struct shmi_net_comm *c = send_comm;
  if (!c || c->kind != SHMI_NET_SENDER) return misuse("closeSend: this is no open send connection");
  shmi_net_close(c);
  return NCCL_SUCCESS;
}

static nccl_result_t close_recv(void *recv_comm) {
  struct shmi_net_comm *c = recv_comm;
  if (!c || c->kind != SHMI_NET_RECEIVER) return misuse("closeRecv: this is no open receive connection");
  shmi_net_close(c);
  return NCCL_SUCCESS;
}

/* ---- registration ---------------------------------------------------------------------------------------------------
 */

static nccl_result_t reg_mr(void *comm, void *data, size_t bytes, int type, void **mhandle) {
  struct shmi_net_comm *c = comm;
  if (!is_comm(c) || !mhandle) return misuse("regMr: this is no open connection");
  if (bytes && !data)
    return shmi_plugin_error(&c->context->log, NCCL_INVALID_ARGUMENT, "regMr: the buffer of %zu bytes is NULL", bytes);
  if (type != NCCL_PTR_HOST && !(type == NCCL_PTR_CUDA && shmi_gdr_offered()))
    return shmi_plugin_error(&c->context->log, NCCL_INVALID_ARGUMENT,
                             "regMr: memory of type %d: host memory only (1), and CUDA memory (2) where "
                             "SHMCCL_NET_GDR=1 and getProperties says so",
                             type);
  if (type == NCCL_PTR_CUDA && bytes) {
    const shmccl_result_t result = shmi_net_use_device(c, data);
    if (result != SHMCCL_SUCCESS) return converted(result);
  }
  void *made = shmi_registry_add(&c->registry, data, bytes, type);
  if (!made) return shmi_plugin_error(&c->context->log, NCCL_SYSTEM_ERROR, "regMr: no memory for a registration");
  *mhandle = made;
  return NCCL_SUCCESS;
}

static nccl_result_t dereg_mr(void *comm, void *mhandle) {
  struct shmi_net_comm *c = comm;
  if (!is_comm(c)) return misuse("deregMr: this is no open connection");
  if (shmi_registry_remove(&c->registry, mhandle)) return NCCL_SUCCESS;
  return shmi_plugin_error(&c->context->log, NCCL_INVALID_ARGUMENT,
                           "deregMr: mhandle %p is not registered with this connection", mhandle);
}

/* ---- messages -------------------------------------------------------------------------------------------------------
 */

static nccl_result_t isend(void *send_comm, void *data, size_t bytes, void *mhandle, void **request) {
  struct shmi_net_comm *c = send_comm;
  struct shmi_net_request *r;
  if (!c || c->kind != SHMI_NET_SENDER || !request) return misuse("isend: this is no open send connection");
  const shmccl_result_t result = shmi_net_isend(c, data, bytes, mhandle, &r);
  if (result == SHMCCL_SUCCESS) *request = r;
  return converted(result);
}

/* *request may hold NCCL_NET_OPTIONAL_RECV on entry, or anything: it is written whatever it holds. */
static nccl_result_t irecv(void *recv_comm, int n, void *data, size_t bytes, void *mhandle, void **request) {
  struct shmi_net_comm *c = recv_comm;
  struct shmi_net_request *r;
  if (!c || c->kind != SHMI_NET_RECEIVER || !request) return misuse("irecv: this is no open receive connection");
  if (n != 1)
    return shmi_plugin_error(&c->context->log, NCCL_INVALID_ARGUMENT,
                             "irecv: a group of %d receives: this device takes one at a time (maxRecvs)", n);
  const shmccl_result_t result = shmi_net_irecv(c, data, bytes, mhandle, &r);
  if (result == SHMCCL_SUCCESS) *request = r;
  return converted(result);
}

/* Memory is as it should be as soon as test says so: a GPU's, too, since its copies were followed to their end. What
 * flushes are for, writes over PCIe that a network card has done and the GPU has not seen, does not occur. */
static nccl_result_t iflush(void *recv_comm, int n, void **data, int *bytes, void **mhandles, void **request) {
  const struct shmi_net_comm *c = recv_comm;
  (void)n, (void)data, (void)bytes, (void)mhandles;
  if (!c || c->kind != SHMI_NET_RECEIVER || !request) return misuse("iflush: this is no open receive connection");
  *request = NULL;
  return NCCL_SUCCESS;
}

static nccl_result_t test(void *request, int *done, int *bytes) {
  size_t moved;
  if (!request || request == (void *)(uintptr_t)NCCL_NET_OPTIONAL_RECV || !done)
    return misuse("test: this is no request");
  const shmccl_result_t result = shmi_net_test(request, done, &moved);
  if (result == SHMCCL_SUCCESS && *done && bytes) *bytes = moved > INT_MAX ? INT_MAX : (int)moved;
  return converted(result);
}

static nccl_result_t isend_v9(void *send_comm, void *data, size_t bytes, int tag, void *mhandle, void **request) {
  (void)tag; /* one sender and one receiver, in order: it tells nothing more */
  return isend(send_comm, data, bytes, mhandle, request);
}

static nccl_result_t isend_v8(void *send_comm, void *data, int bytes, int tag, void *mhandle, void **request) {
  (void)tag;
  return bytes < 0 ? misuse("isend: the size is negative") : isend(send_comm, data, (size_t)bytes, mhandle, request);
}

static nccl_result_t isend_v10(void *send_comm, void *data, size_t bytes, int tag, void *mhandle, void *profiler,
                               void **request) {
  (void)tag, (void)profiler;
  return isend(send_comm, data, bytes, mhandle, request);
}

static nccl_result_t irecv_v9(void *recv_comm, int n, void **data, size_t *bytes, int *tags, void **mhandles,
                              void **request) {
  (void)tags;
  if (!data || !bytes) return misuse("irecv: data or sizes are NULL");
  return irecv(recv_comm, n, data[0], bytes[0], mhandles ? mhandles[0] : NULL, request);
}

static nccl_result_t irecv_v8(void *recv_comm, int n, void **data, int *bytes, int *tags, void **mhandles,
                              void **request) {
  (void)tags;
  if (!data || !bytes || bytes[0] < 0) return misuse("irecv: data or sizes are NULL, or a size is negative");
  return irecv(recv_comm, n, data[0], (size_t)bytes[0], mhandles ? mhandles[0] : NULL, request);
}

static nccl_result_t irecv_v10(void *recv_comm, int n, void **data, size_t *bytes, int *tags, void **mhandles,
                               void **profilers, void **request) {
  (void)profilers;
  return irecv_v9(recv_comm, n, data, bytes, tags, mhandles, request);
}

/* ---- tables ---------------------------------------------------------------------------------------------------------
 */

static nccl_result_t init_v8(nccl_logger_t logger) { return init_implied(8, logger); }
static nccl_result_t init_v9(nccl_logger_t logger) { return init_implied(9, logger); }
static nccl_result_t init_v10(nccl_logger_t logger, nccl_profiler_t profiler) {
  (void)profiler;
  return init_implied(10, logger);
}

#define IMPLIED_LISTEN(version)                                                                                        \
  static nccl_result_t listen_v##version(int device, void *handle, void **out) {                                       \
    return listen(shmi_context_hold_newest(&newest[(version)-8]), device, handle, out);                                \
  }
IMPLIED_LISTEN(8)
IMPLIED_LISTEN(9)
IMPLIED_LISTEN(10)

static nccl_result_t connect_v8(int device, void *handle, void **out, nccl_net_device_handle_t **device_comm) {
  return connect(shmi_context_hold_newest(&newest[0]), device, handle, out, device_comm);
}
static nccl_result_t connect_v9(int device, void *handle, void **out, nccl_net_device_handle_t **device_comm) {
  return connect(shmi_context_hold_newest(&newest[1]), device, handle, out, device_comm);
}
static nccl_result_t connect_v10(int device, nccl_net_comm_config_t *config, void *handle, void **out,
                                 nccl_net_device_handle_t **device_comm) {
  (void)config;
  return connect(shmi_context_hold_newest(&newest[2]), device, handle, out, device_comm);
}

static nccl_result_t listen_v11(void *context, int device, void *handle, void **out) {
  return listen(shmi_context_hold(context), device, handle, out);
}
static nccl_result_t connect_v11(void *context, int device, void *handle, void **out,
                                 nccl_net_device_handle_t **device_comm) {
  return connect(shmi_context_hold(context), device, handle, out, device_comm);
}

/* Left out, which NCCL allows: reg_mr_dmabuf (DMABUF is not offered), get_device_mr, irecv_consumed, make_vdevice,
 * set_attr. */
#define COMMON_MEMBERS                                                                                                 \
  .name = SHMI_PLUGIN_NAME, .devices = shmi_plugin_devices, .accept = accept, .reg_mr = reg_mr, .dereg_mr = dereg_mr,  \
  .iflush = iflush, .test = test, .close_send = close_send, .close_recv = close_recv, .close_listen = close_listen

EXPORT nccl_net_v8_t ncclNetPlugin_v8 = {
    COMMON_MEMBERS,      .init = init_v8,       .get_properties = shmi_plugin_properties_v8,
    .listen = listen_v8, .connect = connect_v8, .isend = isend_v8,
    .irecv = irecv_v8};
EXPORT nccl_net_v9_t ncclNetPlugin_v9 = {
    COMMON_MEMBERS,      .init = init_v9,       .get_properties = shmi_plugin_properties_v9,
    .listen = listen_v9, .connect = connect_v9, .isend = isend_v9,
    .irecv = irecv_v9};
EXPORT nccl_net_v10_t ncclNetPlugin_v10 = {
    COMMON_MEMBERS,       .init = init_v10,       .get_properties = shmi_plugin_properties_v9,
    .listen = listen_v10, .connect = connect_v10, .isend = isend_v10,
    .irecv = irecv_v10};
EXPORT nccl_net_v11_t ncclNetPlugin_v11 = {
    COMMON_MEMBERS,       .init = init_v11,       .get_properties = shmi_plugin_properties_v11,
    .listen = listen_v11, .connect = connect_v11, .isend = isend_v10,
    .irecv = irecv_v10,   .finalize = finalize};
EXPORT nccl_net_v12_t ncclNetPlugin_v12 = {
    COMMON_MEMBERS,       .init = init_v11,       .get_properties = shmi_plugin_properties_v12,
    .listen = listen_v11, .connect = connect_v11, .isend = isend_v10,
    .irecv = irecv_v10,   .finalize = finalize};
