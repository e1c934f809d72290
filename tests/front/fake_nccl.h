/* fake_nccl.h - what the two files of the fake NCCL share, and what tests ask it by name (dlsym). */
#ifndef FAKE_NCCL_H
#define FAKE_NCCL_H

#include "front/nccl_api.h"

#pragma GCC visibility push(default)
/* Calls of a function so far in this process. */
int fake_count(const char *name);
/* The arguments of its newest call, one behind the other; how many bytes there are. */
size_t fake_last(const char *name, void *bytes, size_t most);
/* The result of functions that do nothing, from now on; of a group's end, too. */
void fake_answer(int result);
#pragma GCC visibility pop

extern int fake_answer_now;

struct fake_argument {
  const void *at;
  size_t bytes;
};
void fake_note(const char *name, const struct fake_argument *arguments, size_t n);

/* FAKE_NOTE(name, (a, b, c)) records them. */
#define FAKE_A(x)                                 {&x, sizeof(x)},
#define FAKE_N0()                                 {NULL, 0},
#define FAKE_N1(a)                                FAKE_A(a)
#define FAKE_N2(a, b)                             FAKE_A(a) FAKE_A(b)
#define FAKE_N3(a, b, c)                          FAKE_N2(a, b) FAKE_A(c)
#define FAKE_N4(a, b, c, d)                       FAKE_N3(a, b, c) FAKE_A(d)
#define FAKE_N5(a, b, c, d, e)                    FAKE_N4(a, b, c, d) FAKE_A(e)
#define FAKE_N6(a, b, c, d, e, f)                 FAKE_N5(a, b, c, d, e) FAKE_A(f)
#define FAKE_N7(a, b, c, d, e, f, g)              FAKE_N6(a, b, c, d, e, f) FAKE_A(g)
#define FAKE_N8(a, b, c, d, e, f, g, h)           FAKE_N7(a, b, c, d, e, f, g) FAKE_A(h)
#define FAKE_N11(a, b, c, d, e, f, g, h, i, j, k) FAKE_N8(a, b, c, d, e, f, g, h) FAKE_A(i) FAKE_A(j) FAKE_A(k)
/* By how many there are: 0 if the list is empty. */
#define FAKE_PICK(none, a, b, c, d, e, f, g, h, i, j, k, n, ...) n
#define FAKE_EACH(...)                                                                                                 \
  FAKE_PICK(none, ##__VA_ARGS__, FAKE_N11, FAKE_N10, FAKE_N9, FAKE_N8, FAKE_N7, FAKE_N6, FAKE_N5, FAKE_N4, FAKE_N3,    \
            FAKE_N2, FAKE_N1, FAKE_N0, none)                                                                           \
  (__VA_ARGS__)
#define FAKE_NOTE(name, list)                                                                                          \
  do {                                                                                                                 \
    const struct fake_argument list_[] = {FAKE_EACH list};                                                             \
    fake_note(#name, list_, sizeof list_ / sizeof *list_);                                                             \
  } while (0)

#endif
