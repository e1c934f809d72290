/* model.c - see model.h. */
#include "model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

enum {
  STACK_BYTES = 128 << 10,
  WORDS_MOST = 160,    /* that are stored to in one execution, or read */
  MESSAGES_MOST = 32,  /* stores to one word in an execution */
  CHOICES_MOST = 4096, /* in an execution */
  TABLE = 1 << 23,     /* room for states */
  GRANULE = 4,         /* bytes whose plain accesses are not told apart */
};

struct knowledge {
  uint32_t clock[MODEL_THREADS_MOST]; /* how far it knows each thread */
  uint8_t newest[WORDS_MOST];         /* the oldest store to each word that it may still read */
};

struct message {
  uint64_t value;
  bool releases;
  struct knowledge knowledge; /* its writer's, if it releases */
};

struct word {
  size_t offset;
  int writer, nmessages; /* -1: none so far */
  struct message message[MESSAGES_MOST];
};

struct plain {
  uint32_t execution; /* that the rest is of */
  int writer;
  uint32_t written, read[MODEL_THREADS_MOST]; /* the threads' clocks then */
};

enum state { RUNS, LOADS, LOOKED_IN_VAIN, AT_BARRIER, ENDED };

struct thread {
  ucontext_t context;
  jmp_buf place;
  bool has_begun;
  enum state state;
  struct knowledge knowledge;
  uint64_t history; /* hash of all that it has read */
  const struct race_use *use;
  int word; /* that it loads */
  bool acquires;
  uint64_t value;
  int seen[WORDS_MOST], nseen; /* words that it has read since it last waited or met its block */
  bool has_looked;             /* at any, constants too, since then */
};

static struct {
  const struct model_program *program;
  const struct race_use *weak, *use;
  jmp_buf search;
  struct thread thread[MODEL_THREADS_MOST];
  struct word word[WORDS_MOST];
  int nwords, running; /* -1: the search */
  uint32_t execution;
  uint8_t index[MODEL_ARENA_BYTES / GRANULE];  /* of a word, plus 1 */
  bool is_stored[MODEL_ARENA_BYTES / GRANULE]; /* words that some execution stores to; the others are constants */
  struct plain plain[MODEL_ARENA_BYTES / GRANULE];
  bool learnt; /* of a word that it is stored to: the search begins again */
  const char *failure;
  struct {
    uint32_t taken, options;
  } choice[CHOICES_MOST];
  int depth, replayed;
  uint64_t *visited, nvisited, searches; /* states of all searches */
  struct model_outcome outcome;
  bool prints;
} m = {.running = -1};

_Alignas(128) uint8_t model_arena[MODEL_ARENA_BYTES];
static uint8_t stacks[MODEL_THREADS_MOST][STACK_BYTES];

static uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

/* ---- in a thread ------------------------------------------------------------------------------------------------- */

static struct thread *self(void) { return &m.thread[m.running]; }

int model_thread(void) { return m.running; }

static void stop(void) {
  if (!_setjmp(self()->place)) _longjmp(m.search, 1);
}

_Noreturn void model_fail(const char *failure) {
  m.failure = failure;
  stop();
  abort();
}

void model_weaken(const struct race_use *use) { m.weak = use; }

int race_enter(const struct race_use *use) {
  m.use = use;
  return m.weak && race_is_same(m.weak, use);
}

static bool is_shared(const void *address) {
  return (const uint8_t *)address >= model_arena && (const uint8_t *)address < model_arena + MODEL_ARENA_BYTES;
}

static size_t offset_of(const void *address) { return (size_t)((const uint8_t *)address - model_arena); }

__attribute__((format(printf, 2, 3))) static void print(size_t offset, const char *format, ...) {
  va_list arguments;
  char name[96];
  if (!m.prints) return;
  m.program->name(offset, name, sizeof name);
  printf("  thread %d  %-44s ", m.running, name);
  va_start(arguments, format);
  vprintf(format, arguments);
  va_end(arguments);
  putchar('\n');
}

/* Words have 4 or 8 bytes. */
static uint64_t value_at(const void *address, size_t bytes) {
  return bytes == 4 ? *(const uint32_t *)address : *(const uint64_t *)address;
}

static void set_value(void *address, uint64_t value, size_t bytes) {
  if (bytes == 4)
    *(uint32_t *)address = (uint32_t)value;
  else
    *(uint64_t *)address = value;
}

/* A word becomes one at its first use; what the arena held is its first store. */
static int word_of(const void *address, size_t bytes) {
  uint8_t *index = &m.index[offset_of(address) / GRANULE];
  if (!*index) {
    if (m.nwords == WORDS_MOST) model_fail("the model has room for too few words");
    struct word *w = &m.word[m.nwords];
    w->offset = offset_of(address);
    w->writer = -1;
    w->nmessages = 1;
    w->message[0].value = value_at(address, bytes);
    w->message[0].releases = false;
    *index = (uint8_t)++m.nwords;
  }
  return *index - 1;
}

void model_store(void *address, uint64_t value, size_t bytes, bool releases) {
  if (m.running < 0 || !is_shared(address)) {
    set_value(address, value, bytes);
    return;
  }
  struct thread *t = self();
  const int number = word_of(address, bytes);
  struct word *w = &m.word[number];
  if (w->writer >= 0 && w->writer != m.running) model_fail("a word has two writers");
  if (w->nmessages == MESSAGES_MOST) model_fail("the model has room for too few stores");
  m.learnt |= !m.is_stored[w->offset / GRANULE];
  m.is_stored[w->offset / GRANULE] = true;
  struct message *message = &w->message[w->nmessages];
  w->writer = m.running;
  t->knowledge.newest[number] = (uint8_t)w->nmessages++;
  set_value(address, value, bytes);
  message->value = value;
  message->releases = releases;
  print(w->offset, "= %#llx, %s (%s:%d)", (unsigned long long)value, releases ? "release" : "relaxed", race_file(m.use),
        m.use->line);
  if (!releases) return;
  message->knowledge = t->knowledge;
  t->knowledge.clock[m.running]++;
}

/* Stores of its own it knows, and what nobody stores to needs no choice. */
uint64_t model_load(const void *address, size_t bytes, bool acquires) {
  if (m.running < 0 || !is_shared(address)) return value_at(address, bytes);
  struct thread *t = self();
  t->has_looked = true;
  if (!m.is_stored[offset_of(address) / GRANULE]) return value_at(address, bytes);
  t->word = word_of(address, bytes);
  if (m.word[t->word].writer == m.running) return value_at(address, bytes);
  t->acquires = acquires;
  t->use = m.use;
  t->state = LOADS;
  stop();
  return t->value;
}

static struct plain *plain_of(size_t granule) {
  struct plain *p = &m.plain[granule];
  if (p->execution != m.execution) *p = (struct plain){.execution = m.execution};
  return p;
}

static void check_plain(struct plain *p, size_t offset, bool writes) {
  const struct knowledge *k = &self()->knowledge;
  const char *what = writes ? "bytes are written that another thread is writing"
                            : "bytes are read that are not there yet, as far as this thread can know";
  int other = p->written > k->clock[p->writer] ? p->writer : -1;
  for (int i = 0; i < m.program->nthreads && writes && other < 0; i++)
    if (p->read[i] > k->clock[i]) other = i, what = "bytes are written that another thread may still be reading";
  if (other < 0) return;
  print(offset, "%s, against thread %d", writes ? "written" : "read", other);
  model_fail(what);
}

void model_plain(const void *address, size_t bytes, bool writes) {
  if (m.running < 0 || !is_shared(address) || !bytes) return;
  const uint32_t now = self()->knowledge.clock[m.running];
  for (size_t i = offset_of(address) / GRANULE; i <= (offset_of(address) + bytes - 1) / GRANULE; i++) {
    struct plain *p = plain_of(i);
    check_plain(p, i * GRANULE, writes);
    if (writes) {
      p->writer = m.running;
      p->written = now;
    } else {
      p->read[m.running] = now;
    }
  }
}

void model_barrier(void) {
  if (m.program->threads_per_block == 1) return;
  self()->state = AT_BARRIER;
  stop();
}

void model_wait(void) {
  if (!self()->has_looked) return;
  self()->state = LOOKED_IN_VAIN;
  stop();
}

/* ---- one execution ------------------------------------------------------------------------------------------------
 */

static void enter(void) {
  m.program->thread(m.running);
  self()->state = ENDED;
  stop();
}

static void resume(int number) {
  struct thread *t = &m.thread[number];
  m.running = number;
  t->state = RUNS;
  if (!_setjmp(m.search)) {
    if (t->has_begun) _longjmp(t->place, 1);
    t->has_begun = true;
    setcontext(&t->context);
  }
  m.running = -1;
}

static void begin_thread(int number) {
  struct thread *t = &m.thread[number];
  memset(&t->knowledge, 0, sizeof t->knowledge);
  t->knowledge.clock[number] = 1;
  t->history = 0;
  t->nseen = 0;
  t->has_looked = t->has_begun = false;
  getcontext(&t->context);
  t->context.uc_stack.ss_sp = stacks[number];
  t->context.uc_stack.ss_size = STACK_BYTES;
  makecontext(&t->context, enter, 0);
}

static void begin(void) {
  m.execution++;
  m.nwords = 0;
  memset(m.index, 0, sizeof m.index);
  m.program->prepare();
  for (int i = 0; i < m.program->nthreads; i++) begin_thread(i);
  for (int i = 0; i < m.program->nthreads && !m.failure; i++) resume(i);
}

static bool has_news(const struct thread *t, int word) {
  return m.word[word].nmessages - 1 > t->knowledge.newest[word];
}

/* How many stores a thread's load may return. */
static uint32_t options_of(const struct thread *t) {
  return t->state == LOADS ? (uint32_t)(m.word[t->word].nmessages - t->knowledge.newest[t->word]) : 0;
}

static void join(struct knowledge *mine, const struct knowledge *other) {
  for (int i = 0; i < MODEL_THREADS_MOST; i++)
    if (other->clock[i] > mine->clock[i]) mine->clock[i] = other->clock[i];
  for (int i = 0; i < m.nwords; i++)
    if (other->newest[i] > mine->newest[i]) mine->newest[i] = other->newest[i];
}

static void take_load(struct thread *t, uint32_t option) {
  const int number = t->knowledge.newest[t->word] + (int)option;
  const struct message *read = &m.word[t->word].message[number];
  t->knowledge.newest[t->word] = (uint8_t)number;
  t->history = mix(t->history + mix((uint64_t)m.word[t->word].offset << 32 | (uint32_t)number));
  t->value = read->value;
  print(m.word[t->word].offset, "-> %#llx, store %d of %d, %s (%s:%d)", (unsigned long long)t->value, number,
        m.word[t->word].nmessages - 1, t->acquires ? "acquire" : "relaxed", race_file(t->use), t->use->line);
  if (t->acquires && read->releases) join(&t->knowledge, &read->knowledge);
  int i = 0;
  while (i < t->nseen && t->seen[i] != t->word) i++;
  t->seen[i] = t->word;
  t->nseen += i == t->nseen;
}

/* Lets the block that begins with this thread go on if all its threads are there. */
static bool pass_barrier(int first) {
  const int n = m.program->threads_per_block;
  struct knowledge all = {{0}, {0}};
  for (int i = first; i < first + n; i++) {
    if (m.thread[i].state != AT_BARRIER) return false;
    join(&all, &m.thread[i].knowledge);
  }
  for (int i = first; i < first + n; i++) {
    m.thread[i].knowledge = all;
    m.thread[i].knowledge.clock[i]++;
    m.thread[i].nseen = 0;
    m.thread[i].has_looked = false;
  }
  for (int i = first; i < first + n && !m.failure; i++) resume(i);
  return true;
}

static void pass_barriers(void) {
  for (int first = 0; first < m.program->nthreads; first += m.program->threads_per_block)
    while (!m.failure && pass_barrier(first)) continue;
}

/* False if this state was known. */
static bool is_new_state(void) {
  uint64_t key = m.searches;
  for (int i = 0; i < m.program->nthreads; i++) key = mix(key + mix(m.thread[i].history + (uint64_t)i));
  key |= 1;
  for (uint64_t at = key >> 32;; at++) {
    if (m.visited[at % TABLE] == key) return false;
    if (m.visited[at % TABLE]) continue;
    m.visited[at % TABLE] = key;
    m.nvisited++;
    m.outcome.states++;
    return true;
  }
}

static void take(uint32_t option) {
  for (int i = 0; i < m.program->nthreads; i++) {
    struct thread *t = &m.thread[i];
    const uint32_t n = options_of(t);
    if (option >= n) {
      option -= n;
      continue;
    }
    m.running = i; /* for the print */
    take_load(t, option);
    resume(i);
    return;
  }
}

/* Whether a thread has looked in vain at a word that there is something new in: it might as well have looked later, and
 * that is explored too. */
static bool is_premature(void) {
  for (int i = 0; i < m.program->nthreads; i++)
    for (int k = 0; m.thread[i].state == LOOKED_IN_VAIN && k < m.thread[i].nseen; k++)
      if (has_news(&m.thread[i], m.thread[i].seen[k])) return true;
  return false;
}

static bool have_ended(void) {
  for (int i = 0; i < m.program->nthreads; i++)
    if (m.thread[i].state != ENDED) return false;
  return true;
}

/* To its end, to a failure, to a known state, or to where it is not worth to go on. */
static void execute(void) {
  begin();
  for (m.depth = 0;; m.depth++) {
    uint32_t options = 0;
    pass_barriers();
    if (m.failure || m.learnt || is_premature()) return;
    if (m.depth >= m.replayed && !m.prints && !is_new_state()) return;
    for (int i = 0; i < m.program->nthreads; i++) options += options_of(&m.thread[i]);
    if (!options) break;
    if (m.depth == CHOICES_MOST) abort();
    if (m.depth >= m.replayed) m.choice[m.depth].taken = 0;
    m.choice[m.depth].options = options;
    take(m.choice[m.depth].taken);
  }
  m.failure = have_ended() ? m.program->check() : "all wait for something that never comes";
}

/* ---- the search ---------------------------------------------------------------------------------------------------
 */

/* The next choices not yet taken, depth first. */
static bool backtrack(void) {
  while (m.depth && m.choice[m.depth - 1].taken + 1 >= m.choice[m.depth - 1].options) m.depth--;
  if (!m.depth) return false;
  m.choice[m.depth - 1].taken++;
  m.replayed = m.depth;
  return true;
}

static void search(uint64_t states_most) {
  if (m.nvisited > TABLE / 2) {
    memset(m.visited, 0, TABLE * sizeof *m.visited);
    m.nvisited = 0;
  }
  m.searches++;
  m.outcome = (struct model_outcome){0};
  m.replayed = 0;
  m.failure = NULL;
  m.learnt = false;
  do {
    execute();
    m.outcome.executions++;
    if (m.failure || m.learnt || m.outcome.states >= states_most) return;
  } while (backtrack());
  m.outcome.complete = true;
}

struct model_outcome model_explore(const struct model_program *program, uint64_t states_most) {
  m.program = program;
  if (!m.visited) m.visited = calloc(TABLE, sizeof *m.visited);
  if (!m.visited || states_most > TABLE / 4) abort();
  memset(m.is_stored, 0, sizeof m.is_stored);
  do search(states_most);
  while (m.learnt);
  m.outcome.failure = m.failure;
  return m.outcome;
}

/* The choices are those of the execution that failed: it was the last. */
void model_print_failure(const struct model_program *program) {
  m.program = program;
  m.failure = NULL;
  m.replayed = m.depth;
  m.prints = true;
  execute();
  m.prints = false;
}
