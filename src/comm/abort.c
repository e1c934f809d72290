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

static struct shmi_abort_line *line_of(const shmccl_comm_t *comm, int rank) {
  return &shmi_control_of(&comm->world, rank)->abort;
}

static void write_line(shmccl_comm_t *comm, shmccl_result_t cause, int culprit, const struct shmi_call_id *call) {
  struct shmi_abort_line *mine = line_of(comm, comm->rank);
  if (!shmi_claim(&comm->abort_claimed)) return;
  mine->culprit = culprit;
  if (call) mine->call = *call;
  shmi_publish32(&mine->cause, (uint32_t)cause);
}

/* The lowest rank in error, or -1. */
static int first_in_error(const shmccl_comm_t *comm) {
  for (int r = 0; r < comm->nranks; r++)
    if (shmi_observe32(&line_of(comm, r)->cause)) return r;
  return -1;
}

static shmccl_result_t cause_of(const struct shmi_abort_line *line) {
  uint32_t cause = shmi_observe32(&line->cause);
  return cause <= SHMCCL_ERROR_INTERNAL ? (shmccl_result_t)cause : SHMCCL_ERROR_INTERNAL;
}

shmccl_result_t shmi_abort_peek(const shmccl_comm_t *comm) {
  int r = first_in_error(comm);
  return r < 0 ? SHMCCL_SUCCESS : cause_of(line_of(comm, r));
}

/* What rank `finder`'s line says, for the log of another rank. */
static void describe(const shmccl_comm_t *comm, int finder, char *text, size_t bytes) {
  const struct shmi_abort_line *line = line_of(comm, finder);
  shmccl_result_t cause = cause_of(line);
  if (cause == SHMCCL_ERROR_PEER_DIED)
    snprintf(text, bytes, "rank %d died or left (seen by rank %d)", line->culprit, finder);
  else if (cause == SHMCCL_ERROR_TIMEOUT)
    snprintf(text, bytes, "rank %d did not come within the time limit of rank %d", line->culprit, finder);
  else if (cause == SHMCCL_ERROR_ABORTED)
    snprintf(text, bytes, "rank %d called shmccl_comm_abort()", finder);
  else
    snprintf(text, bytes, "rank %d failed: %s; its own log says why", finder, shmccl_error_string(cause));
}

static shmccl_result_t tell(shmccl_comm_t *comm, shmccl_result_t cause, const char *message) {
  if (comm->abort_told != SHMCCL_SUCCESS) return comm->abort_told;
  comm->abort_told = cause;
  return shmi_error(cause, "%s", message);
}

shmccl_result_t shmi_abort_raise(shmccl_comm_t *comm, shmccl_result_t cause, int culprit, const char *message) {
  write_line(comm, cause, culprit, NULL);
  return tell(comm, cause, message);
}

/* Gives the peer a moment to say what it called. */
static const struct shmi_abort_line *await_line(const shmccl_comm_t *comm, int peer) {
  const struct timespec moment = {.tv_nsec = 1000000};
  for (int i = 0; i < 200 && !shmi_observe32(&line_of(comm, peer)->cause); i++) nanosleep(&moment, NULL);
  return line_of(comm, peer);
}

shmccl_result_t shmi_abort_mismatch(shmccl_comm_t *comm, int peer, const struct shmi_call_id *call) {
  char mine[96], theirs[96] = "something else", message[512];
  write_line(comm, SHMCCL_ERROR_MISMATCH, peer, call);
  const struct shmi_abort_line *line = await_line(comm, peer);
  shmi_call_text(call, mine, sizeof mine);
  if (cause_of(line) == SHMCCL_ERROR_MISMATCH) shmi_call_text(&line->call, theirs, sizeof theirs);
  snprintf(message, sizeof message,
           "ranks disagree: rank %d called %s, rank %d called %s: all ranks must make the same "
           "calls in the same order",
           comm->rank, mine, peer, theirs);
  return tell(comm, SHMCCL_ERROR_MISMATCH, message);
}

shmccl_result_t shmi_abort_look(shmccl_comm_t *comm) {
  char text[256];
  if (comm->abort_told != SHMCCL_SUCCESS)
    return shmi_error_again(comm->abort_told,
                            "rank %d: the communicator is in error (%s) since an earlier call: destroy it "
                            "and create another",
                            comm->rank, shmccl_error_string(comm->abort_told));
  int finder = first_in_error(comm);
  if (finder < 0) return SHMCCL_SUCCESS;
  const struct shmi_abort_line *line = line_of(comm, finder);
  comm->abort_told = cause_of(line);
  write_line(comm, comm->abort_told, line->culprit, NULL);
  describe(comm, finder, text, sizeof text);
  return shmi_error(comm->abort_told, "rank %d: %s: destroy this communicator and create another", comm->rank, text);
}

/* Unlike raise, from any thread: leaves abort_told to the owner, who will find the line. */
shmccl_result_t shmccl_comm_abort(shmccl_comm_t *comm) {
  SHMI_RETURN_IF_ERROR(shmi_comm_check(comm));
  write_line(comm, SHMCCL_ERROR_ABORTED, comm->rank, NULL);
  return SHMCCL_SUCCESS;
}
