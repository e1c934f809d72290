/* team.c - see team.h. */
#include "team.h"

#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

struct team_page {
  _Alignas(128) atomic_uint arrived;
  _Alignas(128) atomic_uint round;
  atomic_uint failed;
  char bytes[TEAM_MOST][TEAM_BYTES];
};

struct team team_start(int nranks) {
  struct team team = {.nranks = nranks};
  team.page = mmap(NULL, sizeof *team.page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (team.page == MAP_FAILED) team_fail(&team, "mmap: %m");
  const pid_t parent = getpid();
  fflush(NULL);
  for (int r = 1; r < nranks; r++) {
    const pid_t pid = fork();
    if (pid < 0) team_fail(&team, "fork: %m");
    if (pid) continue;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1);
    team.rank = r;
    break;
  }
  return team;
}

int team_end(const struct team *team) {
  int status, failures = 0;
  if (team->rank) exit(0);
  while (wait(&status) > 0) failures += status != 0;
  return failures != 0;
}

void team_fail(const struct team *team, const char *format, ...) {
  va_list arguments;
  fprintf(stderr, "shmccl-perf-plugin: rank %d: ", team->rank);
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  fputc('\n', stderr);
  if (team->page && team->page != MAP_FAILED) atomic_store(&team->page->failed, 1);
  exit(1);
}

void team_meet(const struct team *team) {
  struct team_page *p = team->page;
  const unsigned round = atomic_load(&p->round);
  if (atomic_fetch_add(&p->arrived, 1) + 1 == (unsigned)team->nranks) {
    atomic_store(&p->arrived, 0);
    atomic_store(&p->round, round + 1);
  }
  while (atomic_load(&p->round) == round) {
    if (atomic_load(&p->failed)) exit(1);
    sched_yield();
  }
}

void team_gather(const struct team *team, const void *mine, size_t bytes, char all[TEAM_MOST][TEAM_BYTES]) {
  memcpy(team->page->bytes[team->rank], mine, bytes);
  team_meet(team);
  memcpy(all, team->page->bytes, sizeof team->page->bytes);
  team_meet(team);
}

double team_most(const struct team *team, double mine) {
  char all[TEAM_MOST][TEAM_BYTES];
  double most = mine, theirs;
  team_gather(team, &mine, sizeof mine, all);
  for (int r = 0; r < team->nranks; r++) {
    memcpy(&theirs, all[r], sizeof theirs);
    if (theirs > most) most = theirs;
  }
  return most;
}
