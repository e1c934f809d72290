/*
 * test_collectives.c - every collective gives the bits that reference.c demands: all types, operators, roots, numbers
 * of ranks, algorithms and chunk sizes, in place and not, aligned or not, from no element to several times the staging.
 *
 * Built twice: ranks as processes, and (HARNESS_THREADS) as threads of one process. Since every result is compared with
 * the one reference, all algorithms and chunk sizes also agree with each other.
 */
#include <stdio.h>
#include <string.h>
#ifdef __x86_64__
#include <immintrin.h>
#endif

#include "calls.h"
#include "comm/comm.h"

struct plan {
  uint64_t seed;
  shmccl_unique_id_t id;
  shmccl_config_t config;
  bool streams; /* write recvbufs of all sizes, and staging for some ranks, past the caches */
  int samples;
};

static const struct {
  shmccl_algorithm_t algorithm;
  uint64_t chunk_bytes;
  bool small_staging, streams;
} settings[] = {
    {SHMCCL_ALGORITHM_AUTO, 0, false, false},        {SHMCCL_ALGORITHM_AUTO, 0, true, true},
    {SHMCCL_ALGORITHM_ONE_SHOT, 0, true, false},     {SHMCCL_ALGORITHM_TWO_SHOT, 0, true, false},
    {SHMCCL_ALGORITHM_ONE_SHOT, 64, false, false},   {SHMCCL_ALGORITHM_TWO_SHOT, 64, false, false},
    {SHMCCL_ALGORITHM_ONE_SHOT, 1000, true, true},   {SHMCCL_ALGORITHM_TWO_SHOT, 1000, true, true},
    {SHMCCL_ALGORITHM_ONE_SHOT, 4096, true, true},   {SHMCCL_ALGORITHM_TWO_SHOT, 4096, true, false},
    {SHMCCL_ALGORITHM_TWO_SHOT, 20000, false, true},
};

/* Messages that stay below some hundred steps at these settings, but are several times the smallest slots. */
static size_t largest(const shmccl_config_t *config, int nranks) {
  const size_t most = HARNESS_SLOW ? 100000 : nranks > 5 ? 200000 : 400000, by_steps = config->chunk_bytes * 100;
  return config->chunk_bytes && by_steps < most ? by_steps : most;
}

/* ---- corners ------------------------------------------------------------------------------------------------------
 */

/* The seed also says which ranks count as far, whatever this machine's caches are like. */
static void run_call(const struct call *c, struct buffers *buffers, shmccl_comm_t *comm) {
  if (comm->stream_bytes == 0) comm->far = c->seed;
  call_once(c, buffers, comm);
}

static bool op_counts(const struct call *c) { return call_reduces(c) || c->op == SHMCCL_SUM; }

/* Every collective, type and operator, at one small and one larger count. */
static void run_product(shmccl_comm_t *comm, struct buffers *buffers, struct harness_random *r, int nranks) {
  for (int collective = 0; collective < SHMI_BARRIER; collective++)
    for (int type = 0; type < SHMCCL_DATATYPE_COUNT; type++)
      for (int op = 0; op < SHMCCL_REDOP_COUNT; op++) {
        struct call c = call_random(r, nranks, 1);
        c.collective = (enum shmi_collective)collective;
        c.type = (shmccl_datatype_t)type;
        c.op = (shmccl_redop_t)op;
        c.count = harness_below(r, 2) ? 3 : 1031;
        if (op_counts(&c)) run_call(&c, buffers, comm);
      }
}

/* Every collective, root and place at the counts where something begins, and one more and one less. */
static void run_corner_counts(shmccl_comm_t *comm, struct buffers *buffers, struct harness_random *r, int nranks,
                              const shmccl_config_t *config) {
  const size_t n = (size_t)nranks, chunk = config->chunk_bytes ? config->chunk_bytes : 32768;
  const size_t corners[] = {1, 496, 496 / n / 16 * 16, 4096, 4096 * n, chunk, chunk * n, chunk / n, 64 * n, 3 * chunk};
  for (int collective = 0; collective < SHMI_BARRIER; collective++)
    for (size_t i = 0; i < LENGTH(corners); i++)
      for (size_t shift = 0; shift < 3; shift += HARNESS_SLOW ? 2 : 1) {
        struct call c = call_random(r, nranks, 1);
        const size_t elements = corners[i] / shmccl_datatype_size(c.type);
        c.collective = (enum shmi_collective)collective;
        c.count = elements + shift > 0 ? elements + shift - 1 : 0;
        if (c.count * shmccl_datatype_size(c.type) <= largest(config, nranks)) run_call(&c, buffers, comm);
      }
}

static void run_roots(shmccl_comm_t *comm, struct buffers *buffers, struct harness_random *r, int nranks) {
  for (int collective = 0; collective < SHMI_BARRIER; collective++)
    for (int root = 0; root < nranks; root++)
      for (size_t misalignment = 0; misalignment < 4; misalignment++) {
        struct call c = call_random(r, nranks, 5000);
        c.collective = (enum shmi_collective)collective;
        c.root = root;
        c.in_place = misalignment & 1;
        c.send_misalignment = misalignment;
        c.recv_misalignment = 3 - misalignment;
        run_call(&c, buffers, comm);
      }
}

/* ---- the caller's floating-point environment ------------------------------------------------------------------------
 */

#ifdef __x86_64__
/* Flush to zero, denormals are zero, round up; and all exceptions trap. */
static void run_odd_environments(shmccl_comm_t *comm, struct buffers *buffers, struct harness_random *r, int nranks) {
  static const uint32_t odd[] = {0x1f80 | 0x8040, 0x1f80 | 0x4000, 0x1f80 | 0x6000 | 0x8040, 0};
  for (int i = 0; i < 40; i++) {
    struct call c = call_random(r, nranks, 9000);
    c.collective = (enum shmi_collective[]){SHMI_ALLREDUCE, SHMI_REDUCE, SHMI_REDUCE_SCATTER}[i % 3];
    struct prepared p = call_prepare(&c, harness_rank, nranks);
    call_fill(&p, buffers);
    const uint32_t before = _mm_getcsr(), wanted = odd[(size_t)i % LENGTH(odd)];
    _mm_setcsr(wanted);
    call_make(&p, buffers, comm);
    const uint32_t after = _mm_getcsr();
    _mm_setcsr(before);
    CHECK_TEXT(nranks == 1 || after == wanted, "MXCSR was 0x%x and is 0x%x", wanted, after);
    call_check(&p, buffers);
    call_release(&p);
  }
}
#else
static void run_odd_environments(shmccl_comm_t *comm, struct buffers *buffers, struct harness_random *r, int nranks) {
  (void)comm, (void)buffers, (void)r, (void)nranks;
}
#endif

/* ---- one communicator ----------------------------------------------------------------------------------------------
 */

static void run_rank(int rank, int nranks, void *context) {
  const struct plan *plan = context;
  struct harness_random r = harness_random(plan->seed);
  struct buffers buffers = {0};
  shmccl_comm_t *comm;
  CHECK_OK(shmccl_comm_init_rank(&comm, nranks, &plan->id, rank, &plan->config));
  if (plan->streams) comm->stream_bytes = 0;
  if (plan->config.chunk_bytes == 0) {
    run_product(comm, &buffers, &r, nranks);
    run_odd_environments(comm, &buffers, &r, nranks);
  }
  run_roots(comm, &buffers, &r, nranks);
  run_corner_counts(comm, &buffers, &r, nranks, &plan->config);
  for (int i = 0; i < plan->samples; i++) {
    const struct call c = call_random(&r, nranks, largest(&plan->config, nranks));
    run_call(&c, &buffers, comm);
  }
  CHECK_OK(shmccl_comm_finalize(comm));
  CHECK_OK(shmccl_comm_destroy(comm));
  call_release_buffers(&buffers);
}

static void run_setting(int nranks, size_t setting, uint64_t seed, int samples) {
  const uint64_t least = shmi_layout_least_staging(nranks);
  struct plan plan = {.seed = seed, .config = SHMCCL_CONFIG_INITIALIZER, .samples = samples};
  plan.streams = settings[setting].streams;
  plan.config.timeout_ms = 60000;
  plan.config.algorithm = settings[setting].algorithm;
  plan.config.chunk_bytes = settings[setting].chunk_bytes;
  if (settings[setting].small_staging) plan.config.staging_bytes = least > 65536 ? least : 65536;
  CHECK_OK(shmccl_get_unique_id(&plan.id));
  harness_ranks(nranks, run_rank, &plan, 300);
}

int main(void) {
  static const int all_sizes[] = {1, 2, 3, 4, 5, 8}, few_sizes[] = {1, 2, 4};
  const int *sizes = HARNESS_SLOW ? few_sizes : all_sizes;
  const size_t nsizes = HARNESS_SLOW ? LENGTH(few_sizes) : LENGTH(all_sizes);
  struct harness_random r = harness_random(harness_seed());
  for (size_t i = 0; i < nsizes; i++)
    for (size_t setting = 0; setting < (sizes[i] == 1 ? 1 : LENGTH(settings)); setting++) {
      if (HARNESS_SLOW && setting > 1 && (setting + i) % 4) continue; /* of the special settings some */
      run_setting(sizes[i], setting, harness_bits(&r), HARNESS_SLOW ? 10 : 60);
    }
  run_setting(16, 9, harness_bits(&r), 10);
  return 0;
}
