/*
 * kernels_generic.c - the loops of the reduction layer for any CPU, with what its baseline has (SSE2 on x86-64).
 */
#include <stdint.h>
#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>

#define LINES_AT_ONCE 4
typedef struct {
  __m128i quarter[4];
} line_t;
static inline line_t load_line(const void *from) {
  line_t line;
  for (int i = 0; i < 4; i++) line.quarter[i] = _mm_loadu_si128((const __m128i *)from + i);
  return line;
}
static inline void store_line(void *to, line_t line) {
  for (int i = 0; i < 4; i++) _mm_storeu_si128((__m128i *)to + i, line.quarter[i]);
}
static inline void stream_line(void *to, line_t line) {
  for (int i = 0; i < 4; i++) _mm_stream_si128((__m128i *)to + i, line.quarter[i]);
}
#else
#define LINES_AT_ONCE 4
typedef struct {
  uint64_t word[8];
} line_t;
static inline line_t load_line(const void *from) {
  line_t line;
  memcpy(&line, from, sizeof line);
  return line;
}
static inline void store_line(void *to, line_t line) { memcpy(to, &line, sizeof line); }
static inline void stream_line(void *to, line_t line) { store_line(to, line); }
#endif

#define SHMI_ISA generic
#include "reduce/kernels.h"
