/*
 * isa.h - the implementations of the reduction layer, one per instruction set: made by kernels_*.c, chosen by reduce.c.
 */
#ifndef SHMI_REDUCE_ISA_H
#define SHMI_REDUCE_ISA_H

#include "reduce/reduce.h"

typedef struct {
  const char *name;
  shmi_reduce_fn reduce[SHMCCL_DATATYPE_COUNT][SHMCCL_REDOP_COUNT];
  void (*copy)(void *dst, const void *src, size_t bytes);
  void (*stream_copy)(void *dst, const void *src, size_t bytes);
} shmi_isa_t;

extern const shmi_isa_t shmi_isa_generic;
#ifdef __x86_64__
extern const shmi_isa_t shmi_isa_avx2;
extern const shmi_isa_t shmi_isa_avx512;
#endif

/* The implementation of that name; NULL if there is none or this CPU cannot run it. NULL as name: the best one. */
const shmi_isa_t *shmi_isa_find(const char *name);

#endif
