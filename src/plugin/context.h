/*
 * context.h - one init of the plugin by one NCCL: whose log its objects use, and what they have carried.
 *
 * From version 11 on NCCL makes a context per communicator and gives it to each call; before, the newest init of a
 * table counts. Objects hold their context, so it outlives NCCL's finalize until the last of them is closed.
 */
#ifndef SHMI_PLUGIN_CONTEXT_H
#define SHMI_PLUGIN_CONTEXT_H

#include "plugin/plugin.h"

/* What an object has carried, by path: within the words' lines, through rings, directly within the process, between
 * rings and a GPU. */
enum { SHMI_COUNTED_ON_DEVICE = 3, SHMI_COUNTED_PATHS };
struct shmi_counters {
  uint64_t messages[SHMI_COUNTED_PATHS], bytes[SHMI_COUNTED_PATHS];
};

struct shmi_context {
  struct shmi_plugin_log log;
  /* the rest is context.c's */
  struct shmi_context *next;
  int holders;      /* objects, and NCCL until it finalizes */
  int is_finalized; /* by NCCL: no longer a valid argument */
  int is_implied;   /* its table has no finalize: it says what was carried whenever its last object goes */
  struct shmi_counters sent, received;
};

shmccl_result_t shmi_context_create(nccl_logger_t logger, struct shmi_context **context);

/* Adds a holder. NULL if `context` is none that NCCL may use now: a value that init did not give, or finalized. */
struct shmi_context *shmi_context_hold(void *context);

/* Adds one to a context that is held. */
void shmi_context_share(struct shmi_context *context);

/* Takes a holder away; *counters (may be NULL) is added to what was carried so far. */
void shmi_context_release(struct shmi_context *context, const struct shmi_counters *counters, int is_sender);

/* NCCL's own hold ends. Says what was carried. False if `context` is not valid. */
int shmi_context_finalize(void *context);

/* For tables without a context argument: the newest one, in *slot. Its predecessor is finalized. */
shmccl_result_t shmi_context_renew(struct shmi_context **slot, nccl_logger_t logger);
struct shmi_context *shmi_context_hold_newest(struct shmi_context **slot);

/* The newest context's log, for calls with an object that is none of ours. */
struct shmi_plugin_log shmi_context_newest_log(void);

#endif
