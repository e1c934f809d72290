/* harness.c - see harness.h. */
#include "harness.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

_Thread_local int harness_rank = -1;
static _Thread_local char note[256];
static char *message_of_child; /* in memory shared with the parent */

/* ---- checks ---------------------------------------------------------------------------------------------------- */

void harness_note(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(note, sizeof note, format, arguments);
  va_end(arguments);
}

void harness_fail(const char *file, int line, const char *format, ...) {
  char text[HARNESS_MESSAGE_BYTES - 320], full[HARNESS_MESSAGE_BYTES];
  const char *slash = strrchr(file, '/');
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  int length = snprintf(full, sizeof full, "%.30s:%d: rank %d: %s%s%s", slash ? slash + 1 : file, line, harness_rank,
                        text, *note ? "; at: " : "", note);
  if (message_of_child) memcpy(message_of_child, full, sizeof full);
  full[length] = '\n';
  ssize_t ignored = write(STDERR_FILENO, full, (size_t)length + 1);
  (void)ignored;
  _exit(1);
}

/* ---- ranks as processes ---------------------------------------------------------------------------------------- */

static uint64_t now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

struct children {
  int nranks, left;
  pid_t pids[SHMCCL_MAX_RANKS]; /* 0: collected */
  struct harness_outcome *outcomes;
};

static void start(struct children *c, int rank, harness_rank_fn fn, void *context, char *message) {
  const pid_t parent = getpid();
  fflush(NULL);
  c->pids[rank] = fork();
  CHECK(c->pids[rank] >= 0);
  if (c->pids[rank]) return;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);
  message_of_child = message;
  harness_rank = rank;
  fn(rank, c->nranks, context);
  exit(0);
}

/* Collects one child that has ended; -1 if there is none now. */
static int collect(struct children *c) {
  for (int r = 0; r < c->nranks; r++) {
    int status;
    if (!c->pids[r] || waitpid(c->pids[r], &status, WNOHANG) != c->pids[r]) continue;
    c->outcomes[r].signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    c->outcomes[r].status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    c->pids[r] = 0;
    c->left--;
    return r;
  }
  return -1;
}

static void kill_all(const struct children *c) {
  for (int r = 0; r < c->nranks; r++)
    if (c->pids[r]) kill(c->pids[r], SIGKILL);
}

static bool succeeded(const struct harness_outcome *o) { return !o->signal && o->status == 0; }

/* With stop_at_failure, a failed child ends the others, which then count as killed. Returns the first failed, or -1. */
static int run_children(int nranks, harness_rank_fn fn, void *context, unsigned seconds,
                        struct harness_outcome *outcomes, bool stop_at_failure) {
  struct children c = {.nranks = nranks, .left = nranks, .outcomes = outcomes};
  const size_t bytes = (size_t)nranks * HARNESS_MESSAGE_BYTES;
  char *messages = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  const uint64_t deadline = now_ms() + 1000ull * seconds;
  int failed = -1;
  CHECK(messages != MAP_FAILED);
  memset(outcomes, 0, (size_t)nranks * sizeof *outcomes);
  for (int r = 0; r < nranks; r++) start(&c, r, fn, context, messages + r * HARNESS_MESSAGE_BYTES);
  while (c.left) {
    const int ended = collect(&c);
    if (ended >= 0 && failed < 0 && !succeeded(&outcomes[ended])) failed = ended;
    if (ended < 0) nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
    if (now_ms() > deadline)
      for (int r = 0; r < nranks; r++) outcomes[r].timed_out |= c.pids[r] != 0;
    if (now_ms() > deadline || (failed >= 0 && stop_at_failure)) kill_all(&c);
  }
  for (int r = 0; r < nranks; r++)
    memcpy(outcomes[r].message, messages + r * HARNESS_MESSAGE_BYTES, HARNESS_MESSAGE_BYTES);
  munmap(messages, bytes);
  return failed;
}

void harness_outcomes(int nranks, harness_rank_fn fn, void *context, unsigned seconds,
                      struct harness_outcome *outcomes) {
  run_children(nranks, fn, context, seconds, outcomes, false);
}

void harness_processes(int nranks, harness_rank_fn fn, void *context, unsigned seconds) {
  struct harness_outcome outcomes[SHMCCL_MAX_RANKS];
  const int failed = run_children(nranks, fn, context, seconds, outcomes, true);
  if (failed < 0) return;
  const struct harness_outcome *o = &outcomes[failed];
  harness_fail(__FILE__, __LINE__, "rank %d of %d %s, exit status %d, signal %d: %.300s", failed, nranks,
               o->timed_out ? "did not end in time" : "failed", o->status, o->signal, o->message);
}

/* ---- ranks as threads ------------------------------------------------------------------------------------------ */

struct thread {
  pthread_t id;
  int rank, nranks;
  harness_rank_fn fn;
  void *context;
};

static void *run_thread(void *argument) {
  const struct thread *t = argument;
  harness_rank = t->rank;
  t->fn(t->rank, t->nranks, t->context);
  return NULL;
}

static void on_alarm(int signal_number) {
  static const char text[] = "the ranks did not end in time\n";
  ssize_t ignored = write(STDERR_FILENO, text, sizeof text - 1);
  (void)ignored;
  (void)signal_number;
  _exit(1);
}

void harness_threads(int nranks, harness_rank_fn fn, void *context, unsigned seconds) {
  struct thread threads[SHMCCL_MAX_RANKS];
  signal(SIGALRM, on_alarm);
  alarm(seconds);
  for (int r = 0; r < nranks; r++) {
    threads[r] = (struct thread){.rank = r, .nranks = nranks, .fn = fn, .context = context};
    CHECK(!pthread_create(&threads[r].id, NULL, run_thread, &threads[r]));
  }
  for (int r = 0; r < nranks; r++) CHECK(!pthread_join(threads[r].id, NULL));
  alarm(0);
}

/* ---- random numbers: splitmix64 -------------------------------------------------------------------------------- */

uint64_t harness_seed(void) {
  const char *given = getenv("SHMCCL_TEST_SEED");
  uint64_t seed = 0;
  if (given)
    seed = strtoull(given, NULL, 0);
  else
    CHECK(getrandom(&seed, sizeof seed, 0) == sizeof seed);
  printf("SHMCCL_TEST_SEED=0x%llx\n", (unsigned long long)seed);
  fflush(stdout);
  return seed;
}

struct harness_random harness_random(uint64_t seed) {
  return (struct harness_random){seed};
}

uint64_t harness_bits(struct harness_random *r) {
  uint64_t z = r->state += 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

size_t harness_below(struct harness_random *r, size_t limit) { return (size_t)(harness_bits(r) % limit); }

void harness_delay(struct harness_random *r) {
  const size_t choice = harness_below(r, 64);
  if (choice == 0) nanosleep(&(struct timespec){.tv_nsec = (long)harness_below(r, 300000)}, NULL);
  if (choice > 0 && choice < 8) sched_yield();
  if (choice >= 8 && choice < 16)
    for (size_t i = harness_below(r, 2000); i; i--) __asm__ volatile("" ::: "memory");
}

/* ---- buffers ----------------------------------------------------------------------------------------------------- */

enum { GUARD = 256, ALIGNMENT = 64 };

static uint8_t guard_byte(size_t i) { return (uint8_t)(0x3c ^ (i * 37)); }

uint8_t *harness_take(struct harness_buffer *b, size_t bytes, size_t misalignment) {
  const size_t needed = (bytes + misalignment + 2 * GUARD + 2 * ALIGNMENT) / ALIGNMENT * ALIGNMENT;
  if (needed > b->capacity) {
    free(b->memory);
    b->memory = aligned_alloc(ALIGNMENT, needed);
    b->capacity = needed;
    CHECK(b->memory);
  }
  b->data = b->memory + GUARD + misalignment;
  b->bytes = bytes;
  memset(b->data, HARNESS_POISON, bytes);
  for (size_t i = 0; i < GUARD; i++) b->data[bytes + i] = guard_byte(i);
  for (size_t i = 1; i <= GUARD; i++) b->data[-(ptrdiff_t)i] = guard_byte(i);
  return b->data;
}

void harness_check_guards(const struct harness_buffer *b, const char *name) {
  for (size_t i = 0; i < GUARD; i++)
    CHECK_TEXT(b->data[b->bytes + i] == guard_byte(i), "%s: byte %zu behind its %zu was written", name, i, b->bytes);
  for (size_t i = 1; i <= GUARD; i++)
    CHECK_TEXT(b->data[-(ptrdiff_t)i] == guard_byte(i), "%s: byte %zu before it was written", name, i);
}

void harness_release(struct harness_buffer *b) {
  free(b->memory);
  *b = (struct harness_buffer){0};
}

bool harness_untouched(const uint8_t *data, size_t bytes) {
  return bytes == 0 || (data[0] == HARNESS_POISON && !memcmp(data, data + 1, bytes - 1));
}

/* ---- folders ----------------------------------------------------------------------------------------------------- */

static char own_folder[] = "/dev/shm/shmccl-test-XXXXXX";
static pid_t folder_owner;

static void remove_own_folder(void) {
  if (getpid() == folder_owner) rmdir(own_folder);
}

const char *harness_own_folder(void) {
  CHECK(mkdtemp(own_folder));
  folder_owner = getpid();
  setenv("SHMCCL_SHM_DIR", own_folder, 1);
  atexit(remove_own_folder);
  return own_folder;
}

int harness_entries(const char *folder) {
  int count = 0;
  DIR *d = opendir(folder);
  CHECK(d);
  for (struct dirent *e; (e = readdir(d));) count += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
  closedir(d);
  return count;
}
