/*
 * test_trouble.c - what goes wrong on device memory: misuse, ranks that disagree, do not come, die or leave while
 * kernels wait for them, as plain calls and in graphs. Each has its code and its one line, in time, and leaves nothing.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <threads.h>
#include <unistd.h>

#include "trouble_on_device.h"

enum { COUNT = 5000 };

/* Far below the time limit, which would end the wait too; the bound itself, a second, is for machines that do nothing
 * else. */
static const uint64_t PROMPT_NS = 5000000000;

struct device_rank {
  shmccl_comm_t *comm;
  cudaStream_t stream;
  float *buffer;
};

static const shmccl_config_t quick = {.size = sizeof quick, .timeout_ms = 1500, .memory = SHMCCL_MEMORY_CUDA};
static const shmccl_config_t patient = {.size = sizeof patient, .timeout_ms = 60000, .memory = SHMCCL_MEMORY_CUDA};

static int device_count(void) {
  int devices = 1;
  OK(cudaGetDeviceCount(&devices));
  return devices;
}

static struct device_rank begin(const struct tr_job *job, int rank, const shmccl_config_t *config) {
  struct device_rank r = {0};
  void *buffer = NULL;
  OK(cudaSetDevice(rank % device_count()));
  OK(cudaStreamCreateWithFlags(&r.stream, cudaStreamNonBlocking));
  OK(cudaMalloc(&buffer, COUNT * sizeof *r.buffer));
  OK(cudaMemset(buffer, 0, COUNT * sizeof *r.buffer));
  r.buffer = buffer;
  r.comm = tr_join_comm(job, rank, config);
  return r;
}

/* Destroying may have left the rest to a thread. */
static void check_nothing_left(void) {
  struct standin_stats s = standin_stats();
  for (int i = 0; i < 200 && (s.host_ranges || s.device_ranges || s.events); i++) tr_sleep_ms(10), s = standin_stats();
  tr_sleep_ms(20);
  CHECK(!s.device_ranges && !s.host_ranges && !s.streams && !s.events && !s.graphs && !s.graph_execs,
        "%ld device, %ld host ranges, %ld streams, %ld events", s.device_ranges, s.host_ranges, s.streams, s.events);
}

/* Also after a device error, in which freeing fails but nothing of the library may be left. */
static void end(struct device_rank *r) {
  EXPECT_OK(shmccl_comm_destroy(r->comm));
  cudaStreamDestroy(r->stream);
  cudaFree(r->buffer);
  check_nothing_left();
}

static shmccl_result_t allreduce(const struct device_rank *r, size_t count) {
  return shmccl_allreduce(r->buffer, r->buffer, count, SHMCCL_FLOAT32, SHMCCL_SUM, r->comm, r->stream);
}

/* ---- misuse ------------------------------------------------------------------------------------------------------ */

/* Buffers and streams of the other rank's GPU. */
static void misuse_of_another_gpu(struct device_rank *r, int rank) {
  void *other, *stream_of_other;
  OK(cudaSetDevice(1 - rank));
  OK(cudaMalloc(&other, 64));
  OK(cudaStreamCreate((cudaStream_t *)&stream_of_other));
  OK(cudaSetDevice(rank));
  EXPECT(shmccl_allreduce(other, other, 4, SHMCCL_FLOAT32, SHMCCL_SUM, r->comm, r->stream),
         SHMCCL_ERROR_INVALID_ARGUMENT, "another GPU|device");
  EXPECT(shmccl_allreduce(r->buffer, r->buffer, 4, SHMCCL_FLOAT32, SHMCCL_SUM, r->comm, stream_of_other),
         SHMCCL_ERROR_CUDA, "launching|stream");
  OK(cudaSetDevice(1 - rank));
  OK(cudaFree(other));
  OK(cudaStreamDestroy(stream_of_other));
  OK(cudaSetDevice(rank));
}

static void misuse(struct tr_job *job, int rank) {
  struct device_rank r = begin(job, rank, &patient);
  float host[4] = {0};
  EXPECT(shmccl_allreduce(host, r.buffer, 4, SHMCCL_FLOAT32, SHMCCL_SUM, r.comm, r.stream),
         SHMCCL_ERROR_INVALID_ARGUMENT, "host memory|two of a kind");
  EXPECT(shmccl_allreduce(host, host, 4, SHMCCL_FLOAT32, SHMCCL_SUM, r.comm, r.stream), SHMCCL_ERROR_INVALID_ARGUMENT,
         "stream|pass NULL");
  EXPECT(shmccl_allreduce(r.buffer, r.buffer + 1, 4, SHMCCL_FLOAT32, SHMCCL_SUM, r.comm, r.stream),
         SHMCCL_ERROR_INVALID_ARGUMENT, "overlap");
  if (device_count() > 1) misuse_of_another_gpu(&r, rank);
  EXPECT_OK(allreduce(&r, COUNT)); /* the communicator is as good as ever */
  OK(cudaStreamSynchronize(r.stream));
  EXPECT_OK(shmccl_allreduce(host, host, 4, SHMCCL_FLOAT32, SHMCCL_SUM, r.comm, NULL));
  if (device_count() > 1) misuse_of_another_gpu(&r, rank);
  end(&r);
}

static void host_only(struct tr_job *job, int rank) {
  const shmccl_config_t config = {.size = sizeof config, .memory = SHMCCL_MEMORY_HOST};
  struct device_rank r = begin(job, rank, &config);
  EXPECT(allreduce(&r, 4), SHMCCL_ERROR_INVALID_ARGUMENT, "host memory only");
  end(&r);
}

/* ---- disagreement ------------------------------------------------------------------------------------------------ */

/* It comes from the watchdog, which a busy machine may let wait. */
static void expect_line(const char *words) {
  char text[2048];
  int lines = 0;
  for (int i = 0; i < 50 && !lines; i++) tr_sleep_ms(100), lines = tr_caught(text, sizeof text);
  CHECK(lines == 1 && strstr(text, words), "expected one line with '%s', not: %s", words, text);
}

static void disagree(struct tr_job *job, int rank) {
  struct device_rank r = begin(job, rank, &patient);
  CHECK(allreduce(&r, 100 + (size_t)rank) == SHMCCL_SUCCESS, "enqueue");
  OK(cudaStreamSynchronize(r.stream));
  CHECK(next_error(r.comm) == SHMCCL_ERROR_MISMATCH, "the mismatch is not told");
  expect_line("allreduce of 101 float32");
  EXPECT_AGAIN(allreduce(&r, 4), SHMCCL_ERROR_MISMATCH);
  end(&r);
}

static void kinds_disagree(struct tr_job *job, int rank) {
  struct device_rank r = begin(job, rank, &patient);
  float host[4] = {0};
  if (rank == 0) {
    EXPECT(shmccl_allreduce(host, host, 4, SHMCCL_FLOAT32, SHMCCL_SUM, r.comm, NULL), SHMCCL_ERROR_MISMATCH,
           "host memory|rank 1|device memory");
  } else {
    CHECK(allreduce(&r, 4) == SHMCCL_SUCCESS, "enqueue");
    OK(cudaStreamSynchronize(r.stream));
    CHECK(next_error(r.comm) == SHMCCL_ERROR_MISMATCH, "the mismatch is not told");
    expect_line("disagree");
  }
  end(&r);
}

static shmccl_result_t message(const struct device_rank *r, int rank, size_t count) {
  return rank == 0 ? shmccl_send(r->buffer, count, SHMCCL_FLOAT32, 1, r->comm, r->stream)
                   : shmccl_recv(r->buffer, count, SHMCCL_FLOAT32, 0, r->comm, r->stream);
}

/* Behind one that is right. */
static void messages_disagree(struct tr_job *job, int rank) {
  struct device_rank r = begin(job, rank, &patient);
  CHECK(message(&r, rank, COUNT) == SHMCCL_SUCCESS, "enqueue");
  CHECK(message(&r, rank, 100 + (size_t)rank) == SHMCCL_SUCCESS, "enqueue");
  OK(cudaStreamSynchronize(r.stream));
  CHECK(next_error(r.comm) == SHMCCL_ERROR_MISMATCH, "the mismatch is not told");
  expect_line(rank ? "rank 1 receives 101 float32 from rank 0, which sent 100 float32"
                   : "rank 1 found that ranks disagree");
  EXPECT_AGAIN(message(&r, rank, 4), SHMCCL_ERROR_MISMATCH);
  end(&r);
}

/* ---- absence ----------------------------------------------------------------------------------------------------- */

static void late(struct tr_job *job, int rank) {
  struct device_rank r = begin(job, rank, &quick);
  if (rank == 0) {
    CHECK(allreduce(&r, COUNT) == SHMCCL_SUCCESS, "enqueue");
    OK(cudaStreamSynchronize(r.stream));
    CHECK(next_error(r.comm) == SHMCCL_ERROR_TIMEOUT, "the time limit is not told");
    expect_line("allreduce waited 1500 ms for rank 1");
  } else {
    tr_sleep_ms(3000);
    EXPECT(allreduce(&r, COUNT), SHMCCL_ERROR_TIMEOUT, "rank 1 did not come");
  }
  end(&r);
}

static void late_sender(struct tr_job *job, int rank) {
  struct device_rank r = begin(job, rank, &quick);
  if (rank == 1) {
    CHECK(message(&r, 1, COUNT) == SHMCCL_SUCCESS, "enqueue");
    OK(cudaStreamSynchronize(r.stream));
    CHECK(next_error(r.comm) == SHMCCL_ERROR_TIMEOUT, "the time limit is not told");
    expect_line("send/recv waited 1500 ms for rank 0");
  } else {
    CHECK(next_error(r.comm) == SHMCCL_ERROR_TIMEOUT, "the time limit is not told");
    expect_line("rank 0 did not come");
    EXPECT_AGAIN(message(&r, 0, COUNT), SHMCCL_ERROR_TIMEOUT);
  }
  end(&r);
}

/* The rank's phase: 1 when its kernel waits. */
static void victim_dies(struct tr_job *job, int rank) {
  struct device_rank r = begin(job, rank, &patient);
  if (rank == 1) {
    tr_await(&job->slots[0].phase, 1);
    raise(SIGKILL);
  }
  CHECK(allreduce(&r, COUNT) == SHMCCL_SUCCESS, "enqueue");
  tr_sleep_ms(50);
  tr_set(&job->slots[0].phase, 1);
  const uint64_t start = tr_now_ns();
  OK(cudaStreamSynchronize(r.stream));
  CHECK(next_error(r.comm) == SHMCCL_ERROR_PEER_DIED, "the death is not told");
  CHECK(tr_now_ns() - start < PROMPT_NS, "told after %llu ms", (unsigned long long)(tr_now_ns() - start) / 1000000);
  expect_line("rank 1");
  EXPECT_AGAIN(allreduce(&r, 4), SHMCCL_ERROR_PEER_DIED);
  end(&r);
}

static cudaGraphExec_t capture(struct device_rank *r) {
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  OK(cudaStreamBeginCapture(r->stream, cudaStreamCaptureModeGlobal));
  EXPECT_OK(allreduce(r, COUNT));
  OK(cudaStreamEndCapture(r->stream, &graph));
  OK(cudaGraphInstantiate(&exec, graph, 0));
  OK(cudaGraphDestroy(graph));
  return exec;
}

/* Replays one more time than the victim: the result of that one must not pass as good. */
static void victim_dies_under_graph(struct tr_job *job, int rank) {
  struct device_rank r = begin(job, rank, &patient);
  cudaGraphExec_t exec = capture(&r);
  for (int i = 0; i < 3; i++) {
    OK(cudaGraphLaunch(exec, r.stream));
    OK(cudaStreamSynchronize(r.stream));
  }
  if (rank == 1) raise(SIGKILL);
  OK(cudaGraphLaunch(exec, r.stream));
  const uint64_t start = tr_now_ns();
  CHECK(cudaStreamSynchronize(r.stream) != cudaSuccess, "an aborted replay passes as good");
  CHECK(tr_now_ns() - start < PROMPT_NS, "after %llu ms", (unsigned long long)(tr_now_ns() - start) / 1000000);
  CHECK(next_error(r.comm) == SHMCCL_ERROR_PEER_DIED, "the death is not told");
  expect_line("rank 1");
  EXPECT_OK(shmccl_comm_destroy(r.comm));
}

/* A receiver replays once more than its sender sends. */
static void messages_run_out(struct tr_job *job, int rank) {
  struct device_rank r = begin(job, rank, &quick);
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  OK(cudaStreamBeginCapture(r.stream, cudaStreamCaptureModeGlobal));
  EXPECT_OK(message(&r, rank, COUNT));
  OK(cudaStreamEndCapture(r.stream, &graph));
  OK(cudaGraphInstantiate(&exec, graph, 0));
  OK(cudaGraphDestroy(graph));
  for (int i = 0; i < 3; i++) OK(cudaGraphLaunch(exec, r.stream));
  OK(cudaStreamSynchronize(r.stream));
  if (rank == 1) {
    OK(cudaGraphLaunch(exec, r.stream));
    CHECK(cudaStreamSynchronize(r.stream) != cudaSuccess, "an aborted replay passes as good");
  }
  CHECK(next_error(r.comm) == SHMCCL_ERROR_TIMEOUT, "the time limit is not told");
  expect_line(rank ? "send/recv waited 1500 ms for rank 0" : "rank 0 did not come");
  EXPECT_OK(shmccl_comm_destroy(r.comm));
}

static int abort_soon(void *comm) {
  tr_sleep_ms(50);
  EXPECT_OK(shmccl_comm_abort(comm));
  return 0;
}

static void aborted(struct tr_job *job, int rank) {
  struct device_rank r = begin(job, rank, &patient);
  thrd_t thread;
  if (rank == 0) {
    CHECK(allreduce(&r, COUNT) == SHMCCL_SUCCESS, "enqueue");
    CHECK(thrd_create(&thread, abort_soon, r.comm) == thrd_success, "thread");
    OK(cudaStreamSynchronize(r.stream));
    thrd_join(thread, NULL);
  }
  CHECK(next_error(r.comm) == SHMCCL_ERROR_ABORTED, "the abort is not told");
  expect_line("shmccl_comm_abort");
  EXPECT_AGAIN(allreduce(&r, 4), SHMCCL_ERROR_ABORTED);
  end(&r);
}

/* Destroying while a kernel waits returns; the kernel completes when the other rank comes, and what it needs stays. */
static void destroyed_early(struct tr_job *job, int rank) {
  struct device_rank r = begin(job, rank, &patient);
  float one = 1, sum;
  OK(cudaMemcpy(r.buffer, &one, sizeof one, cudaMemcpyHostToDevice));
  if (rank == 1) tr_await(&job->slots[0].phase, 1);
  CHECK(allreduce(&r, 1) == SHMCCL_SUCCESS, "enqueue");
  if (rank == 0) {
    const uint64_t start = tr_now_ns();
    EXPECT_OK(shmccl_comm_destroy(r.comm));
    CHECK(tr_now_ns() - start < PROMPT_NS, "destroy took %llu ms", (unsigned long long)(tr_now_ns() - start) / 1000000);
    tr_set(&job->slots[0].phase, 1);
  }
  OK(cudaStreamSynchronize(r.stream));
  OK(cudaMemcpy(&sum, r.buffer, sizeof sum, cudaMemcpyDeviceToHost));
  CHECK(sum == 2, "the sum is %g", (double)sum);
  if (rank == 1) EXPECT_OK(shmccl_comm_destroy(r.comm));
  cudaStreamDestroy(r.stream);
  cudaFree(r.buffer);
  check_nothing_left();
}

/* Large calls: one rank captures, and does not even replay. */
static void captures_disagree(struct tr_job *job, int rank) {
  struct device_rank r = begin(job, rank, &patient);
  EXPECT_OK(allreduce(&r, COUNT));
  OK(cudaStreamSynchronize(r.stream));
  if (rank == 0)
    OK(cudaGraphExecDestroy(capture(&r)));
  else
    EXPECT_OK(allreduce(&r, COUNT));
  CHECK(next_error(r.comm) == SHMCCL_ERROR_MISMATCH, "the mismatch is not told");
  OK(cudaStreamSynchronize(r.stream));
  expect_line("disagree");
  EXPECT_AGAIN(allreduce(&r, 4), SHMCCL_ERROR_MISMATCH);
  end(&r);
}

static void run_all(void) {
  tr_run(2, misuse, NULL);
  tr_run(2, host_only, NULL);
  tr_run(2, disagree, NULL);
  tr_run(2, kinds_disagree, NULL);
  tr_run(2, messages_disagree, NULL);
  if (getenv("SHMCCL_ENGINE_BYTES")) tr_run(2, captures_disagree, NULL);
  tr_run(2, late, NULL);
  tr_run(2, late_sender, NULL);
  tr_run(2, aborted, NULL);
  tr_run(2, destroyed_early, NULL);
}

static void run_with_victim(tr_rank_fn fn) {
  struct tr_job job;
  tr_start(&job, 2, fn, NULL);
  tr_join(&job, 1u << 1);
}

int main(void) {
  tr_begin();
  run_all();
  run_with_victim(victim_dies);
  /* On a broken device the stand-in, as CUDA, refuses to unregister: its second mapping of the segment would stay. */
  if (!getenv("STANDIN_HOST_ALIAS")) {
    run_with_victim(victim_dies_under_graph);
    tr_run(2, messages_run_out, NULL);
  }
  return tr_end();
}
