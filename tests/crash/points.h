/*
 * points.h - where in its run a rank is hurt, and how.
 *
 * The library of this folder calls shmi_point() at every publish, every observe and every step of a segment's life
 * (src/base/points.h). Events are numbered in the order in which this process meets them, from the call of
 * points_count() on; at event number `at` the process does to itself what was asked for.
 */
#ifndef CRASH_POINTS_H
#define CRASH_POINTS_H

#include <stdint.h>

enum action { KILL, EXIT, PAUSE, STOP, ACTIONS }; /* PAUSE: stopped, and continued by the parent; STOP: never */
extern const char *const action_names[ACTIONS];

/* What a rank leaves in memory shared with the parent. */
struct mark {
  uint64_t hurt_ns; /* when it was hurt; 0: not yet. Written last */
  char what[32];    /* kind of event */
  uint32_t events;  /* how many there were */
  uint32_t entered; /* number of the call that the rank is in, or was hurt in */
  uint32_t pid;
  char handles[8][128]; /* for the plugin's ranks: of this rank, one for each of the others */
};

/* Counts from here on into *mark; at event number `at` (0: none) does `action`. */
void points_count(struct mark *mark, enum action action, uint32_t at);
/* Counts no longer. */
void points_end(void);

#endif
