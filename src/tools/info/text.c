/* text.c - for people: bold headings and a drawn tree on a terminal, plain ASCII elsewhere. */
#include <langinfo.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/info/info.h"

struct style {
  const char *bold, *red, *plain;
  const char *branch, *last_branch, *trunk, *gap;
};

static struct style choose_style(void) {
  const char *no_colour = getenv("NO_COLOR");
  const bool terminal = isatty(STDOUT_FILENO), colour = terminal && !(no_colour && *no_colour);
  struct style s = {
      .bold = "", .red = "", .plain = "", .branch = "  ", .last_branch = "  ", .trunk = "  ", .gap = "  "};
  setlocale(LC_CTYPE, "");
  if (colour) s.bold = "\033[1m", s.red = "\033[31m", s.plain = "\033[0m";
  if (terminal && !strcmp(nl_langinfo(CODESET), "UTF-8"))
    s.branch = "├─", s.last_branch = "└─", s.trunk = "│ ", s.gap = "  ";
  return s;
}

static struct style style;

#define heading(...)    (printf("\n%s", style.bold), printf(__VA_ARGS__), puts(style.plain))
#define row(label, ...) (printf("  %-12s ", label), printf(__VA_ARGS__), putchar('\n'))

/* "64M", "85.33K": powers of 1024; exact up to a few KiB. */
struct size {
  char text[24];
};
static struct size size(uint64_t bytes) {
  static const char units[] = " KMGTPE";
  struct size s;
  double number = (double)bytes;
  int unit = 0;
  while (number >= 1024 && unit < 6 && (bytes % 1024 == 0 || bytes >= 10 << 10)) number /= 1024, unit++;
  snprintf(s.text, sizeof s.text, unit ? "%.4g%c" : "%.0f", number, units[unit]);
  return s;
}

/* ---- machine ----------------------------------------------------------------------------------------------------- */

static void print_machine(const struct machine *m, const struct folder *f) {
  heading("Machine");
  row("kernel", "%s, %s", m->kernel, m->wsl2 ? "WSL2" : "not WSL2");
  row("processor", "%s, %s kernels", m->cpu, m->isa);
  if (m->quota == UINT32_MAX)
    row("CPUs", "%d of %d usable, no cgroup limit", m->cpus_usable, m->cpus_online);
  else
    row("CPUs", "%d of %d usable, the cgroup grants the time of %u", m->cpus_usable, m->cpus_online, m->quota);
  row("caches", "%s second level, %s last level", size(m->caches.second).text, size(m->caches.last).text);
  if (!f->found)
    row("segments", "%s: %sno such folder%s", f->path, style.red, style.plain);
  else
    row("segments", "%s: %s, %s free of %s", f->path, f->is_tmpfs ? "tmpfs" : "no tmpfs, hence slow",
        size(f->free_bytes).text, size(f->bytes).text);
  row("hwloc", "%s", *m->hwloc ? m->hwloc : "not found: no tree, no NUMA placement");
}

/* Whether a brother follows, at each depth of the line being printed. */
struct branches {
  bool more[64];
};

static void print_tree_line(void *context, int depth, bool is_last, const char *text) {
  struct branches *b = context;
  if (depth >= 64) return;
  b->more[depth] = !is_last;
  printf("  ");
  for (int i = 1; i < depth; i++) fputs(b->more[i] ? style.trunk : style.gap, stdout);
  if (depth) fputs(is_last ? style.last_branch : style.branch, stdout);
  puts(text);
}

/* ---- placement --------------------------------------------------------------------------------------------------- */

static void print_placement(const struct info *info) {
  const struct shmi_header *p = &info->plan;
  const struct machine *m = &info->machine;
  heading("Placement of %d ranks", info->nranks);
  row("launcher", "%s", info->launcher ? info->launcher : "none seen");
  row("CPUs", "%s",
      info->oversubscribed ? "more ranks than CPUs: they share them, waiting ranks give theirs up at once"
                           : "enough for all ranks");
  for (int i = 0; i < m->nnodes; i++) {
    char label[32];
    snprintf(label, sizeof label, "node %d", m->nodes[i].index);
    row(label, "CPUs %s, %s of memory", m->nodes[i].cpus, size(m->nodes[i].memory_bytes).text);
  }
  if (!info->planned) {
    row("staging", "%snone: standard error says why%s", style.red, style.plain);
    return;
  }
  row("staging", "up to %s in %s: %s a rank, two slots of %s and %s for send and recv",
      size(p->staging_stride * p->nranks).text, info->folder.path, size(p->staging_stride).text,
      size(p->slot_bytes).text, size(p->staging_stride - 2 * p->slot_bytes).text);
  row("", "%s", m->nnodes > 1 ? "what a rank reads lies on its own NUMA node" : "allocated at first use");
}

/* ---- tables ------------------------------------------------------------------------------------------------------ */

static void print_settings(const struct info *info) {
  heading("Settings");
  printf("  %-22s %-18s %-6s %-12s %s\n", "name", "value", "unit", "from", "default");
  for (int i = 0; i < info->nsettings; i++) {
    const struct setting *s = &info->settings[i];
    const bool wrong = !strcmp(s->origin, "invalid");
    printf("  %-22s %-18s %-6s %s%-12s%s %s\n", s->name, s->value, s->unit, wrong ? style.red : "", s->origin,
           wrong ? style.plain : "", s->initial);
  }
}

static void print_choice(const struct choice *c, bool is_first) {
  char to[48], how[96];
  if (c->is_last)
    snprintf(to, sizeof to, "above");
  else
    snprintf(to, sizeof to, "to %s", size(c->last_bytes).text);
  if (c->beside_flag)
    snprintf(how, sizeof how, "beside its flag, one step");
  else if (c->one_step)
    snprintf(how, sizeof how, "one step");
  else if (c->chunk_least == c->chunk_most)
    snprintf(how, sizeof how, "steps of %s", size(c->chunk_least).text);
  else
    snprintf(how, sizeof how, "steps of %s to %s", size(c->chunk_least).text, size(c->chunk_most).text);
  printf("  %-16s %-12s %-10s %s\n", is_first ? c->collective : "", to, c->algorithm, how);
}

static void print_choices(const struct info *info) {
  heading("Algorithms of %d ranks, by bytes of the larger of sendbuf and recvbuf (float32)", info->nranks);
  printf("  %-16s %-12s %-10s %s\n", "collective", "bytes", "algorithm", "staged");
  for (int i = 0; i < info->nchoices; i++)
    print_choice(&info->choices[i], i == 0 || info->choices[i].collective != info->choices[i - 1].collective);
}

static void print_build(const struct build *b) {
  heading("Build");
  row("version", "%s", b->version);
  row("compiler", "%s, %s", b->compiler, b->type);
  row("CUDA", "%s", b->cuda);
  row("hwloc", "%s", b->hwloc);
}

void info_print_text(const struct info *info) {
  struct branches branches = {{false}};
  style = choose_style();
  printf("%sshmccl %s%s\n", style.bold, info->build.version, style.plain);
  print_machine(&info->machine, &info->folder);
  if (*info->machine.hwloc) {
    heading("Topology");
    info_tree(print_tree_line, &branches);
  }
  print_placement(info);
  print_settings(info);
  if (info->planned) print_choices(info);
  print_build(&info->build);
}
