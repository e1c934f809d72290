/*
 * mismatch.c - ranks that do not make the same calls are told so, all of them, with both calls' names.
 *
 * One odd rank of two, three and four calls something else than the others: another collective, count, type, operator
 * or root; in some runs it, or one of the others, is late. Also messages whose two ends differ, options and numbers of
 * ranks that differ at init, and options that differ in one part of a split, which is that part's trouble only.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "trouble/support.h"

enum which {
  ALLREDUCE,
  ALLGATHER,
  REDUCE_SCATTER,
  BROADCAST,
  REDUCE,
  ALLTOALL,
  GATHER,
  SCATTER,
  BARRIER,
  SPLIT,
  FINALIZE
};

struct call {
  enum which which;
  size_t count;
  shmccl_datatype_t type;
  shmccl_redop_t op;
  int root;
  const char *text; /* in the message */
};

struct pair {
  struct call usual, odd;
};

static const struct pair pairs[] = {
    {{ALLREDUCE, 10, SHMCCL_FLOAT32, SHMCCL_SUM, 0, "allreduce of 10 float32, sum"},
     {ALLGATHER, 10, SHMCCL_FLOAT32, SHMCCL_SUM, 0, "allgather of 10 float32"}},
    {{ALLREDUCE, 10, SHMCCL_FLOAT32, SHMCCL_SUM, 0, "allreduce of 10 float32, sum"},
     {ALLREDUCE, 11, SHMCCL_FLOAT32, SHMCCL_SUM, 0, "allreduce of 11 float32, sum"}},
    {{ALLREDUCE, 10, SHMCCL_FLOAT32, SHMCCL_SUM, 0, "allreduce of 10 float32, sum"},
     {ALLREDUCE, 10, SHMCCL_INT32, SHMCCL_SUM, 0, "allreduce of 10 int32, sum"}},
    {{ALLREDUCE, 10, SHMCCL_FLOAT16, SHMCCL_MAX, 0, "allreduce of 10 float16, max"},
     {ALLREDUCE, 10, SHMCCL_FLOAT16, SHMCCL_MIN, 0, "allreduce of 10 float16, min"}},
    {{ALLREDUCE, 300000, SHMCCL_FLOAT32, SHMCCL_SUM, 0, "allreduce of 300000 float32, sum"},
     {BARRIER, 0, SHMCCL_INT8, SHMCCL_SUM, 0, "barrier"}},
    {{ALLREDUCE, 300000, SHMCCL_FLOAT32, SHMCCL_SUM, 0, "allreduce of 300000 float32, sum"},
     {ALLREDUCE, 300001, SHMCCL_FLOAT32, SHMCCL_SUM, 0, "allreduce of 300001 float32, sum"}},
    {{ALLREDUCE, 0, SHMCCL_FLOAT32, SHMCCL_SUM, 0, "allreduce of 0 float32, sum"},
     {BARRIER, 0, SHMCCL_INT8, SHMCCL_SUM, 0, "barrier"}},
    {{BROADCAST, 1000, SHMCCL_UINT8, SHMCCL_SUM, 0, "broadcast of 1000 uint8, root 0"},
     {BROADCAST, 1000, SHMCCL_UINT8, SHMCCL_SUM, 1, "broadcast of 1000 uint8, root 1"}},
    {{REDUCE, 1000, SHMCCL_BFLOAT16, SHMCCL_PROD, 0, "reduce of 1000 bfloat16, prod, root 0"},
     {REDUCE, 1000, SHMCCL_BFLOAT16, SHMCCL_PROD, 1, "reduce of 1000 bfloat16, prod, root 1"}},
    {{GATHER, 7, SHMCCL_INT64, SHMCCL_SUM, 1, "gather of 7 int64, root 1"},
     {SCATTER, 7, SHMCCL_INT64, SHMCCL_SUM, 1, "scatter of 7 int64, root 1"}},
    {{ALLTOALL, 7, SHMCCL_INT64, SHMCCL_SUM, 0, "alltoall of 7 int64"},
     {ALLTOALL, 7, SHMCCL_UINT64, SHMCCL_SUM, 0, "alltoall of 7 uint64"}},
    {{REDUCE_SCATTER, 50000, SHMCCL_FLOAT64, SHMCCL_AVG, 0, "reduce_scatter of 50000 float64, avg"},
     {ALLREDUCE, 50000, SHMCCL_FLOAT64, SHMCCL_AVG, 0, "allreduce of 50000 float64, avg"}},
    {{ALLGATHER, 24, SHMCCL_UINT8, SHMCCL_SUM, 0, "allgather of 24 uint8"}, {SPLIT, 0, SHMCCL_INT8, 0, 0, " split"}},
    {{FINALIZE, 0, SHMCCL_INT8, SHMCCL_SUM, 0, " finalize"}, {BARRIER, 0, SHMCCL_INT8, SHMCCL_SUM, 0, " barrier"}},
};

static const shmccl_config_t patient = {.size = sizeof(shmccl_config_t), .timeout_ms = 10000};

/* ---- collectives ---------------------------------------------------------------------------------------------------
 */

static shmccl_result_t do_split(shmccl_comm_t *comm) {
  shmccl_comm_t *part = NULL;
  shmccl_result_t result = shmccl_comm_split(comm, 0, 0, &part, NULL);
  CHECK((part != NULL) == (result == SHMCCL_SUCCESS), "newcomm was written by a call that failed");
  shmccl_comm_destroy(part);
  return result;
}

static shmccl_result_t make(const struct call *c, shmccl_comm_t *comm, const void *out, void *in) {
  switch (c->which) {
  case ALLREDUCE: return shmccl_allreduce(out, in, c->count, c->type, c->op, comm, NULL);
  case ALLGATHER: return shmccl_allgather(out, in, c->count, c->type, comm, NULL);
  case REDUCE_SCATTER: return shmccl_reduce_scatter(out, in, c->count, c->type, c->op, comm, NULL);
  case BROADCAST: return shmccl_broadcast(out, in, c->count, c->type, c->root, comm, NULL);
  case REDUCE: return shmccl_reduce(out, in, c->count, c->type, c->op, c->root, comm, NULL);
  case ALLTOALL: return shmccl_alltoall(out, in, c->count, c->type, comm, NULL);
  case GATHER: return shmccl_gather(out, in, c->count, c->type, c->root, comm, NULL);
  case SCATTER: return shmccl_scatter(out, in, c->count, c->type, c->root, comm, NULL);
  case SPLIT: return do_split(comm);
  case FINALIZE: return shmccl_comm_finalize(comm);
  default: return shmccl_barrier(comm, NULL);
  }
}

struct disagreement {
  const struct pair *pair;
  int odd, late; /* late: a rank, or -1 */
};

static void disagree(struct tr_job *job, int rank) {
  const struct disagreement *d = job->argument;
  const struct call *mine = rank == d->odd ? &d->pair->odd : &d->pair->usual;
  char words[160];
  void *out = calloc(1, 4 << 20), *in = calloc(1, 4 << 20);
  shmccl_comm_t *comm = tr_join_comm(job, rank, &patient);
  snprintf(words, sizeof words, "%s|%s|rank %d|all ranks must make the same calls", d->pair->usual.text,
           d->pair->odd.text, d->odd);
  EXPECT_OK(shmccl_barrier(comm, NULL));
  tr_set(&job->slots[rank].phase, 1);
  tr_await_all(job, 1); /* or a slow rank is told before it has left the barrier */
  if (rank == d->late) tr_sleep_ms(25);
  EXPECT(make(mine, comm, out, in), SHMCCL_ERROR_MISMATCH, words);
  EXPECT_AGAIN(shmccl_barrier(comm, NULL), SHMCCL_ERROR_MISMATCH);
  EXPECT_AGAIN(shmccl_send(out, 1, SHMCCL_INT8, 0, comm, NULL), SHMCCL_ERROR_MISMATCH);
  shmccl_comm_destroy(comm);
  free(out);
  free(in);
}

static void test_collectives(void) {
  for (size_t p = 0; p < LENGTH(pairs); p++)
    for (int nranks = 2; nranks <= 4; nranks++) {
      const int odd = (int)tr_random((unsigned)nranks);
      for (int late = -1; late < nranks; late++) tr_run(nranks, disagree, &(struct disagreement){&pairs[p], odd, late});
    }
}

/* ---- messages ------------------------------------------------------------------------------------------------------
 */

struct ends {
  size_t sent, received;
  shmccl_datatype_t sent_type, received_type;
  const char *sent_text, *received_text;
};

static const struct ends ends[] = {
    {10, 11, SHMCCL_INT8, SHMCCL_INT8, "10 int8", "11 int8"},
    {10, 10, SHMCCL_INT32, SHMCCL_FLOAT32, "10 int32", "10 float32"},
    {0, 1, SHMCCL_INT8, SHMCCL_INT8, "0 int8", "1 int8"},
    {3 << 20, 2 << 20, SHMCCL_INT8, SHMCCL_INT8, "3145728 int8", "2097152 int8"},
};

/* Rank 0 sends, rank 1 receives, rank 2 finds out at the meeting. */
static void misfit(struct tr_job *job, int rank) {
  const struct ends *e = job->argument;
  char *buffer = calloc(1, 4 << 20), words[160];
  shmccl_comm_t *comm = tr_join_comm(job, rank, &patient);
  shmccl_result_t result = SHMCCL_SUCCESS;
  tr_set(&job->slots[rank].phase, 1);
  tr_await_all(job, 1);
  if (rank == 0) result = shmccl_send(buffer, e->sent, e->sent_type, 1, comm, NULL);
  if (rank == 1) result = shmccl_recv(buffer, e->received, e->received_type, 0, comm, NULL);
  if (result == SHMCCL_SUCCESS) {
    CHECK(rank != 1, "a message that does not fit was received");
    result = shmccl_barrier(comm, NULL);
  }
  snprintf(words, sizeof words, "rank 0|rank 1|%s|%s", e->sent_text, e->received_text);
  if (rank != 1) strcpy(words, "rank 1|ranks disagree"); /* whose own log says the rest */
  EXPECT(result, SHMCCL_ERROR_MISMATCH, words);
  EXPECT_AGAIN(shmccl_barrier(comm, NULL), SHMCCL_ERROR_MISMATCH);
  shmccl_comm_destroy(comm);
  free(buffer);
}

static void test_messages(void) {
  for (size_t i = 0; i < LENGTH(ends); i++)
    for (int nranks = 2; nranks <= 3; nranks++) tr_run(nranks, misfit, &ends[i]);
}

/* ---- init ----------------------------------------------------------------------------------------------------------
 */

struct options {
  shmccl_config_t config; /* of the odd rank */
  int more_ranks;         /* that it believes in */
  const char *words;
  int odd, late;
};

static void differ(struct tr_job *job, int rank) {
  const struct options *o = job->argument;
  shmccl_comm_t *comm = NULL;
  int nranks = job->nranks + (rank == o->odd ? o->more_ranks : 0);
  tr_set(&job->slots[rank].phase, 1);
  tr_await_all(job, 1);
  if (rank == o->late) tr_sleep_ms(25); /* rank 0 waits some 400 ms to tell a late rank */
  shmccl_result_t result = shmccl_comm_init_rank(&comm, nranks, &job->id, rank, rank == o->odd ? &o->config : &patient);
  EXPECT(result, SHMCCL_ERROR_MISMATCH, rank && (rank == o->odd || o->odd == 0) ? o->words : "rank |disagree");
  CHECK(!comm, "comm was written by a call that failed");
}

static void test_init(void) {
  static const struct options cases[] = {
      {.config = {.size = sizeof(shmccl_config_t), .timeout_ms = 10000, .algorithm = SHMCCL_ALGORITHM_ONE_SHOT},
       .words = "SHMCCL_ALGORITHM"},
      {.config = {.size = sizeof(shmccl_config_t), .timeout_ms = 10001}, .words = "TIMEOUT_MS|10000|10001"},
      {.config = {.size = sizeof(shmccl_config_t), .timeout_ms = 10000, .staging_bytes = 1 << 20},
       .words = "SHMCCL_STAGING_BYTES|1048576"},
      {.config = {.size = sizeof(shmccl_config_t), .timeout_ms = 10000, .chunk_bytes = 4096},
       .words = "SHMCCL_CHUNK_BYTES|4096"},
      {.config = {.size = sizeof(shmccl_config_t), .timeout_ms = 10000}, .more_ranks = 1, .words = "number of ranks"},
  };
  for (size_t i = 0; i < LENGTH(cases); i++)
    for (int nranks = 2; nranks <= 4; nranks++) {
      struct options o = cases[i];
      o.odd = (int)tr_random((unsigned)nranks); /* rank 0: then all the others are told of theirs */
      o.late = (int)tr_random((unsigned)nranks + 1) - 1;
      tr_run(nranks, differ, &o);
    }
}

/* ---- split ---------------------------------------------------------------------------------------------------------
 */

/* Ranks 2 and 3 do not get their part; ranks 0 and 1 do, and the parent stays usable for all. */
static void differ_in_part(struct tr_job *job, int rank) {
  const int color = rank / 2;
  shmccl_config_t config = patient;
  shmccl_comm_t *comm = tr_join_comm(job, rank, &patient), *part = NULL;
  config.timeout_ms = 10000 + (uint64_t)(rank == 3);
  shmccl_result_t result = shmccl_comm_split(comm, color, 0, &part, color ? &config : NULL);
  if (color == 0) EXPECT_OK(result);
  if (color == 1) EXPECT(result, SHMCCL_ERROR_MISMATCH, rank == 3 ? "SHMCCL_TIMEOUT_MS|10000|10001" : "rank |disagree");
  CHECK((part != NULL) == (color == 0), "newcomm after %s", shmccl_error_string(result));
  EXPECT_OK(shmccl_barrier(comm, NULL));
  if (part) EXPECT_OK(shmccl_barrier(part, NULL));
  shmccl_comm_destroy(part);
  EXPECT_OK(shmccl_barrier(comm, NULL));
  shmccl_comm_destroy(comm);
}

static void test_split(void) {
  for (int i = 0; i < 5; i++) tr_run(4, differ_in_part, NULL);
}

int main(void) {
  tr_begin();
  test_collectives();
  test_messages();
  test_init();
  test_split();
  return tr_end();
}
