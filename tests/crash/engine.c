/* engine.c - the library's own calls. */
#include <stdio.h>
#include <string.h>

#include "comm/comm.h"
#include "crash/results.h"

enum { CHUNK_BYTES = 4096 };

bool work_tries(const struct work_plan *plan) { return plan->nranks > 1; }

/* While it is made nobody knows of a rank that has not come, or of a segment whose maker is gone. */
bool work_may_time_out(const struct work_plan *p) { return p->action == STOP || p->work == LIFE; }

/* In a part of a split communicator the victim has another number, or none: the other part's ranks may learn of it
 * while they wait for theirs. */
bool work_names_victim(const struct work_plan *p, int rank, const char *error) {
  if (p->work == SPLIT && strstr(error, "gave up while it was made: ")) return true;
  return text_names(error, rank, p->victim) ||
         (p->work == SPLIT && ((p->victim ^ rank) & 1) == 0 && text_names(error, rank / 2, p->victim / 2));
}

struct life {
  const struct work_plan *plan;
  shmccl_comm_t *comm;
  struct member me; /* of comm */
  struct mark *mark;
  struct tr_slot *outcome;
  uint32_t calls;
  struct buffers at; /* where the library is to find the arrays */
};

static enum work work_of(const struct life *l) { return (enum work)(l->plan->work % WORKS); }

/* ---- calls ------------------------------------------------------------------------------------------------------- */

static void enter(struct life *l) { tr_set(&l->mark->entered, ++l->calls); }

/* A meeting that succeeded without the victim was none. */
static shmccl_result_t met(const struct life *l, shmccl_result_t result) {
  const uint32_t entered = __atomic_load_n(&l->plan->marks[l->plan->victim].entered, __ATOMIC_ACQUIRE);
  if (result == SHMCCL_SUCCESS)
    CHECK(entered >= l->calls, "rank %d has met rank %d, which never came", l->me.rank, l->plan->victim);
  return result;
}

static shmccl_result_t state_of(const void *context) {
  const struct life *l = context;
  shmccl_result_t state = SHMCCL_ERROR_INTERNAL;
  CHECK(shmccl_comm_get_async_error(l->comm, &state) == SHMCCL_SUCCESS, "%s", shmccl_last_error());
  return state;
}

/* Calls `enqueue` on filled arrays; when it succeeds they are what came of it. On a device small calls go in packets,
 * large ones here always in steps. */
static shmccl_result_t run(const struct life *l, enqueue_fn enqueue, int blocks, size_t n) {
  if (memory_kind == SHMCCL_MEMORY_CUDA && n > SMALL) l->comm->options.algorithm = SHMCCL_ALGORITHM_TWO_SHOT;
  results_fill(&l->me, blocks, n);
  return memory_run(l->plan->work >= WORKS, enqueue, state_of, l, n);
}

static shmccl_result_t enqueue_call(const void *context, size_t n) {
  const struct life *l = context;
  const shmccl_datatype_t type = SHMCCL_INT32;
  shmccl_comm_t *c = l->comm;
  const int last = l->me.nranks - 1;
  const struct buffers *b = &l->at;
  switch (work_of(l)) {
  case ALLGATHER: return shmccl_allgather(b->in, b->out, n, type, c, b->stream);
  case REDUCE_SCATTER: return shmccl_reduce_scatter(b->in, b->out, n, type, SHMCCL_SUM, c, b->stream);
  case BROADCAST: return shmccl_broadcast(b->in, b->out, n, type, last, c, b->stream);
  case REDUCE: return shmccl_reduce(b->in, b->out, n, type, SHMCCL_SUM, last, c, b->stream);
  case ALLTOALL: return shmccl_alltoall(b->in, b->out, n, type, c, b->stream);
  case GATHER: return shmccl_gather(b->in, b->out, n, type, last, c, b->stream);
  case SCATTER: return shmccl_scatter(b->in, b->out, n, type, last, c, b->stream);
  case BARRIER: return shmccl_barrier(c, b->stream);
  default: return shmccl_allreduce(b->in, b->out, n, type, SHMCCL_SUM, c, b->stream);
  }
}

static shmccl_result_t call_and_check(struct life *l, size_t count) {
  enter(l);
  const shmccl_result_t result = met(l, run(l, enqueue_call, l->me.nranks, count));
  if (result == SHMCCL_SUCCESS) results_check_call(&l->me, work_of(l), count);
  return result;
}

static shmccl_result_t enqueue_both(const void *context, size_t n) {
  const struct life *l = context;
  const struct buffers *b = &l->at;
  const int peer = l->me.rank ^ 1;
  shmccl_result_t result = SHMCCL_SUCCESS;
  for (int turn = 0; turn < 2 && result == SHMCCL_SUCCESS; turn++)
    result = turn == (l->me.rank & 1) ? shmccl_send(b->in, n, SHMCCL_INT32, peer, l->comm, b->stream)
                                      : shmccl_recv(b->out, n, SHMCCL_INT32, peer, l->comm, b->stream);
  return result;
}

/* Neighbours exchange without a group, in the order in which nobody waits for himself. */
static shmccl_result_t send_recv(struct life *l, size_t n) {
  const int peer = l->me.rank ^ 1;
  enter(l);
  if (peer >= l->me.nranks) return SHMCCL_SUCCESS;
  const shmccl_result_t result = run(l, enqueue_both, 1, n);
  if (result == SHMCCL_SUCCESS) results_check_from(&l->me, peer, 0, n);
  return result;
}

static shmccl_result_t enqueue_all(const void *context, size_t n) {
  const struct life *l = context;
  const struct buffers *b = &l->at;
  SHMI_RETURN_IF_ERROR(shmccl_group_start(l->comm));
  for (int r = 0; r < l->me.nranks; r++) {
    SHMI_RETURN_IF_ERROR(shmccl_send(b->in + (size_t)r * n, n, SHMCCL_INT32, r, l->comm, b->stream));
    SHMI_RETURN_IF_ERROR(shmccl_recv(b->out + (size_t)r * n, n, SHMCCL_INT32, r, l->comm, b->stream));
  }
  return shmccl_group_end(l->comm);
}

static shmccl_result_t all_with_all(struct life *l, size_t n) {
  enter(l);
  const shmccl_result_t result = met(l, run(l, enqueue_all, l->me.nranks, n));
  if (result == SHMCCL_SUCCESS) results_check_gathered(&l->me, l->me.rank, n);
  return result;
}

/* Odd and even ranks; the parts meet, in a communicator in which the victim's rank is another. */
static shmccl_result_t split(struct life *l, size_t n) {
  shmccl_comm_t *part = NULL;
  enter(l);
  SHMI_RETURN_IF_ERROR(met(l, shmccl_comm_split(l->comm, l->me.rank & 1, l->me.rank, &part, NULL)));
  struct life child = *l;
  child.comm = part;
  child.me.nranks = (l->me.nranks + 1 - (l->me.rank & 1)) / 2;
  child.me.rank = l->me.rank / 2;
  const shmccl_result_t result = run(&child, enqueue_call, 1, n);
  if (result == SHMCCL_SUCCESS) results_check_sum(&child.me, 0, n);
  shmccl_comm_destroy(part);
  return result;
}

/* Blocks for each rank are smaller, or large groups would spend their lives in one call. */
static shmccl_result_t use(struct life *l, size_t count) {
  const enum work w = work_of(l);
  const bool has_blocks = w == ALLGATHER || w == REDUCE_SCATTER || w == ALLTOALL || w == GATHER || w == SCATTER;
  if (w == LIFE) return SHMCCL_SUCCESS;
  if (w == SEND_RECV) return send_recv(l, count);
  if (w == GROUP) return all_with_all(l, count);
  if (w == SPLIT) return split(l, count);
  return call_and_check(l, has_blocks && count == LARGE ? count / (size_t)l->me.nranks : count);
}

/* The first error counts. */
static void tell(const struct life *l, shmccl_result_t result) {
  struct tr_slot *o = l->outcome;
  if (o->result != SHMCCL_SUCCESS) return;
  o->result = result;
  o->told_ns = tr_now_ns();
  if (result != SHMCCL_SUCCESS) snprintf(o->error, sizeof o->error, "%s", shmccl_last_error());
}

/* ---- a life ------------------------------------------------------------------------------------------------------ */

/* A work of calls starts to count when all are there: what happens before is the work LIFE's. */
static shmccl_result_t live(struct life *l, const shmccl_unique_id_t *id) {
  const struct work_plan *plan = l->plan;
  const uint32_t at = l->me.rank == plan->victim ? plan->at : 0;
  const shmccl_config_t config = {.size = sizeof config,
                                  .timeout_ms = plan->timeout_ms,
                                  .staging_bytes = memory_staging_bytes,
                                  .chunk_bytes = CHUNK_BYTES,
                                  .algorithm = work_of(l) == ALLREDUCE_TWO_SHOT ? SHMCCL_ALGORITHM_TWO_SHOT
                                                                                : SHMCCL_ALGORITHM_AUTO,
                                  .memory = memory_kind};
  if (plan->work == LIFE) points_count(l->mark, plan->action, at);
  SHMI_RETURN_IF_ERROR(shmccl_comm_init_rank(&l->comm, l->me.nranks, id, l->me.rank, &config));
  if (plan->work != LIFE) SHMI_RETURN_IF_ERROR(shmccl_barrier(l->comm, NULL));
  if (plan->work != LIFE) points_count(l->mark, plan->action, at);
  /* With a part of it in error, a communicator may still be whole. */
  tell(l, use(l, SMALL));
  if (l->outcome->result == SHMCCL_SUCCESS || plan->work == SPLIT) tell(l, use(l, LARGE));
  if (l->outcome->result != SHMCCL_SUCCESS && plan->work != SPLIT) return l->outcome->result;
  enter(l);
  return met(l, shmccl_comm_finalize(l->comm));
}

void work_run(const struct work_plan *plan, const shmccl_unique_id_t *id, int rank, struct tr_slot *outcome) {
  struct life l = {.plan = plan,
                   .me = {rank, plan->nranks},
                   .mark = &plan->marks[rank],
                   .outcome = outcome,
                   .at = memory_open(rank)};
  tell(&l, live(&l, id));
  shmccl_comm_destroy(l.comm);
  points_end();
  memory_close();
}
