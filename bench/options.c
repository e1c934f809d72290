/*
 * From words to options, and what is wrong with them.
 */
#include "flags.h"
#include "nccl.h"
#include "party.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

int options_job_rank(void) {
  static const char *const names[] = {"RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID", "SHMCCL_RANK"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (getenv(names[i])) return atoi(getenv(names[i]));
  return 0;
}

static bool in_a_job(void) {
  return (getenv("RANK") && getenv("WORLD_SIZE")) || getenv("OMPI_COMM_WORLD_RANK") || getenv("PMI_RANK") ||
         getenv("SLURM_PROCID") || getenv("SHMCCL_RANK");
}

__attribute__((format(printf, 1, 2))) static bool complain(const char *format, ...) {
  if (options_job_rank()) return false; /* in a job, only the first process complains */
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

static bool parse_number(const char *text, int64_t *value) {
  char *end;
  errno = 0;
  long long number = strtoll(text, &end, 10);
  *value = number;
  return isdigit((unsigned char)text[0]) && !*end && !errno;
}

static bool parse_size(const char *text, int64_t *value) {
  static const char units[] = "KMGT";
  char digits[24], *end;
  const char *rest = text + strspn(text, "0123456789."); /* strtod() would take 0x10 and 1e3 too */
  snprintf(digits, sizeof digits, "%.*s", (int)(rest - text), text);
  double number = strtod(digits, &end);
  if (!isdigit((unsigned char)text[0]) || *end || number > 1e18) return false;
  const char *unit = *rest ? strchr(units, toupper((unsigned char)*rest)) : NULL;
  if (unit) {
    number *= (double)(1ll << 10 * (unit - units + 1));
    rest++;
  }
  if (unit && !strcasecmp(rest, "iB"))
    rest += 2;
  else if (!strcasecmp(rest, "B"))
    rest++;
  *value = number < 1e18 ? (int64_t)number : INT64_MAX;
  return !*rest;
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

/* FLAG_NAME: or all. */
static bool set_name(const struct flag *flag, const char *given, const char *text, int64_t *value) {
  const char *last = flag->kind == FLAG_NAME ? "all" : NULL;
  char list[256];
  *value = -1;
  if (last && !strcmp(text, last)) return true;
  for (int i = 0; flag->names[i]; i++)
    if (!strcmp(text, flag->names[i])) *value = i;
  return *value >= 0 || complain("%s %s: must be %s", given, text, list_text(list, sizeof list, flag->names, last));
}

/* By which several peers may be asked for at once. */
static const char *kind_of_peer(int peer) {
  return peer_is_nccl(peer) ? "nccl" : peer <= PEER_MPICH ? "mpi" : peer_names[peer];
}

static bool set_peer(const struct flag *flag, const char *given, const char *text, struct options *options) {
  char list[96];
  bool known = false;
  for (int i = 0; flag->names[i]; i++)
    if (!strcmp(text, flag->names[i]) || !strcmp(text, kind_of_peer(i))) known = options->peers[i] = true;
  return known ||
         complain("%s %s: must be mpi, nccl, %s", given, text, list_text(list, sizeof list, flag->names, NULL));
}

/* Numbers of ranks, separated by commas. */
static bool set_ranks(const struct flag *flag, const char *given, const char *text, struct options *options) {
  options->nrank_counts = 0;
  for (const char *from = text, *to; from; from = *to ? to + 1 : NULL) {
    char word[24];
    int64_t number;
    to = from + strcspn(from, ",");
    snprintf(word, sizeof word, "%.*s", (int)(to - from), from);
    if (options->nrank_counts == RANK_COUNTS_MOST)
      return complain("%s %s: more than %d numbers", given, text, RANK_COUNTS_MOST);
    if (!set_number(flag, given, word, &number)) return false;
    options->rank_counts[options->nrank_counts++] = number;
  }
  options->ranks = options->rank_counts[0];
  return true;
}

static bool set_text(const struct flag *flag, const char *given, const char *text, struct options *options) {
  if (!*text) return complain("%s: needs a value: %s", given, flag->value);
  *(const char **)(void *)((char *)options + flag->offset) = text;
  return true;
}

static bool set_flag(const struct flag *flag, const char *given, const char *text, struct options *options) {
  int64_t *value = (int64_t *)(void *)((char *)options + flag->offset);
  options->given |= 1ull << (flag - flags);
  switch (flag->kind) {
  case FLAG_SIZE: return set_size(flag, given, text, value);
  case FLAG_NUMBER: return set_number(flag, given, text, value);
  case FLAG_NAME:
  case FLAG_CHOICE: return set_name(flag, given, text, value);
  case FLAG_PEER: return set_peer(flag, given, text, options);
  case FLAG_RANKS: return set_ranks(flag, given, text, options);
  case FLAG_TEXT: return set_text(flag, given, text, options);
  case FLAG_ROOT: *value = -1; return !strcmp(text, "all") || set_number(flag, given, text, value);
  default: *value = 1; return true;
  }
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
    if (options_job_rank()) return OPTIONS_DONE;
    if (flag->kind == FLAG_HELP)
      help_print();
    else
      help_print_version();
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

static bool check_tuning(struct options *o) {
  static const int64_t default_counts[] = {2, 4};
  for (int i = 0; i < FLAG_COUNT; i++)
    if (o->given >> i & 1 && !flags[i].tunes)
      return complain("--tune chooses what it runs: leave out --%s", flags[i].name);
  if (o->ncolls) return complain("--tune chooses what it runs: leave out %s", colls[o->colls[0]].name);
  if (o->maxbytes < 64 << 10) return complain("--tune needs sizes up to 64K at least: raise -e");
  for (int i = 0; i < o->nrank_counts; i++)
    if (o->rank_counts[i] < 2) return complain("--ranks 1: --tune needs two ranks or more");
  if (o->nrank_counts) return true;
  memcpy(o->rank_counts, default_counts, sizeof default_counts);
  o->nrank_counts = sizeof default_counts / sizeof *default_counts;
  return true;
}

static bool check_messages(const struct options *o) {
  for (int i = 0; i < o->ncolls && o->messages > 1; i++)
    if (o->colls[i] != COLL_SENDRECV)
      return complain("-m %lld: groups of this library hold sends and receives only: use it with sendrecv, not %s",
                      (long long)o->messages, colls[o->colls[i]].name);
  if (o->graphs && o->each) return complain("-I times single calls, -G graphs of many: give one of them");
  if (o->skip && !o->each) return complain("-K leaves out iterations of -I 1: give both");
  if (o->each && o->iters > EACH_MOST)
    return complain("-n %lld: with -I 1 a round has %d iterations at most", (long long)o->iters, EACH_MOST);
  if (o->iters > 0 && o->iters <= o->skip)
    return complain("-K %lld leaves nothing of -n %lld iterations", (long long)o->skip, (long long)o->iters);
  return true;
}

static bool check_library(const char *flag, const char *path) {
  FILE *file = path ? fopen(path, "re") : NULL;
  char magic[4] = "";
  if (!path) return true;
  if (!file) return complain("%s %s: %s", flag, path, strerror(errno));
  bool elf = fread(magic, sizeof magic, 1, file) == 1 && !memcmp(magic, "\177ELF", sizeof magic);
  fclose(file);
  return elf || complain("%s %s: is no shared library", flag, path);
}

static bool check_beside(struct options *o) {
  bool beside = o->library || o->against;
  o->peers[PEER_AGAINST] = o->against;
  for (int i = 0; i < PEER_COUNT; i++) beside |= o->peers[i];
  if (o->joined && beside)
    return complain("--peer, --library and --against: impossible as a rank of a job; start shmccl-perf by itself, with "
                    "--ranks");
  if (o->threads > 0 && (o->library || o->against))
    return complain("--library and --against need ranks that are processes: --ranks instead of -t");
  return check_library("--library", o->library) && check_library("--against", o->against);
}

static bool check_together(struct options *o) {
  if (o->ranks > 0 && o->threads > 0) return complain("--ranks and -t exclude each other: give one of them");
  if (o->stepfactor > 0 && o->stepbytes > 0) return complain("-f and -i exclude each other: give one of them");
  if (o->minbytes > o->maxbytes)
    return complain("-b %lld is more than -e %lld", (long long)o->minbytes, (long long)o->maxbytes);
  if (o->tune && !check_tuning(o)) return false;
  if (!o->tune && o->nrank_counts > 1) return complain("--ranks takes several numbers with --tune only");
  o->joined = o->ranks < 0 && o->threads < 0 && !o->tune && in_a_job();
  if (!check_beside(o)) return false;
  if (o->rounds < 0) o->rounds = o->tune ? 9 : 5;
  if (o->ranks < 0) o->ranks = o->threads > 0 ? o->threads : 4;
  if (o->stepfactor < 0 && o->stepbytes < 0) o->stepfactor = 2;
  if (!o->ncolls) add_coll(o, o->messages > 1 ? COLL_SENDRECV : COLL_ALL_REDUCE);
  return check_messages(o);
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
                              .messages = 1,
                              .average = AVERAGE_MEAN,
                              .cycles = 1,
                              .timeout = PARTY_LIMIT_SECONDS,
                              .check = 1,
                              .type = SHMCCL_FLOAT32,
                              .op = SHMCCL_SUM,
                              .rounds = -1,
                              .memory = -1,
                              .argc = argc,
                              .argv = argv};
  for (int i = 1; i < argc; i++) {
    enum options_result result = parse_word(options, argc, argv, &i);
    if (result != OPTIONS_RUN) return result;
  }
  return check_together(options) ? OPTIONS_RUN : OPTIONS_BAD;
}

/* The first thing asked for that only knows host memory, or only GPUs'; NULL if there is none. */
static const char *only_on(const struct options *o, int memory) {
  for (int i = 0; i < PEER_AGAINST; i++)
    if (o->peers[i] && peer_is_nccl(i) == (memory == MEMORY_CUDA)) return peer_names[i];
  return NULL;
}

bool options_choose_memory(struct options *o) {
  const char *host = o->tune ? "--tune" : only_on(o, MEMORY_HOST), *cuda = only_on(o, MEMORY_CUDA);
  if (host && cuda) return complain("%s is for host memory, %s for GPUs: leave out one of them", host, cuda);
  if (host && o->memory == MEMORY_CUDA) return complain("--memory cuda: %s is for host memory: leave out one", host);
  if (cuda && o->memory == MEMORY_HOST) return complain("--memory host: %s is for GPUs: leave out one", cuda);
  if (host) o->memory = MEMORY_HOST;
  if (cuda) o->memory = MEMORY_CUDA;
  if (o->memory != MEMORY_HOST) gpu_find(&o->gpus);
  if (o->memory == MEMORY_CUDA && !o->gpus.count)
    return complain("%s: %s", cuda ? cuda : "--memory cuda", o->gpus.missing);
  if (o->memory < 0) o->memory = o->gpus.count ? MEMORY_CUDA : MEMORY_HOST;
  if (o->graphs && o->memory == MEMORY_HOST)
    return complain("-G: graphs are for ranks on GPUs: %s",
                    *o->gpus.missing ? o->gpus.missing : "needs --memory cuda, without --peer mpi or gloo");
  return true;
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

size_t options_buffer_bytes(const struct options *o) {
  return (size_t)o->maxbytes * (size_t)o->messages + (size_t)o->unalign * sizeof(double);
}

bool options_fit(const struct options *options, int nranks) {
  char need[24], have[24], size[24];
  if (options->root >= nranks)
    return complain("-r %lld: must be a rank from 0 to %d, or all", (long long)options->root, nranks - 1);
  int parties = options->tune ? 2 : 1;
  for (int i = 0; i < PEER_COUNT; i++) parties += options->peers[i];
  double bytes = 2.0 * (double)options_buffer_bytes(options) * nranks * parties, available = memory_available();
  if (!available || bytes <= 0.9 * available) return true;
  return complain(
      "-e %s: two such buffers for each of %d ranks%s need %s bytes of memory, %s are available: lower -e or "
      "the number of ranks",
      size_text(size, (double)options->maxbytes), nranks, parties > 1 ? " (peers' too)" : "", size_text(need, bytes),
      size_text(have, available));
}
