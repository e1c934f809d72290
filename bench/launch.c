/*
 * Starting and ending the ranks. Ours are forked, with a socket pair each. A peer's are started by its mpirun and
 * connect to a listening socket in the private folder. Nothing outlives the driver: our children ask the kernel for
 * SIGKILL when it dies, and every worker ends when its socket closes.
 */
#include "launch.h"

#include "measure.h"
#include "nccl.h"

#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Set by bench/CMakeLists.txt for each MPI whose compiler was found. */
#ifndef BENCH_MPIRUN_OPENMPI
#define BENCH_MPIRUN_OPENMPI NULL
#endif
#ifndef BENCH_MPIRUN_MPICH
#define BENCH_MPIRUN_MPICH NULL
#endif

/* PyTorch alone takes several seconds to load. */
static const double START_SECONDS = 60, END_SECONDS = 5;

static struct {
  char folder[32];
  sigset_t old_mask;
  struct party *parties[PARTIES_MOST];
  int nparties;
  time_t started;
  bool mpich_started;
} run;

static void on_signal(int number) { party_signal = number; }

/* SIGPIPE: whoever read the table is gone. */
static const int stopping[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE};
enum { STOPPING_COUNT = sizeof stopping / sizeof *stopping };

static bool take_signals(void) {
  struct sigaction action = {.sa_handler = on_signal};
  sigset_t mask;
  sigemptyset(&mask);
  for (int i = 0; i < STOPPING_COUNT; i++) {
    sigaddset(&mask, stopping[i]);
    if (sigaction(stopping[i], &action, NULL)) return false;
  }
  return !sigprocmask(SIG_BLOCK, &mask, &run.old_mask);
}

bool launch_begin(void) {
  static const char *const places[] = {"/dev/shm", "/tmp"}; /* in memory, if possible: shared files go there */
  run.started = time(NULL);
  prctl(PR_SET_CHILD_SUBREAPER, 1); /* ranks whose mpirun is gone come to us */
  if (!take_signals()) return false;
  for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
    snprintf(run.folder, sizeof run.folder, "%s/shmccl-perf-XXXXXX", places[i]);
    if (mkdtemp(run.folder)) return i || !setenv("SHMCCL_SHM_DIR", run.folder, 0);
    run.folder[0] = '\0';
  }
  return false;
}

const char *launch_folder(void) { return run.folder; }

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *where) {
  (void)info, (void)type, (void)where;
  remove(path);
  return 0;
}

static void close_sockets(struct party *party) {
  for (int r = 0; r < party->nranks; r++) {
    if (party->fds[r] >= 0) close(party->fds[r]);
    party->fds[r] = -1;
  }
}

/* Our ranks at once; mpirun by a request, so that it removes what it and its ranks keep outside our folder. */
static void party_kill(struct party *party) {
  for (int r = 0; r < party->nranks && !party->launcher; r++) {
    if (!party->pids[r]) continue;
    if (party->leaves_segments) nccl_remove_segments(party->pids[r]);
    kill(party->pids[r], SIGKILL);
  }
  if (party->launcher) kill(party->launcher, SIGTERM);
  close_sockets(party);
}

/* Waits for what was killed; an mpirun that takes too long goes without its tidying up. */
static void party_bury(struct party *party) {
  int status;
  if (party->launcher && !party_reap(party->launcher, END_SECONDS, &status)) {
    for (int r = 0; r < party->nranks; r++)
      if (party->pids[r]) kill(party->pids[r], SIGKILL);
    kill(-party->launcher, SIGKILL);
    party_reap(party->launcher, END_SECONDS, &status);
  }
  for (int r = 0; r < party->nranks && !party->launcher; r++)
    if (party->pids[r]) party_reap(party->pids[r], END_SECONDS, &status);
  memset(party->pids, 0, sizeof party->pids);
  party->launcher = 0;
}

static bool is_mapped(const char *path) {
  char line[512];
  glob_t maps;
  bool found = false;
  if (glob("/proc/[0-9]*/maps", 0, NULL, &maps)) return true;
  for (size_t i = 0; i < maps.gl_pathc && !found; i++) {
    FILE *file = fopen(maps.gl_pathv[i], "re");
    while (file && !found && fgets(line, sizeof line, file)) found = strstr(line, path);
    if (file) fclose(file);
  }
  globfree(&maps);
  return found;
}

/* MPICH has one file outside our folder, without a name except while it starts. What it leaves if stopped just then:
 * such a file of this user, not older than this run, that no process has mapped. */
static void remove_mpich_file(void) {
  glob_t files;
  struct stat info;
  if (glob("/dev/shm/mpich_shar_tmp*", 0, NULL, &files)) return;
  for (size_t i = 0; i < files.gl_pathc; i++) {
    const char *path = files.gl_pathv[i];
    if (!stat(path, &info) && info.st_uid == geteuid() && info.st_mtime >= run.started && !is_mapped(path))
      unlink(path);
  }
  globfree(&files);
}

void launch_end(void) {
  int status;
  for (int i = 0; i < run.nparties; i++) party_kill(run.parties[i]);
  for (int i = 0; i < run.nparties; i++) party_bury(run.parties[i]);
  party_reap(-1, 1, &status);
  if (run.mpich_started) remove_mpich_file();
  if (*run.folder) nftw(run.folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static void party_init(struct party *party, const char *name, const struct options *options, int nranks) {
  *party = (struct party){.name = name,
                          .nranks = nranks,
                          .average = (enum average)options->average,
                          .limit_seconds = (double)options->timeout};
  for (int r = 0; r < SHMCCL_MAX_RANKS; r++) party->fds[r] = -1;
  run.parties[run.nparties++] = party;
}

static bool pinning(const struct options *options, int nranks, const cpu_set_t *cpus) {
  return !options->no_pin && nranks <= CPU_COUNT(cpus);
}

/* ---- our own ranks ---------------------------------------------------------------------------------------------- */

struct rank_job {
  const struct options *options;
  const struct setup *setup;
  const shmccl_unique_id_t *id;
  int nranks;
  int rank;
  int fd;
  const cpu_set_t *cpus;
};

/* A rank's life. The socket closes at its end: that is how the driver learns of a failure to start. */
static void *rank_main(void *argument) {
  const struct rank_job *job = argument;
  struct worker worker = {0};
  const bool on_gpu = job->options->memory == MEMORY_CUDA;
  shmccl_config_t config = SHMCCL_CONFIG_INITIALIZER;
  if (job->setup) config = job->setup->config;
  config.memory = on_gpu ? SHMCCL_MEMORY_CUDA : SHMCCL_MEMORY_HOST;
  if (pinning(job->options, job->nranks, job->cpus)) worker_pin(job->cpus, job->rank);
  if ((on_gpu && !gpu_use(job->rank, worker.error)) ||
      !worker_open(&worker, options_buffer_bytes(job->options), on_gpu)) {
    fprintf(stderr, "shmccl-perf: rank %d: %s\n", job->rank, worker.error);
  } else if (backend_shmccl_open(&worker.backend, job->nranks, job->rank, job->id, &config)) {
    if (on_gpu) worker.backend.stream = gpu_stream(worker.gpu);
    if (worker_serve(&worker, job->fd, "")) worker.backend.ops->close(&worker.backend);
  }
  worker_close(&worker);
  close(job->fd);
  return NULL;
}

static void run_threads(struct rank_job *jobs, int count) {
  pthread_t threads[SHMCCL_MAX_RANKS];
  for (int r = 0; r < count; r++)
    if (pthread_create(&threads[r], NULL, rank_main, &jobs[r])) exit(1);
  for (int r = 0; r < count; r++) pthread_join(threads[r], NULL);
}

/* In a child just forked: gone with the driver, deaf to the terminal's keys, signals as usual. */
static void become_child(int death_signal, pid_t driver) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, death_signal);
  if (getppid() != driver) _exit(1);
  for (int i = 0; i < STOPPING_COUNT; i++) signal(stopping[i], SIG_DFL);
  sigprocmask(SIG_SETMASK, &run.old_mask, NULL);
}

/* Forks one process for the ranks first..first+count-1. Each side keeps its own ends of the sockets only, else nobody
 * would see the other side close. */
static bool fork_ranks(struct party *party, struct rank_job *jobs, int first, int count) {
  pid_t driver = getpid();
  for (int r = first; r < first + count; r++) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) return false;
    party->fds[r] = pair[0];
    jobs[r].fd = pair[1];
  }
  pid_t pid = fork();
  if (pid == 0) {
    become_child(SIGKILL, driver);
    close_sockets(party);
    if (jobs->setup) setenv("SHMCCL_TUNING_FILE", jobs->setup->tuning_file, 1);
    if (count > 1)
      run_threads(&jobs[first], count);
    else
      rank_main(&jobs[first]);
    _exit(0);
  }
  for (int r = first; r < first + count; r++) close(jobs[r].fd);
  party->pids[first] = pid > 0 ? pid : 0;
  return pid > 0;
}

static enum party_result fork_own(struct party *party, const struct options *options, const cpu_set_t *cpus,
                                  const struct setup *setup) {
  struct rank_job jobs[SHMCCL_MAX_RANKS];
  struct hello hellos[SHMCCL_MAX_RANKS];
  shmccl_unique_id_t id;
  int nranks = party->nranks, together = options->threads > 0 ? nranks : 1;
  if (shmccl_get_unique_id(&id) != SHMCCL_SUCCESS) return party_fail(party, "%s", shmccl_last_error());
  fflush(NULL);
  for (int r = 0; r < nranks; r++) jobs[r] = (struct rank_job){options, setup, &id, nranks, r, -1, cpus};
  for (int r = 0; r < nranks; r += together)
    if (!fork_ranks(party, jobs, r, together)) return party_fail(party, "cannot start rank %d: %m", r);
  return party_receive(party, hellos, sizeof *hellos, START_SECONDS);
}

/* ---- a peer's ranks --------------------------------------------------------------------------------------------- */

static int listen_at(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (fd >= 0 && (bind(fd, (const struct sockaddr *)&address, sizeof address) || listen(fd, SHMCCL_MAX_RANKS))) {
    close(fd);
    return -1;
  }
  return fd;
}

/* The peer's worker lies beside this program. */
static void worker_path(char *path, size_t size, const char *name) {
  char self[256] = "";
  ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
  char *slash = length > 0 ? strrchr(self, '/') : NULL;
  if (slash) *slash = '\0';
  snprintf(path, size, "%s/shmccl-peer-%s", self, name);
}

static const char *const mpiruns[PEER_COUNT] = {BENCH_MPIRUN_OPENMPI, BENCH_MPIRUN_MPICH};

/* In the child that becomes a peer's launcher or worker: its output must not mix with the table and goes to the log. */
static _Noreturn void exec_quietly(const struct party *party, const char *const argv[]) {
  int log = open(party->log, O_WRONLY | O_CREAT | O_APPEND, 0600), null = open("/dev/null", O_RDONLY);
  dup2(null, 0);
  dup2(log, 1);
  dup2(log, 2);
  execv(argv[0], (char *const *)(uintptr_t)argv);
  dprintf(2, "cannot run %s: %m\n", argv[0]);
  _exit(127);
}

/* What a peer's processes are told. */
struct peer_job {
  const struct options *options;
  const cpu_set_t *cpus;
  int peer;
  const char *library; /* a build of this library, which its ranks load */
  char worker[320];
  char socket_path[64];
  char bytes[24];
};

/* Its files go to our folder. */
static _Noreturn void exec_mpirun(const struct party *party, const struct peer_job *job) {
  char ranks[16];
  const char *argv[16], **next = argv;
  const char *bind = pinning(job->options, party->nranks, job->cpus) ? "core" : "none";
  snprintf(ranks, sizeof ranks, "%d", party->nranks);
  *next++ = mpiruns[job->peer];
  if (job->peer == PEER_OPENMPI) *next++ = "--allow-run-as-root", *next++ = "--oversubscribe";
  *next++ = "-n", *next++ = ranks;
  *next++ = job->peer == PEER_OPENMPI ? "--bind-to" : "-bind-to", *next++ = bind;
  *next++ = job->worker, *next++ = job->socket_path, *next++ = job->bytes, *next++ = memory_names[MEMORY_HOST];
  *next = NULL;
  setenv("TMPDIR", run.folder, 1);
  setenv("OMPI_MCA_btl_vader_backing_directory", run.folder, 0);
  setenv("OMPI_MCA_btl_sm_backing_directory", run.folder, 0);
  exec_quietly(party, argv);
}

/* The script starts its ranks itself. It is told how long a command is, since it reads and writes our structs. */
static _Noreturn void exec_gloo(const struct party *party, const struct peer_job *job) {
  char ranks[16], sizes[48], cores[8 * SHMCCL_MAX_RANKS] = "none";
  const char *argv[] = {job->worker, job->socket_path, job->bytes, ranks, sizes, cores, NULL};
  snprintf(ranks, sizeof ranks, "%d", party->nranks);
  snprintf(sizes, sizeof sizes, "%zu,%zu,%zu", sizeof(struct command), sizeof(struct reply), sizeof(struct hello));
  if (pinning(job->options, party->nranks, job->cpus))
    for (int cpu = 0, n = 0, used = 0; cpu < CPU_SETSIZE && n < party->nranks; cpu++)
      if (CPU_ISSET(cpu, job->cpus))
        used += snprintf(cores + used, sizeof cores - (size_t)used, "%s%d", n++ ? "," : "", cpu);
  exec_quietly(party, argv);
}

/* One of the ranks that have no launcher but us. */
static _Noreturn void exec_rank(const struct party *party, const struct peer_job *job, int rank, int serial) {
  char id[64], ranks[16], number[16];
  const char *argv[] = {job->worker, job->socket_path, job->bytes, memory_names[job->options->memory], NULL};
  snprintf(id, sizeof id, "shmccl-perf-%d-%d", (int)getppid(), serial);
  snprintf(ranks, sizeof ranks, "%d", party->nranks);
  snprintf(number, sizeof number, "%d", rank);
  setenv("SHMCCL_ID", id, 1);
  setenv("SHMCCL_NRANKS", ranks, 1);
  setenv("SHMCCL_RANK", number, 1);
  if (job->library)
    setenv("LD_PRELOAD", job->library, 1);
  else
    nccl_set_environment(job->options, job->peer, rank);
  if (pinning(job->options, party->nranks, job->cpus)) worker_pin(job->cpus, rank);
  exec_quietly(party, argv);
}

/* A process that the party cannot do without has ended already. */
static bool has_ended(struct party *party) {
  int status;
  if (party->launcher) return party_reap(party->launcher, 0, &status) ? party->launcher = 0, true : false;
  for (int r = 0; r < party->nranks; r++)
    if (party->pids[r] && party_reap(party->pids[r], 0, &status)) return party->pids[r] = 0, true;
  return false;
}

/* Accepts until every rank is there. They come in any order. */
static enum party_result accept_all(struct party *party, int listener) {
  double end = seconds_now() + START_SECONDS;
  for (int n = 0; n < party->nranks;) {
    struct pollfd fd = {.fd = listener, .events = POLLIN};
    int ready = party_poll(&fd, 1, 0.1);
    if (ready < 0) return PARTY_INTERRUPTED;
    if (ready)
      party->fds[n++] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    else if (has_ended(party))
      return party_fail_with_log(party, "it ended while starting");
    else if (seconds_now() > end)
      return party_fail_with_log(party, "its ranks were not all up in time");
  }
  return PARTY_OK;
}

static enum party_result receive_hellos(struct party *party) {
  struct hello hellos[SHMCCL_MAX_RANKS];
  int fds[SHMCCL_MAX_RANKS];
  enum party_result result = party_receive(party, hellos, sizeof *hellos, START_SECONDS);
  if (result != PARTY_OK) return result;
  memcpy(fds, party->fds, sizeof fds);
  for (int i = 0; i < party->nranks; i++) {
    party->fds[hellos[i].rank] = fds[i];
    party->pids[hellos[i].rank] = hellos[i].pid;
  }
  memcpy(party->version, hellos[0].version, sizeof party->version);
  return PARTY_OK;
}

static bool fork_launcher(struct party *party, const struct peer_job *job) {
  pid_t driver = getpid();
  party->launcher = fork();
  if (party->launcher == 0) {
    become_child(SIGTERM, driver);
    if (job->peer == PEER_GLOO) exec_gloo(party, job);
    exec_mpirun(party, job);
  }
  if (party->launcher > 0) return true;
  party->launcher = 0;
  return false;
}

static bool fork_peer_ranks(struct party *party, const struct peer_job *job) {
  static int serial;
  pid_t driver = getpid();
  serial++;
  for (int r = 0; r < party->nranks; r++) {
    pid_t pid = fork();
    if (pid == 0) {
      become_child(SIGKILL, driver);
      exec_rank(party, job, r, serial);
    }
    if (pid < 0) return false;
    party->pids[r] = pid;
  }
  return true;
}

/* Starts processes that connect to a socket of ours. */
static enum party_result start_connecting(struct party *party, struct peer_job *job, const char *worker) {
  worker_path(job->worker, sizeof job->worker, worker);
  if (access(job->worker, X_OK)) return party_fail(party, "cannot run %s: %m", job->worker);
  snprintf(job->socket_path, sizeof job->socket_path, "%s/%s", run.folder, party->name);
  snprintf(job->bytes, sizeof job->bytes, "%zu", options_buffer_bytes(job->options));
  snprintf(party->log, sizeof party->log, "%s/%s.log", run.folder, party->name);
  int listener = listen_at(job->socket_path);
  if (listener < 0) return party_fail(party, "cannot listen at %s: %m", job->socket_path);
  fflush(NULL);
  const bool by_us = job->library || peer_is_nccl(job->peer);
  bool forked = by_us ? fork_peer_ranks(party, job) : fork_launcher(party, job);
  enum party_result result = forked ? accept_all(party, listener) : party_fail(party, "cannot fork: %m");
  close(listener);
  unlink(job->socket_path);
  if (result == PARTY_OK) result = receive_hellos(party);
  if (result == PARTY_FAILED) {
    party_kill(party);
    party_bury(party);
  }
  return result;
}

static enum party_result start_library(struct party *party, const struct options *options, const cpu_set_t *cpus,
                                       const char *library) {
  char path[PATH_MAX];
  struct peer_job job = {.options = options, .cpus = cpus, .peer = PEER_AGAINST, .library = path};
  if (!realpath(library, path)) return party_fail(party, "%s: %m", library);
  return start_connecting(party, &job, "library");
}

enum party_result party_start_own(struct party *party, const struct options *options, int nranks, const cpu_set_t *cpus,
                                  const struct setup *setup) {
  party_init(party, "shmccl", options, nranks);
  return options->library ? start_library(party, options, cpus, options->library)
                          : fork_own(party, options, cpus, setup);
}

enum party_result party_start_peer(struct party *party, const struct options *options, const cpu_set_t *cpus,
                                   int peer) {
  struct peer_job job = {.options = options, .cpus = cpus, .peer = peer};
  party_init(party, peer_names[peer], options, (int)options->ranks);
  if (peer == PEER_AGAINST) return start_library(party, options, cpus, options->against);
  if (peer_is_nccl(peer)) {
    const char *hindrance = nccl_hindrance(options, peer);
    if (hindrance) return party_fail(party, "%s", hindrance);
    party->leaves_segments = true;
    return start_connecting(party, &job, "nccl");
  }
  if (peer != PEER_GLOO && !mpiruns[peer])
    return party_fail(party, "not built: no such MPI was found when this program was configured");
  run.mpich_started |= peer == PEER_MPICH;
  return start_connecting(party, &job, party->name);
}

void party_quit(struct party *party) {
  static const struct command quit = {.kind = COMMAND_QUIT};
  int status;
  for (int r = 0; r < party->nranks; r++) send(party->fds[r], &quit, sizeof quit, MSG_NOSIGNAL);
  bool ours = !party->launcher;
  if (party->launcher && party_reap(party->launcher, END_SECONDS, &status)) party->launcher = 0;
  for (int r = 0; r < party->nranks && ours; r++)
    if (party->pids[r] && party_reap(party->pids[r], END_SECONDS, &status)) party->pids[r] = 0;
}

void party_dismiss(struct party *party) {
  int place = 0;
  party_quit(party);
  party_kill(party);
  party_bury(party);
  while (place < run.nparties && run.parties[place] != party) place++;
  if (place < run.nparties) run.parties[place] = run.parties[--run.nparties];
}
