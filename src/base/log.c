/* log.c - one line per message, written with one write(2) so that the lines of several ranks do not mix. */
#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "base/ordering.h"

enum { LINE_BYTES = 1024 };

static const char *const level_names[] = {"none", "warn", "info"};
enum { LEVELS = sizeof level_names / sizeof level_names[0], NOT_READ = 99 };
static uint32_t log_level = NOT_READ;
static _Thread_local char last_error[LINE_BYTES];
static _Thread_local struct shmi_log_sink thread_sink;

void shmi_log_configure(void) {
  const char *wanted = getenv("SHMCCL_DEBUG");
  uint32_t level = SHMI_LOG_WARN;
  for (uint32_t i = 0; wanted && i < LEVELS; i++)
    if (!strcasecmp(wanted, level_names[i])) level = i;
  shmi_note32(&log_level, level);
}

static int asked_for(shmi_log_level_t level) {
  if (shmi_peek32(&log_level) == NOT_READ) shmi_log_configure();
  return (uint32_t)level <= shmi_peek32(&log_level);
}

int shmi_log_enabled(shmi_log_level_t level) { return thread_sink.write || asked_for(level); }

struct shmi_log_sink shmi_log_redirect(struct shmi_log_sink sink) {
  const struct shmi_log_sink before = thread_sink;
  thread_sink = sink;
  return before;
}

/* Nobody may read stderr any more: that must not end the process, so SIGPIPE is held back and taken away. */
static void write_line(const char *line, size_t length) {
  const struct timespec at_once = {0};
  sigset_t pipe_set, before, pending;
  sigemptyset(&pipe_set);
  sigaddset(&pipe_set, SIGPIPE);
  sigpending(&pending);
  pthread_sigmask(SIG_BLOCK, &pipe_set, &before);
  if (write(STDERR_FILENO, line, length) < 0 && errno == EPIPE && !sigismember(&pending, SIGPIPE))
    sigtimedwait(&pipe_set, NULL, &at_once);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void print_line(shmi_log_level_t level, const char *text) {
  char line[LINE_BYTES + 64];
  int length =
      snprintf(line, sizeof line, "shmccl[%d] %s: %s\n", (int)getpid(), level == SHMI_LOG_WARN ? "WARN" : "INFO", text);
  if (length > (int)sizeof line - 1) length = (int)sizeof line - 1;
  write_line(line, (size_t)length);
}

void shmi_log_print(shmi_log_level_t level, const char *text) {
  if (asked_for(level)) print_line(level, text);
}

static void deliver(shmi_log_level_t level, const char *text) {
  if (thread_sink.write)
    thread_sink.write(thread_sink.context, level, text);
  else
    shmi_log_print(level, text);
}

void shmi_log(shmi_log_level_t level, const char *format, ...) {
  char text[LINE_BYTES];
  if (!shmi_log_enabled(level)) return;
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  deliver(level, text);
}

void shmi_log_error(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(last_error, sizeof last_error, format, arguments);
  va_end(arguments);
  deliver(SHMI_LOG_WARN, last_error);
}

void shmi_keep_error(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(last_error, sizeof last_error, format, arguments);
  va_end(arguments);
}

const char *shmccl_last_error(void) { return last_error; }
