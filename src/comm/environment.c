/*
 * environment.c - rank, number of ranks and id from what a launcher sets.
 *
 * One row per launcher, the first whose rank variable is set counts. The job variables must be equal for all ranks of a
 * job and differ between jobs; they are hashed into the id together with how many times that was done
 * before.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/ordering.h"
#include "comm/comm.h"

_Static_assert((int)SHMI_HASH_BYTES == (int)SHMI_ID_BYTES, "a hash names a segment");

struct launcher {
  const char *name, *rank, *nranks, *local_nranks; /* local_nranks: ranks on this host; NULL if it does not say */
  const char *nodes;                               /* number of hosts, or NULL */
  const char *job[5];
  const char *ancestor; /* the job is also told by the nearest ancestor process of this name; NULL: not needed */
};

static const struct launcher launchers[] = {
    {"SHMCCL_RANK and SHMCCL_NRANKS", "SHMCCL_RANK", "SHMCCL_NRANKS", NULL, NULL, {NULL}, NULL},
    {"torchrun",
     "RANK",
     "WORLD_SIZE",
     "LOCAL_WORLD_SIZE",
     NULL,
     {"TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "MASTER_ADDR", "MASTER_PORT", NULL},
     NULL},
    {"Open MPI's mpirun",
     "OMPI_COMM_WORLD_RANK",
     "OMPI_COMM_WORLD_SIZE",
     "OMPI_COMM_WORLD_LOCAL_SIZE",
     NULL,
     {"PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid", NULL},
     NULL},
    {"MPICH's mpirun", "PMI_RANK", "PMI_SIZE", "MPI_LOCALNRANKS", NULL, {"PMI_JOBID", NULL}, "hydra_pmi_proxy"},
    {"srun",
     "SLURM_PROCID",
     "SLURM_NTASKS",
     NULL,
     "SLURM_NNODES",
     {"SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT", NULL},
     NULL},
};
enum { LAUNCHER_COUNT = sizeof launchers / sizeof launchers[0] };

/* ---- the id
 * ------------------------------------------------------------------------------------------------------------ */

/* A variable that is not set is something else than an empty one. */
static void hash_text(struct shmi_hash *h, const char *text) {
  if (!text) text = "\x01";
  shmi_hash_add(h, text, strlen(text) + 1);
}

static void hash_number(struct shmi_hash *h, unsigned long long number) {
  char text[32];
  snprintf(text, sizeof text, "%llu", number);
  hash_text(h, text);
}

/* Parent and start time of a process; comm is its name, cut to 15 characters by the kernel. 0 if it cannot be read. */
static int read_process(long pid, char comm[32], long *parent, unsigned long long *started) {
  char path[64], text[1024];
  snprintf(path, sizeof path, "/proc/%ld/stat", pid);
  FILE *f = fopen(path, "re");
  if (!f) return 0;
  size_t length = fread(text, 1, sizeof text - 1, f);
  fclose(f);
  text[length] = 0;
  char *open = strchr(text, '('), *close = strrchr(text, ')');
  if (!open || !close) return 0;
  snprintf(comm, 32, "%.*s", (int)(close - open - 1 < 31 ? close - open - 1 : 31), open + 1);
  return sscanf(close + 1, " %*c %ld %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu", parent,
                started) == 2;
}

/* The nearest ancestor of this name; 0 if there is none. */
static long find_ancestor(const char *name, unsigned long long *started) {
  char comm[32];
  long parent;
  for (long pid = getppid(); pid > 1 && read_process(pid, comm, &parent, started); pid = parent)
    if (!strcmp(comm, name)) return pid;
  return 0;
}

static shmccl_result_t hash_ancestor(struct shmi_hash *h, const struct launcher *l) {
  unsigned long long started;
  long pid = find_ancestor(l->ancestor, &started);
  if (!pid)
    return shmi_error(SHMCCL_ERROR_INVALID_USAGE,
                      "%s is seen in the environment, but no %s process above this one: set "
                      "SHMCCL_ID to a text that all ranks of this job, and no others, share",
                      l->name, l->ancestor);
  hash_number(h, (unsigned long long)pid);
  hash_number(h, started);
  return SHMCCL_SUCCESS;
}

static shmccl_result_t make_id(const struct launcher *l, uint32_t attempt, uint8_t id[SHMI_ID_BYTES]) {
  const char *chosen = getenv("SHMCCL_ID");
  struct shmi_hash h = shmi_hash_begin("environment");
  int job_variables = 0;
  hash_number(&h, geteuid());
  if (chosen && *chosen) {
    hash_text(&h, chosen);
  } else {
    for (int i = 0; l->job[i]; i++) {
      hash_text(&h, getenv(l->job[i]));
      job_variables += getenv(l->job[i]) != NULL;
    }
    if (l->ancestor) SHMI_RETURN_IF_ERROR(hash_ancestor(&h, l));
    if (!job_variables && !l->ancestor)
      return shmi_error(SHMCCL_ERROR_INVALID_USAGE,
                        "%s gives ranks but nothing that tells this job from others: set SHMCCL_ID "
                        "to a text that all ranks of this job, and no others, share",
                        l->name);
  }
  hash_number(&h, attempt);
  shmi_hash_end(h, id);
  return SHMCCL_SUCCESS;
}

/* ---- rank and size
 * ---------------------------------------------------------------------------------------------------- */

static shmccl_result_t read_number(const char *variable, long least, long most, long *value) {
  const char *text = getenv(variable);
  char *end;
  long number = text ? strtol(text, &end, 10) : 0;
  if (text && *text && !*end && number >= least && number <= most) return *value = number, SHMCCL_SUCCESS;
  return shmi_error(SHMCCL_ERROR_INVALID_USAGE, "%s is %s%s%s: the launcher must set it to a number from %ld to %ld",
                    variable, text ? "'" : "", text ? text : "not set", text ? "'" : "", least, most);
}

static bool same_value(const char *variable, const char *other) {
  const char *a = getenv(variable), *b = getenv(other);
  return a && b && !strcmp(a, b);
}

/* srun --mpi=pmi2 sets MPICH's variables beside its own. */
static bool is_better(const struct launcher *l, const struct launcher *than) {
  unsigned long long started;
  return than->ancestor && same_value(l->rank, than->rank) && same_value(l->nranks, than->nranks) &&
         !find_ancestor(than->ancestor, &started);
}

static const struct launcher *find_launcher(void) {
  const struct launcher *found = NULL;
  for (int i = 0; i < LAUNCHER_COUNT; i++)
    if (getenv(launchers[i].rank) && (!found || is_better(&launchers[i], found))) found = &launchers[i];
  return found;
}

const char *shmi_launcher_seen(const char **rank, const char **nranks) {
  const struct launcher *l = find_launcher();
  if (!l) return NULL;
  *rank = getenv(l->rank);
  *nranks = getenv(l->nranks);
  return l->name;
}

static shmccl_result_t check_one_host(const struct launcher *l, long nranks) {
  long local = nranks, nodes = 1;
  if (l->local_nranks && getenv(l->local_nranks))
    SHMI_RETURN_IF_ERROR(read_number(l->local_nranks, 1, 1 << 20, &local));
  if (l->nodes && getenv(l->nodes)) SHMI_RETURN_IF_ERROR(read_number(l->nodes, 1, 1 << 20, &nodes));
  if (local >= nranks && nodes == 1) return SHMCCL_SUCCESS;
  return shmi_error(SHMCCL_ERROR_INVALID_USAGE,
                    "%s runs %ld ranks, not all on this host: shmccl connects the ranks of one "
                    "host: start the job on one, or use shmccl_comm_init_rank() with the local ranks",
                    l->name, nranks);
}

/* A launcher that was started by another knows the job better: the first that says anything counts. */
int shmi_job_spans_hosts(const char **launcher) {
  for (int i = 0; i < LAUNCHER_COUNT; i++) {
    const struct launcher *l = &launchers[i];
    const char *nranks = getenv(l->nranks), *local = l->local_nranks ? getenv(l->local_nranks) : NULL;
    const char *nodes = l->nodes ? getenv(l->nodes) : NULL;
    *launcher = l->name;
    if (!getenv(l->rank) || !nranks) continue;
    if (nodes) return atol(nodes) > 1;
    if (local) return atol(nranks) > atol(local);
  }
  return 0;
}

shmccl_result_t shmccl_comm_init_env(shmccl_comm_t **comm, const shmccl_config_t *config) {
  static uint32_t attempts; /* by this process; counted before anything can fail, so that ranks stay in step */
  const uint32_t attempt = shmi_next32(&attempts);
  const struct launcher *l = find_launcher();
  uint8_t id[SHMI_ID_BYTES];
  shmi_options_t options;
  long rank = 0, nranks = 0;
  if (!comm) return shmi_error(SHMCCL_ERROR_INVALID_ARGUMENT, "comm is NULL: pass where to store the communicator");
  if (!l)
    return shmi_error(SHMCCL_ERROR_INVALID_USAGE,
                      "no launcher in the environment: start with torchrun, mpirun or srun, or set "
                      "SHMCCL_RANK, SHMCCL_NRANKS and SHMCCL_ID");
  SHMI_RETURN_IF_ERROR(read_number(l->nranks, 1, 1 << 20, &nranks));
  SHMI_RETURN_IF_ERROR(check_one_host(l, nranks));
  if (nranks > SHMCCL_MAX_RANKS)
    return shmi_error(SHMCCL_ERROR_INVALID_USAGE, "%s is %ld: this library takes up to %d ranks", l->nranks, nranks,
                      SHMCCL_MAX_RANKS);
  SHMI_RETURN_IF_ERROR(read_number(l->rank, 0, nranks - 1, &rank));
  SHMI_RETURN_IF_ERROR(shmi_options_read(config, &options));
  SHMI_RETURN_IF_ERROR(make_id(l, attempt, id));
  return shmi_comm_create(comm, (int)nranks, id, (int)rank, &options);
}
