/*
 * numbers.h - small numbers in NCCL's element types, slowly and plainly: a value is a double, the floats below 32 bits
 * are written out by their definition. Exact for what the driver uses: integers and powers of two that the type holds.
 */
#ifndef DRIVER_NUMBERS_H
#define DRIVER_NUMBERS_H

#include "abi.h"

#include <math.h>
#include <string.h>

static inline size_t number_bytes(ncclDataType_t type) {
  static const unsigned char bytes[] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2, 1, 1};
  return bytes[type];
}

/* Sign, exponent with a bias of half its range, mantissa; denormals are not made. */
static inline uint32_t number_pack(double value, unsigned exponent_bits, unsigned mantissa_bits) {
  int exponent;
  const double fraction = frexp(fabs(value), &exponent); /* 0.5 <= fraction < 1 */
  const uint32_t sign = (uint32_t)(value < 0) << (exponent_bits + mantissa_bits);
  if (value == 0) return 0;
  const uint32_t biased = (uint32_t)(exponent - 1 + (1 << (exponent_bits - 1)) - 1);
  const uint32_t mantissa = (uint32_t)((fraction * 2 - 1) * (1 << mantissa_bits));
  return sign | biased << mantissa_bits | mantissa;
}

static inline double number_unpack(uint32_t bits, unsigned exponent_bits, unsigned mantissa_bits) {
  const uint32_t magnitude = bits & ((1u << (exponent_bits + mantissa_bits)) - 1);
  const int exponent = (int)(magnitude >> mantissa_bits) - (1 << (exponent_bits - 1)) + 1;
  const double mantissa = magnitude & ((1u << mantissa_bits) - 1);
  const double value = magnitude ? ldexp(1 + mantissa / (1 << mantissa_bits), exponent) : 0;
  return bits >> (exponent_bits + mantissa_bits) & 1 ? -value : value;
}

static inline void number_store(ncclDataType_t type, void *array, size_t i, double value) {
  switch (type) {
  case ncclInt8: ((int8_t *)array)[i] = (int8_t)value; break;
  case ncclUint8: ((uint8_t *)array)[i] = (uint8_t)value; break;
  case ncclInt32: ((int32_t *)array)[i] = (int32_t)value; break;
  case ncclUint32: ((uint32_t *)array)[i] = (uint32_t)value; break;
  case ncclInt64: ((int64_t *)array)[i] = (int64_t)value; break;
  case ncclUint64: ((uint64_t *)array)[i] = (uint64_t)value; break;
  case ncclFloat16: ((uint16_t *)array)[i] = (uint16_t)number_pack(value, 5, 10); break;
  case ncclFloat32: ((float *)array)[i] = (float)value; break;
  case ncclFloat64: ((double *)array)[i] = value; break;
  case ncclBfloat16: ((uint16_t *)array)[i] = (uint16_t)number_pack(value, 8, 7); break;
  case ncclFloat8e4m3: ((uint8_t *)array)[i] = (uint8_t)number_pack(value, 4, 3); break;
  default: ((uint8_t *)array)[i] = (uint8_t)number_pack(value, 5, 2);
  }
}

static inline double number_load(ncclDataType_t type, const void *array, size_t i) {
  switch (type) {
  case ncclInt8: return ((const int8_t *)array)[i];
  case ncclUint8: return ((const uint8_t *)array)[i];
  case ncclInt32: return ((const int32_t *)array)[i];
  case ncclUint32: return ((const uint32_t *)array)[i];
  case ncclInt64: return (double)((const int64_t *)array)[i];
  case ncclUint64: return (double)((const uint64_t *)array)[i];
  case ncclFloat16: return number_unpack(((const uint16_t *)array)[i], 5, 10);
  case ncclFloat32: return ((const float *)array)[i];
  case ncclFloat64: return ((const double *)array)[i];
  case ncclBfloat16: return number_unpack(((const uint16_t *)array)[i], 8, 7);
  case ncclFloat8e4m3: return number_unpack(((const uint8_t *)array)[i], 4, 3);
  default: return number_unpack(((const uint8_t *)array)[i], 5, 2);
  }
}

static inline double number_reduce(ncclRedOp_t op, double a, double b) {
  switch (op) {
  case ncclSum: return a + b;
  case ncclProd: return a * b;
  case ncclMax: return a > b ? a : b;
  default: return a < b ? a : b;
  }
}

#endif
