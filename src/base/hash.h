/*
 * hash.h - 128 bits of whatever ranks share, to name a segment by, or to see that all have the same. It spreads, it
 * does not protect: nobody gains by making two alike, since the folder's permissions and the segment's mode keep others
 * out.
 */
#ifndef SHMI_HASH_H
#define SHMI_HASH_H

#include <stddef.h>
#include <stdint.h>

enum { SHMI_HASH_BYTES = 16 };

struct shmi_hash {
  uint64_t a, b;
};

/* purpose: what the name is for, so that equal data give different ones for different purposes. */
struct shmi_hash shmi_hash_begin(const char *purpose);
/* Neighbouring pieces run together: texts are added with their terminators. */
void shmi_hash_add(struct shmi_hash *h, const void *data, size_t bytes);
void shmi_hash_end(struct shmi_hash h, uint8_t hash[SHMI_HASH_BYTES]);

#endif
