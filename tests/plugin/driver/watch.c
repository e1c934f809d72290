/* watch.c - see watch.h. */
#include "watch.h"

#include "harness.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

enum { MAX_THREADS = 256, TICKS_PER_SECOND = 10 };

static struct watched {
  atomic_bool used;
  atomic_uint changes; /* odd: inside a call */
  _Atomic(const char *) call;
  int rank;
  unsigned seen, ticks; /* the monitor's */
} table[MAX_THREADS];
static _Thread_local struct watched *mine;
static atomic_uint calls, kill_at;
static unsigned patience;

void (*watch_before_kill)(void);

static void look(struct watched *w) {
  const unsigned changes = w->changes;
  if (!w->used || changes % 2 == 0 || changes != w->seen) {
    w->seen = changes;
    w->ticks = 0;
  } else if (++w->ticks > patience * TICKS_PER_SECOND) {
    harness_rank = w->rank;
    harness_fail(__FILE__, __LINE__, "%s has not returned for %u s: it blocks", w->call, patience);
  }
}

static void *monitor(void *unused) {
  for (;;) {
    nanosleep(&(struct timespec){.tv_nsec = 1000000000 / TICKS_PER_SECOND}, NULL);
    for (int i = 0; i < MAX_THREADS; i++) look(&table[i]);
  }
  return unused;
}

void watch_start(unsigned patience_s) {
  pthread_t thread;
  patience = patience_s;
  CHECK(!pthread_create(&thread, NULL, monitor, NULL));
  CHECK(!pthread_detach(thread));
}

void watch_begin(int rank) {
  for (int i = 0; i < MAX_THREADS && !mine; i++)
    if (!atomic_exchange(&table[i].used, true)) mine = &table[i];
  CHECK(mine);
  mine->rank = rank;
}

void watch_end(void) {
  mine->used = false;
  mine = NULL;
}

void watch_kill_at(uint32_t call) { kill_at = calls + call; }

static void count(void) {
  const unsigned number = ++calls, last = kill_at;
  if (!last || number != last) return;
  if (watch_before_kill) watch_before_kill();
  raise(SIGKILL);
}

void watch_enter(const char *call) {
  if (!mine) return;
  count();
  mine->call = call;
  mine->changes++;
}

void watch_leave(void) {
  if (mine) mine->changes++;
}
