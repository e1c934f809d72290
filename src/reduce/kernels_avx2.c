/*
 * kernels_avx2.c - the loops of the reduction layer for CPUs with AVX2 and F16C.
 */
#include <immintrin.h>
#include <stdint.h>

static inline void copy_line(void *dst, const void *src) {
  __m256i *to = dst;
  const __m256i *from = src;
  const __m256i a = _mm256_loadu_si256(from), b = _mm256_loadu_si256(from + 1);
  _mm256_stream_si256(to, a);
  _mm256_stream_si256(to + 1, b);
}

#define SHMI_F16_LANES 8
typedef float vector_f32 __attribute__((vector_size(32)));
typedef uint32_t vector_u32 __attribute__((vector_size(32)));

static inline vector_f32 load_f16(const void *from) { return (vector_f32)_mm256_cvtph_ps(_mm_loadu_si128(from)); }
static inline void store_f16(void *to, vector_f32 value) {
  _mm_storeu_si128(to, _mm256_cvtps_ph((__m256)value, _MM_FROUND_TO_NEAREST_INT));
}

#define SHMI_ISA avx2
#include "reduce/kernels.h"
