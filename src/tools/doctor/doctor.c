/* doctor.c - findings, and the memory of the texts in them. */
#include "tools/doctor/doctor.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

struct doctor_memory {
  struct doctor_memory *next;
  void *room[];
};

static _Noreturn void no_memory(void) {
  fprintf(stderr, "shmccl-doctor: out of memory\n");
  exit(EXIT_FAILURE);
}

void *doctor_room(struct doctor *d, size_t bytes) {
  struct doctor_memory *m = malloc(sizeof *m + bytes);
  if (!m) no_memory();
  m->next = d->memory;
  d->memory = m;
  return m->room;
}

char *doctor_text(struct doctor *d, const char *format, ...) {
  va_list arguments;
  char *made;
  va_start(arguments, format);
  const int length = vasprintf(&made, format, arguments);
  va_end(arguments);
  if (length < 0) no_memory();
  char *text = doctor_room(d, (size_t)length + 1);
  memcpy(text, made, (size_t)length + 1);
  free(made);
  return text;
}

char *doctor_bytes(struct doctor *d, uint64_t bytes) {
  static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
  double number = (double)bytes;
  int unit = 0;
  while (number >= 1024 && unit < 4) number /= 1024, unit++;
  return doctor_text(d, "%.4g %s", number, units[unit]);
}

const char *doctor_status_name(enum doctor_status status) {
  static const char *const names[] = {"ok", "warning", "failure"};
  return names[status];
}

void doctor_add(struct doctor *d, struct doctor_finding finding) {
  if (d->nfindings == d->capacity) {
    d->capacity = d->capacity ? 2 * d->capacity : 32;
    d->findings = realloc(d->findings, (size_t)d->capacity * sizeof *d->findings);
    if (!d->findings) no_memory();
  }
  d->findings[d->nfindings++] = finding;
  d->counts[finding.status]++;
  if (finding.status > d->worst) d->worst = finding.status;
  if (d->tell) d->tell(d, &finding);
}

void doctor_end(struct doctor *d) {
  for (struct doctor_memory *m = d->memory, *next; m; m = next) {
    next = m->next;
    free(m);
  }
  free(d->findings);
  d->memory = NULL;
  d->findings = NULL;
}
