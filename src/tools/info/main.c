/*
 * shmccl-info: what the library sees of this machine and of its settings, and what it would do. `--help` explains it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/info/info.h"

enum { EXIT_OK = 0, EXIT_TROUBLE = 1, EXIT_BAD_FLAGS = 2 };

static const char help[] =
    "usage: shmccl-info [flags]\n"
    "\n"
    "Shows what libshmccl sees of this machine, the settings in force and where each came from, where ranks and their\n"
    "staging would be placed, and which algorithm a collective of any size would take. It changes nothing, and starts\n"
    "no ranks.\n"
    "\n"
    "Flags [defaults]:\n"
    "  --ranks N      placement and algorithms for N ranks, 2 to 64 [what a launcher says, else 4]\n"
    "  --json         print one JSON object instead\n"
    "  -h, --help     print this\n"
    "  --version      print the version\n"
    "\n"
    "Exit code: 0 all right; 1 a setting is invalid or /dev/shm has no room, as standard error says; 2 bad flags.\n"
    "\n"
    "Examples:\n"
    "  shmccl-info --ranks 8\n"
    "  SHMCCL_ALGORITHM=two-shot shmccl-info     what a setting changes\n"
    "  mpirun -n 1 shmccl-info                   what a launcher changes\n";

static int complain(const char *flag, const char *value, const char *what) {
  fprintf(stderr, "shmccl-info: %s%s%s: %s\n", flag, value ? " " : "", value ? value : "", what);
  return EXIT_BAD_FLAGS;
}

static bool parse_ranks(const char *text, int *nranks) {
  char *end;
  const long number = strtol(text, &end, 10);
  if (*text < '0' || *text > '9' || *end || number < 2 || number > SHMCCL_MAX_RANKS) return false;
  *nranks = (int)number;
  return true;
}

static int show(int nranks, bool json) {
  static struct info info;
  info_gather(&info, nranks);
  json ? info_print_json(&info) : info_print_text(&info);
  if (fflush(stdout) || ferror(stdout)) {
    fprintf(stderr, "shmccl-info: cannot write to standard output: %m\n");
    return EXIT_TROUBLE;
  }
  return info.all_well ? EXIT_OK : EXIT_TROUBLE;
}

int main(int argc, char **argv) {
  int nranks = 0;
  bool json = false;
  for (int i = 1; i < argc; i++) {
    const char *word = argv[i], *value = NULL;
    if (!strcmp(word, "-h") || !strcmp(word, "--help")) return fputs(help, stdout) < 0;
    if (!strcmp(word, "--version")) {
      printf("shmccl-info %d.%d.%d\n", SHMCCL_VERSION_MAJOR, SHMCCL_VERSION_MINOR, SHMCCL_VERSION_PATCH);
      return EXIT_OK;
    }
    if (!strcmp(word, "--ranks"))
      value = argv[++i] ? argv[i] : "";
    else if (!strncmp(word, "--ranks=", 8))
      value = word + 8;
    else if (!strcmp(word, "--json"))
      json = true;
    else
      return complain(word, NULL, "no such flag; shmccl-info --help lists them");
    if (value && !parse_ranks(value, &nranks)) return complain("--ranks", value, "must be a whole number from 2 to 64");
  }
  return show(nranks, json);
}
