/*
 * error.c - errors of the stand-in: their names, a thread's last error, and the error that broke a device.
 *
 * A broken device stays so, as after a fault in a kernel or when a GPU falls off the bus: what is queued is not done,
 * and every call for it returns the same error.
 */
#include "internal.h"

static cudaError_t broken[SI_MAX_DEVICES]; /* atomic */
static _Thread_local cudaError_t last_error;

cudaError_t si_fail(cudaError_t error) {
  if (error == cudaSuccess) return error;
  last_error = error;
  if (error != cudaErrorNotReady) si_say(1, "error: %s", cudaGetErrorName(error));
  return error;
}

cudaError_t standin_broken(int device) { return __atomic_load_n(&broken[device], __ATOMIC_ACQUIRE); }

void standin_break(int device, cudaError_t error) {
  cudaError_t none = cudaSuccess; /* the first one counts */
  __atomic_compare_exchange_n(&broken[device], &none, error, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

void si_unbreak(int device) { __atomic_store_n(&broken[device], cudaSuccess, __ATOMIC_RELEASE); }

cudaError_t cudaPeekAtLastError(void) {
  ENTER(ANY);
  const cudaError_t lasting = standin_broken(si_device);
  return lasting != cudaSuccess ? lasting : last_error;
}

cudaError_t cudaGetLastError(void) {
  ENTER(ANY);
  const cudaError_t lasting = standin_broken(si_device);
  const cudaError_t error = lasting != cudaSuccess ? lasting : last_error;
  last_error = cudaSuccess;
  return error;
}

#define ERRORS(X)                                                                                                      \
  X(Success, "no error")                                                                                               \
  X(ErrorInvalidValue, "invalid argument")                                                                             \
  X(ErrorMemoryAllocation, "out of memory")                                                                            \
  X(ErrorInitializationError, "initialization error")                                                                  \
  X(ErrorCudartUnloading, "driver shutting down")                                                                      \
  X(ErrorInvalidConfiguration, "invalid configuration argument")                                                       \
  X(ErrorInvalidPitchValue, "invalid pitch argument")                                                                  \
  X(ErrorInvalidSymbol, "invalid device symbol")                                                                       \
  X(ErrorInvalidMemcpyDirection, "invalid copy direction for memcpy")                                                  \
  X(ErrorInsufficientDriver, "CUDA driver version is insufficient for CUDA runtime version")                           \
  X(ErrorDevicesUnavailable, "CUDA-capable device(s) is/are busy or unavailable")                                      \
  X(ErrorMissingConfiguration, "__global__ function call is not configured")                                           \
  X(ErrorInvalidDeviceFunction, "invalid device function")                                                             \
  X(ErrorNoDevice, "no CUDA-capable device is detected")                                                               \
  X(ErrorInvalidDevice, "invalid device ordinal")                                                                      \
  X(ErrorNoKernelImageForDevice, "no kernel image is available for execution on the device")                           \
  X(ErrorECCUncorrectable, "uncorrectable ECC error encountered")                                                      \
  X(ErrorPeerAccessUnsupported, "peer access is not supported between these two devices")                              \
  X(ErrorOperatingSystem, "OS call failed or operation not supported on this OS")                                      \
  X(ErrorInvalidResourceHandle, "invalid resource handle")                                                             \
  X(ErrorIllegalState, "the operation cannot be performed in the present state")                                       \
  X(ErrorSymbolNotFound, "named symbol not found")                                                                     \
  X(ErrorNotReady, "device not ready")                                                                                 \
  X(ErrorIllegalAddress, "an illegal memory access was encountered")                                                   \
  X(ErrorLaunchOutOfResources, "too many resources requested for launch")                                              \
  X(ErrorLaunchTimeout, "the launch timed out and was terminated")                                                     \
  X(ErrorPeerAccessAlreadyEnabled, "peer access is already enabled")                                                   \
  X(ErrorPeerAccessNotEnabled, "peer access has not been enabled")                                                     \
  X(ErrorContextIsDestroyed, "context is destroyed")                                                                   \
  X(ErrorAssert, "device-side assert triggered")                                                                       \
  X(ErrorHostMemoryAlreadyRegistered, "part or all of the requested memory range is already mapped")                   \
  X(ErrorHostMemoryNotRegistered, "pointer does not correspond to a registered memory region")                         \
  X(ErrorMisalignedAddress, "misaligned address")                                                                      \
  X(ErrorLaunchFailure, "unspecified launch failure")                                                                  \
  X(ErrorCooperativeLaunchTooLarge, "too many blocks in cooperative launch")                                           \
  X(ErrorNotPermitted, "operation not permitted")                                                                      \
  X(ErrorNotSupported, "operation not supported")                                                                      \
  X(ErrorSystemDriverMismatch, "system has unsupported display driver / cuda driver combination")                      \
  X(ErrorStreamCaptureUnsupported, "operation not permitted when stream is capturing")                                 \
  X(ErrorStreamCaptureInvalidated, "operation failed due to a previous error during capture")                          \
  X(ErrorStreamCaptureMerge, "operation would result in a merge of separate capture sequences")                        \
  X(ErrorStreamCaptureUnmatched, "capture was not ended in the same stream as it began")                               \
  X(ErrorStreamCaptureUnjoined, "capturing stream has unjoined work")                                                  \
  X(ErrorStreamCaptureIsolation, "dependency created on uncaptured work in another stream")                            \
  X(ErrorStreamCaptureImplicit, "operation would make the legacy stream depend on a capturing blocking stream")        \
  X(ErrorCapturedEvent, "operation not permitted on an event last recorded in a capturing stream")                     \
  X(ErrorStreamCaptureWrongThread, "attempt to terminate a thread-local capture sequence from another thread")         \
  X(ErrorTimeout, "wait operation timed out")                                                                          \
  X(ErrorGraphExecUpdateFailure, "the graph update was not performed because it included changes which violated "      \
                                 "constraints specific to instantiated graph update")                                  \
  X(ErrorUnknown, "unknown error")

const char *cudaGetErrorName(cudaError_t error) {
#define NAME(name, text)                                                                                               \
  if (error == cuda##name) return "cuda" #name;
  ERRORS(NAME)
  return "unrecognized error code";
}

const char *cudaGetErrorString(cudaError_t error) {
#define TEXT(name, text)                                                                                               \
  if (error == cuda##name) return text;
  ERRORS(TEXT)
  return "unrecognized error code";
}
