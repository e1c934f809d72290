/*
 * ordering.h - stands before src/base/ordering.h in what is compiled for the tests of this folder: the same operations,
 * each use of one known by its place in the source, and by itself made too weak where a test asks for it.
 *
 * The linker makes the list of uses, so that none is forgotten: what was compiled is in it.
 */
#ifndef RACES_ORDERING_H
#define RACES_ORDERING_H

#include <string.h>

#include "../../../src/base/ordering.h"

struct race_use {
  const char *file;
  int line;
  const char *function, *primitive;
};

/* Its file from the root of the sources on, however the compiler was called. */
static inline const char *race_file(const struct race_use *use) {
  const char *src = strstr(use->file, "src/");
  return src ? src : use->file;
}

/* A use in a header is there once for each file that includes it. */
static inline int race_is_same(const struct race_use *a, const struct race_use *b) {
  return a->line == b->line && !strcmp(a->file, b->file) && !strcmp(a->primitive, b->primitive);
}

/* The linker's. */
extern const struct race_use *__start_race_uses[], *__stop_race_uses[];

/* Comes before every use; nonzero: this one is to order nothing. Of explore.c, or of stress.c. */
int race_enter(const struct race_use *use);

#define RACE_USE(name)                                                                                                 \
  __extension__({                                                                                                      \
    static const struct race_use use_ = {__FILE__, __LINE__, __func__, name};                                          \
    static const struct race_use *entry_ __attribute__((section("race_uses"), used)) = &use_;                          \
    entry_;                                                                                                            \
  })

static inline void race_publish64(const struct race_use *use, uint64_t *word, uint64_t value) {
  race_enter(use) ? shmi_note64(word, value) : shmi_publish64(word, value);
}
static inline void race_publish32(const struct race_use *use, uint32_t *word, uint32_t value) {
  race_enter(use) ? shmi_note32(word, value) : shmi_publish32(word, value);
}
static inline uint64_t race_observe64(const struct race_use *use, const uint64_t *word) {
  return race_enter(use) ? shmi_peek64(word) : shmi_observe64(word);
}
static inline uint32_t race_observe32(const struct race_use *use, const uint32_t *word) {
  return race_enter(use) ? shmi_peek32(word) : shmi_observe32(word);
}
static inline struct shmi_two_words race_peek_two(const struct race_use *use, const uint64_t *words) {
  return race_enter(use), shmi_peek_two(words);
}
static inline void race_note_two(const struct race_use *use, uint64_t *words, uint64_t a, uint64_t b) {
  race_enter(use);
  shmi_note_two(words, a, b);
}

#define shmi_publish64(word, value) race_publish64(RACE_USE("publish64"), word, value)
#define shmi_publish32(word, value) race_publish32(RACE_USE("publish32"), word, value)
#define shmi_observe64(word)        race_observe64(RACE_USE("observe64"), word)
#define shmi_observe32(word)        race_observe32(RACE_USE("observe32"), word)
#define shmi_peek_two(words)        race_peek_two(RACE_USE("peek_two"), words)
#define shmi_note_two(words, a, b)  race_note_two(RACE_USE("note_two"), words, a, b)

#endif
