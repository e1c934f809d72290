/*
 * test_front.c - the front before the fake NCCL, on the stand-in runtime: who is diverted and who is not, the same on
 * all ranks; groups, creation in all ways, what stays with NCCL. Whether a call was diverted shows in what the fake has
 * counted; its result is checked either way.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "rig.h"

/* ---- eligibility: ranks are processes ---------------------------------------------------------------------------- */

struct given {
  const char *settings[2]; /* of SHMCCL_FRONT on rank 0 and on the others; NULL: not set */
  const char *also;        /* another variable, and its value */
  const char *value;
  bool diverted;
  bool differs; /* the other one is set on rank 0 only */
};

static const struct given matrix[] = {
    {{NULL, NULL}, NULL, NULL, true, false},
    {{NULL, NULL}, "FAKE_NVML", "p2p", false, false},
    {{NULL, NULL}, "FAKE_NVML", "silent", false, false},
    {{NULL, NULL}, "FAKE_NVML", "broken", false, false},
    {{"always", "always"}, "FAKE_NVML", "p2p", true, false},
    {{"always", "always"}, "FAKE_NVML", "silent", true, false},
    {{"never", "never"}, NULL, NULL, false, false},
    {{"always", NULL}, NULL, NULL, false, false},
    {{NULL, "always"}, NULL, NULL, false, false},
    {{"sometimes", "sometimes"}, NULL, NULL, false, false},
    {{NULL, NULL}, "LOCAL_WORLD_SIZE", "2", false, false}, /* of WORLD_SIZE 4, below */
    {{NULL, NULL}, "SHMCCL_ALGORITHM", "two-shot", true, false},
    {{NULL, NULL}, "SHMCCL_ALGORITHM", "two-shot", false, true},
    {{NULL, NULL}, "SHMCCL_MEMORY", "host", true, false}, /* for the C API; the front needs the GPU */
};

static void run_given(int rank, int nranks, void *context) {
  const struct given *g = context;
  const char *setting = g->settings[rank > 0];
  nccl_comm_t comm;
  if (setting) setenv("SHMCCL_FRONT", setting, 1);
  if (g->also && !(g->differs && rank)) setenv(g->also, g->value, 1);
  if (g->also && !strcmp(g->also, "LOCAL_WORLD_SIZE")) {
    setenv("RANK", "0", 1);
    setenv("WORLD_SIZE", "4", 1);
  }
  rig_load();
  CUDA(cudaSetDevice(rank));
  struct data d = rig_open();
  OK(front.CommInitRank(&comm, nranks, rig_shared->id[0], rank));
  const bool asked = rig_all_reduce(comm, &d, rank, nranks);
  CHECK_TEXT(asked != g->diverted, "rank %d was %sdiverted", rank, asked ? "not " : "");
  rig_meet(rank, nranks, 1);
  OK(front.CommDestroy(comm));
  rig_close(&d);
}

static void test_matrix(void) {
  for (size_t i = 0; i < LENGTH(matrix); i++) {
    const struct given *g = &matrix[i];
    printf("SHMCCL_FRONT %s, others %s, %s=%s%s\n", g->settings[0], g->settings[1], g->also, g->value,
           g->differs ? " on rank 0" : "");
    rig_prepare();
    harness_processes(3, run_given, (void *)(uintptr_t)g, RIG_SECONDS);
  }
}

/* One rank has no front, as if it were on another host: the others find out, and all stay with NCCL. */
static void run_without(int rank, int nranks, void *context) {
  const int without = *(int *)context;
  nccl_comm_t comm;
  rig_load();
  if (rank == without) front = fake;
  CUDA(cudaSetDevice(rank));
  struct data d = rig_open();
  OK(front.CommInitRank(&comm, nranks, rig_shared->id[0], rank));
  CHECK(rig_all_reduce(comm, &d, rank, nranks));
  rig_meet(rank, nranks, 1);
  OK(front.CommDestroy(comm));
  rig_close(&d);
}

static void test_without(void) {
  for (int without = 0; without < 2; without++) {
    rig_prepare();
    harness_processes(2, run_without, &without, RIG_SECONDS);
  }
}

/* ---- creation, groups: one thread has all GPUs --------------------------------------------------------------------
 */

static void group_all_reduce(nccl_comm_t *comms, struct data *d, int n, int nested) {
  for (int r = 0; r < n; r++) {
    CUDA(cudaSetDevice(r));
    rig_fill(&d[r], (float)r);
  }
  for (int i = 0; i <= nested; i++) OK(front.GroupStart());
  for (int r = 0; r < n; r++)
    OK(front.AllReduce(d[r].buffer, d[r].buffer, RIG_COUNT, NCCL_FLOAT32, NCCL_SUM, comms[r], d[r].stream));
  for (int i = 0; i <= nested; i++) OK(front.GroupEnd());
  for (int r = 0; r < n; r++) {
    CUDA(cudaSetDevice(r));
    rig_expect_sum(&d[r], n);
  }
}

/* Calls that are NCCL's and calls of another communicator in the same group. */
static void group_mixed(nccl_comm_t *comms, nccl_comm_t *others, struct data *d, int n) {
  const int sent = rig_count("Send");
  for (int r = 0; r < n; r++) {
    CUDA(cudaSetDevice(r));
    rig_fill(&d[r], 1);
  }
  OK(front.GroupStart());
  for (int r = 0; r < n; r++) {
    OK(front.Send(d[r].buffer, RIG_COUNT, NCCL_FLOAT32, (r + 1) % n, comms[r], d[r].stream)); /* the fake only counts */
    OK(front.AllReduce(d[r].buffer, d[r].buffer, RIG_COUNT, NCCL_FLOAT32, NCCL_SUM, comms[r], d[r].stream));
  }
  for (int r = 0; r < n; r++)
    OK(front.AllReduce(d[r].buffer, d[r].buffer, RIG_COUNT, NCCL_FLOAT32, NCCL_SUM, others[r], d[r].stream));
  OK(front.GroupEnd());
  CHECK(rig_count("Send") == sent + n);
  for (int r = 0; r < n; r++) {
    CUDA(cudaSetDevice(r));
    rig_expect(&d[r], (float)(n * n), (float)(n * n));
  }
}

static void init_in_group(nccl_comm_t *comms, int n, const nccl_unique_id_t *id) {
  OK(front.GroupStart());
  for (int r = 0; r < n; r++) {
    CUDA(cudaSetDevice(r));
    OK(front.CommInitRank(&comms[r], n, *id, r));
  }
  OK(front.GroupEnd());
}

/* The odd ranks, in reverse; rank 0 takes part in none. */
static void split_in_group(nccl_comm_t *comms, nccl_comm_t *parts, int n) {
  enum { NO_COLOR = -1 };
  OK(front.GroupStart());
  for (int r = 0; r < n; r++) {
    CUDA(cudaSetDevice(r));
    OK(front.CommSplit(comms[r], r ? 1 : NO_COLOR, -r, &parts[r], NULL));
  }
  OK(front.GroupEnd());
  CHECK(!parts[0]);
  CHECK(parts[n - 1]);
}

static void destroy_all(nccl_comm_t *comms, int n) {
  for (int r = 0; r < n; r++)
    if (comms[r]) OK(front.CommDestroy(comms[r]));
}

/* The part's rank 0 is on GPU 2, its rank 1 on GPU 1. */
static void group_parts(nccl_comm_t *parts, struct data *d) {
  for (int r = 1; r < 3; r++) {
    CUDA(cudaSetDevice(r));
    rig_fill(&d[r], (float)(r == 1));
  }
  OK(front.GroupStart());
  for (int r = 1; r < 3; r++)
    OK(front.AllReduce(d[r].buffer, d[r].buffer, RIG_COUNT, NCCL_FLOAT32, NCCL_SUM, parts[r], d[r].stream));
  OK(front.GroupEnd());
  for (int r = 1; r < 3; r++) {
    CUDA(cudaSetDevice(r));
    rig_expect_sum(&d[r], 2);
  }
}

static void test_one_thread(void) {
  enum { N = 3 };
  nccl_comm_t comms[N], others[N], parts[N];
  struct data d[N];
  const int before = (rig_prepare(), rig_count("AllReduce"));
  for (int r = 0; r < N; r++) {
    CUDA(cudaSetDevice(r));
    d[r] = rig_open();
  }
  OK(front.CommInitAll(comms, N, NULL));
  init_in_group(others, N, &rig_shared->id[1]);
  group_all_reduce(comms, d, N, 0);
  group_all_reduce(others, d, N, 2);
  group_mixed(comms, others, d, N);
  split_in_group(comms, parts, N);
  group_parts(parts, d);
  destroy_all(parts, N);
  destroy_all(others, N);
  group_all_reduce(comms, d, N, 1);
  destroy_all(comms, N);
  CHECK(front.GroupEnd() != NCCL_SUCCESS); /* without a start */
  CHECK_TEXT(rig_count("AllReduce") == before, "NCCL was asked for %d all-reduces", rig_count("AllReduce") - before);
  for (int r = 0; r < N; r++) {
    CUDA(cudaSetDevice(r));
    rig_close(&d[r]);
  }
}

/* ---- other ways to create; what stays with NCCL: ranks are threads ------------------------------------------------
 */

static nccl_comm_t create(int rank, int nranks, int way) {
  struct { /* as far as the fake reads it */
    size_t size;
    unsigned magic, version;
    int blocking;
  } config = {sizeof config, 0, 0, way != 2};
  nccl_comm_t comm = NULL;
  nccl_result_t state;
  if (way == 0) OK(front.CommInitRankConfig(&comm, nranks, rig_shared->id[0], rank, &config));
  if (way == 1) OK(front.CommInitRankScalable(&comm, nranks, rank, 2, rig_shared->id, &config));
  if (way < 2) return comm;
  state = front.CommInitRankConfig(&comm, nranks, rig_shared->id[2], rank, &config);
  CHECK(state == NCCL_IN_PROGRESS && comm);
  do {
    usleep(1000);
    OK(front.CommGetAsyncError(comm, &state));
  } while (state == NCCL_IN_PROGRESS);
  CHECK(state == NCCL_SUCCESS);
  return comm;
}

/* Of the non-blocking one, which NCCL hands out when that is done; the first of the ranks are in another part. */
static void split_late(nccl_comm_t comm, int rank, int nranks, const struct data *d) {
  nccl_comm_t part = NULL;
  nccl_result_t state = NCCL_IN_PROGRESS;
  OK(front.CommSplit(comm, rank > 0, rank, &part, NULL));
  while (state == NCCL_IN_PROGRESS) {
    usleep(1000);
    OK(front.CommGetAsyncError(comm, &state));
  }
  CHECK(state == NCCL_SUCCESS && part);
  if (rank) CHECK(!rig_all_reduce(part, d, rank - 1, nranks - 1));
  OK(front.CommDestroy(part));
}

static void run_ways(int rank, int nranks, void *context) {
  (void)context;
  CUDA(cudaSetDevice(rank));
  struct data d = rig_open();
  for (int way = 0; way < 3; way++) {
    nccl_comm_t comm = create(rank, nranks, way);
    CHECK(!rig_all_reduce(comm, &d, rank, nranks));
    if (way == 2) split_late(comm, rank, nranks, &d);
    OK(front.CommFinalize(comm));
    OK(front.CommDestroy(comm));
  }
  rig_close(&d);
}

static void test_ways(void) {
  rig_prepare();
  harness_threads(3, run_ways, NULL, RIG_SECONDS);
}

/* What NCCL gets to decide: no elements, its own operators, other arithmetic, arguments out of range. */
static void run_kept(int rank, int nranks, void *context) {
  nccl_comm_t comm;
  (void)context;
  rig_load();
  CUDA(cudaSetDevice(rank));
  struct data d = rig_open();
  OK(front.CommInitRank(&comm, nranks, rig_shared->id[0], rank));
  const struct {
    size_t count;
    nccl_datatype_t type;
    int op;
    bool kept;
  } cases[] = {{0, NCCL_FLOAT32, NCCL_SUM, true},       {8, NCCL_FLOAT32, 5, true},
               {8, NCCL_FLOAT32, NCCL_MAX, true},       {8, NCCL_BFLOAT16, NCCL_MIN, true},
               {8, NCCL_INT32, NCCL_MIN, false},        {8, NCCL_FLOAT8E4M3, NCCL_SUM, true},
               {8, NCCL_BFLOAT16, NCCL_SUM, false},     {8, NCCL_FLOAT16, NCCL_AVG, false},
               {8, (nccl_datatype_t)40, NCCL_SUM, true}};
  for (size_t i = 0; i < LENGTH(cases); i++) {
    const int before = rig_count("AllReduce");
    const nccl_result_t result =
        front.AllReduce(d.buffer, d.buffer, cases[i].count, cases[i].type, (nccl_redop_t)cases[i].op, comm, d.stream);
    CHECK((result == NCCL_SUCCESS) == (cases[i].type <= NCCL_FLOAT8E5M2));
    CHECK_TEXT((rig_count("AllReduce") > before) == cases[i].kept, "case %zu", i);
    CUDA(cudaStreamSynchronize(d.stream));
  }
  rig_fill(&d, (float)(rank == 1));
  const int before = rig_count("Broadcast");
  OK(front.Bcast(d.buffer, RIG_COUNT, NCCL_FLOAT32, 1, comm, d.stream));
  rig_expect(&d, 1, 1);
  rig_fill(&d, (float)(rank == 1));
  OK(front.Broadcast(rank == 1 ? d.buffer : (const void *)&matrix, d.buffer, RIG_COUNT, NCCL_FLOAT32, 1, comm,
                     d.stream));
  rig_expect(&d, 1, 1);
  CHECK(rig_count("Bcast") == 0 && rig_count("Broadcast") == before);
  CHECK(front.Bcast(d.buffer, RIG_COUNT, NCCL_FLOAT32, nranks, comm, d.stream) == NCCL_INVALID_ARGUMENT);
  CHECK(rig_count("Bcast") == 1 && rig_count("Broadcast") == before + 1);
  rig_meet(rank, nranks, 1);
  OK(front.CommDestroy(comm));
  rig_close(&d);
}

static void test_kept(void) {
  rig_prepare();
  harness_processes(2, run_kept, NULL, RIG_SECONDS);
}

/* Without the last rank, twice; the parent goes on. */
static void run_shrink(int rank, int nranks, void *context) {
  nccl_comm_t comm, rest;
  int excluded[] = {nranks - 1};
  (void)context;
  CUDA(cudaSetDevice(rank));
  struct data d = rig_open();
  OK(front.CommInitRank(&comm, nranks, rig_shared->id[0], rank));
  for (int i = 0; i < 2 && rank < nranks - 1; i++) {
    OK(front.CommShrink(comm, excluded, 1, &rest, NULL, 0));
    CHECK(!rig_all_reduce(rest, &d, rank, nranks - 1));
    OK(front.CommDestroy(rest));
  }
  CHECK(!rig_all_reduce(comm, &d, rank, nranks));
  rig_meet(rank, nranks, 1);
  OK(front.CommDestroy(comm));
  rig_close(&d);
}

static void test_shrink(void) {
  rig_prepare();
  harness_threads(3, run_shrink, NULL, RIG_SECONDS);
}

int main(void) {
  const char *folder = harness_own_folder();
  rig_begin();
  test_matrix();
  test_kept();
  test_without();
  test_one_thread();
  test_ways();
  test_shrink();
  CHECK_TEXT(harness_entries(folder) == 0, "%d files are left in %s", harness_entries(folder), folder);
  return 0;
}
