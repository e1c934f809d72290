/*
 * shmccl-perf: measures and checks the collectives of this library, beside an MPI's if asked to. `--help` explains its
 * use.
 */
#include "files.h"
#include "launch.h"
#include "nccl.h"
#include "progress.h"
#include "sweep.h"
#include "tune.h"

#include "base/tuning.h"

#include <signal.h>
#include <unistd.h>

enum { EXIT_OK = 0, EXIT_WRONG = 1, EXIT_BAD_FLAGS = 2, EXIT_INTERRUPTED = 130 };

static void say_failed(const struct sweep *sweep) {
  progress_clear();
  fprintf(stderr, "shmccl-perf: %s: %s\n", sweep->meter.failed->name, sweep->meter.failed->error);
}

/* Says how the sweep ended and returns the exit code. */
static int conclude(const struct sweep *sweep, enum party_result result) {
  static const char *const ends[] = {
      [PARTY_OK] = "complete", [PARTY_FAILED] = "failed", [PARTY_INTERRUPTED] = "interrupted"};
  if (result == PARTY_FAILED) say_failed(sweep);
  if (result == PARTY_INTERRUPTED) {
    report_line(sweep->report, "# interrupted: what follows covers the rows above only");
    if (sweep->report->busbw_count) report_table_foot(sweep->report);
  }
  if (result != PARTY_FAILED) report_summary(sweep->report);
  if (!record_end(sweep->record, &sweep->meter, sweep->limits, ends[result])) return EXIT_BAD_FLAGS;
  if (result == PARTY_INTERRUPTED) return EXIT_INTERRUPTED;
  return result == PARTY_FAILED || sweep->report->wrong ? EXIT_WRONG : EXIT_OK;
}

/* Measures the machine, then the rows. */
static int run_sweep(struct sweep *sweep) {
  sweep->meter.failed = sweep->meter.parties[0];
  enum party_result result = bounds_measure_rates(sweep->limits, sweep->meter.parties[0]);
  if (result == PARTY_OK) {
    report_head(sweep->report);
    result = sweep_run(sweep);
  }
  return conclude(sweep, result);
}

/* ---- a driver and the ranks that it starts ---------------------------------------------------------------------- */

/* A peer that does not start is stated, and does without; but a library that was named must be there. */
static enum party_result start_peers(struct sweep *sweep, struct party *parties) {
  for (int i = 0; i < PEER_COUNT; i++) {
    if (!sweep->meter.options->peers[i]) continue;
    enum party_result result = party_start_peer(&parties[i], sweep->meter.options, &sweep->limits->cpus, i);
    if (result == PARTY_OK) {
      report_peer(sweep->report, parties[i].name, parties[i].version);
      sweep->meter.parties[sweep->meter.nparties++] = &parties[i];
    } else if (result == PARTY_INTERRUPTED || i == PEER_AGAINST) {
      sweep->meter.failed = &parties[i];
      return result;
    } else {
      report_line(sweep->report, "# Peer %s: left out: %s", parties[i].name, parties[i].error);
    }
  }
  if (nccl_needs_model(sweep->meter.options))
    report_peer(
        sweep->report, NCCL_MODEL_NAME,
        "NOT MEASURED: a model of NCCL's ring, its own latencies and these links' full rates (docs/benchmark.md)");
  return PARTY_OK;
}

static void find_cpus(cpu_set_t *cpus) {
  CPU_ZERO(cpus);
  if (sched_getaffinity(0, sizeof *cpus, cpus)) CPU_SET(0, cpus);
}

/* Each rank's GPU; NULL: ranks are on host memory. */
static const struct gpu_card *cards_of_ranks(const struct options *options) {
  static struct gpu_card cards[SHMCCL_MAX_RANKS];
  for (int rank = 0; rank < options->ranks && options->memory == MEMORY_CUDA; rank++)
    cards[rank] = options->gpus.cards[rank % options->gpus.count];
  return options->memory == MEMORY_CUDA ? cards : NULL;
}

static enum party_result start(struct sweep *sweep, struct party *ours, struct party *peers) {
  const struct options *options = sweep->meter.options;
  cpu_set_t cpus;
  find_cpus(&cpus);
  bounds_begin(sweep->limits, (int)options->ranks, &cpus, cards_of_ranks(options));
  sweep->meter.failed = sweep->meter.parties[0] = ours;
  sweep->meter.nparties = 1;
  enum party_result result = party_start_own(ours, options, (int)options->ranks, &cpus, NULL);
  if (result == PARTY_OK) result = start_peers(sweep, peers);
  if (result == PARTY_OK) bounds_measure_latency(sweep->limits);
  return result;
}

static int drive(struct sweep *sweep) {
  static struct party ours, peers[PEER_COUNT];
  enum party_result result = start(sweep, &ours, peers);
  int code = result == PARTY_OK ? run_sweep(sweep) : conclude(sweep, result);
  for (int i = 0; i < sweep->meter.nparties && code == EXIT_OK; i++) party_quit(sweep->meter.parties[i]);
  return code;
}

static int tune(struct sweep *sweep) {
  cpu_set_t cpus;
  find_cpus(&cpus);
  enum party_result result = tune_run(sweep->report, &sweep->meter, sweep->limits, &cpus);
  progress_clear();
  if (result == PARTY_FAILED) say_failed(sweep);
  if (result == PARTY_INTERRUPTED) report_line(sweep->report, "# interrupted: no table was written");
  return result == PARTY_OK ? EXIT_OK : result == PARTY_INTERRUPTED ? EXIT_INTERRUPTED : EXIT_WRONG;
}

/* ---- a rank of somebody else's job ------------------------------------------------------------------------------ */

static void stop_joined(int number) {
  static const char line[] = "# interrupted\n";
  (void)number;
  if (write(STDOUT_FILENO, line, sizeof line - 1) < 0) _exit(EXIT_WRONG);
  _exit(EXIT_INTERRUPTED);
}

/* The launcher may have given each rank a core of its own, and a GPU that all call number 0: what the job may use is
 * all of them together. card: NULL on host memory. */
static bool join_limits(struct limits *limits, struct backend *backend, const struct gpu_card *card) {
  struct gpu_card cards[SHMCCL_MAX_RANKS];
  cpu_set_t mine, all[SHMCCL_MAX_RANKS], cpus;
  CPU_ZERO(&mine);
  CPU_ZERO(&cpus);
  if (sched_getaffinity(0, sizeof mine, &mine)) CPU_SET(0, &mine);
  if (!backend_shmccl_share(backend, &mine, all, sizeof mine)) return false;
  for (int r = 0; r < backend->nranks; r++) CPU_OR(&cpus, &cpus, &all[r]);
  if (card && !backend_shmccl_share(backend, card, cards, sizeof *card)) return false;
  bounds_begin(limits, backend->nranks, &cpus, card ? cards : NULL);
  if (backend->rank == 0) bounds_measure_latency(limits);
  return true;
}

static void say_joined(const struct worker *worker) {
  fprintf(stderr, "shmccl-perf: rank %d: %s\n", options_job_rank(), worker->error);
}

static bool join_comm(struct backend *backend, bool on_gpu) {
  shmccl_config_t config = SHMCCL_CONFIG_INITIALIZER;
  config.memory = on_gpu ? SHMCCL_MEMORY_CUDA : SHMCCL_MEMORY_HOST;
  return backend_shmccl_join(backend, &config);
}

static int join(struct sweep *sweep) {
  const struct options *options = sweep->meter.options;
  static struct worker worker;
  struct backend *backend = &worker.backend;
  static struct party party;
  party = (struct party){.name = "shmccl",
                         .local = &worker,
                         .average = (enum average)options->average,
                         .limit_seconds = (double)options->timeout};
  const bool on_gpu = options->memory == MEMORY_CUDA;
  struct gpu_card card;
  if (on_gpu && !(gpu_use(options_job_rank(), worker.error) && gpu_used(&card, worker.error)))
    return say_joined(&worker), EXIT_WRONG;
  if (!join_comm(backend, on_gpu)) return EXIT_WRONG; /* the library has said why */
  party.nranks = backend->nranks;
  sweep->report->quiet = backend->rank != 0;
  if (!sweep->report->quiet) {
    signal(SIGINT, stop_joined);
    signal(SIGTERM, stop_joined);
  }
  if (!options_fit(options, party.nranks)) return EXIT_BAD_FLAGS;
  if (!worker_open(&worker, options_buffer_bytes(options), on_gpu)) return say_joined(&worker), EXIT_WRONG;
  if (on_gpu) backend->stream = gpu_stream(worker.gpu);
  if (!join_limits(sweep->limits, backend, on_gpu ? &card : NULL)) return EXIT_WRONG;
  if (backend->rank == 0 && !record_begin(sweep->record, options)) return EXIT_BAD_FLAGS;
  sweep->meter.parties[0] = &party;
  sweep->meter.nparties = 1;
  int code = run_sweep(sweep);
  worker_close(&worker);
  return backend->ops->close(backend) ? code : EXIT_WRONG;
}

/* Files are tried before anything is started: a long run must not end with nowhere to put its results. */
static bool try_files(struct sweep *sweep) {
  const struct options *options = sweep->meter.options;
  return options->tune ? file_try("--tune", options->tune) : record_begin(sweep->record, options);
}

/* The library would warn and do without: here that would be figures of something else than was asked for. */
static bool check_tuning_file(const struct options *options) {
  static struct shmi_tuning table;
  char message[SHMI_TUNING_MESSAGE_BYTES];
  const char *path = shmi_tuning_path();
  if (options->tune || !path || !shmi_tuning_read(path, &table, message)) return true;
  if (!options_job_rank()) fprintf(stderr, "shmccl-perf: SHMCCL_TUNING_FILE: %s, or unset it\n", message);
  return false;
}

static int64_t most_ranks(const struct options *options) {
  int64_t most = options->ranks;
  for (int i = 0; i < options->nrank_counts; i++)
    most = options->rank_counts[i] > most ? options->rank_counts[i] : most;
  return most;
}

int main(int argc, char **argv) {
  struct options options;
  struct limits limits = {0};
  struct record record = {0};
  struct report report;
  struct sweep sweep = {.meter.options = &options, .limits = &limits, .report = &report, .record = &record};
  enum options_result parsed = options_parse(&options, argc, argv);
  if (parsed != OPTIONS_RUN) return parsed == OPTIONS_DONE ? EXIT_OK : EXIT_BAD_FLAGS;
  if (!options_choose_memory(&options) || !check_tuning_file(&options)) return EXIT_BAD_FLAGS;
  report_begin(&report, &options, &limits, false);
  if (options.joined) return join(&sweep);
  if (!options_fit(&options, (int)most_ranks(&options)) || !try_files(&sweep)) return EXIT_BAD_FLAGS;
  if (!launch_begin()) {
    fprintf(stderr, "shmccl-perf: cannot make a folder in /dev/shm or /tmp: %m\n");
    return EXIT_WRONG;
  }
  int code = options.tune ? tune(&sweep) : drive(&sweep);
  launch_end();
  return code;
}
