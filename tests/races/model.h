/*
 * model.h - the memory that explored protocols run on, and the search through everything that it may do.
 *
 * What runs on it is the real code, compiled with the calls that ThreadSanitizer has compilers put at every access to
 * memory; here they lead to the model (model_memory.c) instead of to that tool. Threads are coroutines. They stop at
 * each load of a word, at a barrier, and when a look was in vain; the search takes every choice of who goes on and of
 * what the load returns, depth first, by running the program again from its start. Modelled, for memory of the arena:
 *   a load of a word (an atomic access) returns any store to it that is not older than one this thread knows of. So
 *     stores that no release orders become visible in any order, however late, and loads that no acquire orders may
 * have been satisfied early; an acquire that reads from a release brings all that its writer knew; plain accesses must
 * be ordered by these and by barriers. Two that are not, of which one writes, are a failure: there the compiler and the
 * processor may do anything. So no stale plain byte is ever read unseen. A look in vain is repeated when there is
 * something new in a word that it read, and then sees something new. All threads waiting is a failure. Not modelled: a
 * load of a word that is satisfied after a later store of its thread (everything that the protocols store after a load
 * depends on what it returned; then no processor does that); several writers of one word, which is a failure: the
 * protocols have none; scopes, PCIe and proxies of a GPU.
 *
 * What a thread does depends on nothing but what it has read, so the state of everything is what each thread has read:
 * each state is gone through once.
 */
#ifndef RACES_MODEL_H
#define RACES_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/ordering.h"

enum { MODEL_THREADS_MOST = 6, MODEL_ARENA_BYTES = 96 << 10 };

/* The memory that threads share. Everything else is a thread's own. */
extern _Alignas(128) uint8_t model_arena[MODEL_ARENA_BYTES];

struct model_program {
  int nthreads, threads_per_block; /* a barrier is a block's */
  void (*prepare)(void);           /* fills the arena */
  void (*thread)(int number);
  const char *(*check)(void);                            /* when all have ended: what is wrong, or NULL */
  void (*name)(size_t offset, char *text, size_t bytes); /* a place of the arena */
};

struct model_outcome {
  const char *failure; /* NULL: none in any execution */
  uint64_t states, executions;
  bool complete; /* whether there was nothing left to explore */
};

/* Until the first failure, or that many states. */
struct model_outcome model_explore(const struct model_program *program, uint64_t states_most);
/* Runs the execution that failed once more, and prints what it does. */
void model_print_failure(const struct model_program *program);

/* This use orders nothing from now on; NULL: all do. */
void model_weaken(const struct race_use *use);

/* For the threads: */
_Noreturn void model_fail(const char *failure);
void model_barrier(void);
void model_wait(void);  /* until something has changed that was read since the last wait */
int model_thread(void); /* -1 outside of threads */

/* For model_memory.c: */
uint64_t model_load(const void *address, size_t bytes, bool acquires);
void model_store(void *address, uint64_t value, size_t bytes, bool releases);
void model_plain(const void *address, size_t bytes, bool writes);

#endif
