/*
 * collnet_tables.c - CollNet as NCCL 2.20 to 2.30 look for it: five tables over collnet.c.
 *
 * Up to version 10 init is per process: what listens then logs to the logger of the newest init. From version 11 on it
 * is per communicator; the context is the logger itself, so there is nothing to free or to find invalid. No gather and
 * no scatter: NCCL asks for them with NVSwitches only. No DMA-BUF, no virtual devices.
 */
#include <string.h>

#include "base/ordering.h"
#include "plugin/collnet.h"
#include "plugin/device.h"

#define EXPORT __attribute__((visibility("default")))

/* A function's address as a word and back, which C leaves to POSIX. */
static uint64_t word_of(nccl_logger_t logger) {
  uint64_t word = 0;
  memcpy(&word, &logger, sizeof logger);
  return word;
}

static struct shmi_plugin_log log_of(uint64_t word) {
  struct shmi_plugin_log log;
  memcpy(&log.logger, &word, sizeof log.logger);
  return log;
}

/* ---- versions 8 to 10 ------------------------------------------------------------------------------------------- */

static uint64_t newest_logger;

static nccl_result_t init_v8(nccl_logger_t logger) {
  shmi_publish64(&newest_logger, word_of(logger));
  return NCCL_SUCCESS;
}

static nccl_result_t listen_v8(int device, void *handle, void **listen_comm) {
  const struct shmi_plugin_log log = log_of(shmi_observe64(&newest_logger));
  return shmi_collnet_listen(&log, device, handle, listen_comm);
}

static nccl_result_t iallreduce_v8(void *coll_comm, void *sendbuf, void *recvbuf, int count, nccl_datatype_t datatype,
                                   nccl_redop_t op, void *send_mhandle, void *recv_mhandle, void **request) {
  /* A negative count is refused as too large. */
  return shmi_collnet_iallreduce(coll_comm, sendbuf, recvbuf, (size_t)count, datatype, op, send_mhandle, recv_mhandle,
                                 request);
}

/* ---- version 11 and later -----------------------------------------------------------------------------------------
 */

static nccl_result_t init_v11(void **context, uint64_t comm_id, nccl_logger_t logger) {
  (void)comm_id;
  if (context) *context = (void *)(uintptr_t)word_of(logger);
  return NCCL_SUCCESS;
}

static nccl_result_t listen_v11(void *context, int device, void *handle, void **listen_comm) {
  const struct shmi_plugin_log log = log_of((uintptr_t)context);
  return shmi_collnet_listen(&log, device, handle, listen_comm);
}

static nccl_result_t finalize(void *context) {
  (void)context;
  return NCCL_SUCCESS;
}

/* ---- the tables ----------------------------------------------------------------------------------------------------
 */

/* Members 5 to 16, which differ in iallreduce only. */
#define CALLS(iallreduce_fn)                                                                                           \
  .connect = shmi_collnet_connect, .reduce_support = shmi_collnet_reduce_support, .reg_mr = shmi_collnet_reg_mr,       \
  .dereg_mr = shmi_collnet_dereg_mr, .iallreduce = (iallreduce_fn), .iflush = shmi_collnet_iflush,                     \
  .test = shmi_collnet_test, .close_coll = shmi_collnet_close_coll, .close_listen = shmi_collnet_close_listen

EXPORT extern const nccl_collnet_v8_t ncclCollNetPlugin_v8;
EXPORT extern const nccl_collnet_v9_t ncclCollNetPlugin_v9;
EXPORT extern const nccl_collnet_v10_t ncclCollNetPlugin_v10;
EXPORT extern const nccl_collnet_v11_t ncclCollNetPlugin_v11;
EXPORT extern const nccl_collnet_v12_t ncclCollNetPlugin_v12;

const nccl_collnet_v8_t ncclCollNetPlugin_v8 = {.name = SHMI_PLUGIN_NAME,
                                                .init = init_v8,
                                                .devices = shmi_plugin_devices,
                                                .get_properties = shmi_plugin_properties_v8,
                                                .listen = listen_v8,
                                                CALLS(iallreduce_v8)};
const nccl_collnet_v9_t ncclCollNetPlugin_v9 = {.name = SHMI_PLUGIN_NAME,
                                                .init = init_v8,
                                                .devices = shmi_plugin_devices,
                                                .get_properties = shmi_plugin_properties_v9,
                                                .listen = listen_v8,
                                                CALLS(shmi_collnet_iallreduce)};
const nccl_collnet_v10_t ncclCollNetPlugin_v10 = {.name = SHMI_PLUGIN_NAME,
                                                  .init = init_v8,
                                                  .devices = shmi_plugin_devices,
                                                  .get_properties = shmi_plugin_properties_v9,
                                                  .listen = listen_v8,
                                                  CALLS(shmi_collnet_iallreduce)};
const nccl_collnet_v11_t ncclCollNetPlugin_v11 = {.name = SHMI_PLUGIN_NAME,
                                                  .init = init_v11,
                                                  .devices = shmi_plugin_devices,
                                                  .get_properties = shmi_plugin_properties_v11,
                                                  .listen = listen_v11,
                                                  CALLS(shmi_collnet_iallreduce),
                                                  .finalize = finalize};
const nccl_collnet_v12_t ncclCollNetPlugin_v12 = {.name = SHMI_PLUGIN_NAME,
                                                  .init = init_v11,
                                                  .devices = shmi_plugin_devices,
                                                  .get_properties = shmi_plugin_properties_v12,
                                                  .listen = listen_v11,
                                                  CALLS(shmi_collnet_iallreduce),
                                                  .finalize = finalize};
