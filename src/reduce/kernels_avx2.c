/*
 * kernels_avx2.c - the loops of the reduction layer for CPUs with AVX2 and F16C.
 */
#include <immintrin.h>
#include <stdint.h>

#define LINES_AT_ONCE 8
typedef struct {
  __m256i half[2];
} line_t;
static inline line_t load_line(const void *from) {
  const __m256i *half = from;
  return (line_t){{_mm256_loadu_si256(half), _mm256_loadu_si256(half + 1)}};
}
static inline void store_line(void *to, line_t line) {
  __m256i *half = to;
  for (int i = 0; i < 2; i++) _mm256_storeu_si256(half + i, line.half[i]);
}
static inline void stream_line(void *to, line_t line) {
  __m256i *half = to;
  for (int i = 0; i < 2; i++) _mm256_stream_si256(half + i, line.half[i]);
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
