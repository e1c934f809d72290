/*
 * driver.c - a fuzz target without libFuzzer: its seeds, then its seeds with random changes.
 *
 *   fuzz_X [--runs N] [--corpus FOLDER]     SHMCCL_TEST_SEED=... repeats a run
 *
 * --corpus writes the seeds as files, for libFuzzer. Each input lies in memory of its own size, so that
 * AddressSanitizer sees a read of the byte behind it.
 */
#include <stdio.h>
#include <string.h>

#include "fuzz.h"
#include "harness.h"

static void try_input(const uint8_t *data, size_t size) {
  uint8_t *copy = malloc(size + !size);
  CHECK(copy);
  memcpy(copy, data, size);
  LLVMFuzzerTestOneInput(copy, size);
  free(copy);
}

/* One change; the size that it leaves. */
static size_t change(struct harness_random *r, uint8_t *data, size_t size) {
  static const uint8_t odd[] = {0, 1, 0x7f, 0x80, 0xff, '\n', ' ', '-', '9', '.', '%', '='};
  const size_t at = size ? harness_below(r, size) : 0, left = size - at;
  const size_t length = left ? 1 + harness_below(r, left < 16 ? left : 16) : 0;
  switch (size ? harness_below(r, 7) : 5) {
  case 0: data[at] ^= (uint8_t)(1 << harness_below(r, 8)); return size;
  case 1: data[at] = odd[harness_below(r, LENGTH(odd))]; return size;
  case 2: data[at] = (uint8_t)harness_bits(r); return size;
  case 3: return at; /* cut */
  case 4: memmove(data + at, data + at + length, left - length); return size - length;
  case 5: /* another byte */
    if (size == FUZZ_BYTES_MOST) return size;
    memmove(data + at + 1, data + at, left);
    data[at] = odd[harness_below(r, LENGTH(odd))];
    return size + 1;
  default: /* once more */
    if (size + length > FUZZ_BYTES_MOST) return size;
    memmove(data + at + length, data + at, left);
    return size + length;
  }
}

static unsigned count_seeds(void) {
  uint8_t data[FUZZ_BYTES_MOST];
  unsigned count = 0;
  while (fuzz_seed(count, data)) count++;
  return count;
}

static void run(unsigned runs) {
  struct harness_random r = harness_random(harness_seed());
  uint8_t data[FUZZ_BYTES_MOST];
  const unsigned seeds = count_seeds();
  for (unsigned i = 0; i < runs; i++) {
    size_t size = fuzz_seed(i < seeds ? i : (unsigned)harness_below(&r, seeds), data);
    harness_note("input %u", i);
    for (size_t changes = i < seeds ? 0 : harness_below(&r, 12); changes; changes--) size = change(&r, data, size);
    try_input(data, size);
  }
  try_input(data, 0);
  printf("%u inputs\n", runs);
}

static void write_corpus(const char *folder) {
  uint8_t data[FUZZ_BYTES_MOST];
  char path[512];
  size_t size;
  for (unsigned i = 0; (size = fuzz_seed(i, data)); i++) {
    snprintf(path, sizeof path, "%s/seed-%u", folder, i);
    FILE *f = fopen(path, "we");
    CHECK_TEXT(f && fwrite(data, 1, size, f) == size && !fclose(f), "%s cannot be written", path);
  }
}

int main(int argc, char **argv) {
  if (argc == 1)
    run(fuzz_runs);
  else if (argc == 3 && !strcmp(argv[1], "--runs"))
    run((unsigned)strtoul(argv[2], NULL, 10));
  else if (argc == 3 && !strcmp(argv[1], "--corpus"))
    write_corpus(argv[2]);
  else
    return fprintf(stderr, "usage: %s [--runs N] [--corpus FOLDER]\n", argv[0]), 2;
  return 0;
}
