/*
 * cudaTypedefs.h - the types of the driver functions that the stand-in offers, by the version since which they are so.
 *
 * A compiler compares them with the toolkit's (check_headers.sh).
 */
#ifndef STANDIN_CUDA_TYPEDEFS_H
#define STANDIN_CUDA_TYPEDEFS_H

#include <cuda.h>

typedef CUresult (*PFN_cuInit_v2000)(unsigned int flags);
typedef CUresult (*PFN_cuDriverGetVersion_v2020)(int *version);
typedef CUresult (*PFN_cuDeviceGetCount_v2000)(int *count);
typedef CUresult (*PFN_cuDeviceGet_v2000)(CUdevice *device, int ordinal);
typedef CUresult (*PFN_cuDeviceGetAttribute_v2000)(int *value, CUdevice_attribute attribute, CUdevice device);
typedef CUresult (*PFN_cuDeviceGetUuid_v9020)(CUuuid *uuid, CUdevice device);
typedef CUresult (*PFN_cuCtxGetCurrent_v4000)(CUcontext *context);
typedef CUresult (*PFN_cuCtxSetCurrent_v4000)(CUcontext context);
typedef CUresult (*PFN_cuCtxGetDevice_v2000)(CUdevice *device);
typedef CUresult (*PFN_cuCtxCreate_v11040)(CUcontext *context, CUexecAffinityParam *affinity, int naffinity,
                                           unsigned int flags, CUdevice device);
typedef CUresult (*PFN_cuCtxDestroy_v4000)(CUcontext context);
typedef CUresult (*PFN_cuGetErrorString_v6000)(CUresult error, const char **text);
typedef CUresult (*PFN_cuGetErrorName_v6000)(CUresult error, const char **name);
typedef CUresult (*PFN_cuMemGetAddressRange_v3020)(CUdeviceptr *base, size_t *bytes, CUdeviceptr p);
typedef CUresult (*PFN_cuPointerGetAttribute_v4000)(void *value, CUpointer_attribute attribute, CUdeviceptr p);
typedef CUresult (*PFN_cuMemGetAllocationGranularity_v10020)(size_t *bytes, const CUmemAllocationProp *properties,
                                                             CUmemAllocationGranularity_flags option);
typedef CUresult (*PFN_cuLaunchKernel_v4000)(CUfunction function, unsigned int grid_x, unsigned int grid_y,
                                             unsigned int grid_z, unsigned int block_x, unsigned int block_y,
                                             unsigned int block_z, unsigned int shared_bytes, CUstream stream,
                                             void **parameters, void **extra);
typedef CUresult (*PFN_cuLaunchKernelEx_v11060)(const CUlaunchConfig *config, CUfunction function, void **parameters,
                                                void **extra);
typedef CUresult (*PFN_cuStreamWriteValue32_v8000)(CUstream stream, CUdeviceptr p, cuuint32_t value,
                                                   unsigned int flags);
typedef CUresult (*PFN_cuStreamWriteValue32_v11070)(CUstream stream, CUdeviceptr p, cuuint32_t value,
                                                    unsigned int flags);
typedef CUresult (*PFN_cuStreamWriteValue64_v9000)(CUstream stream, CUdeviceptr p, cuuint64_t value,
                                                   unsigned int flags);
typedef CUresult (*PFN_cuStreamWriteValue64_v11070)(CUstream stream, CUdeviceptr p, cuuint64_t value,
                                                    unsigned int flags);
typedef CUresult (*PFN_cuStreamWaitValue32_v8000)(CUstream stream, CUdeviceptr p, cuuint32_t value, unsigned int flags);
typedef CUresult (*PFN_cuStreamWaitValue32_v11070)(CUstream stream, CUdeviceptr p, cuuint32_t value,
                                                   unsigned int flags);
typedef CUresult (*PFN_cuStreamWaitValue64_v9000)(CUstream stream, CUdeviceptr p, cuuint64_t value, unsigned int flags);
typedef CUresult (*PFN_cuStreamWaitValue64_v11070)(CUstream stream, CUdeviceptr p, cuuint64_t value,
                                                   unsigned int flags);
typedef CUresult (*PFN_cuStreamBatchMemOp_v8000)(CUstream stream, unsigned int count,
                                                 CUstreamBatchMemOpParams *operations, unsigned int flags);
typedef CUresult (*PFN_cuStreamBatchMemOp_v11070)(CUstream stream, unsigned int count,
                                                  CUstreamBatchMemOpParams *operations, unsigned int flags);

#endif
