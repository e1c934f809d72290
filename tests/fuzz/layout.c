/* layout.c - a segment's header: what is accepted lies within the file, wherever one looks. */
#include <string.h>

#include "fuzz.h"
#include "harness.h"
#include "shm/layout.h"

const unsigned fuzz_runs = 200000;

size_t fuzz_seed(unsigned number, uint8_t to[FUZZ_BYTES_MOST]) {
  static const int nranks[] = {2, 3, 8, 64};
  const shmi_options_t options = {.timeout_ms = 1000, .staging_bytes = 64 << 20};
  struct shmi_header h;
  if (number >= LENGTH(nranks)) return 0;
  CHECK(shmi_layout_make(&h, nranks[number], options.staging_bytes, &options));
  memcpy(to, &h, sizeof h);
  return sizeof h;
}

static void check_within(const struct shmi_header *h, const uint8_t *base, const uint8_t *at, size_t bytes) {
  CHECK(at >= base && (uint64_t)(at - base) <= h->total_bytes && bytes <= h->total_bytes - (uint64_t)(at - base));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  uint8_t *const base = (uint8_t *)((uintptr_t)1 << 40); /* nothing is touched */
  struct shmi_header h;
  if (size != sizeof h) return 0;
  memcpy(&h, data, sizeof h);
  if (shmi_layout_check(&h, h.total_bytes)) return 0;
  const struct shmi_world w = shmi_layout_world(&h, base, 0);
  const int last = w.nranks - 1;
  check_within(&h, base, (uint8_t *)shmi_control_of(&w, last), sizeof(struct shmi_control));
  check_within(&h, base, (uint8_t *)shmi_pair_in_of(&w, last, last), sizeof(struct shmi_pair_in));
  check_within(&h, base, shmi_slot_of(&w, last, 1), w.slot_bytes);
  check_within(&h, base, shmi_pair_slot_of(&w, last, last, (uint32_t)w.pair_places - 1), w.pair_bytes);
  CHECK(w.window_bytes <= w.slot_bytes);
  return 0;
}
