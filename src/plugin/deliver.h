/*
 * deliver.h - the copy into a receiver's buffer.
 *
 * NCCL's kernels do not wait for a message to be complete: with protocol LL they poll the flag in each 8-byte unit of
 * the buffer while the message comes in, with LL128 the last 8 bytes of each 128-byte line. So units are stored whole,
 * lines from their first byte to their last, in order. memcpy promises neither: its long forms store the first bytes
 * last, or past the caches. Aligned 16-byte stores are single on every x86 that has AVX, and in two whole halves
 * elsewhere.
 */
#ifndef SHMI_PLUGIN_DELIVER_H
#define SHMI_PLUGIN_DELIVER_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/ordering.h"

#if defined(__SANITIZE_THREAD__)
#define SHMI_DELIVER_WORDS 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SHMI_DELIVER_WORDS 1
#endif
#endif

typedef uint64_t shmi_pair_store __attribute__((vector_size(16), may_alias));
typedef uint64_t shmi_pair_load __attribute__((vector_size(16), may_alias, aligned(1)));
typedef uint64_t shmi_unit __attribute__((may_alias));

static inline void shmi_deliver_unit(uint8_t *to, const uint8_t *from) {
  uint64_t unit;
  memcpy(&unit, from, sizeof unit);
  shmi_publish64((shmi_unit *)(void *)to, unit);
}

/* `to` is at the start of a 128-byte line. */
static inline void shmi_deliver_line(uint8_t *to, const uint8_t *from) {
#ifdef SHMI_DELIVER_WORDS /* ThreadSanitizer must see that these stores may meet a reader's loads */
  for (int i = 0; i < 128; i += 8) shmi_deliver_unit(to + i, from + i);
#else
  shmi_pair_load pair[8];
  for (int i = 0; i < 8; i++) pair[i] = ((const shmi_pair_load *)(const void *)from)[i];
  for (int i = 0; i < 7; i++) ((shmi_pair_store *)(void *)to)[i] = pair[i];
  shmi_keep_order();
  ((shmi_pair_store *)(void *)to)[7] = pair[7];
  shmi_keep_order();
#endif
}

static inline void shmi_deliver(uint8_t *to, const uint8_t *from, size_t bytes) {
  if (((uintptr_t)to & 7) == 0) {
    for (; bytes >= 8 && ((uintptr_t)to & 127); to += 8, from += 8, bytes -= 8) shmi_deliver_unit(to, from);
    for (; bytes >= 128; to += 128, from += 128, bytes -= 128) shmi_deliver_line(to, from);
    for (; bytes >= 8; to += 8, from += 8, bytes -= 8) shmi_deliver_unit(to, from);
  }
  if (bytes) memcpy(to, from, bytes);
}

#endif
