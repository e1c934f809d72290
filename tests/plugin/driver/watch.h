/*
 * watch.h - what a thread is doing inside the plugin, seen from outside.
 *
 * NCCL's threads must never be held up in a call. Every call is entered and left here; a monitor ends the test when one
 * has not returned in time. The same place kills the process at a chosen call, for the tests of a peer's death.
 */
#ifndef DRIVER_WATCH_H
#define DRIVER_WATCH_H

#include <stdint.h>

/* Starts the monitor of this process. */
void watch_start(unsigned patience_s);
/* The calling thread's calls are watched from begin to end; other threads' are not. */
void watch_begin(int rank);
void watch_end(void);

/* The watched threads' calls counted down to the one at whose beginning the process kills itself. */
void watch_kill_at(uint32_t call);
/* Called just before the process kills itself. */
extern void (*watch_before_kill)(void);

void watch_enter(const char *call);
void watch_leave(void);

#endif
