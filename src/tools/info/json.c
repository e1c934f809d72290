/* json.c - for programs: one object, numbers in bytes and in units of the key. */
#include <stdio.h>

#include "tools/info/info.h"
#include "tools/json.h"

static void print_build(const struct build *b) {
  struct json_list l = {"{"};
  json_text(&l, "compiler", b->compiler);
  json_text(&l, "type", b->type);
  json_text(&l, "cuda", b->cuda);
  json_text(&l, "hwloc", b->hwloc);
  putchar('}');
}

static void print_tree_line(void *context, int depth, bool is_last, const char *line) {
  struct json_list object = {"{"};
  (void)is_last;
  json_next(context);
  json_number(&object, "depth", (uint64_t)depth);
  json_text(&object, "text", line);
  putchar('}');
}

static void print_nodes(const struct machine *m) {
  putchar('[');
  for (int i = 0; i < m->nnodes; i++) {
    struct json_list l = {i ? ", {" : "{"};
    json_number(&l, "node", (uint64_t)m->nodes[i].index);
    json_text(&l, "cpus", m->nodes[i].cpus);
    json_number(&l, "memory_bytes", m->nodes[i].memory_bytes);
    putchar('}');
  }
  putchar(']');
}

static void print_machine(const struct info *info) {
  const struct machine *m = &info->machine;
  struct json_list l = {"{"}, lines = {""};
  json_text(&l, "kernel", m->kernel);
  json_truth(&l, "wsl2", m->wsl2);
  json_text(&l, "processor", m->cpu);
  json_text(&l, "isa", m->isa);
  json_number(&l, "cpus_online", (uint64_t)m->cpus_online);
  json_number(&l, "cpus_usable", (uint64_t)m->cpus_usable);
  if (m->quota != UINT32_MAX) json_number(&l, "cpus_granted", m->quota);
  json_number(&l, "second_level_cache_bytes", m->caches.second);
  json_number(&l, "last_level_cache_bytes", m->caches.last);
  json_text(&l, "hwloc", *m->hwloc ? m->hwloc : NULL);
  json_key(&l, "numa_nodes");
  print_nodes(m);
  json_key(&l, "topology");
  putchar('[');
  info_tree(print_tree_line, &lines);
  fputs("]}", stdout);
}

static void print_folder(const struct folder *f) {
  struct json_list l = {"{"};
  json_text(&l, "path", f->path);
  json_truth(&l, "found", f->found);
  json_truth(&l, "tmpfs", f->is_tmpfs);
  json_number(&l, "bytes", f->bytes);
  json_number(&l, "free_bytes", f->free_bytes);
  putchar('}');
}

static void print_placement(const struct info *info) {
  const struct shmi_header *p = &info->plan;
  struct json_list l = {"{"};
  json_number(&l, "ranks", (uint64_t)info->nranks);
  json_text(&l, "launcher", info->launcher);
  json_truth(&l, "oversubscribed", info->oversubscribed);
  if (info->planned) {
    json_number(&l, "segment_bytes", p->total_bytes);
    json_number(&l, "staging_bytes_per_rank", p->staging_stride);
    json_number(&l, "slot_bytes", p->slot_bytes);
  }
  putchar('}');
}

static void print_settings(const struct info *info) {
  for (int i = 0; i < info->nsettings; i++) {
    const struct setting *s = &info->settings[i];
    struct json_list l = {i ? ",\n  {" : "\n  {"};
    json_text(&l, "name", s->name);
    json_text(&l, "value", s->value);
    json_text(&l, "unit", s->unit);
    json_text(&l, "default", s->initial);
    json_text(&l, "from", s->origin);
    json_text(&l, "meaning", s->meaning);
    putchar('}');
  }
}

static void print_choices(const struct info *info) {
  for (int i = 0; i < info->nchoices; i++) {
    const struct choice *c = &info->choices[i];
    struct json_list l = {i ? ",\n  {" : "\n  {"};
    json_text(&l, "collective", c->collective);
    json_number(&l, "first_bytes", c->first_bytes);
    if (!c->is_last) json_number(&l, "last_bytes", c->last_bytes);
    json_text(&l, "algorithm", c->algorithm);
    json_truth(&l, "beside_flag", c->beside_flag);
    json_truth(&l, "one_step", c->one_step);
    json_number(&l, "step_bytes_least", c->chunk_least);
    json_number(&l, "step_bytes_most", c->chunk_most);
    putchar('}');
  }
}

void info_print_json(const struct info *info) {
  printf("{\"shmccl\": \"%s\",\n\"build\": ", info->build.version);
  print_build(&info->build);
  printf(",\n\"machine\": ");
  print_machine(info);
  printf(",\n\"segment_folder\": ");
  print_folder(&info->folder);
  printf(",\n\"placement\": ");
  print_placement(info);
  printf(",\n\"settings\": [");
  print_settings(info);
  printf("],\n\"algorithms\": [");
  print_choices(info);
  printf("]}\n");
}
