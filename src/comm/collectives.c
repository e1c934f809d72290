/*
 * collectives.c - the collectives' entry points: check the arguments, make a call of them, run it on the CPU executor.
 */
#include "coll/host.h"
#include "comm/comm.h"
#include "comm/device.h"

#include "coll/step.h"

#include <string.h>

/* What a collective's buffers look like; n is the number of ranks. */
struct shape {
  uint8_t send_is_n, recv_is_n;       /* n blocks of count elements rather than one */
  uint8_t send_on_root, recv_on_root; /* the buffer exists on the root only */
  uint8_t rooted, reduces;
};

static const struct shape shapes[SHMI_COLLECTIVE_COUNT] = {
    [SHMI_ALLREDUCE] = {.reduces = 1},
    [SHMI_ALLGATHER] = {.recv_is_n = 1},
    [SHMI_REDUCE_SCATTER] = {.send_is_n = 1, .reduces = 1},
    [SHMI_BROADCAST] = {.rooted = 1, .send_on_root = 1},
    [SHMI_REDUCE] = {.rooted = 1, .recv_on_root = 1, .reduces = 1},
    [SHMI_ALLTOALL] = {.send_is_n = 1, .recv_is_n = 1},
    [SHMI_GATHER] = {.rooted = 1, .recv_is_n = 1, .recv_on_root = 1},
    [SHMI_SCATTER] = {.rooted = 1, .send_is_n = 1, .send_on_root = 1},
};

/* Keeps the number of chunks below 2^32 at any chunk size. */
static const uint64_t MOST_BYTES = 1ull << 37;

/* ---- checks -------------------------------------------------------------------------------------------------------
 */

static shmccl_result_t check_ids(const shmccl_comm_t *comm, const struct shmi_call *c, const char *name) {
  const struct shape *shape = &shapes[c->id.collective];
  if (c->element == 0)
    return shmi_error(SHMCCL_ERROR_INVALID_ARGUMENT, "%s: datatype is %u: give a shmccl_datatype_t", name,
                      c->id.datatype);
  if (shape->reduces && c->id.op >= SHMCCL_REDOP_COUNT)
    return shmi_error(SHMCCL_ERROR_INVALID_ARGUMENT, "%s: op is %u: give a shmccl_redop_t", name, c->id.op);
  if (shape->rooted && c->id.root >= (uint32_t)comm->nranks)
    return shmi_error(SHMCCL_ERROR_INVALID_ARGUMENT, "%s: root is %d: give 0 to %d", name, (int)c->id.root,
                      comm->nranks - 1);
  const uint64_t blocks = shape->send_is_n || shape->recv_is_n ? (uint64_t)comm->nranks : 1;
  const uint64_t most = MOST_BYTES / c->element / blocks;
  if (c->id.count <= most) return SHMCCL_SUCCESS;
  return shmi_error(SHMCCL_ERROR_INVALID_ARGUMENT, "%s: count is %llu: at most %llu elements of this type fit a call",
                    name, (unsigned long long)c->id.count, (unsigned long long)most);
}

static bool overlap(const uint8_t *a, size_t a_bytes, const uint8_t *b, size_t b_bytes) {
  return (uintptr_t)a < (uintptr_t)b + b_bytes && (uintptr_t)b < (uintptr_t)a + a_bytes;
}

/* In place means: this rank's own block lies at the same place in both. */
static shmccl_result_t check_buffers(const shmccl_comm_t *comm, const struct shmi_call *c, const char *name) {
  const struct shape *shape = &shapes[c->id.collective];
  const bool is_root = c->id.root == (uint32_t)comm->rank;
  const bool sends = !shape->send_on_root || is_root, receives = !shape->recv_on_root || is_root;
  const size_t block = c->id.count * c->element, n = (size_t)comm->nranks, mine = (size_t)comm->rank * block;
  if (c->id.count == 0) return SHMCCL_SUCCESS;
  if ((sends && !c->sendbuf) || (receives && !c->recvbuf))
    return shmi_error(SHMCCL_ERROR_INVALID_ARGUMENT, "%s: %s is NULL: pass %llu elements", name,
                      sends && !c->sendbuf ? "sendbuf" : "recvbuf", (unsigned long long)c->id.count);
  if (!sends || !receives || c->sendbuf + (shape->send_is_n ? mine : 0) == c->recvbuf + (shape->recv_is_n ? mine : 0))
    return SHMCCL_SUCCESS;
  if (overlap(c->sendbuf, shape->send_is_n ? n * block : block, c->recvbuf, shape->recv_is_n ? n * block : block))
    return shmi_error(SHMCCL_ERROR_INVALID_ARGUMENT,
                      "%s: sendbuf and recvbuf overlap: keep them apart, or place them as "
                      "shmccl.h says under in place",
                      name);
  return SHMCCL_SUCCESS;
}

shmccl_result_t shmi_check_usable(const shmccl_comm_t *comm, const char *name, const void *stream) {
  SHMI_RETURN_IF_ERROR(shmi_comm_check(comm));
  if (comm->finalized)
    return shmi_error(SHMCCL_ERROR_INVALID_USAGE, "%s: the communicator is finalized: only destroy it", name);
  if (stream && !comm->device)
    return shmi_error(SHMCCL_ERROR_INVALID_ARGUMENT,
                      "%s: stream must be NULL: this communicator knows host memory only (see shmccl_memory_t)", name);
  return SHMCCL_SUCCESS;
}

/* ---- running ---------------------------------------------------------------------------------------------------- */

struct meeting {
  shmccl_comm_t *comm;
  const struct shmi_call *call;
  struct shmi_block *block;
  uint32_t step, last;
  bool measures; /* the distances, in every STEPS_PER_SAMPLE'th step and the last */
};

enum { STEPS_PER_SAMPLE = 4 };

static bool lacks_step(const void *context, int peer) {
  const struct meeting *m = context;
  return shmi_word_generation(shmi_observe64(&shmi_step_of(&m->comm->world, peer, m->step)->word)) != m->step;
}

static shmccl_result_t look_at(const struct meeting *m, int peer, uint64_t *open) {
  const uint64_t word = shmi_observe64(&shmi_step_of(&m->comm->world, peer, m->step)->word), bit = 1ull << peer;
  if (shmi_word_generation(word) != m->step) return *open |= bit, SHMCCL_SUCCESS;
  *open &= ~bit;
  return shmi_word_signature(word) == m->call->signature ? SHMCCL_SUCCESS : shmi_abort_mismatch(m->comm, peer);
}

/* The line timed is written in the turn before. Ranks that become far within a call are so from the next turn on. */
static void measure(const struct meeting *m) {
  const uint32_t left = (m->last - m->step) % STEPS_PER_SAMPLE;
  if (left == 1) shmi_distance_light(m->comm);
  if (left != 0) return;
  shmi_distance_measure(m->comm);
  m->block->far = m->comm->far;
}

/* Peers in an order that starts behind this rank, so that not all look at the same line at once. */
static int await_all(void *context, uint32_t step) {
  struct meeting *m = context;
  const struct shmi_world *w = &m->comm->world;
  struct shmi_wait wait = shmi_wait_begin(m->comm, shmi_call_name(&m->call->id));
  uint64_t open = 0; /* ranks whose words are lacking; all are looked at, so that a late one hides no disagreement */
  m->step = step;
  for (int i = 1; i < w->nranks; i++) SHMI_RETURN_IF_ERROR(look_at(m, (w->rank + i) % w->nranks, &open));
  while (open) {
    SHMI_RETURN_IF_ERROR(shmi_wait_pause(&wait, lacks_step, m));
    for (uint64_t left = open; left; left &= left - 1) SHMI_RETURN_IF_ERROR(look_at(m, __builtin_ctzll(left), &open));
  }
  if (m->measures) measure(m);
  return SHMCCL_SUCCESS;
}

/* This rank's slots, each lane on the node of the rank that reads it. */
static shmccl_result_t allocate_slots(shmccl_comm_t *comm) {
  const struct shmi_world *w = &comm->world;
  uint8_t *mine = shmi_slot_of(w, w->rank, 0);
  for (int lane = 0; lane < 2 * w->nranks; lane++)
    shmi_place_for(comm, mine + (size_t)lane * w->lane_bytes, w->lane_bytes, lane % w->nranks);
  shmccl_result_t result =
      shmi_segment_allocate(&comm->segment, (size_t)(mine - comm->segment.base), 2 * w->slot_bytes);
  if (result != SHMCCL_SUCCESS) return shmi_abort_raise(comm, result, comm->rank, NULL);
  comm->slots_allocated = true;
  return SHMCCL_SUCCESS;
}

static void run_alone(const struct shmi_call *c) {
  if (c->id.count && c->sendbuf != c->recvbuf) memcpy(c->recvbuf, c->sendbuf, c->id.count * c->element);
}

static shmccl_result_t run_together(shmccl_comm_t *comm, const struct shmi_call *c) {
  const struct shape *shape = &shapes[c->id.collective];
  const size_t n = (size_t)comm->nranks, block_bytes = c->id.count * c->element;
  const size_t user_bytes = block_bytes * ((shape->send_is_n ? n : 1) + (shape->recv_is_n ? n : 1));
  struct meeting meeting = {.comm = comm,
                            .call = c,
                            .last = comm->steps + c->nsteps,
                            .measures = shmi_distance_wanted(&comm->sized_calls, block_bytes)};
  struct shmi_block block = {.nthreads = 1,
                             .step = comm->steps,
                             .world = &comm->world,
                             .call = c,
                             .tile = SHMI_TILE,
                             .await = await_all,
                             .context = &meeting};
  meeting.block = &block;
  block.stream = user_bytes >= comm->stream_bytes && (uintptr_t)c->recvbuf % c->element == 0;
  if (block.stream) block.tile = SHMI_TILE_STREAM;
  shmi_fpenv_t environment = {0};
  if (shape->reduces) {
    block.reduce = shmi_reduce_lookup((shmccl_datatype_t)c->id.datatype, (shmccl_redop_t)c->id.op);
    environment = shmi_fpenv_enter();
  }
  block.far = comm->far;
  if (meeting.measures) shmi_distance_light(comm);
  int result = shmi_block_run(&block);
  comm->steps = block.step;
  if (shape->reduces) shmi_fpenv_leave(environment);
  if (block.stream) shmi_stream_fence();
  return (shmccl_result_t)result;
}

static void count(shmccl_comm_t *comm) {
  uint32_t *host = &shmi_control_of(&comm->world, comm->rank)->counts.host;
  if (comm->device) shmi_note32(host, *host + 1);
}

static shmccl_result_t run(shmccl_comm_t *comm, struct shmi_call *c) {
  SHMI_RETURN_IF_ERROR(shmi_abort_look(comm));
  count(comm);
  if (comm->nranks == 1) return run_alone(c), SHMCCL_SUCCESS;
  shmi_select(comm, c);
  if (!c->inline_data && !comm->slots_allocated) SHMI_RETURN_IF_ERROR(allocate_slots(comm));
  return run_together(comm, c);
}

static shmccl_result_t collective(enum shmi_collective which, const void *sendbuf, void *recvbuf, size_t count,
                                  shmccl_datatype_t datatype, shmccl_redop_t op, int root, shmccl_comm_t *comm,
                                  void *stream) {
  bool on_device;
  struct shmi_call call = {.id = {(uint32_t)which, (uint32_t)datatype, (uint32_t)op, (uint32_t)root, count},
                           .sendbuf = sendbuf,
                           .recvbuf = recvbuf,
                           .element = shmccl_datatype_size(datatype)};
  const char *name = shmi_call_name(&call.id);
  SHMI_RETURN_IF_ERROR(shmi_check_usable(comm, name, stream));
  if (comm->in_group)
    return shmi_error(SHMCCL_ERROR_INVALID_USAGE, "%s: only send and recv are allowed in a group: end it first", name);
  SHMI_RETURN_IF_ERROR(check_ids(comm, &call, name));
  SHMI_RETURN_IF_ERROR(check_buffers(comm, &call, name));
  SHMI_RETURN_IF_ERROR(shmi_device_wanted(comm, &call, stream, &on_device));
  if (on_device) return shmi_device_run(comm, &call, stream);
  comm->calling = &call.id;
  shmccl_result_t result = run(comm, &call);
  comm->calling = NULL;
  return result;
}

/* ---- public ---------------------------------------------------------------------------------------------------------
 */

shmccl_result_t shmccl_allreduce(const void *sendbuf, void *recvbuf, size_t count, shmccl_datatype_t datatype,
                                 shmccl_redop_t op, shmccl_comm_t *comm, void *stream) {
  return collective(SHMI_ALLREDUCE, sendbuf, recvbuf, count, datatype, op, 0, comm, stream);
}

shmccl_result_t shmccl_allgather(const void *sendbuf, void *recvbuf, size_t sendcount, shmccl_datatype_t datatype,
                                 shmccl_comm_t *comm, void *stream) {
  return collective(SHMI_ALLGATHER, sendbuf, recvbuf, sendcount, datatype, SHMCCL_SUM, 0, comm, stream);
}

shmccl_result_t shmccl_reduce_scatter(const void *sendbuf, void *recvbuf, size_t recvcount, shmccl_datatype_t datatype,
                                      shmccl_redop_t op, shmccl_comm_t *comm, void *stream) {
  return collective(SHMI_REDUCE_SCATTER, sendbuf, recvbuf, recvcount, datatype, op, 0, comm, stream);
}

shmccl_result_t shmccl_broadcast(const void *sendbuf, void *recvbuf, size_t count, shmccl_datatype_t datatype, int root,
                                 shmccl_comm_t *comm, void *stream) {
  return collective(SHMI_BROADCAST, sendbuf, recvbuf, count, datatype, SHMCCL_SUM, root, comm, stream);
}

shmccl_result_t shmccl_reduce(const void *sendbuf, void *recvbuf, size_t count, shmccl_datatype_t datatype,
                              shmccl_redop_t op, int root, shmccl_comm_t *comm, void *stream) {
  return collective(SHMI_REDUCE, sendbuf, recvbuf, count, datatype, op, root, comm, stream);
}

shmccl_result_t shmccl_alltoall(const void *sendbuf, void *recvbuf, size_t count, shmccl_datatype_t datatype,
                                shmccl_comm_t *comm, void *stream) {
  return collective(SHMI_ALLTOALL, sendbuf, recvbuf, count, datatype, SHMCCL_SUM, 0, comm, stream);
}

shmccl_result_t shmccl_gather(const void *sendbuf, void *recvbuf, size_t count, shmccl_datatype_t datatype, int root,
                              shmccl_comm_t *comm, void *stream) {
  return collective(SHMI_GATHER, sendbuf, recvbuf, count, datatype, SHMCCL_SUM, root, comm, stream);
}

shmccl_result_t shmccl_scatter(const void *sendbuf, void *recvbuf, size_t count, shmccl_datatype_t datatype, int root,
                               shmccl_comm_t *comm, void *stream) {
  return collective(SHMI_SCATTER, sendbuf, recvbuf, count, datatype, SHMCCL_SUM, root, comm, stream);
}

shmccl_result_t shmccl_barrier(shmccl_comm_t *comm, void *stream) {
  return collective(SHMI_BARRIER, NULL, NULL, 0, SHMCCL_INT8, SHMCCL_SUM, 0, comm, stream);
}

shmccl_result_t shmi_split_exchange(const void *mine, void *all, size_t bytes, shmccl_comm_t *comm) {
  return collective(SHMI_ALLGATHER, mine, all, bytes, SHMCCL_UINT8, SHMCCL_SUM, SHMI_INNER, comm, NULL);
}

static shmccl_result_t wait_for_kernels(shmccl_comm_t *comm) {
  const char *problem = comm->device ? shmi_gpu_wait(comm->device->gpu, false) : NULL;
  if (comm->device && comm->nranks > 1) shmi_watchdog_look(comm);
  SHMI_RETURN_IF_ERROR(shmi_abort_look(comm));
  if (!problem) return SHMCCL_SUCCESS;
  return shmi_error(SHMCCL_ERROR_CUDA,
                    "finalize: waiting for the GPU failed: %s: end captures first, or start the process again",
                    problem);
}

shmccl_result_t shmccl_comm_finalize(shmccl_comm_t *comm) {
  SHMI_RETURN_IF_ERROR(shmi_check_usable(comm, "finalize", NULL));
  SHMI_RETURN_IF_ERROR(wait_for_kernels(comm));
  SHMI_RETURN_IF_ERROR(collective(SHMI_BARRIER, NULL, NULL, 0, SHMCCL_INT8, SHMCCL_SUM, SHMI_INNER, comm, NULL));
  comm->finalized = true;
  /* From here on nobody needs this rank: it may end. */
  shmi_publish32(&shmi_control_of(&comm->world, comm->rank)->member.state, SHMI_MEMBER_LEFT);
  return SHMCCL_SUCCESS;
}
