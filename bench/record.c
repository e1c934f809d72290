/*
 * The schema, top down.
 */
#include "record.h"

#include "files.h"
#include "flags.h"

#include "base/tuning.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

enum { SCHEMA_VERSION = 1 };

static void put_command(struct json *json, const struct options *o) {
  json_list(json, "command");
  json->flat = true;
  json_string(json, NULL, "shmccl-perf");
  for (int i = 1; i < o->argc; i++) json_string(json, NULL, o->argv[i]);
  json_end_list(json);
  json->flat = false;
}

/* By the names of the flags, as they are in force: given or not. */
static void put_option(struct json *json, const struct options *o, const struct flag *flag) {
  const void *field = (const char *)o + flag->offset;
  int64_t value = *(const int64_t *)field;
  switch (flag->kind) {
  case FLAG_TEXT: return json_string(json, flag->name, *(const char *const *)field);
  case FLAG_NAME:
  case FLAG_CHOICE: return json_string(json, flag->name, value < 0 ? "all" : flag->names[value]);
  case FLAG_SWITCH: return json_bool(json, flag->name, value);
  default: return value < 0 ? json_null(json, flag->name) : json_whole(json, flag->name, value);
  }
}

static void put_options(struct json *json, const struct options *o) {
  json_object(json, "options");
  for (const struct flag *flag = flags; flag < flags + FLAG_COUNT; flag++)
    if (flag->kind < FLAG_PEER || flag->kind == FLAG_SWITCH)
      if (strcmp(flag->name, "output_file")) put_option(json, o, flag);
  json_end_object(json);
}

/* What the library was told besides, and NCCL. */
static void put_environment(struct json *json) {
  json_object(json, "environment");
  for (char **e = environ; *e; e++) {
    char name[64];
    const char *equals = strchr(*e, '=');
    const bool ours = !strncmp(*e, "SHMCCL_", 7) && strncmp(*e, "SHMCCL_SHM_DIR=", 15);
    if (!equals || (!ours && strncmp(*e, "NCCL_", 5))) continue;
    snprintf(name, sizeof name, "%.*s", (int)(equals - *e), *e);
    json_string(json, name, equals + 1);
  }
  json_end_object(json);
}

static void put_machine(struct json *json, const struct limits *limits) {
  struct utsname kernel;
  struct shmi_tuning_machine machine = shmi_tuning_this_machine();
  json_object(json, "machine");
  json_string(json, "cpu", machine.cpu);
  json_whole(json, "cores_online", machine.cores);
  json_whole(json, "cores_used", limits->cores);
  json_number(json, "cache_bytes", limits->cache_bytes);
  json_list(json, "gpus");
  for (int i = 0; i < limits->link.gpus; i++) json_string(json, NULL, limits->link.cards[i].name);
  json_end_list(json);
  json_string(json, "kernel", uname(&kernel) ? NULL : kernel.release);
  json_string(json, "architecture", uname(&kernel) ? NULL : kernel.machine);
  json_end_object(json);
}

static void put_versions(struct json *json, const struct meter *meter) {
  char text[32];
  int library = shmccl_version();
  json_object(json, "versions");
  snprintf(text, sizeof text, "%d.%d.%d", SHMCCL_VERSION_MAJOR, SHMCCL_VERSION_MINOR, SHMCCL_VERSION_PATCH);
  json_string(json, "shmccl-perf", text);
  snprintf(text, sizeof text, "%d.%d.%d", library / 10000, library / 100 % 100, library % 100);
  for (int i = 0; i < meter->nparties; i++) {
    const struct party *party = meter->parties[i];
    json_string(json, party->name, *party->version ? party->version : text);
  }
  json_end_object(json);
}

static void put_bounds(struct json *json, const struct limits *l) {
  json_object(json, "bounds");
  const double host = l->link.gpus ? NAN : 1, gpu = l->link.gpus ? 1 : NAN; /* null: not measured */
  json_whole(json, "ranks", l->nranks);
  json_number(json, "memory_copy_gbs", host * l->memory.alone * 1e-9);
  json_number(json, "memory_copy_together_gbs", host * l->memory.together * 1e-9);
  json_number(json, "cache_copy_gbs", host * l->cached.alone * 1e-9);
  json_number(json, "cache_copy_together_gbs", host * l->cached.together * 1e-9);
  json_number(json, "line_handover_us", host * l->handover * 1e6);
  json_number(json, "rank_turn_us", host * l->turn * 1e6);
  json_number(json, "link_to_host_gbs", gpu * l->link.out * 1e-9);
  json_number(json, "link_from_host_gbs", gpu * l->link.in * 1e-9);
  json_number(json, "link_both_gbs", gpu * l->link.both * 1e-9);
  json_number(json, "link_small_copy_us", gpu * l->link.hop * 1e6);
  json_end_object(json);
}

bool record_begin(struct record *record, const struct options *options) {
  *record = (struct record){.options = options};
  if (!options->json) return true;
  if (!file_try("--json", options->json)) return false;
  record->json.out = open_memstream(&record->text, &record->bytes);
  if (!record->json.out) return perror("shmccl-perf: --json"), false;
  json_object(&record->json, NULL);
  json_string(&record->json, "format", "shmccl-perf");
  json_whole(&record->json, "version", SCHEMA_VERSION);
  put_command(&record->json, options);
  put_options(&record->json, options);
  put_environment(&record->json);
  json_list(&record->json, "rows");
  return true;
}

/* ---- a row ------------------------------------------------------------------------------------------------------- */

static void put_summary(struct json *json, const char *key, const struct summary *s) {
  json_object(json, key);
  json->flat = true;
  json_whole(json, "count", (int64_t)s->count);
  json_number(json, "min_us", s->least * 1e6);
  json_number(json, "mean_us", s->mean * 1e6);
  json_number(json, "p50_us", s->p50 * 1e6);
  json_number(json, "p95_us", s->p95 * 1e6);
  json_number(json, "p99_us", s->p99 * 1e6);
  json_number(json, "max_us", s->most * 1e6);
  json_number(json, "stdev_us", s->deviation * 1e6);
  json_end_object(json);
  json->flat = false;
}

static void put_modelled(struct json *json, const char *key, const struct measured *m, const struct point *p,
                         int nranks) {
  json_object(json, key);
  json_bool(json, "modelled", true);
  json_number(json, "time_us", m->seconds * 1e6);
  json_number(json, "algbw_gbs", point_algbw(p, nranks, m->seconds) * 1e-9);
  json_number(json, "busbw_gbs", point_busbw(p, nranks, m->seconds) * 1e-9);
  json_end_object(json);
}

static void put_measured(struct json *json, const char *key, const struct measured *m, const struct point *p,
                         int nranks, bool checked) {
  double rounds[ROUNDS_MOST];
  if (!m->done) return json_null(json, key);
  if (m->modelled) return put_modelled(json, key, m, p, nranks);
  memcpy(rounds, m->rounds, sizeof rounds);
  const struct summary summary = summarize(rounds, (size_t)m->nrounds);
  json_object(json, key);
  json_number(json, "time_us", m->seconds * 1e6);
  json_number(json, "algbw_gbs", point_algbw(p, nranks, m->seconds) * 1e-9);
  json_number(json, "busbw_gbs", point_busbw(p, nranks, m->seconds) * 1e-9);
  checked ? json_whole(json, "wrong", (int64_t)m->wrong) : json_null(json, "wrong");
  json_whole(json, "iterations", (int64_t)m->iters);
  put_summary(json, "rounds", &summary);
  json_numbers(json, "rounds_us", m->rounds, m->nrounds, 1e6);
  m->each.count ? put_summary(json, "per_iteration", &m->each) : json_null(json, "per_iteration");
  json_end_object(json);
}

void record_row(struct record *record, const struct row *row, const struct limits *limits) {
  struct json *json = &record->json;
  const struct point *p = &row->point;
  bool checked = json->out && record->options->check;
  if (!json->out) return;
  json_object(json, NULL);
  json_string(json, "collective", colls[p->coll].name);
  json_whole(json, "bytes", (int64_t)point_size(p, limits->nranks));
  json_whole(json, "count", (int64_t)p->count);
  json_string(json, "type", type_names[p->type]);
  json_string(json, "op", p->op < 0 ? NULL : op_names[p->op]);
  p->root < 0 ? json_null(json, "root") : json_whole(json, "root", p->root);
  json_whole(json, "cycle", row->cycle);
  json_number(json, "bound_us", row->bound_seconds * 1e6);
  put_measured(json, "out_of_place", &row->out_of_place[0], p, limits->nranks, checked);
  put_measured(json, "in_place", &row->in_place, p, limits->nranks, checked);
  json_object(json, "peers");
  for (int i = 1; i < row->ncolumns; i++)
    put_measured(json, row->names[i], &row->out_of_place[i], p, limits->nranks, checked);
  json_end_object(json);
  json_end_object(json);
}

bool record_end(struct record *record, const struct meter *meter, const struct limits *limits, const char *end) {
  struct json *json = &record->json;
  char created[32];
  time_t now = time(NULL);
  if (!json->out) return true;
  strftime(created, sizeof created, "%Y-%m-%dT%H:%M:%SZ", gmtime(&now));
  json_end_list(json);
  put_machine(json, limits);
  put_versions(json, meter);
  put_bounds(json, limits);
  json_string(json, "created", created);
  json_string(json, "end", end);
  json_end_object(json);
  bool good = !fclose(json->out);
  json->out = NULL;
  if (good) good = file_write("--json", record->options->json, record->text, record->bytes);
  free(record->text);
  return good;
}
