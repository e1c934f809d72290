/*
 * test_layout.c - the segment's layout fits its budget for every number of ranks, nothing in it overlaps, and a header
 * that differs from the one we would have made in any byte is refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "shm/layout.h"

static const uint64_t LIMIT = 64 << 20;

static int make(struct shmi_header *h, int nranks, uint64_t staging) {
  const shmi_options_t options = {.timeout_ms = 1000, .staging_bytes = LIMIT};
  return shmi_layout_make(h, nranks, staging, &options);
}

/* Budgets from the least to the most, also ones that divide badly. */
static uint64_t budget(int nranks, int i) {
  const uint64_t least = shmi_layout_least_staging(nranks);
  return i == 0 ? least : i == 8 ? LIMIT : least + (LIMIT - least) / 8 * (uint64_t)i + 777 * (uint64_t)i;
}

static void check_sizes(const struct shmi_header *h, int nranks, uint64_t staging) {
  const uint64_t n = (uint64_t)nranks, pairs = n * h->pair_places * h->pair_bytes;
  const uint64_t device = shmi_layout_device_bytes(h, h->channels), engines = shmi_layout_engine_bytes(h);
  assert_true(n * h->staging_stride + device + engines <= staging);
  assert_true(h->staging_stride >= 2 * h->slot_bytes + pairs && h->staging_stride % SHMI_PAGE == 0);
  assert_true(h->slot_bytes == n * h->lane_bytes && h->lane_bytes >= SHMI_PAGE && h->lane_bytes % SHMI_PAGE == 0);
  assert_true(h->pair_bytes >= 1024 && h->pair_bytes % SHMI_LINE == 0);
  assert_true(h->control_offset >= sizeof *h);
  assert_true(h->control_stride >= sizeof(struct shmi_control) + n * 4 * SHMI_LINE);
  assert_true(h->staging_offset >= h->control_offset + n * h->control_stride && h->staging_offset % SHMI_PAGE == 0);
  assert_true(h->device_offset == h->staging_offset + n * h->staging_stride);
  assert_true(h->engine_offset == h->device_offset + device && h->engine_offset % SHMI_PAGE == 0);
  assert_true(h->total_bytes == h->engine_offset + engines);
  assert_true(engines == n * 2 * h->engine_slot_bytes && n * engines <= 64 << 20 && engines <= staging / 4);
  assert_true(h->engine_slot_bytes == (n + 1) * h->engine_lane_bytes && h->engine_lane_bytes % SHMI_PAGE == 0);
  assert_true(!engines || h->channels);
  assert_true(h->channel_stride == 2 * (h->channel_slot_bytes + h->packet_bytes));
  assert_true(h->channels <= SHMI_CHANNELS_MOST && n * device <= 160 << 20);
  assert_true(h->channel_stride % SHMI_PAGE == 0 && h->channel_slot_bytes % SHMI_PAGE == 0);
  assert_true(!h->channels == !h->device_pair_bytes && h->device_pair_bytes % SHMI_PAGE == 0);
  assert_true(h->staging_offset == shmi_layout_control_bytes(nranks));
}

static void every_budget_is_kept(void **state) {
  (void)state;
  for (int nranks = 2; nranks <= SHMCCL_MAX_RANKS; nranks++)
    for (int i = 0; i <= 8; i++) {
      struct shmi_header h;
      assert_true(make(&h, nranks, budget(nranks, i)));
      check_sizes(&h, nranks, budget(nranks, i));
      assert_null(shmi_layout_check(&h, h.total_bytes));
    }
}

static void too_little_is_refused(void **state) {
  (void)state;
  for (int nranks = 2; nranks <= SHMCCL_MAX_RANKS; nranks++) {
    struct shmi_header h;
    assert_true(shmi_layout_least_staging(nranks) <= LIMIT);
    assert_false(make(&h, nranks, shmi_layout_least_staging(nranks) - 1));
    assert_false(make(&h, nranks, 0));
  }
}

/* ---- places -------------------------------------------------------------------------------------------------------
 */

static uint8_t *end_of_places; /* of the places seen so far, which come in ascending order */

static void expect_place(const void *place, size_t bytes, size_t alignment) {
  assert_true((const uint8_t *)place >= end_of_places);
  assert_int_equal((uintptr_t)place % alignment, 0);
  end_of_places = (uint8_t *)(uintptr_t)place + bytes;
}

/* Message slots, then slots and packets of all channels; their words lie in the control of their rank. */
static void expect_device(const struct shmi_header *h, uint8_t *base) {
  uint8_t *const control = base + h->control_offset, *const device = base + h->device_offset;
  const struct shmi_world first = shmi_layout_channels(h, control, device, 1);
  const struct shmi_world pairs = shmi_layout_device_pairs(h, control, device, 1);
  for (int r = 0; r < pairs.nranks && h->channels; r++)
    for (int p = 0; p < pairs.nranks; p++)
      for (uint32_t i = 0; i < SHMI_PAIR_SLOTS; i++)
        expect_place(shmi_pair_slot_of(&pairs, r, p, i), pairs.pair_bytes, SHMI_PAGE);
  for (int c = 0; c < (int)h->channels; c++) {
    const struct shmi_world w = shmi_channel_of(&first, c);
    for (int r = 0; r < first.nranks; r++) {
      assert_ptr_equal(shmi_step_of(&w, r, 7), &shmi_control_of(&w, r)->channel[c][1]);
      for (uint32_t step = 0; step < 2; step++) expect_place(shmi_slot_of(&w, r, step), w.slot_bytes, SHMI_PAGE);
      for (uint32_t step = 0; step < 2; step++) expect_place(shmi_packets_of(&w, r, step), w.packet_bytes, SHMI_PAGE);
      assert_true((size_t)w.nranks * w.lane_bytes <= w.slot_bytes && w.lane_bytes >= SHMI_LINE);
    }
    assert_true(end_of_places == device + shmi_layout_device_bytes(h, (uint64_t)c + 1));
  }
}

static void expect_engines(const struct shmi_header *h, uint8_t *base) {
  const struct shmi_world w = shmi_layout_engines(h, base + h->control_offset, base + h->engine_offset, 1);
  assert_true(end_of_places == base + h->engine_offset);
  for (int r = 0; r < w.nranks && h->engine_slot_bytes; r++) {
    assert_ptr_equal(shmi_step_of(&w, r, 7), &shmi_control_of(&w, r)->engine[1]);
    for (uint32_t step = 0; step < 2; step++) expect_place(shmi_slot_of(&w, r, step), w.slot_bytes, SHMI_PAGE);
    assert_true((size_t)(w.nranks + 1) * w.lane_bytes <= w.slot_bytes);
  }
}

static void expect_pairs(const struct shmi_world *w, int rank) {
  for (int p = 0; p < w->nranks; p++) expect_place(shmi_pair_out_of(w, rank, p), SHMI_LINE, SHMI_LINE);
  for (int p = 0; p < w->nranks; p++) expect_place(shmi_pair_in_of(w, rank, p), SHMI_LINE, SHMI_LINE);
}

/* All lines of all ranks, then all staging, one behind the other. */
static void places_do_not_overlap(void **state) {
  (void)state;
  for (int nranks = 2; nranks <= SHMCCL_MAX_RANKS; nranks += nranks < 9 ? 1 : 7) {
    struct shmi_header h;
    uint8_t *const base = (uint8_t *)((uintptr_t)1 << 40); /* nothing is touched */
    assert_true(make(&h, nranks, budget(nranks, 3)));
    const struct shmi_world w = shmi_layout_world(&h, base, 1);
    const struct shmi_world device = shmi_layout_device_pairs(&h, base + h.control_offset, base + h.device_offset, 1);
    end_of_places = base + sizeof h;
    for (int r = 0; r < nranks; r++) {
      expect_place(shmi_control_of(&w, r), sizeof(struct shmi_control), SHMI_LINE);
      expect_pairs(&w, r);
      expect_pairs(&device, r);
    }
    for (int r = 0; r < nranks; r++) {
      for (uint32_t step = 0; step < 2; step++) expect_place(shmi_slot_of(&w, r, step), w.slot_bytes, SHMI_PAGE);
      for (int p = 0; p < nranks; p++)
        for (uint32_t i = 0; i < w.pair_places; i++)
          expect_place(shmi_pair_slot_of(&w, r, p, i), w.pair_bytes, SHMI_LINE);
    }
    expect_place(base + h.device_offset, 0, SHMI_PAGE);
    expect_device(&h, base);
    expect_engines(&h, base);
    assert_true(end_of_places == base + h.total_bytes);
  }
}

/* Ranks that captured the same calls do not differ, however far ahead one is; those that did not do. */
static void captures_are_compared(void **state) {
  uint64_t a = (uint64_t)UINT32_MAX << 32, b = a; /* counts wrap */
  (void)state;
  for (int i = 0; i < 40; i++) {
    b = a;
    for (int ahead = 0; ahead < 40; ahead++) {
      assert_false(shmi_large_differ(a, b) || shmi_large_differ(b, a));
      b = shmi_large_next(b, ahead % 3 == 0);
    }
    b = shmi_large_next(a, 0), a = shmi_large_next(a, 1);
    assert_true(shmi_large_differ(a, b) && shmi_large_differ(b, a));
    assert_true(shmi_large_differ(shmi_large_next(a, 0), b) && shmi_large_differ(b, shmi_large_next(a, 1)));
  }
}

static void numbers_come_round(void **state) {
  struct shmi_header h;
  (void)state;
  assert_true(make(&h, 4, LIMIT));
  const struct shmi_world w = shmi_layout_world(&h, (uint8_t *)((uintptr_t)1 << 40), 0);
  assert_ptr_equal(shmi_slot_of(&w, 2, UINT32_MAX), shmi_slot_of(&w, 2, 1));
  assert_ptr_equal(shmi_step_of(&w, 2, UINT32_MAX), shmi_step_of(&w, 2, 1));
  assert_ptr_equal(shmi_pair_slot_of(&w, 2, 3, UINT32_MAX), shmi_pair_slot_of(&w, 2, 3, (uint32_t)w.pair_places - 1));
  const uint64_t word = shmi_word(0xfedcba98, 0x12345678);
  assert_true(shmi_word_generation(word) == 0xfedcba98 && shmi_word_signature(word) == 0x12345678);
}

/* ---- hostile headers ------------------------------------------------------------------------------------------------
 */

static int is_field(size_t byte, size_t offset) { return byte >= offset && byte < offset + 8; }

/* Two fields may differ from what we would have made: the window, which has a range, and the budget where the
 * difference is rounded away. */
static void changed_headers_are_refused(void **state) {
  const int sizes[] = {2, 3, 8, 64};
  (void)state;
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
    for (size_t byte = 0; byte < offsetof(struct shmi_header, options); byte++)
      for (int bit = 0; bit < 8; bit++) {
        struct shmi_header h;
        assert_true(make(&h, sizes[i], budget(sizes[i], 2)));
        const uint64_t bytes = h.total_bytes;
        ((uint8_t *)&h)[byte] ^= (uint8_t)(1 << bit);
        if (shmi_layout_check(&h, bytes)) continue;
        assert_true(is_field(byte, offsetof(struct shmi_header, budget_bytes)) ||
                    is_field(byte, offsetof(struct shmi_header, window_bytes)));
        assert_in_range(h.window_bytes, SHMI_LINE, h.slot_bytes);
        check_sizes(&h, sizes[i], h.budget_bytes);
        assert_int_equal(h.total_bytes, bytes);
      }
}

static void impossible_headers_are_refused(void **state) {
  struct shmi_header good, h;
  (void)state;
  assert_true(make(&good, 4, LIMIT));
  assert_non_null(shmi_layout_check(&good, good.total_bytes - 1));
  assert_non_null(shmi_layout_check(&good, 0));
  memset(&h, 0, sizeof h);
  assert_non_null(shmi_layout_check(&h, sizeof h));
  memset(&h, 0xff, sizeof h);
  assert_non_null(shmi_layout_check(&h, UINT64_MAX));
  for (uint32_t nranks = 0; nranks < 300; nranks++) {
    h = good, h.nranks = nranks;
    assert_true((shmi_layout_check(&h, h.total_bytes) == NULL) == (nranks == 4));
  }
  h = good, h.options.staging_bytes = h.budget_bytes - 1; /* more than the ranks agreed on */
  assert_non_null(shmi_layout_check(&h, h.total_bytes));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_budget_is_kept),           cmocka_unit_test(too_little_is_refused),
      cmocka_unit_test(places_do_not_overlap),          cmocka_unit_test(numbers_come_round),
      cmocka_unit_test(captures_are_compared),          cmocka_unit_test(changed_headers_are_refused),
      cmocka_unit_test(impossible_headers_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
