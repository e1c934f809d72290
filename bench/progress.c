/*
 * Drawing the line.
 */
#include "progress.h"

#include "worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BAR_WIDTH = 30 };
static const double LONG_SECONDS = 2;

static struct {
  bool wanted;
  bool drawn;
  int rows;
  int begun;
  double start;
} bar;

static bool on_terminal(void) {
  const char *term = getenv("TERM");
  return isatty(STDOUT_FILENO) && isatty(STDERR_FILENO) && term && *term && strcmp(term, "dumb");
}

void progress_begin(int rows) {
  bar.wanted = on_terminal();
  bar.rows = rows;
  bar.start = seconds_now();
}

void progress_step(void) {
  static const char full[] = "##############################", empty[] = "..............................";
  double spent = seconds_now() - bar.start;
  int done = bar.begun++;
  if (!bar.wanted || !done || spent < LONG_SECONDS) return;
  bar.drawn = true;
  if (!bar.rows) {
    fprintf(stderr, "\r\033[K%d rows, %.0f s", done, spent);
    return;
  }
  int filled = BAR_WIDTH * done / bar.rows;
  fprintf(stderr, "\r\033[K[%.*s%.*s] %d of %d rows, about %.0f s left", filled, full, BAR_WIDTH - filled, empty, done,
          bar.rows, spent / done * (bar.rows - done));
}

void progress_clear(void) {
  if (bar.drawn) fputs("\r\033[K", stderr);
  bar.drawn = false;
}
