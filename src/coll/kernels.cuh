/*
 * kernels.cuh - the CUDA executor: what device.h needs, on CUDA threads, and the kernel made of it. kernels_*.cu
 * instantiate it for their part of the reductions, so that they compile side by side.
 *
 * What counts is how many bytes are under way over PCIe: every thread has AHEAD 16-byte accesses in flight before it
 * uses the first one.
 */
#ifndef SHMI_KERNELS_CUH
#define SHMI_KERNELS_CUH

#include "coll/kernels.h"
#include "coll/meeting.h"
#include "reduce/device.cuh"

enum { SHMI_VECTOR = 16 }; /* bytes */

#ifndef SHMI_GLOBALTIMER /* tests/device/cuda_on_cpu.h has one */
#define SHMI_GLOBALTIMER shmi_globaltimer
static __device__ __forceinline__ uint64_t shmi_globaltimer(void) {
  uint64_t now;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
  return now;
}
#endif

/* Vectors that a thread has under way: 64 bytes, and fewer where their accumulators would not fit the registers. */
template <class R> struct shmi_ahead {
  static const int accumulators = SHMI_VECTOR / (int)sizeof(typename R::element);
  static const int registers = accumulators * (((int)sizeof(typename R::accumulator) + 3) / 4);
  static const int value = registers <= 8 ? 4 : R::is_byte ? 1 : 2;
};

template <class R> struct shmi_cuda_block {
  int tid, nthreads;
  uint32_t step;
  const struct shmi_world *world;
  const struct shmi_call *call;
  const struct shmi_launch *launch;
  uint32_t *left;
  shmi_vector<R, SHMI_UNIT> unit; /* under reduction */
};

template <class R> static __device__ __forceinline__ void shmi_block_sync(const shmi_cuda_block<R> *) {
  __syncthreads();
}

template <class R> static __device__ __forceinline__ int shmi_block_agree(const shmi_cuda_block<R> *, int error) {
  return __syncthreads_or(error);
}

template <class R> static __device__ __forceinline__ uint32_t *shmi_block_left(const shmi_cuda_block<R> *b) {
  return b->left;
}

template <class R> static __device__ __forceinline__ uint64_t shmi_block_now(const shmi_cuda_block<R> *) {
  return SHMI_GLOBALTIMER();
}

/* ---- units --------------------------------------------------------------------------------------------------------
 */

template <class R> union shmi_unit_elements {
  uint64_t unit;
  typename R::element elements[SHMI_UNIT / sizeof(typename R::element)];
};

template <class R>
static __device__ __forceinline__ void shmi_block_reduce_first(shmi_cuda_block<R> *b, uint64_t unit) {
  shmi_unit_elements<R> in = {unit};
  b->unit.first(in.elements);
}

template <class R> static __device__ __forceinline__ void shmi_block_reduce_next(shmi_cuda_block<R> *b, uint64_t unit) {
  shmi_unit_elements<R> in = {unit};
  b->unit.next(in.elements);
}

template <class R> static __device__ __forceinline__ uint64_t shmi_block_reduce_last(const shmi_cuda_block<R> *b) {
  shmi_unit_elements<R> out;
  b->unit.last(out.elements, b->world->nranks);
  return out.unit;
}

/* ---- memory -------------------------------------------------------------------------------------------------------
 */

/* Staging is aligned; user memory need not be. */
static __device__ __forceinline__ bool shmi_aligned(const void *a, const void *b, const void *c) {
  return (((uintptr_t)a | (uintptr_t)b | (uintptr_t)c) & (SHMI_VECTOR - 1)) == 0;
}

/* ---- copies -------------------------------------------------------------------------------------------------------
 */

template <class R>
static __device__ void shmi_copy_aligned(const shmi_cuda_block<R> *b, uint4 *to_user, uint4 *to_slot, const uint4 *from,
                                         size_t vectors) {
  enum { AHEAD = 4 };
  const size_t stride = (size_t)b->nthreads;
  for (size_t i = (size_t)b->tid; i < vectors; i += AHEAD * stride) {
    uint4 data[AHEAD];
#pragma unroll
    for (int k = 0; k < AHEAD; k++)
      if (i + k * stride < vectors) data[k] = from[i + k * stride];
#pragma unroll
    for (int k = 0; k < AHEAD; k++) {
      if (i + k * stride >= vectors) break;
      if (to_user) to_user[i + k * stride] = data[k];
      if (to_slot) to_slot[i + k * stride] = data[k];
    }
  }
}

/* Elements from byte `at` on, one by one: the tail, and all of what is not aligned. */
template <class R>
static __device__ void shmi_copy_elements(const shmi_cuda_block<R> *b, uint8_t *to_user, uint8_t *to_slot,
                                          const uint8_t *from, size_t at, size_t bytes) {
  const size_t size = b->call->element;
  for (size_t i = at + (size_t)b->tid * size; i < bytes; i += (size_t)b->nthreads * size)
    for (size_t k = 0; k < size; k++) {
      const uint8_t value = from[i + k];
      if (to_user) to_user[i + k] = value;
      if (to_slot) to_slot[i + k] = value;
    }
}

template <class R>
static __device__ void shmi_block_copy(const shmi_cuda_block<R> *b, uint8_t *to_user, uint8_t *to_slot,
                                       const uint8_t *from, size_t bytes) {
  const size_t vectors = shmi_aligned(to_user, to_slot, from) ? bytes / SHMI_VECTOR : 0;
  shmi_copy_aligned(b, (uint4 *)to_user, (uint4 *)to_slot, (const uint4 *)from, vectors);
  shmi_copy_elements(b, to_user, to_slot, from, vectors * SHMI_VECTOR, bytes);
}

/* ---- reductions ---------------------------------------------------------------------------------------------------
 */

template <class R> union shmi_vector_elements {
  uint4 data;
  typename R::element elements[SHMI_VECTOR / sizeof(typename R::element)];
};

template <class R>
static __device__ void shmi_reduce_aligned(const shmi_cuda_block<R> *b, uint4 *to_user, uint4 *to_slot,
                                           const struct shmi_op *op, size_t vectors) {
  enum { AHEAD = shmi_ahead<R>::value };
  const struct shmi_world *w = b->world;
  const size_t stride = (size_t)b->nthreads;
  for (size_t i = (size_t)b->tid; i < vectors; i += AHEAD * stride) {
    shmi_vector<R, SHMI_VECTOR> sums[AHEAD];
    shmi_vector_elements<R> data[AHEAD];
    for (int r = 0; r < w->nranks; r++) {
      const uint4 *from = (const uint4 *)shmi_operand_of(w, b->call, op, r, b->step);
#pragma unroll
      for (int k = 0; k < AHEAD; k++)
        if (i + k * stride < vectors) data[k].data = from[i + k * stride];
#pragma unroll
      for (int k = 0; k < AHEAD; k++) {
        if (r == 0)
          sums[k].first(data[k].elements);
        else
          sums[k].next(data[k].elements);
      }
    }
#pragma unroll
    for (int k = 0; k < AHEAD; k++) {
      if (i + k * stride >= vectors) break;
      sums[k].last(data[k].elements, w->nranks);
      if (to_user) to_user[i + k * stride] = data[k].data;
      if (to_slot) to_slot[i + k * stride] = data[k].data;
    }
  }
}

/* Elements from byte `at` on, one by one: the tail, and all of what is not aligned. */
template <class R>
static __device__ void shmi_reduce_elements(const shmi_cuda_block<R> *b, uint8_t *to_user, uint8_t *to_slot,
                                            const struct shmi_op *op, size_t at, size_t bytes) {
  typedef typename R::element element;
  const struct shmi_world *w = b->world;
  for (size_t i = at + (size_t)b->tid * sizeof(element); i < bytes; i += (size_t)b->nthreads * sizeof(element)) {
    shmi_vector<R, sizeof(element)> sum;
    element value;
    memcpy(&value, shmi_operand_of(w, b->call, op, 0, b->step) + i, sizeof value);
    sum.first(&value);
    for (int r = 1; r < w->nranks; r++) {
      memcpy(&value, shmi_operand_of(w, b->call, op, r, b->step) + i, sizeof value);
      sum.next(&value);
    }
    sum.last(&value, w->nranks);
    if (to_user) memcpy(to_user + i, &value, sizeof value);
    if (to_slot) memcpy(to_slot + i, &value, sizeof value);
  }
}

template <class R>
static __device__ void shmi_block_reduce(const shmi_cuda_block<R> *b, uint8_t *to_user, uint8_t *to_slot,
                                         const struct shmi_op *op, size_t bytes) {
  const size_t vectors = shmi_aligned(to_user, to_slot, op->from_user) ? bytes / SHMI_VECTOR : 0;
  shmi_reduce_aligned(b, (uint4 *)to_user, (uint4 *)to_slot, op, vectors);
  shmi_reduce_elements(b, to_user, to_slot, op, vectors * SHMI_VECTOR, bytes);
}

/* ---- the kernel ---------------------------------------------------------------------------------------------------
 */

/* left: of the block, seen by all behind the first meeting. */
template <class R>
static __device__ __forceinline__ void shmi_begin(shmi_cuda_block<R> *b, const struct shmi_launch *launch,
                                                  uint32_t *left) {
  b->tid = (int)threadIdx.x;
  b->nthreads = (int)blockDim.x;
  b->step = 0;
  b->launch = launch;
  b->left = left;
  if (threadIdx.x == 0) *left = 0;
}

template <class R>
static __global__ void __launch_bounds__(SHMI_KERNEL_THREADS)
    shmi_kernel(const __grid_constant__ struct shmi_launch launch) {
  __shared__ struct shmi_share share;
  __shared__ uint32_t left;
  shmi_cuda_block<R> block;
  shmi_begin(&block, &launch, &left);
  if (shmi_block_kernel(&block, &share, (int)blockIdx.x) && launch.trap) __trap();
}

/* One block on a multiprocessor will do: with more in mind ptxas keeps registers in memory (sm_120). */
template <class R>
static __global__ void __launch_bounds__(SHMI_SUM_THREADS, 1)
    shmi_sum_kernel(const __grid_constant__ struct shmi_sum sum) {
  __shared__ uint32_t left;
  shmi_cuda_block<R> block;
  shmi_begin(&block, &sum.launch, &left);
  shmi_block_sum(&block, &sum, (int)blockIdx.x, (int)gridDim.x);
}

#endif
