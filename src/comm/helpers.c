/* helpers.c - see helpers.h. */
#include "comm/helpers.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/thread.h"
#include "coll/engine.h"
#include "comm/device.h"
#include "reduce/reduce.h"
#include "topo/topo.h"

/* More do not read main memory faster than the links of a few GPUs fill it. Not yet measured on a GPU. */
enum { HELPERS_MOST = 4, SPINS = 2000 };
static const long SLEEP_NS = 20000;

struct shmi_job {
  struct shmi_job *next;
  int left; /* threads that stand at or before it */
  struct shmi_call call;
  uint32_t steps;
};

struct shmi_helpers {
  shmccl_comm_t *comm;
  int n;
  struct helper {
    struct shmi_helpers *all;
    int number;
    pthread_t thread;
    struct shmi_job *last; /* that it has done */
    uint32_t summed;       /* the newest step for which its part is summed; published */
    uint8_t pad[SHMI_LINE];
  } threads[HELPERS_MOST];
  pthread_mutex_t lock; /* of the rest */
  pthread_cond_t wake;
  struct shmi_job *oldest, *newest; /* there is always one */
  bool stops;
};

/* ---- waiting ----------------------------------------------------------------------------------------------------- */

static bool is_over(const struct shmi_helpers *h) {
  const struct shmi_notice *notice = h->comm->device->notice;
  return shmi_peek32(&notice->leave) || shmi_peek64(&notice->status);
}

/* Until `what` says yes; false if there is nothing to wait for any more. */
static bool await(struct helper *t, const struct shmi_job *job, uint32_t step,
                  bool (*what)(const struct helper *, const struct shmi_job *, uint32_t)) {
  const struct timespec moment = {.tv_nsec = SLEEP_NS};
  const int spins = t->all->comm->oversubscribed ? 1 : SPINS;
  for (int looks = 0; !what(t, job, step); looks++) {
    if (looks < spins) continue;
    if (is_over(t->all)) return false;
    nanosleep(&moment, NULL);
  }
  return true;
}

/* All ranks' words of the step, the own one included: its slot is read too. */
static bool have_come(const struct helper *t, const struct shmi_job *job, uint32_t step) {
  const struct shmi_world *slots = &t->all->comm->device->engines.at.slots;
  for (int r = 0; r < slots->nranks; r++)
    if (shmi_observe64(&shmi_step_of(slots, r, step)->word) != shmi_word(step, job->call.signature)) return false;
  return true;
}

static bool is_done(const struct helper *t, const struct shmi_job *job, uint32_t step) {
  (void)job;
  for (int i = 1; i < t->all->n; i++)
    if (shmi_observe32(&t->all->threads[i].summed) != step) return false;
  return shmi_observe32(&t->all->comm->device->notice->moved) == step;
}

/* ---- summing ----------------------------------------------------------------------------------------------------- */

/* This thread's part of what the turn after `step` reduces. */
static void sum(const struct helper *t, const struct shmi_job *job, const struct shmi_op *op, uint32_t step) {
  const struct shmi_world *w = &t->all->comm->device->engines.at.slots;
  const struct shmi_call *c = &job->call;
  const void *sources[SHMCCL_MAX_RANKS];
  size_t start, count = shmi_share_of(op->bytes / c->element, t->all->n, t->number, &start);
  if (!count) return;
  for (int r = 0; r < w->nranks; r++)
    sources[r] = shmi_slot_of(w, r, step) + start * c->element +
                 (r == w->rank ? shmi_own_operand_offset(c, w->nranks) : op->from_offset);
  shmi_reduce_lookup((shmccl_datatype_t)c->id.datatype, (shmccl_redop_t)c->id.op)(
      shmi_slot_of(w, w->rank, step + 1) + op->to_offset + start * c->element, sources, w->nranks, count);
}

/* This thread's part of turn `turn`, up to the step that ends it. */
static bool take_turn(struct helper *t, const struct shmi_job *job, uint32_t turn) {
  const struct shmi_world *w = &t->all->comm->device->engines.at.slots;
  const uint32_t step = job->steps + turn;
  struct shmi_op op;
  if (turn && !await(t, job, step, have_come)) return false;
  shmi_plan_op(&job->call, w->nranks, w->rank, turn, w->nranks, &op);
  if (op.kind != SHMI_OP_NONE) sum(t, job, &op, step);
  if (t->number) return shmi_publish32(&t->summed, step + 1), true;
  if (!await(t, job, step + 1, is_done) || is_over(t->all)) return false;
  shmi_publish64(&shmi_step_of(w, w->rank, step + 1)->word, shmi_word(step + 1, job->call.signature));
  return true;
}

/* ---- jobs -------------------------------------------------------------------------------------------------------- */

/* Waits for the next one; NULL at the end. */
static struct shmi_job *next_of(struct helper *t) {
  struct shmi_helpers *h = t->all;
  pthread_mutex_lock(&h->lock);
  while (!t->last->next && !h->stops) pthread_cond_wait(&h->wake, &h->lock);
  struct shmi_job *last = t->last, *next = last->next;
  if (next) t->last = next;
  if (next && !--last->left) { /* all are past it, so past those before it too */
    h->oldest = next;
    free(last);
  }
  pthread_mutex_unlock(&h->lock);
  return next;
}

static void *help(void *context) {
  struct helper *t = context;
  const struct shmi_job *job;
  const shmi_fpenv_t environment = shmi_fpenv_enter();
  bool goes_on = true;
  while ((job = next_of(t)) != NULL)
    for (uint32_t turn = 0; turn < job->call.nsteps && goes_on; turn++) goes_on = take_turn(t, job, turn);
  shmi_fpenv_leave(environment);
  return NULL;
}

struct shmi_job *shmi_helpers_prepare(const struct shmi_call *call, uint32_t steps) {
  struct shmi_job *job = malloc(sizeof *job);
  if (job) *job = (struct shmi_job){.call = *call, .steps = steps};
  return job;
}

void shmi_helpers_give(struct shmi_helpers *h, struct shmi_job *job) {
  pthread_mutex_lock(&h->lock);
  job->left = h->n;
  h->newest->next = job;
  h->newest = job;
  pthread_cond_broadcast(&h->wake);
  pthread_mutex_unlock(&h->lock);
}

/* ---- CPUs -------------------------------------------------------------------------------------------------------- */

static bool share(const uint8_t *a, const uint8_t *b) {
  for (int i = 0; i < SHMI_CPU_MASK_BYTES; i++)
    if (a[i] & b[i]) return true;
  return false;
}

int shmi_helper_group(const uint8_t (*masks)[SHMI_CPU_MASK_BYTES], int nranks, int rank, int *place) {
  int size = 0, before = 0;
  for (int r = 0; r < nranks; r++) {
    const bool equal = !memcmp(masks[r], masks[rank], SHMI_CPU_MASK_BYTES);
    if (!equal && share(masks[r], masks[rank])) return 0;
    size += equal;
    before += equal && r < rank;
  }
  *place = before;
  return size;
}

int shmi_helper_group_of(const shmccl_comm_t *comm, int *place) {
  uint8_t masks[SHMCCL_MAX_RANKS][SHMI_CPU_MASK_BYTES];
  for (int r = 0; r < comm->nranks; r++) memcpy(masks[r], shmi_control_of(&comm->world, r)->cpus, SHMI_CPU_MASK_BYTES);
  return shmi_helper_group((const uint8_t(*)[SHMI_CPU_MASK_BYTES])masks, comm->nranks, comm->rank, place);
}

/* Ranks with this rank's affinity and on its node; *place says how many of them are before it. */
static int neighbours_of(const shmccl_comm_t *comm, int *place) {
  const struct shmi_control *mine = shmi_control_of(&comm->world, comm->rank);
  int neighbours = 0, before = 0;
  for (int r = 0; r < comm->nranks; r++) {
    const struct shmi_control *c = shmi_control_of(&comm->world, r);
    if (memcmp(c->cpus, mine->cpus, SHMI_CPU_MASK_BYTES) || c->member.node != mine->member.node) continue;
    neighbours++;
    before += r < comm->rank;
  }
  *place = before;
  return neighbours;
}

/* Ranks of equal affinity divide its CPUs, the first of which are left to their own threads. Those on one node are
 * offered the same list, best first, and take from it in turn. */
static int choose_cpus(const shmccl_comm_t *comm, int cpus[HELPERS_MOST]) {
  enum { MOST = (1 + HELPERS_MOST) * SHMCCL_MAX_RANKS };
  const int node = shmi_control_of(&comm->world, comm->rank)->member.node;
  int all[MOST], in_group, place, chosen = 0;
  const int ranks = shmi_helper_group_of(comm, &in_group), neighbours = neighbours_of(comm, &place);
  const int found = ranks ? shmi_topo_helpers(all, (1 + HELPERS_MOST) * ranks, NULL, 0, node) : 0;
  while (ranks && chosen < HELPERS_MOST && (chosen + 2) * ranks <= found) {
    cpus[chosen] = all[(1 + chosen) * neighbours + place];
    chosen++;
  }
  return chosen;
}

static void pin(pthread_t thread, int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  pthread_setaffinity_np(thread, sizeof set, &set); /* if it cannot be had the kernel chooses */
}

/* ---- beginning and end ------------------------------------------------------------------------------------------- */

static int start_threads(struct shmi_helpers *h) {
  int cpus[HELPERS_MOST], error = 0;
  const int chosen = choose_cpus(h->comm, cpus), wanted = chosen ? chosen : 1;
  h->n = wanted;
  h->oldest->left = wanted;
  for (int i = 0; i < wanted; i++) {
    struct helper *t = &h->threads[i];
    *t = (struct helper){.all = h, .number = i, .last = h->oldest};
    error = shmi_thread_start(&t->thread, help, t);
    if (error) return h->n = i, error;
    if (chosen) pin(t->thread, cpus[i]);
  }
  return 0;
}

void shmi_helpers_stop(struct shmi_helpers *h) {
  if (!h) return;
  pthread_mutex_lock(&h->lock);
  h->stops = true;
  pthread_cond_broadcast(&h->wake);
  pthread_mutex_unlock(&h->lock);
  for (int i = 0; i < h->n; i++) pthread_join(h->threads[i].thread, NULL);
  while (h->oldest) {
    struct shmi_job *next = h->oldest->next;
    free(h->oldest);
    h->oldest = next;
  }
  pthread_mutex_destroy(&h->lock);
  pthread_cond_destroy(&h->wake);
  free(h);
}

shmccl_result_t shmi_helpers_start(struct shmi_helpers **out, shmccl_comm_t *comm) {
  struct shmi_helpers *h = calloc(1, sizeof *h);
  struct shmi_job *none = calloc(1, sizeof *none);
  if (!h || !none) {
    free(h), free(none);
    return shmi_error(SHMCCL_ERROR_NO_MEMORY, "no memory for helper threads: %m");
  }
  h->comm = comm;
  h->oldest = h->newest = none;
  pthread_mutex_init(&h->lock, NULL);
  pthread_cond_init(&h->wake, NULL);
  errno = start_threads(h);
  if (errno) {
    const shmccl_result_t result =
        shmi_error(SHMCCL_ERROR_SYSTEM, "cannot start a thread: %m: raise the limit of processes");
    shmi_helpers_stop(h);
    return result;
  }
  SHMI_INFO("rank %d: %d helper threads reduce", comm->rank, h->n);
  *out = h;
  return SHMCCL_SUCCESS;
}
