/*
 * kernels_generic.c - the loops of the reduction layer for any CPU, with what its baseline has (SSE2 on x86-64).
 */
#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>

static inline void copy_line(void *dst, const void *src) {
  __m128i *to = dst;
  const __m128i *from = src;
  const __m128i a = _mm_loadu_si128(from), b = _mm_loadu_si128(from + 1);
  const __m128i c = _mm_loadu_si128(from + 2), d = _mm_loadu_si128(from + 3);
  _mm_stream_si128(to, a);
  _mm_stream_si128(to + 1, b);
  _mm_stream_si128(to + 2, c);
  _mm_stream_si128(to + 3, d);
}
#else
static inline void copy_line(void *dst, const void *src) { memcpy(dst, src, 64); }
#endif

#define SHMI_ISA generic
#include "reduce/kernels.h"
