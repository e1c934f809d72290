/* variables.c - the table of variables, and what a misspelt one was meant to be. */
#include "base/variables.h"

#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

const struct shmi_variable shmi_variables[] = {
#define VARIABLE(name, initial, unit, door, meaning) {#name, initial, unit, SHMI_DOOR_##door, meaning},
#include "base/variables.def"
#undef VARIABLE
    {NULL, NULL, NULL, SHMI_DOOR_LIBRARY, NULL},
};

static const char prefix[] = "SHMCCL_";
enum { PREFIX_LENGTH = sizeof prefix - 1, NAME_MOST = 48 };

const struct shmi_variable *shmi_variable_find(const char *name) {
  for (const struct shmi_variable *v = shmi_variables; v->name; v++)
    if (!strcmp(v->name, name)) return v;
  return NULL;
}

static int least(int a, int b) { return a < b ? a : b; }

/* How many characters must be inserted, removed, replaced or swapped with the next to make b of a; *to_start: to make
 * any beginning of b. b is at most NAME_MOST long. */
static int distance(const char *a, const char *b, int *to_start) {
  int rows[3][NAME_MOST + 1], *before = rows[0], *above = rows[1], *row = rows[2];
  const int length = (int)strlen(b);
  for (int j = 0; j <= length; j++) row[j] = j;
  for (int i = 1; a[i - 1]; i++) {
    int *const free_row = before;
    before = above, above = row, row = free_row;
    row[0] = i;
    for (int j = 1; j <= length; j++) {
      row[j] = least(least(above[j], row[j - 1]) + 1, above[j - 1] + (a[i - 1] != b[j - 1]));
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) row[j] = least(row[j], before[j - 2] + 1);
    }
  }
  *to_start = row[length];
  for (int j = 0; j < length; j++) *to_start = least(*to_start, row[j]);
  return row[length];
}

/* How unlike they are: a name cut short or gone on with is the likeliest mistake. */
static int unlikeness(const char *unknown, const char *known) {
  int to_start;
  const int whole = 2 * distance(unknown, known, &to_start);
  if (strlen(unknown) < 3) return whole;
  return !strncmp(unknown, known, strlen(known)) ? least(whole, 1) : least(whole, 2 * to_start + 1);
}

const struct shmi_variable *shmi_variable_nearest(const char *unknown) {
  const struct shmi_variable *nearest = NULL;
  if (strncmp(unknown, prefix, PREFIX_LENGTH) || strlen(unknown) > NAME_MOST) return NULL;
  const char *const rest = unknown + PREFIX_LENGTH;
  int least_unlike = 2 * ((int)strlen(rest) / 3 + 1) + 1; /* as this or more, and it is another word */
  for (const struct shmi_variable *v = shmi_variables; v->name; v++) {
    const int unlike = unlikeness(rest, v->name + PREFIX_LENGTH);
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
