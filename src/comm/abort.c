/*
 * abort.c - one error for all ranks.
 *
 * Each rank has one abort line, written at most once. The communicator is in error as soon as any line is; where
 * several are, the lowest rank's cause counts. A rank that meets another's error copies it to its own line, so that it
 * stays visible to all whoever leaves first.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "comm/comm.h"

enum { MESSAGE_BYTES = 640 };

static struct shmi_abort_line *line_of(const shmccl_comm_t *comm, int rank) {
  return &shmi_control_of(&comm->world, rank)->abort;
}

/* late: the line's. calling: the collective that this rank is in, or NULL. */
static void write_line(shmccl_comm_t *comm, shmccl_result_t cause, int culprit, int finder, uint64_t late,
                       const struct shmi_call_id *calling) {
  struct shmi_abort_line *mine = line_of(comm, comm->rank);
  if (!shmi_claim(&comm->abort_claimed)) return;
  mine->culprit = culprit;
  mine->finder = finder;
  mine->late = late;
  mine->has_call = calling != NULL;
  if (calling) mine->call = *calling;
  shmi_publish32(&mine->cause, (uint32_t)cause);
}

/* The lowest rank in error, or -1. *cause, if not NULL: its cause, read once: a line that somebody overwrites must not
 * turn an error into success. */
static int first_in_error(const shmccl_comm_t *comm, shmccl_result_t *cause) {
  for (int r = 0; r < comm->nranks; r++) {
    const uint32_t found = shmi_observe32(&line_of(comm, r)->cause);
    if (!found) continue;
    if (cause) *cause = found <= SHMCCL_ERROR_CUDA ? (shmccl_result_t)found : SHMCCL_ERROR_INTERNAL;
    return r;
  }
  return -1;
}

bool shmi_abort_is_foreign(const shmccl_comm_t *comm) {
  const int r = first_in_error(comm, NULL);
  return r >= 0 && line_of(comm, r)->culprit < 0;
}

/* What `rank` called: known once it has written its line, for which it gets a moment. False if it was in no collective.
 */
static bool call_of(const shmccl_comm_t *comm, int rank, struct shmi_call_id *call) {
  const struct timespec moment = {.tv_nsec = 1000000};
  if (rank < 0 || rank >= comm->nranks) return false;
  const struct shmi_abort_line *line = line_of(comm, rank);
  uint32_t cause = 0;
  for (int i = 0; i < 200 && !(cause = shmi_observe32(&line->cause)); i++) nanosleep(&moment, NULL);
  if (!cause || !line->has_call) return false;
  *call = line->call;
  return true;
}

static void describe_mismatch(const shmccl_comm_t *comm, int finder, int culprit, char *text, size_t bytes) {
  char one[96], other[96] = "something else";
  struct shmi_call_id call;
  if (!call_of(comm, finder, &call)) {
    snprintf(text, bytes, "rank %d found that ranks disagree; its own log says in what", finder);
    return;
  }
  shmi_call_text(&call, one, sizeof one);
  if (call_of(comm, culprit, &call)) shmi_call_text(&call, other, sizeof other);
  snprintf(text, bytes,
           "ranks disagree: rank %d called %s, rank %d called %s: all ranks must make the same calls in the same order",
           finder, one, culprit, other);
}

/* What rank r's line says of its cause, for the log of this rank. */
static void describe(const shmccl_comm_t *comm, int r, shmccl_result_t cause, char *text, size_t bytes) {
  const struct shmi_abort_line *line = line_of(comm, r);
  const int culprit = line->culprit, finder = line->finder;
  char late[SHMI_RANKS_TEXT];
  shmi_ranks_text(line->late ? line->late : 1ull << (culprit & 63), late);
  if (culprit < 0)
    snprintf(text, bytes, "rank %d gave up while it was made: %s; its own log says why", finder,
             shmccl_error_string(cause));
  else if (cause == SHMCCL_ERROR_PEER_DIED)
    snprintf(text, bytes, "rank %d died or left (seen by rank %d)", culprit, finder);
  else if (cause == SHMCCL_ERROR_TIMEOUT)
    snprintf(text, bytes, "rank%s did not come within the time limit of rank %d", late, finder);
  else if (cause == SHMCCL_ERROR_ABORTED)
    snprintf(text, bytes, "rank %d called shmccl_comm_abort()", finder);
  else if (cause == SHMCCL_ERROR_MISMATCH)
    describe_mismatch(comm, finder, culprit, text, bytes);
  else
    snprintf(text, bytes, "rank %d failed: %s; its own log says why", finder, shmccl_error_string(cause));
}

/* Of the owner and the watchdog, whoever is first says it. */
static void say(shmccl_comm_t *comm, const char *message) {
  if (shmi_claim(&comm->abort_logged))
    shmi_log_error("%s", message);
  else
    shmi_keep_error("%s", message);
}

static shmccl_result_t tell(shmccl_comm_t *comm, shmccl_result_t cause, const char *message) {
  if (comm->abort_told != SHMCCL_SUCCESS) return comm->abort_told;
  comm->abort_told = cause;
  if (message)
    say(comm, message);
  else
    shmi_claim(&comm->abort_logged); /* it was logged where it was found */
  return cause;
}

shmccl_result_t shmi_abort_raise(shmccl_comm_t *comm, shmccl_result_t cause, int culprit, const char *message) {
  /* A rank that writes its line and leaves may be seen to leave first: then its line is there now, and counts; unless
   * the cause was logged elsewhere: that was the one line of it. */
  const bool missing = message && (cause == SHMCCL_ERROR_PEER_DIED || cause == SHMCCL_ERROR_TIMEOUT);
  if (missing && comm->abort_told == SHMCCL_SUCCESS && first_in_error(comm, NULL) >= 0) return shmi_abort_look(comm);
  write_line(comm, cause, culprit, comm->rank, comm->late, comm->calling);
  return tell(comm, cause, message);
}

shmccl_result_t shmi_abort_mismatch(shmccl_comm_t *comm, int peer) {
  char message[512];
  write_line(comm, SHMCCL_ERROR_MISMATCH, peer, comm->rank, 0, comm->calling);
  describe_mismatch(comm, comm->rank, peer, message, sizeof message);
  return tell(comm, SHMCCL_ERROR_MISMATCH, message);
}

/* Copies the error of rank r to this rank's line and describes it. */
static void take_over(shmccl_comm_t *comm, int r, shmccl_result_t cause, const struct shmi_call_id *calling,
                      char message[MESSAGE_BYTES]) {
  char text[512];
  const struct shmi_abort_line *line = line_of(comm, r);
  write_line(comm, cause, line->culprit, line->finder, line->late, calling);
  describe(comm, r, cause, text, sizeof text);
  snprintf(message, MESSAGE_BYTES, "rank %d: %s: destroy this communicator and create another", comm->rank, text);
}

shmccl_result_t shmi_abort_look(shmccl_comm_t *comm) {
  char message[MESSAGE_BYTES];
  if (comm->abort_told != SHMCCL_SUCCESS)
    return shmi_error_again(comm->abort_told,
                            "rank %d: the communicator is in error (%s) since an earlier call: destroy it "
                            "and create another",
                            comm->rank, shmccl_error_string(comm->abort_told));
  int r = first_in_error(comm, &comm->abort_told);
  if (r < 0) return SHMCCL_SUCCESS;
  take_over(comm, r, comm->abort_told, comm->calling, message);
  say(comm, message);
  return comm->abort_told;
}

shmccl_result_t shmi_abort_peek(const shmccl_comm_t *comm) {
  char text[512] = "ranks disagree; the log says in what"; /* to say it here could take a wait */
  shmccl_result_t cause = SHMCCL_SUCCESS;
  const int r = first_in_error(comm, &cause);
  if (r < 0) return SHMCCL_SUCCESS;
  if (cause != SHMCCL_ERROR_MISMATCH) describe(comm, r, cause, text, sizeof text);
  return shmi_error_again(cause, "rank %d: %s", comm->rank, text);
}

void shmi_abort_note(shmccl_comm_t *comm, shmccl_result_t cause, int culprit, uint64_t late,
                     const struct shmi_call_id *call, const char *message) {
  char text[512];
  if (first_in_error(comm, NULL) >= 0) return;
  write_line(comm, cause, culprit, comm->rank, late, call);
  if (!message) describe_mismatch(comm, comm->rank, culprit, text, sizeof text);
  say(comm, message ? message : text);
}

bool shmi_abort_notice(shmccl_comm_t *comm, const struct shmi_call_id *call) {
  char message[MESSAGE_BYTES];
  shmccl_result_t cause = SHMCCL_SUCCESS;
  const int r = first_in_error(comm, &cause);
  if (r < 0) return false;
  if (shmi_peek32(&comm->abort_logged)) return true;
  take_over(comm, r, cause, call, message);
  say(comm, message);
  return true;
}

/* Unlike raise, from any thread: leaves abort_told to the owner, who will find the line. */
shmccl_result_t shmccl_comm_abort(shmccl_comm_t *comm) {
  SHMI_RETURN_IF_ERROR(shmi_comm_check(comm));
  write_line(comm, SHMCCL_ERROR_ABORTED, comm->rank, comm->rank, 0, NULL);
  return SHMCCL_SUCCESS;
}
