/*
 * faults.c - every allocation and every system call of a rank fails once: a code, one line, nothing left behind, the
 * other ranks are told, and the next communicator works.
 *
 * A job is a life of a communicator: made, used in all ways, split, destroyed. One rank is the victim, whose k-th call
 * fails; jobs are run with k = 0, 1, ... until a life has no k-th call. Several at a time, each in a folder of its own,
 * since a rank that fails before it is attached cannot tell the others, who wait out their time limit then.
 */
#include "faults.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "comm/comm.h"
#include "trouble/support.h"

#ifndef FAULTS_STRIDE
#define FAULTS_STRIDE 1
#endif

enum { JOBS = 24, INIT_MS = 2000, LIMIT_MS = 15000, SMALL = 16, LARGE = 20000 };
enum { MADE = 1 }; /* phase: the communicator is there */

static const shmccl_config_t config = {.size = sizeof(shmccl_config_t), .timeout_ms = INIT_MS};

struct fault {
  int victim;
  enum faults_kind kind;
  uint32_t number;
  char folder[128];
  bool *fired; /* shared */
};

/* ---- a life ------------------------------------------------------------------------------------------------------ */

#define TRY(call)                                                                                                      \
  do {                                                                                                                 \
    const shmccl_result_t result_ = (call);                                                                            \
    if (result_ != SHMCCL_SUCCESS) return result_;                                                                     \
  } while (0)

static shmccl_result_t exchange(shmccl_comm_t *comm, int rank, int nranks, const int32_t *out, int32_t *in) {
  TRY(shmccl_group_start(comm));
  TRY(shmccl_send(out, LARGE, SHMCCL_INT32, (rank + 1) % nranks, comm, NULL));
  TRY(shmccl_recv(in, LARGE, SHMCCL_INT32, (rank + nranks - 1) % nranks, comm, NULL));
  return shmccl_group_end(comm);
}

static shmccl_result_t use_part(shmccl_comm_t *comm, int rank) {
  shmccl_comm_t *part;
  int32_t one = 1, sum = 0;
  TRY(shmccl_comm_split(comm, 0, -rank, &part, NULL));
  const shmccl_result_t result = shmccl_allreduce(&one, &sum, 1, SHMCCL_INT32, SHMCCL_SUM, part, NULL);
  shmccl_comm_destroy(part);
  return result;
}

static shmccl_result_t use(shmccl_comm_t *comm, int rank, int nranks, const int32_t *out, int32_t *in) {
  TRY(shmccl_allreduce(out, in, SMALL, SHMCCL_INT32, SHMCCL_SUM, comm, NULL));
  TRY(shmccl_allreduce(out, in, LARGE, SHMCCL_INT32, SHMCCL_SUM, comm, NULL));
  for (int i = 0; i < LARGE; i++) CHECK(in[i] == nranks * i, "sum %d at %d", (int)in[i], i);
  TRY(exchange(comm, rank, nranks, out, in));
  CHECK(!memcmp(out, in, LARGE * sizeof *in), "wrong message");
  TRY(use_part(comm, rank));
  return shmccl_comm_finalize(comm);
}

static shmccl_result_t live(struct tr_job *job, int rank, const int32_t *out, int32_t *in) {
  shmccl_comm_t *comm;
  TRY(shmccl_comm_init_rank(&comm, job->nranks, &job->id, rank, &config));
  comm->options.timeout_ms = LIMIT_MS; /* on a busy machine nobody shall be late who lives */
  tr_set(&job->slots[rank].phase, MADE);
  const shmccl_result_t result = use(comm, rank, job->nranks, out, in);
  shmccl_comm_destroy(comm);
  return result;
}

static void be(struct tr_job *job, int rank) {
  const struct fault *fault = job->argument;
  const bool is_victim = rank == fault->victim;
  int32_t *out = malloc(LARGE * sizeof *out), *in = malloc(LARGE * sizeof *in);
  char text[4096];
  for (int i = 0; i < LARGE; i++) out[i] = i;
  setenv("SHMCCL_SHM_DIR", fault->folder, 1);
  if (is_victim) faults_arm(fault->kind, fault->number), faults_on();
  const shmccl_result_t result = live(job, rank, out, in);
  faults_off();
  if (is_victim) *fault->fired = faults_fired() != NULL;
  const int lines = tr_caught(text, sizeof text);
  CHECK(lines == (result != SHMCCL_SUCCESS), "%s failed: %s with %d lines: %s",
        is_victim && faults_fired() ? faults_fired() : "nothing here", shmccl_error_string(result), lines, text);
  CHECK(result < SHMCCL_ERROR_INTERNAL, "%s", text);
  CHECK(result != SHMCCL_ERROR_TIMEOUT || job->slots[rank].phase < MADE, "waited for a rank that is gone: %s", text);
  CHECK(faults_jumping_clocks() == 0, "a clock was asked for that can jump");
  free(out);
  free(in);
}

/* ---- all faults -------------------------------------------------------------------------------------------------- */

static void check_folder(const struct fault *fault) {
  if (fault->kind == FAULTS_REMOVING) { /* the next communicator sweeps */
    setenv("SHMCCL_SHM_DIR", fault->folder, 1);
    tr_check_works("after the fault");
    setenv("SHMCCL_SHM_DIR", tr_folder(), 1);
  }
  CHECK(tr_entries(fault->folder) == 0, "%d files are left", tr_entries(fault->folder));
  rmdir(fault->folder);
}

static int run_batch(int nranks, int victim, enum faults_kind kind, uint32_t first, bool *fired) {
  struct tr_job jobs[JOBS];
  struct fault faults[JOBS];
  int count = 0;
  for (int j = 0; j < JOBS; j++) {
    faults[j] = (struct fault){victim, kind, first + (uint32_t)j * FAULTS_STRIDE, "", &fired[j]};
    snprintf(faults[j].folder, sizeof faults[j].folder, "%s/%d", tr_folder(), j);
    CHECK(!mkdir(faults[j].folder, 0700), "%s: %m", faults[j].folder);
    fired[j] = false;
    setenv("SHMCCL_SHM_DIR", faults[j].folder, 1); /* which the id names */
    tr_start(&jobs[j], nranks, be, &faults[j]);
  }
  setenv("SHMCCL_SHM_DIR", tr_folder(), 1);
  for (int j = 0; j < JOBS; j++) {
    const int failed = tr_failed();
    tr_join(&jobs[j], 0);
    check_folder(&faults[j]);
    if (tr_failed() > failed)
      fprintf(stderr, "%d ranks, victim %d, kind %d, call %u\n", nranks, victim, (int)kind, faults[j].number);
    count += fired[j];
  }
  return count;
}

static void run(int nranks, int victim, enum faults_kind kind) {
  bool *fired = mmap(NULL, JOBS * sizeof *fired, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  int count = 0, batch = JOBS;
  for (uint32_t first = kind == FAULTS_TAKING ? tr_random(FAULTS_STRIDE) : 0; batch == JOBS;
       first += JOBS * FAULTS_STRIDE)
    count += batch = run_batch(nranks, victim, kind, first, fired);
  printf("%d ranks, victim %d: %d calls that %s failed in turn\n", nranks, victim, count,
         kind == FAULTS_TAKING ? "take something" : "remove a name");
  fflush(stdout); /* before the next fork */
  CHECK(count > 0, "no call has failed");
  munmap(fired, JOBS * sizeof *fired);
}

int main(void) {
  tr_begin();
  for (int victim = 0; victim < 2; victim++) {
    run(2, victim, FAULTS_TAKING);
    run(2, victim, FAULTS_REMOVING);
  }
  return tr_end();
}
