/*
 * units.h - what each rank sends, takes and writes in a call that goes in packets (packet.h): pure functions, as plan.h
 * has them for slots.
 *
 * Messages are handled in units of 8 bytes, two packets each; the last unit of a block may be used in part. A channel
 * has a range of units, the same of every block.
 */
#ifndef SHMI_UNITS_H
#define SHMI_UNITS_H

#include "coll/plan.h"

enum { SHMI_UNIT = 8, SHMI_PACKETS = 16 }; /* bytes: of a unit, and of its packets */

/* ---- what goes where -------------------------------------------------------------------------------------------- */

SHMI_FN int shmi_call_reduces(const struct shmi_call *c) {
  return c->id.collective == SHMI_ALLREDUCE || c->id.collective == SHMI_REDUCE ||
         c->id.collective == SHMI_REDUCE_SCATTER;
}
SHMI_FN int shmi_call_from_root(const struct shmi_call *c) {
  return c->id.collective == SHMI_BROADCAST || c->id.collective == SHMI_SCATTER;
}
SHMI_FN int shmi_call_to_root(const struct shmi_call *c) {
  return c->id.collective == SHMI_REDUCE || c->id.collective == SHMI_GATHER;
}
SHMI_FN int shmi_stages_packets(const struct shmi_call *c, int rank) {
  if (shmi_call_from_root(c)) return rank == (int)c->id.root;
  return !shmi_call_to_root(c) || rank != (int)c->id.root;
}
SHMI_FN int shmi_takes_packets(const struct shmi_call *c, int rank) {
  return !shmi_call_to_root(c) || rank == (int)c->id.root;
}

/* Units of a block; whole elements, since 8 is a multiple of every element's size. */
SHMI_FN size_t shmi_units_of(const struct shmi_call *c) { return (c->count * c->element + SHMI_UNIT - 1) / SHMI_UNIT; }

/* Of a channel: units `first` to `first` + returned of every block. */
SHMI_FN size_t shmi_units_share(const struct shmi_call *c, int channel, size_t *first) {
  const size_t units = shmi_units_of(c), share = (units + c->channels - 1) / c->channels;
  *first = (size_t)channel * share < units ? (size_t)channel * share : units;
  return units - *first < share ? units - *first : share;
}

/* Bytes of packets that a rank needs in each channel. */
SHMI_FN size_t shmi_packet_bytes(const struct shmi_call *c, int nranks) {
  size_t first;
  return shmi_units_share(c, 0, &first) * SHMI_PACKETS * (shmi_has_blocks(c) ? (size_t)nranks : 1);
}

/* ---- units of user memory ---------------------------------------------------------------------------------------- */

SHMI_FN uint64_t shmi_unit_read(const uint8_t *from, size_t bytes) {
  uint64_t unit = 0;
#ifdef __CUDACC__
  if (bytes == SHMI_UNIT && (uintptr_t)from % SHMI_UNIT == 0) return *(const uint64_t *)from;
#endif
  for (size_t i = 0; i < bytes; i++) unit |= (uint64_t)from[i] << 8 * i;
  return unit;
}
SHMI_FN void shmi_unit_write(uint8_t *to, uint64_t unit, size_t bytes) {
#ifdef __CUDACC__
  if (bytes == SHMI_UNIT && (uintptr_t)to % SHMI_UNIT == 0) {
    *(uint64_t *)to = unit;
    return;
  }
#endif
  for (size_t i = 0; i < bytes; i++) to[i] = (uint8_t)(unit >> 8 * i);
}

/* The part of unit `unit` of a block that the message has. */
SHMI_FN size_t shmi_unit_bytes(const struct shmi_call *c, size_t unit) {
  const size_t left = c->count * c->element - unit * SHMI_UNIT;
  return left < SHMI_UNIT ? left : (size_t)SHMI_UNIT;
}
SHMI_FN const uint8_t *shmi_unit_source(const struct shmi_call *c, int block, size_t unit) {
  return c->sendbuf + (shmi_has_blocks(c) ? (size_t)block * c->block : 0) + unit * SHMI_UNIT;
}
SHMI_FN uint8_t *shmi_unit_target(const struct shmi_call *c, int block, size_t unit) {
  const int one = shmi_call_reduces(c) || shmi_call_from_root(c);
  return c->recvbuf + (one ? 0 : (size_t)block * c->block) + unit * SHMI_UNIT;
}

#endif
