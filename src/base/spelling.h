/* spelling.h - how unlike two words are, for messages that say what a misspelt one was meant to be. */
#ifndef SHMI_SPELLING_H
#define SHMI_SPELLING_H

enum { SHMI_SPELLING_MOST = 63 }; /* characters of a known word */

/* How many characters must be inserted, removed, replaced or swapped with the next to make `known` of `unknown`;
 * *to_start: to make any beginning of `known`. `known` is at most SHMI_SPELLING_MOST long. */
int shmi_spelling_distance(const char *unknown, const char *known, int *to_start);

/* Twice the distance; less where one is a beginning of the other: a name cut short or gone on with is the likeliest
 * mistake. */
int shmi_spelling_unlikeness(const char *unknown, const char *known);

/* From this unlikeness on, a word is another word rather than this one misspelt. */
int shmi_spelling_limit(const char *unknown);

#endif
