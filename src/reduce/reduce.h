/*
 * reduce.h - element types and operators on host memory.
 *
 * The lowest layer that knows what an element is: n source arrays in, one result array out, in rank order, rounded once
 * (docs/numerics.md). The implementation for this CPU is chosen once, at the first look-up. Knows nothing of ranks,
 * segments or time.
 */
#ifndef SHMI_REDUCE_H
#define SHMI_REDUCE_H

#include <stdint.h>

#include "shmccl.h"

/* dst[i] = op(srcs[0][i], srcs[1][i], ... srcs[nsrcs-1][i]) for i < count, evaluated from left to right.
 * nsrcs: 2..SHMCCL_MAX_RANKS. No pointer needs alignment. dst may be equal to one of srcs; no other overlap.
 * SHMCCL_AVG divides by nsrcs. Must run inside shmi_fpenv_enter/leave. */
typedef void (*shmi_reduce_fn)(void *dst, const void *const *srcs, int nsrcs, size_t count);

/* The function for a pair that shmi_reduce_lookup's caller has checked to be valid. Never NULL. */
shmi_reduce_fn shmi_reduce_lookup(shmccl_datatype_t datatype, shmccl_redop_t op);

/* memcpy for pieces of up to a few KiB, at the best rate from main memory. */
void shmi_copy(void *dst, const void *src, size_t bytes);

/* Copies past the caches (non-temporal stores), for destinations too large to stay in them. Any alignment, no overlap.
 * The bytes are ordered before later stores by shmi_stream_fence() only. */
void shmi_stream_copy(void *dst, const void *src, size_t bytes);
void shmi_stream_fence(void);

/* The instruction set in use: "avx512", "avx2" or "generic". SHMCCL_ISA chooses a lower one. */
const char *shmi_reduce_isa(void);

/* Sets the floating-point control word that docs/numerics.md demands (round to nearest, denormals kept, no traps),
 * and gives back the caller's. On x86 leave() also gives back the caller's sticky flags if enter() changed anything. */
typedef struct {
  uint32_t control;
  int changed;
} shmi_fpenv_t;
shmi_fpenv_t shmi_fpenv_enter(void);
void shmi_fpenv_leave(shmi_fpenv_t env);

#endif
