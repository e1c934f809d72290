/* hash.c - two lanes in the manner of FNV-1a, each mixed in a way of its own. */
#include "base/hash.h"

#include <string.h>

struct shmi_hash shmi_hash_begin(const char *purpose) {
  struct shmi_hash h = {0x9e3779b97f4a7c15ull, 0x7fb5d329728ea185ull};
  shmi_hash_add(&h, purpose, strlen(purpose) + 1);
  return h;
}

void shmi_hash_add(struct shmi_hash *h, const void *data, size_t bytes) {
  const uint8_t *p = data;
  for (size_t i = 0; i < bytes; i++) {
    h->a = (h->a ^ p[i]) * 0x100000001b3ull;
    h->b = (h->b + p[i]) * 0x81dadef4bc2dd44dull;
    h->b ^= h->b >> 29;
  }
}

void shmi_hash_end(struct shmi_hash h, uint8_t hash[SHMI_HASH_BYTES]) {
  h.a ^= h.a >> 32;
  h.b ^= h.a * 0x9e3779b97f4a7c15ull;
  memcpy(hash, &h.a, sizeof h.a);
  memcpy(hash + sizeof h.a, &h.b, sizeof h.b);
}
