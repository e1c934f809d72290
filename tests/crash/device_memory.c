/*
 * device_memory.c - calls on device memory, on the stand-in CUDA runtime.
 *
 * The blocks of kernels are threads of the rank's process, so it is hurt within kernels too, at their publishes and
 * observes. A call is plain or captured. A plain kernel that gives up leaves the GPU as it was; a captured one breaks
 * it, as CUDA does: then nothing can be freed on the device, a new communicator on device memory is refused, and one on
 * host memory works.
 */
#include "crash/results.h"

#include <stdio.h>
#include <string.h>

#include "cuda/trouble_on_device.h"

enum { ARRAY_BYTES = RANKS_MOST * LARGE * sizeof(int32_t), REPLAYS = 2 };

const shmccl_memory_t memory_kind = SHMCCL_MEMORY_CUDA;
const size_t memory_staging_bytes = 16 << 20;

static struct buffers device;
static bool broken;

static void move(int32_t *to, const int32_t *from, enum cudaMemcpyKind kind) {
  OK(cudaMemcpyAsync(to, from, ARRAY_BYTES, kind, device.stream));
  OK(cudaStreamSynchronize(device.stream));
}

struct buffers memory_open(int rank) {
  cudaStream_t stream;
  void *in, *out;
  broken = false;
  OK(cudaSetDevice(rank));
  OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  OK(cudaMalloc(&in, ARRAY_BYTES));
  OK(cudaMalloc(&out, ARRAY_BYTES));
  return device = (struct buffers){in, out, stream};
}

/* ---- a call ------------------------------------------------------------------------------------------------------ */

static shmccl_result_t capture(enqueue_fn enqueue, const void *context, size_t count, cudaGraphExec_t *exec) {
  cudaGraph_t graph = NULL;
  OK(cudaStreamBeginCapture(device.stream, cudaStreamCaptureModeGlobal));
  const shmccl_result_t result = enqueue(context, count);
  OK(cudaStreamEndCapture(device.stream, &graph));
  if (result == SHMCCL_SUCCESS) OK(cudaGraphInstantiate(exec, graph, 0));
  OK(cudaGraphDestroy(graph));
  return result;
}

static shmccl_result_t replay(enqueue_fn enqueue, const void *context, size_t count) {
  cudaGraphExec_t exec = NULL;
  const shmccl_result_t result = capture(enqueue, context, count, &exec);
  for (int i = 0; i < REPLAYS && result == SHMCCL_SUCCESS && !broken; i++)
    broken = cudaGraphLaunch(exec, device.stream) != cudaSuccess || cudaStreamSynchronize(device.stream) != cudaSuccess;
  if (exec) cudaGraphExecDestroy(exec);
  return result;
}

/* The stream has come to its end: whether all has worked is told at once. */
static shmccl_result_t outcome(state_fn state, const void *context) {
  if (cudaStreamSynchronize(device.stream) != cudaSuccess) broken = true;
  const shmccl_result_t result = state(context);
  CHECK(result != SHMCCL_SUCCESS || !broken, "the device is broken, and the communicator in no error");
  return result;
}

shmccl_result_t memory_run(bool captured, enqueue_fn enqueue, state_fn state, const void *context, size_t count) {
  if (!broken) {
    move(device.in, results_in, cudaMemcpyHostToDevice);
    move(device.out, results_out, cudaMemcpyHostToDevice);
  }
  shmccl_result_t result = captured && !broken ? replay(enqueue, context, count) : enqueue(context, count);
  if (result == SHMCCL_SUCCESS) result = outcome(state, context);
  CHECK(captured || !broken, "a plain call has broken the device");
  if (result == SHMCCL_SUCCESS) move(results_out, device.out, cudaMemcpyDeviceToHost);
  return result;
}

bool memory_is_broken(void) { return broken; }

/* ---- the end ----------------------------------------------------------------------------------------------------- */

static void check_nothing_left(void) {
  const struct standin_stats s = standin_stats();
  CHECK(!s.device_ranges && !s.host_ranges && !s.streams && !s.events && !s.graphs && !s.graph_execs,
        "%ld device, %ld host ranges, %ld streams, %ld events, %ld and %ld graphs are left", s.device_ranges,
        s.host_ranges, s.streams, s.events, s.graphs, s.graph_execs);
}

/* Both ranks in this thread, on two GPUs. */
static void check_new_communicator(void) {
  const shmccl_config_t config = {
      .size = sizeof config, .staging_bytes = memory_staging_bytes, .memory = SHMCCL_MEMORY_CUDA};
  shmccl_comm_t *comms[2] = {NULL, NULL};
  shmccl_result_t result = shmccl_comm_init_all(comms, 2, &config);
  for (int r = 0; r < 2 && result == SHMCCL_SUCCESS; r++) result = shmccl_barrier(comms[r], cudaStreamPerThread);
  CHECK(result == SHMCCL_SUCCESS && cudaStreamSynchronize(cudaStreamPerThread) == cudaSuccess,
        "no new communicator on device memory: %s", shmccl_last_error());
  for (int r = 0; r < 2; r++) shmccl_comm_destroy(comms[r]);
  await_threads();
}

static void check_refused(void) {
  const shmccl_config_t config = {.size = sizeof config, .memory = SHMCCL_MEMORY_CUDA};
  shmccl_unique_id_t id;
  shmccl_comm_t *comm;
  CHECK(shmccl_get_unique_id(&id) == SHMCCL_SUCCESS, "%s", shmccl_last_error());
  const shmccl_result_t result = shmccl_comm_init_rank(&comm, 1, &id, 0, &config);
  CHECK(result == SHMCCL_ERROR_CUDA && strstr(shmccl_last_error(), "start the process again"),
        "a communicator on a broken device: %s: %s", shmccl_error_string(result), shmccl_last_error());
}

void memory_close(void) {
  cudaStreamDestroy(device.stream);
  cudaFree(device.in);
  cudaFree(device.out);
  await_threads();
  if (broken) {
    check_refused();
  } else {
    check_nothing_left();
    check_new_communicator();
  }
}
