/*
 * The flags themselves, in the order in which --help lists them.
 */
#include "flags.h"

#include "party.h"

const char *const peer_names[] = {"openmpi", "mpich", "gloo", "against", NULL};

/* What --peer takes; the library of --against has a flag of its own. */
static const char *const peer_choices[] = {"openmpi", "mpich", "gloo", NULL};

#define SIZE_MOST (1ll << 46)
#define AT(field) offsetof(struct options, field)
const struct flag flags[FLAG_COUNT] = {
    {"Ranks", "", "ranks", "N", FLAG_RANKS, AT(ranks), 1, SHMCCL_MAX_RANKS, NULL, true,
     "start N ranks, each a process [4]; with --tune: N,N,... [2,4]"},
    {NULL, "t", "nthreads", "N", FLAG_NUMBER, AT(threads), 1, SHMCCL_MAX_RANKS, NULL, false,
     "start N ranks, each a thread of one process, instead"},
    {NULL, "", "no-pin", NULL, FLAG_SWITCH, AT(no_pin), 0, 0, NULL, true,
     "leave ranks to the scheduler [a core each, if they suffice]"},
    {"What is run", "b", "minbytes", "SIZE", FLAG_SIZE, AT(minbytes), 1, SIZE_MOST, NULL, false, "smallest size [8]"},
    {NULL, "e", "maxbytes", "SIZE", FLAG_SIZE, AT(maxbytes), 1, SIZE_MOST, NULL, true, "largest size [64M]"},
    {NULL, "f", "stepfactor", "N", FLAG_NUMBER, AT(stepfactor), 2, 1 << 16, NULL, false,
     "multiply the size by N from row to row [2]"},
    {NULL, "i", "stepbytes", "SIZE", FLAG_SIZE, AT(stepbytes), 1, SIZE_MOST, NULL, false,
     "add SIZE from row to row, instead"},
    {NULL, "d", "datatype", "TYPE", FLAG_NAME, AT(type), 0, 0, type_names, false, "type, or all [float]"},
    {NULL, "o", "op", "OP", FLAG_NAME, AT(op), 0, 0, op_names, false, "operator of reductions, or all [sum]"},
    {NULL, "r", "root", "RANK", FLAG_ROOT, AT(root), 0, SHMCCL_MAX_RANKS - 1, NULL, false,
     "root of rooted collectives, or all [0]"},
    {NULL, "u", "unalign", "N", FLAG_NUMBER, AT(unalign), 0, 64, NULL, false,
     "begin the buffers N elements off their alignment [0]"},
    {NULL, "m", "agg_iters", "N", FLAG_NUMBER, AT(messages), 1, MESSAGES_MOST, NULL, false,
     "sendrecv: N exchanges in one group; time is of one of them [1]"},
    {"How it is measured", "n", "iters", "N", FLAG_NUMBER, AT(iters), 1, 1000000000, NULL, false,
     "timed iterations a round [as many as fill about 30 ms]"},
    {NULL, "w", "warmup_iters", "N", FLAG_NUMBER, AT(warmup), 0, 1000000000, NULL, false,
     "iterations before those, not timed [1 to 5]"},
    {NULL, "", "rounds", "N", FLAG_NUMBER, AT(rounds), 1, ROUNDS_MOST, NULL, true,
     "rounds of a row; the median of their times counts [5; --tune: 9]"},
    {NULL, "a", "average", "0-3", FLAG_NUMBER, AT(average), AVERAGE_RANK0, AVERAGE_MAX, NULL, false,
     "a round's time: 0 rank 0's, 1 mean, 2 least, 3 most of the ranks' [1]"},
    {NULL, "I", "per_iter_timing", "0|1", FLAG_NUMBER, AT(each), 0, 1, NULL, false,
     "time each iteration too: columns i_min, i_max, i_p99, i_cv% [0]"},
    {NULL, "K", "per_iter_skip", "N", FLAG_NUMBER, AT(skip), 0, EACH_MOST - 1, NULL, false,
     "... without each round's first N [0]"},
    {NULL, "c", "check", "0|1", FLAG_NUMBER, AT(check), 0, 1, NULL, false,
     "compare every element of one run of each row [1]"},
    {NULL, "N", "run_cycles", "N", FLAG_NUMBER, AT(cycles), 0, 1000000000, NULL, false,
     "do everything N times; 0: until interrupted [1]"},
    {NULL, "T", "timeout", "SECONDS", FLAG_NUMBER, AT(timeout), 1, 86400, NULL, true,
     "give up when ranks take longer than this for a step [660]"},
    {"Beside this library, in turns, in the same run", "", "peer", "PEER", FLAG_PEER, 0, 0, 0, peer_choices, false,
     "this one too; mpi: every MPI built; may be repeated"},
    {NULL, "", "library", "FILE", FLAG_TEXT, AT(library), 0, 0, NULL, false,
     "measure this libshmccl.so instead of the one linked"},
    {NULL, "", "against", "FILE", FLAG_TEXT, AT(against), 0, 0, NULL, false,
     "that libshmccl.so too (bench/regress judges the difference)"},
    {"Output", "S", "report_timestamps", "0|1", FLAG_NUMBER, AT(timestamps), 0, 1, NULL, false,
     "end each row with the time of day [0]"},
    {NULL, "", "json", "FILE", FLAG_TEXT, AT(json), 0, 0, NULL, false,
     "write everything there too; docs/benchmark.md has the schema"},
    {NULL, "J", "output_file", "FILE", FLAG_TEXT, AT(json), 0, 0, NULL, false, "the same, by nccl-tests' name"},
    {"Instead of a benchmark", "", "tune", "FILE", FLAG_TEXT, AT(tune), 0, 0, NULL, true,
     "measure thresholds and allreduce times, write the table there"},
    {NULL, "h", "help", NULL, FLAG_HELP, 0, 0, 0, NULL, true, "print this"},
    {NULL, "", "version", NULL, FLAG_VERSION, 0, 0, 0, NULL, true,
     "print the versions of this program and of the library"},
};

const char *list_text(char *text, size_t size, const char *const *names, const char *last) {
  size_t used = 0;
  text[0] = '\0';
  for (int i = 0; names[i] && used < size; i++)
    used += (size_t)snprintf(text + used, size - used, "%s%s", i ? ", " : "", names[i]);
  if (used < size) snprintf(text + used, size - used, " or %s", last);
  return text;
}
