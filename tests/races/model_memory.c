/*
 * model_memory.c - what compilers call at each access to memory in files compiled with -fsanitize=thread. This file
 * stands in for that tool's run-time library: accesses go to the model.
 *
 * Only what the explored code needs is here; the linker names what is missing.
 */
#include <string.h>

#include "model.h"

/* No header declares these: the compilers know them. */
#pragma GCC diagnostic ignored "-Wmissing-prototypes"

void __tsan_init(void) {}
void __tsan_func_entry(void *caller) { (void)caller; }
void __tsan_func_exit(void) {}

#define PLAIN(bytes)                                                                                                   \
  void __tsan_read##bytes(void *p) { model_plain(p, bytes, false); }                                                   \
  void __tsan_write##bytes(void *p) { model_plain(p, bytes, true); }                                                   \
  void __tsan_unaligned_read##bytes(void *p) { model_plain(p, bytes, false); }                                         \
  void __tsan_unaligned_write##bytes(void *p) { model_plain(p, bytes, true); }
PLAIN(1)
PLAIN(2)
PLAIN(4)
PLAIN(8)
PLAIN(16)
void __tsan_read_range(void *p, size_t bytes) { model_plain(p, bytes, false); }
void __tsan_write_range(void *p, size_t bytes) { model_plain(p, bytes, true); }

static bool acquires(int order) { return order == __ATOMIC_ACQUIRE || order >= __ATOMIC_ACQ_REL; }
static bool releases(int order) { return order >= __ATOMIC_RELEASE; }

#define ATOMIC(bits)                                                                                                   \
  uint##bits##_t __tsan_atomic##bits##_load(const uint##bits##_t *p, int order) {                                      \
    return (uint##bits##_t)model_load(p, sizeof *p, acquires(order));                                                  \
  }                                                                                                                    \
  void __tsan_atomic##bits##_store(uint##bits##_t *p, uint##bits##_t value, int order) {                               \
    model_store(p, value, sizeof *p, releases(order));                                                                 \
  }
ATOMIC(32)
ATOMIC(64)

/* Claims of private memory: of one thread each. */
uint32_t __tsan_atomic32_exchange(uint32_t *p, uint32_t value, int order) {
  const uint32_t old = *p;
  (void)order;
  *p = value;
  return old;
}

/* Calls of these that the compiler leaves are calls of the linker's choice (--wrap). */
void *__real_memcpy(void *to, const void *from, size_t bytes);
void *__wrap_memcpy(void *to, const void *from, size_t bytes) {
  model_plain(from, bytes, false);
  model_plain(to, bytes, true);
  return __real_memcpy(to, from, bytes);
}

/* clang's names. */
void *__tsan_memcpy(void *to, const void *from, size_t bytes) { return __wrap_memcpy(to, from, bytes); }
void *__tsan_memset(void *to, int value, size_t bytes) {
  model_plain(to, bytes, true);
  return memset(to, value, bytes);
}
