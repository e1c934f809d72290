/*
 * nccl.c - environments, and the model.
 */
#include "nccl.h"

#include <dlfcn.h>
#include <glob.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

bool peer_is_nccl(int peer) { return peer >= PEER_NCCL_SHM && peer <= PEER_NCCL_PLUGIN; }

static bool share_gpus(const struct options *options) { return options->gpus.count < options->ranks; }

const char *nccl_hindrance(const struct options *options, int peer) {
  static char text[96];
  if (peer == PEER_NCCL_PLUGIN || !share_gpus(options)) return NULL;
  snprintf(text, sizeof text, "NCCL's SHM transport needs a GPU for each rank: %lld ranks on %d GPU%s",
           (long long)options->ranks, options->gpus.count, options->gpus.count > 1 ? "s" : "");
  return text;
}

/* ---- what a rank is told ----------------------------------------------------------------------------------------- */

/* The plugin lies beside the library, or, where both were built, in a folder of its own beneath. */
static void add_plugin_folder(void) {
  static const char *const places[] = {"", "/plugin"};
  const char *before = getenv("LD_LIBRARY_PATH"), *slash;
  char path[PATH_MAX], *both;
  Dl_info info;
  void *symbol = dlsym(RTLD_DEFAULT, "shmccl_version");
  if (!symbol || !dladdr(symbol, &info) || !(slash = strrchr(info.dli_fname, '/'))) return;
  for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
    const int length = (int)(slash - info.dli_fname);
    snprintf(path, sizeof path, "%.*s%s/libnccl-net-shmccl.so", length, info.dli_fname, places[i]);
    if (access(path, R_OK)) continue;
    *strrchr(path, '/') = '\0';
    if (asprintf(&both, "%s%s%s", path, before ? ":" : "", before ? before : "") < 0) return;
    setenv("LD_LIBRARY_PATH", both, 1);
    free(both);
    return;
  }
}

/* SHM is disabled by the plugin itself, too, where it sees that GPUs do not reach each other. Ranks that share a GPU
 * are made hosts of their own: NCCL refuses them otherwise. */
static void use_plugin(const struct options *options, int rank) {
  char host[32];
  snprintf(host, sizeof host, "shmccl-perf-%d", rank);
  add_plugin_folder();
  setenv("NCCL_NET_PLUGIN", "shmccl", 1);
  setenv("NCCL_NET", "shmccl", 1);
  setenv("NCCL_SHM_DISABLE", "1", 1);
  if (share_gpus(options)) setenv("NCCL_HOSTID", host, 1);
}

static void use_shm(int peer) {
  setenv("NCCL_NET_PLUGIN", "none", 1);
  unsetenv("NCCL_NET");
  unsetenv("NCCL_SHM_DISABLE");
  unsetenv("NCCL_HOSTID");
  if (peer == PEER_NCCL_TUNED) setenv("NCCL_MIN_NCHANNELS", "8", 0);
}

void nccl_set_environment(const struct options *options, int peer, int rank) {
  setenv("NCCL_P2P_DISABLE", "1", 1);
  if (peer == PEER_NCCL_PLUGIN)
    use_plugin(options, rank);
  else
    use_shm(peer);
}

/* ---- what a rank leaves ------------------------------------------------------------------------------------------ */

/* A line of a file of /proc that names an NCCL segment: "... (deleted)" has no name any more. */
static void remove_if_segment(char *line) {
  char *name = strstr(line, "/dev/shm/nccl-");
  line[strcspn(line, "\n")] = '\0';
  if (name && !strchr(name, ' ')) unlink(name);
}

static void remove_open(pid_t pid) {
  char pattern[64], line[512];
  glob_t files;
  snprintf(pattern, sizeof pattern, "/proc/%d/fd/*", (int)pid);
  if (glob(pattern, 0, NULL, &files)) return;
  for (size_t i = 0; i < files.gl_pathc; i++) {
    ssize_t length = readlink(files.gl_pathv[i], line, sizeof line - 1);
    line[length > 0 ? length : 0] = '\0';
    remove_if_segment(line);
  }
  globfree(&files);
}

static void remove_mapped(pid_t pid) {
  char path[64], line[512];
  snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
  FILE *maps = fopen(path, "re");
  while (maps && fgets(line, sizeof line, maps)) remove_if_segment(line);
  if (maps) fclose(maps);
}

void nccl_remove_segments(pid_t pid) {
  const struct timespec pause = {.tv_nsec = 1000000};
  int status;
  kill(pid, SIGSTOP); /* so that it makes no others */
  for (int i = 0; i < 1000 && !waitpid(pid, &status, WUNTRACED | WNOHANG); i++) nanosleep(&pause, NULL);
  remove_open(pid);
  remove_mapped(pid);
}

/* ---- the model --------------------------------------------------------------------------------------------------- */

bool nccl_needs_model(const struct options *options) { return options->peers[PEER_NCCL_SHM] && share_gpus(options); }

static const struct protocol {
  double start, hop; /* seconds */
  double overhead;   /* bytes sent for a byte */
} protocols[] = {{6.6e-6, 1.0e-6, 2}, {8.4e-6, 5.7e-6, 1}};

/* In units of the call's count. A chain begins or ends at the root. */
static struct link_bytes ring_blocks(const struct point *point, int n, int rank) {
  const double others = n - 1;
  const int place = (rank - point->root + n) % n; /* behind the root */
  switch (point->coll) {
  case COLL_ALL_REDUCE: return (struct link_bytes){2 * others / n, 2 * others / n};
  case COLL_BROADCAST: return (struct link_bytes){place != n - 1, place != 0};
  case COLL_REDUCE: return (struct link_bytes){place != 0, place != 1};
  default: return (struct link_bytes){others, others};
  }
}

double nccl_model_seconds(const struct link *link, const struct point *point, int nranks) {
  const double unit = (double)point->count * (double)type_bytes(point->type);
  const int hops = (point->coll == COLL_ALL_REDUCE ? 2 : 1) * (nranks - 1);
  struct link_bytes bytes[SHMCCL_MAX_RANKS];
  double best = INFINITY;
  if (point->coll > COLL_REDUCE || nranks < 2) return 0;
  for (int rank = 0; rank < nranks; rank++) {
    const struct link_bytes blocks = ring_blocks(point, nranks, rank);
    bytes[rank] = (struct link_bytes){blocks.out * unit, blocks.in * unit};
  }
  const double transfer = link_transfer_seconds(link, bytes, nranks);
  for (const struct protocol *p = protocols; p < protocols + 2; p++)
    best = fmin(best, p->start + hops * p->hop + p->overhead * transfer);
  return best;
}
