/*
 * reference.c - reductions in exact integer arithmetic.
 */
#include "reference.h"

#include <stdbool.h>
#include <string.h>

typedef unsigned __int128 wide;

/* ---- formats --------------------------------------------------------------------------------------------------- */

typedef struct {
  int width, fraction;
  bool has_infinity, saturates;
  uint64_t nan;
} format;

static const format formats[SHMCCL_DATATYPE_COUNT] = {
    [SHMCCL_FLOAT16] = {16, 10, true, false, 0x7e00},
    [SHMCCL_FLOAT32] = {32, 23, true, false, 0x7fc00000},
    [SHMCCL_FLOAT64] = {64, 52, true, false, 0x7ff8000000000000},
    [SHMCCL_BFLOAT16] = {16, 7, true, false, 0x7fc0},
    [SHMCCL_FLOAT8E4M3] = {8, 3, false, true, 0x7f},
    [SHMCCL_FLOAT8E5M2] = {8, 2, true, true, 0x7e},
};

static bool is_float(shmccl_datatype_t type) { return formats[type].width != 0; }
static int bias(const format *f) { return (1 << (f->width - 2 - f->fraction)) - 1; }
static uint64_t sign_bit(const format *f) { return (uint64_t)1 << (f->width - 1); }
static uint64_t infinity(const format *f) { return (sign_bit(f) - 1) >> f->fraction << f->fraction; }
/* Exponent of the smallest denormal, of which all numbers of the format are multiples. */
static int unit(const format *f) { return 1 - bias(f) - f->fraction; }
/* Bits of the largest number. */
static uint64_t largest(const format *f) { return f->has_infinity ? infinity(f) - 1 : sign_bit(f) - 2; }

/* ---- exact numbers --------------------------------------------------------------------------------------------- */

/* (-1)^negative * significand * 2^exponent. `inexact`: a bit more than that, by less than one in the significand. */
typedef struct {
  enum { FINITE, INFINITE, NOT_A_NUMBER } kind;
  bool negative, inexact;
  wide significand;
  int exponent;
} exact;

static exact decode(uint64_t bits, const format *f) {
  const uint64_t magnitude = bits & (sign_bit(f) - 1);
  const int field = (int)(magnitude >> f->fraction);
  exact x = {FINITE, (bits & sign_bit(f)) != 0, false, magnitude, unit(f)};
  if (magnitude > largest(f)) x.kind = f->has_infinity && magnitude == infinity(f) ? INFINITE : NOT_A_NUMBER;
  if (field > 0) {
    x.significand = magnitude - ((uint64_t)(field - 1) << f->fraction);
    x.exponent += field - 1;
  }
  return x;
}

static int bit_length(wide x) {
  int length = 0;
  for (; x; x >>= 1) length++;
  return length;
}

/* Rounds to nearest, ties to even, once. */
static uint64_t encode(exact x, const format *f) {
  const uint64_t sign = x.negative ? sign_bit(f) : 0;
  if (x.kind == NOT_A_NUMBER) return f->nan;
  if (x.kind == INFINITE) return sign | (f->saturates ? largest(f) : infinity(f));
  if (x.significand == 0 && !x.inexact) return sign;
  /* The place of the last bit kept: what the precision leaves, but not below the format's unit. */
  int last = x.exponent + bit_length(x.significand) - (f->fraction + 1);
  if (last < unit(f)) last = unit(f);
  wide kept = x.significand;
  if (last < x.exponent) kept <<= x.exponent - last;
  if (last > x.exponent) {
    const int drop = last - x.exponent;
    const wide half = drop > 127 ? 0 : (wide)1 << (drop - 1);
    const wide rest = drop > 127 ? kept : kept & (2 * half - 1);
    kept = drop > 127 ? 0 : kept >> drop;
    const bool above = half && (rest > half || (rest == half && x.inexact));
    const bool tie = half && rest == half && !x.inexact;
    if (above || (tie && (kept & 1))) kept++;
  }
  /* Consecutive numbers have consecutive bits, also across a carry into the next exponent. */
  wide magnitude = kept;
  if (kept >> f->fraction) magnitude += (wide)(last - unit(f)) << f->fraction;
  if (magnitude > largest(f)) magnitude = f->saturates ? largest(f) : infinity(f);
  return sign | (uint64_t)magnitude;
}

static exact not_a_number(void) { return (exact){.kind = NOT_A_NUMBER}; }

/* Moves the significand down to a larger exponent and keeps what falls off as `inexact`. */
static void raise_exponent(exact *x, int exponent) {
  const int drop = exponent - x->exponent;
  if (drop <= 0) return;
  const wide kept = drop > 127 ? 0 : x->significand >> drop;
  x->inexact |= drop > 127 ? x->significand != 0 : kept << drop != x->significand;
  x->significand = kept;
  x->exponent = exponent;
}

static exact add(exact a, exact b) {
  if (a.kind == NOT_A_NUMBER || b.kind == NOT_A_NUMBER) return not_a_number();
  if (a.kind == INFINITE && b.kind == INFINITE) return a.negative == b.negative ? a : not_a_number();
  if (a.kind == INFINITE) return a;
  if (b.kind == INFINITE) return b;
  if (a.significand == 0 && b.significand == 0) return a.negative && b.negative ? a : (exact){.kind = FINITE};
  if (a.significand == 0) return b;
  if (b.significand == 0) return a;
  /* Up to 53 bits and 64 more places: what lies below those only decides ties and sides. */
  a.significand <<= 64, a.exponent -= 64;
  b.significand <<= 64, b.exponent -= 64;
  raise_exponent(&a, b.exponent);
  raise_exponent(&b, a.exponent);
  if (a.negative == b.negative) {
    a.significand += b.significand;
    a.inexact |= b.inexact;
    return a;
  }
  if (a.significand == b.significand && a.inexact == b.inexact) return (exact){.kind = FINITE};
  const bool b_larger = b.significand > a.significand;
  exact large = b_larger ? b : a, small = b_larger ? a : b;
  /* Only the smaller one lost bits. Less of a bit more is one less and a bit more. */
  large.significand -= small.significand + (small.inexact ? 1 : 0);
  large.inexact = small.inexact;
  return large;
}

static exact multiply(exact a, exact b) {
  const bool zero = (a.kind == FINITE && a.significand == 0) || (b.kind == FINITE && b.significand == 0);
  if (a.kind == NOT_A_NUMBER || b.kind == NOT_A_NUMBER) return not_a_number();
  const bool infinite = a.kind == INFINITE || b.kind == INFINITE;
  if (infinite && zero) return not_a_number();
  return (exact){infinite ? INFINITE : FINITE, a.negative != b.negative, false, a.significand * b.significand,
                 a.exponent + b.exponent};
}

static exact divide(exact a, int n) {
  if (a.kind != FINITE) return a;
  a.significand <<= 72, a.exponent -= 72; /* the significand is one of at most 53 bits */
  a.inexact = a.significand % (unsigned)n != 0;
  a.significand /= (unsigned)n;
  return a;
}

/* ---- elements -------------------------------------------------------------------------------------------------- */

static uint64_t load(const void *array, size_t i, size_t size) {
  uint64_t bits = 0;
  memcpy(&bits, (const char *)array + i * size, size); /* little endian, as everything here */
  return bits;
}

uint64_t reference_convert(uint64_t element, shmccl_datatype_t from, shmccl_datatype_t to) {
  return encode(decode(element, &formats[from]), &formats[to]);
}

uint64_t reference_average(uint32_t sum, int n, shmccl_datatype_t to) {
  return encode(divide(decode(sum, &formats[SHMCCL_FLOAT32]), n), &formats[to]);
}

static bool is_nan(uint64_t bits, const format *f) { return decode(bits, f).kind == NOT_A_NUMBER; }

/* Whether a < b, -0 being less than +0. Not for NaN. */
static bool float_less(uint64_t a, uint64_t b, const format *f) {
  const bool a_negative = a & sign_bit(f), b_negative = b & sign_bit(f);
  if (a_negative != b_negative) return a_negative;
  return a_negative ? a > b : a < b;
}

static uint64_t reduce_floats(const uint64_t *elements, int n, shmccl_datatype_t type, shmccl_redop_t op) {
  const format *f = &formats[type];
  const format *wide_format = &formats[type == SHMCCL_FLOAT64 ? SHMCCL_FLOAT64 : SHMCCL_FLOAT32];
  if (op == SHMCCL_MIN || op == SHMCCL_MAX) {
    uint64_t best = elements[0];
    for (int k = 0; k < n; k++) {
      if (is_nan(elements[k], f)) return f->nan;
      if (op == SHMCCL_MIN ? float_less(elements[k], best, f) : float_less(best, elements[k], f)) best = elements[k];
    }
    return best;
  }
  exact x = decode(elements[0], f);
  for (int k = 1; k < n; k++) {
    const exact next = decode(elements[k], f);
    const exact result = op == SHMCCL_PROD ? multiply(x, next) : add(x, next);
    x = decode(encode(result, wide_format), wide_format);
  }
  return encode(op == SHMCCL_AVG ? divide(x, n) : x, f);
}

/* The value that the lowest `width` bits of x have in a signed or unsigned type. */
static __int128 wrap(__int128 x, int width, bool is_signed) {
  const wide mask = ((wide)1 << width) - 1;
  const wide low = (wide)x & mask;
  return is_signed && (low >> (width - 1)) ? (__int128)low - (__int128)mask - 1 : (__int128)low;
}

static uint64_t reduce_integers(const uint64_t *elements, int n, shmccl_datatype_t type, shmccl_redop_t op) {
  const int width = 8 * (int)shmccl_datatype_size(type);
  const bool is_signed = type == SHMCCL_INT8 || type == SHMCCL_INT32 || type == SHMCCL_INT64;
  __int128 x = wrap(elements[0], width, is_signed);
  for (int k = 1; k < n; k++) {
    const __int128 next = wrap(elements[k], width, is_signed);
    if (op == SHMCCL_PROD) x = (__int128)((wide)x * (wide)next);
    if (op == SHMCCL_SUM || op == SHMCCL_AVG) x += next;
    if ((op == SHMCCL_MIN && next < x) || (op == SHMCCL_MAX && next > x)) x = next;
    x = wrap(x, width, is_signed);
  }
  return (uint64_t)(op == SHMCCL_AVG ? x / n : x);
}

void reference_reduce(void *dst, const void *const *srcs, int n, size_t count, shmccl_datatype_t datatype,
                      shmccl_redop_t op) {
  const size_t size = shmccl_datatype_size(datatype);
  for (size_t i = 0; i < count; i++) {
    uint64_t elements[SHMCCL_MAX_RANKS];
    for (int k = 0; k < n; k++) elements[k] = load(srcs[k], i, size);
    const uint64_t result = (is_float(datatype) ? reduce_floats : reduce_integers)(elements, n, datatype, op);
    memcpy((char *)dst + i * size, &result, size);
  }
}
