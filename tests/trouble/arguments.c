/*
 * arguments.c - wrong arguments of every public call: the code, one line, nothing written, and the communicator goes on
 * working, on all ranks. Also what looks wrong and is allowed: no elements and no buffers, and each way of being in
 * place; and that errors can be silenced from the first call on.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "trouble/support.h"

static const shmccl_config_t patient = {.size = sizeof(shmccl_config_t), .timeout_ms = 10000};

enum which { ALLREDUCE, ALLGATHER, REDUCE_SCATTER, BROADCAST, REDUCE, ALLTOALL, GATHER, SCATTER, COLLECTIVES };
static const char *const names[COLLECTIVES] = {"allreduce", "allgather", "reduce_scatter", "broadcast",
                                               "reduce",    "alltoall",  "gather",         "scatter"};
static bool reduces(enum which w) { return w == ALLREDUCE || w == REDUCE_SCATTER || w == REDUCE; }
static bool is_rooted(enum which w) { return w == BROADCAST || w == REDUCE || w == GATHER || w == SCATTER; }

struct arguments {
  const void *send;
  void *recv;
  size_t count;
  int type, op, root;
  void *stream;
};

static shmccl_result_t make(enum which w, const struct arguments *a, shmccl_comm_t *comm) {
  const shmccl_datatype_t type = (shmccl_datatype_t)a->type;
  const shmccl_redop_t op = (shmccl_redop_t)a->op;
  switch (w) {
  case ALLREDUCE: return shmccl_allreduce(a->send, a->recv, a->count, type, op, comm, a->stream);
  case ALLGATHER: return shmccl_allgather(a->send, a->recv, a->count, type, comm, a->stream);
  case REDUCE_SCATTER: return shmccl_reduce_scatter(a->send, a->recv, a->count, type, op, comm, a->stream);
  case BROADCAST: return shmccl_broadcast(a->send, a->recv, a->count, type, a->root, comm, a->stream);
  case REDUCE: return shmccl_reduce(a->send, a->recv, a->count, type, op, a->root, comm, a->stream);
  case ALLTOALL: return shmccl_alltoall(a->send, a->recv, a->count, type, comm, a->stream);
  case GATHER: return shmccl_gather(a->send, a->recv, a->count, type, a->root, comm, a->stream);
  default: return shmccl_scatter(a->send, a->recv, a->count, type, a->root, comm, a->stream);
  }
}

/* The communicator still works, and right. */
static void check_usable(shmccl_comm_t *comm, int nranks) {
  int32_t one = 1, sum = 0;
  EXPECT_OK(shmccl_allreduce(&one, &sum, 1, SHMCCL_INT32, SHMCCL_SUM, comm, NULL));
  CHECK(sum == nranks, "sum is %d", (int)sum);
}

/* ---- collectives
 * ----------------------------------------------------------------------------------------------------- */

enum { COUNT = 16, NRANKS = 3, BYTES = COUNT * NRANKS * 4 };

struct buffers {
  char send[BYTES], recv[BYTES];
};

static void refuse(enum which w, const struct arguments *a, shmccl_comm_t *comm, const char *what) {
  char words[64];
  snprintf(words, sizeof words, "%s|%s", names[w], what);
  EXPECT(make(w, a, comm), SHMCCL_ERROR_INVALID_ARGUMENT, words);
}

static void refuse_values(enum which w, const struct arguments *good, shmccl_comm_t *comm) {
  static const int types[] = {-1, SHMCCL_DATATYPE_COUNT, INT_MAX, INT_MIN},
                   ops[] = {-1, SHMCCL_REDOP_COUNT, INT_MAX, 256};
  static const int roots[] = {-1, NRANKS, INT_MAX, INT_MIN, 256};
  static const size_t counts[] = {SIZE_MAX,        SIZE_MAX / 4,          SIZE_MAX / 4 + 1, SIZE_MAX / 12 + 1,
                                  (size_t)1 << 62, ((size_t)1 << 62) + 1, (size_t)1 << 40,  SIZE_MAX / 2 + 1};
  struct arguments a = *good;
  for (size_t i = 0; i < LENGTH(types); i++) a.type = types[i], refuse(w, &a, comm, "datatype");
  a = *good;
  for (size_t i = 0; i < LENGTH(ops) && reduces(w); i++) a.op = ops[i], refuse(w, &a, comm, "op is");
  a = *good;
  for (size_t i = 0; i < LENGTH(roots) && is_rooted(w); i++) a.root = roots[i], refuse(w, &a, comm, "root");
  a = *good;
  for (size_t i = 0; i < LENGTH(counts); i++) a.count = counts[i], refuse(w, &a, comm, "count");
  a = *good, a.stream = &a, refuse(w, &a, comm, "stream must be NULL");
  EXPECT(make(w, good, NULL), SHMCCL_ERROR_INVALID_ARGUMENT, "comm is NULL");
}

static void refuse_null(enum which w, const struct arguments *good, shmccl_comm_t *comm, int rank) {
  struct arguments a = *good;
  const bool is_root = rank == good->root;
  a.send = NULL;
  if ((w != BROADCAST && w != SCATTER) || is_root) refuse(w, &a, comm, "sendbuf is NULL");
  a = *good, a.recv = NULL;
  if ((w != REDUCE && w != GATHER) || is_root) refuse(w, &a, comm, "recvbuf is NULL");
}

/* One element of overlap at either end, and being in place one element off. */
static void refuse_overlap(enum which w, const struct arguments *good, shmccl_comm_t *comm, int rank) {
  static char memory[4 * BYTES];
  const bool is_root = rank == good->root;
  const size_t block = COUNT * 4;
  const size_t send = w == REDUCE_SCATTER || w == ALLTOALL || w == SCATTER ? NRANKS * block : block;
  const size_t recv = w == ALLGATHER || w == ALLTOALL || w == GATHER ? NRANKS * block : block;
  const size_t mine = (size_t)rank * block;
  const size_t in_place = recv > send ? (size_t)0 - mine : send > recv ? mine : 0; /* recv - send */
  if (is_rooted(w) && !is_root) return;                                            /* one buffer */
  const size_t off[] = {send - 4, (size_t)0 - (recv - 4), in_place + 4, in_place - 4, in_place + 1};
  for (size_t i = 0; i < LENGTH(off); i++) {
    struct arguments a = *good;
    a.send = memory + 2 * BYTES;
    a.recv = memory + 2 * BYTES + off[i];
    refuse(w, &a, comm, "overlap");
  }
}

static void accept_apart(enum which w, const struct arguments *good, shmccl_comm_t *comm) {
  static char memory[4 * BYTES];
  const size_t block = COUNT * 4;
  const size_t send = w == REDUCE_SCATTER || w == ALLTOALL || w == SCATTER ? NRANKS * block : block;
  struct arguments a = *good;
  a.send = memory;
  a.recv = memory + send; /* right behind it */
  EXPECT_OK(make(w, &a, comm));
}

static void accept_in_place(enum which w, const struct arguments *good, shmccl_comm_t *comm, int rank) {
  static int32_t memory[NRANKS * COUNT];
  struct arguments a = *good;
  for (int i = 0; i < NRANKS * COUNT; i++) memory[i] = rank + i;
  a.send = a.recv = memory;
  if (w == ALLGATHER || (w == GATHER && rank == a.root)) a.send = memory + rank * COUNT;
  if (w == REDUCE_SCATTER || (w == SCATTER && rank == a.root)) a.recv = memory + rank * COUNT;
  EXPECT_OK(make(w, &a, comm));
}

static void accept_nothing(enum which w, shmccl_comm_t *comm) {
  struct arguments a = {.type = SHMCCL_FLOAT32, .op = SHMCCL_SUM, .root = 1};
  EXPECT_OK(make(w, &a, comm));
}

static void collectives(struct tr_job *job, int rank) {
  struct buffers b;
  shmccl_comm_t *comm = tr_join_comm(job, rank, &patient);
  for (enum which w = 0; w < COLLECTIVES; w++) {
    const struct arguments good = {b.send, b.recv, COUNT, SHMCCL_FLOAT32, SHMCCL_SUM, (int)w % NRANKS, NULL};
    memset(&b, 0x5a, sizeof b);
    refuse_values(w, &good, comm);
    refuse_null(w, &good, comm, rank);
    refuse_overlap(w, &good, comm, rank);
    for (size_t i = 0; i < sizeof b.recv; i++) CHECK(b.recv[i] == 0x5a, "%s has written recvbuf[%zu]", names[w], i);
    check_usable(comm, NRANKS);
    memset(&b, 0, sizeof b);
    EXPECT_OK(make(w, &good, comm));
    accept_apart(w, &good, comm);
    accept_in_place(w, &good, comm, rank);
    accept_nothing(w, comm);
  }
  EXPECT(shmccl_barrier(NULL, NULL), SHMCCL_ERROR_INVALID_ARGUMENT, "comm is NULL");
  EXPECT(shmccl_barrier(comm, &b), SHMCCL_ERROR_INVALID_ARGUMENT, "barrier|stream");
  check_usable(comm, NRANKS);
  EXPECT_OK(shmccl_comm_finalize(comm));
  shmccl_comm_destroy(comm);
}

/* ---- point to point
 * ---------------------------------------------------------------------------------------------------- */

static void refuse_message(shmccl_comm_t *comm, const void *send, void *recv, size_t count, int type, int peer,
                           void *stream, const char *what) {
  char words[64];
  snprintf(words, sizeof words, "send|%s", what);
  EXPECT(shmccl_send(send, count, (shmccl_datatype_t)type, peer, comm, stream), SHMCCL_ERROR_INVALID_ARGUMENT, words);
  snprintf(words, sizeof words, "recv|%s", what);
  EXPECT(shmccl_recv(recv, count, (shmccl_datatype_t)type, peer, comm, stream), SHMCCL_ERROR_INVALID_ARGUMENT, words);
}

static void refuse_messages(shmccl_comm_t *comm, int peer) {
  int32_t data[4] = {0};
  refuse_message(comm, NULL, NULL, 4, SHMCCL_INT32, peer, NULL, "NULL");
  refuse_message(comm, data, data, 4, -1, peer, NULL, "datatype");
  refuse_message(comm, data, data, 4, SHMCCL_DATATYPE_COUNT, peer, NULL, "datatype");
  refuse_message(comm, data, data, 4, SHMCCL_INT32, -1, NULL, "peer");
  refuse_message(comm, data, data, 4, SHMCCL_INT32, 2, NULL, "peer");
  refuse_message(comm, data, data, 4, SHMCCL_INT32, INT_MIN, NULL, "peer");
  refuse_message(comm, data, data, SIZE_MAX / 4 + 2, SHMCCL_INT32, peer, NULL, "count");
  refuse_message(comm, data, data, SIZE_MAX, SHMCCL_INT8, peer, NULL, "count");
  refuse_message(comm, data, data, 4, SHMCCL_INT32, peer, data, "stream");
  EXPECT(shmccl_send(data, 1, SHMCCL_INT32, peer, NULL, NULL), SHMCCL_ERROR_INVALID_ARGUMENT, "comm is NULL");
  EXPECT(shmccl_recv(data, 1, SHMCCL_INT32, peer, NULL, NULL), SHMCCL_ERROR_INVALID_ARGUMENT, "comm is NULL");
}

static void messages(struct tr_job *job, int rank) {
  const int peer = 1 - rank;
  int32_t out = 5 + rank, in = 0;
  shmccl_comm_t *comm = tr_join_comm(job, rank, &patient);
  refuse_messages(comm, peer);
  EXPECT_OK(shmccl_group_start(comm));
  EXPECT_OK(shmccl_send(&out, 1, SHMCCL_INT32, peer, comm, NULL));
  refuse_messages(comm, peer); /* the group holds the good ones only */
  EXPECT_OK(shmccl_recv(&in, 1, SHMCCL_INT32, peer, comm, NULL));
  EXPECT_OK(shmccl_group_end(comm));
  CHECK(in == 5 + peer, "received %d", (int)in);
  if (rank == 0) EXPECT_OK(shmccl_send(NULL, 0, SHMCCL_INT32, peer, comm, NULL));
  if (rank == 1) EXPECT_OK(shmccl_recv(NULL, 0, SHMCCL_INT32, peer, comm, NULL));
  EXPECT(shmccl_group_start(NULL), SHMCCL_ERROR_INVALID_ARGUMENT, "comm is NULL");
  EXPECT(shmccl_group_end(NULL), SHMCCL_ERROR_INVALID_ARGUMENT, "comm is NULL");
  check_usable(comm, 2);
  shmccl_comm_destroy(comm);
}

/* ---- creation and queries
 * ------------------------------------------------------------------------------------------------ */

static char nowhere;
static shmccl_comm_t *const untouched = (shmccl_comm_t *)(void *)&nowhere;

static void refuse_init(const shmccl_unique_id_t *id, int nranks, int rank, const shmccl_config_t *config,
                        const char *words) {
  shmccl_comm_t *comm = untouched;
  EXPECT(shmccl_comm_init_rank(&comm, nranks, id, rank, config), SHMCCL_ERROR_INVALID_ARGUMENT, words);
  CHECK(comm == untouched, "comm was written by a call that failed");
}

static void creation(struct tr_job *job, int rank) {
  static const int sizes[] = {0, -1, SHMCCL_MAX_RANKS + 1, INT_MAX, INT_MIN}, ranks[] = {-1, 2, INT_MAX, INT_MIN};
  shmccl_unique_id_t zero = {{0}}, garbage = job->id, text = job->id;
  shmccl_comm_t *comms[SHMCCL_MAX_RANKS] = {untouched};
  (void)rank;
  for (size_t i = 0; i < sizeof garbage; i++) garbage.internal[i] = (char)(i * 37 + 11);
  text.internal[8] = 3; /* another version of ids */
  for (size_t i = 0; i < LENGTH(sizes); i++) {
    refuse_init(&job->id, sizes[i], 0, NULL, "nranks is|give 1 to 64");
    EXPECT(shmccl_comm_init_all(comms, sizes[i], NULL), SHMCCL_ERROR_INVALID_ARGUMENT, "nranks is|give 1 to 64");
  }
  for (size_t i = 0; i < LENGTH(ranks); i++) refuse_init(&job->id, 2, ranks[i], NULL, "rank is|give 0 to");
  refuse_init(NULL, 2, 0, NULL, "id is NULL");
  refuse_init(&zero, 2, 0, NULL, "no id of this library");
  refuse_init(&garbage, 2, 0, NULL, "no id of this library");
  EXPECT(shmccl_comm_init_rank(&comms[0], 2, &text, 0, NULL), SHMCCL_ERROR_MISMATCH, "id was made by|same libshmccl");
  EXPECT(shmccl_comm_init_rank(NULL, 2, &job->id, 0, NULL), SHMCCL_ERROR_INVALID_ARGUMENT, "comm is NULL");
  EXPECT(shmccl_comm_init_all(NULL, 2, NULL), SHMCCL_ERROR_INVALID_ARGUMENT, "comm is NULL");
  EXPECT(shmccl_comm_init_env(NULL, NULL), SHMCCL_ERROR_INVALID_ARGUMENT, "comm is NULL");
  EXPECT(shmccl_get_unique_id(NULL), SHMCCL_ERROR_INVALID_ARGUMENT, "id is NULL");
  CHECK(comms[0] == untouched, "comms was written by a call that failed");
}

static void configs(struct tr_job *job, int rank) {
  const size_t full = sizeof(shmccl_config_t);
  const struct {
    shmccl_config_t config;
    const char *words;
  } bad[] = {{{0, 0, 0, 0, 0, 0}, "config.size is 0|SHMCCL_CONFIG_INITIALIZER"},
             {{full + 8, 0, 0, 0, 0, 0}, "config.size"},
             {{SIZE_MAX, 0, 0, 0, 0, 0}, "config.size"},
             {{1, 0, 0, 0, 0, 0}, "config.size"},
             {{full, 86400001, 0, 0, 0, 0}, "SHMCCL_TIMEOUT_MS|86400001"},
             {{full, UINT64_MAX, 0, 0, 0, 0}, "SHMCCL_TIMEOUT_MS"},
             {{full, 0, 65535, 0, 0, 0}, "SHMCCL_STAGING_BYTES|65535"},
             {{full, 0, (64 << 20) + 1, 0, 0, 0}, "SHMCCL_STAGING_BYTES"},
             {{full, 0, UINT64_MAX, 0, 0, 0}, "SHMCCL_STAGING_BYTES"},
             {{full, 0, 0, 63, 0, 0}, "SHMCCL_CHUNK_BYTES|63"},
             {{full, 0, 0, UINT64_MAX, 0, 0}, "SHMCCL_CHUNK_BYTES"},
             {{full, 0, 0, 0, (shmccl_algorithm_t)3, 0}, "SHMCCL_ALGORITHM"},
             {{full, 0, 0, 0, (shmccl_algorithm_t)-1, 0}, "SHMCCL_ALGORITHM"},
             {{full, 0, 0, 0, 0, (shmccl_memory_t)3}, "SHMCCL_MEMORY"}};
  static const struct {
    const char *variable, *value;
  } variables[] = {{"SHMCCL_TIMEOUT_MS", "soon"},   {"SHMCCL_TIMEOUT_MS", "0"},
                   {"SHMCCL_TIMEOUT_MS", "-1"},     {"SHMCCL_TIMEOUT_MS", "99999999999999999999999"},
                   {"SHMCCL_TIMEOUT_MS", "10 s"},   {"SHMCCL_STAGING_BYTES", "64KB"},
                   {"SHMCCL_STAGING_BYTES", "1G"},  {"SHMCCL_STAGING_BYTES", "18446744073709551615G"},
                   {"SHMCCL_CHUNK_BYTES", "0x100"}, {"SHMCCL_ALGORITHM", "ring"},
                   {"SHMCCL_ALGORITHM", "1"},       {"SHMCCL_MEMORY", "gpu"}};
  shmccl_comm_t *comm = untouched;
  (void)rank;
  for (size_t i = 0; i < LENGTH(bad); i++) {
    refuse_init(&job->id, 2, 0, &bad[i].config, bad[i].words);
    EXPECT(shmccl_comm_init_all(&comm, 1, &bad[i].config), SHMCCL_ERROR_INVALID_ARGUMENT, bad[i].words);
  }
  for (size_t i = 0; i < LENGTH(variables); i++) {
    char words[128];
    snprintf(words, sizeof words, "%s is '%s'|or unset it", variables[i].variable, variables[i].value);
    setenv(variables[i].variable, variables[i].value, 1);
    refuse_init(&job->id, 2, 0, NULL, words);
    unsetenv(variables[i].variable);
  }
  CHECK(comm == untouched, "comm was written by a call that failed");
}

static void short_config(struct tr_job *job, int rank) {
  shmccl_config_t config = {
      offsetof(shmccl_config_t, chunk_bytes), 9000, 1 << 20, 63, (shmccl_algorithm_t)77, (shmccl_memory_t)77};
  shmccl_comm_t *comm = tr_join_comm(job, rank, &config); /* as an older caller's: the rest is not read */
  check_usable(comm, job->nranks);
  shmccl_comm_destroy(comm);
}

/* Enough for two ranks, too little for four: all are told so, and none waits for another. */
static void small_staging(struct tr_job *job, int rank) {
  const shmccl_config_t config = {.size = sizeof(shmccl_config_t), .timeout_ms = 10000, .staging_bytes = 64 << 10};
  shmccl_comm_t *comm = untouched;
  const uint64_t start_ns = tr_now_ns();
  EXPECT(shmccl_comm_init_rank(&comm, job->nranks, &job->id, rank, &config), SHMCCL_ERROR_INVALID_ARGUMENT,
         "SHMCCL_STAGING_BYTES|65536 bytes|4 ranks");
  CHECK(tr_now_ns() < start_ns + 1000000000u, "rank %d was told after more than a second", rank);
  EXPECT(shmccl_comm_init_all(&comm, job->nranks, &config), SHMCCL_ERROR_INVALID_ARGUMENT, "SHMCCL_STAGING_BYTES");
  CHECK(comm == untouched, "comm was written by a call that failed");
}

static void queries(struct tr_job *job, int rank) {
  int number = -7;
  shmccl_result_t state = (shmccl_result_t)-7;
  shmccl_comm_t *comm = tr_join_comm(job, rank, &patient), *part = untouched;
  const shmccl_config_t bad = {0};
  EXPECT(shmccl_comm_count(NULL, &number), SHMCCL_ERROR_INVALID_ARGUMENT, "comm is NULL");
  EXPECT(shmccl_comm_count(comm, NULL), SHMCCL_ERROR_INVALID_ARGUMENT, "nranks is NULL");
  EXPECT(shmccl_comm_user_rank(NULL, &number), SHMCCL_ERROR_INVALID_ARGUMENT, "comm is NULL");
  EXPECT(shmccl_comm_user_rank(comm, NULL), SHMCCL_ERROR_INVALID_ARGUMENT, "rank is NULL");
  EXPECT(shmccl_comm_get_async_error(NULL, &state), SHMCCL_ERROR_INVALID_ARGUMENT, "comm is NULL");
  EXPECT(shmccl_comm_get_async_error(comm, NULL), SHMCCL_ERROR_INVALID_ARGUMENT, "state is NULL");
  EXPECT(shmccl_comm_abort(NULL), SHMCCL_ERROR_INVALID_ARGUMENT, "comm is NULL");
  EXPECT(shmccl_comm_finalize(NULL), SHMCCL_ERROR_INVALID_ARGUMENT, "comm is NULL");
  EXPECT(shmccl_comm_split(NULL, 0, 0, &part, NULL), SHMCCL_ERROR_INVALID_ARGUMENT, "comm is NULL");
  EXPECT(shmccl_comm_split(comm, 0, 0, NULL, NULL), SHMCCL_ERROR_INVALID_ARGUMENT, "newcomm is NULL");
  EXPECT(shmccl_comm_split(comm, -2, 0, &part, NULL), SHMCCL_ERROR_INVALID_ARGUMENT, "color");
  EXPECT(shmccl_comm_split(comm, 0, 0, &part, &bad), SHMCCL_ERROR_INVALID_ARGUMENT, "config.size");
  EXPECT_OK(shmccl_comm_destroy(NULL));
  CHECK(number == -7 && state == (shmccl_result_t)-7 && part == untouched, "a call that failed has written a result");
  EXPECT_OK(shmccl_comm_split(comm, SHMCCL_SPLIT_NOCOLOR, 0, &part, NULL));
  CHECK(part == NULL, "no color, but a communicator");
  check_usable(comm, job->nranks);
  shmccl_comm_destroy(comm);
}

static void test_texts(void) {
  static const int odd[] = {-1, 12, INT_MAX, INT_MIN};
  for (size_t i = 0; i < LENGTH(odd); i++) {
    CHECK(!strcmp(shmccl_error_string((shmccl_result_t)odd[i]), "unknown result"), "result %d", odd[i]);
    CHECK(shmccl_datatype_size((shmccl_datatype_t)odd[i]) == 0, "type %d", odd[i]);
  }
  CHECK(!strcmp(shmccl_last_error(), ""), "last error before any: %s", shmccl_last_error());
}

/* In a process that has made nothing yet: before tr_begin. */
static void test_silent_first_call(void) {
  int status = -1;
  const pid_t pid = fork();
  if (pid == 0) {
    setenv("SHMCCL_DEBUG", "none", 1);
    tr_catch_stderr();
    EXPECT_AGAIN(shmccl_get_unique_id(NULL), SHMCCL_ERROR_INVALID_ARGUMENT);
    CHECK(strstr(shmccl_last_error(), "id is NULL"), "last error is '%s'", shmccl_last_error());
    _exit(tr_failed() ? 1 : 0);
  }
  waitpid(pid, &status, 0);
  CHECK(status == 0, "the first call of a process that wants no lines: %x", (unsigned)status);
}

int main(void) {
  test_silent_first_call();
  tr_begin();
  test_texts();
  tr_run(NRANKS, collectives, NULL);
  tr_run(2, messages, NULL);
  tr_run(1, creation, NULL);
  tr_run(1, configs, NULL);
  tr_run(4, small_staging, NULL);
  for (int nranks = 1; nranks <= 2; nranks++) {
    tr_run(nranks, short_config, NULL);
    tr_run(nranks, queries, NULL);
  }
  return tr_end();
}
