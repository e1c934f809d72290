/*
 * fake_nccl.c - an NCCL of ours, to put the front before: it records every call with its arguments (fake_record.c), and
 * what programs must get results from works, by this project's engine on the stand-in runtime (a copy of its own: it
 * shares nothing with the front). FAKE_NCCL_FAILS: the rank that gets no communicator.
 * FAKE_NCCL_SEGMENT: a file that ranks have open while they wait for ever.
 */
#include <cuda_runtime_api.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/ordering.h"
#include "fake_nccl.h"
#include "shmccl.h"

struct nccl_comm {
  shmccl_unique_id_t id;
  shmccl_comm_t *engine, *parent;
  int rank, nranks, device, color, key, blocking;
  uint32_t shrinks, state; /* NCCL_IN_PROGRESS until there is an engine */
  pthread_t thread;
  nccl_comm_t *place, asker; /* what is made of a non-blocking one stands there when that is done */
};

/* ---- creating: in a thread each, as NCCL does ---------------------------------------------------------------------
 */

enum { MOST_IN_GROUP = 16 };
static _Thread_local int depth;
static _Thread_local nccl_comm_t in_group[MOST_IN_GROUP];
static _Thread_local int nin_group;

static void *create(void *context) {
  nccl_comm_t c = context;
  shmccl_config_t config = SHMCCL_CONFIG_INITIALIZER;
  config.memory = SHMCCL_MEMORY_CUDA;
  config.timeout_ms = 60000;
  config.algorithm = SHMCCL_ALGORITHM_ONE_SHOT; /* whatever a test has the front read */
  cudaSetDevice(c->device);
  shmccl_result_t result = c->parent ? shmccl_comm_split(c->parent, c->color, c->key, &c->engine, &config)
                                     : shmccl_comm_init_rank(&c->engine, c->nranks, &c->id, c->rank, &config);
  if (result == SHMCCL_SUCCESS && c->engine) {
    shmccl_comm_count(c->engine, &c->nranks);
    shmccl_comm_user_rank(c->engine, &c->rank);
  }
  const uint32_t state = result == SHMCCL_SUCCESS ? NCCL_SUCCESS : NCCL_SYSTEM_ERROR;
  shmi_publish32(&c->state, state);
  if (c->asker) {
    __atomic_store_n(c->place, c->engine ? c : NULL, __ATOMIC_RELEASE);
    shmi_publish32(&c->asker->state, state);
  }
  return NULL;
}

static nccl_result_t finish(nccl_comm_t c) {
  pthread_join(c->thread, NULL);
  c->thread = 0;
  return (nccl_result_t)c->state;
}

/* blocking: as in NCCL's config, 16 bytes behind its start. */
static nccl_result_t start(nccl_comm_t c, nccl_comm_t *place, const void *config) {
  c->blocking = 1;
  if (config) memcpy(&c->blocking, (const char *)config + 16, sizeof c->blocking);
  cudaGetDevice(&c->device);
  c->state = NCCL_IN_PROGRESS;
  c->place = place;
  *place = c->asker ? NULL : c;
  if (c->asker) c->asker->state = NCCL_IN_PROGRESS;
  if (pthread_create(&c->thread, NULL, create, c)) return NCCL_SYSTEM_ERROR;
  if (c->asker) return NCCL_SUCCESS; /* as NCCL says, though it is busy */
  if (c->blocking == 0) return NCCL_IN_PROGRESS;
  if (!depth) return finish(c);
  in_group[nin_group++] = c;
  return NCCL_SUCCESS;
}

static nccl_comm_t new_comm(int nranks, int rank) {
  nccl_comm_t c = calloc(1, sizeof *c);
  c->nranks = nranks;
  c->rank = rank;
  return c;
}

nccl_result_t ncclCommInitRankConfig(nccl_comm_t *comm, int nranks, nccl_unique_id_t id, int rank, void *config) {
  FAKE_NOTE(CommInitRankConfig, (comm, nranks, id, rank, config));
  nccl_comm_t c = new_comm(nranks, rank);
  memcpy(&c->id, &id, sizeof c->id);
  return start(c, comm, config);
}

nccl_result_t ncclCommInitRank(nccl_comm_t *comm, int nranks, nccl_unique_id_t id, int rank) {
  const char *fails = getenv("FAKE_NCCL_FAILS"), *segment = getenv("FAKE_NCCL_SEGMENT");
  FAKE_NOTE(CommInitRank, (comm, nranks, id, rank));
  if (fails && atoi(fails) == rank) return NCCL_SYSTEM_ERROR;
  if (segment && open(segment, O_RDWR | O_CREAT | O_CLOEXEC, 0600) >= 0) pause();
  nccl_comm_t c = new_comm(nranks, rank);
  memcpy(&c->id, &id, sizeof c->id);
  return start(c, comm, NULL);
}

nccl_result_t ncclCommInitRankScalable(nccl_comm_t *comm, int nranks, int rank, int nids, nccl_unique_id_t *ids,
                                       void *config) {
  FAKE_NOTE(CommInitRankScalable, (comm, nranks, rank, nids, ids, config));
  nccl_comm_t c = new_comm(nranks, rank);
  memcpy(&c->id, &ids[nids - 1], sizeof c->id);
  return start(c, comm, config);
}

/* By its name, as NCCL calls it: with a front before it, this comes back through the front. */
nccl_result_t ncclCommInitAll(nccl_comm_t *comms, int n, const int *devices) {
  FAKE_NOTE(CommInitAll, (comms, n, devices));
  nccl_unique_id_t id;
  int before, result = NCCL_SUCCESS;
  ncclGetUniqueId(&id);
  cudaGetDevice(&before);
  depth++;
  for (int i = 0; i < n; i++) {
    cudaSetDevice(devices ? devices[i] : i);
    nccl_comm_t c = new_comm(n, i);
    memcpy(&c->id, &id, sizeof c->id);
    start(c, &comms[i], NULL);
  }
  depth--;
  cudaSetDevice(before);
  while (nin_group) result |= (int)finish(in_group[--nin_group]);
  return (nccl_result_t)result;
}

enum { NO_COLOR = -1 };

nccl_result_t ncclCommSplit(nccl_comm_t comm, int color, int key, nccl_comm_t *newcomm, void *config) {
  FAKE_NOTE(CommSplit, (comm, color, key, newcomm, config));
  nccl_comm_t c = new_comm(0, 0);
  c->parent = comm->engine;
  c->color = color;
  c->key = key;
  c->asker = comm->blocking ? NULL : comm;
  const nccl_result_t result = start(c, newcomm, config);
  if (color == NO_COLOR && !c->asker)
    *newcomm = NULL; /* tests are about what the front makes of it, not about leaks here */
  return result;
}

/* The id of the rest, which all of it find alike. */
nccl_result_t ncclCommShrink(nccl_comm_t comm, int *excluded, int nexcluded, nccl_comm_t *newcomm, void *config,
                             int flags) {
  FAKE_NOTE(CommShrink, (comm, excluded, nexcluded, newcomm, config, flags));
  int rank = comm->rank;
  for (int i = 0; i < nexcluded; i++) rank -= excluded[i] < comm->rank;
  nccl_comm_t c = new_comm(comm->nranks - nexcluded, rank);
  c->id = comm->id;
  c->id.internal[13] ^= (char)(1 + comm->shrinks++); /* a byte of the random part */
  c->asker = comm->blocking ? NULL : comm;
  return start(c, newcomm, config);
}

nccl_result_t ncclGroupStart(void) {
  FAKE_NOTE(GroupStart, ());
  depth++;
  return NCCL_SUCCESS;
}

nccl_result_t ncclGroupEnd(void) {
  int result = fake_answer_now;
  FAKE_NOTE(GroupEnd, ());
  if (!depth) return NCCL_INVALID_USAGE;
  if (--depth) return NCCL_SUCCESS;
  while (nin_group) result |= (int)finish(in_group[--nin_group]);
  return (nccl_result_t)result;
}

/* ---- the rest of their lives --------------------------------------------------------------------------------------
 */

static void end(nccl_comm_t c, int aborts) {
  if (c->thread) finish(c);
  if (aborts && c->engine) shmccl_comm_abort(c->engine);
  shmccl_comm_destroy(c->engine);
  free(c);
}

nccl_result_t ncclCommDestroy(nccl_comm_t comm) {
  FAKE_NOTE(CommDestroy, (comm));
  return end(comm, 0), NCCL_SUCCESS;
}

nccl_result_t ncclCommAbort(nccl_comm_t comm) {
  FAKE_NOTE(CommAbort, (comm));
  return end(comm, 1), NCCL_SUCCESS;
}

nccl_result_t ncclCommGetAsyncError(nccl_comm_t comm, nccl_result_t *state) {
  FAKE_NOTE(CommGetAsyncError, (comm, state));
  return *state = (nccl_result_t)shmi_observe32(&comm->state), NCCL_SUCCESS;
}

nccl_result_t ncclCommCount(nccl_comm_t comm, int *count) {
  FAKE_NOTE(CommCount, (comm, count));
  return *count = comm->nranks, NCCL_SUCCESS;
}

nccl_result_t ncclCommCuDevice(nccl_comm_t comm, int *device) {
  FAKE_NOTE(CommCuDevice, (comm, device));
  return *device = comm->device, NCCL_SUCCESS;
}

nccl_result_t ncclCommUserRank(nccl_comm_t comm, int *rank) {
  FAKE_NOTE(CommUserRank, (comm, rank));
  return *rank = comm->rank, NCCL_SUCCESS;
}

/* ---- about NCCL ---------------------------------------------------------------------------------------------------
 */

nccl_result_t ncclGetUniqueId(nccl_unique_id_t *id) {
  FAKE_NOTE(GetUniqueId, (id));
  return shmccl_get_unique_id((shmccl_unique_id_t *)id) == SHMCCL_SUCCESS ? NCCL_SUCCESS : NCCL_SYSTEM_ERROR;
}

const char *ncclGetErrorString(nccl_result_t result) {
  FAKE_NOTE(GetErrorString, (result));
  return "the fake's text";
}

const char *ncclGetLastError(nccl_comm_t comm) {
  FAKE_NOTE(GetLastError, (comm));
  return "the fake's last error";
}

/* ---- collectives --------------------------------------------------------------------------------------------------
 */

static nccl_result_t outcome(shmccl_result_t result) {
  return result == SHMCCL_SUCCESS                  ? NCCL_SUCCESS
         : result == SHMCCL_ERROR_INVALID_ARGUMENT ? NCCL_INVALID_ARGUMENT
                                                   : NCCL_REMOTE_ERROR;
}

#define TYPE ((shmccl_datatype_t)datatype)
#define OP   ((shmccl_redop_t)(op > NCCL_AVG ? NCCL_SUM : op)) /* its own operators are sums */

nccl_result_t ncclAllReduce(const void *sendbuf, void *recvbuf, size_t count, nccl_datatype_t datatype, nccl_redop_t op,
                            nccl_comm_t comm, void *stream) {
  FAKE_NOTE(AllReduce, (sendbuf, recvbuf, count, datatype, op, comm, stream));
  return outcome(shmccl_allreduce(sendbuf, recvbuf, count, TYPE, OP, comm->engine, stream));
}

nccl_result_t ncclAllGather(const void *sendbuf, void *recvbuf, size_t count, nccl_datatype_t datatype,
                            nccl_comm_t comm, void *stream) {
  FAKE_NOTE(AllGather, (sendbuf, recvbuf, count, datatype, comm, stream));
  return outcome(shmccl_allgather(sendbuf, recvbuf, count, TYPE, comm->engine, stream));
}

nccl_result_t ncclBroadcast(const void *sendbuf, void *recvbuf, size_t count, nccl_datatype_t datatype, int root,
                            nccl_comm_t comm, void *stream) {
  FAKE_NOTE(Broadcast, (sendbuf, recvbuf, count, datatype, root, comm, stream));
  return outcome(shmccl_broadcast(sendbuf, recvbuf, count, TYPE, root, comm->engine, stream));
}

nccl_result_t ncclBcast(void *buffer, size_t count, nccl_datatype_t datatype, int root, nccl_comm_t comm,
                        void *stream) {
  FAKE_NOTE(Bcast, (buffer, count, datatype, root, comm, stream));
  return ncclBroadcast(buffer, buffer, count, datatype, root, comm, stream);
}
