/* context.c - the register of contexts, and the line that says what was carried. */
#include "plugin/context.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of all below, and of all contexts but their logs */
static struct shmi_context *contexts;

/* ---- what was carried ------------------------------------------------------------------------------------------ */

static void add(struct shmi_counters *sum, const struct shmi_counters *more) {
  for (int p = 0; p < SHMI_COUNTED_PATHS; p++) {
    sum->messages[p] += more->messages[p];
    sum->bytes[p] += more->bytes[p];
  }
}

static void describe(char *text, size_t room, const struct shmi_counters *c) {
  static const char *const names[SHMI_COUNTED_PATHS] = {"small", "through rings", "within the process",
                                                        "of CUDA memory"};
  size_t length = 0;
  uint64_t messages = 0, bytes = 0;
  for (int p = 0; p < SHMI_COUNTED_PATHS; p++) messages += c->messages[p], bytes += c->bytes[p];
  length += (size_t)snprintf(text, room, "%" PRIu64 " messages, %" PRIu64 " bytes", messages, bytes);
  for (int p = 0; p < SHMI_COUNTED_PATHS && length < room; p++)
    if (c->messages[p])
      length += (size_t)snprintf(text + length, room - length, "; %s %" PRIu64 ", %" PRIu64 " bytes", names[p],
                                 c->messages[p], c->bytes[p]);
}

static void report(const struct shmi_context *c) {
  char sent[256], received[256];
  describe(sent, sizeof sent, &c->sent);
  describe(received, sizeof received, &c->received);
  shmi_plugin_info(&c->log, NCCL_SUBSYS_INIT, "net sent %s", sent);
  shmi_plugin_info(&c->log, NCCL_SUBSYS_INIT, "net received %s", received);
}

static void report_and_reset(struct shmi_context *c) {
  report(c);
  c->sent = c->received = (struct shmi_counters){0};
}

/* ---- holders ---------------------------------------------------------------------------------------------------- */

/* With the lock held. Whether it was the last holder: then it is no longer in the register. */
static int drop(struct shmi_context *context) {
  if (--context->holders > 0) return 0;
  for (struct shmi_context **c = &contexts; *c; c = &(*c)->next)
    if (*c == context) {
      *c = context->next;
      break;
    }
  return 1;
}

static void free_if(int last, struct shmi_context *context) {
  if (!last) return;
  report(context);
  free(context);
}

shmccl_result_t shmi_context_create(nccl_logger_t logger, struct shmi_context **out) {
  struct shmi_context *context = calloc(1, sizeof *context);
  if (!context) return shmi_error(SHMCCL_ERROR_NO_MEMORY, "no memory for a context");
  context->log.logger = logger;
  context->holders = 1;
  pthread_mutex_lock(&lock);
  context->next = contexts;
  contexts = context;
  pthread_mutex_unlock(&lock);
  *out = context;
  return SHMCCL_SUCCESS;
}

/* With the lock held. */
static struct shmi_context *find(const void *context) {
  for (struct shmi_context *c = contexts; c; c = c->next)
    if (c == context && !c->is_finalized) return c;
  return NULL;
}

struct shmi_context *shmi_context_hold(void *context) {
  pthread_mutex_lock(&lock);
  struct shmi_context *c = find(context);
  if (c) c->holders++;
  pthread_mutex_unlock(&lock);
  return c;
}

void shmi_context_share(struct shmi_context *context) {
  pthread_mutex_lock(&lock);
  context->holders++;
  pthread_mutex_unlock(&lock);
}

void shmi_context_release(struct shmi_context *context, const struct shmi_counters *counters, int is_sender) {
  pthread_mutex_lock(&lock);
  if (counters) add(is_sender ? &context->sent : &context->received, counters);
  const int last = drop(context);
  if (!last && context->is_implied && context->holders == 1 && !context->is_finalized) report_and_reset(context);
  pthread_mutex_unlock(&lock);
  free_if(last, context);
}

/* With the lock held. */
static int end(struct shmi_context *context) {
  context->is_finalized = 1;
  return drop(context);
}

int shmi_context_finalize(void *context) {
  pthread_mutex_lock(&lock);
  struct shmi_context *c = find(context);
  const int last = c && end(c);
  pthread_mutex_unlock(&lock);
  free_if(last, c);
  return c != NULL;
}

/* ---- tables without a context argument ------------------------------------------------------------------------- */

shmccl_result_t shmi_context_renew(struct shmi_context **slot, nccl_logger_t logger) {
  struct shmi_context *context, *before;
  SHMI_RETURN_IF_ERROR(shmi_context_create(logger, &context));
  context->is_implied = 1;
  pthread_mutex_lock(&lock);
  before = *slot;
  *slot = context;
  const int last = before && end(before);
  pthread_mutex_unlock(&lock);
  free_if(last, before);
  return SHMCCL_SUCCESS;
}

struct shmi_context *shmi_context_hold_newest(struct shmi_context **slot) {
  pthread_mutex_lock(&lock);
  struct shmi_context *context = *slot;
  if (context) context->holders++;
  pthread_mutex_unlock(&lock);
  return context;
}

struct shmi_plugin_log shmi_context_newest_log(void) {
  pthread_mutex_lock(&lock);
  const struct shmi_plugin_log log = contexts ? contexts->log : (struct shmi_plugin_log){NULL};
  pthread_mutex_unlock(&lock);
  return log;
}
