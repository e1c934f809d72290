/* tuning.c - a tuning table: refused in one line, or usable. */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/tuning.h"
#include "fuzz.h"
#include "harness.h"

const unsigned fuzz_runs = 10000;

size_t fuzz_seed(unsigned number, uint8_t to[FUZZ_BYTES_MOST]) {
  const struct shmi_tuning_machine here = shmi_tuning_this_machine();
  if (number > 0) return 0;
  return (size_t)snprintf((char *)to, FUZZ_BYTES_MOST,
                          "shmccl-tuning %d\nlibrary %d.%d.%d\ncpu %s\ncores %d\ncopy-gbs 12.5\ncached-copy-gbs 50\n"
                          "handover-us 0.03\nranks 2\none-shot-most 65536\nreduce-chunk 524288\ncopy-chunk 262144\n"
                          "allreduce 8 0.25\nallreduce 1024 2\nranks 4\none-shot-most 1024\nreduce-chunk 65536\n"
                          "copy-chunk 131072\nallreduce 8 1.5e3\nend\n",
                          SHMI_TUNING_FORMAT, SHMCCL_VERSION_MAJOR, SHMCCL_VERSION_MINOR, SHMCCL_VERSION_PATCH,
                          here.cpu, here.cores);
}

static void use(const struct shmi_tuning *t) {
  for (int nranks = 0; nranks <= SHMCCL_MAX_RANKS; nranks++) {
    const struct shmi_tuning_set *set = shmi_tuning_find(t, nranks);
    CHECK(!set || (set->nranks == nranks && shmi_thresholds_valid(&set->thresholds)));
    for (uint64_t bytes = 0; bytes < 1ull << 40; bytes = 3 * bytes + 1) {
      const double us = shmi_tuning_allreduce_us(t, nranks, bytes);
      CHECK((us >= 0) == (set != NULL)); /* no NaN either */
    }
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static struct shmi_tuning tuning;
  char path[64], message[SHMI_TUNING_MESSAGE_BYTES] = "";
  const int fd = memfd_create("tuning", MFD_CLOEXEC);
  CHECK(fd >= 0 && write(fd, data, size) == (ssize_t)size);
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  if (!shmi_tuning_read(path, &tuning, message))
    use(&tuning);
  else
    CHECK_TEXT(*message && !strchr(message, '\n'), "refused in these words: '%s'", message);
  close(fd);
  return 0;
}
