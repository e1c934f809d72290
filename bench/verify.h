/*
 * Fills the buffers of one run with known data and compares every element that the run leaves, the inputs that it must
 * not change and guard zones beyond all ends included.
 */
#ifndef BENCH_VERIFY_H
#define BENCH_VERIFY_H

#include "patterns.h"

/* Bytes before and behind each buffer that nobody may touch. */
enum { GUARD_BYTES = 4096 };

struct buffer {
  unsigned char *data; /* GUARD_BYTES of the mapping lie before it and GUARD_BYTES behind its capacity */
  size_t capacity;
};

/* One rank's run. */
struct trial {
  const struct patterns *patterns;
  const struct point *point;
  int rank;
  int nranks;
  struct buffer send;
  struct buffer recv; /* in place: both */
};

struct verdict {
  uint64_t wrong; /* elements, plus damaged guard bytes */
  char text[160]; /* the first thing wrong */
};

/* What a rank passes to the call: NULL where the call neither reads nor writes. */
struct placement {
  unsigned char *send;
  unsigned char *recv;
};

/* Maps a buffer with its guards and touches it, so that no run pays for page faults. */
bool buffer_open(struct buffer *buffer, size_t capacity);
void buffer_close(struct buffer *buffer);

struct placement verify_placement(const struct trial *trial);
/* Fills the inputs, poisons what is to be written, sets the guards. */
void verify_fill(const struct trial *trial);
/* What the call left wrong on this rank. */
struct verdict verify_check(const struct trial *trial);

#endif
