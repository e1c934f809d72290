/*
 * test_sequence.c - thousands of different collectives back to back, large after small and small after large, with
 * ranks that drift apart at random: no call disturbs its neighbours, and no rank leaves a call before all have entered
 * it.
 *
 * Built twice: ranks as processes, and (HARNESS_THREADS) as threads of one process.
 */
#include <stdio.h>
#include <sys/mman.h>

#include "calls.h"
#include "shm/layout.h"

enum { POOL = 48, RANKS_MOST = 4 + !HARNESS_SLOW };

struct plan {
  uint64_t seed;
  shmccl_unique_id_t id;
  shmccl_config_t config;
  int length;
  uint32_t *entered; /* by rank, a cache line apart, shared: calls entered so far */
};

static uint32_t *counter(const struct plan *plan, int rank) { return plan->entered + 32 * rank; }

/* Relaxed: that the other ranks' counts can be seen here is for the call to bring about. */
static void enter(const struct plan *plan, int rank, uint32_t calls) {
  __atomic_store_n(counter(plan, rank), calls, __ATOMIC_RELAXED);
}

static void check_all_entered(const struct plan *plan, int nranks, uint32_t calls) {
  for (int r = 0; r < nranks; r++) {
    const uint32_t entered = __atomic_load_n(counter(plan, r), __ATOMIC_RELAXED);
    CHECK_TEXT(entered == calls || entered == calls + 1, "left call %u, rank %d has entered %u", calls, r, entered);
  }
}

static void run_sequence(const struct plan *plan, const struct prepared *pool, int rank, int nranks,
                         shmccl_comm_t *comm) {
  struct harness_random order = harness_random(plan->seed + 1),
                        delays = harness_random(plan->seed + 2 + (uint64_t)rank);
  struct buffers buffers = {0};
  for (int i = 0; i < plan->length; i++) {
    const struct prepared *p = &pool[harness_below(&order, POOL)];
    call_fill(p, &buffers);
    harness_delay(&delays);
    enter(plan, rank, (uint32_t)i + 1);
    call_make(p, &buffers, comm);
    check_all_entered(plan, nranks, (uint32_t)i + 1);
    call_check(p, &buffers);
  }
  call_release_buffers(&buffers);
}

static void run_rank(int rank, int nranks, void *context) {
  const struct plan *plan = context;
  struct harness_random r = harness_random(plan->seed);
  struct prepared pool[POOL];
  shmccl_comm_t *comm;
  CHECK_OK(shmccl_comm_init_rank(&comm, nranks, &plan->id, rank, &plan->config));
  for (int i = 0; i < POOL; i++) {
    const struct call c = call_random(&r, nranks, i % 4 == 0 ? 1 << 18 : 1 << 12);
    pool[i] = call_prepare(&c, rank, nranks);
  }
  run_sequence(plan, pool, rank, nranks, comm);
  CHECK_OK(shmccl_comm_destroy(comm));
  for (int i = 0; i < POOL; i++) call_release(&pool[i]);
}

static void run(int nranks, uint64_t seed, uint64_t chunk_bytes, bool small_staging, int length) {
  const uint64_t least = shmi_layout_least_staging(nranks);
  struct plan plan = {.seed = seed, .config = SHMCCL_CONFIG_INITIALIZER, .length = length};
  plan.config.timeout_ms = 60000;
  plan.config.chunk_bytes = chunk_bytes;
  if (small_staging) plan.config.staging_bytes = least > 65536 ? least : 65536;
  plan.entered = mmap(NULL, RANKS_MOST * 128, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(plan.entered != MAP_FAILED);
  CHECK_OK(shmccl_get_unique_id(&plan.id));
  harness_ranks(nranks, run_rank, &plan, 200);
  munmap(plan.entered, RANKS_MOST * 128);
}

int main(void) {
  struct harness_random r = harness_random(harness_seed());
  const int length = HARNESS_SLOW ? 120 : 2000;
  for (int nranks = 2; nranks <= RANKS_MOST; nranks += HARNESS_SLOW ? 2 : 1) {
    run(nranks, harness_bits(&r), 0, false, length);
    run(nranks, harness_bits(&r), 0, true, length / 2);
    run(nranks, harness_bits(&r), 2048, true, length / 4);
  }
  return 0;
}
