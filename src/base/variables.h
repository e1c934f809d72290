/*
 * variables.h - what SHMCCL_* variables there are, for messages and tools. variables.def is the table; a setting's
 * value is read by whoever obeys it.
 */
#ifndef SHMI_VARIABLES_H
#define SHMI_VARIABLES_H

typedef enum { SHMI_DOOR_LIBRARY, SHMI_DOOR_PLUGIN, SHMI_DOOR_FRONT, SHMI_DOOR_TESTS } shmi_door_t;

struct shmi_variable {
  const char *name, *initial, *unit;
  shmi_door_t door;
  const char *meaning;
};

/* In the order of the manual; ends with a row whose name is NULL. */
extern const struct shmi_variable shmi_variables[];

/* The row of that name; NULL if there is none. */
const struct shmi_variable *shmi_variable_find(const char *name);

/* The row whose name `unknown` most likely was meant to be; NULL if none is near. */
const struct shmi_variable *shmi_variable_nearest(const char *unknown);

/* Warns of every SHMCCL_* variable in the environment that is not in the table: the first time that the process calls
 * it. Any thread. */
void shmi_variables_check(void);

#endif
