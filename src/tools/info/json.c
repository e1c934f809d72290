/* json.c - for programs: one object, numbers in bytes and in units of the key. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tools/info/info.h"

/* Bytes that are no UTF-8 would make the whole of it unreadable: an environment may hold anything. */
static void print_string(const char *text) {
  putchar('"');
  for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
    if (*c == '"' || *c == '\\')
      printf("\\%c", *c);
    else if (*c < 0x20 || *c >= 0x7f)
      printf("\\u%04x", *c);
    else
      putchar(*c);
  }
  putchar('"');
}

/* What goes before the first and the later members of an object or array. */
struct list {
  const char *separator;
};
static void next(struct list *l) {
  fputs(l->separator, stdout);
  l->separator = ", ";
}

static void key(struct list *l, const char *name) {
  next(l);
  printf("\"%s\": ", name);
}

static void text(struct list *l, const char *name, const char *value) {
  key(l, name);
  value ? print_string(value) : (void)fputs("null", stdout);
}

static void number(struct list *l, const char *name, uint64_t value) {
  key(l, name);
  printf("%" PRIu64, value);
}

static void truth(struct list *l, const char *name, bool value) {
  key(l, name);
  fputs(value ? "true" : "false", stdout);
}

static void print_build(const struct build *b) {
  struct list l = {"{"};
  text(&l, "compiler", b->compiler);
  text(&l, "type", b->type);
  text(&l, "cuda", b->cuda);
  text(&l, "hwloc", b->hwloc);
  putchar('}');
}

static void print_tree_line(void *context, int depth, bool is_last, const char *line) {
  struct list object = {"{"};
  (void)is_last;
  next(context);
  number(&object, "depth", (uint64_t)depth);
  text(&object, "text", line);
  putchar('}');
}

static void print_nodes(const struct machine *m) {
  putchar('[');
  for (int i = 0; i < m->nnodes; i++) {
    struct list l = {i ? ", {" : "{"};
    number(&l, "node", (uint64_t)m->nodes[i].index);
    text(&l, "cpus", m->nodes[i].cpus);
    number(&l, "memory_bytes", m->nodes[i].memory_bytes);
    putchar('}');
  }
  putchar(']');
}

static void print_machine(const struct info *info) {
  const struct machine *m = &info->machine;
  struct list l = {"{"}, lines = {""};
  text(&l, "kernel", m->kernel);
  truth(&l, "wsl2", m->wsl2);
  text(&l, "processor", m->cpu);
  text(&l, "isa", m->isa);
  number(&l, "cpus_online", (uint64_t)m->cpus_online);
  number(&l, "cpus_usable", (uint64_t)m->cpus_usable);
  if (m->quota != UINT32_MAX) number(&l, "cpus_granted", m->quota);
  number(&l, "second_level_cache_bytes", m->caches.second);
  number(&l, "last_level_cache_bytes", m->caches.last);
  text(&l, "hwloc", *m->hwloc ? m->hwloc : NULL);
  key(&l, "numa_nodes");
  print_nodes(m);
  key(&l, "topology");
  putchar('[');
  info_tree(print_tree_line, &lines);
  fputs("]}", stdout);
}

static void print_folder(const struct folder *f) {
  struct list l = {"{"};
  text(&l, "path", f->path);
  truth(&l, "found", f->found);
  truth(&l, "tmpfs", f->is_tmpfs);
  number(&l, "bytes", f->bytes);
  number(&l, "free_bytes", f->free_bytes);
  putchar('}');
}

static void print_placement(const struct info *info) {
  const struct shmi_header *p = &info->plan;
  struct list l = {"{"};
  number(&l, "ranks", (uint64_t)info->nranks);
  text(&l, "launcher", info->launcher);
  truth(&l, "oversubscribed", info->oversubscribed);
  if (info->planned) {
    number(&l, "segment_bytes", p->total_bytes);
    number(&l, "staging_bytes_per_rank", p->staging_stride);
    number(&l, "slot_bytes", p->slot_bytes);
  }
  putchar('}');
}

static void print_settings(const struct info *info) {
  for (int i = 0; i < info->nsettings; i++) {
    const struct setting *s = &info->settings[i];
    struct list l = {i ? ",\n  {" : "\n  {"};
    text(&l, "name", s->name);
    text(&l, "value", s->value);
    text(&l, "unit", s->unit);
    text(&l, "from", s->origin);
    text(&l, "meaning", s->meaning);
    putchar('}');
  }
}

static void print_choices(const struct info *info) {
  for (int i = 0; i < info->nchoices; i++) {
    const struct choice *c = &info->choices[i];
    struct list l = {i ? ",\n  {" : "\n  {"};
    text(&l, "collective", c->collective);
    number(&l, "first_bytes", c->first_bytes);
    if (!c->is_last) number(&l, "last_bytes", c->last_bytes);
    text(&l, "algorithm", c->algorithm);
    truth(&l, "beside_flag", c->beside_flag);
    truth(&l, "one_step", c->one_step);
    number(&l, "step_bytes_least", c->chunk_least);
    number(&l, "step_bytes_most", c->chunk_most);
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
