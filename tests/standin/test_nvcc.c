/*
 * test_nvcc.c - host code compiled by nvcc with the toolkit's headers runs on the stand-in: registration by name,
 * <<<>>>, arguments as the compiler marshals them, variables of the device.
 */
#include "support.h"

/* nvcc_kernels.cu */
extern const void *const add_stub;
cudaError_t launch_add(float *to, const float *from, int n, double scale, cudaStream_t s);
cudaError_t launch_increment(int *p, long by, cudaStream_t s);
cudaError_t launch_too_large(int *p);
cudaError_t set_factor(float f);
cudaError_t factor_address(void **p);
cudaError_t get_counter(int *value);
cudaError_t counter_address(void **p);

struct pair {
  long first;
  char second[9];
};

static void *factor, *counter;

static cudaError_t run_add(const struct standin_launch *l) {
  float *to = *(float **)l->args[0];
  const float *from = *(const float **)l->args[1];
  const int n = *(int *)l->args[2];
  if (*(char *)l->args[3] != 'x') return cudaErrorAssert;
  for (unsigned i = 0; i < l->grid.x * l->block.x; i++)
    if ((int)i < n) to[i] += (float)*(double *)l->args[4] * *(float *)factor * from[i];
  return cudaSuccess;
}

static cudaError_t run_increment(const struct standin_launch *l) {
  const struct pair *by = l->args[1];
  if (strcmp(by->second, "12345678") != 0) return cudaErrorAssert;
  **(int **)l->args[0] += (int)by->first;
  ++*(int *)counter;
  return cudaSuccess;
}

static const struct standin_kernel kernels[] = {
    {"add", run_add, 5, {sizeof(float *), sizeof(float *), sizeof(int), sizeof(char), sizeof(double)}, false},
    {"increment", run_increment, 2, {sizeof(int *), sizeof(struct pair)}, false},
};

static void check_sums(const float *d, float first, float last) {
  float host[100];
  OK(cudaMemcpy(host, d, sizeof host, cudaMemcpyDeviceToHost));
  CHECK(host[1] == first && host[99] == last);
}

static void test_add(cudaStream_t s) {
  float host[100], *d = device_bytes(sizeof host, 0);
  int n = 100;
  char letter = 'x';
  double scale = 1;
  void *args[] = {&d, &d, &n, &letter, &scale};
  for (int i = 0; i < 100; i++) host[i] = (float)i;
  OK(cudaMemcpy(d, host, sizeof host, cudaMemcpyHostToDevice));
  OK(set_factor(2));
  OK(launch_add(d, d, 100, 1.5, s));
  OK(cudaStreamSynchronize(s));
  check_sums(d, 4, 396);
  OK(cudaLaunchKernel(add_stub, (dim3){2, 1, 1}, (dim3){64, 1, 1}, args, 0, s)); /* as C code does */
  OK(cudaStreamSynchronize(s));
  check_sums(d, 12, 1188);
  OK(cudaFree(d));
}

static void test_increment(cudaStream_t s) {
  int n = -1, *p = device_bytes(sizeof *p, 0);
  for (int i = 0; i < 3; i++) OK(launch_increment(p, 5, s));
  OK(cudaStreamSynchronize(s));
  OK(get_counter(&n));
  CHECK(device_int(p) == 15 && n == 3);
  IS(launch_too_large(p), cudaErrorInvalidConfiguration);
  OK(cudaFree(p));
}

int main(void) {
  cudaStream_t s = new_stream();
  int *p = device_bytes(sizeof *p, 0);
  OK(factor_address(&factor));
  OK(counter_address(&counter));
  IS(launch_increment(p, 1, s), cudaErrorNoKernelImageForDevice); /* nothing stands in for it yet */
  OK(cudaFree(p));
  for (size_t i = 0; i < LENGTH(kernels); i++) standin_kernel(&kernels[i]);
  test_add(s);
  test_increment(s);
  OK(cudaStreamDestroy(s));
  check_empty();
  return 0;
}
