/* log.c - one line at a time, to NCCL's logger and, where that would hide it, to stderr. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "base/ordering.h"
#include "plugin/plugin.h"

enum { LINE_BYTES = 1024 };

/* Up to which level NCCL shows lines: decided, as in NCCL, at the first use. */
static nccl_log_level_t shown_by_nccl(void) {
  static uint32_t shown = NCCL_LOG_NONE; /* NONE: not read yet, or silent */
  static uint32_t was_read;
  if (shmi_observe32(&was_read)) return (nccl_log_level_t)shmi_peek32(&shown);
  static const char *const as_info[] = {"INFO", "ABORT", "TRACE"};
  const char *wanted = getenv("NCCL_DEBUG");
  uint32_t level = wanted && !strcasecmp(wanted, "WARN") ? NCCL_LOG_WARN : NCCL_LOG_NONE;
  for (int i = 0; wanted && i < 3; i++)
    if (!strcasecmp(wanted, as_info[i])) level = NCCL_LOG_INFO;
  shmi_note32(&shown, level);
  shmi_publish32(&was_read, 1);
  return (nccl_log_level_t)level;
}

static void line(const struct shmi_plugin_log *log, shmi_log_level_t level, unsigned long subsystems,
                 const char *text) {
  const nccl_log_level_t theirs = level == SHMI_LOG_WARN ? NCCL_LOG_WARN : NCCL_LOG_INFO;
  if (log->logger) log->logger(theirs, subsystems, SHMI_PLUGIN_NAME, 0, SHMI_PLUGIN_NAME ": %s", text);
  if (!log->logger || shown_by_nccl() < theirs) shmi_log_print(level, text);
}

void shmi_plugin_warn(const struct shmi_plugin_log *log, const char *format, ...) {
  char text[LINE_BYTES];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  line(log, SHMI_LOG_WARN, ~0ul, text);
}

void shmi_plugin_info(const struct shmi_plugin_log *log, unsigned long subsystems, const char *format, ...) {
  char text[LINE_BYTES];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  line(log, SHMI_LOG_INFO, subsystems, text);
}

static void from_engine(const void *context, shmi_log_level_t level, const char *text) {
  line(context, level, level == SHMI_LOG_WARN ? ~0ul : NCCL_SUBSYS_INIT, text);
}

struct shmi_log_sink shmi_plugin_log_enter(const struct shmi_plugin_log *log) {
  return shmi_log_redirect((struct shmi_log_sink){from_engine, log});
}

void shmi_plugin_log_leave(struct shmi_log_sink before) { shmi_log_redirect(before); }
