/* points.c - see points.h. */
#include "crash/points.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/points.h"
#include "trouble/support.h"

enum { SEEN = 1024 };

const char *const action_names[ACTIONS] = {"killed", "exited", "paused", "stopped"};

static struct mark *mark; /* NULL: nothing is counted */
static enum action action;
static uint32_t at;
static _Thread_local struct {
  const void *word;
  uint64_t value;
} seen[SEEN];

void points_count(struct mark *to, enum action what, uint32_t number) {
  memset(seen, 0, sizeof seen);
  action = what;
  at = number;
  mark = to;
}

void points_end(void) { mark = NULL; }

static void hurt(const char *what) {
  struct mark *m = mark;
  snprintf(m->what, sizeof m->what, "%s", what);
  __atomic_store_n(&m->hurt_ns, tr_now_ns(), __ATOMIC_RELEASE);
  if (action == KILL) raise(SIGKILL);
  if (action == EXIT) _exit(0);
  raise(SIGSTOP);
}

void shmi_point(const char *what) {
  if (mark && __atomic_add_fetch(&mark->events, 1, __ATOMIC_RELAXED) == at) hurt(what);
}

/* Words that share a place only make a wait count more than one event. */
void shmi_point_seen(const void *word, uint64_t value) {
  const uintptr_t place = ((uintptr_t)word >> 2) * 0x9e3779b97f4a7c15ull >> 54;
  if (!mark || (seen[place].word == word && seen[place].value == value)) return;
  seen[place].word = word;
  seen[place].value = value;
  shmi_point("observe");
}
