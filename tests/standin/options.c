/*
 * options.c - the settings of the stand-in: environment variables STANDIN_..., read once, at the first call.
 *
 * A name that is not in the table and a value that is no number end the program: a test that runs with other settings
 * than it says proves nothing.
 */
#include "internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static struct si_options options;

void si_say(int level, const char *format, ...) {
  char line[512];
  va_list arguments;
  if (level > options.log) return;
  va_start(arguments, format);
  vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  fprintf(stderr, "cudart stand-in[%d]: %s\n", (int)getpid(), line);
}

void si_die(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fprintf(stderr, "cudart stand-in[%d]: ", (int)getpid());
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
  abort();
}

void *si_alloc(size_t bytes) {
  void *p = calloc(1, bytes ? bytes : 1);
  if (!p) si_die("out of memory: %zu bytes", bytes);
  return p;
}

void *si_copy_of(const void *p, size_t bytes) {
  void *copy = si_alloc(bytes);
  if (bytes) memcpy(copy, p, bytes);
  return copy;
}

static const struct {
  const char *name;
  long least, most, otherwise;
} numbers[] = {
    {"DEVICES", 0, SI_MAX_DEVICES, 1},
    {"MEMORY", 1, 1 << 20, 8192},
    {"P2P", 0, 1, 0},
    {"HOST_ALIAS", 0, 2, 0},
    {"PINNED_LIMIT", 0, 1 << 20, 0},
    {"ONE_QUEUE", 0, 1, 0},
    {"DELAY", 0, 1000000, 0},
    {"SEED", 0, 0x7fffffffffffff, 0},
    {"FREE_WAITS", 0, 1, 0},
    {"MEMORY_OPS", 0, 64, 64},
    {"STATS", 0, 1, 0},
    {"LOG", 0, 2, 0},
    {"NVSWITCH", 0, 1, 0} /* nvml.c */,
};
static const char *const texts[] = {"NAME", "CC", "KERNELS", "FAIL"};

static long number(const char *name) {
  char variable[64], *end;
  size_t i = 0;
  while (strcmp(numbers[i].name, name)) i++;
  snprintf(variable, sizeof variable, "STANDIN_%s", name);
  const char *text = getenv(variable);
  if (!text || !*text) return numbers[i].otherwise;
  const long value = strtol(text, &end, 0);
  if (*end || value < numbers[i].least || value > numbers[i].most)
    si_die("%s=%s: must be a number from %ld to %ld", variable, text, numbers[i].least, numbers[i].most);
  return value;
}

static bool known(const char *name, size_t length) {
  for (size_t i = 0; i < LENGTH(numbers); i++)
    if (strlen(numbers[i].name) == length && !strncmp(numbers[i].name, name, length)) return true;
  for (size_t i = 0; i < LENGTH(texts); i++)
    if (strlen(texts[i]) == length && !strncmp(texts[i], name, length)) return true;
  return false;
}

static void check_names(void) {
  static const char prefix[] = "STANDIN_";
  for (char **variable = environ; *variable; variable++) {
    if (strncmp(*variable, prefix, sizeof prefix - 1)) continue;
    const char *name = *variable + sizeof prefix - 1;
    if (!known(name, strcspn(name, "="))) si_die("there is no setting %.*s", (int)strcspn(*variable, "="), *variable);
  }
}

static void read_capability(void) {
  const char *text = getenv("STANDIN_CC");
  options.major = 8;
  options.minor = 0;
  if (text && sscanf(text, "%d.%d", &options.major, &options.minor) != 2)
    si_die("STANDIN_CC=%s: must be like 8.0", text);
}

/* A run with delays can be repeated as far as its threads can: by its seed. */
static void read_delays(void) {
  struct timespec now;
  options.delay_us = (unsigned)number("DELAY");
  options.seed = (uint64_t)number("SEED");
  if (!options.delay_us) return;
  clock_gettime(CLOCK_REALTIME, &now);
  if (!options.seed) options.seed = (uint64_t)now.tv_nsec ^ (uint64_t)getpid() << 10;
  si_say(0, "delays of up to %u us, STANDIN_SEED=%llu", options.delay_us, (unsigned long long)options.seed);
}

static void read_all(void) {
  check_names();
  read_capability();
  options.devices = (int)number("DEVICES");
  options.memory = (size_t)number("MEMORY") << 20;
  options.p2p = (int)number("P2P");
  options.host_alias = (int)number("HOST_ALIAS");
  options.pinned_limit = (size_t)number("PINNED_LIMIT") << 20;
  options.one_queue = (int)number("ONE_QUEUE");
  options.free_waits = (int)number("FREE_WAITS");
  options.memory_ops = (int)number("MEMORY_OPS");
  options.stats = (int)number("STATS");
  options.log = (int)number("LOG");
  options.name = getenv("STANDIN_NAME");
  options.kernels = getenv("STANDIN_KERNELS");
  options.fail = getenv("STANDIN_FAIL");
  read_delays();
}

const struct si_options *si_options(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, read_all);
  return &options;
}
