/*
 * nvcc_kernels.cu - kernels with the host code that nvcc makes around them. Their device code never runs; test_nvcc.c
 * says what stands in for each.
 */
#include <cuda_runtime.h>

__device__ int device_counter;
__constant__ float factor[2];

struct pair {
  long first;
  char second[9];
};

extern "C" __global__ void add(float *to, const float *from, int n, char letter, double scale) {
  int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) to[i] += (float)scale * factor[0] * from[i] + 0 * letter;
}

__global__ void increment(int *p, struct pair by) {
  atomicAdd(p, (int)by.first);
  atomicAdd(&device_counter, 1);
}

extern "C" {
extern const void *const add_stub = (const void *)add; /* what C code that launches would name */

cudaError_t launch_add(float *to, const float *from, int n, double scale, cudaStream_t s) {
  add<<<(unsigned)(n + 63) / 64, 64, 0, s>>>(to, from, n, 'x', scale);
  return cudaGetLastError();
}

cudaError_t launch_increment(int *p, long by, cudaStream_t s) {
  struct pair pair = {by, "12345678"};
  increment<<<1, 1, 0, s>>>(p, pair);
  return cudaGetLastError();
}

cudaError_t launch_too_large(int *p) {
  struct pair pair = {1, ""};
  increment<<<1, 2048>>>(p, pair);
  return cudaGetLastError();
}

cudaError_t set_factor(float f) { return cudaMemcpyToSymbol(factor, &f, sizeof f); }
cudaError_t factor_address(void **p) { return cudaGetSymbolAddress(p, factor); }
cudaError_t get_counter(int *value) { return cudaMemcpyFromSymbol(value, device_counter, sizeof *value); }
cudaError_t counter_address(void **p) { return cudaGetSymbolAddress(p, device_counter); }
}
