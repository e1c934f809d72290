/*
 * --help and --version.
 */
#include "flags.h"

#include <string.h>

void help_print_version(void) {
  int library = shmccl_version();
  printf("shmccl-perf %d.%d.%d (libshmccl %d.%d.%d)\n", SHMCCL_VERSION_MAJOR, SHMCCL_VERSION_MINOR,
         SHMCCL_VERSION_PATCH, library / 10000, library / 100 % 100, library % 100);
}

static void print_flags(void) {
  for (const struct flag *flag = flags; flag < flags + FLAG_COUNT; flag++) {
    char left[48];
    snprintf(left, sizeof left, "%s%s%s--%s%s%s", *flag->letter ? "-" : "  ", flag->letter, *flag->letter ? ", " : "  ",
             flag->name, flag->value ? " " : "", flag->value ? flag->value : "");
    if (flag->group) printf("%s\n", flag->group);
    printf("  %-30s %s\n", left, flag->help);
  }
}

static void print_colls(void) {
  printf("Collectives [all_reduce]: all, or any of");
  for (int i = 0; i < COLL_COUNT; i++) printf("%s %s", i == 5 ? ",\n " : i ? "," : "", colls[i].name);
  puts("\n  (also in NCCL's spelling: allreduce, allgather, reducescatter, ...)\n");
}

static const char intro[] =
    "usage: shmccl-perf [flags] [collective ...]\n\n"
    "Measures and checks the collectives of libshmccl between ranks of this host, in the flags, units and columns of\n"
    "nccl-tests. It starts its ranks itself; started by torchrun, mpirun or srun without --ranks or -t, it joins that\n"
    "job's ranks instead.\n\n"
    "Examples\n"
    "  shmccl-perf --ranks 4 -b 8 -e 64M -f 2 all_reduce all_gather\n"
    "                                                   the usual table: latency above, bandwidth below\n"
    "  shmccl-perf --ranks 2 --peer mpi all_reduce      beside Open MPI and MPICH, with ratios and a summary\n"
    "  shmccl-perf --ranks 2 -b 8 -e 8 -I 1 all_reduce  one size in depth: how far single calls are spread\n"
    "  shmccl-perf -t 4 -d all -o all -b 1M -e 1M all   everything at one size, ranks as threads\n"
    "  shmccl-perf --json now.json all && bench/plot now.json\n"
    "                                                   curves\n"
    "  shmccl-perf -t 2 -G 10 all_reduce                on GPUs: replays of a CUDA graph\n"
    "  shmccl-perf --ranks 4 --peer nccl all_reduce     beside NCCL: stock, tuned, and with the plugin\n"
    "  shmccl-perf --tune my.tuning                     measure thresholds; export SHMCCL_TUNING_FILE=my.tuning\n"
    "  mpirun -n 4 shmccl-perf -e 1M reduce_scatter     as the ranks of an MPI job\n";

static const char columns[] =
    "Columns, out of place and in place\n"
    "  size    the larger of a rank's sendbuf and recvbuf; count: the call's count argument\n"
    "  time    us for one call: the median round, averaged over its iterations, and over ranks as -a says\n"
    "  algbw   size / time, in 10^9 bytes a second\n"
    "  busbw   algbw times the share of the size that must pass between ranks: 2(n-1)/n for all_reduce, (n-1)/n where\n"
    "          buffers hold a block per rank, 1 otherwise: comparable over numbers of ranks, and with a link's speed\n"
    "  #wrong  elements that differ from the known result, and bytes written out of bounds: must be 0\n"
    "  i_...   of single iterations (-I 1): least, most, 99th percentile (us), deviation in % of the mean\n"
    "  bound   the least time that this machine allows, from copy rates and latencies measured in the same run;\n"
    "          on GPUs: for the bytes that must cross the link of the busiest one\n"
    "  time/bound  1 is perfect. Above 2 at small sizes is usual: the bound has one hand-over of a cache line only\n"
    "  peer    its time for the same call, and how many of our calls fit into one of its: above 1 we are faster;\n"
    "          model:nccl-shm is computed, not measured: it stands in for nccl-shm where ranks share a GPU\n\n"
    "Exit code: 0 all right; 1 wrong results or a rank failed; 2 bad flags or files; 130 interrupted (what was\n"
    "measured is summed up, and written to --json).";

void help_print(void) {
  char types[256], ops[64], peers[64], where[24];
  const char *const *choices = NULL;
  puts(intro);
  print_colls();
  print_flags();
  for (const struct flag *flag = flags; flag < flags + FLAG_COUNT; flag++)
    if (flag->kind == FLAG_PEER) choices = flag->names;
  printf(
      "\nSIZE is in bytes, with K, M, G or T for powers of 1024.\nTYPE: %s\nOP: %s\nPEER: mpi, nccl, %s\nWHERE: %s\n\n",
      list_text(types, sizeof types, type_names, "all"), list_text(ops, sizeof ops, op_names, "all"),
      list_text(peers, sizeof peers, choices, NULL), list_text(where, sizeof where, memory_names, NULL));
  puts(columns);
}
