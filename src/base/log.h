/*
 * log.h - errors and messages.
 *
 * Whoever first decides that something is an error calls shmi_error() once, with cause and remedy; callers forward the
 * code. SHMCCL_DEBUG chooses what is printed to stderr: none, warn (default: errors and warnings), info (per
 * communicator). A thread that works for a host program can have its lines go to that program's log instead.
 */
#ifndef SHMI_LOG_H
#define SHMI_LOG_H

#include "shmccl.h"

typedef enum { SHMI_LOG_NONE, SHMI_LOG_WARN, SHMI_LOG_INFO } shmi_log_level_t;

#define SHMI_PRINTF(at) __attribute__((format(printf, at, (at) + 1)))

/* Reads SHMCCL_DEBUG again; called when a communicator is created. */
void shmi_log_configure(void);
int shmi_log_enabled(shmi_log_level_t level);
void shmi_log(shmi_log_level_t level, const char *format, ...) SHMI_PRINTF(2);

/* Takes every line of the calling thread, whatever SHMCCL_DEBUG says; write NULL: stderr. Returns what was before. */
struct shmi_log_sink {
  void (*write)(const void *context, shmi_log_level_t level, const char *text);
  const void *context;
};
struct shmi_log_sink shmi_log_redirect(struct shmi_log_sink sink);
/* To stderr, if SHMCCL_DEBUG asks for that level: for sinks whose program would not show the line. */
void shmi_log_print(shmi_log_level_t level, const char *text);

/* The value is `result`; the line is logged and kept for shmccl_last_error(). A macro so that compilers and analysers
 * see which result it is. */
#define shmi_error(result, ...) (shmi_log_error(__VA_ARGS__), (result))
/* The same without printing: for an error that was printed before and is met again. */
#define shmi_error_again(result, ...) (shmi_keep_error(__VA_ARGS__), (result))
void shmi_log_error(const char *format, ...) SHMI_PRINTF(1);
void shmi_keep_error(const char *format, ...) SHMI_PRINTF(1);

#define SHMI_INFO(...)                                                                                                 \
  do {                                                                                                                 \
    if (shmi_log_enabled(SHMI_LOG_INFO)) shmi_log(SHMI_LOG_INFO, __VA_ARGS__);                                         \
  } while (0)

/* Forwards an error that its finder has already logged. */
#define SHMI_RETURN_IF_ERROR(expression)                                                                               \
  do {                                                                                                                 \
    shmccl_result_t forwarded_ = (expression);                                                                         \
    if (forwarded_ != SHMCCL_SUCCESS) return forwarded_;                                                               \
  } while (0)

#endif
