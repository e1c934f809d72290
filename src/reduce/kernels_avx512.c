/*
 * kernels_avx512.c - the loops of the reduction layer for CPUs with AVX-512 (F, BW, DQ, VL).
 */
#include <immintrin.h>
#include <stdint.h>

#define LINES_AT_ONCE 8
typedef __m512i line_t;
static inline line_t load_line(const void *from) { return _mm512_loadu_si512(from); }
static inline void store_line(void *to, line_t line) { _mm512_storeu_si512(to, line); }
static inline void stream_line(void *to, line_t line) { _mm512_stream_si512(to, line); }

#define SHMI_F16_LANES 16
typedef float vector_f32 __attribute__((vector_size(64)));
typedef uint32_t vector_u32 __attribute__((vector_size(64)));

static inline vector_f32 load_f16(const void *from) { return (vector_f32)_mm512_cvtph_ps(_mm256_loadu_si256(from)); }
static inline void store_f16(void *to, vector_f32 value) {
  _mm256_storeu_si256(to, _mm512_cvtps_ph((__m512)value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

#define SHMI_ISA avx512
#include "reduce/kernels.h"
