/*
 * overhead.c - what a small collective costs beside what no collective can avoid: launching and awaiting an empty
 * kernel, and two round trips over the link. Ranks are threads, each with a GPU or all on one. Times are of the host,
 * launch and synchronisation included: medians, in microseconds.
 */
#include <stdio.h>
#include <string.h>

#include "../standin/support.h"
#include "arguments.h"
#include "base/clock.h"
#include "kernels.h"

enum { HOPS = 1000, LINKS = 4096, STRIDE = 16 /* words: a line each */ };

static uint64_t ranks = 2, times = 500;

static int ascending(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* One run of `once` to warm up, then the median of them. */
static double median_us(void (*once)(void *), void *context) {
  double *samples = malloc(times * sizeof *samples), median;
  CHECK(samples);
  once(context);
  for (uint64_t i = 0; i < times; i++) {
    const uint64_t start = shmi_now_ns();
    once(context);
    samples[i] = (double)(shmi_now_ns() - start) * 1e-3;
  }
  qsort(samples, times, sizeof *samples, ascending);
  median = samples[times / 2];
  free(samples);
  return median;
}

/* ---- without a collective ---------------------------------------------------------------------------------------- */

static void launch(const void *kernel, void *argument, cudaStream_t stream) {
  const dim3 one = {1, 1, 1};
  OK(cudaLaunchKernel(kernel, one, one, (void *[]){argument}, 0, stream));
}

static void spin_for_nothing(void *stream) {
  struct gpu_spin nothing = {0};
  launch(gpu_kernel_spin(), &nothing, stream);
  OK(cudaStreamSynchronize(stream));
}

/* Each line names the one that is read next, far from it. */
static double round_trip_us(cudaStream_t stream) {
  uint64_t *links = NULL;
  void *device, *end = device_bytes(sizeof(uint64_t), 0);
  cudaEvent_t marks[2];
  float ms;
  OK(cudaHostAlloc((void **)&links, LINKS * STRIDE * sizeof *links, cudaHostAllocMapped));
  OK(cudaHostGetDevicePointer(&device, links, 0));
  for (uint64_t i = 0; i < LINKS; i++) links[i * STRIDE] = (i + 1021) % LINKS * STRIDE;
  for (int i = 0; i < 2; i++) OK(cudaEventCreate(&marks[i]));
  struct gpu_chase chase = {.links = device, .end = end, .hops = HOPS};
  launch(gpu_kernel_chase(), &chase, stream);
  OK(cudaEventRecord(marks[0], stream));
  launch(gpu_kernel_chase(), &chase, stream);
  OK(cudaEventRecord(marks[1], stream));
  OK(cudaStreamSynchronize(stream));
  OK(cudaEventElapsedTime(&ms, marks[0], marks[1]));
  for (int i = 0; i < 2; i++) OK(cudaEventDestroy(marks[i]));
  OK(cudaFreeHost(links));
  OK(cudaFree(end));
  return (double)ms * 1000 / HOPS;
}

/* ---- the collective ---------------------------------------------------------------------------------------------- */

struct rank {
  shmccl_comm_t *comm;
  cudaStream_t stream;
  float *buffer;
};

struct job {
  shmccl_unique_id_t id;
  double empty_us, trip_us, small_us; /* of rank 0 */
};

static void reduce_8_bytes(void *rank) {
  struct rank *r = rank;
  CHECK_OK(shmccl_allreduce(r->buffer, r->buffer, 2, SHMCCL_FLOAT32, SHMCCL_SUM, r->comm, r->stream));
  OK(cudaStreamSynchronize(r->stream));
}

static void run_rank(int number, int nranks, void *context) {
  struct job *job = context;
  shmccl_config_t config = SHMCCL_CONFIG_INITIALIZER;
  struct rank r;
  int devices;
  config.memory = SHMCCL_MEMORY_CUDA;
  config.timeout_ms = 30000;
  OK(cudaGetDeviceCount(&devices));
  OK(cudaSetDevice(number % devices));
  r.stream = new_stream();
  r.buffer = device_bytes(2 * sizeof *r.buffer, 0);
  CHECK_OK(shmccl_comm_init_rank(&r.comm, nranks, &job->id, number, &config));
  const double us = median_us(reduce_8_bytes, &r);
  if (number == 0) job->small_us = us;
  CHECK_OK(shmccl_comm_finalize(r.comm));
  CHECK_OK(shmccl_comm_destroy(r.comm));
  OK(cudaStreamDestroy(r.stream));
  OK(cudaFree(r.buffer));
}

int main(int argc, char **argv) {
  const struct argument arguments[] = {{"ranks", &ranks}, {"times", &times}, {NULL, NULL}};
  struct job job;
  int devices;
  arguments_read(argc, argv, arguments);
  OK(cudaGetDeviceCount(&devices));
  cudaStream_t stream = new_stream();
  job.empty_us = median_us(spin_for_nothing, stream);
  job.trip_us = round_trip_us(stream);
  OK(cudaStreamDestroy(stream));
  CHECK_OK(shmccl_get_unique_id(&job.id));
  harness_threads((int)ranks, run_rank, &job, 100);
  printf("fact overhead {\"ranks\": %llu, \"gpus\": %d, \"empty_kernel_us\": %.2f, \"round_trip_us\": %.3f, "
         "\"allreduce_8_bytes_us\": %.2f}\n",
         (unsigned long long)ranks, devices < (int)ranks ? devices : (int)ranks, job.empty_us, job.trip_us,
         job.small_us);
  return 0;
}
