/*
 * nccl_ranks.c - runs a scenario with a real NCCL on the stand-in runtime, and checks in NCCL's log what carried it.
 * Started by with_nccl.sh, which sets up the environment.
 *
 *   nccl_ranks [-n ranks] [-t | -H] [-w pattern]... -e net scenario
 *     -t  ranks are threads of one process, else processes
 *     -H  each process claims a host of its own (NCCL_HOSTID), so that NCCL takes its only GPU for another than the
 * others' -e  the network that must carry everything: Socket, shmccl -w  a text that each process's log must have
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "log.h"
#include "scenarios.h"

enum { SECONDS = 250, MOST_PATTERNS = 8 };

static const struct {
  const char *name;
  scenario_fn run;
  bool kills; /* the last rank, by SIGKILL */
} scenarios[] = {
    {"allreduce", scenario_allreduce, false}, {"collectives", scenario_collectives, false},
    {"types", scenario_types, false},         {"random", scenario_random, false},
    {"graph", scenario_graph, false},         {"groups", scenario_groups, false},
    {"messages", scenario_messages, false},   {"communicators", scenario_communicators, false},
    {"split", scenario_split, false},         {"failure", scenario_failure, false},
    {"abort", scenario_abort, false},         {"death", scenario_death, true},
};

static void usage(void) {
  fprintf(stderr, "usage: nccl_ranks [-n ranks] [-t | -H] [-w pattern]... -e net scenario\nscenarios:");
  for (size_t i = 0; i < LENGTH(scenarios); i++) fprintf(stderr, " %s", scenarios[i].name);
  fprintf(stderr, "\n");
  exit(2);
}

struct arguments {
  struct party party;
  size_t scenario;
  const char *net, *patterns[MOST_PATTERNS];
  int npatterns;
};

static struct arguments parse(int argc, char **argv) {
  struct arguments a = {.party.nranks = 2};
  for (int option; (option = getopt(argc, argv, "n:tHe:w:")) != -1;) {
    if (option == 'n')
      a.party.nranks = atoi(optarg);
    else if (option == 't')
      a.party.threads = true;
    else if (option == 'H')
      a.party.own_hosts = true;
    else if (option == 'e')
      a.net = optarg;
    else if (option == 'w' && a.npatterns < MOST_PATTERNS)
      a.patterns[a.npatterns++] = optarg;
    else
      usage();
  }
  while (a.scenario < LENGTH(scenarios) && optind < argc && strcmp(argv[optind], scenarios[a.scenario].name))
    a.scenario++;
  if (!a.net || optind + 1 != argc || a.scenario == LENGTH(scenarios)) usage();
  if (a.party.nranks < 2 || a.party.nranks > 4 || (a.party.threads && a.party.own_hosts)) usage(); /* 4: exact inputs */
  a.party.scenario = scenarios[a.scenario].run;
  return a;
}

/* The kernels are emulated for two versions; another one's data is laid out in another way. */
static void check_version(const char *file) {
  int version;
  CHECK_NCCL(nccl.GetVersion(&version));
  if (version == 22809 || version == 23007) return;
  printf("skipped: the kernels of NCCL 2.28.9 and 2.30.7 are emulated; %s has version code %d\n", file, version);
  exit(77);
}

static void prepare(struct party *party) {
  const char *file = getenv("SHMCCL_TEST_NCCL");
  char ngpus[16];
  CHECK_TEXT(file && getenv("STANDIN_KERNELS"), "start me by with_nccl.sh");
  snprintf(ngpus, sizeof ngpus, "%d", party->own_hosts ? 1 : party->nranks);
  setenv("STANDIN_DEVICES", ngpus, 1);
  party->seed = harness_seed();
  party->shared = mmap(NULL, sizeof *party->shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(party->shared != MAP_FAILED);
  const char *front = getenv("TEST_FRONT_FILE"); /* which finds the other by itself */
  party->traps = front != NULL;
  nccl_load(front ? front : file);
  check_version(file);
  log_begin();
}

static void run_rank(int rank, int nranks, void *context) {
  struct party *party = context;
  (void)nranks;
  party->scenario(party, rank);
}

static void run_with_death(struct party *party) {
  struct harness_outcome outcomes[SHMCCL_MAX_RANKS];
  const int victim = party->nranks - 1;
  harness_outcomes(party->nranks, run_rank, party, SECONDS, outcomes);
  for (int r = 0; r < party->nranks; r++) {
    const struct harness_outcome *o = &outcomes[r];
    CHECK_TEXT(!o->timed_out, "rank %d did not end in time", r);
    CHECK_TEXT(r == victim ? o->signal == SIGKILL : !o->signal && o->status == 0,
               "rank %d: signal %d, status %d: %.200s", r, o->signal, o->status, o->message);
  }
}

int main(int argc, char **argv) {
  struct arguments a = parse(argc, argv);
  prepare(&a.party);
  if (scenarios[a.scenario].kills)
    run_with_death(&a.party);
  else
    (a.party.threads ? harness_threads : harness_processes)(a.party.nranks, run_rank, &a.party, SECONDS);
  log_check(a.net, a.patterns, a.npatterns);
  return 0;
}
