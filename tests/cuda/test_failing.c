/*
 * test_failing.c - every CUDA call of the library fails once, in turn, on one of two ranks: that rank gets a code and
 * one line with CUDA's text, or does without; the other one succeeds or is told; nothing is left on either.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trouble_on_device.h"

enum { COUNT = 3000 };

static const shmccl_config_t config = {.size = sizeof config, .timeout_ms = 2000, .memory = SHMCCL_MEMORY_CUDA};

struct fault {
  const char *function;
  unsigned long nth;
  bool leaves; /* what the call should have freed */
};

static const struct fault usually[] = {
    {"cudaGetDevice", 14, false},
    {"cudaThreadExchangeStreamCaptureMode", 12, true},
    {"cudaDeviceGetAttribute", 1, false},
    {"cudaFree", 1, false},
    {"cudaFuncGetAttributes", 4, false},
    {"cudaEventCreateWithFlags", 3, false},
    {"cudaHostRegister", 3, false},
    {"cudaHostGetDevicePointer", 4, false},
    {"cudaHostAlloc", 1, false},
    {"cudaMalloc", 3, false},
    {"cudaMemsetAsync", 3, false},
    {"cudaEventSynchronize", 3, false},
    {"cudaStreamCreateWithFlags", 3, false},
    {"cudaStreamSynchronize", 2, false},
    {"cudaStreamDestroy", 3, true},
    {"cudaPointerGetAttributes", 12, false},
    {"cudaStreamGetCaptureInfo", 7, false},
    {"cudaStreamWaitEvent", 3, false},
    {"cudaEventRecord", 7, false},
    {"cudaLaunchKernel", 6, false},
    {"cudaHostUnregister", 3, true},
    {"cudaFreeHost", 1, true},
    {"cudaEventDestroy", 3, true},
    {"cudaMemcpyAsync", 1, false},
};

/* Where copy engines carry the calls (SHMCCL_ENGINE_BYTES): what they add. The middle of a call is as good as another.
 */
static const struct fault with_engines[] = {
    {"cudaStreamGetCaptureInfo", 2, false}, {"cudaEventRecord", 9, false},  {"cudaStreamWaitEvent", 9, false},
    {"cudaMemcpyAsync", 3, false},          {"cudaLaunchKernel", 3, false},
};

static const struct fault *functions;
static size_t nfunctions;

struct setting {
  cudaStream_t streams[2];
  void *buffer;
};

static struct setting begin(int rank) {
  struct setting s;
  OK(cudaSetDevice(rank));
  for (int i = 0; i < 2; i++) OK(cudaStreamCreateWithFlags(&s.streams[i], cudaStreamNonBlocking));
  OK(cudaMalloc(&s.buffer, COUNT * sizeof(float)));
  return s;
}

static void end(struct setting *s, bool may_leave) {
  standin_fail(NULL, 0, cudaSuccess);
  for (int i = 0; i < 2; i++) cudaStreamDestroy(s->streams[i]);
  cudaFree(s->buffer);
  struct standin_stats left = standin_stats();
  /* Kernels may have been waiting for the other rank when the communicator was destroyed. */
  for (int i = 0; i < 200 && !may_leave && (left.host_ranges || left.events || left.streams); i++)
    tr_sleep_ms(10), left = standin_stats();
  CHECK(may_leave || (!left.device_ranges && !left.host_ranges && !left.streams && !left.events),
        "%ld device, %ld host ranges, %ld streams, %ld events are left", left.device_ranges, left.host_ranges,
        left.streams, left.events);
}

/* With the other rank and with itself. */
static shmccl_result_t exchange(const struct setting *s, shmccl_comm_t *comm, int rank, size_t count, void *stream) {
  const int peers[] = {1 - rank, rank};
  float *buffer = s->buffer;
  shmccl_result_t result = shmccl_group_start(comm);
  for (int i = 0; i < 2 && result == SHMCCL_SUCCESS; i++) {
    result = shmccl_send(buffer + 100 * i, count, SHMCCL_FLOAT32, peers[i], comm, stream);
    if (result == SHMCCL_SUCCESS)
      result = shmccl_recv(buffer + 500 + 100 * i, count, SHMCCL_FLOAT32, peers[i], comm, stream);
  }
  return result == SHMCCL_SUCCESS ? shmccl_group_end(comm) : result;
}

static shmccl_result_t use(const struct setting *s, shmccl_comm_t *comm, int rank) {
  shmccl_result_t result = SHMCCL_SUCCESS;
  for (int i = 0; i < 4 && result == SHMCCL_SUCCESS; i++)
    result = shmccl_allreduce(s->buffer, s->buffer, COUNT, SHMCCL_FLOAT32, SHMCCL_MAX, comm, s->streams[i / 2]);
  if (result == SHMCCL_SUCCESS) result = exchange(s, comm, rank, 100, s->streams[0]);
  if (result == SHMCCL_SUCCESS) result = exchange(s, comm, rank, 0, NULL);
  return result;
}

/* All that the library does with CUDA. */
static shmccl_result_t run(const struct tr_job *job, int rank, const struct setting *s) {
  shmccl_comm_t *comm = NULL;
  shmccl_result_t result = shmccl_comm_init_rank(&comm, job->nranks, &job->id, rank, &config);
  if (result == SHMCCL_SUCCESS) result = use(s, comm, rank);
  if (result == SHMCCL_SUCCESS) result = shmccl_comm_finalize(comm);
  shmccl_comm_destroy(comm);
  return result;
}

static void with_fault(struct tr_job *job, int rank) {
  const struct fault *f = job->argument;
  struct setting s = begin(rank);
  char text[4096];
  if (rank == 1) standin_fail(f->function, f->nth, cudaErrorUnknown);
  const shmccl_result_t result = run(job, rank, &s);
  const int lines = tr_caught(text, sizeof text);
  const bool warned = strstr(text, "channels could be registered") != NULL;
  CHECK(lines == (result != SHMCCL_SUCCESS) + warned, "call %lu of %s: %s, %d lines: %s", f->nth, f->function,
        shmccl_error_string(result), lines, text);
  if (rank == 1 && result == SHMCCL_ERROR_CUDA)
    CHECK(strstr(text, "unknown error"), "call %lu of %s: %s", f->nth, f->function, text);
  end(&s, rank == 1 && f->leaves);
}

/* The list below names every call: as often as it is made here. */
static void without_fault(struct tr_job *job, int rank) {
  unsigned long before[LENGTH(usually)];
  struct setting s = begin(rank);
  for (size_t i = 0; i < nfunctions; i++) before[i] = standin_calls(functions[i].function);
  EXPECT_OK(run(job, rank, &s));
  for (size_t i = 0; i < nfunctions; i++) {
    const unsigned long calls = standin_calls(functions[i].function) - before[i];
    CHECK(calls && calls >= functions[i].nth, "%s was called %lu times", functions[i].function, calls);
  }
  end(&s, false);
}

static void every_call_fails_once(void) {
  for (size_t i = 0; i < nfunctions; i++)
    for (unsigned long nth = 1; nth <= functions[i].nth; nth++) {
      const struct fault fault = {functions[i].function, nth, functions[i].leaves};
      tr_run(2, with_fault, &fault);
    }
}

int main(void) {
  const bool engines = getenv("SHMCCL_ENGINE_BYTES") != NULL;
  functions = engines ? with_engines : usually;
  nfunctions = engines ? LENGTH(with_engines) : LENGTH(usually);
  tr_begin();
  tr_run(2, without_fault, NULL);
  every_call_fails_once();
  return tr_end();
}
