/*
 * convert.h - one element at a time: f16, bf16 and fp8 to and from f32, and the operators (docs/numerics.md).
 *
 * The scalar truth of the reduction layer, compiled by the C compiler into the CPU loops (kernels.h) and by nvcc into
 * the GPU ones, so that both give the same bits. Everything is a select instead of a branch, so that loops over these
 * functions vectorise. Needs the floating-point environment of docs/numerics.md and no contraction across operators.
 */
#ifndef SHMI_CONVERT_H
#define SHMI_CONVERT_H

#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#define SHMI_HD static __host__ __device__ __forceinline__
#else
#define SHMI_HD static inline __attribute__((always_inline, unused))
#endif

/* ---- bits ------------------------------------------------------------------------------------------------------ */

#define SHMI_F32_NAN      0x7fc00000u
#define SHMI_F32_INF      0x7f800000u
#define SHMI_F64_NAN      0x7ff8000000000000u
#define SHMI_F16_NAN      0x7e00u
#define SHMI_BF16_NAN     0x7fc0u
#define SHMI_E4M3_NAN     0x7fu
#define SHMI_E5M2_NAN     0x7eu
#define SHMI_F16_INF      0x7c00u
#define SHMI_BF16_INF     0x7f80u
#define SHMI_F64_INF      0x7ff0000000000000u
#define SHMI_E4M3_LARGEST 0x7eu /* e4m3 has no infinity */
#define SHMI_E5M2_INF     0x7cu

SHMI_HD uint32_t shmi_f32_bits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

SHMI_HD float shmi_f32_from_bits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

SHMI_HD uint64_t shmi_f64_bits(double value) {
  uint64_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

/* Results of f32 and f64: their bits, every NaN being the canonical one. */
SHMI_HD uint32_t shmi_f32_canonical(float value) { return value != value ? SHMI_F32_NAN : shmi_f32_bits(value); }
SHMI_HD uint64_t shmi_f64_canonical(double value) { return value != value ? SHMI_F64_NAN : shmi_f64_bits(value); }

/* All ones if a < b, else 0; for differences that fit. A compare would do, but gcc makes it in the type of the element
 * and then spends more on widening the mask than on all the rest. */
SHMI_HD uint32_t shmi_less(int32_t a, int32_t b) { return (uint32_t)((a - b) >> 31); }

/* a where the mask has ones, else b. */
SHMI_HD uint32_t shmi_select(uint32_t mask, uint32_t a, uint32_t b) { return (a & mask) | (b & ~mask); }

/* ---- small floats to f32: exact -------------------------------------------------------------------------------- */

/* A format of `width` bits of which `fraction` are the fraction; magnitudes from `special` on are infinity or NaN. */
SHMI_HD float shmi_widen(uint32_t element, int width, int fraction, int bias, int32_t special) {
  const uint32_t sign = 1u << (width - 1);
  const int32_t magnitude = (int32_t)(element & (sign - 1));
  const uint32_t rebias = (uint32_t)(127 - bias) << 23;
  /* Denormals are multiples of the smallest one. (To rescale them as f32 denormals would trap into microcode.) */
  const float smallest = shmi_f32_from_bits((uint32_t)(127 + 1 - bias - fraction) << 23);
  const uint32_t denormal = shmi_f32_bits((float)magnitude * smallest);
  uint32_t bits = ((uint32_t)magnitude << (23 - fraction)) + rebias;
  bits = shmi_select(shmi_less(magnitude, 1 << fraction), denormal, bits);
  bits |= SHMI_F32_INF & ~shmi_less(magnitude, special);
  return shmi_f32_from_bits(bits | (element & sign) << (32 - width));
}

SHMI_HD float shmi_f16_to_f32(uint16_t element) { return shmi_widen(element, 16, 10, 15, SHMI_F16_INF); }
SHMI_HD float shmi_e4m3_to_f32(uint8_t element) { return shmi_widen(element, 8, 3, 7, SHMI_E4M3_NAN); }
SHMI_HD float shmi_e5m2_to_f32(uint8_t element) { return shmi_widen(element, 8, 2, 15, SHMI_E5M2_INF); }
SHMI_HD float shmi_bf16_to_f32(uint16_t element) { return shmi_f32_from_bits((uint32_t)element << 16); }

/* ---- f32 to small floats: nearest even ------------------------------------------------------------------------- */

/* Magnitudes above `limit` become that: the largest number where the type saturates, else the power of two after it,
 * which comes out as infinity. */
SHMI_HD uint32_t shmi_narrow(float value, int width, int fraction, int bias, float limit, uint32_t nan) {
  const int shift = 23 - fraction;
  const uint32_t bits = shmi_f32_bits(value);
  const float whole = shmi_f32_from_bits(bits & 0x7fffffffu);
  const float magnitude = whole < limit ? whole : limit;
  const float smallest_normal = shmi_f32_from_bits((uint32_t)(128 - bias) << 23);
  /* The power of two below the value; all denormals count as of the first binade. */
  const float power = shmi_f32_from_bits(shmi_f32_bits(magnitude) & SHMI_F32_INF);
  const float binade = power > smallest_normal ? power : smallest_normal;
  /* 2^shift of that has as its last place the last one of the result, so the adder rounds there. */
  const uint32_t magic = shmi_f32_bits(binade) + ((uint32_t)shift << 23);
  const uint32_t significand = shmi_f32_bits(magnitude + shmi_f32_from_bits(magic)) - magic;
  /* Consecutive numbers have consecutive bits: a significand that carries is right too. */
  const uint32_t result = significand + ((shmi_f32_bits(binade) - shmi_f32_bits(smallest_normal)) >> shift);
  return value != value ? nan : result | (bits >> 31) << (width - 1);
}

SHMI_HD uint16_t shmi_f16_from_f32(float value) {
  return (uint16_t)shmi_narrow(value, 16, 10, 15, 65536.0f, SHMI_F16_NAN);
}
SHMI_HD uint8_t shmi_e4m3_from_f32(float value) { return (uint8_t)shmi_narrow(value, 8, 3, 7, 448.0f, SHMI_E4M3_NAN); }
SHMI_HD uint8_t shmi_e5m2_from_f32(float value) {
  return (uint8_t)shmi_narrow(value, 8, 2, 15, 57344.0f, SHMI_E5M2_NAN);
}
/* bf16 is the upper half of f32: the same denormals, and the carry into the exponent ends at infinity by itself. */
SHMI_HD uint16_t shmi_bf16_from_f32(float value) {
  const uint32_t bits = shmi_f32_bits(value);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1)) >> 16;
  return (uint16_t)(value != value ? SHMI_BF16_NAN : rounded);
}

/* ---- averages -------------------------------------------------------------------------------------------------- */

/* The quotient is rounded to f32 and then to the type, and yet only once in effect: the f32 is never a midpoint m
 * between two numbers of the type unless the true quotient q is, so it lies on the same side of m. For n <= 64, m * n
 * has at most 18 bits. If q is close to m, then m * n is a multiple of the last place of the sum (24 bits), so sum and
 * m * n differ by at least that, and q and m by more than 2^-24 of q: the division cannot close that gap. Where q is
 * denormal in f32, type is bf16, all sums are multiples of its smallest number 2^-133, and q and m differ by 2^-134 /
 * 64 at least. n: 1..64 as a float. */
SHMI_HD uint16_t shmi_f16_average(float sum, float n) { return shmi_f16_from_f32(sum / n); }
SHMI_HD uint16_t shmi_bf16_average(float sum, float n) { return shmi_bf16_from_f32(sum / n); }
SHMI_HD uint8_t shmi_e4m3_average(float sum, float n) { return shmi_e4m3_from_f32(sum / n); }
SHMI_HD uint8_t shmi_e5m2_average(float sum, float n) { return shmi_e5m2_from_f32(sum / n); }
SHMI_HD uint32_t shmi_f32_average(float sum, float n) { return shmi_f32_canonical(sum / n); }
SHMI_HD uint64_t shmi_f64_average(double sum, double n) { return shmi_f64_canonical(sum / n); }

/* Integers truncate toward zero. Up to 32 bits by a float division, which vectorises: a quotient that is no integer is
 * at least 1/64 away from one, more than the rounding can move it. The sum has already wrapped. */
SHMI_HD uint8_t shmi_i8_average(uint8_t sum, float n) { return (uint8_t)(int32_t)((float)(int8_t)sum / n); }
SHMI_HD uint8_t shmi_u8_average(uint8_t sum, float n) { return (uint8_t)(int32_t)((float)sum / n); }
SHMI_HD uint32_t shmi_i32_average(uint32_t sum, double n) { return (uint32_t)(int32_t)((double)(int32_t)sum / n); }
SHMI_HD uint32_t shmi_u32_average(uint32_t sum, double n) { return (uint32_t)((double)sum / n); }
SHMI_HD uint64_t shmi_i64_average(uint64_t sum, int64_t n) { return (uint64_t)((int64_t)sum / n); }
SHMI_HD uint64_t shmi_u64_average(uint64_t sum, uint64_t n) { return sum / n; }

/* ---- order of floats ------------------------------------------------------------------------------------------- */

/* Minimum and maximum of floats are the maximum of unsigned keys. The key for the maximum maps -largest .. -0, +0 ..
 * +largest to 0 .. 2 * largest + 1 and every NaN above; the key for the minimum maps the numbers in reverse order, and
 * NaNs above as well. So a NaN always wins, and otherwise the winner's bits come back exactly.
 * `largest` is the magnitude of infinity, or of the largest number where there is none. */
#define SHMI_DEFINE_KEYS(type, width, largest, nan)                                                                    \
  SHMI_HD uint##width##_t shmi_##type##_flip(uint##width##_t bits) {                                                   \
    return (uint##width##_t)(bits ^ ((int##width##_t)bits < 0 ? (uint##width##_t) - 1 >> 1 : 0));                      \
  }                                                                                                                    \
  SHMI_HD uint##width##_t shmi_##type##_max_key(uint##width##_t bits) {                                                \
    return (uint##width##_t)(shmi_##type##_flip(bits) + (largest) + 1);                                                \
  }                                                                                                                    \
  SHMI_HD uint##width##_t shmi_##type##_min_key(uint##width##_t bits) {                                                \
    return (uint##width##_t)(~shmi_##type##_flip(bits) + (largest) + 1);                                               \
  }                                                                                                                    \
  SHMI_HD uint##width##_t shmi_##type##_from_max_key(uint##width##_t key) {                                            \
    return (uint##width##_t)(key > 2 * (largest) + 1 ? (nan) : shmi_##type##_flip(key - (largest)-1));                 \
  }                                                                                                                    \
  SHMI_HD uint##width##_t shmi_##type##_from_min_key(uint##width##_t key) {                                            \
    return (uint##width##_t)(key > 2 * (largest) + 1 ? (nan) : shmi_##type##_flip(~(key - (largest)-1)));              \
  }

SHMI_DEFINE_KEYS(f64, 64, SHMI_F64_INF, SHMI_F64_NAN)
SHMI_DEFINE_KEYS(f32, 32, SHMI_F32_INF, SHMI_F32_NAN)
SHMI_DEFINE_KEYS(f16, 16, SHMI_F16_INF, SHMI_F16_NAN)
SHMI_DEFINE_KEYS(bf16, 16, SHMI_BF16_INF, SHMI_BF16_NAN)
SHMI_DEFINE_KEYS(e4m3, 8, SHMI_E4M3_LARGEST, SHMI_E4M3_NAN)
SHMI_DEFINE_KEYS(e5m2, 8, SHMI_E5M2_INF, SHMI_E5M2_NAN)
#undef SHMI_DEFINE_KEYS

#endif
