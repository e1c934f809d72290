/*
 * ordering.h - the only file that names a memory order.
 *
 * Ranks share lines of memory and never a lock. Each operation below is named by its use, with the failure it prevents.
 * They are plain loads and stores of aligned words (no read-modify-write: a GPU cannot do one on host memory over every
 * PCIe path), the same for CPU threads, processes on one mapping and CUDA blocks. The 8-byte word is the largest unit
 * that every path keeps whole.
 *
 * SHMI_BREAK_PUBLISH and SHMI_BREAK_OBSERVE build the broken variants: negative controls of tests/collectives and
 * tests/device.
 */
#ifndef SHMI_ORDERING_H
#define SHMI_ORDERING_H

#include <stdint.h>

#include "base/points.h"

#ifdef __CUDACC__
#define SHMI_FN static __host__ __device__ __forceinline__
/* Protocol that a block of threads runs, over the primitives of its executor: CUDA has one type of block for each
 * reduction. */
#define SHMI_BLOCK_FN template <class shmi_block> static __device__ __forceinline__
#define SHMI_BLOCK    shmi_block
#define SHMI_UNROLL   _Pragma("unroll")
#else
#define SHMI_FN       static inline
#define SHMI_BLOCK_FN static inline
#define SHMI_BLOCK    struct shmi_block
#define SHMI_UNROLL
#endif

#ifdef SHMI_BREAK_PUBLISH
#define SHMI_PUBLISH_ORDER __ATOMIC_RELAXED
#else
#define SHMI_PUBLISH_ORDER __ATOMIC_RELEASE
#endif
#ifdef SHMI_BREAK_OBSERVE
#define SHMI_OBSERVE_ORDER __ATOMIC_RELAXED
#else
#define SHMI_OBSERVE_ORDER __ATOMIC_ACQUIRE
#endif

/* Publish: everything this thread wrote or read before is done, for whoever observes the word.
 * Without it a peer sees the new word and still reads old staging bytes, or this thread's late reads meet the peer's
 * next chunk in a slot that the word already gave back. */
SHMI_FN void shmi_publish64(uint64_t *word, uint64_t value) {
  SHMI_POINT("before publish");
#ifdef __CUDA_ARCH__
  asm volatile("st.release.sys.global.u64 [%0], %1;" ::"l"(word), "l"(value) : "memory");
#else
  __atomic_store_n(word, value, SHMI_PUBLISH_ORDER);
#endif
  SHMI_POINT("after publish");
}

SHMI_FN void shmi_publish32(uint32_t *word, uint32_t value) {
  SHMI_POINT("before publish");
#ifdef __CUDA_ARCH__
  asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(word), "r"(value) : "memory");
#else
  __atomic_store_n(word, value, SHMI_PUBLISH_ORDER);
#endif
  SHMI_POINT("after publish");
}

/* Observe: once the awaited value is seen, what its writer did before is seen too.
 * Without it this thread's loads of the payload may be satisfied before the load of the word: old bytes, new word. */
SHMI_FN uint64_t shmi_observe64(const uint64_t *word) {
#ifdef __CUDA_ARCH__
  uint64_t value;
  asm volatile("ld.acquire.sys.global.u64 %0, [%1];" : "=l"(value) : "l"(word) : "memory");
  SHMI_POINT_SEEN(word, value);
  return value;
#else
  const uint64_t value = __atomic_load_n(word, SHMI_OBSERVE_ORDER);
  SHMI_POINT_SEEN(word, value);
  return value;
#endif
}

SHMI_FN uint32_t shmi_observe32(const uint32_t *word) {
#ifdef __CUDA_ARCH__
  uint32_t value;
  asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(value) : "l"(word) : "memory");
  SHMI_POINT_SEEN(word, value);
  return value;
#else
  const uint32_t value = __atomic_load_n(word, SHMI_OBSERVE_ORDER);
  SHMI_POINT_SEEN(word, value);
  return value;
#endif
}

/* Peek and note: a lone word by which nothing else is ordered (a level, a hint). Whole, but in no order with anything.
 * Plain accesses would let the compiler read it once for a whole loop, or twice where the code says once. */
SHMI_FN uint64_t shmi_peek64(const uint64_t *word) {
#ifdef __CUDA_ARCH__
  return *(const volatile uint64_t *)word;
#else
  return __atomic_load_n(word, __ATOMIC_RELAXED);
#endif
}

SHMI_FN uint32_t shmi_peek32(const uint32_t *word) {
#ifdef __CUDA_ARCH__
  return *(const volatile uint32_t *)word;
#else
  return __atomic_load_n(word, __ATOMIC_RELAXED);
#endif
}

SHMI_FN void shmi_note32(uint32_t *word, uint32_t value) {
#ifdef __CUDA_ARCH__
  *(volatile uint32_t *)word = value;
#else
  __atomic_store_n(word, value, __ATOMIC_RELAXED);
#endif
}

SHMI_FN void shmi_note64(uint64_t *word, uint64_t value) {
#ifdef __CUDA_ARCH__
  *(volatile uint64_t *)word = value;
#else
  __atomic_store_n(word, value, __ATOMIC_RELAXED);
#endif
}

/* The same for two neighbouring words, in one access where there is one: each is whole by itself. 16-byte aligned. */
struct shmi_two_words {
  uint64_t a, b;
};

SHMI_FN struct shmi_two_words shmi_peek_two(const uint64_t *words) {
  struct shmi_two_words two;
#ifdef __CUDA_ARCH__
  asm volatile("ld.volatile.global.v2.u64 {%0, %1}, [%2];" : "=l"(two.a), "=l"(two.b) : "l"(words) : "memory");
#else
  two.a = shmi_peek64(words);
  two.b = shmi_peek64(words + 1);
#endif
  return two;
}

SHMI_FN void shmi_note_two(uint64_t *words, uint64_t a, uint64_t b) {
#ifdef __CUDA_ARCH__
  asm volatile("st.volatile.global.v2.u64 [%0], {%1, %2};" ::"l"(words), "l"(a), "l"(b) : "memory");
#else
  shmi_note64(words, a);
  shmi_note64(words + 1, b);
#endif
}

#ifndef __CUDACC__
/* Keep order: whoever sees a store after it sees those before it. For readers that poll bytes which no word announces
 * (NCCL's kernels look at the flags within a message). Without it a line's flag could be seen before its data. */
static inline void shmi_keep_order(void) {
#if defined(__x86_64__) || defined(__i386__)
  __asm__ volatile("" ::: "memory"); /* the processor keeps stores in order; the compiler need not */
#else
  __atomic_thread_fence(__ATOMIC_RELEASE);
#endif
}

/* Claim: true for exactly one of the threads of this process that call it on a flag in private memory.
 * Without it two threads could both write this rank's abort line, and peers would read half of each. */
static inline int shmi_claim(uint32_t *flag) { return __atomic_exchange_n(flag, 1, __ATOMIC_ACQ_REL) == 0; }

/* Replace: sets *where to value if it is still `expected`, for whoever follows the pointer. Without it a reader could
 * follow it to an array whose entries are not there yet. */
static inline int shmi_replace_pointer(char ***where, char **expected, char **value) {
  return __atomic_compare_exchange_n(where, &expected, value, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

/* Next: numbers 0, 1, 2, ... each given once among the threads of this process. Nothing else is ordered by it. */
static inline uint32_t shmi_next32(uint32_t *counter) { return __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED); }
#endif

#endif
