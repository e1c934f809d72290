/*
 * device.cuh - the reductions for CUDA: one struct for each pair of type and operator, with the scalar functions of
 * convert.h, so that the bits are those of the CPU loops (docs/numerics.md). Compile with -fmad=false.
 *
 * element: the unsigned integer that holds an element's bits. accumulator: what elements are combined in, from left to
 * right. same is for calls that reduce nothing.
 */
#ifndef SHMI_DEVICE_CUH
#define SHMI_DEVICE_CUH

#include "reduce/convert.h"
#include "shmccl.h"

#define SHMI_SAME(x)        (x)
#define SHMI_ADD(a, b)      ((a) + (b))
#define SHMI_MULTIPLY(a, b) ((a) * (b))
#define SHMI_GREATER(a, b)  ((a) > (b) ? (a) : (b))
#define SHMI_SMALLER(a, b)  ((a) < (b) ? (a) : (b))

#define SHMI_REDUCTION(name, bits, type, LOAD, COMBINE, FINISH)                                                        \
  struct name {                                                                                                        \
    static const bool is_byte = sizeof(type) == 1;                                                                     \
    typedef uint##bits##_t element;                                                                                    \
    typedef type accumulator;                                                                                          \
    static __device__ __forceinline__ accumulator load(element x) { return (accumulator)LOAD(x); }                     \
    static __device__ __forceinline__ accumulator combine(accumulator a, accumulator b) {                              \
      return (accumulator)COMBINE(a, b);                                                                               \
    }                                                                                                                  \
    static __device__ __forceinline__ element finish(accumulator result, int n) {                                      \
      (void)n;                                                                                                         \
      return (element)FINISH;                                                                                          \
    }                                                                                                                  \
  };

/* Sums and products wrap, which is the same for both signs. */
#define SHMI_INTEGER_REDUCTIONS(bits, count_type)                                                                      \
  SHMI_REDUCTION(sum_u##bits, bits, uint##bits##_t, SHMI_SAME, SHMI_ADD, result)                                       \
  SHMI_REDUCTION(prod_u##bits, bits, uint##bits##_t, SHMI_SAME, SHMI_MULTIPLY, result)                                 \
  SHMI_REDUCTION(max_u##bits, bits, uint##bits##_t, SHMI_SAME, SHMI_GREATER, result)                                   \
  SHMI_REDUCTION(min_u##bits, bits, uint##bits##_t, SHMI_SAME, SHMI_SMALLER, result)                                   \
  SHMI_REDUCTION(max_i##bits, bits, int##bits##_t, SHMI_SAME, SHMI_GREATER, result)                                    \
  SHMI_REDUCTION(min_i##bits, bits, int##bits##_t, SHMI_SAME, SHMI_SMALLER, result)                                    \
  SHMI_REDUCTION(avg_u##bits, bits, uint##bits##_t, SHMI_SAME, SHMI_ADD,                                               \
                 shmi_u##bits##_average(result, (count_type)n))                                                        \
  SHMI_REDUCTION(avg_i##bits, bits, uint##bits##_t, SHMI_SAME, SHMI_ADD, shmi_i##bits##_average(result, (count_type)n))

SHMI_INTEGER_REDUCTIONS(8, float)
SHMI_INTEGER_REDUCTIONS(32, double)
SHMI_INTEGER_REDUCTIONS(64, int64_t)

#define SHMI_FLOAT_REDUCTIONS(type, bits, wide, LOAD, STORE)                                                           \
  SHMI_REDUCTION(sum_##type, bits, wide, LOAD, SHMI_ADD, STORE(result))                                                \
  SHMI_REDUCTION(prod_##type, bits, wide, LOAD, SHMI_MULTIPLY, STORE(result))                                          \
  SHMI_REDUCTION(avg_##type, bits, wide, LOAD, SHMI_ADD, shmi_##type##_average(result, (wide)n))                       \
  SHMI_REDUCTION(max_##type, bits, uint##bits##_t, shmi_##type##_max_key, SHMI_GREATER,                                \
                 shmi_##type##_from_max_key(result))                                                                   \
  SHMI_REDUCTION(min_##type, bits, uint##bits##_t, shmi_##type##_min_key, SHMI_GREATER,                                \
                 shmi_##type##_from_min_key(result))

static __device__ __forceinline__ double shmi_f64_of(uint64_t bits) { return __longlong_as_double((long long)bits); }

SHMI_FLOAT_REDUCTIONS(f64, 64, double, shmi_f64_of, shmi_f64_canonical)
SHMI_FLOAT_REDUCTIONS(f32, 32, float, shmi_f32_from_bits, shmi_f32_canonical)
SHMI_FLOAT_REDUCTIONS(f16, 16, float, shmi_f16_to_f32, shmi_f16_from_f32)
SHMI_FLOAT_REDUCTIONS(bf16, 16, float, shmi_bf16_to_f32, shmi_bf16_from_f32)
SHMI_FLOAT_REDUCTIONS(e4m3, 8, float, shmi_e4m3_to_f32, shmi_e4m3_from_f32)
SHMI_FLOAT_REDUCTIONS(e5m2, 8, float, shmi_e5m2_to_f32, shmi_e5m2_from_f32)

/* ---- several elements at once ------------------------------------------------------------------------------------ */

/* `bytes` of user or staging memory as elements, kept in registers: every index must be a constant after unrolling. */
template <class R, int bytes> struct shmi_vector {
  static const int length = bytes / (int)sizeof(typename R::element);
  typename R::accumulator values[length];

  __device__ __forceinline__ void first(const typename R::element *in) {
#pragma unroll
    for (int i = 0; i < length; i++) values[i] = R::load(in[i]);
  }
  __device__ __forceinline__ void next(const typename R::element *in) {
#pragma unroll
    for (int i = 0; i < length; i++) values[i] = R::combine(values[i], R::load(in[i]));
  }
  __device__ __forceinline__ void last(typename R::element *out, int n) const {
#pragma unroll
    for (int i = 0; i < length; i++) out[i] = R::finish(values[i], n);
  }
};

#endif
