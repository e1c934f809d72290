/*
 * tree.c - hwloc's tree in few lines: what has a single child shares a line with it, and brothers that look the same
 * are counted instead of repeated.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/info/info.h"
#include "topo/hwloc.h"

/* "L3 (32MB)" */
struct name {
  char type[64], attributes[128];
};

static struct name name_of(hwloc_obj_t object) {
  const struct shmi_hwloc *h = shmi_hwloc();
  struct name n = {"", ""};
  h->obj_type_snprintf(n.type, sizeof n.type, object, 0);
  if (object->type != HWLOC_OBJ_MACHINE) /* whose attributes are the firmware's texts */
    h->obj_attr_snprintf(n.attributes, sizeof n.attributes, object, " ", 0);
  return n;
}

static bool same_shape(hwloc_obj_t a, hwloc_obj_t b) {
  const struct name of_a = name_of(a), of_b = name_of(b);
  if (strcmp(of_a.type, of_b.type) || strcmp(of_a.attributes, of_b.attributes)) return false;
  if (a->arity != b->arity || a->memory_arity != b->memory_arity) return false;
  for (a = a->first_child, b = b->first_child; a && b; a = a->next_sibling, b = b->next_sibling)
    if (!same_shape(a, b)) return false;
  return true;
}

static const char *put_name(FILE *f, const char *separator, hwloc_obj_t object) {
  const struct name n = name_of(object);
  fprintf(f, "%s%s", separator, n.type);
  if (*n.attributes) fprintf(f, " (%s)", n.attributes);
  return " + ";
}

static void put_cpus(FILE *f, hwloc_obj_t first, hwloc_obj_t last) {
  char cpus[128];
  shmi_hwloc()->bitmap_list_snprintf(cpus, sizeof cpus, first->cpuset);
  fprintf(f, ": CPU%s %s", first == last && !strpbrk(cpus, "-,") ? "" : "s", cpus);
  if (first == last) return;
  shmi_hwloc()->bitmap_list_snprintf(cpus, sizeof cpus, last->cpuset);
  fprintf(f, " ... %s", cpus);
}

/* One line for `count` brothers that look like first, the last being last, and the only children within; returns the
 * innermost of these in first. */
static hwloc_obj_t put_line(FILE *f, hwloc_obj_t first, hwloc_obj_t last, int count) {
  const char *separator = "";
  hwloc_obj_t inner = first;
  if (count > 1) fprintf(f, "%d x ", count);
  for (;; inner = inner->first_child) {
    if (inner->type != HWLOC_OBJ_PU || inner == first) separator = put_name(f, separator, inner);
    for (hwloc_obj_t m = inner->memory_first_child; m; m = m->next_sibling) separator = put_name(f, separator, m);
    if (inner->arity != 1) break;
  }
  put_cpus(f, first, last);
  return inner;
}

struct walk {
  info_line_fn line;
  void *context;
};

static void walk(const struct walk *w, hwloc_obj_t first, hwloc_obj_t last, int count, int depth, bool is_last) {
  char *text = NULL;
  size_t length;
  FILE *f = open_memstream(&text, &length);
  if (!f) return;
  hwloc_obj_t child = put_line(f, first, last, count)->first_child, next;
  if (!fclose(f)) w->line(w->context, depth, is_last, text);
  free(text);
  for (; child; child = next) {
    hwloc_obj_t end = child;
    int alike = 1;
    for (next = child->next_sibling; next && same_shape(child, next); next = next->next_sibling) end = next, alike++;
    walk(w, child, end, alike, depth + 1, !next);
  }
}

void info_tree(info_line_fn line, void *context) {
  const struct shmi_hwloc *h = shmi_hwloc();
  const struct walk w = {line, context};
  hwloc_obj_t root = h ? h->get_obj_by_depth(h->topology, 0, 0) : NULL;
  if (root) walk(&w, root, root, 1, 0, true);
}
