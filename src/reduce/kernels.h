/*
 * kernels.h - the loops of the reduction layer, for one instruction set: a template that kernels_*.c include once each.
 *
 * The including file defines SHMI_ISA (generic, avx2, ...), line_t with its loads and stores, and SHMI_F16_LANES with
 * the f16 vector primitives where there are any. The loops are plain C over unaligned elements, written so that gcc and
 * clang vectorise them; the scalar functions that they inline are those of convert.h, so every instruction set gives
 * the same bits. Two sources, the common case, take one loop; more go through a tile of accumulators that stays in the
 * L1 cache.
 */
#include <stddef.h>
#include <string.h>

#include "reduce/convert.h"
#include "reduce/isa.h"

enum { TILE = 512 };

/* Users' buffers: no alignment, any effective type. */
#define UNALIGNED __attribute__((aligned(1), may_alias))
typedef uint8_t u8 UNALIGNED;
typedef int8_t i8 UNALIGNED;
typedef uint16_t u16 UNALIGNED;
typedef uint32_t u32 UNALIGNED;
typedef int32_t i32 UNALIGNED;
typedef uint64_t u64 UNALIGNED;
typedef int64_t i64 UNALIGNED;
typedef float f32 UNALIGNED;
typedef double f64 UNALIGNED;

/* dst may be equal to a source but is never shifted against it, so iterations are independent. No compiler can know. */
#ifdef __clang__
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#pragma clang diagnostic ignored "-Wpass-failed" /* division of 64-bit integers does not vectorise */
#else
#define INDEPENDENT _Pragma("GCC ivdep")
#endif

/* Defines the shmi_reduce_fn `name` for elements of type `in` and results of type `out` of the same size. LOAD(x) makes
 * an accumulator of an element, COMBINE(a, b) one of two, and the expression FINISH an element of `result`, the last
 * accumulator, and `n`, the number of sources. */
#define KERNEL(name, in, out, accumulator, LOAD, COMBINE, FINISH)                                                      \
  static void name(void *dst, const void *const *srcs, int nsrcs, size_t count) {                                      \
    const in *first = srcs[0], *second = srcs[1], *last = srcs[nsrcs - 1];                                             \
    out *to = dst;                                                                                                     \
    if (nsrcs == 2) {                                                                                                  \
      enum { n = 2 };                                                                                                  \
      INDEPENDENT for (size_t i = 0; i < count; i++) {                                                                 \
        const accumulator result = COMBINE(LOAD(first[i]), LOAD(last[i]));                                             \
        to[i] = FINISH;                                                                                                \
      }                                                                                                                \
      return;                                                                                                          \
    }                                                                                                                  \
    const int n = nsrcs;                                                                                               \
    accumulator tile[TILE];                                                                                            \
    for (size_t done = 0; done < count; done += TILE) {                                                                \
      const size_t part = count - done < TILE ? count - done : TILE;                                                   \
      for (size_t i = 0; i < part; i++) tile[i] = COMBINE(LOAD(first[done + i]), LOAD(second[done + i]));              \
      for (int k = 2; k < n - 1; k++) {                                                                                \
        const in *next = (const in *)srcs[k] + done;                                                                   \
        for (size_t i = 0; i < part; i++) tile[i] = COMBINE(tile[i], LOAD(next[i]));                                   \
      }                                                                                                                \
      INDEPENDENT for (size_t i = 0; i < part; i++) {                                                                  \
        const accumulator result = COMBINE(tile[i], LOAD(last[done + i]));                                             \
        to[done + i] = FINISH;                                                                                         \
      }                                                                                                                \
    }                                                                                                                  \
    (void)n;                                                                                                           \
  }

#define SAME(a)        (a)
#define ADD(a, b)      ((a) + (b))
#define MULTIPLY(a, b) ((a) * (b))
#define GREATER(a, b)  ((a) > (b) ? (a) : (b))
#define SMALLER(a, b)  ((a) < (b) ? (a) : (b))

/* ---- integers: sums and products wrap, which is the same for both signs ---------------------------------------- */

#define INTEGER_KERNELS(width)                                                                                         \
  KERNEL(sum_u##width, u##width, u##width, uint##width##_t, SAME, ADD, result)                                         \
  KERNEL(prod_u##width, u##width, u##width, uint##width##_t, SAME, MULTIPLY, result)                                   \
  KERNEL(max_u##width, u##width, u##width, uint##width##_t, SAME, GREATER, result)                                     \
  KERNEL(min_u##width, u##width, u##width, uint##width##_t, SAME, SMALLER, result)                                     \
  KERNEL(max_i##width, i##width, i##width, int##width##_t, SAME, GREATER, result)                                      \
  KERNEL(min_i##width, i##width, i##width, int##width##_t, SAME, SMALLER, result)                                      \
  KERNEL(avg_u##width, u##width, u##width, uint##width##_t, SAME, ADD, shmi_u##width##_average(result, n))             \
  KERNEL(avg_i##width, u##width, u##width, uint##width##_t, SAME, ADD, shmi_i##width##_average(result, n))

INTEGER_KERNELS(8)
INTEGER_KERNELS(32)
INTEGER_KERNELS(64)

/* ---- floats: sums, products and averages accumulate in f32, f64 in itself -------------------------------------- */

#define FLOAT_KERNELS(type, in, out, accumulator, LOAD, FINISH)                                                        \
  KERNEL(sum_##type, in, out, accumulator, LOAD, ADD, FINISH)                                                          \
  KERNEL(prod_##type, in, out, accumulator, LOAD, MULTIPLY, FINISH)                                                    \
  KERNEL(avg_##type, in, out, accumulator, LOAD, ADD, shmi_##type##_average(result, n))

FLOAT_KERNELS(f64, f64, u64, double, SAME, shmi_f64_canonical(result))
FLOAT_KERNELS(f32, f32, u32, float, SAME, shmi_f32_canonical(result))
FLOAT_KERNELS(bf16, u16, u16, float, shmi_bf16_to_f32, shmi_bf16_from_f32(result))
FLOAT_KERNELS(e4m3, u8, u8, float, shmi_e4m3_to_f32, shmi_e4m3_from_f32(result))
FLOAT_KERNELS(e5m2, u8, u8, float, shmi_e5m2_to_f32, shmi_e5m2_from_f32(result))

#ifndef SHMI_F16_LANES
FLOAT_KERNELS(f16, u16, u16, float, shmi_f16_to_f32, shmi_f16_from_f32(result))
#else
#include "reduce/kernels_f16.h"
#endif

#define ORDER_KERNELS(type, width)                                                                                     \
  KERNEL(max_##type, u##width, u##width, uint##width##_t, shmi_##type##_max_key, GREATER,                              \
         shmi_##type##_from_max_key(result))                                                                           \
  KERNEL(min_##type, u##width, u##width, uint##width##_t, shmi_##type##_min_key, GREATER,                              \
         shmi_##type##_from_min_key(result))

ORDER_KERNELS(f64, 64)
ORDER_KERNELS(f32, 32)
ORDER_KERNELS(f16, 16)
ORDER_KERNELS(bf16, 16)
ORDER_KERNELS(e4m3, 8)
ORDER_KERNELS(e5m2, 8)

/* ---- copies ---------------------------------------------------------------------------------------------------- */

/* Several lines are loaded before the first is stored, so that main memory works on all of them at once; a loop of load
 * and store waits for each store's turn. Whole lines of dst only; returns how many bytes were copied. */
#define COPY_LINES(name, store)                                                                                        \
  static size_t name(char *to, const char *from, size_t bytes) {                                                       \
    size_t done = 0;                                                                                                   \
    for (; bytes - done >= 64 * LINES_AT_ONCE; done += 64 * LINES_AT_ONCE) {                                           \
      line_t line[LINES_AT_ONCE];                                                                                      \
      for (int i = 0; i < LINES_AT_ONCE; i++) line[i] = load_line(from + done + 64 * i);                               \
      for (int i = 0; i < LINES_AT_ONCE; i++) store(to + done + 64 * i, line[i]);                                      \
    }                                                                                                                  \
    for (; bytes - done >= 64; done += 64) store(to + done, load_line(from + done));                                   \
    return done;                                                                                                       \
  }
COPY_LINES(copy_lines, store_line)
COPY_LINES(stream_lines, stream_line)

static void copy(void *dst, const void *src, size_t bytes) {
  char *to = dst;
  const char *from = src;
  size_t done = copy_lines(to, from, bytes);
  memcpy(to + done, from + done, bytes - done);
}

/* Whole lines of dst go out as one burst each; what is left at both ends is written normally. */
static void stream_copy(void *dst, const void *src, size_t bytes) {
  char *to = dst;
  const char *from = src;
  size_t head = -(uintptr_t)to & 63;
  if (head > bytes) head = bytes;
  memcpy(to, from, head);
  size_t done = head + stream_lines(to + head, from + head, bytes - head);
  memcpy(to + done, from + done, bytes - done);
}

/* ---- table ----------------------------------------------------------------------------------------------------- */

#define JOIN(a, b)      a##b
#define ISA_OBJECT(isa) JOIN(shmi_isa_, isa)
#define ISA_STRING(isa) ISA_QUOTE(isa)
#define ISA_QUOTE(isa)  #isa

#define ROW(arithmetic, order, average)                                                                                \
  { sum_##arithmetic, prod_##arithmetic, max_##order, min_##order, avg_##average }

const shmi_isa_t ISA_OBJECT(SHMI_ISA) = {
    .name = ISA_STRING(SHMI_ISA),
    .reduce =
        {
            [SHMCCL_INT8] = ROW(u8, i8, i8),
            [SHMCCL_UINT8] = ROW(u8, u8, u8),
            [SHMCCL_INT32] = ROW(u32, i32, i32),
            [SHMCCL_UINT32] = ROW(u32, u32, u32),
            [SHMCCL_INT64] = ROW(u64, i64, i64),
            [SHMCCL_UINT64] = ROW(u64, u64, u64),
            [SHMCCL_FLOAT16] = ROW(f16, f16, f16),
            [SHMCCL_FLOAT32] = ROW(f32, f32, f32),
            [SHMCCL_FLOAT64] = ROW(f64, f64, f64),
            [SHMCCL_BFLOAT16] = ROW(bf16, bf16, bf16),
            [SHMCCL_FLOAT8E4M3] = ROW(e4m3, e4m3, e4m3),
            [SHMCCL_FLOAT8E5M2] = ROW(e5m2, e5m2, e5m2),
        },
    .copy = copy,
    .stream_copy = stream_copy,
};
