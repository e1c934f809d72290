/* support.c - processes, caught lines and traces for the programs of this folder. */
#include "trouble/support.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* 1 where the CUDA runtime is CUDA's own: set by the build. */
#ifndef TESTS_ON_GPU
#define TESTS_ON_GPU 0
#endif

enum { CAUGHT_BYTES = 1 << 16, JOIN_MS = 20000, AWAIT_MS = 15000 };

static int failures;
static bool small;
static int real_stderr = STDERR_FILENO, caught = -1;
static unsigned random_state;
static char folder[64];

/* ---- checks ------------------------------------------------------------------------------------------------------ */

void tr_check(bool good, const char *file, int line, const char *condition, const char *format, ...) {
  char text[2048];
  if (good) return;
  int length = snprintf(text, sizeof text, "FAILED %s:%d: %s: ", file, line, condition);
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text + length, sizeof text - (size_t)length, format, arguments);
  va_end(arguments);
  dprintf(real_stderr, "%s\n", text);
  __atomic_fetch_add(&failures, 1, __ATOMIC_RELAXED);
}

int tr_failed(void) { return __atomic_load_n(&failures, __ATOMIC_RELAXED); }

/* The first of words, separated by '|', that text lacks; NULL if it has all. */
static const char *lacking_word(const char *text, const char *words, char word[128]) {
  while (words && *words) {
    size_t length = strcspn(words, "|");
    snprintf(word, 128, "%.*s", (int)length, words);
    if (!strstr(text, word)) return word;
    words += length + (words[length] == '|');
  }
  return NULL;
}

/* "shmccl[pid] WARN: <last error>\n" */
static bool is_last_error(const char *line) {
  const char *error = shmccl_last_error(), *text = strstr(line, "WARN: ");
  return text && !strncmp(text + 6, error, strlen(error)) && !strcmp(text + 6 + strlen(error), "\n");
}

void tr_expect(shmccl_result_t got, shmccl_result_t wanted, const char *words, const char *file, int line,
               const char *call) {
  char text[CAUGHT_BYTES], word[128];
  int lines = tr_caught(text, sizeof text);
  tr_check(got == wanted, file, line, call, "%s instead of %s; %s", shmccl_error_string(got),
           shmccl_error_string(wanted), text);
  if (got != wanted || caught < 0) return;
  tr_check(lines == (words != NULL), file, line, call, "%d lines were logged instead of %d: %s", lines, words != NULL,
           text);
  if (!words || lines != 1) return;
  tr_check(is_last_error(text), file, line, call, "logged '%s', last error is '%s'", text, shmccl_last_error());
  tr_check(!lacking_word(text, words, word), file, line, call, "'%s' is not in: %s", word, text);
}

/* ---- a program ------------------------------------------------------------------------------------------------- */

static void clear_environment(void) {
  static const char *const prefixes[] = {"SHMCCL_DEBUG", "SHMCCL_TIMEOUT", "SHMCCL_STAGING", "SHMCCL_CHUNK",
                                         "SHMCCL_ALG",   "SHMCCL_RANK",    "SHMCCL_NRANKS",  "SHMCCL_ID",
                                         "SHMCCL_SHM",   "OMPI_",          "PMI_",           "PMIX_",
                                         "SLURM_",       "TORCHELASTIC_",  "MPI_LOCALNRANKS"};
  extern char **environ;
  for (char **e = environ; *e;) {
    char name[256];
    size_t length = strcspn(*e, "=");
    bool drop = !strncmp(*e, "RANK=", 5) || !strncmp(*e, "WORLD_SIZE=", 11);
    for (size_t i = 0; i < LENGTH(prefixes); i++) drop |= !strncmp(*e, prefixes[i], strlen(prefixes[i]));
    if (!drop || length >= sizeof name) {
      e++;
      continue;
    }
    memcpy(name, *e, length);
    name[length] = 0;
    unsetenv(name); /* closes the gap at *e */
  }
}

static void choose_seed(void) {
  const char *wanted = getenv("SHMCCL_TEST_SEED");
  random_state = wanted ? (unsigned)strtoul(wanted, NULL, 10) : (unsigned)tr_now_ns() % 1000000;
  printf("SHMCCL_TEST_SEED=%u\n", random_state);
  fflush(stdout);
}

/* hwloc keeps what it has loaded, which is no leak: load it before anybody counts. */
static void warm_up(void) {
  shmccl_comm_t *comms[2];
  for (int nranks = 1; nranks <= 2; nranks++) {
    if (shmccl_comm_init_all(comms, nranks, NULL) != SHMCCL_SUCCESS)
      tr_check(false, __FILE__, __LINE__, "warm-up", "%s", shmccl_last_error());
    else
      for (int r = 0; r < nranks; r++) shmccl_comm_destroy(comms[r]);
  }
}

void tr_begin(void) {
  clear_environment();
  choose_seed();
  strcpy(folder, "/dev/shm/trouble-XXXXXX");
  if (!mkdtemp(folder)) tr_skip("/dev/shm is not there or not writable");
  setenv("SHMCCL_SHM_DIR", folder, 1);
  warm_up();
}

int tr_end(void) {
  CHECK(tr_entries(folder) == 0, "%d files are left in %s", tr_entries(folder), folder);
  CHECK(rmdir(folder) == 0, "%s: %s", folder, strerror(errno));
  return failures ? 1 : 0;
}

void tr_skip(const char *reason) {
  printf("skipped: %s\n", reason);
  fflush(stdout);
  if (*folder) rmdir(folder);
  exit(77);
}

const char *tr_folder(void) { return folder; }

int tr_entries(const char *path) {
  int entries = 0;
  DIR *d = opendir(path);
  if (!d) return -1;
  while (readdir(d)) entries++;
  closedir(d);
  return entries - 2;
}

unsigned tr_random(unsigned limit) {
  random_state = random_state * 1664525u + 1013904223u;
  return (random_state >> 8) % limit;
}

uint64_t tr_now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void tr_sleep_ms(unsigned ms) {
  struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
  nanosleep(&t, NULL);
}

/* ---- stderr --------------------------------------------------------------------------------------------------------
 */

void tr_catch_stderr(void) {
  if (caught >= 0) close(caught); /* the parent's */
  if (real_stderr == STDERR_FILENO) real_stderr = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 100);
  int fd = memfd_create("stderr", MFD_CLOEXEC);
  caught = fcntl(fd, F_DUPFD_CLOEXEC, 100);
  close(fd);
  fcntl(caught, F_SETFL, O_APPEND);
  dup2(caught, STDERR_FILENO);
}

int tr_caught(char *text, size_t bytes) {
  int lines = 0;
  ssize_t length = caught < 0 ? 0 : pread(caught, text, bytes - 1, 0);
  text[length < 0 ? 0 : length] = 0;
  for (const char *c = text; *c; c++) lines += *c == '\n';
  if (length > 0 && ftruncate(caught, 0)) return -1;
  return lines;
}

/* ---- traces --------------------------------------------------------------------------------------------------------
 */

struct tr_traces tr_traces(void) {
  struct tr_traces t = {.descriptors = tr_entries("/proc/self/fd"), .threads = tr_entries("/proc/self/task")};
  char line[4096];
  FILE *f = fopen("/proc/self/maps", "re");
  while (f && fgets(line, sizeof line, f)) t.mappings += strstr(line, folder) || strstr(line, "/shmccl-");
  if (f) fclose(f);
  return t;
}

void tr_check_traces(struct tr_traces before, const char *where) {
  struct tr_traces now = tr_traces();
  if (!TESTS_ON_GPU) /* a driver's descriptors stay */
    CHECK(now.descriptors == before.descriptors, "%s: %d descriptors, %d before", where, now.descriptors,
          before.descriptors);
  if (!TESTS_ON_GPU && !getenv("STANDIN_DEVICES")) /* either CUDA runtime has threads of its own, which stay */
    CHECK(now.threads == before.threads, "%s: %d threads, %d before", where, now.threads, before.threads);
  CHECK(now.mappings == before.mappings, "%s: %d mappings of segments, %d before", where, now.mappings,
        before.mappings);
}

void tr_check_works(const char *where) {
  shmccl_comm_t *comms[2];
  int out = 4711, in = 0;
  shmccl_result_t result = shmccl_comm_init_all(comms, 2, NULL);
  CHECK(result == SHMCCL_SUCCESS, "%s: no new communicator: %s", where, shmccl_last_error());
  if (result != SHMCCL_SUCCESS) return;
  result = shmccl_send(&out, 1, SHMCCL_INT32, 1, comms[0], NULL);
  if (result == SHMCCL_SUCCESS) result = shmccl_recv(&in, 1, SHMCCL_INT32, 0, comms[1], NULL);
  CHECK(result == SHMCCL_SUCCESS && in == out, "%s: a new communicator does not work: %s", where, shmccl_last_error());
  for (int r = 0; r < 2; r++) shmccl_comm_destroy(comms[r]);
}

void tr_folder_is_small(void) { small = true; }

/* ---- ranks ------------------------------------------------------------------------------------------------------- */

void tr_set(uint32_t *word, uint32_t value) { __atomic_store_n(word, value, __ATOMIC_RELEASE); }

bool tr_await(const uint32_t *word, uint32_t value) {
  for (int ms = 0; ms < AWAIT_MS * 5; ms++) {
    if (__atomic_load_n(word, __ATOMIC_ACQUIRE) >= value) return true;
    usleep(200);
  }
  return false;
}

bool tr_await_all(const struct tr_job *job, uint32_t phase) {
  bool all = true;
  for (int r = 0; r < job->nranks; r++) all = all && tr_await(&job->slots[r].phase, phase);
  CHECK(all, "a rank did not come to phase %u", phase);
  return all;
}

void tr_tell(struct tr_job *job, int rank, shmccl_result_t result) {
  struct tr_slot *s = &job->slots[rank];
  s->told_ns = tr_now_ns();
  s->result = result;
  snprintf(s->error, sizeof s->error, "%s", shmccl_last_error());
}

shmccl_comm_t *tr_join_comm(const struct tr_job *job, int rank, const shmccl_config_t *config) {
  shmccl_comm_t *comm = NULL;
  EXPECT_OK(shmccl_comm_init_rank(&comm, job->nranks, &job->id, rank, config));
  return comm;
}

static _Noreturn void be_rank(struct tr_job *job, int rank, tr_rank_fn fn) {
  char where[32];
  failures = 0;
  tr_catch_stderr();
  snprintf(where, sizeof where, "rank %d of %d", rank, job->nranks);
  struct tr_traces before = tr_traces();
  fn(job, rank);
  tr_check_traces(before, where);
  if (!small) tr_check_works(where);
  tr_check_traces(before, where);
  dup2(real_stderr, STDERR_FILENO); /* for sanitizers */
  exit(tr_failed() ? 1 : 0);        /* not _exit: LeakSanitizer looks at exit */
}

void tr_prepare(struct tr_job *job, int nranks, const void *argument) {
  size_t bytes = TR_MOST * sizeof *job->slots;
  *job = (struct tr_job){.nranks = nranks, .argument = argument};
  job->slots = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (job->slots == MAP_FAILED || shmccl_get_unique_id(&job->id) != SHMCCL_SUCCESS) abort();
}

void tr_launch(struct tr_job *job, tr_rank_fn fn) {
  for (int r = 0; r < job->nranks; r++) {
    job->pids[r] = fork();
    if (job->pids[r] == 0) be_rank(job, r, fn);
  }
}

void tr_start(struct tr_job *job, int nranks, tr_rank_fn fn, const void *argument) {
  tr_prepare(job, nranks, argument);
  tr_launch(job, fn);
}

/* 1: ended, *status is set; 0: still there. */
static int has_ended(pid_t pid, uint64_t deadline, int *status) {
  while (waitpid(pid, status, WNOHANG) == 0) {
    if (tr_now_ns() > deadline) return 0;
    usleep(200);
  }
  return 1;
}

void tr_join(struct tr_job *job, unsigned dead) {
  uint64_t deadline = tr_now_ns() + JOIN_MS * 1000000ull;
  for (int r = 0; r < job->nranks; r++) {
    int status = 0, ended = has_ended(job->pids[r], deadline, &status);
    CHECK(ended, "rank %d of %d hangs", r, job->nranks);
    if (!ended) {
      kill(job->pids[r], SIGKILL);
      waitpid(job->pids[r], &status, 0);
    } else if (dead == TR_ANYHOW) {
      continue;
    } else if (dead >> r & 1) {
      CHECK(WIFSIGNALED(status), "rank %d of %d should have died: status %x", r, job->nranks, (unsigned)status);
    } else {
      CHECK(status == 0, "rank %d of %d: status %x", r, job->nranks, (unsigned)status);
    }
  }
  munmap(job->slots, TR_MOST * sizeof *job->slots);
}

void tr_run(int nranks, tr_rank_fn fn, const void *argument) {
  struct tr_job job;
  tr_start(&job, nranks, fn, argument);
  tr_join(&job, 0);
  CHECK(tr_entries(folder) == 0, "%d files are left in %s", tr_entries(folder), folder);
}
