/*
 * A line on the terminal that says how far a long run is. Nowhere else: not in pipes, files or dumb terminals.
 */
#ifndef BENCH_PROGRESS_H
#define BENCH_PROGRESS_H

/* A run of so many rows begins (0: nobody knows how many). */
void progress_begin(int rows);
/* One more is about to be measured: redraws the line, once the run has proved to be a long one. */
void progress_step(void);
/* Takes the line away: before anything else is printed, and at the end. */
void progress_clear(void);

#endif
