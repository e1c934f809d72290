/*
 * Commands to a party's ranks, and what becomes of them.
 */
#include "party.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

volatile sig_atomic_t party_signal;

enum party_result party_fail(struct party *party, const char *format, ...) {
  va_list args;
  va_start(args, format);
  vsnprintf(party->error, sizeof party->error, format, args);
  va_end(args);
  return PARTY_FAILED;
}

int party_poll(struct pollfd *fds, int count, double limit_seconds) {
  struct timespec limit = {.tv_sec = (time_t)limit_seconds,
                           .tv_nsec = (long)(1e9 * (limit_seconds - (double)(time_t)limit_seconds))};
  sigset_t none;
  sigemptyset(&none);
  int ready = ppoll(fds, (nfds_t)count, &limit, &none);
  if (party_signal) return -1;
  return ready < 0 ? 0 : ready;
}

bool party_reap(pid_t pid, double limit_seconds, int *status) {
  const struct timespec pause = {.tv_nsec = 2000000};
  for (double end = seconds_now() + limit_seconds;; nanosleep(&pause, NULL)) {
    pid_t result = waitpid(pid, status, WNOHANG);
    if (result == pid) return true;
    if (result < 0 && errno != EINTR) return *status = 0, true;
    if (seconds_now() >= end) return false;
  }
}

static enum party_result fail_by_status(struct party *party, int rank, pid_t pid, int status) {
  if (WIFSIGNALED(status))
    return party_fail(party, "rank %d (pid %d) was killed by signal %d (%s)", rank, (int)pid, WTERMSIG(status),
                      strsignal(WTERMSIG(status)));
  return party_fail(party, "rank %d (pid %d) ended with exit code %d", rank, (int)pid, WEXITSTATUS(status));
}

/* The last line of its log that says anything. */
enum party_result party_fail_with_log(struct party *party, const char *what) {
  char line[256], last[256] = "";
  FILE *file = fopen(party->log, "re");
  while (file && fgets(line, sizeof line, file)) {
    line[strcspn(line, "\n")] = '\0';
    if (line[strspn(line, " -*=")]) memcpy(last, line, sizeof last);
  }
  if (file) fclose(file);
  return party_fail(party, "%s%s%s", what, *last ? "; last words: " : "", last);
}

/* A rank's socket has closed: find out why. */
static enum party_result fail_by_death(struct party *party, int rank) {
  char what[64];
  int status;
  pid_t *pid = party->pids[rank] ? &party->pids[rank] : &party->pids[0], ended = *pid;
  if (!party->launcher && !*party->log) {
    if (!*pid || !party_reap(*pid, 1, &status)) return party_fail(party, "rank %d ended", rank);
    *pid = 0;
    return fail_by_status(party, rank, ended, status);
  }
  snprintf(what, sizeof what, "rank %d (pid %d) ended", rank, (int)party->pids[rank]);
  return party_fail_with_log(party, what);
}

/* look: NULL, or sees each message as it comes; what it returns ends the wait unless it is PARTY_OK. */
static enum party_result receive(struct party *party, void *messages, size_t size, double limit_seconds,
                                 enum party_result (*look)(struct party *, int, const void *)) {
  struct pollfd fds[SHMCCL_MAX_RANKS];
  int pending = party->nranks;
  for (int r = 0; r < party->nranks; r++) fds[r] = (struct pollfd){.fd = party->fds[r], .events = POLLIN};
  for (double end = seconds_now() + limit_seconds; pending;) {
    double left = end - seconds_now();
    if (left <= 0)
      return party_fail(party, "%d of %d ranks did not answer within %.0f s", pending, party->nranks, limit_seconds);
    if (party_poll(fds, party->nranks, left) < 0) return PARTY_INTERRUPTED;
    for (int r = 0; r < party->nranks; r++) {
      if (fds[r].fd < 0 || !fds[r].revents) continue;
      void *message = (char *)messages + (size_t)r * size;
      if (recv(fds[r].fd, message, size, 0) != (ssize_t)size) return fail_by_death(party, r);
      enum party_result result = look ? look(party, r, message) : PARTY_OK;
      if (result != PARTY_OK) return result;
      fds[r].fd = -1;
      pending--;
    }
  }
  return PARTY_OK;
}

enum party_result party_receive(struct party *party, void *messages, size_t size, double limit_seconds) {
  return receive(party, messages, size, limit_seconds, NULL);
}

/* The others may wait for a rank that has failed, for as long as their library does: nobody waits for them. */
static enum party_result look_for_failure(struct party *party, int rank, const void *message) {
  const struct reply *reply = message;
  return reply->status == REPLY_FAILED ? party_fail(party, "rank %d: %s", rank, reply->text) : PARTY_OK;
}

/* What rank's value makes of the value of the ranks before it. */
static double combine(const struct party *party, double before, int rank, double value) {
  switch (rank ? party->average : AVERAGE_RANK0) {
  case AVERAGE_MEAN: return before + (value - before) / (rank + 1);
  case AVERAGE_MIN: return fmin(before, value);
  case AVERAGE_MAX: return fmax(before, value);
  default: return rank ? before : value;
  }
}

static void sum_up(const struct party *party, const struct reply *replies, struct outcome *outcome) {
  *outcome = (struct outcome){.supported = true};
  for (int r = 0; r < party->nranks; r++) {
    const struct reply *reply = &replies[r];
    if (reply->status == REPLY_UNSUPPORTED) outcome->supported = false;
    if (reply->wrong && !outcome->wrong) memcpy(outcome->text, reply->text, sizeof outcome->text);
    outcome->wrong += reply->wrong;
    outcome->seconds = combine(party, outcome->seconds, r, reply->seconds);
    if (reply->seconds > outcome->slowest) outcome->slowest = reply->seconds;
  }
}

static enum party_result share(struct party *party, const void *mine, void *all, size_t bytes) {
  struct backend *backend = &party->local->backend;
  if (backend_shmccl_share(backend, mine, all, bytes)) return PARTY_OK;
  return party_fail(party, "rank %d: %s", backend->rank, backend->error);
}

static enum party_result do_joined(struct party *party, const struct command *command, struct reply *replies) {
  struct reply mine = worker_do(party->local, command);
  if (mine.status == REPLY_FAILED) {
    backend_shmccl_abort(&party->local->backend); /* the others wait for this rank */
    return party_fail(party, "rank %d: %s", party->local->backend.rank, mine.text);
  }
  return share(party, &mine, replies, sizeof mine);
}

/* The samples that follow the replies, from all ranks, made one row of. */
static enum party_result collect_each(struct party *party, size_t count, double *each) {
  float *samples = malloc(count * sizeof *samples * (size_t)party->nranks);
  if (!samples) return party_fail(party, "out of memory");
  enum party_result result = party->local
                                 ? share(party, party->local->each, samples, count * sizeof *samples)
                                 : party_receive(party, samples, count * sizeof *samples, party->limit_seconds);
  for (size_t i = 0; i < count && result == PARTY_OK; i++)
    for (int r = 0; r < party->nranks; r++)
      each[i] = combine(party, each[i], r, (double)samples[(size_t)r * count + i]);
  free(samples);
  return result;
}

enum party_result party_do_each(struct party *party, const struct command *command, struct outcome *outcome,
                                double *each) {
  struct reply replies[SHMCCL_MAX_RANKS];
  enum party_result result;
  if (party->local) {
    result = do_joined(party, command, replies);
  } else {
    /* A rank that is gone already shows when its reply is due. */
    for (int r = 0; r < party->nranks; r++) send(party->fds[r], command, sizeof *command, MSG_NOSIGNAL);
    result = receive(party, replies, sizeof *replies, party->limit_seconds, look_for_failure);
  }
  if (result == PARTY_OK) sum_up(party, replies, outcome);
  if (result == PARTY_OK && command->each && outcome->supported) return collect_each(party, command->iters, each);
  return result;
}

enum party_result party_do(struct party *party, const struct command *command, struct outcome *outcome) {
  return party_do_each(party, command, outcome, NULL);
}
