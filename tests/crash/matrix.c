/*
 * matrix.c - every rank of every collective is hurt at every point.
 *
 * A case is a work (work.h), a number of ranks, a victim, an action and the number of an event (points.h). Its ranks
 * are processes. Afterwards every survivor has either done all its calls, with the right results, or an error that
 * names the victim within a second of its death, or of the time limit if it was stopped; it owns what it owned before,
 * and can make a new communicator; nothing is left in the segment folder. A paused victim disturbs nobody. How many
 * events there are is counted in a run in which nobody is hurt.
 *
 *   crash_matrix [CASES [RANKS [MOST]]]   about CASES (QUICK_CASES) of all cases, and all of up to RANKS (0) ranks;
 *                                         there are 2 to MOST (QUICK_RANKS) ranks
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "crash/work.h"
#include "trouble/support.h"

enum { RANKS_LEAST = 2, WORKERS = 6, TRIES = 4 };
/* A limit must be longer than a loaded machine keeps a rank waiting. */
enum { PATIENT_MS = CRASH_PATIENT_MS, LIMIT_MS = 700, BOUND_MS = 1000, PAUSE_MS = 30, SETTLE_MS = 15000 };

/* Shared by the workers. */
struct tally {
  uint32_t events[WORKS_MOST][RANKS_MOST + 1][RANKS_MOST]; /* that a rank meets when nobody is hurt */
  uint32_t cases[WORKS_MOST][ACTIONS], unreached, retried, told;
  uint32_t codes[SHMCCL_ERROR_INTERNAL + 1];
  uint32_t death_us, limit_us; /* how late the last survivor was told of a death, after its limit */
};
static struct tally *tally;
static uint64_t seed;
static int ranks_most = QUICK_RANKS;

static void add(uint32_t *counter, uint32_t amount) { __atomic_fetch_add(counter, amount, __ATOMIC_RELAXED); }

/* ---- one case ---------------------------------------------------------------------------------------------------- */

/* Told at the very end: until then this may be the rank that is hurt. */
static void play(struct tr_job *job, int rank) {
  struct tr_slot outcome = {0}, *s = &job->slots[rank];
  work_run(job->argument, &job->id, rank, &outcome);
  s->result = outcome.result;
  memcpy(s->error, outcome.error, sizeof s->error);
  __atomic_store_n(&s->told_ns, outcome.told_ns, __ATOMIC_RELEASE);
  tr_await(&s->phase, 1); /* no SIGCONT shall meet the leak check, which stops this process by itself */
}

static uint64_t hurt_ns(const struct work_plan *p) {
  return __atomic_load_n(&p->marks[p->victim].hurt_ns, __ATOMIC_ACQUIRE);
}

static bool has_told(const struct tr_job *job, int rank) {
  return __atomic_load_n(&job->slots[rank].told_ns, __ATOMIC_ACQUIRE) != 0;
}

/* The survivors have told, and the victim too unless it was hurt for good. */
static bool is_settled(const struct tr_job *job, const struct work_plan *p) {
  for (int r = 0; r < job->nranks; r++) {
    const bool is_lost = r == p->victim && p->action != PAUSE && hurt_ns(p);
    if (!is_lost && !has_told(job, r)) return false;
  }
  return true;
}

static void settle(struct tr_job *job, const struct work_plan *p) {
  const uint64_t deadline = tr_now_ns() + (SETTLE_MS + p->timeout_ms) * 1000000ull;
  while (!is_settled(job, p) && tr_now_ns() < deadline) {
    /* Again and again: it may not have stopped yet. */
    if (p->action == PAUSE && hurt_ns(p) && tr_now_ns() > hurt_ns(p) + PAUSE_MS * 1000000ull)
      kill(job->pids[p->victim], SIGCONT);
    usleep(300);
  }
  for (int r = 0; r < job->nranks; r++) tr_set(&job->slots[r].phase, 1);
  if (p->action == STOP && hurt_ns(p)) kill(job->pids[p->victim], SIGKILL);
}

bool text_names(const char *text, int speaker, int rank) {
  char prefix[32];
  snprintf(prefix, sizeof prefix, "rank %d: ", speaker);
  if (!strncmp(text, prefix, strlen(prefix))) text += strlen(prefix);
  while ((text = strstr(text, "rank"))) {
    text += 4;
    for (int number, length; sscanf(text, " %d%n", &number, &length) == 1; text += length)
      if (number == rank) return true;
  }
  return false;
}

/* Microseconds from the death, or from the end of the time limit, to this survivor's error. */
static uint64_t check_error(const struct work_plan *p, int rank, const struct tr_slot *s, const char *what) {
  const bool died = s->result == SHMCCL_ERROR_PEER_DIED, late = s->result == SHMCCL_ERROR_TIMEOUT;
  if (late && !hurt_ns(p) && work_may_time_out(p)) return UINT32_MAX; /* a busy machine */
  CHECK(hurt_ns(p) && p->action != PAUSE, "%s: rank %d: nobody was hurt: %s", what, rank, s->error);
  CHECK((died && p->action != STOP) || (late && work_may_time_out(p)), "%s: rank %d: %s", what, rank, s->error);
  CHECK(work_names_victim(p, rank, s->error), "%s: rank %d does not name it: %s", what, rank, s->error);
  add(&tally->codes[s->result], 1);
  add(&tally->told, 1);
  const uint64_t due_ns = hurt_ns(p) + (late ? p->timeout_ms * 1000000 : 0);
  const uint64_t us = s->told_ns > due_ns ? (s->told_ns - due_ns) / 1000 : 0;
  uint32_t *latest = late ? &tally->limit_us : &tally->death_us;
  if (us > *latest && us <= BOUND_MS * 1000) *latest = (uint32_t)us; /* a race loses a figure, no more */
  return us;
}

/* Whether it was in time; *slowest_us: of the survivors. */
static bool check_survivors(const struct tr_job *job, const struct work_plan *p, uint64_t *slowest_us) {
  char what[160];
  snprintf(what, sizeof what, "%s, %d ranks, rank %d %s at event %u (%s)", work_names[p->work], p->nranks, p->victim,
           action_names[p->action], p->at, p->marks[p->victim].what);
  *slowest_us = 0;
  for (int r = 0; r < job->nranks; r++) {
    const struct tr_slot *s = &job->slots[r];
    if (r == p->victim && p->action != PAUSE && hurt_ns(p)) continue;
    CHECK(has_told(job, r), "%s: rank %d hangs", what, r);
    if (!has_told(job, r) || s->result == SHMCCL_SUCCESS) continue;
    const uint64_t us = check_error(p, r, s, what);
    if (us > *slowest_us) *slowest_us = us;
  }
  return *slowest_us <= BOUND_MS * 1000;
}

/* A victim that ended after the survivors had swept, or stood still until now, left its name: the next creation sweeps.
 */
static void check_folder(const struct work_plan *p) {
  if (p->action != PAUSE && tr_entries(getenv("SHMCCL_SHM_DIR"))) tr_check_works("after a rank's death");
  const int left = tr_entries(getenv("SHMCCL_SHM_DIR"));
  CHECK(left == 0, "%s, %d ranks, rank %d %s at event %u (%s): %d files are left", work_names[p->work], p->nranks,
        p->victim, action_names[p->action], p->at, p->marks[p->victim].what, left);
}

/* False if a survivor was late. */
static bool run_case(struct work_plan *p, uint64_t *slowest_us) {
  struct tr_job job;
  memset(p->marks, 0, RANKS_MOST * sizeof *p->marks);
  tr_start(&job, p->nranks, play, p);
  settle(&job, p);
  const bool in_time = check_survivors(&job, p, slowest_us);
  const bool is_dead = hurt_ns(p) && (p->action == KILL || p->action == STOP);
  tr_join(&job, is_dead ? 1u << p->victim : 0);
  check_folder(p);
  return in_time;
}

/* A machine that is late once is busy; a library that is late is so every time. */
static void try_case(struct work_plan *p) {
  uint64_t slowest_us;
  p->timeout_ms = work_may_time_out(p) ? LIMIT_MS : PATIENT_MS;
  for (int tries = 1; !run_case(p, &slowest_us); tries++) {
    dprintf(STDOUT_FILENO, "# %s, %d ranks, rank %d %s at event %u (%s): told after %u ms, try %d\n",
            work_names[p->work], p->nranks, p->victim, action_names[p->action], p->at, p->marks[p->victim].what,
            (unsigned)(slowest_us / 1000), tries);
    CHECK(tries < TRIES, "%d times", tries);
    if (tries == TRIES) break;
    add(&tally->retried, 1);
  }
  add(hurt_ns(p) ? &tally->cases[p->work][p->action] : &tally->unreached, 1);
}

/* ---- all cases --------------------------------------------------------------------------------------------------- */

static struct mark *new_marks(void) {
  void *memory =
      mmap(NULL, RANKS_MOST * sizeof(struct mark), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) abort();
  return memory;
}

static uint64_t count_cases(void) {
  uint64_t cases = 0;
  for (int work = 0; work_names[work]; work++)
    for (int n = RANKS_LEAST; n <= ranks_most; n++)
      for (int r = 0; r < n; r++) cases += (uint64_t)tally->events[work][n][r] * ACTIONS;
  return cases;
}

/* Pseudo-random bits of case number i, the same for all workers. */
static uint64_t bits_of(uint64_t i) {
  uint64_t z = seed + i * 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

struct walk {
  int worker;
  uint64_t index, wanted, cases;
  int whole; /* all cases of up to so many ranks */
};

static void visit(struct walk *w, struct work_plan *p) {
  const uint64_t bits = bits_of(w->index++);
  if (p->nranks > w->whole && w->wanted < w->cases && bits % w->cases >= w->wanted) return;
  if (!work_tries(p)) return;
  if ((bits >> 40) % WORKERS != (uint64_t)w->worker || tr_failed() > 10) return;
  try_case(p);
}

/* This worker's part of it: nobody is hurt. */
static void count_events(struct walk *w, struct mark *marks) {
  for (int work = w->worker; work < WORKS_MOST; work += WORKERS)
    for (int n = RANKS_LEAST; n <= ranks_most && work_names[work]; n++) {
      struct work_plan p = {.work = work, .nranks = n, .timeout_ms = PATIENT_MS, .marks = marks};
      uint64_t unused;
      run_case(&p, &unused);
      for (int r = 0; r < n; r++) tally->events[work][n][r] = marks[r].events;
    }
}

static void walk(struct walk *w, struct mark *marks) {
  struct work_plan p = {.marks = marks};
  for (int work = 0; work_names[work]; work++)
    for (p.nranks = RANKS_LEAST; p.nranks <= ranks_most; p.nranks++)
      for (p.victim = 0; p.victim < p.nranks; p.victim++)
        for (p.at = 1; p.at <= tally->events[work][p.nranks][p.victim]; p.at++)
          for (int action = 0; action < ACTIONS; action++) {
            p.work = work;
            p.action = (enum action)action;
            visit(w, &p);
          }
}

typedef void (*worker_fn)(struct walk *w, struct mark *marks);

static _Noreturn void be_worker(struct walk w, worker_fn fn) {
  char folder[128];
  snprintf(folder, sizeof folder, "%s/%d", tr_folder(), w.worker);
  if (mkdir(folder, 0700)) abort();
  setenv("SHMCCL_SHM_DIR", folder, 1);
  fn(&w, new_marks());
  CHECK(rmdir(folder) == 0, "%s: %s", folder, strerror(errno));
  exit(tr_failed() ? 1 : 0);
}

static void run_workers(struct walk w, worker_fn fn) {
  pid_t pids[WORKERS];
  for (int i = 0; i < WORKERS; i++) {
    w.worker = i;
    pids[i] = fork();
    if (pids[i] == 0) be_worker(w, fn);
  }
  for (int i = 0; i < WORKERS; i++) {
    int status = -1;
    waitpid(pids[i], &status, 0);
    CHECK(status == 0, "worker %d: status %x", i, (unsigned)status);
  }
}

/* ---- report ------------------------------------------------------------------------------------------------------ */

static uint32_t events_of(int work, int nranks) {
  uint32_t events = 0;
  for (int r = 0; r < nranks; r++) events += tally->events[work][nranks][r];
  return events;
}

static void report(uint64_t cases) {
  uint64_t all = 0;
  printf("%-24s %22s   %7s %7s %7s %7s\n", "", "events, least and most", "killed", "exited", "paused", "stopped");
  for (int work = 0; work_names[work]; work++) {
    printf("%-24s %11u %10u  ", work_names[work], events_of(work, 2), events_of(work, ranks_most));
    for (int a = 0; a < ACTIONS; a++) printf(" %7u", tally->cases[work][a]), all += tally->cases[work][a];
    printf("\n");
  }
  printf("%llu of %llu cases (events x victims x works x actions, %d to %d ranks); %u more ended before their event\n",
         (unsigned long long)all, (unsigned long long)cases, RANKS_LEAST, ranks_most, tally->unreached);
  printf("errors: %u peer died, %u time limit, all naming the victim; at the latest %u ms after the death, %u ms after "
         "the "
         "limit; %u runs repeated because a survivor was later than %d ms\n",
         tally->codes[SHMCCL_ERROR_PEER_DIED], tally->codes[SHMCCL_ERROR_TIMEOUT], tally->death_us / 1000,
         tally->limit_us / 1000, tally->retried, BOUND_MS);
  printf("%s\n", tr_failed() ? "some failed" : "all passed");
}

int main(int argc, char **argv) {
  struct walk w = {.wanted = argc > 1 ? strtoull(argv[1], NULL, 0) : QUICK_CASES,
                   .whole = argc > 2 ? atoi(argv[2]) : 0};
  if (argc > 3) ranks_most = atoi(argv[3]);
  if (ranks_most > work_ranks_most) ranks_most = work_ranks_most;
  tr_begin();
  setenv("SHMCCL_STAGING_BYTES", "2097152", 1); /* of the communicators that are made afterwards */
  seed = tr_random(1u << 24);
  tally = mmap(NULL, sizeof *tally, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (tally == MAP_FAILED) abort();
  run_workers(w, count_events);
  w.cases = count_cases();
  run_workers(w, walk);
  report(w.cases);
  return tr_end();
}
