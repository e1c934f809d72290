/*
 * reference.h - what a reduction must give, bit for bit: docs/numerics.md in exact arithmetic, for the tests.
 *
 * Slow and written apart from src/reduce: floats are taken apart into integers, every operation is exact in 128 bits
 * and then rounded once. Uses no floating-point instruction, so no environment can disturb it.
 */
#ifndef REFERENCE_H
#define REFERENCE_H

#include <stddef.h>
#include <stdint.h>

#include "shmccl.h"

/* dst[i] = op(srcs[0][i], ... srcs[n-1][i]), i < count. dst may be one of srcs. Any alignment. */
void reference_reduce(void *dst, const void *const *srcs, int n, size_t count, shmccl_datatype_t datatype,
                      shmccl_redop_t op);

/* One float element to another float type, rounded to nearest even as a result of that type is (fp8 saturates). */
uint64_t reference_convert(uint64_t element, shmccl_datatype_t from, shmccl_datatype_t to);

/* The f32 `sum` divided by n, rounded once to `to`. */
uint64_t reference_average(uint32_t sum, int n, shmccl_datatype_t to);

#endif
