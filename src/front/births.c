/* births.c - the calls that create communicators, and when it is decided about each. */
#include "front/births.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/thread.h"
#include "base/variables.h"
#include "front/agree.h"
#include "front/group.h"

_Static_assert((int)SHMI_HASH_BYTES == (int)SHMI_ID_BYTES, "a hash names a segment");

/* ---- names ------------------------------------------------------------------------------------------------------- */

static void id_of_ids(const nccl_unique_id_t *ids, int count, uint8_t id[SHMI_ID_BYTES]) {
  struct shmi_hash h = shmi_hash_begin("ids");
  shmi_hash_add(&h, ids, (size_t)count * sizeof *ids);
  shmi_hash_end(h, id);
}

/* All ranks split a communicator equally often. */
static void id_of_split(struct shmi_front_comm *parent, int color, uint8_t id[SHMI_ID_BYTES]) {
  struct shmi_hash h = shmi_hash_begin("split");
  const uint32_t number = parent->splits++;
  shmi_hash_add(&h, parent->id, sizeof parent->id);
  shmi_hash_add(&h, &number, sizeof number);
  shmi_hash_add(&h, &color, sizeof color);
  shmi_hash_end(h, id);
}

static int by_value(const void *a, const void *b) {
  const int x = *(const int *)a, y = *(const int *)b;
  return (x > y) - (x < y);
}

static struct shmi_hash hash_of_excluded(const int *excluded, int count) {
  struct shmi_hash h = shmi_hash_begin("shrink");
  int *sorted = malloc((size_t)count * sizeof *sorted);
  if (!sorted) return h; /* another name than the others': it stays NCCL's */
  memcpy(sorted, excluded, (size_t)count * sizeof *sorted);
  qsort(sorted, (size_t)count, sizeof *sorted, by_value);
  shmi_hash_add(&h, sorted, (size_t)count * sizeof *sorted);
  free(sorted);
  return h;
}

/* How often ranks without these have been made of the communicator: the excluded ones take no part, so only those who
 * call with the same list count alike. */
static uint32_t next_shrink(struct shmi_front_comm *parent, const uint8_t excluded[SHMI_ID_BYTES]) {
  struct shmi_shrink *s = parent->shrinks;
  while (s && memcmp(s->excluded, excluded, SHMI_ID_BYTES)) s = s->next;
  if (s) return ++s->count;
  s = calloc(1, sizeof *s);
  if (!s) return UINT32_MAX;
  memcpy(s->excluded, excluded, SHMI_ID_BYTES);
  s->next = parent->shrinks;
  parent->shrinks = s;
  return 0;
}

static void id_of_shrink(struct shmi_front_comm *parent, const int *excluded, int count, uint8_t id[SHMI_ID_BYTES]) {
  struct shmi_hash h = hash_of_excluded(excluded, count);
  shmi_hash_end(h, id);
  const uint32_t number = next_shrink(parent, id);
  shmi_hash_add(&h, parent->id, sizeof parent->id);
  shmi_hash_add(&h, &number, sizeof number);
  shmi_hash_end(h, id);
}

/* ---- deciding ---------------------------------------------------------------------------------------------------- */

static bool look_up_ranks(struct shmi_front_comm *comm, const struct shmi_nccl *nccl) {
  return nccl->CommCount && nccl->CommCount(comm->handle, &comm->nranks) == NCCL_SUCCESS &&
         nccl->CommUserRank(comm->handle, &comm->rank) == NCCL_SUCCESS &&
         nccl->CommCuDevice(comm->handle, &comm->device) == NCCL_SUCCESS;
}

/* With one rank NCCL copies, which is as good. */
static bool is_candidate(struct shmi_front_comm *comm) {
  const struct shmi_nccl *nccl = shmi_nccl_real();
  return nccl && look_up_ranks(comm, nccl) && comm->nranks > 1 && comm->nranks <= SHMCCL_MAX_RANKS;
}

/* Takes over the caller's hold. */
static void *decide(void *context) {
  struct shmi_front_comm *comm = context;
  shmi_front_decided(comm, shmi_front_agree(comm));
  shmi_front_release(comm);
  return NULL;
}

/* Without a thread this rank does not come, so that the others do not divert either. */
static bool start(struct shmi_front_comm *comm, pthread_t *thread) {
  if (!shmi_front_begin(comm)) return false;
  shmi_front_hold_again(comm);
  if (is_candidate(comm) && !shmi_thread_start(thread, decide, comm)) return true;
  shmi_front_decided(comm, NULL);
  shmi_front_release(comm);
  return false;
}

/* All of them at once: a thread's communicators may be each other's peers. */
static void decide_all(struct shmi_front_comm *const *comms, size_t count) {
  struct decider {
    pthread_t thread;
    bool runs;
  } *deciders = calloc(count + 1, sizeof *deciders);
  for (size_t i = 0; i < count && deciders; i++) deciders[i].runs = start(comms[i], &deciders[i].thread);
  for (size_t i = 0; i < count && deciders; i++)
    if (deciders[i].runs) pthread_join(deciders[i].thread, NULL);
  free(deciders);
}

/* A non-blocking one, whatever the call that made something of it returned. */
static bool is_busy(const struct shmi_front_comm *comm) {
  const struct shmi_nccl *nccl = shmi_nccl_real();
  nccl_result_t state = NCCL_SUCCESS;
  return comm && nccl->CommGetAsyncError && nccl->CommGetAsyncError(comm->handle, &state) == NCCL_SUCCESS &&
         state == NCCL_IN_PROGRESS;
}

/* NULL: it is not there: a split without this rank; or the parent is busy with it, and it will come when that is not.
 */
static struct shmi_front_comm *enter(const struct shmi_birth *birth) {
  const bool may_come = is_busy(birth->parent);
  const nccl_comm_t handle = shmi_front_at(birth->place);
  if (handle) return shmi_front_enter(handle, birth->id);
  if (may_come) shmi_front_expect(birth->parent, birth->place, birth->id);
  return NULL;
}

void shmi_births_end(const struct shmi_birth *births, size_t count, nccl_result_t result) {
  struct shmi_front_comm **comms = calloc(count + 1, sizeof(struct shmi_front_comm *));
  size_t known = 0;
  for (size_t i = 0; i < count && comms && (result == NCCL_SUCCESS || result == NCCL_IN_PROGRESS); i++) {
    struct shmi_front_comm *comm = enter(&births[i]);
    if (comm) comms[known++] = comm;
  }
  if (result == NCCL_SUCCESS) decide_all(comms, known);
  for (size_t i = 0; i < known; i++) shmi_front_release(comms[i]);
  for (size_t i = 0; i < count; i++) shmi_front_release(births[i].parent);
  free(comms);
}

void shmi_births_of(struct shmi_front_comm *parent) {
  struct shmi_front_comm *comm;
  while ((comm = shmi_front_next_expected(parent))) {
    shmi_birth_is_over(comm);
    shmi_front_release(comm);
  }
}

bool shmi_birth_is_over(struct shmi_front_comm *comm) {
  pthread_t thread;
  shmccl_comm_t *engine;
  if (start(comm, &thread)) pthread_detach(thread);
  return shmi_front_look(comm, &engine);
}

bool shmi_birth_finish(struct shmi_front_comm *comm) { return !shmi_birth_is_over(comm) && shmi_front_await(comm); }

/* ---- whether at all ---------------------------------------------------------------------------------------------- */

static const char *objection(void) {
  static char text[128];
  const char *launcher;
  const struct shmi_nccl *nccl = shmi_nccl_real();
  const uint64_t setting = shmi_front_setting();
  if (!nccl || nccl->version < NCCL_OLDEST) return "NCCL is missing or too old";
  if (setting == SHMI_FRONT_NEVER) return "SHMCCL_FRONT=never";
  if (setting == SHMI_FRONT_ALWAYS || !shmi_job_spans_hosts(&launcher)) return NULL;
  snprintf(text, sizeof text, "%.32s runs this job on several hosts (SHMCCL_FRONT=always tries anyway)", launcher);
  return text;
}

static bool is_wanted;

static void look_once(void) {
  shmi_log_configure();
  shmi_variables_check();
  const char *why_not = objection();
  is_wanted = !why_not;
  if (why_not) SHMI_INFO("front: all calls stay with NCCL: %s", why_not);
}

bool shmi_front_wanted(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, look_once);
  return is_wanted;
}

/* ---- NCCL's calls ------------------------------------------------------------------------------------------------ */

/* NCCL has been asked, with this result; in a group that says nothing yet. */
static nccl_result_t born_of(struct shmi_front_comm *parent, nccl_comm_t *place, const uint8_t id[SHMI_ID_BYTES],
                             nccl_result_t result) {
  struct shmi_birth birth = {.place = place, .parent = parent};
  memcpy(birth.id, id, SHMI_ID_BYTES);
  if (result != NCCL_SUCCESS && result != NCCL_IN_PROGRESS)
    shmi_front_release(parent);
  else if (!shmi_group_put_birth(&birth))
    shmi_births_end(&birth, 1, result);
  return result;
}

static nccl_result_t born(nccl_comm_t *place, const uint8_t id[SHMI_ID_BYTES], nccl_result_t result) {
  return born_of(NULL, place, id, result);
}

nccl_result_t ncclCommInitRank(nccl_comm_t *comm, int nranks, nccl_unique_id_t unique, int rank) {
  const struct shmi_nccl *nccl = shmi_nccl_real();
  uint8_t id[SHMI_ID_BYTES];
  const nccl_result_t result = SHMI_NCCL_CALL(nccl, CommInitRank, (comm, nranks, unique, rank));
  if (!shmi_front_wanted()) return result;
  id_of_ids(&unique, 1, id);
  return born(comm, id, result);
}

nccl_result_t ncclCommInitRankConfig(nccl_comm_t *comm, int nranks, nccl_unique_id_t unique, int rank, void *config) {
  const struct shmi_nccl *nccl = shmi_nccl_real();
  uint8_t id[SHMI_ID_BYTES];
  const nccl_result_t result = SHMI_NCCL_CALL(nccl, CommInitRankConfig, (comm, nranks, unique, rank, config));
  if (!shmi_front_wanted()) return result;
  id_of_ids(&unique, 1, id);
  return born(comm, id, result);
}

nccl_result_t ncclCommInitRankScalable(nccl_comm_t *comm, int nranks, int rank, int nids, nccl_unique_id_t *ids,
                                       void *config) {
  const struct shmi_nccl *nccl = shmi_nccl_real();
  uint8_t id[SHMI_ID_BYTES];
  const nccl_result_t result = SHMI_NCCL_CALL(nccl, CommInitRankScalable, (comm, nranks, rank, nids, ids, config));
  if (!shmi_front_wanted() || !ids || nids < 1) return result;
  id_of_ids(ids, nids, id);
  return born(comm, id, result);
}

/* Its own init goes on inside NCCL. Within a group NCCL refuses it. */
nccl_result_t ncclCommInitAll(nccl_comm_t *comms, int ndevices, const int *devices) {
  const struct shmi_nccl *nccl = shmi_nccl_real();
  const nccl_result_t result = SHMI_NCCL_CALL(nccl, CommInitAll, (comms, ndevices, devices));
  struct shmi_birth *births;
  uint8_t id[SHMI_ID_BYTES];
  if (result != NCCL_SUCCESS || !shmi_front_wanted() || shmi_random_id(id) != SHMCCL_SUCCESS) return result;
  births = calloc((size_t)ndevices, sizeof *births);
  for (int i = 0; i < ndevices && births; i++) {
    births[i].place = &comms[i];
    memcpy(births[i].id, id, sizeof id);
  }
  if (births) shmi_births_end(births, (size_t)ndevices, result);
  free(births);
  return result;
}

nccl_result_t ncclCommSplit(nccl_comm_t comm, int color, int key, nccl_comm_t *newcomm, void *config) {
  const struct shmi_nccl *nccl = shmi_nccl_real();
  struct shmi_front_comm *parent = shmi_front_hold(comm);
  uint8_t id[SHMI_ID_BYTES];
  nccl_result_t result = SHMI_NCCL_CALL(nccl, CommSplit, (comm, color, key, newcomm, config));
  if (!parent) return result;
  id_of_split(parent, color, id);
  return born_of(parent, newcomm, id, result);
}

nccl_result_t ncclCommShrink(nccl_comm_t comm, int *excluded, int nexcluded, nccl_comm_t *newcomm, void *config,
                             int flags) {
  const struct shmi_nccl *nccl = shmi_nccl_real();
  struct shmi_front_comm *parent = shmi_front_hold(comm);
  uint8_t id[SHMI_ID_BYTES];
  if (parent && flags & NCCL_SHRINK_ABORT) shmi_front_abort(parent); /* what is under way must end for NCCL, too */
  nccl_result_t result = SHMI_NCCL_CALL(nccl, CommShrink, (comm, excluded, nexcluded, newcomm, config, flags));
  if (!parent) return result;
  if (!excluded || nexcluded < 1) return shmi_front_release(parent), result;
  id_of_shrink(parent, excluded, nexcluded, id);
  return born_of(parent, newcomm, id, result);
}

SHMI_SECOND_NAME(CommInitRank)
SHMI_SECOND_NAME(CommInitRankConfig)
SHMI_SECOND_NAME(CommInitRankScalable)
SHMI_SECOND_NAME(CommInitAll)
SHMI_SECOND_NAME(CommSplit)
SHMI_SECOND_NAME(CommShrink)
