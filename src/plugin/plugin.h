/*
 * plugin.h - what net, collnet and tuner share: NCCL's logger, results, types.
 *
 * NCCL may load this library for several communicators at once, and two NCCLs of one process may both load it. So
 * nothing here remembers a communicator: each object carries the log of the init that it came from.
 */
#ifndef SHMI_PLUGIN_H
#define SHMI_PLUGIN_H

#include "base/log.h"
#include "plugin/nccl_abi.h"

/* The name of net, collnet and tuner: what NCCL_NET=shmccl chooses. */
#define SHMI_PLUGIN_NAME "shmccl"

/* For shmi_place_check. */
#define SHMI_ONE_HOST_ONLY ": unset NCCL_NET_PLUGIN and NCCL_NET for jobs on several hosts"

/* ---- log.c: lines for NCCL's log ------------------------------------------------------------------------------- */

/* Where an object's lines go. NCCL's logger gets them all and filters by NCCL_DEBUG. A line that NCCL_DEBUG hides also
 * goes to stderr if SHMCCL_DEBUG asks for it (warnings: unless it is "none"). Logger NULL: stderr only. */
struct shmi_plugin_log {
  nccl_logger_t logger;
};

void shmi_plugin_warn(const struct shmi_plugin_log *log, const char *format, ...) SHMI_PRINTF(2);
/* subsystems: NCCL_SUBSYS_*. INIT and ENV are those that NCCL shows by default. */
void shmi_plugin_info(const struct shmi_plugin_log *log, unsigned long subsystems, const char *format, ...)
    SHMI_PRINTF(3);

/* The value is `result`; the line is logged as a warning. */
#define shmi_plugin_error(log, result, ...) (shmi_plugin_warn((log), __VA_ARGS__), (result))

/* Between the two, what the engine logs in this thread goes to `log`, which must live as long. They may nest. */
struct shmi_log_sink shmi_plugin_log_enter(const struct shmi_plugin_log *log);
void shmi_plugin_log_leave(struct shmi_log_sink before);

/* ---- convert.c: results and types ------------------------------------------------------------------------------ */

/* The engine has logged why. */
nccl_result_t shmi_plugin_result(shmccl_result_t result);

/* NCCL's value as the engine's; false if the engine has none. Of operators NCCL's networks see sum, prod, max, min. */
int shmi_plugin_datatype(nccl_datatype_t from, shmccl_datatype_t *to);
int shmi_plugin_redop(nccl_redop_t from, shmccl_redop_t *to);

/* Forwards an error that its finder has already logged. */
#define SHMI_PLUGIN_RETURN_IF_ERROR(expression)                                                                        \
  do {                                                                                                                 \
    nccl_result_t forwarded_ = (expression);                                                                           \
    if (forwarded_ != NCCL_SUCCESS) return forwarded_;                                                                 \
  } while (0)

#endif
