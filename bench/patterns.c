/*
 * The tables of inputs and of their reductions.
 */
#include "patterns.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One index of all ranks' inputs, as numbers; each maker returns their reduction. */
typedef double make_values(int type, int nranks, unsigned index, double *values);

static uint64_t mix(uint64_t a, uint64_t b) {
  uint64_t x = a * 0x9E3779B97F4A7C15u + b * 0xC2B2AE3D27D4EB4Fu + 1;
  x ^= x >> 29;
  x *= 0xBF58476D1CE4E5B9u;
  return x ^ x >> 32;
}

static bool is_unsigned(int type) { return type == SHMCCL_UINT8 || type == SHMCCL_UINT32 || type == SHMCCL_UINT64; }

static bool is_integer(int type) { return type <= SHMCCL_UINT64; }

/* Every partial sum of neighbours stays within +-6, which even the 2-bit mantissa of fp8e5m2 holds exactly. Unsigned
 * sums stay below 3 * 64: what becomes of an overflow is MPI's secret, so it is none of a comparison's business. */
static double sum_values(int type, int nranks, unsigned index, double *values) {
  double sum = 0;
  for (int r = 0; r < nranks; r++) {
    uint64_t random = mix(index, (uint64_t)r);
    double magnitude = 1 + (double)(random % 3);
    values[r] = is_unsigned(type) ? (double)(random % 4) : sum > 0 ? -magnitude : magnitude;
    sum += values[r];
  }
  return sum;
}

/* The next factor of a product that has come to `product`: integers grow to at most 36, floats stay in 1/4 .. 4. */
static double next_factor(int type, double product, uint64_t random) {
  static const double grow[] = {1, 2, 1, 3}, both[] = {1, 2, 0.5, 2}, shrink[] = {1, 0.5, 0.5, 1};
  double size = fabs(product);
  if (!is_integer(type)) return size >= 4 ? shrink[random % 4] : size <= 0.25 ? grow[random % 2] : both[random % 4];
  double factor = grow[random % 4];
  return size * factor > 36 ? 1 : factor;
}

/* Starts at another rank for each index, so that no rank is always the one that has no room left to grow. */
static double prod_values(int type, int nranks, unsigned index, double *values) {
  double product = 1;
  for (int i = 0; i < nranks; i++) {
    int r = (int)((index + (unsigned)i) % (unsigned)nranks);
    uint64_t random = mix(index, (uint64_t)r);
    values[r] = next_factor(type, product, random >> 1);
    if (!is_unsigned(type) && random & 1) values[r] = -values[r];
    product *= values[r];
  }
  return product;
}

/* Exactly one rank wins at each index, each in turn: a rank that is left out is missed. */
static double max_values(int type, int nranks, unsigned index, double *values) {
  int winner = (int)(index % (unsigned)nranks);
  for (int r = 0; r < nranks; r++) {
    uint64_t random = mix(index, (uint64_t)r);
    values[r] = is_unsigned(type) ? (double)(random % 5) : (double)(random % 9) - 4;
    if (r == winner) values[r] = 5 + (double)(random % 4);
  }
  return values[winner];
}

static double min_values(int type, int nranks, unsigned index, double *values) {
  double result = max_values(type, nranks, index, values);
  double mirror = is_unsigned(type) ? 8 : 0;
  for (int r = 0; r < nranks; r++) values[r] = mirror - values[r];
  return mirror - result;
}

/* The average is exact, and the sum fits into int8: neighbours differ from the average by +1 and -1, or not. */
static double avg_values(int type, int nranks, unsigned index, double *values) {
  (void)type;
  int most = 127 / nranks < 3 ? 127 / nranks : 3;
  double average = 1 + (double)(mix(index, 999) % (uint64_t)most);
  for (int r = 0; r < nranks; r++) {
    bool paired = r % 2 == 1 || r + 1 < nranks;
    double off = paired ? (double)(mix(index, (uint64_t)(r / 2)) % 2) : 0;
    values[r] = r % 2 ? average - off : average + off;
  }
  return average;
}

/* The bits of a value that the format holds exactly, as a normal number or zero. */
static unsigned encode_narrow(double value, int exponent_bits, int mantissa_bits) {
  unsigned sign = signbit(value) ? 1u << (exponent_bits + mantissa_bits) : 0;
  if (value == 0) return sign;
  int exponent;
  double mantissa = frexp(fabs(value), &exponent) * 2 - 1; /* in 0 .. 1, the leading one removed */
  unsigned biased = (unsigned)(exponent - 1 + (1 << (exponent_bits - 1)) - 1);
  return sign | biased << mantissa_bits | (unsigned)ldexp(mantissa, mantissa_bits);
}

static void encode(int type, double value, unsigned char *out) {
  float single = (float)value;
  int64_t bits = 0; /* its first bytes are the narrower types' (little-endian, as all hosts of this library) */
  switch (type) {
  case SHMCCL_FLOAT32: memcpy(&bits, &single, sizeof single); break;
  case SHMCCL_FLOAT64: memcpy(&bits, &value, sizeof value); break;
  case SHMCCL_FLOAT16: bits = encode_narrow(value, 5, 10); break;
  case SHMCCL_BFLOAT16: bits = encode_narrow(value, 8, 7); break;
  case SHMCCL_FLOAT8E4M3: bits = encode_narrow(value, 4, 3); break;
  case SHMCCL_FLOAT8E5M2: bits = encode_narrow(value, 5, 2); break;
  default: bits = (int64_t)value; break;
  }
  memcpy(out, &bits, type_bytes(type));
}

/* Data that is only moved: any bits will do, and random ones show most. */
static void make_bits(struct patterns *patterns) {
  size_t bytes = type_bytes(patterns->type);
  for (int r = 0; r < patterns->nranks; r++)
    for (unsigned i = 0; i < PATTERN_PERIOD; i++) {
      uint64_t random = mix(i, (uint64_t)r + 1);
      memcpy(pattern_at(patterns, r, i), &random, bytes);
    }
}

static void make_numbers(struct patterns *patterns) {
  static make_values *const makers[] = {[SHMCCL_SUM] = sum_values,
                                        [SHMCCL_PROD] = prod_values,
                                        [SHMCCL_MAX] = max_values,
                                        [SHMCCL_MIN] = min_values,
                                        [SHMCCL_AVG] = avg_values};
  double values[SHMCCL_MAX_RANKS];
  int type = patterns->type, nranks = patterns->nranks;
  for (unsigned i = 0; i < PATTERN_PERIOD; i++) {
    double result = makers[patterns->op](type, nranks, i, values);
    for (int r = 0; r < nranks; r++) encode(type, values[r], pattern_at(patterns, r, i));
    encode(type, result, pattern_at(patterns, nranks, i));
  }
}

bool patterns_prepare(struct patterns *patterns, int nranks, int type, int op) {
  if (patterns->tables && patterns->nranks == nranks && patterns->type == type && patterns->op == op) return true;
  patterns_free(patterns);
  *patterns = (struct patterns){.nranks = nranks, .type = type, .op = op};
  patterns->tables = malloc(((size_t)nranks + 1) * PATTERN_PERIOD * type_bytes(type));
  if (!patterns->tables) return false;
  if (op < 0)
    make_bits(patterns);
  else
    make_numbers(patterns);
  return true;
}

void patterns_free(struct patterns *patterns) {
  free(patterns->tables);
  patterns->tables = NULL;
}

unsigned char *pattern_at(const struct patterns *patterns, int table, uint64_t index) {
  size_t element = (size_t)table * PATTERN_PERIOD + index % PATTERN_PERIOD;
  return patterns->tables + element * type_bytes(patterns->type);
}
