/*
 * corrupt.c - somebody writes nonsense into the segment of a running job: any result code is fine, a crash, an access
 * outside the mapping or a wait without end is not.
 *
 * Besides the ranks a job has a process that maps the segment as soon as it has its name and writes random words into
 * it, mostly into lines, while the ranks live one life after the other with a short time limit. Guard pages around
 * every mapping make each access outside of it a crash.
 */
#include "faults.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/layout.h"
#include "trouble/support.h"

enum { JOBS = 4, ROUNDS = 8, CALLS = 300, BYTES = 1 << 20, LIMIT_MS = 150 };
enum { MAPPED = 1, DONE = 2 }; /* phases, of the corruptor and of the ranks */

struct attack {
  char folder[128];
  uint64_t seed;
};

static uint32_t *errors; /* of all ranks, shared */

/* splitmix64 */
static uint64_t next(uint64_t *state) {
  uint64_t z = *state += 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

/* ---- the corruptor ----------------------------------------------------------------------------------------------- */

/* -1 if rank 0 has given up meanwhile. */
static int open_first(const char *folder, const struct tr_slot *rank_0) {
  int fd = -1;
  for (; fd < 0 && __atomic_load_n(&rank_0->phase, __ATOMIC_ACQUIRE) < DONE; usleep(200)) {
    DIR *d = opendir(folder);
    for (struct dirent *e; d && fd < 0 && (e = readdir(d));)
      if (*e->d_name != '.') fd = openat(dirfd(d), e->d_name, O_RDWR | O_CLOEXEC);
    if (d) closedir(d);
  }
  return fd;
}

static uint64_t nonsense(uint64_t *random, const uint8_t *memory, size_t bytes, uint64_t old) {
  uint64_t other;
  memcpy(&other, memory + next(random) % (bytes / 8) * 8, 8);
  switch (next(random) % 8) {
  case 0: return 0;
  case 1: return UINT64_MAX;
  case 2: return old + 1;
  case 3: return old - 1;
  case 4: return other;
  case 5: return old ^ 1ull << next(random) % 64;
  case 6: return next(random) % 16;
  default: return next(random);
  }
}

/* Header and lines, most of the time. */
static void spoil(uint8_t *memory, size_t bytes, int nranks, uint64_t *random) {
  const size_t lines = shmi_layout_control_bytes(nranks), range = next(random) % 8 && lines < bytes ? lines : bytes;
  const size_t width = next(random) % 2 ? 8 : 4, at = next(random) % (range / width) * width;
  uint64_t old = 0;
  memcpy(&old, memory + at, width);
  const uint64_t value = nonsense(random, memory, range, old);
  if (width == 8)
    __atomic_store_n((uint64_t *)(void *)(memory + at), value, __ATOMIC_RELAXED);
  else
    __atomic_store_n((uint32_t *)(void *)(memory + at), (uint32_t)value, __ATOMIC_RELAXED);
}

static bool all_done(const struct tr_job *job, int nranks) {
  for (int r = 0; r < nranks; r++)
    if (__atomic_load_n(&job->slots[r].phase, __ATOMIC_ACQUIRE) < DONE) return false;
  return true;
}

static void corrupt(struct tr_job *job, int rank) {
  const struct attack *attack = job->argument;
  const int nranks = rank; /* the corruptor comes last */
  uint64_t random = attack->seed;
  struct stat st = {0};
  const int fd = open_first(attack->folder, &job->slots[0]);
  if (fd < 0) {
    tr_set(&job->slots[rank].phase, MAPPED);
    return;
  }
  CHECK(!fstat(fd, &st), "%m");
  uint8_t *memory = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  CHECK(memory != MAP_FAILED, "%m");
  tr_set(&job->slots[rank].phase, MAPPED);
  usleep((unsigned)(next(&random) % 40000));
  while (!all_done(job, nranks)) {
    for (uint64_t words = next(&random) % 8; words; words--) spoil(memory, (size_t)st.st_size, nranks, &random);
    usleep((unsigned)(next(&random) % 3000));
  }
  munmap(memory, (size_t)st.st_size);
  close(fd);
}

/* ---- a rank ------------------------------------------------------------------------------------------------------ */

static shmccl_result_t exchange(shmccl_comm_t *comm, int rank, int nranks, const void *in, void *out, size_t bytes) {
  shmccl_result_t result = shmccl_group_start(comm);
  if (result == SHMCCL_SUCCESS) result = shmccl_send(in, bytes, SHMCCL_UINT8, (rank + 1) % nranks, comm, NULL);
  if (result == SHMCCL_SUCCESS)
    result = shmccl_recv(out, bytes, SHMCCL_UINT8, (rank + nranks - 1) % nranks, comm, NULL);
  return result == SHMCCL_SUCCESS ? shmccl_group_end(comm) : result;
}

static shmccl_result_t split(shmccl_comm_t *comm, int color) {
  shmccl_comm_t *part = NULL;
  const shmccl_result_t result = shmccl_comm_split(comm, color, 0, &part, NULL);
  shmccl_comm_destroy(part);
  return result;
}

/* The same on all ranks, for the same state of `random`. */
static shmccl_result_t make_call(shmccl_comm_t *comm, int rank, int nranks, uint8_t *in, uint8_t *out,
                                 uint64_t *random) {
  const size_t bytes = next(random) % ((size_t)1 << next(random) % 20), block = bytes / (size_t)nranks;
  const int root = (int)(next(random) % (uint64_t)nranks);
  switch (next(random) % 9) {
  case 0: return shmccl_allgather(in, out, block, SHMCCL_UINT8, comm, NULL);
  case 1: return shmccl_alltoall(in, out, block, SHMCCL_UINT8, comm, NULL);
  case 2: return shmccl_broadcast(in, out, bytes, SHMCCL_UINT8, root, comm, NULL);
  case 3: return shmccl_reduce(in, out, bytes / 4, SHMCCL_FLOAT32, SHMCCL_MAX, root, comm, NULL);
  case 4: return shmccl_gather(in, out, block, SHMCCL_UINT8, root, comm, NULL);
  case 5: return exchange(comm, rank, nranks, in, out, bytes);
  case 6: return split(comm, rank % 2);
  case 7: return shmccl_reduce_scatter(in, out, block / 4, SHMCCL_FLOAT32, SHMCCL_SUM, comm, NULL);
  default: return shmccl_allreduce(in, out, bytes / 2, SHMCCL_BFLOAT16, SHMCCL_SUM, comm, NULL);
  }
}

static void live(struct tr_job *job, int rank) {
  const struct attack *attack = job->argument;
  const int nranks = job->nranks - 1;
  const shmccl_config_t config = {.size = sizeof config, .timeout_ms = LIMIT_MS};
  uint8_t *in = calloc(1, BYTES), *out = calloc(1, BYTES);
  uint64_t random = attack->seed + 1;
  shmccl_comm_t *comm = NULL;
  shmccl_result_t result, state;
  if (rank > 0) tr_await(&job->slots[nranks].phase, MAPPED);
  result = shmccl_comm_init_rank(&comm, nranks, &job->id, rank, &config);
  for (int i = 0; i < CALLS && result == SHMCCL_SUCCESS; i++) {
    result = make_call(comm, rank, nranks, in, out, &random);
    if (comm) shmccl_comm_get_async_error(comm, &state);
  }
  CHECK(result <= SHMCCL_ERROR_CUDA, "result %d", (int)result);
  CHECK(result == SHMCCL_SUCCESS || *shmccl_last_error(), "an error without words");
  __atomic_fetch_add(errors, result != SHMCCL_SUCCESS, __ATOMIC_RELAXED);
  shmccl_comm_destroy(comm);
  free(in);
  free(out);
  tr_set(&job->slots[rank].phase, DONE);
}

static void be(struct tr_job *job, int rank) {
  const struct attack *attack = job->argument;
  setenv("SHMCCL_SHM_DIR", attack->folder, 1);
  if (rank == job->nranks - 1) {
    corrupt(job, rank);
    return;
  }
  faults_guard_mappings();
  live(job, rank);
}

/* ---- jobs -------------------------------------------------------------------------------------------------------- */

int main(void) {
  int lives = 0;
  tr_begin();
  errors = mmap(NULL, sizeof *errors, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  for (int round = 0; round < ROUNDS; round++) {
    struct tr_job jobs[JOBS];
    struct attack attacks[JOBS];
    for (int j = 0; j < JOBS; j++) {
      attacks[j].seed = (uint64_t)tr_random(1 << 20) << 20 | tr_random(1 << 20);
      snprintf(attacks[j].folder, sizeof attacks[j].folder, "%s/%d", tr_folder(), j);
      CHECK(!mkdir(attacks[j].folder, 0700), "%s: %m", attacks[j].folder);
      const int nranks = 2 + (int)tr_random(3);
      lives += nranks;
      setenv("SHMCCL_SHM_DIR", attacks[j].folder, 1); /* which the id names */
      tr_start(&jobs[j], nranks + 1, be, &attacks[j]);
    }
    setenv("SHMCCL_SHM_DIR", tr_folder(), 1);
    for (int j = 0; j < JOBS; j++) {
      tr_join(&jobs[j], 0);
      CHECK(tr_entries(attacks[j].folder) == 0, "%d files are left", tr_entries(attacks[j].folder));
      rmdir(attacks[j].folder);
    }
  }
  printf("%d ranks lived beside somebody who wrote into their segments; %u got an error\n", lives, *errors);
  CHECK(*errors > 0, "nobody has noticed anything");
  return tr_end();
}
