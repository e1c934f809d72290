/*
 * Flags as in nccl-tests, with their meaning, and a few of our own.
 */
#include "options.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

const char *const peer_names[] = {"openmpi", "mpich", NULL};

enum { MAX_BYTES_SHIFT = 46 };

enum flag_kind {
  FLAG_SIZE,   /* bytes with a suffix */
  FLAG_NUMBER, /* low..high */
  FLAG_ROOT,   /* low..high, or all */
  FLAG_NAME,   /* one of names, or all */
  FLAG_PEER,
  FLAG_SWITCH,
  FLAG_HELP,
  FLAG_VERSION
};

struct flag {
  const char *letter; /* "" if there is none */
  const char *name;
  const char *value;
  enum flag_kind kind;
  size_t offset;
  int64_t low;
  int64_t high;
  const char *const *names;
  const char *help;
};

#define AT(field) offsetof(struct options, field)
static const struct flag flags[] = {
    {"", "ranks", "N", FLAG_NUMBER, AT(ranks), 1, SHMCCL_MAX_RANKS, NULL, "start N ranks, each a process [4]"},
    {"t", "nthreads", "N", FLAG_NUMBER, AT(threads), 1, SHMCCL_MAX_RANKS, NULL,
     "start N ranks, each a thread of one process, instead"},
    {"b", "minbytes", "SIZE", FLAG_SIZE, AT(minbytes), 1, 1ll << MAX_BYTES_SHIFT, NULL, "smallest size [8]"},
    {"e", "maxbytes", "SIZE", FLAG_SIZE, AT(maxbytes), 1, 1ll << MAX_BYTES_SHIFT, NULL, "largest size [64M]"},
    {"f", "stepfactor", "N", FLAG_NUMBER, AT(stepfactor), 2, 1 << 16, NULL,
     "multiply the size by N from row to row [2]"},
    {"i", "stepbytes", "SIZE", FLAG_SIZE, AT(stepbytes), 1, 1ll << MAX_BYTES_SHIFT, NULL,
     "add SIZE from row to row, instead"},
    {"n", "iters", "N", FLAG_NUMBER, AT(iters), 1, 1000000000, NULL,
     "timed iterations a round [as many as fill about 30 ms]"},
    {"w", "warmup_iters", "N", FLAG_NUMBER, AT(warmup), 0, 1000000000, NULL,
     "iterations before those, not timed [1 to 5]"},
    {"", "rounds", "N", FLAG_NUMBER, AT(rounds), 1, 1001, NULL,
     "rounds of a row; the median of their times counts [5]"},
    {"c", "check", "0|1", FLAG_NUMBER, AT(check), 0, 1, NULL, "compare every element of one run of each row [1]"},
    {"d", "datatype", "TYPE", FLAG_NAME, AT(type), 0, 0, type_names, "type, or all [float]"},
    {"o", "op", "OP", FLAG_NAME, AT(op), 0, 0, op_names, "operator of reductions, or all [sum]"},
    {"r", "root", "RANK", FLAG_ROOT, AT(root), 0, SHMCCL_MAX_RANKS - 1, NULL, "root of rooted collectives, or all [0]"},
    {"", "peer", "MPI", FLAG_PEER, 0, 0, 0, peer_names,
     "measure this MPI too, in turns, in the same run; mpi: every one built"},
    {"", "no-pin", NULL, FLAG_SWITCH, AT(no_pin), 0, 0, NULL,
     "leave ranks to the scheduler [a core each, if they suffice]"},
    {"h", "help", NULL, FLAG_HELP, 0, 0, 0, NULL, "print this"},
    {"", "version", NULL, FLAG_VERSION, 0, 0, 0, NULL, "print the versions of this program and of the library"},
};
enum { FLAG_COUNT = sizeof flags / sizeof *flags };

/* In a job, only the first process complains. */
static bool is_first_process(void) {
  static const char *const names[] = {"RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID", "SHMCCL_RANK"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (getenv(names[i])) return atoi(getenv(names[i])) == 0;
  return true;
}

static bool in_a_job(void) {
  return (getenv("RANK") && getenv("WORLD_SIZE")) || getenv("OMPI_COMM_WORLD_RANK") || getenv("PMI_RANK") ||
         getenv("SLURM_PROCID") || getenv("SHMCCL_RANK");
}

__attribute__((format(printf, 1, 2))) static bool complain(const char *format, ...) {
  if (!is_first_process()) return false;
  va_list args;
  va_start(args, format);
  fputs("shmccl-perf: ", stderr);
  vfprintf(stderr, format, args);
  fputc('\n', stderr);
  va_end(args);
  return false;
}

const char *size_text(char *text, double bytes) {
  static const char units[] = " KMGTP";
  int unit = 0;
  for (; bytes >= 1024 && unit < 5; unit++) bytes /= 1024;
  if (unit)
    snprintf(text, 24, "%.4g%c", bytes, units[unit]);
  else
    snprintf(text, 24, "%.0f", bytes);
  return text;
}

/* The names, joined: "a, b or all". */
static const char *list_text(char *text, size_t size, const char *const *names, const char *last) {
  size_t used = 0;
  text[0] = '\0';
  for (int i = 0; names[i] && used < size; i++)
    used += (size_t)snprintf(text + used, size - used, "%s%s", i ? ", " : "", names[i]);
  if (used < size) snprintf(text + used, size - used, " or %s", last);
  return text;
}

static bool parse_number(const char *text, int64_t *value) {
  char *end;
  errno = 0;
  long long number = strtoll(text, &end, 10);
  *value = number;
  return isdigit((unsigned char)text[0]) && !*end && !errno;
}

static bool parse_size(const char *text, int64_t *value) {
  static const char units[] = "KMGT";
  char *end;
  double number = strtod(text, &end);
  if (!isdigit((unsigned char)text[0]) || number > 1e18) return false;
  const char *unit = *end ? strchr(units, toupper((unsigned char)*end)) : NULL;
  if (unit) {
    number *= (double)(1ll << 10 * (unit - units + 1));
    end++;
  }
  if (unit && !strcasecmp(end, "iB"))
    end += 2;
  else if (!strcasecmp(end, "B"))
    end++;
  *value = number < 1e18 ? (int64_t)number : INT64_MAX;
  return !*end;
}

static bool set_size(const struct flag *flag, const char *given, const char *text, int64_t *value) {
  char low[24], high[24];
  if (parse_size(text, value) && *value >= flag->low && *value <= flag->high) return true;
  return complain("%s %s: not a size: a number of bytes, with K, M, G or T for powers of 1024, from %s to %s", given,
                  text, size_text(low, (double)flag->low), size_text(high, (double)flag->high));
}

static bool set_number(const struct flag *flag, const char *given, const char *text, int64_t *value) {
  if (parse_number(text, value) && *value >= flag->low && *value <= flag->high) return true;
  return complain("%s %s: must be a whole number from %lld to %lld%s", given, text, (long long)flag->low,
                  (long long)flag->high, flag->kind == FLAG_ROOT ? ", or all" : "");
}

static bool set_name(const struct flag *flag, const char *given, const char *text, int64_t *value) {
  char list[256];
  *value = -1;
  if (!strcmp(text, "all")) return true;
  for (int i = 0; flag->names[i]; i++)
    if (!strcmp(text, flag->names[i])) *value = i;
  return *value >= 0 || complain("%s %s: must be %s", given, text, list_text(list, sizeof list, flag->names, "all"));
}

static bool set_peer(const struct flag *flag, const char *given, const char *text, struct options *options) {
  char list[64];
  bool known = false;
  for (int i = 0; flag->names[i]; i++)
    if (!strcmp(text, "mpi") || !strcmp(text, flag->names[i])) known = options->peers[i] = true;
  return known || complain("%s %s: must be %s", given, text, list_text(list, sizeof list, flag->names, "mpi"));
}

static bool set_flag(const struct flag *flag, const char *given, const char *text, struct options *options) {
  int64_t *value = (int64_t *)((char *)options + flag->offset);
  switch (flag->kind) {
  case FLAG_SIZE: return set_size(flag, given, text, value);
  case FLAG_NUMBER: return set_number(flag, given, text, value);
  case FLAG_NAME: return set_name(flag, given, text, value);
  case FLAG_PEER: return set_peer(flag, given, text, options);
  case FLAG_ROOT: *value = -1; return !strcmp(text, "all") || set_number(flag, given, text, value);
  default: *value = 1; return true;
  }
}

static void print_version(void) {
  int library = shmccl_version();
  printf("shmccl-perf %d.%d.%d (libshmccl %d.%d.%d)\n", SHMCCL_VERSION_MAJOR, SHMCCL_VERSION_MINOR,
         SHMCCL_VERSION_PATCH, library / 10000, library / 100 % 100, library % 100);
}

static void print_flags(void) {
  for (const struct flag *flag = flags; flag < flags + FLAG_COUNT; flag++) {
    char left[48];
    snprintf(left, sizeof left, "%s%s%s--%s%s%s", *flag->letter ? "-" : "  ", flag->letter, *flag->letter ? ", " : "  ",
             flag->name, flag->value ? " " : "", flag->value ? flag->value : "");
    printf("  %-26s %s\n", left, flag->help);
  }
}

static void print_help(void) {
  char types[256], ops[64], peers[64];
  puts("usage: shmccl-perf [flags] [collective ...]\n\n"
       "Measures and checks the collectives of libshmccl between ranks of this host, in the flags, units and columns "
       "of\n"
       "nccl-tests. It starts its ranks itself; started by torchrun, mpirun or srun without --ranks or -t, it joins "
       "that\n"
       "job's ranks instead.\n\nCollectives [all_reduce]:");
  for (int i = 0; i < COLL_COUNT; i++)
    if (strcmp(colls[i].name, colls[i].alias))
      printf("  %s (or %s)\n", colls[i].name, colls[i].alias);
    else
      printf("  %s\n", colls[i].name);
  puts("  all\n\nFlags [defaults]:");
  print_flags();
  printf("\nSIZE is in bytes, with K, M, G or T for powers of 1024. It is the larger of a rank's sendbuf and recvbuf.\n"
         "TYPE: %s\nOP: %s\nMPI: %s\n",
         list_text(types, sizeof types, type_names, "all"), list_text(ops, sizeof ops, op_names, "all"),
         list_text(peers, sizeof peers, peer_names, "mpi"));
  puts("\nColumns, out of place and in place:\n"
       "  time    us for one call, averaged over iterations and ranks\n"
       "  algbw   size / time, in 10^9 bytes a second\n"
       "  busbw   algbw times the share of the size that must pass between ranks: 2(n-1)/n for all_reduce, (n-1)/n "
       "where\n"
       "          buffers hold a block per rank, 1 otherwise\n"
       "  #wrong  elements that differ from the known result, and bytes written out of bounds\n"
       "  bound   the least time that this machine allows, from limits measured in the same run; the header has them\n"
       "  peer    that MPI's time for the same call, and how many of our calls fit into one of its\n\n"
       "Exit code: 0 all right; 1 wrong results or a rank failed; 2 bad flags; 130 interrupted.\n\n"
       "Examples:\n"
       "  shmccl-perf --ranks 4 -b 8 -e 64M -f 2 all_reduce all_gather\n"
       "  shmccl-perf --ranks 2 --peer mpi all_reduce      beside Open MPI and MPICH\n"
       "  shmccl-perf -t 4 -d all -o all -b 1M -e 1M all   everything at one size, ranks as threads\n"
       "  mpirun -n 4 shmccl-perf -e 1M reduce_scatter     as the ranks of an MPI job");
}

/* Finds the flag of `--name`, `--name=value`, `-x` or `-xvalue`; *attached is the value in the same word, if any. */
static const struct flag *find_flag(const char *word, const char **attached) {
  bool is_long = word[1] == '-';
  *attached = NULL;
  for (const struct flag *flag = flags; flag < flags + FLAG_COUNT; flag++) {
    const char *name = is_long ? flag->name : flag->letter, *given = word + 1 + is_long;
    size_t length = strlen(name);
    if (!length || strncmp(given, name, length)) continue;
    if (is_long && given[length] && given[length] != '=') continue;
    if (given[length]) *attached = given + length + is_long;
    return flag;
  }
  return NULL;
}

static bool add_coll(struct options *options, int coll) {
  for (int i = 0; i < options->ncolls; i++)
    if (options->colls[i] == coll) return true;
  options->colls[options->ncolls++] = coll;
  return true;
}

static bool add_colls(struct options *options, const char *word) {
  int coll = coll_find(word);
  if (coll >= 0) return add_coll(options, coll);
  if (strcmp(word, "all"))
    return complain(
        "%s: no such collective; must be all_reduce, all_gather, reduce_scatter, broadcast, reduce, alltoall, "
        "gather, scatter, sendrecv or all",
        word);
  for (int i = 0; i < COLL_COUNT; i++) add_coll(options, i);
  return true;
}

/* Parses the word at argv[*i]; steps on to its value where that is a word of its own. */
static enum options_result parse_word(struct options *options, int argc, char **argv, int *i) {
  const char *word = argv[*i], *text;
  if (word[0] != '-' || !word[1]) return add_colls(options, word) ? OPTIONS_RUN : OPTIONS_BAD;
  const struct flag *flag = find_flag(word, &text);
  if (!flag) {
    complain("%s: no such flag; shmccl-perf --help lists them", word);
    return OPTIONS_BAD;
  }
  if (!flag->value && text) {
    complain("%s: --%s takes no value", word, flag->name);
    return OPTIONS_BAD;
  }
  if (flag->kind == FLAG_HELP || flag->kind == FLAG_VERSION) {
    if (!is_first_process()) return OPTIONS_DONE;
    if (flag->kind == FLAG_HELP)
      print_help();
    else
      print_version();
    return OPTIONS_DONE;
  }
  if (flag->value && !text && ++*i == argc) {
    complain("%s: needs a value: %s", word, flag->value);
    return OPTIONS_BAD;
  }
  char given[32];
  snprintf(given, sizeof given, "%.*s", text ? (int)(text - word) : 31, word);
  if (text && given[1] == '-') given[text - word - 1] = '\0'; /* the = of --name=value */
  return set_flag(flag, given, text ? text : argv[*i], options) ? OPTIONS_RUN : OPTIONS_BAD;
}

static bool check_together(struct options *o) {
  bool peer = false;
  for (int i = 0; i < PEER_COUNT; i++) peer |= o->peers[i];
  if (o->ranks > 0 && o->threads > 0) return complain("--ranks and -t exclude each other: give one of them");
  if (o->stepfactor > 0 && o->stepbytes > 0) return complain("-f and -i exclude each other: give one of them");
  if (o->minbytes > o->maxbytes)
    return complain("-b %lld is more than -e %lld", (long long)o->minbytes, (long long)o->maxbytes);
  o->joined = o->ranks < 0 && o->threads < 0 && in_a_job();
  if (o->joined && peer)
    return complain("--peer: impossible as a rank of a job; start shmccl-perf by itself, with --ranks");
  if (o->ranks < 0) o->ranks = o->threads > 0 ? o->threads : 4;
  if (o->stepfactor < 0 && o->stepbytes < 0) o->stepfactor = 2;
  if (!o->ncolls) add_coll(o, COLL_ALL_REDUCE);
  return true;
}

enum options_result options_parse(struct options *options, int argc, char **argv) {
  *options = (struct options){.ranks = -1,
                              .threads = -1,
                              .minbytes = 8,
                              .maxbytes = 64 << 20,
                              .stepfactor = -1,
                              .stepbytes = -1,
                              .iters = -1,
                              .warmup = -1,
                              .check = 1,
                              .type = SHMCCL_FLOAT32,
                              .op = SHMCCL_SUM,
                              .rounds = 5};
  for (int i = 1; i < argc; i++) {
    enum options_result result = parse_word(options, argc, argv, &i);
    if (result != OPTIONS_RUN) return result;
  }
  return check_together(options) ? OPTIONS_RUN : OPTIONS_BAD;
}

/* What the kernel says can be allocated without swapping, or the cgroup's limit if that is lower; 0 if unknown. */
static double memory_available(void) {
  double available = 0, limit;
  char line[128];
  FILE *file = fopen("/proc/meminfo", "re");
  while (file && fgets(line, sizeof line, file))
    if (sscanf(line, "MemAvailable: %lf kB", &available) == 1) available *= 1024;
  if (file) fclose(file);
  file = fopen("/sys/fs/cgroup/memory.max", "re");
  if (file && fscanf(file, "%lf", &limit) == 1 && limit < available) available = limit;
  if (file) fclose(file);
  return available;
}

bool options_fit(const struct options *options, int nranks) {
  char need[24], have[24], size[24];
  if (options->root >= nranks)
    return complain("-r %lld: must be a rank from 0 to %d, or all", (long long)options->root, nranks - 1);
  int parties = 1;
  for (int i = 0; i < PEER_COUNT; i++) parties += options->peers[i];
  double bytes = 2.0 * (double)options->maxbytes * nranks * parties, available = memory_available();
  if (!available || bytes <= 0.9 * available) return true;
  return complain(
      "-e %s: two such buffers for each of %d ranks%s need %s bytes of memory, %s are available: lower -e or "
      "the number of ranks",
      size_text(size, (double)options->maxbytes), nranks, parties > 1 ? " (peers' too)" : "", size_text(need, bytes),
      size_text(have, available));
}
