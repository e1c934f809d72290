/* tuning.c - reading the measured table: one keyword a line, everything exactly once, nothing taken on trust. */
#include "base/tuning.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shmccl.h"

enum { LINE_BYTES = 256 };

/* Bounds of what a table may say. */
#define RATE_LEAST 0.001 /* GB/s */
#define RATE_MOST  1e6
#define US_MOST    1e9
enum { CHUNK_LEAST = 64, CHUNK_MOST = 64 << 20 }; /* as SHMCCL_CHUNK_BYTES */
static const uint64_t SIZE_MOST = 1ull << 46;

/* ---- this machine ------------------------------------------------------------------------------------------------ */

/* "0-3,8": not sysconf(), which on some versions of glibc counts what this process may use. */
static int online_cores(void) {
  int cores = 0, first, last;
  char separator = ',';
  FILE *file = fopen("/sys/devices/system/cpu/online", "re");
  while (file && separator == ',' && fscanf(file, "%d", &first) == 1) {
    last = first;
    if (fscanf(file, "-%d", &last) != 1) last = first;
    cores += last - first + 1;
    separator = (char)fgetc(file);
  }
  if (file) fclose(file);
  return cores > 0 ? cores : (int)sysconf(_SC_NPROCESSORS_ONLN);
}

struct shmi_tuning_machine shmi_tuning_this_machine(void) {
  struct shmi_tuning_machine m = {.cpu = "unknown", .cores = online_cores(), .library = SHMCCL_VERSION_CODE};
  char line[LINE_BYTES];
  FILE *file = fopen("/proc/cpuinfo", "re");
  bool found = false;
  while (file && !found && fgets(line, sizeof line, file)) found = sscanf(line, "model name : %127[^\n]", m.cpu) == 1;
  if (file) fclose(file);
  return m;
}

/* ---- a line ------------------------------------------------------------------------------------------------------ */

struct reader {
  const char *path;
  int line;
  char *message;
  char cause[SHMI_TUNING_MESSAGE_BYTES / 2];
  struct shmi_tuning_machine here;
  struct shmi_tuning table;
  uint32_t head, set; /* keywords seen: bits by their place in `keywords` */
  bool begun, ended;
};

/* Where a keyword belongs. Between FIRST and LAST a table has its HEAD once, then sets, each begun by START. */
enum place { FIRST, HEAD, START, SET, ROW, LAST };

struct keyword {
  const char *name;
  enum place place;
  bool (*take)(struct reader *r, const struct keyword *k, char *text);
  size_t offset; /* of HEAD in struct shmi_tuning, of SET in shmi_thresholds_t */
};

static bool refuse_for(struct reader *r, const char *cause) {
  snprintf(r->message, SHMI_TUNING_MESSAGE_BYTES, "%.120s, line %d: %s: measure anew with shmccl-perf --tune %.60s",
           r->path, r->line, cause, r->path);
  return false;
}

/* False, after writing the reader's message: the cause is formatted. */
#define refuse(r, ...) (snprintf((r)->cause, sizeof(r)->cause, __VA_ARGS__), refuse_for((r), (r)->cause))

/* The whole text as digits, with a fraction if `fraction`; strtod() would obey the program's locale. */
static bool parse(const char *text, bool fraction, double *value) {
  double number = 0, unit = 0;
  const char *c = text;
  for (; *c && c - text < 24; c++) {
    if (*c == '.' && fraction && unit == 0 && c != text)
      unit = 1;
    else if (*c < '0' || *c > '9')
      return false;
    else if (unit > 0)
      number += (*c - '0') * (unit /= 10);
    else
      number = number * 10 + (*c - '0');
  }
  *value = number;
  return c != text && !*c;
}

static bool number(struct reader *r, const struct keyword *k, const char *text, bool fraction, double least,
                   double most, double *value) {
  if (parse(text, fraction, value) && *value >= least && *value <= most) return true;
  return refuse(r, "%s is '%.40s', must be a %snumber from %g to %g", k->name, text, fraction ? "" : "whole ", least,
                most);
}

static bool take_format(struct reader *r, const struct keyword *k, char *text) {
  double format = 0;
  (void)k;
  if (parse(text, false, &format) && format == SHMI_TUNING_FORMAT) return true;
  return refuse(r, "is of format '%.20s', this library reads format %d", text, SHMI_TUNING_FORMAT);
}

static bool take_library(struct reader *r, const struct keyword *k, char *text) {
  char here[32];
  (void)k;
  snprintf(here, sizeof here, "%d.%d.%d", SHMCCL_VERSION_MAJOR, SHMCCL_VERSION_MINOR, SHMCCL_VERSION_PATCH);
  r->table.machine.library = SHMCCL_VERSION_CODE;
  return !strcmp(text, here) || refuse(r, "was measured with version %.20s of the library, this is %s", text, here);
}

static bool take_cpu(struct reader *r, const struct keyword *k, char *text) {
  (void)k;
  memcpy(r->table.machine.cpu, r->here.cpu, sizeof r->here.cpu);
  return !strcmp(text, r->here.cpu) ||
         refuse(r, "was measured on another machine ('%.60s'), this is '%.60s'", text, r->here.cpu);
}

static bool take_cores(struct reader *r, const struct keyword *k, char *text) {
  double cores = 0;
  if (!number(r, k, text, false, 1, 1 << 20, &cores)) return false;
  r->table.machine.cores = (int)cores;
  return r->table.machine.cores == r->here.cores ||
         refuse(r, "was measured on another machine (%d cores), this has %d", r->table.machine.cores, r->here.cores);
}

static bool take_rate(struct reader *r, const struct keyword *k, char *text) {
  return number(r, k, text, true, RATE_LEAST, RATE_MOST, (double *)(void *)((char *)&r->table + k->offset));
}

static bool take_us(struct reader *r, const struct keyword *k, char *text) {
  return number(r, k, text, true, 0, US_MOST, (double *)(void *)((char *)&r->table + k->offset));
}

static struct shmi_tuning_set *last_set(struct reader *r) { return &r->table.sets[r->table.nsets - 1]; }

static bool take_threshold(struct reader *r, const struct keyword *k, char *text) {
  const bool chunk = k->offset != offsetof(shmi_thresholds_t, one_shot_most);
  double bytes = 0;
  if (!number(r, k, text, false, 0, chunk ? CHUNK_MOST : (double)SIZE_MOST, &bytes)) return false;
  if (chunk && bytes > 0 && bytes < CHUNK_LEAST)
    return refuse(r, "%s is %.0f, must be 0 (built-in) or at least %d", k->name, bytes, CHUNK_LEAST);
  *(uint64_t *)(void *)((char *)&last_set(r)->thresholds + k->offset) = (uint64_t)bytes;
  return true;
}

static bool take_ranks(struct reader *r, const struct keyword *k, char *text) {
  double nranks = 0;
  if (!number(r, k, text, false, 2, SHMCCL_MAX_RANKS, &nranks)) return false;
  if (shmi_tuning_find(&r->table, (int)nranks)) return refuse(r, "ranks %d is there twice", (int)nranks);
  if (r->table.nsets == SHMI_TUNING_SETS_MOST) return refuse(r, "more than %d sets of ranks", SHMI_TUNING_SETS_MOST);
  r->table.sets[r->table.nsets++] = (struct shmi_tuning_set){.nranks = (int)nranks};
  r->set = 0;
  return true;
}

static bool take_point(struct reader *r, const struct keyword *k, char *text) {
  struct shmi_tuning_set *set = last_set(r);
  char *second = text + strcspn(text, " ");
  double bytes = 0, us = 0;
  if (!*second) return refuse(r, "%s needs two numbers, bytes and microseconds", k->name);
  *second++ = '\0';
  if (!number(r, k, text, false, 1, (double)SIZE_MOST, &bytes)) return false;
  if (!number(r, k, second, true, 0.0001, US_MOST, &us)) return false;
  if (set->npoints == SHMI_TUNING_POINTS_MOST) return refuse(r, "more than %d rows", SHMI_TUNING_POINTS_MOST);
  if (set->npoints && (uint64_t)bytes <= set->points[set->npoints - 1].bytes)
    return refuse(r, "%s %.0f: sizes must rise", k->name, bytes);
  set->points[set->npoints++] = (struct shmi_tuning_point){(uint64_t)bytes, us};
  return true;
}

static bool take_end(struct reader *r, const struct keyword *k, char *text) {
  (void)k, (void)text;
  return r->ended = true;
}

static const struct keyword keywords[] = {
    {"shmccl-tuning", FIRST, take_format, 0},
    {"library", HEAD, take_library, 0},
    {"cpu", HEAD, take_cpu, 0},
    {"cores", HEAD, take_cores, 0},
    {"copy-gbs", HEAD, take_rate, offsetof(struct shmi_tuning, copy_gbs)},
    {"cached-copy-gbs", HEAD, take_rate, offsetof(struct shmi_tuning, cached_copy_gbs)},
    {"handover-us", HEAD, take_us, offsetof(struct shmi_tuning, handover_us)},
    {"ranks", START, take_ranks, 0},
    {"one-shot-most", SET, take_threshold, offsetof(shmi_thresholds_t, one_shot_most)},
    {"reduce-chunk", SET, take_threshold, offsetof(shmi_thresholds_t, reduce_chunk)},
    {"copy-chunk", SET, take_threshold, offsetof(shmi_thresholds_t, copy_chunk)},
    {"allreduce", ROW, take_point, 0},
    {"end", LAST, take_end, 0},
};
enum { KEYWORD_COUNT = sizeof keywords / sizeof *keywords };

/* ---- their order ------------------------------------------------------------------------------------------------- */

/* All of one place are there. */
static bool complete(struct reader *r, enum place place, uint32_t seen) {
  for (int i = 0; i < KEYWORD_COUNT; i++)
    if (keywords[i].place == place && !(seen >> i & 1)) return refuse(r, "%s is missing", keywords[i].name);
  return true;
}

static bool set_complete(struct reader *r) {
  if (!r->table.nsets) return true;
  if (!complete(r, SET, r->set)) return false;
  return last_set(r)->npoints || refuse(r, "ranks %d has no allreduce rows", last_set(r)->nranks);
}

static bool fits(struct reader *r, const struct keyword *k) {
  uint32_t *seen = k->place == HEAD ? &r->head : &r->set;
  const uint32_t bit = 1u << (k - keywords);
  if (k->place == FIRST) return true;
  if (k->place == START) return complete(r, HEAD, r->head) && set_complete(r);
  if (k->place == LAST)
    return complete(r, HEAD, r->head) && set_complete(r) && (r->table.nsets || refuse(r, "no sets"));
  if (k->place == HEAD ? r->table.nsets > 0 : !r->table.nsets)
    return refuse(r, "%s stands in the wrong place", k->name);
  if (k->place != ROW && *seen & bit) return refuse(r, "%s is there twice", k->name);
  *seen |= bit;
  return true;
}

static bool take_line(struct reader *r, char *line) {
  size_t length = strcspn(line, "\n");
  if (!line[length] && length == LINE_BYTES - 1) return refuse(r, "is longer than any line of a table");
  line[length] = '\0';
  char *text = line + strcspn(line, " ");
  if (*text) *text++ = '\0';
  text += strspn(text, " ");
  const struct keyword *k = keywords;
  while (k < keywords + KEYWORD_COUNT && strcmp(line, k->name)) k++;
  if (r->begun ? k == keywords : k != keywords) return refuse(r, "is no tuning table");
  r->begun = true;
  if (k == keywords + KEYWORD_COUNT) return refuse(r, "'%.40s' is no keyword", line);
  if (r->ended) return refuse(r, "something follows the end");
  return fits(r, k) && k->take(r, k, text);
}

static int read_all(struct reader *r, FILE *file) {
  char line[LINE_BYTES];
  while (fgets(line, sizeof line, file)) {
    r->line++;
    if (line[0] != '#' && line[0] != '\n' && !take_line(r, line)) return -1;
  }
  if (!r->begun) return refuse(r, "is no tuning table"), -1;
  return r->ended ? 0 : (refuse(r, "it is cut off: no end"), -1);
}

/* ---- public to the library --------------------------------------------------------------------------------------- */

int shmi_tuning_read(const char *path, struct shmi_tuning *tuning, char message[SHMI_TUNING_MESSAGE_BYTES]) {
  struct reader r = {.path = path, .message = message, .here = shmi_tuning_this_machine()};
  FILE *file = fopen(path, "re");
  if (!file) {
    snprintf(message, SHMI_TUNING_MESSAGE_BYTES,
             "cannot read the tuning file %.200s: %m: name one that shmccl-perf --tune wrote", path);
    return -1;
  }
  int result = read_all(&r, file);
  fclose(file);
  if (!result) *tuning = r.table;
  return result;
}

const char *shmi_tuning_path(void) {
  const char *path = getenv("SHMCCL_TUNING_FILE");
  return path && *path ? path : NULL;
}

const struct shmi_tuning_set *shmi_tuning_find(const struct shmi_tuning *tuning, int nranks) {
  for (int i = 0; i < tuning->nsets; i++)
    if (tuning->sets[i].nranks == nranks) return &tuning->sets[i];
  return NULL;
}

double shmi_tuning_allreduce_us(const struct shmi_tuning *tuning, int nranks, uint64_t bytes) {
  const struct shmi_tuning_set *set = shmi_tuning_find(tuning, nranks);
  if (!set) return -1;
  const struct shmi_tuning_point *p = set->points, *last = p + set->npoints - 1;
  if (bytes <= p->bytes) return p->us;
  if (bytes >= last->bytes) return last->us * ((double)bytes / (double)last->bytes);
  while (p[1].bytes < bytes) p++;
  return p->us + (p[1].us - p->us) * (double)(bytes - p->bytes) / (double)(p[1].bytes - p->bytes);
}

static int within(uint64_t value, uint64_t least, uint64_t most) { return !value || (value >= least && value <= most); }

int shmi_thresholds_valid(const shmi_thresholds_t *t) {
  return within(t->one_shot_most, 1, SIZE_MOST) && within(t->reduce_chunk, CHUNK_LEAST, CHUNK_MOST) &&
         within(t->copy_chunk, CHUNK_LEAST, CHUNK_MOST);
}
