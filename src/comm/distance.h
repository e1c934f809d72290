/* distance.h - whether a peer's core is far: a short history of how long its newly written lines took to read. */
#ifndef SHMI_DISTANCE_H
#define SHMI_DISTANCE_H

#include <stdbool.h>
#include <stdint.h>

enum { SHMI_DISTANCE_SAMPLES = 8 };

struct shmi_distance {
  uint16_t ns[SHMI_DISTANCE_SAMPLES];
  uint32_t samples; /* so far, on the circle */
  bool is_far;
};

/* Reads a word that a peer writes. True if it is another one than *seen: *ns is how long that took. *seen is set. */
bool shmi_distance_read(const uint32_t *word, uint32_t *seen, uint64_t *ns);

/* Adds a sample. True if is_far has changed. */
bool shmi_distance_add(struct shmi_distance *d, uint64_t ns);

#endif
