/*
 * shmccl-perf: measures and checks the collectives of this library, beside an MPI's if asked to. `--help` explains its
 * use.
 */
#include "launch.h"
#include "sweep.h"

#include <signal.h>
#include <unistd.h>

enum { EXIT_OK = 0, EXIT_WRONG = 1, EXIT_BAD_FLAGS = 2, EXIT_INTERRUPTED = 130 };

/* Says how the sweep ended and returns the exit code. */
static int conclude(const struct sweep *sweep, enum party_result result) {
  if (result == PARTY_FAILED) fprintf(stderr, "shmccl-perf: %s: %s\n", sweep->failed->name, sweep->failed->error);
  if (result == PARTY_INTERRUPTED) {
    report_line(sweep->report, "# interrupted: what follows covers the rows above only");
    if (sweep->report->busbw_count) report_table_foot(sweep->report);
  }
  if (result != PARTY_FAILED) report_summary(sweep->report);
  if (result == PARTY_INTERRUPTED) return EXIT_INTERRUPTED;
  return result == PARTY_FAILED || sweep->report->wrong ? EXIT_WRONG : EXIT_OK;
}

/* Measures the machine, then the rows. */
static int run_sweep(struct sweep *sweep) {
  sweep->failed = sweep->parties[0];
  enum party_result result = bounds_measure_copies(sweep->limits, sweep->parties[0]);
  if (result == PARTY_OK) {
    report_head(sweep->report);
    result = sweep_run(sweep);
  }
  return conclude(sweep, result);
}

/* ---- a driver and the ranks that it starts ---------------------------------------------------------------------- */

/* A peer that does not start is stated, and does without. */
static enum party_result start_peers(struct sweep *sweep, struct party *parties) {
  for (int i = 0; i < PEER_COUNT; i++) {
    if (!sweep->options->peers[i]) continue;
    enum party_result result = party_start_mpi(&parties[i], sweep->options, &sweep->limits->cpus, i);
    if (result == PARTY_INTERRUPTED) return result;
    if (result == PARTY_OK) {
      report_peer(sweep->report, parties[i].name, parties[i].version);
      sweep->parties[sweep->nparties++] = &parties[i];
    } else {
      report_line(sweep->report, "# Peer %s: left out: %s", parties[i].name, parties[i].error);
    }
  }
  return PARTY_OK;
}

static enum party_result start(struct sweep *sweep, struct party *ours, struct party *peers) {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  if (sched_getaffinity(0, sizeof cpus, &cpus)) CPU_SET(0, &cpus);
  bounds_begin(sweep->limits, (int)sweep->options->ranks, &cpus);
  sweep->failed = sweep->parties[0] = ours;
  sweep->nparties = 1;
  enum party_result result = party_start_own(ours, sweep->options, &cpus);
  if (result == PARTY_OK) result = start_peers(sweep, peers);
  if (result == PARTY_OK) bounds_measure_latency(sweep->limits);
  return result;
}

static int drive(struct sweep *sweep) {
  struct party ours, peers[PEER_COUNT];
  enum party_result result = start(sweep, &ours, peers);
  int code = result == PARTY_OK ? run_sweep(sweep) : conclude(sweep, result);
  for (int i = 0; i < sweep->nparties && code == EXIT_OK; i++) party_quit(sweep->parties[i]);
  launch_end();
  return code;
}

/* ---- a rank of somebody else's job ------------------------------------------------------------------------------ */

static void stop_joined(int number) {
  static const char line[] = "# interrupted\n";
  (void)number;
  if (write(STDOUT_FILENO, line, sizeof line - 1) < 0) _exit(EXIT_WRONG);
  _exit(EXIT_INTERRUPTED);
}

/* The launcher may have given each rank a core of its own: what the job may use is all of them together. */
static bool join_limits(struct limits *limits, struct backend *backend) {
  cpu_set_t mine, all[SHMCCL_MAX_RANKS], cpus;
  CPU_ZERO(&mine);
  CPU_ZERO(&cpus);
  if (sched_getaffinity(0, sizeof mine, &mine)) CPU_SET(0, &mine);
  if (!backend_shmccl_share(backend, &mine, all, sizeof mine)) return false;
  for (int r = 0; r < backend->nranks; r++) CPU_OR(&cpus, &cpus, &all[r]);
  bounds_begin(limits, backend->nranks, &cpus);
  if (backend->rank == 0) bounds_measure_latency(limits);
  return true;
}

static int join(struct sweep *sweep) {
  struct worker worker = {0};
  struct backend *backend = &worker.backend;
  struct party party = {.name = "shmccl", .local = &worker};
  if (!backend_shmccl_join(backend)) return EXIT_WRONG; /* the library has said why */
  party.nranks = backend->nranks;
  sweep->report->quiet = backend->rank != 0;
  if (!sweep->report->quiet) {
    signal(SIGINT, stop_joined);
    signal(SIGTERM, stop_joined);
  }
  if (!options_fit(sweep->options, party.nranks)) return EXIT_BAD_FLAGS;
  if (!worker_open(&worker, (size_t)sweep->options->maxbytes)) {
    fprintf(stderr, "shmccl-perf: rank %d: no memory for its buffers: lower -e\n", backend->rank);
    return EXIT_WRONG;
  }
  if (!join_limits(sweep->limits, backend)) return EXIT_WRONG;
  sweep->parties[0] = &party;
  sweep->nparties = 1;
  int code = run_sweep(sweep);
  worker_close(&worker);
  return backend->ops->close(backend) ? code : EXIT_WRONG;
}

int main(int argc, char **argv) {
  struct options options;
  struct limits limits = {0};
  struct report report;
  struct sweep sweep = {.options = &options, .limits = &limits, .report = &report};
  enum options_result parsed = options_parse(&options, argc, argv);
  if (parsed != OPTIONS_RUN) return parsed == OPTIONS_DONE ? EXIT_OK : EXIT_BAD_FLAGS;
  report_begin(&report, &options, &limits, false);
  if (options.joined) return join(&sweep);
  if (!options_fit(&options, (int)options.ranks)) return EXIT_BAD_FLAGS;
  if (!launch_begin()) {
    fprintf(stderr, "shmccl-perf: cannot make a folder in /dev/shm or /tmp: %m\n");
    return EXIT_WRONG;
  }
  return drive(&sweep);
}
