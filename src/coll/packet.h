/*
 * packet.h - small calls on a device: one exchange, data with a flag beside them.
 *
 * A packet is 4 bytes of data and the 4 bytes of the step's number, in one 8-byte word, which no path tears. Whoever
 * sees the number has the data: no fence, no meeting of the block, no second trip for a word that says that all is
 * there. A rank writes its whole message into its packets of this step's parity; readers take what is for them.
 *
 * Claim: a rank may write its packets for step x when its call of step x-1 is over. Proof: that call ended after the
 * words of all ranks for x-1 had come. A rank publishes its word for x-1 when its kernel starts, so after everything
 * that it read in step x-2, and step x-2 is what lies in the packets that x overwrites. The word also carries the
 * call's signature, and the call does not end without it.
 *
 * Flags compare for equality. An old flag could come round again after 2^32 steps, so all packets get new ones before
 * any is as old as that (shmi_block_renew).
 *
 * What a packet is of says units.h. A thread stages, reduces and writes the same units of user memory, so that calls in
 * place need nothing more.
 *
 * Of its executor it needs shmi_block_reduce_first, _next and _last: the reduction of a unit, rank by rank.
 *
 * SHMI_BREAK_FLAGS (data are taken whatever their flag) and SHMI_BREAK_RENEW (no new flags, device.h) build negative
 * controls of tests/device.
 */
#ifndef SHMI_PACKET_H
#define SHMI_PACKET_H

#include "coll/units.h"

enum { SHMI_BATCH = 4 }; /* ranks whose packets are read at once */

/* ---- packets ----------------------------------------------------------------------------------------------------- */

SHMI_FN uint64_t *shmi_packets_at(const struct shmi_world *w, int rank, uint32_t step, size_t place) {
  return (uint64_t *)(void *)(shmi_packets_of(w, rank, step) + place * SHMI_PACKETS);
}

SHMI_FN void shmi_packets_put(uint64_t *place, uint64_t unit, uint32_t flag) {
  shmi_note_two(place, (uint64_t)flag << 32 | (uint32_t)unit, (uint64_t)flag << 32 | unit >> 32);
}

SHMI_FN int shmi_packets_have(struct shmi_two_words two, uint32_t flag) {
#ifdef SHMI_BREAK_FLAGS
  return 1;
#endif
  return two.a >> 32 == flag && two.b >> 32 == flag;
}

/* ---- the exchange ------------------------------------------------------------------------------------------------ */

/* Places: block by block, the channel's units of each. */
SHMI_BLOCK_FN void shmi_block_stage(SHMI_BLOCK *b, size_t first, size_t units) {
  const struct shmi_call *c = b->call;
  const int blocks = shmi_has_blocks(c) ? b->world->nranks : 1;
  for (size_t i = (size_t)b->tid; i < units; i += (size_t)b->nthreads)
    for (int block = 0; block < blocks; block++) {
      if (blocks > 1 && block == b->world->rank) continue;
      shmi_packets_put(shmi_packets_at(b->world, b->world->rank, b->step, (size_t)block * units + i),
                       shmi_unit_read(shmi_unit_source(c, block, first + i), shmi_unit_bytes(c, first + i)), b->step);
    }
}

/* The unit at `place` of each rank r of `wanted` (bit r - base), read over and over until all have come. */
SHMI_BLOCK_FN int shmi_block_fetch(SHMI_BLOCK *b, int base, uint32_t wanted, size_t place, uint64_t data[SHMI_BATCH]) {
  struct shmi_two_words two[SHMI_BATCH] = {{0, 0}};
  uint32_t looks = 0;
  uint64_t deadline = 0;
  while (wanted) {
    int i, late = base, come, error;
    SHMI_UNROLL for (i = 0; i < SHMI_BATCH; i++) if (wanted >> i & 1) two[i] =
        shmi_peek_two(shmi_packets_at(b->world, base + i, b->step, place));
    SHMI_UNROLL for (i = 0; i < SHMI_BATCH; i++) {
      if (!(wanted >> i & 1)) continue;
      late = base + i;
      if (!shmi_packets_have(two[i], b->step)) continue;
      data[i] = (two[i].b << 32) | (uint32_t)two[i].a;
      wanted &= ~(1u << i);
    }
    if (!wanted) break;
    error = shmi_block_pause(b, &looks, &deadline, late);
    if (!error && looks % SHMI_LOOKS_PER_CHECK == 0) error = shmi_block_look(b, late, b->step, &come);
    if (!error) continue;
    for (i = 0; i < SHMI_BATCH; i++)
      if (wanted >> i & 1) shmi_block_miss(b, base + i);
    return error;
  }
  return 0;
}

/* One unit of the result, or of every rank's block; it is at `place` in the packets of every rank. */
SHMI_BLOCK_FN int shmi_block_take(SHMI_BLOCK *b, size_t unit, size_t place) {
  const struct shmi_call *c = b->call;
  const int n = b->world->nranks, me = b->world->rank, reduces = shmi_call_reduces(c);
  const size_t bytes = shmi_unit_bytes(c, unit);
  for (int base = 0; base < n; base += SHMI_BATCH) {
    uint64_t data[SHMI_BATCH] = {0};
    uint32_t wanted = n - base < SHMI_BATCH ? (1u << (n - base)) - 1 : (1u << SHMI_BATCH) - 1, peers;
    int i, error;
    if (shmi_call_from_root(c)) wanted &= (uint32_t)((uint64_t)1 << c->id.root >> base);
    peers = wanted & (uint32_t) ~((uint64_t)1 << me >> base);
    if (wanted != peers) {
      const uint64_t own = shmi_unit_read(shmi_unit_source(c, me, unit), bytes);
      SHMI_UNROLL for (i = 0; i < SHMI_BATCH; i++) if (base + i == me) data[i] = own;
    }
    error = shmi_block_fetch(b, base, peers, place, data);
    if (error) return error;
    SHMI_UNROLL for (i = 0; i < SHMI_BATCH; i++) {
      if (!(wanted >> i & 1)) continue;
      if (!reduces)
        shmi_unit_write(shmi_unit_target(c, base + i, unit), data[i], bytes);
      else if (base + i == 0)
        shmi_block_reduce_first(b, data[i]);
      else
        shmi_block_reduce_next(b, data[i]);
    }
  }
  if (reduces) shmi_unit_write(shmi_unit_target(c, 0, unit), shmi_block_reduce_last(b), bytes);
  return 0;
}

/* The block's part of a call of one step, b->step. Same result on all threads. */
SHMI_BLOCK_FN int shmi_block_run_packets(SHMI_BLOCK *b, int channel) {
  const struct shmi_call *c = b->call;
  size_t first;
  const size_t units = shmi_units_share(c, channel, &first);
  const size_t lane = shmi_has_blocks(c) ? (size_t)b->world->rank * units : 0; /* where what is for this rank begins */
  int error = 0;
  b->step++;
  if (b->tid == 0) shmi_block_word(b);
  if (shmi_stages_packets(c, b->world->rank)) shmi_block_stage(b, first, units);
  if (shmi_takes_packets(c, b->world->rank))
    for (size_t i = (size_t)b->tid; i < units && !error; i += (size_t)b->nthreads)
      error = shmi_block_take(b, first + i, lane + i);
  if (!error) error = shmi_block_await(b, b->step);
  return shmi_block_agree(b, error);
}

/* Flags that no step within the next 2^31 has, for this rank's packets of the parity of `step`. */
SHMI_BLOCK_FN void shmi_block_clean(SHMI_BLOCK *b, uint32_t step) {
  const size_t places = b->world->packet_bytes / SHMI_PACKETS;
  for (size_t i = (size_t)b->tid; i < places; i += (size_t)b->nthreads)
    shmi_packets_put(shmi_packets_at(b->world, b->world->rank, step, i), 0, step + (1u << 31));
}

/* Both parities, each when it may be written (above). Nobody leaves before all have done it: the next call may look at
 * once. */
SHMI_BLOCK_FN int shmi_block_renew(SHMI_BLOCK *b) {
  int error = shmi_block_meet(b);
  if (error) return error;
  shmi_block_clean(b, b->step + 1);
  error = shmi_block_meet(b);
  if (error) return error;
  shmi_block_clean(b, b->step + 1);
  return shmi_block_meet(b);
}

#endif
