/*
 * cuda_calls.h - what every file that calls CUDA needs: the calling thread as CUDA sees it, and errors.
 *
 * A call is made between enter() and leave(): on the right device, in relaxed capture mode (it has nothing to do with
 * what some stream of the program captures), and with the thread's device as it was afterwards.
 */
#ifndef SHMI_CUDA_CALLS_H
#define SHMI_CUDA_CALLS_H

#include <cuda_runtime_api.h>
#include <stdbool.h>

#include "base/log.h"

/* ---- errors ------------------------------------------------------------------------------------------------------ */

static inline const char *remedy_for(cudaError_t error) {
  switch (error) {
  case cudaErrorNoDevice:
  case cudaErrorInvalidDevice: return "make the GPU visible to this process (nvidia-smi, CUDA_VISIBLE_DEVICES, --gpus)";
  case cudaErrorInsufficientDriver:
  case cudaErrorSystemDriverMismatch: return "install a driver for CUDA 13 or later (580 or later)";
  case cudaErrorNoKernelImageForDevice: return "GPUs older than compute capability 7.5 are not supported";
  case cudaErrorMemoryAllocation: return "free device memory or pinned memory, or lower SHMCCL_STAGING_BYTES";
  case cudaErrorInvalidResourceHandle: return "pass a stream that lives, of the communicator's device";
  case cudaErrorStreamCaptureImplicit:
  case cudaErrorStreamCaptureInvalidated:
  case cudaErrorStreamCaptureIsolation: return "keep the default stream and other streams out of the capture";
  case cudaErrorIllegalAddress:
  case cudaErrorLaunchFailure:
  case cudaErrorLaunchTimeout:
  case cudaErrorAssert:
  case cudaErrorMisalignedAddress:
    return "the GPU stopped at a fault in this or an earlier kernel: start the process again";
  default: return "see the CUDA documentation of this error";
  }
}

static inline shmccl_result_t report(cudaError_t error, const char *what) {
  cudaGetLastError(); /* what is not sticky ends here */
  return shmi_error(SHMCCL_ERROR_CUDA, "%s failed: %s (%s): %s", what, cudaGetErrorString(error),
                    cudaGetErrorName(error), remedy_for(error));
}

/* ---- the calling thread ------------------------------------------------------------------------------------------ */

struct scope {
  int device;
  enum cudaStreamCaptureMode mode;
  bool entered;
};

static inline cudaError_t enter(struct scope *s, int device) {
  s->mode = cudaStreamCaptureModeRelaxed;
  cudaError_t error = cudaGetDevice(&s->device);
  if (error == cudaSuccess && s->device != device) error = cudaSetDevice(device);
  if (error == cudaSuccess) error = cudaThreadExchangeStreamCaptureMode(&s->mode);
  s->entered = error == cudaSuccess;
  return error;
}

/* Also after enter() failed. */
static inline void leave(struct scope *s, int device) {
  if (s->entered) cudaThreadExchangeStreamCaptureMode(&s->mode);
  if (s->device != device) cudaSetDevice(s->device);
}

#endif
