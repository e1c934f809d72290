/*
 * shmccl-doctor: is this machine or pod ready for collectives, and if not, what must be done? `--help` explains it.
 *
 * The work is done by a child; the parent ends it after ten seconds, also where a file system or a driver hangs.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/clock.h"
#include "shmccl.h"
#include "tools/doctor/doctor.h"
#include "tools/json.h"

enum { LIMIT_S = 10, QUESTIONS_MS = 8500 };

static const char help[] =
    "usage: shmccl-doctor [flags]\n"
    "\n"
    "Looks at this machine, container or pod: WSL 2 and its settings, GPU, drivers, container runtime, Kubernetes,\n"
    "NCCL, the plugin, the front, /dev/shm, the environment. Prints for each finding ok, warning or failure, what was\n"
    "seen, and, where something is wrong, why it matters here and the exact fix. It changes nothing, needs no root, "
    "and\n"
    "ends within ten seconds.\n"
    "\n"
    "Flags:\n"
    "  --probe      also run a two-rank all-reduce over host memory\n"
    "  --json       print one JSON object instead\n"
    "  --root DIR   look at a recorded tree instead of this machine (tests/doctor/trees has some)\n"
    "  -h, --help   print this\n"
    "  --version    print the version\n"
    "\n"
    "Exit code: the worst finding: 0 ok, 1 warning, 2 failure; 64 bad flags, 74 standard output cannot be written.\n";

struct flags {
  bool probe, json;
  const char *root;
};

/* ---- printing ---------------------------------------------------------------------------------------------------- */

static bool colour; /* standard output is a terminal */

static const char *paint(enum doctor_status status) {
  static const char *const colours[] = {"\033[32m", "\033[33m", "\033[31m"};
  return colour ? colours[status] : "";
}

static void print_finding(const struct doctor *d, const struct doctor_finding *f) {
  (void)d;
  printf("%s%-7s%s  %-22s %s\n", paint(f->status), doctor_status_name(f->status), colour ? "\033[0m" : "", f->id,
         f->seen);
  if (f->why) printf("         why: %s\n", f->why);
  if (f->fix) printf("         fix: %s\n", f->fix);
  fflush(stdout); /* before a check that might hang */
}

static void print_json(const struct doctor *d) {
  struct json_list object = {"{"}, list = {""};
  json_text(&object, "shmccl_doctor", DOCTOR_VERSION);
  json_text(&object, "root", d->recorded ? d->root : NULL);
  json_text(&object, "worst", doctor_status_name(d->worst));
  json_key(&object, "findings");
  putchar('[');
  for (int i = 0; i < d->nfindings; i++) {
    const struct doctor_finding *f = &d->findings[i];
    struct json_list l = {"\n  {"};
    json_next(&list);
    json_text(&l, "status", doctor_status_name(f->status));
    json_text(&l, "id", f->id);
    json_text(&l, "seen", f->seen);
    json_text(&l, "why", f->why);
    json_text(&l, "fix", f->fix);
    putchar('}');
  }
  printf("]}\n");
}

/* ---- the work ---------------------------------------------------------------------------------------------------- */

/* In a recorded tree's place: its environment becomes this process's. */
static void take_environment(struct doctor *d) {
  size_t length;
  char *text = doctor_read(d, "/proc/self/environ", &length);
  clearenv();
  for (size_t at = 0; text && at < length; at++) {
    const size_t end = at + strcspn(text + at, "\n");
    text[end] = 0;
    if (strchr(text + at, '=') && text[at] != '=') putenv(text + at);
    at = end;
  }
}

static void look(struct doctor *d, bool probe) {
  static void (*const checks[])(struct doctor *) = {
      doctor_check_system,   doctor_check_wslconfig,   doctor_check_swap,    doctor_check_libraries,  doctor_check_gpus,
      doctor_check_memlock,  doctor_check_shm,         doctor_check_runtime, doctor_check_kubernetes, doctor_check_nccl,
      doctor_check_versions, doctor_check_environment, doctor_check_plugin,  doctor_check_front};
  for (size_t i = 0; i < sizeof checks / sizeof *checks; i++) checks[i](d);
  if (probe) doctor_check_probe(d);
}

static int work(const struct flags *flags) {
  struct doctor d = {.root = flags->root ? flags->root : "",
                     .recorded = flags->root != NULL,
                     .deadline_ns = shmi_now_ns() + (uint64_t)QUESTIONS_MS * 1000000,
                     .tell = flags->json ? NULL : print_finding};
  if (d.recorded) take_environment(&d);
  if (!getenv("SHMCCL_DEBUG")) setenv("SHMCCL_DEBUG", "none", 1); /* findings say it */
  look(&d, flags->probe);
  if (flags->json)
    print_json(&d);
  else
    printf("%d ok, %d warnings, %d failures\n", d.counts[0], d.counts[1], d.counts[2]);
  const int code = fflush(stdout) || ferror(stdout) ? EX_IOERR : (int)d.worst;
  doctor_end(&d);
  return code;
}

/* ---- the limit --------------------------------------------------------------------------------------------------- */

static int give_up(const struct flags *flags) {
  struct doctor d = {.root = "", .tell = flags->json ? NULL : print_finding};
  doctor_add(&d, (struct doctor_finding){
                     DOCTOR_FAILURE, "doctor.time", "the checks did not end within ten seconds",
                     "what was not looked at may be wrong too: a file system, a driver or the loader hangs",
                     "the check after the last line above is the one; dmesg may tell more"});
  if (flags->json) print_json(&d);
  doctor_end(&d);
  return DOCTOR_FAILURE;
}

/* Whether the worker ended in time, and how. SIGCHLD, blocked, also comes when it is only stopped. */
static bool ended_in_time(pid_t worker, const sigset_t *child_signal, int *status) {
  const uint64_t deadline_ns = shmi_now_ns() + (uint64_t)LIMIT_S * 1000000000;
  for (uint64_t now; waitpid(worker, status, WNOHANG) == 0;) {
    if ((now = shmi_now_ns()) >= deadline_ns) return false;
    const uint64_t rest = deadline_ns - now;
    const struct timespec limit = {(time_t)(rest / 1000000000), (long)(rest % 1000000000)};
    sigtimedwait(child_signal, NULL, &limit);
  }
  return true;
}

static int work_within_limit(const struct flags *flags) {
  sigset_t child_signal;
  int status = -1;
  sigemptyset(&child_signal);
  sigaddset(&child_signal, SIGCHLD);
  sigprocmask(SIG_BLOCK, &child_signal, NULL);
  const pid_t worker = fork();
  if (worker <= 0) { /* without a child: without a limit */
    sigprocmask(SIG_UNBLOCK, &child_signal, NULL);
    const int code = work(flags);
    if (worker == 0) exit(code);
    return code;
  }
  if (!ended_in_time(worker, &child_signal, &status)) {
    kill(worker, SIGKILL);
    return give_up(flags);
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : give_up(flags);
}

/* ---- flags ------------------------------------------------------------------------------------------------------- */

static int complain(const char *word, const char *what) {
  fprintf(stderr, "shmccl-doctor: %s: %s\n", word, what);
  return EX_USAGE;
}

static bool is_folder(const char *path) {
  struct stat st;
  return !stat(path, &st) && S_ISDIR(st.st_mode);
}

int main(int argc, char **argv) {
  struct flags flags = {.root = NULL};
  for (int i = 1; i < argc; i++) {
    const char *word = argv[i];
    if (!strcmp(word, "-h") || !strcmp(word, "--help")) return fputs(help, stdout) < 0 || fflush(stdout) ? EX_IOERR : 0;
    if (!strcmp(word, "--version"))
      return printf("shmccl-doctor %s\n", DOCTOR_VERSION) < 0 || fflush(stdout) ? EX_IOERR : 0;
    if (!strcmp(word, "--json"))
      flags.json = true;
    else if (!strcmp(word, "--probe"))
      flags.probe = true;
    else if (!strncmp(word, "--root=", 7))
      flags.root = word + 7;
    else if (!strcmp(word, "--root"))
      flags.root = argv[++i] ? argv[i] : "";
    else
      return complain(word, "no such flag; shmccl-doctor --help lists them");
    if (flags.root && !is_folder(flags.root)) return complain(*flags.root ? flags.root : "--root", "no such folder");
  }
  if (flags.root && flags.probe) return complain("--probe", "a recorded tree cannot be probed");
  const char *no_colour = getenv("NO_COLOR");
  colour = isatty(STDOUT_FILENO) && !(no_colour && *no_colour);
  return work_within_limit(&flags);
}
