/*
 * collnet.c - from NCCL's handles to a communicator of the engine, and from iallreduce to its worker.
 *
 * Every rank makes an id when it listens; rank 0's names the communicator. All ranks see all handles, so whatever can
 * be refused because of a handle is refused by all of them alike.
 */
#include "plugin/collnet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/comm.h"
#include "mem/gpu.h"
#include "plugin/context.h"
#include "plugin/gdr.h"
#include "plugin/helper_cpu.h"
#include "plugin/presence.h"
#include "plugin/registry.h"
#include "plugin/tuner.h"
#include "plugin/worker.h"
#include "shm/place.h"

enum { HANDLE_VERSION = 3, CONNECT_MS = 30000, WARM_UP_BYTES = 4096 };
enum { BUSY_THREADS = 2 };                                /* of a rank: NCCL's progress thread and the worker */
static const uint64_t HANDLE_MAGIC = 0x6c6c6f636d6873ull; /* "shmcoll" */
static const uint32_t LISTEN_MAGIC = 0x6c697374, COLL_MAGIC = 0x636f6c6c, REQUEST_MAGIC = 0x72657175;
static const size_t MOST_BYTES = (size_t)1 << 37; /* of one allreduce of the engine */

struct handle {
  uint64_t magic;
  uint32_t version;
  uint32_t check; /* of the rest */
  uint8_t id[SHMI_ID_BYTES];
  struct shmi_place place;
  uint64_t tuning;  /* what the tuner goes by */
  uint32_t present; /* 1: has a presence */
  uint32_t cuda;    /* 1: takes CUDA pointers */
};
_Static_assert(sizeof(struct handle) <= NCCL_NET_HANDLE_BYTES, "NCCL passes so many bytes on");

struct listener {
  uint32_t magic;
  struct shmi_plugin_log log;
  struct handle handle;
  struct shmi_presence presence; /* if handle.present */
};

struct coll;
struct request {
  uint32_t magic; /* 0: free */
  uint32_t number;
  struct coll *coll;
  size_t bytes;
};

struct coll {
  uint32_t magic;
  int rank, nranks;
  struct shmi_plugin_log log;
  struct shmi_worker *worker;
  struct request requests[SHMI_WORKER_JOBS]; /* the progress thread's */
  uint32_t next_request;
  uint64_t allreduces, bytes;
  struct shmi_registry registry;
};

/* A call with an object that is none of ours. */
static nccl_result_t misuse(const char *text) {
  const struct shmi_plugin_log log = shmi_context_newest_log();
  return shmi_plugin_error(&log, NCCL_INVALID_ARGUMENT, "CollNet %s", text);
}

/* ---- handles ----------------------------------------------------------------------------------------------------- */

static uint32_t check_of(const struct handle *h) {
  const uint8_t *bytes = (const uint8_t *)h;
  uint32_t check = 2166136261u;
  for (size_t i = offsetof(struct handle, id); i < sizeof *h; i++) check = (check ^ bytes[i]) * 16777619u;
  return check;
}

static bool is_listener(const void *listen_comm) {
  const struct listener *l = listen_comm;
  return l && l->magic == LISTEN_MAGIC;
}

nccl_result_t shmi_collnet_listen(const struct shmi_plugin_log *log, int device, void *handle, void **listen_comm) {
  if (device != 0 || !handle || !listen_comm)
    return shmi_plugin_error(log, NCCL_INVALID_ARGUMENT, "CollNet listen: device %d, or a NULL pointer", device);
  struct listener *l = calloc(1, sizeof *l);
  if (!l) return shmi_plugin_error(log, NCCL_SYSTEM_ERROR, "no memory to listen for CollNet: %m");
  *l = (struct listener){.magic = LISTEN_MAGIC, .log = *log};
  l->handle = (struct handle){.magic = HANDLE_MAGIC, .version = HANDLE_VERSION};
  const struct shmi_log_sink before = shmi_plugin_log_enter(&l->log);
  l->handle.tuning = shmi_tuner_hash();
  shmccl_result_t result = shmi_random_id(l->handle.id);
  if (result == SHMCCL_SUCCESS) result = shmi_place_find(&l->handle.place);
  shmi_plugin_log_leave(before);
  if (result != SHMCCL_SUCCESS) return free(l), shmi_plugin_result(result);
  l->handle.present = (uint32_t)shmi_presence_begin(&l->presence, l->handle.id, &l->log);
  l->handle.cuda = (uint32_t)shmi_gdr_offered();
  l->handle.check = check_of(&l->handle);
  memset(handle, 0, NCCL_NET_HANDLE_BYTES);
  memcpy(handle, &l->handle, sizeof l->handle);
  *listen_comm = l;
  return NCCL_SUCCESS;
}

nccl_result_t shmi_collnet_close_listen(void *listen_comm) {
  struct listener *l = listen_comm;
  if (!is_listener(l)) return misuse("closeListen: this is no listen object");
  if (l->handle.present) shmi_presence_end(&l->presence);
  l->magic = 0;
  free(l);
  return NCCL_SUCCESS;
}

static nccl_result_t check_place(const struct listener *l, const struct handle *h, int rank) {
  char who[64];
  snprintf(who, sizeof who, "CollNet connect: rank %d", rank);
  const struct shmi_log_sink before = shmi_plugin_log_enter(&l->log);
  const shmccl_result_t result = shmi_place_check(&h->place, who, SHMI_ONE_HOST_ONLY);
  shmi_plugin_log_leave(before);
  return shmi_plugin_result(result);
}

static nccl_result_t check_handle(const struct listener *l, const struct handle *h, int rank) {
  const bool is_ours = h->magic == HANDLE_MAGIC;
  if (is_ours && h->version != HANDLE_VERSION)
    return shmi_plugin_error(&l->log, NCCL_INVALID_USAGE,
                             "CollNet connect: rank %d runs another version of this plugin: install the same one for "
                             "all ranks",
                             rank);
  if (!is_ours || h->check != check_of(h))
    return shmi_plugin_error(&l->log, NCCL_INVALID_ARGUMENT, "CollNet connect: the handle of rank %d is damaged", rank);
  SHMI_PLUGIN_RETURN_IF_ERROR(check_place(l, h, rank));
  if (h->tuning != l->handle.tuning)
    return shmi_plugin_error(&l->log, NCCL_INVALID_USAGE,
                             "CollNet connect: the tuner of rank %d goes by another table than this rank's: give all "
                             "ranks the same SHMCCL_TUNER, SHMCCL_TUNING_FILE and file",
                             rank);
  if (h->cuda != l->handle.cuda)
    return shmi_plugin_error(&l->log, NCCL_INVALID_USAGE,
                             "CollNet connect: rank %d %s CUDA pointers, other than this rank: give all ranks the same "
                             "SHMCCL_NET_GDR; the log of a rank that was given 1 and cannot says why",
                             rank, h->cuda ? "takes" : "does not take");
  return NCCL_SUCCESS;
}

/* All ranks come to the same answer, but for what this rank's own arguments do. */
static nccl_result_t check_handles(const struct listener *l, void *handles[], int nranks, int rank) {
  if (nranks < 1 || nranks > SHMCCL_MAX_RANKS || rank < 0 || rank >= nranks)
    return shmi_plugin_error(&l->log, NCCL_INVALID_ARGUMENT,
                             "CollNet connect: rank %d of %d: CollNet serves 1 to %d ranks", rank, nranks,
                             SHMCCL_MAX_RANKS);
  for (int r = 0; r < nranks; r++) {
    struct handle h;
    if (!handles[r])
      return shmi_plugin_error(&l->log, NCCL_INVALID_ARGUMENT, "CollNet connect: the handle of rank %d is NULL", r);
    memcpy(&h, handles[r], sizeof h);
    SHMI_PLUGIN_RETURN_IF_ERROR(check_handle(l, &h, r));
    if (r == rank && memcmp(h.id, l->handle.id, sizeof h.id))
      return shmi_plugin_error(&l->log, NCCL_INVALID_ARGUMENT,
                               "CollNet connect: the handle of rank %d is not the one that this listen object wrote",
                               rank);
  }
  return NCCL_SUCCESS;
}

/* ---- connect ----------------------------------------------------------------------------------------------------- */

/* The first larger call allocates the staging: a full /dev/shm shall show now, while NCCL can do without CollNet. And
 * no rank comes out of it before all are in it, so nobody looks for a listener that has been closed. */
static shmccl_result_t warm_up(shmccl_comm_t *comm) {
  uint8_t nothing[WARM_UP_BYTES] = {0};
  return shmccl_allreduce(nothing, nothing, sizeof nothing, SHMCCL_UINT8, SHMCCL_SUM, comm, NULL);
}

/* The ranks come from one exchange of NCCL's, so they are here soon or never; later a rank may be as late as a user's
 * program is. */
static shmccl_result_t meet(const uint8_t id[SHMI_ID_BYTES], int nranks, int rank,
                            const struct shmi_attendance *attendance, shmccl_comm_t **comm) {
  const struct shmi_watch watch = {shmi_attendance_look, attendance};
  shmi_options_t options;
  SHMI_RETURN_IF_ERROR(shmi_options_read(NULL, &options));
  options.memory = SHMCCL_MEMORY_HOST;
  const uint64_t timeout_ms = options.timeout_ms;
  if (options.timeout_ms > CONNECT_MS) options.timeout_ms = CONNECT_MS;
  SHMI_RETURN_IF_ERROR(shmi_comm_create_watched(comm, nranks, id, rank, &options, &watch, SHMI_GPU_CURRENT));
  (*comm)->oversubscribed = shmi_comm_oversubscribed(*comm, BUSY_THREADS);
  const shmccl_result_t result = warm_up(*comm);
  if (result != SHMCCL_SUCCESS) return shmccl_comm_destroy(*comm), result;
  (*comm)->options.timeout_ms = timeout_ms;
  return SHMCCL_SUCCESS;
}

static shmccl_result_t meet_all(void *handles[], int nranks, int rank, shmccl_comm_t **comm) {
  struct shmi_attendance *attendance = calloc(1, sizeof *attendance);
  if (!attendance) return shmi_error(SHMCCL_ERROR_NO_MEMORY, "no memory for a CollNet communicator: %m");
  struct handle first, h;
  shmccl_result_t result = SHMCCL_SUCCESS;
  memcpy(&first, handles[0], sizeof first);
  for (int r = 0; r < nranks && result == SHMCCL_SUCCESS; r++) {
    memcpy(&h, handles[r], sizeof h);
    result = shmi_attendance_add(attendance, r != rank && h.present ? h.id : NULL);
  }
  if (result == SHMCCL_SUCCESS) result = meet(first.id, nranks, rank, attendance, comm);
  shmi_attendance_end(attendance);
  free(attendance);
  return result;
}

static nccl_result_t make_coll(const struct listener *l, shmccl_comm_t *comm, int nranks, int rank, void **coll_comm) {
  struct coll *c = calloc(1, sizeof *c);
  if (!c) return shmi_plugin_error(&l->log, NCCL_SYSTEM_ERROR, "no memory for a CollNet communicator: %m");
  *c = (struct coll){.magic = COLL_MAGIC, .rank = rank, .nranks = nranks, .log = l->log};
  const nccl_result_t result = shmi_worker_start(&c->worker, comm, shmi_helper_cpu(comm), &c->log);
  if (result != NCCL_SUCCESS) return free(c), result;
  shmi_registry_init(&c->registry);
  *coll_comm = c;
  return NCCL_SUCCESS;
}

nccl_result_t shmi_collnet_connect(void *handles[], int nranks, int rank, void *listen_comm, void **coll_comm) {
  const struct listener *l = listen_comm;
  shmccl_comm_t *comm;
  if (!is_listener(l) || !handles || !coll_comm) return misuse("connect: no listen object, or a NULL pointer");
  SHMI_PLUGIN_RETURN_IF_ERROR(check_handles(l, handles, nranks, rank));
  const struct shmi_log_sink before = shmi_plugin_log_enter(&l->log);
  const shmccl_result_t met = meet_all(handles, nranks, rank, &comm);
  shmi_plugin_log_leave(before);
  if (met != SHMCCL_SUCCESS) return shmi_plugin_result(met);
  const nccl_result_t result = make_coll(l, comm, nranks, rank, coll_comm);
  if (result != NCCL_SUCCESS) shmccl_comm_destroy(comm);
  return result;
}

static bool is_coll(const void *coll_comm) {
  const struct coll *c = coll_comm;
  return c && c->magic == COLL_MAGIC;
}

static nccl_result_t check_coll(const void *coll_comm, const char *call) {
  char text[64];
  if (is_coll(coll_comm)) return NCCL_SUCCESS;
  snprintf(text, sizeof text, "%s: this is no CollNet communicator", call);
  return misuse(text);
}

nccl_result_t shmi_collnet_close_coll(void *coll_comm) {
  struct coll *c = coll_comm;
  SHMI_PLUGIN_RETURN_IF_ERROR(check_coll(c, "closeColl"));
  shmi_worker_stop(c->worker);
  shmi_plugin_info(&c->log, NCCL_SUBSYS_NET, "CollNet rank %d of %d: %llu all-reduces of %llu bytes in all", c->rank,
                   c->nranks, (unsigned long long)c->allreduces, (unsigned long long)c->bytes);
  shmi_registry_destroy(&c->registry);
  c->magic = 0;
  free(c);
  return NCCL_SUCCESS;
}

/* ---- registration ------------------------------------------------------------------------------------------------ */

static nccl_result_t use_device(struct coll *c, const void *memory) {
  const struct shmi_log_sink before = shmi_plugin_log_enter(&c->log);
  const shmccl_result_t result = shmi_worker_use_device(c->worker, memory);
  shmi_plugin_log_leave(before);
  return result == SHMCCL_SUCCESS ? NCCL_SUCCESS : shmi_plugin_result(result);
}

nccl_result_t shmi_collnet_reg_mr(void *coll_comm, void *data, size_t bytes, int type, void **mhandle) {
  struct coll *c = coll_comm;
  SHMI_PLUGIN_RETURN_IF_ERROR(check_coll(c, "regMr"));
  if (type != NCCL_PTR_HOST && !(type == NCCL_PTR_CUDA && shmi_gdr_offered()))
    return shmi_plugin_error(&c->log, NCCL_INVALID_USAGE,
                             "CollNet regMr: memory of type %d: host memory (1) only, and CUDA memory (2) where "
                             "SHMCCL_NET_GDR=1 and getProperties says so",
                             type);
  if (!data || !mhandle) return shmi_plugin_error(&c->log, NCCL_INVALID_ARGUMENT, "CollNet regMr: a NULL pointer");
  if (type == NCCL_PTR_CUDA) SHMI_PLUGIN_RETURN_IF_ERROR(use_device(c, data));
  void *made = shmi_registry_add(&c->registry, data, bytes, type);
  if (!made) return shmi_plugin_error(&c->log, NCCL_SYSTEM_ERROR, "CollNet regMr: no memory: %m");
  *mhandle = made;
  return NCCL_SUCCESS;
}

nccl_result_t shmi_collnet_dereg_mr(void *coll_comm, void *mhandle) {
  struct coll *c = coll_comm;
  SHMI_PLUGIN_RETURN_IF_ERROR(check_coll(c, "deregMr"));
  if (!mhandle || shmi_registry_remove(&c->registry, mhandle)) return NCCL_SUCCESS;
  return shmi_plugin_error(&c->log, NCCL_INVALID_ARGUMENT, "CollNet deregMr: this memory is not registered");
}

/* NCCL may leave a handle out: NULL fits everything. */
static bool is_registered(const struct coll *c, const void *mhandle, const void *data, size_t bytes,
                          bool *is_on_device) {
  *is_on_device = false;
  if (!mhandle) return true;
  const struct shmi_registration *r = shmi_registry_find(&c->registry, mhandle);
  const uintptr_t start = r ? (uintptr_t)r->data : 0, at = (uintptr_t)data;
  *is_on_device = r && r->type == NCCL_PTR_CUDA;
  return r && at >= start && at + bytes <= start + r->bytes;
}

/* ---- all-reduce -------------------------------------------------------------------------------------------------- */

nccl_result_t shmi_collnet_reduce_support(nccl_datatype_t datatype, nccl_redop_t op, int *supported) {
  shmccl_datatype_t unused_type;
  shmccl_redop_t unused_op;
  if (!supported) return misuse("reduceSupport: a NULL pointer");
  *supported = shmi_plugin_datatype(datatype, &unused_type) && shmi_plugin_redop(op, &unused_op);
  return NCCL_SUCCESS;
}

/* Here, since the engine's refusal of one rank's arguments would leave the others waiting. */
static nccl_result_t check_job(const struct coll *c, struct shmi_job *job, const void *send_mhandle,
                               const void *recv_mhandle, size_t *bytes) {
  const size_t element = shmccl_datatype_size(job->datatype);
  if (job->count > MOST_BYTES / element)
    return shmi_plugin_error(&c->log, NCCL_INVALID_ARGUMENT, "CollNet iallreduce: %zu elements: at most %zu",
                             job->count, MOST_BYTES / element);
  *bytes = job->count * element;
  if (*bytes && (!job->sendbuf || !job->recvbuf))
    return shmi_plugin_error(&c->log, NCCL_INVALID_ARGUMENT, "CollNet iallreduce: a buffer is NULL");
  if (!is_registered(c, send_mhandle, job->sendbuf, *bytes, &job->send_is_on_device) ||
      !is_registered(c, recv_mhandle, job->recvbuf, *bytes, &job->recv_is_on_device))
    return shmi_plugin_error(&c->log, NCCL_INVALID_ARGUMENT,
                             "CollNet iallreduce: a buffer is not within the memory registered for it");
  const uintptr_t s = (uintptr_t)job->sendbuf, r = (uintptr_t)job->recvbuf;
  if (s != r && s < r + *bytes && r < s + *bytes)
    return shmi_plugin_error(&c->log, NCCL_INVALID_ARGUMENT, "CollNet iallreduce: the buffers overlap in part");
  return NCCL_SUCCESS;
}

nccl_result_t shmi_collnet_iallreduce(void *coll_comm, void *sendbuf, void *recvbuf, size_t count,
                                      nccl_datatype_t datatype, nccl_redop_t op, void *send_mhandle, void *recv_mhandle,
                                      void **request) {
  struct coll *c = coll_comm;
  struct shmi_job job = {.sendbuf = sendbuf, .recvbuf = recvbuf, .count = count};
  size_t bytes;
  SHMI_PLUGIN_RETURN_IF_ERROR(check_coll(c, "iallreduce"));
  if (!request) return shmi_plugin_error(&c->log, NCCL_INVALID_ARGUMENT, "CollNet iallreduce: request is NULL");
  if (!shmi_plugin_datatype(datatype, &job.datatype) || !shmi_plugin_redop(op, &job.op))
    return shmi_plugin_error(&c->log, NCCL_INVALID_ARGUMENT,
                             "CollNet iallreduce: no reduction of type %d by operator %d", (int)datatype, (int)op);
  SHMI_PLUGIN_RETURN_IF_ERROR(check_job(c, &job, send_mhandle, recv_mhandle, &bytes));
  SHMI_PLUGIN_RETURN_IF_ERROR(shmi_worker_state(c->worker));
  struct request *r = &c->requests[c->next_request % SHMI_WORKER_JOBS];
  *request = NULL; /* NCCL asks again; what it left there is not ours */
  if (r->magic || !shmi_worker_post(c->worker, &job, &r->number)) return NCCL_SUCCESS;
  r->magic = REQUEST_MAGIC;
  r->coll = c;
  r->bytes = bytes;
  c->next_request++;
  c->allreduces++;
  c->bytes += bytes;
  *request = r;
  return NCCL_SUCCESS;
}

/* None is needed: a GPU's memory has what was copied there when test says so. There is no request to test. */
nccl_result_t shmi_collnet_iflush(void *coll_comm, void *data, int bytes, void *mhandle, void **request) {
  (void)data, (void)bytes, (void)mhandle;
  SHMI_PLUGIN_RETURN_IF_ERROR(check_coll(coll_comm, "iflush"));
  if (request) *request = NULL;
  return NCCL_SUCCESS;
}

nccl_result_t shmi_collnet_test(void *request, int *done, int *bytes) {
  static void *const sentinel = (void *)1; /* NCCL's mark for a receive whose completion it does not need */
  struct request *r = request;
  bool is_done;
  if (!r || r == sentinel || !done || r->magic != REQUEST_MAGIC)
    return misuse("test: this is no request, or one that was reported as done");
  SHMI_PLUGIN_RETURN_IF_ERROR(shmi_worker_look(r->coll->worker, r->number, &is_done));
  *done = is_done;
  if (!is_done) return NCCL_SUCCESS;
  if (bytes) *bytes = r->bytes > INT32_MAX ? INT32_MAX : (int)r->bytes;
  r->magic = 0;
  return NCCL_SUCCESS;
}
