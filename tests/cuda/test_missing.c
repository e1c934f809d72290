/*
 * test_missing.c - what is missing as a whole: a GPU, its use by one of the ranks' processes, pinned memory for some
 * channels or for all, room in the staging, a device that was lost.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trouble_on_device.h"

static const shmccl_config_t automatic = {.size = sizeof automatic, .timeout_ms = 5000};
static const shmccl_config_t cuda = {.size = sizeof cuda, .timeout_ms = 5000, .memory = SHMCCL_MEMORY_CUDA};

static void check_host(shmccl_comm_t *comm) {
  float one = 1;
  EXPECT_OK(shmccl_allreduce(&one, &one, 1, SHMCCL_FLOAT32, SHMCCL_SUM, comm, NULL));
  CHECK(one == 2, "the sum is %g", (double)one);
}

/* More than fits the packets, so that all channels are used. */
static void check_device(shmccl_comm_t *comm) {
  enum { COUNT = 1 << 17 };
  float *host = malloc(COUNT * sizeof *host);
  void *buffer;
  for (int i = 0; i < COUNT; i++) host[i] = (float)i;
  OK(cudaMalloc(&buffer, COUNT * sizeof *host));
  OK(cudaMemcpy(buffer, host, COUNT * sizeof *host, cudaMemcpyHostToDevice));
  EXPECT_OK(shmccl_allreduce(buffer, buffer, COUNT, SHMCCL_FLOAT32, SHMCCL_SUM, comm, cudaStreamPerThread));
  OK(cudaStreamSynchronize(cudaStreamPerThread));
  OK(cudaMemcpy(host, buffer, COUNT * sizeof *host, cudaMemcpyDeviceToHost));
  for (int i = 0; i < COUNT; i++)
    if (host[i] != 2 * (float)i) CHECK(false, "element %d is %g", i, (double)host[i]), i = COUNT;
  OK(cudaFree(buffer));
  free(host);
}

static void check_no_device(shmccl_comm_t *comm) {
  EXPECT(shmccl_barrier(comm, cudaStreamPerThread), SHMCCL_ERROR_INVALID_ARGUMENT, "host memory only");
}

/* ---- no GPU (STANDIN_DEVICES=0) ------------------------------------------------------------------------------------
 */

static void no_gpu(struct tr_job *job, int rank) {
  shmccl_comm_t *comm = NULL;
  EXPECT(shmccl_comm_init_rank(&comm, job->nranks, &job->id, rank, &cuda), SHMCCL_ERROR_CUDA,
         "no CUDA-capable|nvidia-smi");
  CHECK(!comm, "a result was written");
}

static void no_gpu_on_host(struct tr_job *job, int rank) {
  shmccl_comm_t *comm = tr_join_comm(job, rank, &automatic);
  check_host(comm);
  check_no_device(comm);
  EXPECT_OK(shmccl_comm_destroy(comm));
}

/* ---- with GPUs -----------------------------------------------------------------------------------------------------
 */

static void in_use(struct tr_job *job, int rank) {
  OK(cudaSetDevice(rank));
  setenv("CUDA_IN_USE", "1", 1);
  shmccl_comm_t *comm = tr_join_comm(job, rank, &automatic);
  check_host(comm);
  check_device(comm);
  EXPECT_OK(shmccl_comm_finalize(comm));
  EXPECT_OK(shmccl_comm_destroy(comm));
}

static void in_use_on_one(struct tr_job *job, int rank) {
  setenv("CUDA_IN_USE", rank ? "1" : "0", 1);
  shmccl_comm_t *comm = tr_join_comm(job, rank, &automatic);
  check_host(comm);
  check_no_device(comm);
  EXPECT_OK(shmccl_comm_destroy(comm));
}

/* Only this rank's part of the limit, so that ranks differ and must agree. */
static void little_pinned_memory(struct tr_job *job, int rank) {
  shmccl_comm_t *comm = NULL;
  char text[1024];
  OK(cudaSetDevice(rank));
  if (rank) setenv("SHMCCL_PINNED_BYTES", "6M", 1);
  CHECK(shmccl_comm_init_rank(&comm, job->nranks, &job->id, rank, &cuda) == SHMCCL_SUCCESS, "init");
  const int lines = tr_caught(text, sizeof text);
  CHECK(lines == rank && (!rank || strstr(text, "of 8 channels could be registered")), "%d lines: %s", lines, text);
  check_device(comm);
  EXPECT_OK(shmccl_comm_finalize(comm));
  EXPECT_OK(shmccl_comm_destroy(comm));
}

static void no_pinned_memory(struct tr_job *job, int rank) {
  shmccl_comm_t *comm = NULL;
  char text[1024];
  OK(cudaSetDevice(rank));
  if (rank) setenv("SHMCCL_PINNED_BYTES", "1M", 1);
  CHECK(shmccl_comm_init_rank(&comm, job->nranks, &job->id, rank, &cuda) == SHMCCL_ERROR_NO_MEMORY, "init");
  tr_caught(text, sizeof text);
  CHECK(strstr(text, "rank 1 could register no memory") && strstr(text, "SHMCCL_PINNED_BYTES"), "%s", text);
}

/* Who did not ask goes on with host memory. */
static void no_pinned_memory_in_use(struct tr_job *job, int rank) {
  shmccl_comm_t *comm = NULL;
  char text[1024];
  OK(cudaSetDevice(rank));
  setenv("CUDA_IN_USE", "1", 1);
  if (rank) setenv("SHMCCL_PINNED_BYTES", "1M", 1);
  CHECK(shmccl_comm_init_rank(&comm, job->nranks, &job->id, rank, &automatic) == SHMCCL_SUCCESS, "init");
  CHECK(tr_caught(text, sizeof text) == rank, "%s", text);
  check_host(comm);
  check_no_device(comm);
  EXPECT_OK(shmccl_comm_destroy(comm));
}

static void no_staging(struct tr_job *job, int rank) {
  shmccl_config_t config = cuda;
  shmccl_comm_t *comm = NULL;
  config.staging_bytes = 256 << 10;
  EXPECT(shmccl_comm_init_rank(&comm, job->nranks, &job->id, rank, &config), SHMCCL_ERROR_NO_SPACE, "");
}

static void device_is_lost(struct tr_job *job, int rank) {
  OK(cudaSetDevice(rank));
  shmccl_comm_t *comm = tr_join_comm(job, rank, &cuda);
  if (rank == 1) {
    standin_break(1, cudaErrorIllegalAddress);
    EXPECT(shmccl_barrier(comm, cudaStreamPerThread), SHMCCL_ERROR_CUDA,
           "illegal memory access|start the process again");
  } else {
    const shmccl_result_t state = next_error(comm);
    tr_sleep_ms(50);
    char text[1024];
    tr_caught(text, sizeof text);
    CHECK(state == SHMCCL_ERROR_CUDA && strstr(text, "rank 1 failed: CUDA error"), "%s", text);
  }
  EXPECT_OK(shmccl_comm_destroy(comm));
  await_threads();
}

int main(void) {
  int devices;
  tr_begin();
  if (cudaGetDeviceCount(&devices) != cudaSuccess) {
    tr_run(2, no_gpu, NULL);
    tr_run(2, no_gpu_on_host, NULL);
    return tr_end();
  }
  tr_run(2, in_use, NULL);
  tr_run(2, in_use_on_one, NULL);
  tr_run(2, little_pinned_memory, NULL);
  tr_run(2, no_pinned_memory, NULL);
  tr_run(2, no_pinned_memory_in_use, NULL);
  tr_run(2, no_staging, NULL);
  tr_run(2, device_is_lost, NULL);
  return tr_end();
}
