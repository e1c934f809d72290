/*
 * support.h - what the stand-in's own tests share.
 */
#ifndef STANDIN_SUPPORT_H
#define STANDIN_SUPPORT_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cudaTypedefs.h>

#include "cudart_standin.h"
#include "harness.h"

/* A CUDA call that must return this. */
#define IS(call, error)                                                                                                \
  do {                                                                                                                 \
    cudaError_t error_ = (call);                                                                                       \
    CHECK_TEXT(error_ == (error), "%s is %s", #call, cudaGetErrorName(error_));                                        \
  } while (0)
#define OK(call) IS(call, cudaSuccess)

static inline int setting(const char *name) { return getenv(name) ? atoi(getenv(name)) : 0; }

static inline void sleep_ms(void *ms) { usleep((useconds_t)(uintptr_t)ms * 1000); }

/* The stream does nothing for a while: what comes after must not be seen before. */
static inline void busy(cudaStream_t stream, int ms) {
  OK(cudaLaunchHostFunc(stream, sleep_ms, (void *)(uintptr_t)ms));
}

static inline void await_gate(void *gate) {
  for (int i = 0; i < 300000 && !__atomic_load_n((int *)gate, __ATOMIC_ACQUIRE); i++) usleep(100);
}

/* The stream stands still until open_gate. *gate must stay until then. */
static inline void close_gate(cudaStream_t stream, int *gate) {
  *gate = 0;
  OK(cudaLaunchHostFunc(stream, await_gate, gate));
}

static inline void open_gate(int *gate) { __atomic_store_n(gate, 1, __ATOMIC_RELEASE); }

static inline cudaStream_t new_stream(void) {
  cudaStream_t stream;
  OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  return stream;
}

static inline void *device_bytes(size_t bytes, int value) {
  void *p;
  OK(cudaMalloc(&p, bytes));
  OK(cudaMemset(p, value, bytes));
  return p;
}

static inline int device_int(const int *p) {
  int value;
  OK(cudaMemcpy(&value, p, sizeof value, cudaMemcpyDeviceToHost));
  return value;
}

/* A program leaves nothing behind. */
static inline void check_empty(void) {
  const struct standin_stats s = standin_stats();
  CHECK(!s.device_ranges && !s.host_ranges && !s.streams && !s.events && !s.graphs && !s.graph_execs);
}

#endif
