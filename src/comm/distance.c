/*
 * distance.c - which ranks' cores are far, measured while they work.
 *
 * A line that was just written lies in the writer's caches. A core that shares the last-level cache gets it from there
 * in tens of nanoseconds, many at a time; a core behind another last-level cache or socket waits several times as long
 * for each, and copying that way is slower than through main memory. So staging for a far reader is written past the
 * caches (docs/performance.md has the figures). Topology files do not tell which is the case in virtual machines, whose
 * CPUs move, nor for ranks that are not pinned: so each rank now and then writes a line that its peers then time.
 *
 * Only the writer's stores depend on the answer, never the protocol, so ranks need not agree on it.
 */
#include "comm/distance.h"

#include "base/clock.h"
#include "comm/comm.h"

enum {
  CALLS_PER_SAMPLE = 8,
  BYTES_LEAST = 4096,       /* smaller calls neither measure nor profit */
  BYTES_ALWAYS = 256 << 10, /* calls from here on measure every time: they can afford it */
  FAR_NS = 60,              /* between a neighbour's 10 to 40 and the 80 to 200 of another cache or socket */
  FAR_ENTER = 4,            /* far samples of SHMI_DISTANCE_SAMPLES that make a rank far ... */
  FAR_STAY = 2,             /* ... and that keep it so */
};

/* ---- one peer ------------------------------------------------------------------------------------------------------
 */

/* Less what the clock itself takes. A line that has not been written since the last time is in this core's own cache
 * and tells nothing. */
bool shmi_distance_read(const uint32_t *word, uint32_t *seen, uint64_t *ns) {
  const uint64_t start = shmi_now_ns(), ready = shmi_now_ns();
  const uint32_t value = shmi_observe32(word);
  const uint64_t end = shmi_now_ns(), clock = ready - start, both = end - ready;
  if (value == *seen) return false;
  *seen = value;
  *ns = both > clock ? both - clock : 0;
  return true;
}

/* Of the newest samples an interrupt makes some longer, and a line fetched ahead makes some shorter. */
bool shmi_distance_add(struct shmi_distance *d, uint64_t ns) {
  int far = 0;
  d->ns[d->samples++ % SHMI_DISTANCE_SAMPLES] = (uint16_t)(ns < UINT16_MAX ? ns : UINT16_MAX);
  for (int i = 0; i < SHMI_DISTANCE_SAMPLES; i++) far += d->ns[i] > FAR_NS;
  const bool was_far = d->is_far;
  d->is_far = far >= (was_far ? FAR_STAY : FAR_ENTER);
  return d->is_far != was_far;
}

/* ---- the ranks of a communicator ------------------------------------------------------------------------------- */

bool shmi_distance_wanted(uint32_t *calls, size_t bytes) {
  if (bytes < BYTES_LEAST) return false;
  return (*calls)++ % CALLS_PER_SAMPLE == 0 || bytes >= BYTES_ALWAYS;
}

void shmi_distance_light(shmccl_comm_t *comm) {
  shmi_note32(&shmi_control_of(&comm->world, comm->rank)->beacon.lit, ++comm->lit);
}

void shmi_distance_measure(shmccl_comm_t *comm) {
  for (int peer = 0; peer < comm->nranks; peer++) {
    uint64_t ns;
    const uint32_t *lit = &shmi_control_of(&comm->world, peer)->beacon.lit;
    if (peer == comm->rank || !shmi_distance_read(lit, &comm->lit_seen[peer], &ns)) continue;
    if (!shmi_distance_add(&comm->distances[peer], ns)) continue;
    comm->far ^= 1ull << peer;
    SHMI_INFO("rank %d: rank %d is %s: a line of its cache takes %llu ns", comm->rank, peer,
              comm->distances[peer].is_far ? "far" : "near", (unsigned long long)ns);
  }
}
