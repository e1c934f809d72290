/*
 * upgrade.c - ranks of two versions of the library in one job, and what a crashed older one has left.
 *
 * The program is linked with this version; `newer`, a library of another layout and library version built for this
 * test, is opened by the ranks that play the other one. Whoever finds the other's segment or id refuses it, and so does
 * the rank whose segment it is, at once, both versions named. Files of the older version are swept when their maker is
 * dead, and not while it lives.
 */
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/layout.h"
#include "trouble/support.h"

static const shmccl_config_t patient = {.size = sizeof(shmccl_config_t), .timeout_ms = 10000};

/* What ranks call of one version. */
struct version {
  shmccl_result_t (*get_unique_id)(shmccl_unique_id_t *);
  shmccl_result_t (*init_rank)(shmccl_comm_t **, int, const shmccl_unique_id_t *, int, const shmccl_config_t *);
  shmccl_result_t (*init_env)(shmccl_comm_t **, const shmccl_config_t *);
  const char *(*last_error)(void);
};

static const struct version ours = {shmccl_get_unique_id, shmccl_comm_init_rank, shmccl_comm_init_env,
                                    shmccl_last_error};

static struct version open_newer(void) {
  struct version v;
  const struct {
    const char *name;
    void *to;
  } symbols[] = {{"shmccl_get_unique_id", &v.get_unique_id},
                 {"shmccl_comm_init_rank", &v.init_rank},
                 {"shmccl_comm_init_env", &v.init_env},
                 {"shmccl_last_error", &v.last_error}};
  void *library = dlopen(NEWER_FILE, RTLD_NOW | RTLD_LOCAL);
  CHECK(library, "%s", dlerror());
  if (!library) abort();
  for (size_t i = 0; i < LENGTH(symbols); i++) *(void **)symbols[i].to = dlsym(library, symbols[i].name);
  return v;
}

static struct version version_of(bool newer) { return newer ? open_newer() : ours; }

static void check_refused(const struct version *v, shmccl_result_t result, uint64_t start_ns, int rank) {
  const char *error = v->last_error();
  CHECK(result == SHMCCL_ERROR_MISMATCH, "rank %d: %s: %s", rank, shmccl_error_string(result), error);
  CHECK(strstr(error, OUR_VERSION) && strstr(error, "99.1.2") && strstr(error, "same libshmccl"), "rank %d: %s", rank,
        error);
  CHECK(tr_now_ns() < start_ns + 2000000000u, "rank %d was told after more than two seconds", rank);
}

/* By an id that is no version's, as a launcher's; the mask says which ranks are of the newer version. */
static void mixed(struct tr_job *job, int rank) {
  const unsigned newer = *(const unsigned *)job->argument;
  const struct version v = version_of(newer >> rank & 1);
  char text[16], id[33];
  shmccl_comm_t *comm = NULL;
  snprintf(text, sizeof text, "%d", rank);
  setenv("SHMCCL_RANK", text, 1);
  snprintf(text, sizeof text, "%d", job->nranks);
  setenv("SHMCCL_NRANKS", text, 1);
  for (int i = 0; i < 16; i++) snprintf(id + 2 * i, 3, "%02x", (unsigned char)job->id.internal[12 + i]);
  setenv("SHMCCL_ID", id, 1);
  const uint64_t start_ns = tr_now_ns();
  const shmccl_result_t result = v.init_env(&comm, &patient);
  check_refused(&v, result, start_ns, rank);
  CHECK(!comm, "comm was written by a call that failed");
  unsetenv("SHMCCL_RANK"), unsetenv("SHMCCL_NRANKS"), unsetenv("SHMCCL_ID");
}

/* An id of the other version. */
static void foreign_id(struct tr_job *job, int rank) {
  const struct version newer = open_newer();
  shmccl_unique_id_t id;
  shmccl_comm_t *comm = NULL;
  CHECK(newer.get_unique_id(&id) == SHMCCL_SUCCESS, "%s", newer.last_error());
  const uint64_t start_ns = tr_now_ns();
  check_refused(&ours, shmccl_comm_init_rank(&comm, 2, &id, rank, &patient), start_ns, rank);
  check_refused(&newer, newer.init_rank(&comm, 2, &job->id, rank, &patient), start_ns, rank);
}

/* Rank 0 of the newer version makes a segment and waits, until it is killed. */
static void wait_alone(struct tr_job *job, int rank) {
  const struct version newer = open_newer();
  shmccl_unique_id_t id;
  shmccl_comm_t *comm = NULL;
  (void)rank;
  CHECK(newer.get_unique_id(&id) == SHMCCL_SUCCESS, "%s", newer.last_error());
  newer.init_rank(&comm, 2, &id, 0, &patient);
  (void)job;
}

static void make_decoys(void) {
  char path[256];
  snprintf(path, sizeof path, "%s/shmccl-%u-notes", tr_folder(), (unsigned)geteuid());
  FILE *f = fopen(path, "we");
  if (f) fclose(f);
}

static void remove_decoys(void) {
  char path[256];
  snprintf(path, sizeof path, "%s/shmccl-%u-notes", tr_folder(), (unsigned)geteuid());
  CHECK(unlink(path) == 0, "a file that is no segment was swept");
}

static void test_sweep(void) {
  struct tr_job job;
  make_decoys();
  tr_start(&job, 1, wait_alone, NULL);
  for (int i = 0; i < 10000 && tr_entries(tr_folder()) < 2; i++) usleep(500);
  CHECK(tr_entries(tr_folder()) == 2, "the other version made no segment");
  tr_check_works("while the other version's rank lives");
  CHECK(tr_entries(tr_folder()) == 2, "a living segment of another version was swept");
  kill(job.pids[0], SIGKILL);
  tr_join(&job, 1);
  tr_check_works("after its death");
  CHECK(tr_entries(tr_folder()) == 1, "a dead segment of another version was not swept");
  remove_decoys();
}

int main(void) {
  tr_begin();
  for (unsigned newer = 1; newer <= 2; newer++) tr_run(2, mixed, &newer);
  tr_run(2, foreign_id, NULL);
  test_sweep();
  return tr_end();
}
