/*
 * litmus.h - litmus tests of base/ordering.h's primitives: two sides, each a block of a GPU or a thread of the CPU,
 * hand data to each other through pinned host memory as the protocol does (coll/step.h, coll/packet.h).
 *
 * Message: all threads of the writer write their words, the block meets, one thread publishes the round's number; the
 * reader observes it, meets, reads all words, meets, and publishes its acknowledgement, after which the writer writes
 * the next round's. A word of an earlier round means that data were behind their flag; one of a later round, that a
 * read was behind the acknowledgement. These are all the orders that the protocol needs. It never needs a store to be
 * before a later load of another word (store buffering), so that is not tested.
 *
 * Packets: every 8-byte word has its data and the round's number in itself, and nothing is ordered.
 *
 * Negative controls: plain accesses in place of publish and observe, which hardware may or may not punish, and the flag
 * written before the data, which must be noticed or the test notices nothing.
 */
#ifndef GPU_LITMUS_H
#define GPU_LITMUS_H

#ifndef __CUDACC__
#include "base/clock.h"
#endif
#include "base/ordering.h"
#include "kernels.h"

enum litmus_test { LITMUS_MESSAGE, LITMUS_PACKETS };
enum litmus_order { LITMUS_ORDERED, LITMUS_PLAIN, LITMUS_FLAG_FIRST };
enum { LITMUS_WORDS = 2048, LITMUS_LINE = 16 /* words */, LITMUS_LOOKS = 64 };

/* Shared by both sides; lines with one writer each. */
struct litmus_memory {
  uint64_t flag[LITMUS_LINE], ack[LITMUS_LINE];
  uint64_t data[LITMUS_WORDS];
};

/* What a thread of the reader has seen; also the writer's if it gave up. In pinned memory. */
struct litmus_tally {
  uint64_t stale, early, wrong, late; /* words; the last: waits given up */
};

struct litmus_play {
  struct litmus_memory *memory;
  struct litmus_tally *tallies; /* of each thread */
  uint64_t rounds, patience_ns;
  uint32_t reads, test, order; /* reads: this is the reader's side */
};

/*
 * Executors have SHMI_BLOCK with tid, nthreads, play and tally, and
 *   litmus_sync(b): all threads of the block meet.
 *   litmus_agree(b, error): they meet, and all get whether one of them has an error.
 *   litmus_now(b): nanoseconds.
 */

#ifndef __CUDACC__
/* On the CPU: threads that meet by `meet`; NULL where there is one. */
struct shmi_block {
  int tid, nthreads;
  const struct litmus_play *play;
  struct litmus_tally *tally;
  int *failed; /* of the block */
  void (*meet)(const void *context);
  const void *context;
};

static inline void litmus_sync(const struct shmi_block *b) {
  if (b->meet) b->meet(b->context);
}

static inline int litmus_agree(const struct shmi_block *b, int error) {
  if (error) __atomic_store_n(b->failed, 1, __ATOMIC_RELAXED);
  litmus_sync(b);
  return __atomic_load_n(b->failed, __ATOMIC_RELAXED);
}

static inline uint64_t litmus_now(const struct shmi_block *b) {
  (void)b;
  return shmi_now_ns();
}
#endif

SHMI_FN uint64_t litmus_word(uint64_t round, uint32_t k) { return round << 32 | (uint32_t)(round * 2654435761u + k); }

SHMI_BLOCK_FN uint64_t litmus_look(SHMI_BLOCK *b, const uint64_t *word) {
  return b->play->order == LITMUS_PLAIN ? shmi_peek64(word) : shmi_observe64(word);
}

SHMI_BLOCK_FN void litmus_tell(SHMI_BLOCK *b, uint64_t *word, uint64_t value) {
  if (b->play->order == LITMUS_PLAIN)
    shmi_note64(word, value);
  else
    shmi_publish64(word, value);
}

/* Another look is worth while; gives up after a while. */
SHMI_BLOCK_FN int litmus_pause(SHMI_BLOCK *b, uint32_t *looks, uint64_t *deadline) {
  if (++*looks % LITMUS_LOOKS) return 0;
  if (!*deadline) *deadline = litmus_now(b) + b->play->patience_ns;
  if (litmus_now(b) < *deadline) return 0;
  b->tally->late++;
  return 1;
}

/* One thread waits for the word, then all go on; not 0: given up. */
SHMI_BLOCK_FN int litmus_await(SHMI_BLOCK *b, const uint64_t *word, uint64_t value) {
  uint32_t looks = 0;
  uint64_t deadline = 0;
  int error = 0;
  if (b->tid == 0)
    while (!error && litmus_look(b, word) != value) error = litmus_pause(b, &looks, &deadline);
  return litmus_agree(b, error);
}

/* The control's gap: until the reader has been misled, or a moment. */
SHMI_BLOCK_FN void litmus_linger(SHMI_BLOCK *b, uint64_t round) {
  const uint64_t end = litmus_now(b) + 10000000;
  if (b->tid == 0)
    while (shmi_observe64(b->play->memory->ack) != round && litmus_now(b) < end) continue;
  litmus_sync(b);
}

SHMI_BLOCK_FN void litmus_check(SHMI_BLOCK *b, uint64_t got, uint64_t round, uint32_t k) {
  if (got == litmus_word(round, k)) return;
  if (got >> 32 < round)
    b->tally->stale++;
  else if (got >> 32 > round)
    b->tally->early++;
  else
    b->tally->wrong++;
}

SHMI_BLOCK_FN void litmus_write_message(SHMI_BLOCK *b, struct litmus_memory *m, uint64_t round) {
  if (b->play->order == LITMUS_FLAG_FIRST) {
    if (b->tid == 0) shmi_publish64(m->flag, round);
    litmus_linger(b, round);
  }
  for (uint32_t k = (uint32_t)b->tid; k < LITMUS_WORDS; k += (uint32_t)b->nthreads) m->data[k] = litmus_word(round, k);
  litmus_sync(b);
  if (b->play->order != LITMUS_FLAG_FIRST && b->tid == 0) litmus_tell(b, m->flag, round);
}

SHMI_BLOCK_FN int litmus_read_message(SHMI_BLOCK *b, const struct litmus_memory *m, uint64_t round) {
  const int error = litmus_await(b, m->flag, round);
  if (error) return error;
  for (uint32_t k = (uint32_t)b->tid; k < LITMUS_WORDS; k += (uint32_t)b->nthreads)
    litmus_check(b, m->data[k], round, k);
  return 0;
}

/* The control writes the number beside wrong data first. */
SHMI_BLOCK_FN void litmus_write_packets(SHMI_BLOCK *b, struct litmus_memory *m, uint64_t round) {
  for (int pass = b->play->order == LITMUS_FLAG_FIRST ? 0 : 1; pass < 2; pass++) {
    for (uint32_t k = 2 * (uint32_t)b->tid; k < LITMUS_WORDS; k += 2 * (uint32_t)b->nthreads) {
      const uint64_t a = litmus_word(round, k), c = litmus_word(round, k + 1);
      shmi_note_two(m->data + k, pass ? a : a ^ 1, pass ? c : c ^ 1);
    }
    if (!pass) litmus_linger(b, round);
  }
}

SHMI_BLOCK_FN int litmus_read_packets(SHMI_BLOCK *b, const struct litmus_memory *m, uint64_t round) {
  int error = 0;
  for (uint32_t k = 2 * (uint32_t)b->tid; k < LITMUS_WORDS && !error; k += 2 * (uint32_t)b->nthreads) {
    struct shmi_two_words two = shmi_peek_two(m->data + k);
    uint32_t looks = 0;
    uint64_t deadline = 0;
    while (!error && (two.a >> 32 != round || two.b >> 32 != round)) {
      error = litmus_pause(b, &looks, &deadline);
      two = shmi_peek_two(m->data + k);
    }
    if (error) break;
    litmus_check(b, two.a, round, k);
    litmus_check(b, two.b, round, k + 1);
  }
  return litmus_agree(b, error);
}

SHMI_BLOCK_FN int litmus_write(SHMI_BLOCK *b, struct litmus_memory *m, uint64_t round) {
  const int error = litmus_await(b, m->ack, round - 1);
  if (error) return error;
  if (b->play->test == LITMUS_MESSAGE)
    litmus_write_message(b, m, round);
  else
    litmus_write_packets(b, m, round);
  return 0;
}

SHMI_BLOCK_FN int litmus_read(SHMI_BLOCK *b, struct litmus_memory *m, uint64_t round) {
  const int error =
      b->play->test == LITMUS_MESSAGE ? litmus_read_message(b, m, round) : litmus_read_packets(b, m, round);
  if (error) return error;
  litmus_sync(b);
  if (b->tid == 0) litmus_tell(b, m->ack, round);
  return 0;
}

SHMI_BLOCK_FN void litmus_run(SHMI_BLOCK *b) {
  int error = 0;
  for (uint64_t round = 1; round <= b->play->rounds && !error; round++)
    error = b->play->reads ? litmus_read(b, b->play->memory, round) : litmus_write(b, b->play->memory, round);
}

#endif
