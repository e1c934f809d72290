/*
 * driver.c - plugin-driver: loads a NCCL net plugin as NCCL does and repeats NCCL's calling pattern, without NCCL and
 * without a GPU. `plugin-driver --help` lists what it can do.
 */
#include "bench.h"
#include "cases.h"
#include "collnet.h"
#include "traffic.h"
#include "tuner.h"
#include "watch.h"

#include <dirent.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static const char usage[] =
    "Usage: plugin-driver --plugin FILE|NAME [options]\n"
    "Drives a NCCL net plugin as NCCL does and checks every byte.\n"
    "\n"
    "  --plugin FILE|NAME     what NCCL_NET_PLUGIN would hold; '': as if unset\n"
    "  --pattern WHAT         traffic: ring, tree, alltoall                                 [ring]\n"
    "                         cases: all, or one: messages, oversized, requests, arguments, handles, patience, "
    "closing,\n"
    "                         deserted, leaks, contexts\n"
    "                         collnet, tuner\n"
    "                         bench: speed on two cores, beside two memcpys and a line's hand-over (also: --bench)\n"
    "  --ending HOW           of traffic: quiet, abrupt (a rank closes in the midst), kill   [quiet]\n"
    "  --nccl 2.20 ... 2.30   load and call like this NCCL            [the oldest that knows the net version]\n"
    "  --net-version 8 ... 12 look for no newer table                                  [12]\n"
    "  --ranks N              1 to 8                                                   [2]\n"
    "  --processes|--threads  what a rank is                                           [processes]\n"
    "  --copies N             communicators, each in its own copy of NCCL: 1 or 2      [1]\n"
    "  --keep                 as NCCL_NET_PLUGIN_REF_COUNT=1: never unloaded\n"
    "  --lives N              communicators made anew so often in each process         [1]\n"
    "  --iterations N         operations of each connection                            [20]\n"
    "  --repeat N             so many runs, with seeds that follow each other          [1]\n"
    "  --seed N               repeats a run; SHMCCL_TEST_SEED does too                 [random]\n"
    "  --patience SECONDS     that a call may take, or a dead peer go unnoticed        [20]\n"
    "  --verbose              the plugin's log\n"
    "Exit status: 0 right, 1 a fault of the plugin, 2 wrong usage.\n";

enum option_code {
  PLUGIN,
  PATTERN,
  ENDING,
  NCCL,
  NET_VERSION,
  RANKS,
  PROCESSES,
  THREADS,
  COPIES,
  KEEP,
  LIVES,
  ITERATIONS,
  REPEAT,
  SEED,
  PATIENCE,
  VERBOSE,
  BENCH,
  HELP
};
static const struct option long_options[] = {{"plugin", required_argument, NULL, PLUGIN},
                                             {"pattern", required_argument, NULL, PATTERN},
                                             {"ending", required_argument, NULL, ENDING},
                                             {"nccl", required_argument, NULL, NCCL},
                                             {"net-version", required_argument, NULL, NET_VERSION},
                                             {"ranks", required_argument, NULL, RANKS},
                                             {"processes", no_argument, NULL, PROCESSES},
                                             {"threads", no_argument, NULL, THREADS},
                                             {"copies", required_argument, NULL, COPIES},
                                             {"keep", no_argument, NULL, KEEP},
                                             {"iterations", required_argument, NULL, ITERATIONS},
                                             {"lives", required_argument, NULL, LIVES},
                                             {"repeat", required_argument, NULL, REPEAT},
                                             {"seed", required_argument, NULL, SEED},
                                             {"patience", required_argument, NULL, PATIENCE},
                                             {"verbose", no_argument, NULL, VERBOSE},
                                             {"bench", no_argument, NULL, BENCH},
                                             {"help", no_argument, NULL, HELP},
                                             {0}};

_Noreturn static void wrong(const char *what, const char *value) {
  fprintf(stderr, "plugin-driver: %s '%s'; --help explains\n", what, value);
  exit(2);
}

static unsigned number(const char *text, unsigned least, unsigned most) {
  char *end;
  const unsigned long value = strtoul(text, &end, 0);
  if (*end || end == text || value < least || value > most) wrong("not a number in range:", text);
  return (unsigned)value;
}

static enum ending ending(const char *text) {
  static const char *const names[] = {"quiet", "abrupt", "kill"};
  for (unsigned i = 0; i < LENGTH(names); i++)
    if (!strcmp(text, names[i])) return (enum ending)i;
  wrong("unknown ending", text);
}

static int minor_version(const char *text) {
  if (strncmp(text, "2.", 2) != 0) wrong("not a version from 2.20 to 2.30:", text);
  return (int)number(text + 2, NCCL_FIRST_MINOR, NCCL_LAST_MINOR);
}

static void set(struct settings *s, int option, const char *value) {
  switch (option) {
  case PLUGIN: s->plugin = value; break;
  case PATTERN: s->pattern = value; break;
  case ENDING: s->ending = ending(value); break;
  case NCCL: s->minor = minor_version(value); break;
  case NET_VERSION: s->newest = (int)number(value, NCCL_OLDEST_TABLE, 12); break;
  case RANKS: s->nranks = (int)number(value, 1, WORLD_RANKS); break;
  case PROCESSES: s->threads = false; break;
  case THREADS: s->threads = true; break;
  case COPIES: s->ncomms = number(value, 1, WORLD_COMMS); break;
  case KEEP: s->keep = true; break;
  case ITERATIONS: s->iterations = number(value, 1, 1000000); break;
  case LIVES: s->lives = number(value, 1, 1000); break;
  case REPEAT: s->repeat = number(value, 1, 1000000); break;
  case SEED: setenv("SHMCCL_TEST_SEED", value, 1); break;
  case PATIENCE: s->patience_s = number(value, 1, 3600); break;
  case BENCH: s->pattern = "bench"; break;
  case VERBOSE: s->verbose = true; break;
  case HELP: fputs(usage, stdout); exit(0);
  default: exit(2);
  }
}

typedef void (*run_fn)(struct world *w);

static run_fn kind_of(const char *pattern) {
  if (traffic_has(pattern)) return traffic_run;
  if (cases_have(pattern)) return cases_run;
  if (!strcmp(pattern, "collnet")) return collnet_run;
  if (!strcmp(pattern, "bench")) return bench_run;
  return strcmp(pattern, "tuner") ? NULL : tuner_run;
}

static struct settings parse(int argc, char **argv) {
  struct settings s = {.pattern = "ring",
                       .newest = 12,
                       .nranks = 2,
                       .iterations = 20,
                       .repeat = 1,
                       .lives = 1,
                       .ncomms = 1,
                       .patience_s = 20};
  int option;
  while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) set(&s, option, optarg);
  if (optind < argc) wrong("what is", argv[optind]);
  if (!s.plugin) wrong("no --plugin given, or", "");
  if (!s.minor) s.minor = nccl_minor_for(s.newest);
  if (s.threads && s.ending == END_KILL) wrong("only a process can be killed:", "--threads");
  if (!kind_of(s.pattern)) wrong("unknown pattern", s.pattern);
  return s;
}

/* What a killed rank has left is removed by the next that begins: that is asked for, not more. */
static void check_folder(struct world *w, const char *folder) {
  const struct settings settings = w->settings;
  if (settings.ending == END_KILL && harness_entries(folder)) {
    w->settings = (struct settings){.pattern = "ring",
                                    .plugin = settings.plugin,
                                    .minor = settings.minor,
                                    .nranks = 2,
                                    .newest = settings.newest,
                                    .iterations = 1,
                                    .lives = 1,
                                    .ncomms = 1,
                                    .patience_s = settings.patience_s};
    traffic_run(w);
    w->settings = settings;
  }
  CHECK_TEXT(!harness_entries(folder), "%d files are left in %s", harness_entries(folder), folder);
}

static void run(struct settings *settings, const char *folder) {
  struct world *w = world_create(settings);
  if (settings->threads) watch_start(settings->patience_s);
  for (unsigned i = 0; i < settings->repeat; i++, w->settings.seed++) {
    kind_of(settings->pattern)(w);
    check_folder(w, folder);
  }
}

static void empty(const char *folder) {
  char path[512];
  DIR *d = opendir(folder);
  for (struct dirent *e; d && (e = readdir(d));) {
    snprintf(path, sizeof path, "%s/%.200s", folder, e->d_name);
    unlink(path);
  }
  if (d) closedir(d);
}

/* The run is a child's, so that whatever becomes of it the folder is cleared. */
int main(int argc, char **argv) {
  struct settings settings = parse(argc, argv);
  const char *folder = harness_own_folder();
  int status;
  settings.seed = harness_seed();
  setenv("NCCL_DEBUG", settings.verbose ? "INFO" : "WARN", 0); /* or a plugin may think that nobody sees its warnings */
  nccl_log_verbose(settings.verbose);
  const pid_t child = fork();
  CHECK(child >= 0);
  if (!child) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    run(&settings, folder);
    exit(0);
  }
  CHECK(waitpid(child, &status, 0) == child);
  empty(folder);
  if (WIFSIGNALED(status)) fprintf(stderr, "plugin-driver: ended by signal %d\n", WTERMSIG(status));
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
