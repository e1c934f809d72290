/*
 * Commands to a party's ranks, and what becomes of them.
 */
#include "party.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

/* Longer than the library's own limit: it has the first word on what went wrong. */
static const double REPLY_SECONDS = 660;

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
  return party_fail(party, "%s%s%s", what, *last ? "; mpirun's last words: " : "", last);
}

/* A rank's socket has closed: find out why. */
static enum party_result fail_by_death(struct party *party, int rank) {
  char what[64];
  int status;
  pid_t *pid = party->pids[rank] ? &party->pids[rank] : &party->pids[0], ended = *pid;
  if (!party->mpirun) {
    if (!*pid || !party_reap(*pid, 1, &status)) return party_fail(party, "rank %d ended", rank);
    *pid = 0;
    return fail_by_status(party, rank, ended, status);
  }
  snprintf(what, sizeof what, "rank %d (pid %d) ended", rank, (int)party->pids[rank]);
  return party_fail_with_log(party, what);
}

enum party_result party_receive(struct party *party, void *messages, size_t size, double limit_seconds) {
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
      if (recv(fds[r].fd, (char *)messages + (size_t)r * size, size, 0) != (ssize_t)size)
        return fail_by_death(party, r);
      fds[r].fd = -1;
      pending--;
    }
  }
  return PARTY_OK;
}

static enum party_result summarize(struct party *party, const struct reply *replies, struct outcome *outcome) {
  *outcome = (struct outcome){.supported = true};
  for (int r = 0; r < party->nranks; r++) {
    const struct reply *reply = &replies[r];
    if (reply->status == REPLY_FAILED) return party_fail(party, "rank %d: %s", r, reply->text);
    if (reply->status == REPLY_UNSUPPORTED) outcome->supported = false;
    if (reply->wrong && !outcome->wrong) memcpy(outcome->text, reply->text, sizeof outcome->text);
    outcome->wrong += reply->wrong;
    outcome->seconds += reply->seconds / party->nranks;
    if (reply->seconds > outcome->slowest) outcome->slowest = reply->seconds;
  }
  return PARTY_OK;
}

static enum party_result do_joined(struct party *party, const struct command *command, struct reply *replies) {
  struct reply mine = worker_do(party->local, command);
  if (mine.status == REPLY_FAILED) return party_fail(party, "rank %d: %s", party->local->backend.rank, mine.text);
  if (!backend_shmccl_share(&party->local->backend, &mine, replies, sizeof mine))
    return party_fail(party, "rank %d: %s", party->local->backend.rank, party->local->backend.error);
  return PARTY_OK;
}

enum party_result party_do(struct party *party, const struct command *command, struct outcome *outcome) {
  struct reply replies[SHMCCL_MAX_RANKS];
  enum party_result result;
  if (party->local) {
    result = do_joined(party, command, replies);
  } else {
    /* A rank that is gone already shows when its reply is due. */
    for (int r = 0; r < party->nranks; r++) send(party->fds[r], command, sizeof *command, MSG_NOSIGNAL);
    result = party_receive(party, replies, sizeof *replies, REPLY_SECONDS);
  }
  return result == PARTY_OK ? summarize(party, replies, outcome) : result;
}
