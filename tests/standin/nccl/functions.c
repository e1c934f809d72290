/* functions.c - see functions.h. */
#include "functions.h"

#include <pthread.h>
#include <stdbool.h>

static struct function functions[1024];
static unsigned nfunctions;

static bool reduces(enum collective c) { return c == ALL_REDUCE || c == REDUCE || c == REDUCE_SCATTER; }
static bool is_integer(enum element e) { return e >= I32; }
static bool is_signed(enum element e) { return e >= I32 && e <= I8; }
static bool is_nvls(enum algorithm a) { return a == NVLS || a == NVLS_TREE; }

static bool has_algorithm(enum collective c, enum algorithm a) {
  static const unsigned algorithms[COLLECTIVES] = {
      [ALL_GATHER] = 1u << RING | 1u << COLLNET_DIRECT | 1u << NVLS | 1u << PAT,
      [ALL_GATHER_V] = NCCL_MINOR >= 30 ? 1u << RING : 0,
      [ALL_REDUCE] =
          1u << TREE | 1u << RING | 1u << COLLNET_DIRECT | 1u << COLLNET_CHAIN | 1u << NVLS | 1u << NVLS_TREE,
      [BROADCAST] = 1u << RING,
      [REDUCE] = 1u << RING,
      [REDUCE_SCATTER] = 1u << RING | 1u << COLLNET_DIRECT | 1u << NVLS | 1u << PAT,
  };
  return algorithms[c] >> a & 1;
}

static bool nvls_reduces(enum redop op, enum element e) {
  if (e == F32 || e == F64) return op == SUM;
  return (op == SUM || op == MIN_MAX) && e != I8 && e != U8 && e != F8E4M3 && e != F8E5M2;
}

/* Signed integers share the unsigned functions, but for the minimum in NVLS. */
static bool reduction_is_built(const struct function *f) {
  if (f->op == SUM_POST_DIV && !is_integer(f->element)) return false;
  if (is_signed(f->element) && !(f->op == MIN_MAX && is_nvls(f->algorithm))) return false;
  return !is_nvls(f->algorithm) || nvls_reduces(f->op, f->element);
}

static bool is_built(const struct function *f) {
  const bool first = f->op == 0 && f->element == 0; /* stands for "none" where nothing is reduced */
  if (f->collective == SEND_RECV) return first && f->algorithm == RING && f->protocol == SIMPLE;
  if (!has_algorithm(f->collective, f->algorithm)) return false;
  if (f->protocol != SIMPLE && f->algorithm != RING && f->algorithm != TREE) return false;
  return reduces(f->collective) ? reduction_is_built(f) : first;
}

static void list_functions(void) {
  const unsigned all = COLLECTIVES * REDOPS * ELEMENTS * ALGORITHMS * PROTOCOLS;
  for (unsigned i = 0; i < all; i++) {
    const struct function f = {.collective = i / (REDOPS * ELEMENTS * ALGORITHMS * PROTOCOLS),
                               .op = i / (ELEMENTS * ALGORITHMS * PROTOCOLS) % REDOPS,
                               .element = i / (ALGORITHMS * PROTOCOLS) % ELEMENTS,
                               .algorithm = i / PROTOCOLS % ALGORITHMS,
                               .protocol = i % PROTOCOLS};
    if (is_built(&f)) functions[nfunctions++] = f;
  }
}

const struct function *function_of(unsigned number) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, list_functions);
  return number < nfunctions ? &functions[number] : NULL;
}
