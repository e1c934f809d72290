/* arithmetic.c - see arithmetic.h. */
#include "arithmetic.h"

#include <stdbool.h>
#include <string.h>

#include "reduce/reduce.h"

static const shmccl_datatype_t datatypes[ELEMENTS] = {
    [BF16] = SHMCCL_BFLOAT16,     [F16] = SHMCCL_FLOAT16,       [F32] = SHMCCL_FLOAT32, [F64] = SHMCCL_FLOAT64,
    [F8E4M3] = SHMCCL_FLOAT8E4M3, [F8E5M2] = SHMCCL_FLOAT8E5M2, [I32] = SHMCCL_INT32,   [I64] = SHMCCL_INT64,
    [I8] = SHMCCL_INT8,           [U32] = SHMCCL_UINT32,        [U64] = SHMCCL_UINT64,  [U8] = SHMCCL_UINT8,
};

size_t element_bytes(enum element element) { return shmccl_datatype_size(datatypes[element]); }

static void reduce(shmccl_datatype_t type, shmccl_redop_t op, void *dst, const void *const *srcs, int n, size_t count) {
  const shmi_fpenv_t env = shmi_fpenv_enter();
  shmi_reduce_lookup(type, op)(dst, srcs, n, count);
  shmi_fpenv_leave(env);
}

/* MIN_MAX has as argument a mask that turns its integers into unsigned ones of which the least wins: all bits for a
 * maximum, exclusive-or the sign bit for a signed type. Of floats, bit 0 asks for the maximum. */
static void combine_min_max(const struct arithmetic *a, void *dst, const void *const *srcs, int nsrcs, size_t count) {
  static const shmccl_datatype_t with_sign[ELEMENTS] = {[U8] = SHMCCL_INT8, [U32] = SHMCCL_INT32, [U64] = SHMCCL_INT64};
  const unsigned sign_bit = (unsigned)(8 * element_bytes(a->element) - 1);
  const bool maximum = a->argument & 1, is_signed = a->element >= I32 && (a->argument >> sign_bit & 1) != maximum;
  reduce(is_signed ? with_sign[a->element] : datatypes[a->element], maximum ? SHMCCL_MAX : SHMCCL_MIN, dst, srcs, nsrcs,
         count);
}

void arithmetic_combine(const struct arithmetic *a, void *dst, const void *const *srcs, int nsrcs, size_t count) {
  if (a->op == MIN_MAX)
    combine_min_max(a, dst, srcs, nsrcs, count);
  else
    reduce(datatypes[a->element], a->op == PROD ? SHMCCL_PROD : SHMCCL_SUM, dst, srcs, nsrcs, count);
}

/* PRE_MUL_SUM has as argument a scalar of the element's type. */
void arithmetic_before(const struct arithmetic *a, void *dst, const void *src, size_t count) {
  enum { PIECE = 512 };
  const size_t bytes = element_bytes(a->element);
  uint8_t scalars[PIECE * sizeof a->argument];
  if (a->op != PRE_MUL_SUM) {
    if (dst != src) memcpy(dst, src, count * bytes);
    return;
  }
  for (size_t i = 0; i < PIECE; i++) memcpy(scalars + i * bytes, &a->argument, bytes);
  for (size_t done = 0; done < count; done += PIECE) {
    const void *const srcs[] = {(const uint8_t *)src + done * bytes, scalars};
    const size_t n = count - done < PIECE ? count - done : PIECE;
    reduce(datatypes[a->element], SHMCCL_PROD, (uint8_t *)dst + done * bytes, srcs, 2, n);
  }
}

/* SUM_POST_DIV has as argument twice the divisor, and 1 more if the type is signed. */
#define DIVIDE(type)                                                                                                   \
  for (size_t i = 0; i < count; i++) ((type *)data)[i] = (type)(((type *)data)[i] / (type)(a->argument >> 1))
#define DIVIDE_EITHER(width)                                                                                           \
  if (a->argument & 1)                                                                                                 \
    DIVIDE(int##width##_t);                                                                                            \
  else                                                                                                                 \
    DIVIDE(uint##width##_t)

void arithmetic_after(const struct arithmetic *a, void *data, size_t count) {
  if (a->op != SUM_POST_DIV) return;
  if (a->element == U8) {
    DIVIDE_EITHER(8);
  } else if (a->element == U32) {
    DIVIDE_EITHER(32);
  } else {
    DIVIDE_EITHER(64);
  }
}
