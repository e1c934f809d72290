/*
 * soak.c - random work for a stated time: collectives, messages, splits, new communicators; every element verified,
 * every trace of what was destroyed looked for.
 *
 *   shmccl-soak [--seconds N] [--ranks N] [--seed N] [--json FILE]
 *
 * All that a round does follows from the seed, its number and the color, so the ranks (processes) agree without being
 * told; that the next round is the last one is said by rank 0, through the communicator. After each round a rank counts
 * its descriptors, threads and mappings, which must be as many as after the first, and its private memory, whose
 * highest level in the last quarter of the time must be that of the first one, but for SLACK_KB.
 */
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "collectives/calls.h"
#include "harness.h"
#include "json.h"

enum { RANKS_MOST = 16, CALLS_MOST = 24, ROUNDS_PER_COMM = 16, LARGE_BYTES = 8 << 20, SLACK_KB = 1024 };
enum { GRACE_S = 180, PROGRESS_S = 10 };

/* What a rank owns between two rounds. */
struct traces {
  long descriptors, threads, mappings, private_kb;
};

/* A rank's counts: its own line of memory that all processes share. */
struct tally {
  uint64_t rounds, calls[SHMI_COLLECTIVE_COUNT], messages, communicators, bytes;
  struct traces first;
  long quarter_kb[4]; /* highest private memory in each quarter of the time */
} __attribute__((aligned(128)));

struct soak {
  uint64_t seed, start_ns;
  unsigned seconds;
  int nranks;
  const char *json;
  shmccl_unique_id_t id;
  volatile sig_atomic_t stop;
  struct tally tallies[RANKS_MOST];
};

static struct soak *soak; /* shared by all processes */

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static double elapsed_s(void) { return (double)(now_ns() - soak->start_ns) / 1e9; }

/* ---- traces ------------------------------------------------------------------------------------------------------ */

static long number_in(const char *path, const char *row) {
  char line[256];
  long value = -1;
  FILE *f = fopen(path, "re");
  while (f && fgets(line, sizeof line, f))
    if (!strncmp(line, row, strlen(row))) value = strtol(line + strlen(row), NULL, 10);
  if (f) fclose(f);
  return value;
}

static long mappings_of_segments(void) {
  char line[4096];
  long count = 0;
  FILE *f = fopen("/proc/self/maps", "re");
  while (f && fgets(line, sizeof line, f)) count += strstr(line, "/shmccl-") != NULL && strstr(line, " (deleted)");
  if (f) fclose(f);
  return count;
}

static struct traces traces_now(void) {
  malloc_trim(0);
  return (struct traces){.descriptors = harness_entries("/proc/self/fd"),
                         .threads = number_in("/proc/self/status", "Threads:"),
                         .mappings = mappings_of_segments(),
                         .private_kb = number_in("/proc/self/status", "RssAnon:")};
}

static void check_traces(struct tally *t) {
  const struct traces now = traces_now(), first = t->first;
  const int quarter = (int)(elapsed_s() * 4 / soak->seconds);
  CHECK_TEXT(now.descriptors == first.descriptors && now.threads == first.threads && now.mappings == first.mappings,
             "round %llu leaves %ld descriptors, %ld threads, %ld mappings of segments; the first left %ld, %ld, %ld",
             (unsigned long long)t->rounds, now.descriptors, now.threads, now.mappings, first.descriptors,
             first.threads, first.mappings);
  long *most = &t->quarter_kb[quarter < 4 ? quarter : 3];
  if (now.private_kb > *most) *most = now.private_kb;
}

/* ---- work -------------------------------------------------------------------------------------------------------- */

/* The same on all ranks that give the same numbers. */
static struct harness_random choices(uint64_t round, uint64_t color) {
  struct harness_random r = harness_random(soak->seed ^ round * 0x9e3779b97f4a7c15 ^ color << 56);
  harness_bits(&r);
  return r;
}

static void run_collectives(struct tally *t, shmccl_comm_t *comm, int nranks, struct harness_random *r) {
  struct buffers buffers = {0};
  for (size_t calls = 1 + harness_below(r, CALLS_MOST); calls; calls--) {
    const size_t most = harness_below(r, 16) ? 1 << 16 : LARGE_BYTES / (size_t)nranks;
    const struct call c = call_random(r, nranks, most);
    call_once(&c, &buffers, comm);
    t->calls[c.collective]++;
    t->bytes += c.count * shmccl_datatype_size(c.type);
  }
  call_release_buffers(&buffers);
}

static uint8_t message_byte(int from, size_t i, size_t count) {
  return (uint8_t)(i * 31 + i / 251 + count + 7u * (unsigned)from);
}

/* Everybody to its successor, several messages of any size in one group. */
static void run_messages(struct tally *t, shmccl_comm_t *comm, int rank, int nranks, struct harness_random *r) {
  enum { MOST = 4 };
  const size_t number = 1 + harness_below(r, MOST);
  const int next = (rank + 1) % nranks, before = (rank + nranks - 1) % nranks;
  struct harness_buffer in[MOST] = {{0}}, out[MOST] = {{0}};
  CHECK_OK(shmccl_group_start(comm));
  for (size_t m = 0; m < number; m++) {
    const size_t count = harness_below(r, (size_t)1 << harness_below(r, 22));
    uint8_t *send = harness_take(&out[m], count, m), *recv = harness_take(&in[m], count, 2 * m);
    for (size_t i = 0; i < count; i++) send[i] = message_byte(rank, i, count);
    CHECK_OK(shmccl_send(send, count, SHMCCL_UINT8, next, comm, NULL));
    CHECK_OK(shmccl_recv(recv, count, SHMCCL_UINT8, before, comm, NULL));
  }
  CHECK_OK(shmccl_group_end(comm));
  for (size_t m = 0; m < number; m++) {
    for (size_t i = 0; i < in[m].bytes; i++)
      CHECK_TEXT(in[m].data[i] == message_byte(before, i, in[m].bytes), "message %zu: byte %zu of %zu is wrong", m, i,
                 in[m].bytes);
    harness_check_guards(&in[m], "recvbuf");
    t->messages++;
    t->bytes += in[m].bytes;
    harness_release(&in[m]);
    harness_release(&out[m]);
  }
}

/* Settings that choose other ways through the library. */
static shmccl_config_t choose_config(struct harness_random *r) {
  shmccl_config_t config = SHMCCL_CONFIG_INITIALIZER;
  config.timeout_ms = 120000;
  config.algorithm = (shmccl_algorithm_t)harness_below(r, 3);
  if (harness_below(r, 3) == 0) config.chunk_bytes = (uint64_t)4096 << harness_below(r, 8);
  if (harness_below(r, 3) == 0) config.staging_bytes = (uint64_t)4 << 20;
  return config;
}

static void run_part(struct tally *t, shmccl_comm_t *comm, uint64_t round, uint64_t color) {
  struct harness_random r = choices(round, 1 + color);
  int rank, nranks;
  CHECK_OK(shmccl_comm_user_rank(comm, &rank));
  CHECK_OK(shmccl_comm_count(comm, &nranks));
  run_collectives(t, comm, nranks, &r);
  run_messages(t, comm, rank, nranks, &r);
  if (harness_below(&r, 2)) CHECK_OK(shmccl_comm_finalize(comm));
  CHECK_OK(shmccl_comm_destroy(comm));
  t->communicators++;
}

static void run_round(struct tally *t, shmccl_comm_t *all, int rank, int nranks) {
  struct harness_random r = choices(t->rounds, 0);
  const shmccl_config_t config = choose_config(&r);
  shmccl_comm_t *part;
  int color = 0, key = 0;
  for (int i = 0; i <= rank; i++) {
    color = (int)harness_below(&r, 1 + (size_t)nranks / 2);
    key = (int)harness_below(&r, 100);
  }
  CHECK_OK(shmccl_comm_split(all, color, key, &part, &config));
  run_part(t, part, t->rounds, (uint64_t)color);
}

/* ---- ranks ------------------------------------------------------------------------------------------------------- */

/* Whether there is another round, and the id of a new communicator for it. */
struct order {
  uint32_t go_on;
  shmccl_unique_id_t id;
};

static struct order next_order(shmccl_comm_t *all, int rank) {
  struct order order = {0};
  if (rank == 0) {
    order.go_on = !soak->stop && elapsed_s() < soak->seconds;
    CHECK_OK(shmccl_get_unique_id(&order.id));
  }
  CHECK_OK(shmccl_broadcast(&order, &order, sizeof order, SHMCCL_UINT8, 0, all, NULL));
  return order;
}

static shmccl_comm_t *make_comm(struct tally *t, const shmccl_unique_id_t *id, int rank, int nranks) {
  shmccl_config_t config = SHMCCL_CONFIG_INITIALIZER;
  shmccl_comm_t *comm;
  config.timeout_ms = 120000;
  CHECK_OK(shmccl_comm_init_rank(&comm, nranks, id, rank, &config));
  t->communicators++;
  return comm;
}

static void show_progress(const struct tally *t, double *shown) {
  uint64_t calls = 0;
  if (elapsed_s() < *shown + PROGRESS_S) return;
  *shown = elapsed_s();
  for (int c = 0; c < SHMI_COLLECTIVE_COUNT; c++) calls += t->calls[c];
  fprintf(stderr, "# %4.0f s: %llu rounds, %llu collectives, %llu messages, %llu communicators, %ld KiB\n", *shown,
          (unsigned long long)t->rounds, (unsigned long long)calls, (unsigned long long)t->messages,
          (unsigned long long)t->communicators, traces_now().private_kb);
}

static void run_rank(int rank, int nranks, void *context) {
  struct tally *t = &soak->tallies[rank];
  double shown = 0;
  (void)context;
  mallopt(M_MMAP_THRESHOLD, 128 << 10); /* fixed: what is freed goes back to the kernel */
  shmccl_comm_t *all = make_comm(t, &soak->id, rank, nranks);
  for (struct order order; order = next_order(all, rank), order.go_on; t->rounds++) {
    harness_note("round %llu", (unsigned long long)t->rounds);
    if (t->rounds % ROUNDS_PER_COMM == ROUNDS_PER_COMM - 1) {
      CHECK_OK(shmccl_comm_destroy(all));
      all = make_comm(t, &order.id, rank, nranks);
    }
    run_round(t, all, rank, nranks);
    if (t->rounds == 0) t->first = traces_now();
    check_traces(t);
    if (rank == 0) show_progress(t, &shown);
  }
  CHECK_OK(shmccl_comm_finalize(all));
  CHECK_OK(shmccl_comm_destroy(all));
}

/* ---- verdict ----------------------------------------------------------------------------------------------------- */

/* Of a run that was too short for quarters: 0. */
static long growth_kb(const struct tally *t) {
  return t->quarter_kb[0] && t->quarter_kb[3] ? t->quarter_kb[3] - t->quarter_kb[0] : 0;
}

static struct tally sum_up(long *growth) {
  struct tally all = {0};
  *growth = 0;
  for (int r = 0; r < soak->nranks; r++) {
    const struct tally *t = &soak->tallies[r];
    for (int c = 0; c < SHMI_COLLECTIVE_COUNT; c++) all.calls[c] += t->calls[c];
    all.messages += t->messages;
    all.communicators += t->communicators;
    all.bytes += t->bytes;
    if (growth_kb(t) > *growth) *growth = growth_kb(t);
  }
  all.rounds = soak->tallies[0].rounds;
  return all;
}

static const char *const collectives[SHMI_COLLECTIVE_COUNT] = {
    [SHMI_ALLREDUCE] = "allreduce", [SHMI_ALLGATHER] = "allgather", [SHMI_REDUCE_SCATTER] = "reduce_scatter",
    [SHMI_BROADCAST] = "broadcast", [SHMI_REDUCE] = "reduce",       [SHMI_ALLTOALL] = "alltoall",
    [SHMI_GATHER] = "gather",       [SHMI_SCATTER] = "scatter",     [SHMI_BARRIER] = "barrier",
};

static void write_json(const struct tally *all, long growth, const char *failure) {
  struct json json = {.out = soak->json ? fopen(soak->json, "we") : NULL};
  char seed[32];
  if (!soak->json) return;
  snprintf(seed, sizeof seed, "%llu", (unsigned long long)soak->seed);
  CHECK_TEXT(json.out, "%s: %s", soak->json, strerror(errno));
  json_object(&json, NULL);
  json_string(&json, "seed", seed); /* JSON's numbers have 53 bits */
  json_whole(&json, "ranks", soak->nranks);
  json_number(&json, "seconds", elapsed_s());
  json_bool(&json, "passed", !failure);
  json_string(&json, "failure", failure);
  json_whole(&json, "rounds", (int64_t)all->rounds);
  json_whole(&json, "communicators", (int64_t)all->communicators);
  json_whole(&json, "messages", (int64_t)all->messages);
  json_whole(&json, "bytes", (int64_t)all->bytes);
  json_whole(&json, "memory_growth_kib", growth);
  json_object(&json, "collectives");
  for (int c = 0; c < SHMI_COLLECTIVE_COUNT; c++) json_whole(&json, collectives[c], (int64_t)all->calls[c]);
  json_end_object(&json);
  json_end_object(&json);
  CHECK_TEXT(!fclose(json.out), "%s: %s", soak->json, strerror(errno));
}

/* The first rank that did not fail because another was gone; NULL if all is well. */
static const char *find_failure(const struct harness_outcome *outcomes, long growth, char text[640]) {
  const char *failure = NULL;
  for (int r = 0; r < soak->nranks; r++) {
    const struct harness_outcome *o = &outcomes[r];
    if (!o->timed_out && !o->signal && !o->status) continue;
    if (failure && strstr(o->message, "died")) continue;
    snprintf(text, 640, "rank %d %s, signal %d: %s", r, o->timed_out ? "hangs" : "failed", o->signal, o->message);
    failure = text;
  }
  if (!failure && growth > SLACK_KB) {
    snprintf(text, 640, "private memory has grown by %ld KiB", growth);
    failure = text;
  }
  return failure;
}

static int report(const struct harness_outcome *outcomes) {
  char text[640];
  long growth;
  uint64_t calls = 0;
  const struct tally all = sum_up(&growth);
  const char *failure = find_failure(outcomes, growth, text);
  for (int c = 0; c < SHMI_COLLECTIVE_COUNT; c++) calls += all.calls[c];
  printf("%d ranks, %.0f s: %llu rounds, %llu collectives, %llu messages, %llu communicators (each rank's counted), "
         "%.1f GB; descriptors, threads and mappings flat, memory %+ld KiB at most: %s\n",
         soak->nranks, elapsed_s(), (unsigned long long)all.rounds, (unsigned long long)calls,
         (unsigned long long)all.messages, (unsigned long long)all.communicators, (double)all.bytes / 1e9, growth,
         failure ? failure : "passed");
  write_json(&all, growth, failure);
  return failure ? 1 : 0;
}

/* ---- the program ------------------------------------------------------------------------------------------------- */

static void on_signal(int number) {
  (void)number;
  soak->stop = 1;
}

static _Noreturn void usage(int status) {
  fprintf(status ? stderr : stdout,
          "shmccl-soak: random collectives, messages, splits and new communicators, every element verified\n"
          "  --seconds N   for how long [600]\n"
          "  --ranks N     processes, 2 to %d [4]\n"
          "  --seed N      repeats a run's choices [random, printed]\n"
          "  --json FILE   writes the counts\n"
          "SIGINT and SIGTERM end it after the round, with its report. Exit status: 0 passed, 1 failed, 2 usage.\n",
          RANKS_MOST);
  exit(status);
}

static unsigned long long number(const char *text, unsigned long long least, unsigned long long most) {
  char *end;
  errno = 0;
  const unsigned long long value = strtoull(text, &end, 0);
  if (*text && *text != '-' && !*end && !errno && value >= least && value <= most) return value;
  fprintf(stderr, "shmccl-soak: %s: give %llu to %llu\n", text, least, most);
  exit(2);
}

static void read_flags(int argc, char **argv) {
  static const struct option flags[] = {
      {"seconds", required_argument, NULL, 's'}, {"ranks", required_argument, NULL, 'n'},
      {"seed", required_argument, NULL, 'x'},    {"json", required_argument, NULL, 'j'},
      {"help", no_argument, NULL, 'h'},          {NULL, 0, NULL, 0}};
  for (int flag; (flag = getopt_long(argc, argv, "h", flags, NULL)) >= 0;) {
    if (flag == 's') soak->seconds = (unsigned)number(optarg, 1, 1000000);
    if (flag == 'n') soak->nranks = (int)number(optarg, 2, RANKS_MOST);
    if (flag == 'x') soak->seed = number(optarg, 0, UINT64_MAX);
    if (flag == 'j') soak->json = optarg;
    if (flag == 'h') usage(0);
    if (flag == '?') usage(2);
  }
  if (optind < argc) usage(2);
}

int main(int argc, char **argv) {
  struct harness_outcome outcomes[RANKS_MOST];
  struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
  soak = mmap(NULL, sizeof *soak, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(soak != MAP_FAILED);
  *soak = (struct soak){.seconds = 600, .nranks = 4, .seed = now_ns()};
  read_flags(argc, argv);
  printf("seed %llu\n", (unsigned long long)soak->seed);
  fflush(stdout);
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);
  const char *folder = harness_own_folder();
  CHECK_OK(shmccl_get_unique_id(&soak->id));
  soak->start_ns = now_ns();
  harness_outcomes(soak->nranks, run_rank, NULL, soak->seconds + GRACE_S, outcomes);
  const int status = report(outcomes);
  CHECK_TEXT(harness_entries(folder) == 0, "%d files are left in %s", harness_entries(folder), folder);
  return status;
}
