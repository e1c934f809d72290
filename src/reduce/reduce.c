/*
 * reduce.c - chooses the loops for this CPU, and sets the floating-point environment that they need.
 */
#include "reduce/reduce.h"

#include <stdlib.h>
#include <string.h>

#include "reduce/isa.h"

#ifdef __x86_64__
#include <cpuid.h>
#include <immintrin.h>
#elif !defined(__aarch64__)
#include <fenv.h>
#endif

/* ---- choice ---------------------------------------------------------------------------------------------------- */

#ifdef __x86_64__
static int has_avx2(void) {
  unsigned int eax, ebx, ecx, edx; /* clang 14 does not know "f16c" by name */
  const int has_f16c = __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
  return has_f16c && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
static int has_avx512(void) {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif
static int has_generic(void) { return 1; }

/* Best first. */
static const struct {
  const shmi_isa_t *isa;
  int (*supported)(void);
} isas[] = {
#ifdef __x86_64__
    {&shmi_isa_avx512, has_avx512},
    {&shmi_isa_avx2, has_avx2},
#endif
    {&shmi_isa_generic, has_generic},
};

const shmi_isa_t *shmi_isa_find(const char *name) {
  for (size_t i = 0; i < sizeof isas / sizeof *isas; i++)
    if ((!name || strcmp(name, isas[i].isa->name) == 0) && isas[i].supported()) return isas[i].isa;
  return NULL;
}

/* Threads that come here first at the same time choose the same. */
static const shmi_isa_t *chosen_isa(void) {
  static const shmi_isa_t *_Atomic chosen;
  const shmi_isa_t *isa = chosen;
  if (isa) return isa;
  const char *name = getenv("SHMCCL_ISA");
  if (name) isa = shmi_isa_find(name);
  if (!isa) isa = shmi_isa_find(NULL);
  chosen = isa;
  return isa;
}

shmi_reduce_fn shmi_reduce_lookup(shmccl_datatype_t datatype, shmccl_redop_t op) {
  return chosen_isa()->reduce[datatype][op];
}

const char *shmi_reduce_isa(void) { return chosen_isa()->name; }

/* ---- copies ---------------------------------------------------------------------------------------------------- */

void shmi_copy(void *dst, const void *src, size_t bytes) { chosen_isa()->copy(dst, src, bytes); }
void shmi_stream_copy(void *dst, const void *src, size_t bytes) { chosen_isa()->stream_copy(dst, src, bytes); }

/* Only x86 has stores that pass later ones; elsewhere stream_copy makes normal stores. */
void shmi_stream_fence(void) {
#ifdef __x86_64__
  _mm_sfence();
#endif
}

/* ---- floating-point environment -------------------------------------------------------------------------------- */

#if defined(__x86_64__)

/* MXCSR: sticky flags 0-5, denormals-are-zero 6, exception masks 7-12, rounding 13-14, flush-to-zero 15. */
enum { MXCSR_MODES = 0xffc0, MXCSR_WANTED = 0x1f80 };

shmi_fpenv_t shmi_fpenv_enter(void) {
  const uint32_t control = _mm_getcsr();
  const int changed = (control & MXCSR_MODES) != MXCSR_WANTED;
  if (changed) _mm_setcsr((control & ~(uint32_t)MXCSR_MODES) | MXCSR_WANTED);
  return (shmi_fpenv_t){control, changed};
}

void shmi_fpenv_leave(shmi_fpenv_t env) {
  if (env.changed) _mm_setcsr(env.control);
}

#elif defined(__aarch64__)

/* FPCR: all modes off is what is wanted. The sticky flags are in another register, which stays as the loops leave it.
 */
static void write_fpcr(uint64_t control) { __asm__ volatile("msr fpcr, %0" : : "r"(control) : "memory"); }

shmi_fpenv_t shmi_fpenv_enter(void) {
  uint64_t control;
  __asm__ volatile("mrs %0, fpcr" : "=r"(control) : : "memory");
  if (control != 0) write_fpcr(0);
  return (shmi_fpenv_t){(uint32_t)control, control != 0};
}

void shmi_fpenv_leave(shmi_fpenv_t env) {
  if (env.changed) write_fpcr(env.control);
}

#else

shmi_fpenv_t shmi_fpenv_enter(void) {
  const int rounding = fegetround();
  if (rounding != FE_TONEAREST) fesetround(FE_TONEAREST);
  return (shmi_fpenv_t){(uint32_t)rounding, rounding != FE_TONEAREST};
}

void shmi_fpenv_leave(shmi_fpenv_t env) {
  if (env.changed) fesetround((int)env.control);
}

#endif
