/* trouble_on_device.h - what the tests of trouble share on device memory, beside trouble/support.h. */
#ifndef TROUBLE_ON_DEVICE_H
#define TROUBLE_ON_DEVICE_H

#include <cuda_runtime_api.h>

#include "cudart_standin.h"
#include "trouble/support.h"

#define OK(call) CHECK((call) == cudaSuccess, "%s", cudaGetErrorString(cudaPeekAtLastError()))

/* Destroying may have left the rest to a thread, behind the last kernel: waits for its end. */
static inline void await_threads(void) {
  for (int ms = 0; ms < 5000 && tr_traces().threads > 1; ms += 2) tr_sleep_ms(2);
}

/* Waits until the communicator is in error: what kernels, or the other ranks, have found. */
static inline shmccl_result_t next_error(shmccl_comm_t *comm) {
  shmccl_result_t state = SHMCCL_SUCCESS;
  for (int i = 0; i < 1000 && state == SHMCCL_SUCCESS; i++) {
    tr_sleep_ms(10);
    CHECK(shmccl_comm_get_async_error(comm, &state) == SHMCCL_SUCCESS, "async error");
  }
  return state;
}

#endif
