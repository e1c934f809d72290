/*
 * environment.c - communicators from what launchers set: every launcher's variables are understood, jobs do not meet
 * other jobs or their own earlier attempt, anything unclear is refused. With the real mpirun where one is installed.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "trouble/support.h"

static const shmccl_config_t patient = {.size = sizeof(shmccl_config_t), .timeout_ms = 10000};
static const shmccl_config_t hasty = {.size = sizeof(shmccl_config_t), .timeout_ms = 250};

/* "NAME=value NAME=value": # is the rank, @ the number of ranks. */
static void set_variables(const char *text, int rank, int nranks) {
  char copy[1024], value[256], *rest;
  snprintf(copy, sizeof copy, "%s", text);
  for (char *word = strtok_r(copy, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
    char *equals = strchr(word, '=');
    *equals = 0;
    if (!strcmp(equals + 1, "#") || !strcmp(equals + 1, "@"))
      snprintf(value, sizeof value, "%d", equals[1] == '#' ? rank : nranks);
    else
      snprintf(value, sizeof value, "%s", equals + 1);
    setenv(word, value, 1);
  }
}

#define TORCHRUN                                                                                                       \
  "RANK=# WORLD_SIZE=@ LOCAL_WORLD_SIZE=@ LOCAL_RANK=# TORCHELASTIC_RUN_ID=none MASTER_ADDR=localhost "                \
  "MASTER_PORT=29500 "
#define OPENMPI "OMPI_COMM_WORLD_RANK=# OMPI_COMM_WORLD_SIZE=@ OMPI_COMM_WORLD_LOCAL_SIZE=@ "
#define MPICH   "PMI_RANK=# PMI_SIZE=@ MPI_LOCALNRANKS=@ "
#define SLURM   "SLURM_PROCID=# SLURM_NTASKS=@ SLURM_NNODES=1 SLURM_JOB_ID=77 SLURM_STEP_ID=0 "
#define BY_HAND "SHMCCL_RANK=# SHMCCL_NRANKS=@ "

/* ---- understood
 * ------------------------------------------------------------------------------------------------------ */

static void check_sum(shmccl_comm_t *comm, int value, int sum) {
  int32_t data = value;
  EXPECT_OK(shmccl_allreduce(&data, &data, 1, SHMCCL_INT32, SHMCCL_SUM, comm, NULL));
  CHECK(data == sum, "sum %d instead of %d", (int)data, sum);
}

/* Three communicators in a row, all used, the first to the last. */
static void understood(struct tr_job *job, int rank) {
  shmccl_comm_t *comms[3] = {NULL};
  int count = 0, number = -1;
  set_variables(job->argument, rank, job->nranks);
  for (int i = 0; i < 3; i++) EXPECT_OK(shmccl_comm_init_env(&comms[i], &patient));
  for (int i = 0; i < 3 && !tr_failed(); i++) {
    EXPECT_OK(shmccl_comm_count(comms[i], &count));
    EXPECT_OK(shmccl_comm_user_rank(comms[i], &number));
    CHECK(count == job->nranks && number == rank, "rank %d of %d", number, count);
    check_sum(comms[i], 1 << rank, (1 << job->nranks) - 1);
  }
  for (int i = 0; i < 3; i++) shmccl_comm_destroy(comms[i]);
}

static void test_understood(void) {
  static const char *const environments[] = {
      TORCHRUN "TORCHELASTIC_RESTART_COUNT=0",
      "RANK=# WORLD_SIZE=@ MASTER_PORT=1",
      OPENMPI "PMIX_NAMESPACE=1234.1",
      OPENMPI "OMPI_MCA_ess_base_jobid=1234",
      OPENMPI SLURM "PMIX_NAMESPACE=1234.1 SLURM_PROCID=0 SLURM_NTASKS=1", /* mpirun in an allocation */
      SLURM,
      SLURM "PMI_RANK=# PMI_SIZE=@ PMI_JOBID=77.0", /* srun --mpi=pmi2 */
      MPICH "SHMCCL_ID=mine",
      BY_HAND "SHMCCL_ID=mine",
      TORCHRUN "SHMCCL_ID=mine",
  };
  for (size_t i = 0; i < LENGTH(environments); i++) tr_run(3, understood, environments[i]);
  prctl(PR_SET_NAME, "hydra_pmi_proxy");
  tr_run(3, understood, MPICH);
  prctl(PR_SET_NAME, "environment");
}

/* ---- kept apart ----------------------------------------------------------------------------------------------------
 */

/* Processes 0 and 1 are one job, 2 and 3 another one, at the same time. */
static void two_jobs(struct tr_job *job, int process) {
  const char *const *jobs = job->argument;
  shmccl_comm_t *comm = NULL;
  set_variables(jobs[0], process % 2, 2);
  if (process >= 2) set_variables(jobs[1], process % 2, 2);
  EXPECT_OK(shmccl_comm_init_env(&comm, &patient));
  if (comm) check_sum(comm, 1 << process, process < 2 ? 3 : 12);
  shmccl_comm_destroy(comm);
}

/* Rank 0 of one job and rank 1 of the other wait for each other in vain. */
static void strangers(struct tr_job *job, int rank) {
  const char *const *jobs = job->argument;
  shmccl_comm_t *comm = NULL;
  set_variables(jobs[0], rank, 2);
  if (rank == 1) set_variables(jobs[1], rank, 2);
  EXPECT(shmccl_comm_init_env(&comm, &hasty), SHMCCL_ERROR_TIMEOUT, rank == 0 ? "rank 1 " : "rank 0 ");
  CHECK(!comm, "comm was written by a call that failed");
}

static void test_kept_apart(void) {
  static const char *const pairs[][2] = {
      {TORCHRUN "TORCHELASTIC_RESTART_COUNT=0", "TORCHELASTIC_RESTART_COUNT=1"},
      {TORCHRUN "TORCHELASTIC_RESTART_COUNT=0", "MASTER_PORT=29501"},
      {TORCHRUN "TORCHELASTIC_RESTART_COUNT=0", "TORCHELASTIC_RUN_ID=other"},
      {OPENMPI "PMIX_NAMESPACE=1234.1", "PMIX_NAMESPACE=1234.2"},
      {SLURM, "SLURM_JOB_ID=78"},
      {SLURM, "SLURM_STEP_ID=1"},
      {SLURM "SLURM_RESTART_COUNT=0", "SLURM_RESTART_COUNT=1"},
      {BY_HAND "SHMCCL_ID=mine", "SHMCCL_ID=yours"},
  };
  for (size_t i = 0; i < LENGTH(pairs); i++) tr_run(4, two_jobs, pairs[i]);
  tr_run(2, strangers, pairs[0]);
  tr_run(2, strangers, pairs[LENGTH(pairs) - 1]);
}

/* ---- refused
 * --------------------------------------------------------------------------------------------------------- */

struct refusal {
  const char *environment, *words;
};

static void refused(struct tr_job *job, int rank) {
  const struct refusal *r = job->argument;
  shmccl_comm_t *comm = NULL;
  set_variables(r->environment, rank, 2);
  EXPECT(shmccl_comm_init_env(&comm, &hasty), SHMCCL_ERROR_INVALID_USAGE, r->words);
  CHECK(!comm, "comm was written by a call that failed");
}

static void test_refused(void) {
  static const struct refusal refusals[] = {
      {"", "no launcher|torchrun, mpirun or srun|SHMCCL_RANK"},
      {"SHMCCL_ID=mine", "no launcher"},
      {TORCHRUN "LOCAL_WORLD_SIZE=1", "torchrun|not all on this host"},
      {OPENMPI "PMIX_NAMESPACE=1 OMPI_COMM_WORLD_LOCAL_SIZE=1", "not all on this host"},
      {SLURM "SLURM_NNODES=2", "srun|not all on this host"},
      {BY_HAND, "SHMCCL_ID"},
      {"RANK=0 WORLD_SIZE=2", "torchrun|SHMCCL_ID"},
      {OPENMPI, "SHMCCL_ID"},
      {MPICH, "hydra_pmi_proxy|SHMCCL_ID"},
      {"RANK=0", "WORLD_SIZE is not set"},
      {TORCHRUN "RANK=2", "RANK is '2'|from 0 to 1"},
      {TORCHRUN "RANK=-1", "RANK is '-1'"},
      {TORCHRUN "RANK=", "RANK is ''"},
      {TORCHRUN "RANK=1x", "RANK is '1x'"},
      {TORCHRUN "RANK=99999999999999999999", "RANK is '99999999999999999999'"},
      {TORCHRUN "WORLD_SIZE=0", "WORLD_SIZE is '0'"},
      {TORCHRUN "WORLD_SIZE=two", "WORLD_SIZE is 'two'"},
      {TORCHRUN "WORLD_SIZE=65 LOCAL_WORLD_SIZE=65", "WORLD_SIZE is 65|64"},
      {TORCHRUN "LOCAL_WORLD_SIZE=many", "LOCAL_WORLD_SIZE is 'many'"},
      {SLURM "SLURM_NNODES=1.5", "SLURM_NNODES is '1.5'"},
  };
  for (size_t i = 0; i < LENGTH(refusals); i++) tr_run(1, refused, &refusals[i]);
}

/* ---- the real ones
 * --------------------------------------------------------------------------------------------------- */

/* What mpirun starts. */
static int be_launched(void) {
  for (int i = 0; i < 2; i++) {
    shmccl_comm_t *comm;
    int32_t one = 1;
    if (shmccl_comm_init_env(&comm, &patient) != SHMCCL_SUCCESS) return 1;
    if (shmccl_allreduce(&one, &one, 1, SHMCCL_INT32, SHMCCL_SUM, comm, NULL) != SHMCCL_SUCCESS || one != 3) return 2;
    shmccl_comm_destroy(comm);
  }
  return 0;
}

static void test_mpirun(const char *mpirun, const char *program) {
  char command[PATH_MAX + 100];
  const int length = (int)strcspn(mpirun, " ");
  snprintf(command, sizeof command, "command -v %.*s >/dev/null", length, mpirun);
  if (system(command) != 0) {
    printf("not installed: %.*s\n", length, mpirun);
    return;
  }
  snprintf(command, sizeof command, "timeout 30 %s -n 3 %s launched", mpirun, program);
  for (int i = 0; i < 2; i++) {
    int status = system(command);
    CHECK(status == 0, "%s: status %x", command, (unsigned)status);
  }
}

int main(int argc, char **argv) {
  if (argc > 1) return be_launched();
  tr_begin();
  test_understood();
  test_kept_apart();
  test_refused();
  test_mpirun("mpirun.mpich", argv[0]);
  test_mpirun("mpirun.openmpi --allow-run-as-root --oversubscribe", argv[0]);
  return tr_end();
}
