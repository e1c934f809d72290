/*
 * wait.c - patience.
 *
 * A peer on another CPU answers within a microsecond, so a wait starts by spinning. Where ranks outnumber CPUs the peer
 * may need this one's CPU, so the spin is short there and the wait yields. A wait that lasts sleeps, so that a late
 * rank (loading, compiling) costs no CPU. From the first yield on every wait also looks at the ranks' abort lines, and
 * some fifty times a second at the liveness of those it waits for and at its time limit.
 */
#include <sched.h>
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "comm/comm.h"
#include "shm/liveness.h"

enum {
  SPINS = 4000, /* some 50 us: longer than a hand-over, shorter than a scheduler's time slice */
  SPINS_OVERSUBSCRIBED = 50,
};
static const uint64_t CHECK_NS = 20000000, SLEEP_AFTER_NS = 4000000, SLEEP_LEAST_NS = 50000, SLEEP_MOST_NS = 1000000;

static inline void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

/* A rank that has left may have done so because another one died, of which this rank needs nothing more. */
static shmccl_result_t report_gone(struct shmi_wait *w, int peer) {
  char message[256];
  const bool left = shmi_observe32(&shmi_control_of(&w->comm->world, peer)->member.state) == SHMI_MEMBER_LEFT;
  const int dead = left ? shmi_comm_first_dead(w->comm) : peer, culprit = dead < 0 ? peer : dead;
  snprintf(message, sizeof message, "rank %d: rank %d (pid %u) %s while this rank waited for %s in %s", w->comm->rank,
           culprit, shmi_control_of(&w->comm->world, culprit)->member.pid,
           dead < 0 ? "destroyed its communicator" : "died", culprit == peer ? "it" : "others", w->what);
  return shmi_abort_raise(w->comm, SHMCCL_ERROR_PEER_DIED, culprit, message);
}

/* The kernel frees a dead rank's lock after its last store, so what is lacking then stays lacking. */
static shmccl_result_t check_liveness(struct shmi_wait *w, shmi_wait_lacks_fn lacks, const void *context) {
#ifdef SHMI_BREAK_LIVENESS /* negative control of tests/crash */
  if (w) return SHMCCL_SUCCESS;
#endif
  for (int peer = 0; peer < w->comm->nranks; peer++)
    if (lacks(context, peer) && shmi_liveness_held(w->comm->segment.lock_fd, peer) == 0 && lacks(context, peer))
      return report_gone(w, peer);
  return SHMCCL_SUCCESS;
}

void shmi_ranks_text(uint64_t ranks, char text[SHMI_RANKS_TEXT]) {
  int length = 0;
  text[0] = 0;
  for (; ranks && length < SHMI_RANKS_TEXT - 8; ranks &= ranks - 1)
    length += snprintf(text + length, (size_t)(SHMI_RANKS_TEXT - length), " %d", __builtin_ctzll(ranks));
}

int shmi_lacking_text(const shmccl_comm_t *comm, shmi_wait_lacks_fn lacks, const void *context,
                      char text[SHMI_RANKS_TEXT], uint64_t *ranks) {
  *ranks = 0;
  for (int peer = 0; peer < comm->nranks; peer++) *ranks |= (uint64_t)lacks(context, peer) << peer;
  shmi_ranks_text(*ranks, text);
  return *ranks ? __builtin_ctzll(*ranks) : -1;
}

static shmccl_result_t report_timeout(struct shmi_wait *w, shmi_wait_lacks_fn lacks, const void *context) {
  char ranks[SHMI_RANKS_TEXT], message[512];
  int first = shmi_lacking_text(w->comm, lacks, context, ranks, &w->comm->late);
  if (first < 0) return SHMCCL_SUCCESS; /* it has just come */
  snprintf(message, sizeof message,
           "rank %d: waited %llu ms in %s for rank%s, which did not come: look at what it does, or "
           "raise the time limit (SHMCCL_TIMEOUT_MS)",
           w->comm->rank, (unsigned long long)w->comm->options.timeout_ms, w->what, ranks);
  return shmi_abort_raise(w->comm, SHMCCL_ERROR_TIMEOUT, first, message);
}

/* A rank that went on to a call on device memory instead of this rank's on host memory. */
static bool is_on_device(const shmccl_comm_t *comm, int peer) {
  const struct shmi_counts *mine = &shmi_control_of(&comm->world, comm->rank)->counts;
  const struct shmi_counts *theirs = &shmi_control_of(&comm->world, peer)->counts;
  return (int32_t)(shmi_peek32(&theirs->device) - shmi_peek32(&mine->device)) > 0 &&
         (int32_t)(shmi_peek32(&theirs->host) - shmi_peek32(&mine->host)) < 0;
}

static shmccl_result_t check_kind(struct shmi_wait *w, shmi_wait_lacks_fn lacks, const void *context) {
  char message[256];
  for (int peer = 0; peer < w->comm->nranks && w->comm->device; peer++) {
    if (!lacks(context, peer) || !is_on_device(w->comm, peer)) continue;
    snprintf(
        message, sizeof message,
        "ranks disagree: rank %d called %s on host memory, rank %d made a call on device memory: all ranks must pass "
        "the same kind",
        w->comm->rank, w->what, peer);
    return shmi_abort_raise(w->comm, SHMCCL_ERROR_MISMATCH, peer, message);
  }
  return SHMCCL_SUCCESS;
}

static shmccl_result_t check(struct shmi_wait *w, uint64_t now, shmi_wait_lacks_fn lacks, const void *context) {
  w->checked_ns = now;
  SHMI_RETURN_IF_ERROR(check_liveness(w, lacks, context));
  SHMI_RETURN_IF_ERROR(check_kind(w, lacks, context));
  if (now - w->started_ns < w->comm->options.timeout_ms * 1000000) return SHMCCL_SUCCESS;
  return report_timeout(w, lacks, context);
}

static void sleep_for(uint64_t waited_ns) {
  uint64_t ns = waited_ns / 64 < SLEEP_LEAST_NS ? SLEEP_LEAST_NS : waited_ns / 64;
  const struct timespec t = {.tv_nsec = (long)(ns > SLEEP_MOST_NS ? SLEEP_MOST_NS : ns)};
  nanosleep(&t, NULL);
}

shmccl_result_t shmi_wait_glance(struct shmi_wait *w, shmi_wait_lacks_fn lacks, const void *context) {
  SHMI_RETURN_IF_ERROR(shmi_abort_look(w->comm));
  const uint64_t now = shmi_now_ns();
  if (!w->checked_ns) w->checked_ns = now;
  if (now - w->checked_ns < CHECK_NS) return SHMCCL_SUCCESS;
  w->checked_ns = now;
  return check_liveness(w, lacks, context);
}

shmccl_result_t shmi_wait_pause(struct shmi_wait *w, shmi_wait_lacks_fn lacks, const void *context) {
  const uint64_t spins = w->comm->oversubscribed ? SPINS_OVERSUBSCRIBED : SPINS;
  if (++w->looks <= spins) return relax(), SHMCCL_SUCCESS;
  SHMI_RETURN_IF_ERROR(shmi_abort_look(w->comm));
  const uint64_t now = shmi_now_ns(); /* every time: on a busy machine a single yield can last a whole time slice */
  if (w->looks == spins + 1) w->started_ns = now;
  if (!w->checked_ns) w->checked_ns = now;
  if (now - w->checked_ns >= CHECK_NS) SHMI_RETURN_IF_ERROR(check(w, now, lacks, context));
  if (now - w->started_ns < SLEEP_AFTER_NS)
    sched_yield();
  else
    sleep_for(now - w->started_ns);
  return SHMCCL_SUCCESS;
}
