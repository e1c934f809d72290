/*
 * The measuring loop and what surrounds it; the same code for this library and for every peer.
 */
#include "worker.h"

#include "copy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

double seconds_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void worker_pin(const cpu_set_t *cpus, int index) {
  cpu_set_t one;
  CPU_ZERO(&one);
  for (int cpu = 0, seen = 0; cpu < CPU_SETSIZE; cpu++)
    if (CPU_ISSET(cpu, cpus) && seen++ == index) CPU_SET(cpu, &one);
  if (CPU_COUNT(&one) == 1) sched_setaffinity(0, sizeof one, &one);
}

bool worker_open(struct worker *worker, size_t max_bytes) {
  worker->each = malloc(EACH_MOST * sizeof *worker->each);
  return worker->each && buffer_open(&worker->send, max_bytes) && buffer_open(&worker->recv, max_bytes);
}

static void free_scratch(struct worker *worker) {
  for (int i = 0; i < 2; i++) buffer_close(&worker->scratch[i]);
}

void worker_close(struct worker *worker) {
  free_scratch(worker);
  free(worker->each);
  buffer_close(&worker->send);
  buffer_close(&worker->recv);
  patterns_free(&worker->patterns);
}

static struct reply failed(const char *cause) {
  struct reply reply = {.status = REPLY_FAILED};
  snprintf(reply.text, sizeof reply.text, "%s", cause);
  return reply;
}

static struct buffer shifted(struct buffer buffer, int offset) {
  return (struct buffer){buffer.data + offset, buffer.capacity - (size_t)offset};
}

static struct trial trial_of(struct worker *worker, const struct point *point) {
  const struct backend *backend = &worker->backend;
  return (struct trial){&worker->patterns,
                        point,
                        backend->rank,
                        backend->nranks,
                        shifted(worker->send, point->offset),
                        shifted(worker->recv, point->offset)};
}

static struct reply do_check(struct worker *worker, const struct point *point) {
  struct backend *backend = &worker->backend;
  if (!patterns_prepare(&worker->patterns, backend->nranks, point->type, point->op)) return failed("out of memory");
  struct point whole = *point; /* a group's messages are the pieces of one long message */
  whole.count *= (uint64_t)point->messages;
  struct trial trial = trial_of(worker, &whole);
  struct placement place = verify_placement(&trial);
  verify_fill(&trial);
  if (!backend->ops->run(backend, point, place.send, place.recv)) return failed(backend->error);
  struct verdict verdict = verify_check(&trial);
  struct reply reply = {.wrong = verdict.wrong};
  memcpy(reply.text, verdict.text, sizeof verdict.text);
  return reply;
}

static bool run_many(struct backend *backend, const struct point *point, struct placement place, uint64_t count) {
  for (uint64_t i = 0; i < count; i++)
    if (!backend->ops->run(backend, point, place.send, place.recv)) return false;
  return true;
}

/* The clock is read once an iteration, which is part of what is timed. */
static bool run_each(struct worker *worker, const struct point *point, struct placement place, uint64_t count) {
  struct backend *backend = &worker->backend;
  double before = seconds_now();
  for (uint64_t i = 0; i < count; i++) {
    if (!backend->ops->run(backend, point, place.send, place.recv)) return false;
    double now = seconds_now();
    worker->each[i] = (float)((now - before) / point->messages);
    before = now;
  }
  return true;
}

static struct reply do_time(struct worker *worker, const struct command *command) {
  struct backend *backend = &worker->backend;
  struct trial trial = trial_of(worker, &command->point);
  struct placement place = verify_placement(&trial);
  if (!run_many(backend, &command->point, place, command->warmup) || !backend->ops->barrier(backend))
    return failed(backend->error);
  double start = seconds_now();
  bool done = command->each ? run_each(worker, &command->point, place, command->iters)
                            : run_many(backend, &command->point, place, command->iters);
  if (!done) return failed(backend->error);
  return (struct reply){.seconds = (seconds_now() - start) / (double)command->iters / command->point.messages};
}

static struct reply do_copy(struct worker *worker, const struct command *command) {
  struct backend *backend = &worker->backend;
  struct buffer *scratch = worker->scratch;
  if (command->alone && backend->rank) return (struct reply){0};
  if (scratch[0].capacity < command->bytes) {
    free_scratch(worker);
    if (!buffer_open(&scratch[0], command->bytes) || !buffer_open(&scratch[1], command->bytes))
      return failed("out of memory");
  }
  copy_bytes(scratch[1].data, scratch[0].data, command->bytes, command->streaming);
  if (!command->alone && !backend->ops->barrier(backend)) return failed(backend->error);
  double start = seconds_now();
  for (uint64_t i = 0; i < command->iters; i++)
    copy_bytes(scratch[1].data, scratch[0].data, command->bytes, command->streaming);
  return (struct reply){.seconds = (seconds_now() - start) / (double)command->iters};
}

struct reply worker_do(struct worker *worker, const struct command *command) {
  if (command->kind == COMMAND_COPY) return do_copy(worker, command);
  free_scratch(worker);
  if (!worker->backend.ops->supports(&command->point)) return (struct reply){.status = REPLY_UNSUPPORTED};
  return command->kind == COMMAND_CHECK ? do_check(worker, &command->point) : do_time(worker, command);
}

bool worker_serve(struct worker *worker, int fd, const char *version) {
  struct hello hello = {.rank = worker->backend.rank, .pid = getpid()};
  struct command command;
  snprintf(hello.version, sizeof hello.version, "%s", version);
  send(fd, &hello, sizeof hello, MSG_NOSIGNAL);
  while (recv(fd, &command, sizeof command, 0) == sizeof command) {
    if (command.kind == COMMAND_QUIT) return true;
    struct reply reply = worker_do(worker, &command);
    if (send(fd, &reply, sizeof reply, MSG_NOSIGNAL) != sizeof reply) return false;
    ssize_t bytes = (ssize_t)(command.iters * sizeof *worker->each);
    bool each = command.kind == COMMAND_TIME && command.each && reply.status == REPLY_DONE;
    if (each && send(fd, worker->each, (size_t)bytes, MSG_NOSIGNAL) != bytes) return false;
  }
  return false;
}
