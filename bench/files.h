/*
 * Result files. They are complete or not there: written beside their place under another name, then moved.
 */
#ifndef BENCH_FILES_H
#define BENCH_FILES_H

#include <stdbool.h>
#include <stddef.h>

/* Whether the file could be written now; else one line on stderr says why not. `flag`: who asked for it. */
bool file_try(const char *flag, const char *path);
bool file_write(const char *flag, const char *path, const char *text, size_t bytes);

#endif
