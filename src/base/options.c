/* options.c - the table of settings and how a text becomes one. */
#include "base/options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/ordering.h"
#include "base/variables.h"

struct option {
  const char *variable;
  size_t offset; /* in shmi_options_t */
  uint64_t initial, least, most;
  const char *const *words; /* values by name, instead of a number */
  const char *unit;
};

static const char *const algorithm_words[] = {"auto", "one-shot", "two-shot", NULL};

static const char *const memory_words[] = {"auto", "host", "cuda", NULL};

static const struct option table[] = {
    {"SHMCCL_TIMEOUT_MS", offsetof(shmi_options_t, timeout_ms), 600000, 1, 86400000, NULL, "milliseconds"},
    {"SHMCCL_STAGING_BYTES", offsetof(shmi_options_t, staging_bytes), 64 << 20, 64 << 10, 64 << 20, NULL, "bytes"},
    {"SHMCCL_CHUNK_BYTES", offsetof(shmi_options_t, chunk_bytes), 0, 64, 64 << 20, NULL, "bytes"},
    {"SHMCCL_ALGORITHM", offsetof(shmi_options_t, algorithm), SHMCCL_ALGORITHM_AUTO, 0, SHMCCL_ALGORITHM_TWO_SHOT,
     algorithm_words, "auto, one-shot or two-shot"},
    {"SHMCCL_MEMORY", offsetof(shmi_options_t, memory), SHMCCL_MEMORY_AUTO, 0, SHMCCL_MEMORY_CUDA, memory_words,
     "auto, host or cuda"},
    {"SHMCCL_ENGINE_BYTES", offsetof(shmi_options_t, engine_bytes), 1 << 20, 1, (uint64_t)1 << 40, NULL, "bytes"},
    {"SHMCCL_CPU_REDUCE", offsetof(shmi_options_t, cpu_reduce), 0, 0, 1, NULL, "switches"},
};
enum { OPTION_COUNT = sizeof table / sizeof table[0] };

static const char *const nccl_env_words[] = {"0", "1", "auto", NULL};
static const char *const front_words[] = {"auto", "always", "never", NULL};

static const struct option local_table[] = {
    [SHMI_OPTION_PINNED_BYTES] = {"SHMCCL_PINNED_BYTES", 0, 256 << 20, 1 << 20, (uint64_t)1 << 40, NULL, "bytes"},
    [SHMI_OPTION_NET_BYTES] = {"SHMCCL_NET_BYTES", 0, 64 << 20, 64 << 10, (uint64_t)1 << 40, NULL, "bytes"},
    [SHMI_OPTION_NET_GDR] = {"SHMCCL_NET_GDR", 0, 0, 0, 1, NULL, "switches"},
    [SHMI_OPTION_NCCL_ENV] = {"SHMCCL_NCCL_ENV", 0, 2, 0, 2, nccl_env_words, "0, 1 or auto"},
    [SHMI_OPTION_FRONT] = {"SHMCCL_FRONT", 0, 0, 0, 2, front_words, "auto, always or never"},
    [SHMI_OPTION_TUNER] = {"SHMCCL_TUNER", 0, 1, 0, 1, NULL, "switches"},
};

static uint64_t *field(shmi_options_t *options, const struct option *o) {
  return (uint64_t *)(void *)((char *)options + o->offset);
}

static uint64_t value_of(const shmi_options_t *options, const struct option *o) {
  return *(const uint64_t *)(const void *)((const char *)options + o->offset);
}

/* A number with an optional K, M or G (powers of 1024), or one of the option's words. */
static int parse(const struct option *o, const char *text, uint64_t *value) {
  for (int i = 0; o->words && o->words[i]; i++)
    if (!strcmp(text, o->words[i])) return *value = (uint64_t)i, 1;
  if (o->words || *text < '0' || *text > '9') return 0;
  char *end;
  errno = 0;
  unsigned long long number = strtoull(text, &end, 10);
  unsigned shift = *end == 'K' ? 10 : *end == 'M' ? 20 : *end == 'G' ? 30 : 0;
  if (errno || end[shift != 0] || number > UINT64_MAX >> shift) return 0;
  *value = (uint64_t)number << shift;
  return 1;
}

static shmccl_result_t read_environment(const struct option *o, uint64_t *value) {
  const char *text = getenv(o->variable);
  if (!text || !*text) return SHMCCL_SUCCESS;
  uint64_t number;
  if (parse(o, text, &number) && number >= o->least && number <= o->most) return *value = number, SHMCCL_SUCCESS;
  if (o->words)
    return shmi_error(SHMCCL_ERROR_INVALID_ARGUMENT, "%s is '%s': set it to %s, or unset it", o->variable, text,
                      o->unit);
  return shmi_error(SHMCCL_ERROR_INVALID_ARGUMENT,
                    "%s is '%s': set it to a number of %s from %llu to %llu, or unset it", o->variable, text, o->unit,
                    (unsigned long long)o->least, (unsigned long long)o->most);
}

/* Copies as much of the caller's struct as it has: an older caller's is shorter. */
static shmccl_result_t read_config(const shmccl_config_t *config, shmi_options_t *options) {
  shmccl_config_t full = SHMCCL_CONFIG_INITIALIZER;
  if (!config) return SHMCCL_SUCCESS;
  if (config->size < sizeof(size_t) || config->size > sizeof full)
    return shmi_error(SHMCCL_ERROR_INVALID_ARGUMENT,
                      "config.size is %zu, this library knows up to %zu: start from SHMCCL_CONFIG_INITIALIZER of the "
                      "header that belongs to the library",
                      config->size, sizeof full);
  memcpy(&full, config, config->size);
  options->timeout_ms = full.timeout_ms;
  options->staging_bytes = full.staging_bytes;
  options->chunk_bytes = full.chunk_bytes;
  options->algorithm = (uint64_t)full.algorithm;
  options->memory = (uint64_t)full.memory;
  return SHMCCL_SUCCESS;
}

static shmccl_result_t settle(const struct option *o, uint64_t *value) {
  if (*value == 0) {
    *value = o->initial;
    return read_environment(o, value);
  }
  if (*value >= o->least && *value <= o->most) return SHMCCL_SUCCESS;
  return shmi_error(SHMCCL_ERROR_INVALID_ARGUMENT, "config: the field of %s is %llu: give %s from %llu to %llu, or 0",
                    o->variable, (unsigned long long)*value, o->unit, (unsigned long long)o->least,
                    (unsigned long long)o->most);
}

shmccl_result_t shmi_options_read(const shmccl_config_t *config, shmi_options_t *options) {
  shmi_options_t read = {0};
  shmi_variables_check();
  SHMI_RETURN_IF_ERROR(read_config(config, &read));
  for (int i = 0; i < OPTION_COUNT; i++) SHMI_RETURN_IF_ERROR(settle(&table[i], field(&read, &table[i])));
  *options = read;
  return SHMCCL_SUCCESS;
}

const char *shmi_options_difference(const shmi_options_t *a, const shmi_options_t *b, uint64_t *value_a,
                                    uint64_t *value_b) {
  for (int i = 0; i < OPTION_COUNT; i++) {
    *value_a = value_of(a, &table[i]);
    *value_b = value_of(b, &table[i]);
    if (*value_a != *value_b) return table[i].variable;
  }
  return NULL;
}

shmccl_result_t shmi_option_local(shmi_local_option_t which, uint64_t *value) {
  uint64_t read = local_table[which].initial;
  SHMI_RETURN_IF_ERROR(read_environment(&local_table[which], &read));
  *value = read;
  return SHMCCL_SUCCESS;
}

const char *shmi_option_shm_dir(void) {
  const char *folder = getenv("SHMCCL_SHM_DIR");
  return folder && *folder ? folder : "/dev/shm";
}

static void warn_once(const char *message) {
  static uint32_t warned;
  if (shmi_claim(&warned))
    shmi_log(SHMI_LOG_WARN, "SHMCCL_TUNING_FILE: %s, or unset it; the built-in thresholds are used", message);
}

shmi_thresholds_t shmi_option_thresholds(int nranks) {
  const shmi_thresholds_t builtin = {0};
  const char *path = shmi_tuning_path();
  struct shmi_tuning tuning;
  char message[SHMI_TUNING_MESSAGE_BYTES];
  if (!path) return builtin;
  if (shmi_tuning_read(path, &tuning, message)) return warn_once(message), builtin;
  const struct shmi_tuning_set *set = shmi_tuning_find(&tuning, nranks);
  return set ? set->thresholds : builtin;
}
