/*
 * functions.h - which function a batch of work asks for.
 *
 * NCCL numbers its device functions by sorting the names of all that it builds; the numbers here come from the same
 * rule. Needs NCCL_MINOR, see layout.h.
 */
#ifndef STANDIN_NCCL_FUNCTIONS_H
#define STANDIN_NCCL_FUNCTIONS_H

#include "layout.h"

/* In the order of their names, as is all below. */
enum collective { ALL_GATHER, ALL_GATHER_V, ALL_REDUCE, BROADCAST, REDUCE, REDUCE_SCATTER, SEND_RECV, COLLECTIVES };
enum redop { MIN_MAX, PRE_MUL_SUM, PROD, SUM, SUM_POST_DIV, REDOPS };
enum element { BF16, F16, F32, F64, F8E4M3, F8E5M2, I32, I64, I8, U32, U64, U8, ELEMENTS };
enum algorithm { COLLNET_CHAIN, COLLNET_DIRECT, NVLS, NVLS_TREE, PAT, RING, TREE, ALGORITHMS };

/* Operator and element type count where the collective reduces, the algorithm where it is not SEND_RECV. */
struct function {
  enum collective collective;
  enum redop op;
  enum element element;
  enum algorithm algorithm;
  enum protocol protocol;
};

/* NULL if there is no function of that number. Static storage; thread safe. */
const struct function *function_of(unsigned number);

#endif
