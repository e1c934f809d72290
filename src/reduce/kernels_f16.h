/*
 * kernels_f16.h - sum, product and average of f16 with the CPU's own conversions (F16C), which gcc and clang do not
 * find by themselves. Part of the template kernels.h.
 *
 * The including file defines the vector types vector_f32 and vector_u32 of SHMI_F16_LANES lanes, load_f16() and
 * store_f16(). The conversions are exact or round to nearest even as asked, keep denormals whatever MXCSR says, and a
 * canonical f32 NaN becomes the canonical f16 NaN: bit for bit what convert.h does.
 */

static inline vector_f32 canonical(vector_f32 value) {
  const vector_u32 numbers = (vector_u32)(value == value);
  return (vector_f32)(((vector_u32)value & numbers) | (~numbers & SHMI_F32_NAN));
}

/* One vector of results from `offset` on; the last one of an array has less than SHMI_F16_LANES elements. */
static inline __attribute__((always_inline)) vector_f32 combine_f16(const void *const *srcs, int nsrcs, size_t offset,
                                                                    size_t lanes, shmccl_redop_t op) {
  vector_f32 result = {0};
  for (int k = 0; k < nsrcs; k++) {
    uint16_t padded[SHMI_F16_LANES] = {0};
    const u16 *from = (const u16 *)srcs[k] + offset;
    if (lanes < SHMI_F16_LANES) from = memcpy(padded, from, lanes * sizeof *from);
    const vector_f32 next = load_f16(from);
    result = k == 0 ? next : op == SHMCCL_PROD ? result * next : result + next;
  }
  return canonical(op == SHMCCL_AVG ? result / (float)nsrcs : result);
}

static inline __attribute__((always_inline)) void reduce_f16(void *dst, const void *const *srcs, int nsrcs,
                                                             size_t count, shmccl_redop_t op) {
  u16 *to = dst;
  size_t done = 0;
  for (; count - done >= SHMI_F16_LANES; done += SHMI_F16_LANES)
    store_f16(to + done, combine_f16(srcs, nsrcs, done, SHMI_F16_LANES, op));
  if (done < count) {
    uint16_t padded[SHMI_F16_LANES];
    store_f16(padded, combine_f16(srcs, nsrcs, done, count - done, op));
    memcpy(to + done, padded, (count - done) * sizeof *to);
  }
}

/* A constant number of sources unrolls the loop over them. */
#define F16_KERNEL(name, op)                                                                                           \
  static void name(void *dst, const void *const *srcs, int nsrcs, size_t count) {                                      \
    if (nsrcs == 2)                                                                                                    \
      reduce_f16(dst, srcs, 2, count, op);                                                                             \
    else                                                                                                               \
      reduce_f16(dst, srcs, nsrcs, count, op);                                                                         \
  }

F16_KERNEL(sum_f16, SHMCCL_SUM)
F16_KERNEL(prod_f16, SHMCCL_PROD)
F16_KERNEL(avg_f16, SHMCCL_AVG)
