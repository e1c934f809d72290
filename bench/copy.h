/*
 * Plain copies of memory, the yardstick of bounds.h: by memcpy, or by stores that bypass the caches where the processor
 * has such (destinations aligned to 16 bytes, sizes in multiples of 64).
 */
#ifndef BENCH_COPY_H
#define BENCH_COPY_H

#include <stddef.h>
#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
static inline void copy_streaming(void *to, const void *from, size_t bytes) {
  __m128i *out = to;
  const __m128i *in = from;
  for (size_t i = 0; i < bytes / sizeof *in; i += 4) {
    __m128i a = _mm_loadu_si128(in + i), b = _mm_loadu_si128(in + i + 1);
    __m128i c = _mm_loadu_si128(in + i + 2), d = _mm_loadu_si128(in + i + 3);
    _mm_stream_si128(out + i, a);
    _mm_stream_si128(out + i + 1, b);
    _mm_stream_si128(out + i + 2, c);
    _mm_stream_si128(out + i + 3, d);
  }
  _mm_sfence();
}
#else
static inline void copy_streaming(void *to, const void *from, size_t bytes) { memcpy(to, from, bytes); }
#endif

static inline void copy_bytes(void *to, const void *from, size_t bytes, int streaming) {
  if (streaming)
    copy_streaming(to, from, bytes);
  else
    memcpy(to, from, bytes);
  __asm__ volatile("" : : "r"(to) : "memory"); /* nobody reads the copy: keep it anyway */
}

#endif
