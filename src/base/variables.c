/* variables.c - the table of variables, and what a misspelt one was meant to be. */
#include "base/variables.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/spelling.h"

const struct shmi_variable shmi_variables[] = {
#define VARIABLE(name, initial, unit, door, meaning) {#name, initial, unit, SHMI_DOOR_##door, meaning},
#include "base/variables.def"
#undef VARIABLE
    {NULL, NULL, NULL, SHMI_DOOR_LIBRARY, NULL},
};

static const char prefix[] = "SHMCCL_";
enum { PREFIX_LENGTH = sizeof prefix - 1 };

const struct shmi_variable *shmi_variable_find(const char *name) {
  for (const struct shmi_variable *v = shmi_variables; v->name; v++)
    if (!strcmp(v->name, name)) return v;
  return NULL;
}

const struct shmi_variable *shmi_variable_nearest(const char *unknown) {
  const struct shmi_variable *nearest = NULL;
  if (strncmp(unknown, prefix, PREFIX_LENGTH) || strlen(unknown) > SHMI_SPELLING_MOST) return NULL;
  const char *const rest = unknown + PREFIX_LENGTH;
  int least_unlike = shmi_spelling_limit(rest);
  for (const struct shmi_variable *v = shmi_variables; v->name; v++) {
    const int unlike = shmi_spelling_unlikeness(rest, v->name + PREFIX_LENGTH);
    if (unlike < least_unlike) nearest = v, least_unlike = unlike;
  }
  return nearest;
}

/* entry: "NAME=value" */
static void check(const char *entry) {
  char name[256];
  snprintf(name, sizeof name, "%.*s", (int)strcspn(entry, "="), entry);
  if (strncmp(name, prefix, PREFIX_LENGTH) || shmi_variable_find(name)) return;
  const struct shmi_variable *nearest = shmi_variable_nearest(name);
  if (nearest)
    shmi_log(SHMI_LOG_WARN, "%s is set but unknown, and has no effect: did you mean %s?", name, nearest->name);
  else
    shmi_log(SHMI_LOG_WARN, "%s is set but unknown, and has no effect: shmccl(7) lists the variables that have", name);
}

static void check_all(void) {
  for (char **entry = environ; entry && *entry; entry++) check(*entry);
}

void shmi_variables_check(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, check_all);
}
