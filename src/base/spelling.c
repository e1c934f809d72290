/* spelling.c - the distance of Damerau and Levenshtein, and what counts as near. */
#include "base/spelling.h"

#include <string.h>

static int least(int a, int b) { return a < b ? a : b; }

int shmi_spelling_distance(const char *unknown, const char *known, int *to_start) {
  int rows[3][SHMI_SPELLING_MOST + 1], *before = rows[0], *above = rows[1], *row = rows[2];
  const int length = (int)strlen(known);
  for (int j = 0; j <= length; j++) row[j] = j;
  for (int i = 1; unknown[i - 1]; i++) {
    int *const free_row = before;
    before = above, above = row, row = free_row;
    row[0] = i;
    for (int j = 1; j <= length; j++) {
      row[j] = least(least(above[j], row[j - 1]) + 1, above[j - 1] + (unknown[i - 1] != known[j - 1]));
      if (i > 1 && j > 1 && unknown[i - 1] == known[j - 2] && unknown[i - 2] == known[j - 1])
        row[j] = least(row[j], before[j - 2] + 1);
    }
  }
  *to_start = row[length];
  for (int j = 0; j < length; j++) *to_start = least(*to_start, row[j]);
  return row[length];
}

int shmi_spelling_unlikeness(const char *unknown, const char *known) {
  int to_start;
  const int whole = 2 * shmi_spelling_distance(unknown, known, &to_start);
  if (strlen(unknown) < 3) return whole;
  return !strncmp(unknown, known, strlen(known)) ? least(whole, 1) : least(whole, 2 * to_start + 1);
}

int shmi_spelling_limit(const char *unknown) { return 2 * ((int)strlen(unknown) / 3 + 1) + 1; }
