/* arguments.h - what the programs of this folder are told: pairs of --name and a whole number. */
#ifndef GPU_ARGUMENTS_H
#define GPU_ARGUMENTS_H

#include <stdint.h>

struct argument {
  const char *name; /* without -- */
  uint64_t *value;  /* keeps its default if it is not given */
};

/* Ends the program with 2, after one line, if it cannot make sense of them. `arguments` ends with a NULL name. */
void arguments_read(int argc, char **argv, const struct argument *arguments);

#endif
