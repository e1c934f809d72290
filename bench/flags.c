/*
 * The flags themselves, in the order in which --help lists them.
 */
#include "flags.h"

#include "party.h"

const char *const peer_names[] = {"openmpi", "mpich", "gloo", "nccl-shm", "nccl-tuned", "nccl-plugin", "against", NULL};

/* What --peer takes; the library of --against has a flag of its own. */
static const char *const peer_choices[] = {"openmpi", "mpich", "gloo", "nccl-shm", "nccl-tuned", "nccl-plugin", NULL};

const char *const memory_names[] = {"host", "cuda", NULL};

#define SIZE_MOST (1ll << 46)
#define AT(field) offsetof(struct options, field)
const struct flag flags[FLAG_COUNT] = {
    {"Ranks", "", "ranks", "N", FLAG_RANKS, true, AT(ranks), 1, SHMCCL_MAX_RANKS, NULL,
     "start N ranks, each a process [4]; with --tune: N,N,... [2,4]"},
    {NULL, "t", "nthreads", "N", FLAG_NUMBER, false, AT(threads), 1, SHMCCL_MAX_RANKS, NULL,
     "start N ranks, each a thread of one process, instead"},
    {NULL, "", "no-pin", NULL, FLAG_SWITCH, true, AT(no_pin), 0, 0, NULL,
     "leave ranks to the scheduler [a core each, if they suffice]"},
    {NULL, "", "memory", "WHERE", FLAG_CHOICE, false, AT(memory), 0, 0, memory_names,
     "host, or cuda: a GPU for each rank, in turn [cuda if there is a GPU]"},
    {"What is run", "b", "minbytes", "SIZE", FLAG_SIZE, false, AT(minbytes), 1, SIZE_MOST, NULL, "smallest size [8]"},
    {NULL, "e", "maxbytes", "SIZE", FLAG_SIZE, true, AT(maxbytes), 1, SIZE_MOST, NULL, "largest size [64M]"},
    {NULL, "f", "stepfactor", "N", FLAG_NUMBER, false, AT(stepfactor), 2, 1 << 16, NULL,
     "multiply the size by N from row to row [2]"},
    {NULL, "i", "stepbytes", "SIZE", FLAG_SIZE, false, AT(stepbytes), 1, SIZE_MOST, NULL,
     "add SIZE from row to row, instead"},
    {NULL, "d", "datatype", "TYPE", FLAG_NAME, false, AT(type), 0, 0, type_names, "type, or all [float]"},
    {NULL, "o", "op", "OP", FLAG_NAME, false, AT(op), 0, 0, op_names, "operator of reductions, or all [sum]"},
    {NULL, "r", "root", "RANK", FLAG_ROOT, false, AT(root), 0, SHMCCL_MAX_RANKS - 1, NULL,
     "root of rooted collectives, or all [0]"},
    {NULL, "u", "unalign", "N", FLAG_NUMBER, false, AT(unalign), 0, 64, NULL,
     "begin the buffers N elements off their alignment [0]"},
    {NULL, "m", "agg_iters", "N", FLAG_NUMBER, false, AT(messages), 1, MESSAGES_MOST, NULL,
     "sendrecv: N exchanges in one group; time is of one of them [1]"},
    {"How it is measured", "n", "iters", "N", FLAG_NUMBER, false, AT(iters), 1, 1000000000, NULL,
     "timed iterations a round [as many as fill about 30 ms]"},
    {NULL, "w", "warmup_iters", "N", FLAG_NUMBER, false, AT(warmup), 0, 1000000000, NULL,
     "iterations before those, not timed [1 to 5]"},
    {NULL, "", "rounds", "N", FLAG_NUMBER, true, AT(rounds), 1, ROUNDS_MOST, NULL,
     "rounds of a row; the median of their times counts [5; --tune: 9]"},
    {NULL, "a", "average", "0-3", FLAG_NUMBER, false, AT(average), AVERAGE_RANK0, AVERAGE_MAX, NULL,
     "a round's time: 0 rank 0's, 1 mean, 2 least, 3 most of the ranks' [1]"},
    {NULL, "I", "per_iter_timing", "0|1", FLAG_NUMBER, false, AT(each), 0, 1, NULL,
     "time each iteration too: columns i_min, i_max, i_p99, i_cv% [0]"},
    {NULL, "K", "per_iter_skip", "N", FLAG_NUMBER, false, AT(skip), 0, EACH_MOST - 1, NULL,
     "... without each round's first N [0]"},
    {NULL, "G", "cudagraph", "N", FLAG_NUMBER, false, AT(graphs), 0, 1000000, NULL,
     "cuda: capture the iterations as a graph and replay it N times [0]"},
    {NULL, "c", "check", "0|1", FLAG_NUMBER, false, AT(check), 0, 1, NULL,
     "compare every element of one run of each row [1]"},
    {NULL, "N", "run_cycles", "N", FLAG_NUMBER, false, AT(cycles), 0, 1000000000, NULL,
     "do everything N times; 0: until interrupted [1]"},
    {NULL, "T", "timeout", "SECONDS", FLAG_NUMBER, true, AT(timeout), 1, 86400, NULL,
     "give up when ranks take longer than this for a step [660]"},
    {"Beside this library, in turns, in the same run", "", "peer", "PEER", FLAG_PEER, false, 0, 0, 0, peer_choices,
     "this one too; mpi, nccl: all of its kind; may be repeated"},
    {NULL, "", "library", "FILE", FLAG_TEXT, false, AT(library), 0, 0, NULL,
     "measure this libshmccl.so instead of the one linked"},
    {NULL, "", "against", "FILE", FLAG_TEXT, false, AT(against), 0, 0, NULL,
     "that libshmccl.so too (bench/regress judges the difference)"},
    {"Output", "S", "report_timestamps", "0|1", FLAG_NUMBER, false, AT(timestamps), 0, 1, NULL,
     "end each row with the time of day [0]"},
    {NULL, "", "json", "FILE", FLAG_TEXT, false, AT(json), 0, 0, NULL,
     "write everything there too; docs/benchmark.md has the schema"},
    {NULL, "J", "output_file", "FILE", FLAG_TEXT, false, AT(json), 0, 0, NULL, "the same, by nccl-tests' name"},
    {"Instead of a benchmark", "", "tune", "FILE", FLAG_TEXT, true, AT(tune), 0, 0, NULL,
     "measure thresholds and allreduce times, write the table there"},
    {NULL, "h", "help", NULL, FLAG_HELP, true, 0, 0, 0, NULL, "print this"},
    {NULL, "", "version", NULL, FLAG_VERSION, true, 0, 0, 0, NULL,
     "print the versions of this program and of the library"},
};

const char *list_text(char *text, size_t size, const char *const *names, const char *last) {
  size_t used = 0;
  text[0] = '\0';
  for (int i = 0; names[i] && used < size; i++)
    used += (size_t)snprintf(text + used, size - used, "%s%s",
                             !i                     ? ""
                             : last || names[i + 1] ? ", "
                                                    : " or ",
                             names[i]);
  if (last && used < size) snprintf(text + used, size - used, " or %s", last);
  return text;
}
