/*
 * death_init.c - a rank that dies while the communicator is made.
 *
 * Ranks are killed at random moments of the creation: whoever is left returns an error that names the dead one, at once
 * if it had been seen and by the time limit if nobody can know that it was ever there. What a killed job leaves in the
 * segment folder is gone after the next creation, which works.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "comm/create.h"
#include "trouble/support.h"

static const shmccl_config_t hasty = {.size = sizeof(shmccl_config_t), .timeout_ms = 600};
static const shmccl_config_t patient = {.size = sizeof(shmccl_config_t), .timeout_ms = 8000};

/* Makes the communicator and meets, until something fails. */
static void make(struct tr_job *job, int rank) {
  shmccl_comm_t *comm = NULL;
  tr_set(&job->slots[rank].phase, 1);
  shmccl_result_t result = shmccl_comm_init_rank(&comm, job->nranks, &job->id, rank, &hasty);
  CHECK((comm != NULL) == (result == SHMCCL_SUCCESS), "comm was written by a call that failed");
  while (result == SHMCCL_SUCCESS) result = shmccl_barrier(comm, NULL);
  tr_tell(job, rank, result);
  EXPECT(result, result, "rank ");
  shmccl_comm_destroy(comm);
}

static void check_told(const struct tr_job *job, int victim, uint64_t died_ns) {
  char name[16];
  snprintf(name, sizeof name, "rank %d", victim);
  for (int r = 0; r < job->nranks; r++) {
    const struct tr_slot *s = &job->slots[r];
    if (r == victim) continue;
    CHECK(s->result == SHMCCL_ERROR_PEER_DIED || s->result == SHMCCL_ERROR_TIMEOUT, "rank %d: %s: %s", r,
          shmccl_error_string(s->result), s->error);
    CHECK(strstr(s->error, name), "rank %d does not name %s: %s", r, name, s->error);
    CHECK(s->told_ns < died_ns + 1000000000u, "rank %d was told late: %s", r, s->error);
  }
}

/* The next communicator of this user sweeps. */
static void check_swept(const char *what) {
  tr_check_works(what);
  CHECK(tr_entries(tr_folder()) == 0, "%s: %d files are left after the next creation", what, tr_entries(tr_folder()));
}

static void wait_ended(const struct tr_job *job, int but) {
  for (int r = 0; r < job->nranks; r++)
    for (int i = 0; r != but && i < 10000 && !job->slots[r].told_ns; i++) usleep(500);
}

static void test_one_is_killed(void) {
  for (int round = 0; round < 8; round++)
    for (int nranks = 2; nranks <= 4; nranks++) {
      struct tr_job job;
      int victim = (int)tr_random((unsigned)nranks);
      tr_start(&job, nranks, make, NULL);
      tr_await(&job.slots[victim].phase, 1);
      usleep(tr_random(2000));
      uint64_t died_ns = tr_now_ns();
      kill(job.pids[victim], SIGKILL);
      wait_ended(&job, victim);
      check_told(&job, victim, died_ns);
      tr_join(&job, 1u << victim);
      check_swept("one killed");
    }
}

static void test_all_are_killed(void) {
  for (int round = 0; round < 60; round++) {
    struct tr_job job;
    int nranks = 2 + (int)tr_random(3);
    tr_start(&job, nranks, make, NULL);
    tr_await(&job.slots[tr_random((unsigned)nranks)].phase, 1);
    usleep(tr_random(1200));
    for (int r = 0; r < nranks; r++) kill(job.pids[r], round % 2 ? SIGKILL : SIGINT);
    tr_join(&job, TR_ANYHOW);
    if (round % 4 == 3) check_swept("all killed");
  }
}

/* ---- a rank that was seen, and died before the last one came --------------------------------------------------------
 */

static uint8_t id_bytes[SHMI_ID_BYTES] = {7};

static const shmi_options_t options = {.timeout_ms = 8000, .staging_bytes = 64 << 20};

/* Rank 0 waits, `victim` attaches and dies, the third rank never comes. */
static void wait_for_dead(struct tr_job *job, int rank) {
  const int victim = *(const int *)job->argument, other = 3 - victim;
  shmccl_comm_t *comm = NULL;
  if (rank == other) return;
  if (rank == victim) {
    CHECK(shmi_comm_attach(&comm, 3, id_bytes, rank, &options, -1) == SHMCCL_SUCCESS, "%s", shmccl_last_error());
    tr_set(&job->slots[rank].phase, 1);
    for (;;) pause();
  }
  shmccl_result_t result = shmi_comm_create(&comm, 3, id_bytes, rank, &options);
  tr_tell(job, rank, result);
  EXPECT(result, SHMCCL_ERROR_PEER_DIED, victim == 1 ? "rank 1 " : "rank 2 ");
}

static void test_seen_and_dead(void) {
  for (int victim = 1; victim <= 2; victim++) {
    struct tr_job job;
    tr_start(&job, 3, wait_for_dead, &victim);
    CHECK(tr_await(&job.slots[victim].phase, 1), "the victim did not attach");
    uint64_t died_ns = tr_now_ns();
    kill(job.pids[victim], SIGKILL);
    tr_join(&job, 1u << victim);
    CHECK(tr_now_ns() < died_ns + 1000000000u, "rank 0 waited more than a second for a dead rank");
    check_swept("seen and dead");
  }
}

/* ---- a rank that is done before the others have noticed
 * ---------------------------------------------------------------- */

/* Made and destroyed at once: whoever is slower must not take that for a death. */
static void make_and_leave(struct tr_job *job, int rank) {
  for (int round = 0; round < 60; round++) {
    shmccl_unique_id_t id = job->id;
    memcpy(id.internal + 16, &round, sizeof round); /* inside the random part: all ranks make the same new id */
    shmccl_comm_t *comm = NULL;
    EXPECT_OK(shmccl_comm_init_rank(&comm, job->nranks, &id, rank, &patient));
    shmccl_comm_destroy(comm);
  }
}

int main(void) {
  tr_begin();
  test_one_is_killed();
  test_all_are_killed();
  test_seen_and_dead();
  for (int nranks = 2; nranks <= 4; nranks++) tr_run(nranks, make_and_leave, NULL);
  return tr_end();
}
