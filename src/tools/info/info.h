/*
 * info.h - what shmccl-info shows: gathered into one struct, printed as text or as JSON.
 *
 * gather.c asks the machine and the library, choice.c the library's selection, tree.c hwloc; text.c and json.c print.
 */
#ifndef INFO_H
#define INFO_H

#include <stdbool.h>
#include <stdint.h>

#include "base/variables.h"
#include "comm/comm.h"
#include "topo/topo.h"

enum { TEXT = 256, SETTINGS_MOST = 64, CHOICES_MOST = 64, NODES_MOST = 64, DEFAULT_RANKS = 4 };

struct build {
  const char *version, *compiler, *type, *cuda, *hwloc;
};

struct node {
  int index;
  uint64_t memory_bytes;
  char cpus[TEXT];
};

struct machine {
  char kernel[TEXT], cpu[TEXT], isa[16], hwloc[32]; /* hwloc: what was found, "" without */
  bool wsl2;
  int cpus_online, cpus_usable;
  uint32_t quota; /* CPUs' worth; UINT32_MAX: none */
  struct shmi_caches caches;
  int nnodes; /* 0: unknown */
  struct node nodes[NODES_MOST];
};

struct folder {
  const char *path;
  bool found, is_tmpfs;
  uint64_t bytes, free_bytes;
};

/* A variable, or a threshold of the tuning file. */
struct setting {
  const char *name, *initial, *unit, *meaning;
  char value[TEXT];
  const char *origin; /* "default", "environment", "launcher", "tuning file", "invalid" */
};

/* How a collective of `first_bytes` to `last_bytes` moves its data; the last row of a collective is open upward. */
struct choice {
  const char *collective, *algorithm;
  uint64_t first_bytes, last_bytes;
  bool is_last, beside_flag, one_step;
  uint64_t chunk_least, chunk_most; /* bytes that a rank stages in a step */
};

struct info {
  int nranks;
  struct build build;
  struct machine machine;
  struct folder folder;
  const char *launcher; /* NULL: none */
  int nsettings;
  struct setting settings[SETTINGS_MOST];
  shmi_options_t options;
  bool planned; /* whether the folder has room; the rest holds if it has */
  struct shmi_header plan;
  bool oversubscribed;
  int nchoices;
  struct choice choices[CHOICES_MOST];
  bool all_well; /* no invalid setting, and planned */
};

/* nranks: 0 for what a launcher says, else DEFAULT_RANKS. What is wrong has been logged by the library. */
void info_gather(struct info *info, int nranks);
void info_choose(struct info *info);

/* Calls line() for each line of the topology, from the outside in; depth: how far in; is_last: no brother follows. */
typedef void (*info_line_fn)(void *context, int depth, bool is_last, const char *text);
void info_tree(info_line_fn line, void *context);

void info_print_text(const struct info *info);
void info_print_json(const struct info *info);

#endif
