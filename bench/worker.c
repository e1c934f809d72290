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

static bool open_on_gpu(struct worker *worker) {
  const struct buffer buffers[] = {worker->send, worker->recv};
  worker->gpu = gpu_open(buffers, worker->error);
  return worker->gpu;
}

bool worker_open(struct worker *worker, size_t max_bytes, bool on_gpu) {
  worker->each = malloc(EACH_MOST * sizeof *worker->each);
  if (worker->each && buffer_open(&worker->send, max_bytes) && buffer_open(&worker->recv, max_bytes))
    return !on_gpu || open_on_gpu(worker);
  snprintf(worker->error, sizeof worker->error, "no memory for its buffers: lower -e");
  return false;
}

static void free_scratch(struct worker *worker) {
  gpu_link_close(worker->gpu);
  for (int i = 0; i < 2; i++) buffer_close(&worker->scratch[i]);
}

void worker_close(struct worker *worker) {
  free_scratch(worker);
  gpu_close(worker->gpu);
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

/* ---- runs, on host memory or on a GPU, where they are only enqueued -----------------------------------------------
 */

static struct placement on_device(const struct worker *worker, struct placement place) {
  if (!worker->gpu) return place;
  return (struct placement){gpu_twin(worker->gpu, place.send), gpu_twin(worker->gpu, place.recv)};
}

/* Why the last call failed: the communicator's word or the GPU's. */
static struct reply failed_run(const struct worker *worker) {
  return failed(*worker->error ? worker->error : worker->backend.error);
}

static bool run_many(struct worker *worker, const struct point *point, struct placement place, uint64_t count) {
  struct backend *backend = &worker->backend;
  for (uint64_t i = 0; i < count; i++)
    if (!backend->ops->run(backend, point, place.send, place.recv)) return false;
  return true;
}

/* All that was enqueued is done, and no rank has anything against it. */
static bool settle(struct worker *worker) {
  return (!worker->gpu || gpu_wait(worker->gpu)) && worker->backend.ops->barrier(&worker->backend);
}

static bool capture(struct worker *worker, const struct point *point, struct placement place, uint64_t count) {
  if (!gpu_capture_begin(worker->gpu)) return false;
  bool done = run_many(worker, point, place, count);
  return gpu_capture_end(worker->gpu) && done;
}

static bool run_once(struct worker *worker, const struct command *command, struct placement place) {
  if (!command->graphs) return run_many(worker, &command->point, place, 1);
  return capture(worker, &command->point, place, 1) && gpu_replay(worker->gpu, 1);
}

static bool check_on_gpu(struct worker *worker, const struct command *command, struct placement place, size_t bytes) {
  return gpu_push(worker->gpu, bytes) && run_once(worker, command, on_device(worker, place)) && settle(worker) &&
         gpu_pull(worker->gpu, bytes);
}

static struct reply do_check(struct worker *worker, const struct command *command) {
  const struct point *point = &command->point;
  struct backend *backend = &worker->backend;
  if (!patterns_prepare(&worker->patterns, backend->nranks, point->type, point->op)) return failed("out of memory");
  struct point whole = *point; /* a group's messages are the pieces of one long message */
  whole.count *= (uint64_t)point->messages;
  struct trial trial = trial_of(worker, &whole);
  struct placement place = verify_placement(&trial);
  verify_fill(&trial);
  bool ran = worker->gpu
                 ? check_on_gpu(worker, command, place, (size_t)point->offset + point_size(&whole, backend->nranks))
                 : run_once(worker, command, place);
  if (!ran) return failed_run(worker);
  struct verdict verdict = verify_check(&trial);
  struct reply reply = {.wrong = verdict.wrong};
  memcpy(reply.text, verdict.text, sizeof verdict.text);
  return reply;
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

/* By the GPU's clock, between marks in its stream. */
static bool run_marked(struct worker *worker, const struct command *command, struct placement place, double *seconds) {
  const bool each = command->each;
  bool good = gpu_mark(worker->gpu);
  if (command->graphs) good = good && gpu_replay(worker->gpu, command->graphs);
  for (uint64_t i = 0; i < command->iters && good && each; i++)
    good = run_many(worker, &command->point, place, 1) && gpu_mark(worker->gpu);
  if (!command->graphs && !each) good = good && run_many(worker, &command->point, place, command->iters);
  if (good && !each) good = gpu_mark(worker->gpu);
  return good && gpu_read_marks(worker->gpu, seconds, each ? worker->each : NULL) && settle(worker);
}

/* A graph's first replay is not timed: it also brings the graph to the GPU. */
static struct reply time_on_gpu(struct worker *worker, const struct command *command, struct placement place) {
  const struct point *point = &command->point;
  const double calls = (double)command->iters * point->messages * (command->graphs ? (double)command->graphs : 1);
  double seconds;
  place = on_device(worker, place);
  if (!run_many(worker, point, place, command->warmup)) return failed_run(worker);
  if (command->graphs && !(capture(worker, point, place, command->iters) && gpu_replay(worker->gpu, 1)))
    return failed_run(worker);
  if (!settle(worker) || !run_marked(worker, command, place, &seconds)) return failed_run(worker);
  for (uint64_t i = 0; i < command->iters && command->each; i++) worker->each[i] /= (float)point->messages;
  return (struct reply){.seconds = seconds / calls};
}

static struct reply do_time(struct worker *worker, const struct command *command) {
  struct backend *backend = &worker->backend;
  struct trial trial = trial_of(worker, &command->point);
  struct placement place = verify_placement(&trial);
  if (worker->gpu) return time_on_gpu(worker, command, place);
  if (!run_many(worker, &command->point, place, command->warmup) || !backend->ops->barrier(backend))
    return failed(backend->error);
  double start = seconds_now();
  bool done = command->each ? run_each(worker, &command->point, place, command->iters)
                            : run_many(worker, &command->point, place, command->iters);
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

/* Where less memory can be pinned, the time for less is scaled. */
static struct reply do_link(struct worker *worker, const struct command *command) {
  struct backend *backend = &worker->backend;
  bool copies = command->copiers >> backend->rank & 1;
  size_t bytes = copies ? gpu_link_open(worker->gpu, command->bytes) : 0;
  double seconds = 0;
  if (copies && !bytes) return failed(worker->error);
  worker->error[0] = 0; /* of a try for more than could be pinned */
  if (bytes > command->bytes) bytes = command->bytes;
  if (!backend->ops->barrier(backend)) return failed(backend->error);
  if (!copies) return (struct reply){0};
  if (!gpu_time_link(worker->gpu, command->direction, bytes, command->iters, &seconds)) return failed(worker->error);
  return (struct reply){.seconds = seconds * (double)command->bytes / (double)bytes};
}

struct reply worker_do(struct worker *worker, const struct command *command) {
  if (command->kind == COMMAND_COPY) return do_copy(worker, command);
  if (command->kind == COMMAND_LINK) return do_link(worker, command);
  free_scratch(worker);
  if (!worker->backend.ops->supports(&command->point)) return (struct reply){.status = REPLY_UNSUPPORTED};
  return command->kind == COMMAND_CHECK ? do_check(worker, command) : do_time(worker, command);
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
