/*
 * test_communicators.c - many communicators live side by side, are used at the same time, split, and go without a
 * trace.
 *
 * Built twice: ranks as processes, and (HARNESS_THREADS) as threads of one process. All segments are in a folder of the
 * test's own, so that what is left there is this test's.
 */
#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include "calls.h"

enum { NRANKS = 3, COMMS = 3 };

struct plan {
  uint64_t seed;
  shmccl_unique_id_t ids[COMMS];
  const char *folder;
};

static shmccl_config_t limited(void) {
  shmccl_config_t config = SHMCCL_CONFIG_INITIALIZER;
  config.timeout_ms = 60000;
  return config;
}

static void run_calls(shmccl_comm_t *comm, uint64_t seed, int length) {
  struct harness_random r = harness_random(seed), delays = harness_random(seed ^ (uint64_t)(uintptr_t)comm);
  struct buffers buffers = {0};
  int nranks;
  CHECK_OK(shmccl_comm_count(comm, &nranks));
  for (int i = 0; i < length; i++) {
    const struct call c = call_random(&r, nranks, 30000);
    harness_delay(&delays);
    call_once(&c, &buffers, comm);
  }
  call_release_buffers(&buffers);
}

static void check_place(const shmccl_comm_t *comm, int rank, int nranks) {
  int actual_rank, actual_nranks;
  CHECK_OK(shmccl_comm_user_rank(comm, &actual_rank));
  CHECK_OK(shmccl_comm_count(comm, &actual_nranks));
  CHECK_TEXT(actual_rank == rank && actual_nranks == nranks, "rank %d of %d, not %d of %d", actual_rank, actual_nranks,
             rank, nranks);
}

/* ---- at the same time
 * ------------------------------------------------------------------------------------------------ */

struct side_by_side {
  shmccl_comm_t *comms[COMMS];
  uint64_t seed;
};

static void use_one(int number, int nthreads, void *context) {
  const struct side_by_side *s = context;
  (void)nthreads;
  run_calls(s->comms[number], s->seed + (uint64_t)number, 30);
}

/* Each rank has a thread for each communicator. */
static void communicators_run_concurrently(int rank, int nranks, void *context) {
  const struct plan *plan = context;
  const shmccl_config_t config = limited();
  struct side_by_side s = {.seed = plan->seed};
  for (int i = 0; i < COMMS; i++) CHECK_OK(shmccl_comm_init_rank(&s.comms[i], nranks, &plan->ids[i], rank, &config));
  harness_threads(COMMS, use_one, &s, 100);
  for (int i = 0; i < COMMS; i++) CHECK_OK(shmccl_comm_destroy(s.comms[i]));
}

/* One thread uses them in turn; the id of the first serves again after it is complete. */
static void communicators_take_turns(int rank, int nranks, void *context) {
  const struct plan *plan = context;
  const shmccl_config_t config = limited();
  shmccl_comm_t *comms[COMMS];
  for (int i = 0; i < COMMS; i++) {
    CHECK_OK(shmccl_comm_init_rank(&comms[i], nranks, &plan->ids[0], rank, &config));
    CHECK_OK(shmccl_barrier(comms[i], NULL));
    check_place(comms[i], rank, nranks);
  }
  for (int i = 0; i < 30; i++) run_calls(comms[i % COMMS], plan->seed + (uint64_t)i, 3);
  CHECK_OK(shmccl_barrier(comms[0], NULL));
  CHECK(harness_entries(plan->folder) == 0); /* names go when all are attached */
  for (int i = 0; i < COMMS; i++) CHECK_OK(shmccl_comm_destroy(comms[i]));
}

/* ---- split
 * ------------------------------------------------------------------------------------------------------------ */

/* By parity, in reverse order. */
static shmccl_comm_t *split_by_parity(shmccl_comm_t *parent, int rank, int nranks, const shmccl_config_t *config) {
  shmccl_comm_t *comm;
  const int members = (nranks - rank % 2 + 1) / 2;
  CHECK_OK(shmccl_comm_split(parent, rank % 2, -rank, &comm, config));
  check_place(comm, members - 1 - rank / 2, members);
  return comm;
}

/* Equal keys: by rank in the parent. Rank 1 stays out. */
static void split_with_one_out(shmccl_comm_t *parent, int rank, int nranks, uint64_t seed) {
  shmccl_comm_t *comm = parent;
  CHECK_OK(shmccl_comm_split(parent, rank == 1 ? SHMCCL_SPLIT_NOCOLOR : 7, 0, &comm, NULL));
  CHECK((comm == NULL) == (rank == 1));
  if (!comm) return;
  check_place(comm, rank > 1 ? rank - 1 : rank, nranks - 1);
  run_calls(comm, seed, 10);
  CHECK_OK(shmccl_comm_destroy(comm));
}

/* Each alone. */
static void split_into_single_ranks(shmccl_comm_t *parent, int rank, uint64_t seed) {
  shmccl_comm_t *comm;
  CHECK_OK(shmccl_comm_split(parent, rank, 0, &comm, NULL));
  check_place(comm, 0, 1);
  run_calls(comm, seed, 10);
  CHECK_OK(shmccl_comm_destroy(comm));
}

static void splits_work(int rank, int nranks, void *context) {
  const struct plan *plan = context;
  shmccl_config_t config = limited(), other = limited();
  shmccl_comm_t *parent, *half, *same;
  other.chunk_bytes = 256;
  other.algorithm = SHMCCL_ALGORITHM_TWO_SHOT;
  CHECK_OK(shmccl_comm_init_rank(&parent, nranks, &plan->ids[0], rank, &config));
  split_with_one_out(parent, rank, nranks, plan->seed);
  split_into_single_ranks(parent, rank, plan->seed);
  half = split_by_parity(parent, rank, nranks, &other);
  run_calls(parent, plan->seed + 2, 5);
  run_calls(half, plan->seed + 3 + (uint64_t)(rank % 2), 10);
  CHECK_OK(shmccl_comm_destroy(parent)); /* the children go on */
  CHECK_OK(shmccl_comm_split(half, 0, 0, &same, NULL));
  run_calls(same, plan->seed + 5 + (uint64_t)(rank % 2), 10);
  CHECK_OK(shmccl_comm_finalize(half));
  CHECK_OK(shmccl_comm_finalize(same));
  CHECK_OK(shmccl_comm_destroy(same));
  CHECK_OK(shmccl_comm_destroy(half));
}

/* ---- traces
 * ----------------------------------------------------------------------------------------------------------- */

struct traces {
  int segments, descriptors, threads, mappings;
};

static int mappings_in(const char *folder) {
  char line[512];
  int count = 0;
  FILE *f = fopen("/proc/self/maps", "re");
  CHECK(f);
  while (fgets(line, sizeof line, f)) count += strstr(line, folder) != NULL;
  fclose(f);
  return count;
}

static struct traces traces_now(const char *folder) {
  return (struct traces){harness_entries(folder), harness_entries("/proc/self/fd"), harness_entries("/proc/self/task"),
                         mappings_in(folder)};
}

struct round {
  shmccl_comm_t *comms[NRANKS];
  uint64_t seed;
};

static void use_round(int rank, int nranks, void *context) {
  const struct round *round = context;
  shmccl_comm_t *comm = round->comms[rank], *part;
  char byte = 1, got = 0;
  run_calls(comm, round->seed, 3);
  CHECK_OK(shmccl_group_start(comm));
  CHECK_OK(shmccl_send(&byte, 1, SHMCCL_INT8, (rank + 1) % nranks, comm, NULL));
  CHECK_OK(shmccl_recv(&got, 1, SHMCCL_INT8, (rank + 2) % nranks, comm, NULL));
  CHECK_OK(shmccl_group_end(comm));
  CHECK_OK(shmccl_comm_split(comm, 0, 0, &part, NULL));
  CHECK_OK(shmccl_comm_destroy(part));
}

/* Objects destroyed in any order, with and without finalize, after the first round has loaded what stays loaded. */
static void nothing_is_left(const struct plan *plan) {
  struct traces before = {0};
  for (int i = 0; i < 20; i++) {
    struct round round = {.seed = plan->seed + (uint64_t)i};
    CHECK_OK(shmccl_comm_init_all(round.comms, NRANKS, NULL));
    for (int r = 0; r < NRANKS; r++) check_place(round.comms[r], r, NRANKS);
    harness_threads(NRANKS, use_round, &round, 100);
    for (int r = 0; r < NRANKS; r++) CHECK_OK(shmccl_comm_destroy(round.comms[(r + i) % NRANKS]));
    const struct traces now = traces_now(plan->folder);
    if (i == 0) before = now;
    CHECK_TEXT(!memcmp(&now, &before, sizeof now), "%d segments, %d descriptors, %d threads, %d mappings are left",
               now.segments, now.descriptors - before.descriptors, now.threads - before.threads, now.mappings);
    CHECK(now.segments == 0 && now.mappings == 0);
  }
}

/* ---- many ranks
 * --------------------------------------------------------------------------------------------------------- */

static void use_all(int rank, int nranks, void *context) {
  const struct plan *plan = context;
  const shmccl_config_t config = limited();
  shmccl_comm_t *comm;
  CHECK_OK(shmccl_comm_init_rank(&comm, nranks, &plan->ids[0], rank, &config));
  run_calls(comm, plan->seed, 3);
  CHECK_OK(shmccl_comm_finalize(comm));
  CHECK_OK(shmccl_comm_destroy(comm));
}

int main(void) {
  struct plan plan = {.seed = harness_seed(), .folder = harness_own_folder()};
  for (int i = 0; i < COMMS; i++) CHECK_OK(shmccl_get_unique_id(&plan.ids[i]));
  harness_ranks(NRANKS, communicators_run_concurrently, &plan, 100);
  harness_ranks(NRANKS, communicators_take_turns, &plan, 100);
  for (int nranks = 2; nranks <= 5; nranks++) harness_ranks(nranks, splits_work, &plan, 100);
  harness_ranks(SHMCCL_MAX_RANKS, use_all, &plan, 100);
  nothing_is_left(&plan);
  CHECK(harness_entries(plan.folder) == 0);
  return 0;
}
