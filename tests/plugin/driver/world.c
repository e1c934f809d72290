/* world.c - see world.h. */
#include "world.h"

#include "base/clock.h"
#include "base/ordering.h"

#include <sched.h>
#include <string.h>
#include <sys/mman.h>

static struct nccl copies[WORLD_COMMS];

struct world *world_create(const struct settings *settings) {
  struct world *w = mmap(NULL, sizeof *w, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(w != MAP_FAILED);
  w->settings = *settings;
  for (int i = 0; i < WORLD_COMMS; i++) {
    const int other = settings->minor == NCCL_LAST_MINOR ? NCCL_LAST_MINOR - 3 : NCCL_LAST_MINOR;
    nccl_setup(&copies[i], settings->plugin, i ? other : settings->minor, i ? NCCL_LAST_MINOR : settings->newest);
    copies[i].keep = settings->keep;
  }
  return w;
}

void world_reset(struct world *w) {
  const struct settings kept = w->settings;
  memset(w, 0, sizeof *w);
  w->settings = kept;
}

struct nccl *world_nccl(int copy) {
  return &copies[copy];
}

void world_run(struct world *w, harness_rank_fn fn, unsigned seconds) {
  (w->settings.threads ? harness_threads : harness_processes)(w->settings.nranks, fn, w, seconds);
}

void world_post(struct world *w, int comm, int from, int to, int lane, const void *handle) {
  struct letter *l = &w->letters[comm][from][to][lane];
  memcpy(l->handle, handle, sizeof l->handle);
  shmi_publish32(&l->ready, 1);
}

bool world_take(const struct world *w, int comm, int from, int to, int lane, void *handle) {
  const struct letter *l = &w->letters[comm][from][to][lane];
  if (!shmi_observe32(&l->ready)) return false;
  memcpy(handle, l->handle, sizeof l->handle);
  return true;
}

void world_leave(struct world *w, int comm, int rank) { shmi_publish64(&w->gone_ns[comm][rank], shmi_now_ns()); }

double world_gone_for(const struct world *w, int comm, int rank) {
  const uint64_t since = shmi_observe64(&w->gone_ns[comm][rank]);
  return since ? (double)(shmi_now_ns() - since) / 1e9 : -1;
}

void world_meet(struct world *w, int rank) {
  const uint64_t limit = shmi_now_ns() + 3ull * w->settings.patience_s * 1000000000u;
  const uint32_t mine = w->meetings[rank] + 1;
  shmi_publish32(&w->meetings[rank], mine);
  for (int r = 0; r < w->settings.nranks; r++)
    while ((int32_t)(shmi_observe32(&w->meetings[r]) - mine) < 0) {
      CHECK_TEXT(shmi_now_ns() < limit, "rank %d does not come", r);
      sched_yield();
    }
}

void world_meet_anew(struct world *w, int rank) {
  world_meet(w, rank);
  if (rank == 0) {
    memset(w->letters, 0, sizeof w->letters);
    memset(w->gone_ns, 0, sizeof w->gone_ns);
  }
  world_meet(w, rank);
}

uint64_t world_mix(uint64_t a, uint64_t b) {
  struct harness_random r = harness_random(a ^ b * 0x9e3779b97f4a7c15);
  return harness_bits(&r);
}
