/*
 * arithmetic.h - the reductions of NCCL's kernels, by the library's own reduction layer.
 *
 * Which order and how many roundings NCCL's kernels have is not copied: tests use values whose results are exact.
 */
#ifndef STANDIN_NCCL_ARITHMETIC_H
#define STANDIN_NCCL_ARITHMETIC_H

#include "functions.h"

struct arithmetic {
  enum redop op;
  enum element element;
  uint64_t argument; /* a scalar, a mask or a divisor: see arithmetic.c */
};

size_t element_bytes(enum element element);

/* dst = the sources combined, in their order; nsrcs at least 2. dst may be one of them. */
void arithmetic_combine(const struct arithmetic *a, void *dst, const void *const *srcs, int nsrcs, size_t count);

/* What an average does to each rank's input before the sum (floats), and to the sum (integers); dst may be src. */
void arithmetic_before(const struct arithmetic *a, void *dst, const void *src, size_t count);
void arithmetic_after(const struct arithmetic *a, void *data, size_t count);

#endif
