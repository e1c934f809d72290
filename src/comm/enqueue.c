/* enqueue.c - calls on device memory: nothing waits here, and nothing that the host knows is baked into a launch that
 * could be replayed. */
#include "comm/device.h"

#include <stdlib.h>

/* ---- which memory ------------------------------------------------------------------------------------------------ */

static shmccl_result_t kind_of(const shmccl_comm_t *comm, const void *p, enum shmi_memory_kind *kind) {
  SHMI_RETURN_IF_ERROR(shmi_gpu_kind_of(comm->device->gpu, p, kind));
  if (*kind != SHMI_MEMORY_OTHER) return SHMCCL_SUCCESS;
  return shmi_error(SHMCCL_ERROR_INVALID_ARGUMENT,
                    "the buffer at %p belongs to another GPU than the communicator, which was made on device %d: pass "
                    "memory of that device",
                    p, shmi_gpu_device(comm->device->gpu));
}

static shmccl_result_t check_host(const void *stream) {
  if (!stream) return SHMCCL_SUCCESS;
  return shmi_error(SHMCCL_ERROR_INVALID_ARGUMENT,
                    "a stream is given for host memory, on which calls are synchronous: pass NULL, or device memory");
}

/* Without buffers the stream tells. */
shmccl_result_t shmi_device_wanted(const shmccl_comm_t *comm, const struct shmi_call *c, const void *stream,
                                   bool *wanted) {
  enum shmi_memory_kind kinds[2] = {SHMI_MEMORY_HOST, SHMI_MEMORY_HOST};
  const void *const buffers[] = {c->sendbuf, c->recvbuf};
  int n = 0;
  *wanted = stream != NULL;
  if (!comm->device || !c->id.count) return SHMCCL_SUCCESS;
  for (int i = 0; i < 2; i++)
    if (buffers[i]) SHMI_RETURN_IF_ERROR(kind_of(comm, buffers[i], &kinds[n++]));
  if (n == 2 && kinds[0] != kinds[1])
    return shmi_error(SHMCCL_ERROR_INVALID_ARGUMENT,
                      "one of sendbuf and recvbuf is host memory, the other device memory: pass two of a kind");
  if (n) *wanted = kinds[0] == SHMI_MEMORY_DEVICE;
  return *wanted ? SHMCCL_SUCCESS : check_host(stream);
}

/* ---- enqueueing -------------------------------------------------------------------------------------------------- */

static shmccl_result_t run_alone(struct shmi_gpu *gpu, const struct shmi_call *c, void *stream) {
  if (!c->id.count || c->sendbuf == c->recvbuf) return SHMCCL_SUCCESS;
  return shmi_gpu_copy(gpu, c->recvbuf, c->sendbuf, c->id.count * c->element, stream);
}

shmccl_result_t shmi_device_look(shmccl_comm_t *comm) {
  if (shmi_peek64(&comm->device->notice->status)) shmi_watchdog_look(comm);
  return shmi_abort_look(comm);
}

shmccl_result_t shmi_device_outcome(shmccl_comm_t *comm, shmccl_result_t result) {
  if (result == SHMCCL_SUCCESS || !shmi_gpu_is_lost(comm->device->gpu)) return result;
  return shmi_abort_raise(comm, result, comm->rank, NULL);
}

static shmccl_result_t launch(shmccl_comm_t *comm, struct shmi_call *c, void *stream) {
  struct shmi_device *d = comm->device;
  shmi_select_device(&d->launch.world, (int)d->channels, &comm->options, c);
  struct shmi_launch launch = d->launch;
  launch.call = *c;
  launch.number = shmi_watchdog_number(d, &c->id);
  return shmi_gpu_launch(d->gpu, &launch, stream);
}

/* Steps are counted here, where captures and replays do not come by. */
static shmccl_result_t carry(shmccl_comm_t *comm, const struct shmi_call *c, void *stream) {
  struct shmi_device *d = comm->device;
  const bool by_cpu = c->engine == SHMI_BY_ENGINES_AND_CPUS;
  struct shmi_job *job = by_cpu ? shmi_helpers_prepare(c, d->engines.steps) : NULL;
  if (by_cpu && !job) return shmi_error(SHMCCL_ERROR_NO_MEMORY, "no memory for a call: %m");
  struct shmi_carry carry = {.engines = d->engines.at, .meeting = {.launch = d->launch, .step = d->engines.steps}};
  carry.meeting.launch.world = d->engines.meetings;
  carry.meeting.launch.call = *c;
  carry.meeting.launch.number = shmi_watchdog_number(d, &c->id);
  carry.meeting.moved = by_cpu ? d->engines.moved : NULL;
  const shmccl_result_t result = shmi_gpu_carry(d->gpu, &carry, stream);
  if (result != SHMCCL_SUCCESS) return free(job), result;
  if (job) shmi_helpers_give(d->engines.helpers, job);
  d->engines.steps += c->nsteps;
  return SHMCCL_SUCCESS;
}

/* Whether copy engines carry the call: the same answer on all ranks, if they all capture it or none does. */
static shmccl_result_t is_for_engines(const shmccl_comm_t *comm, struct shmi_call *c, void *stream, bool *large,
                                      bool *captured) {
  const struct shmi_device *d = comm->device;
  *captured = false;
  *large = d->engines.ready && shmi_select_engines(&d->engines.at.slots, &comm->options, c);
  return *large ? shmi_gpu_is_captured(d->gpu, stream, captured) : SHMCCL_SUCCESS;
}

shmccl_result_t shmi_device_run(shmccl_comm_t *comm, struct shmi_call *c, void *stream) {
  struct shmi_counts *counts = &shmi_control_of(&comm->world, comm->rank)->counts;
  bool large, captured;
  if (comm->nranks == 1) return run_alone(comm->device->gpu, c, stream);
  SHMI_RETURN_IF_ERROR(shmi_device_look(comm));
  SHMI_RETURN_IF_ERROR(is_for_engines(comm, c, stream, &large, &captured));
  shmi_note32(&counts->device, counts->device + 1);
  const shmccl_result_t result = large && !captured ? carry(comm, c, stream) : launch(comm, c, stream);
  if (large && result == SHMCCL_SUCCESS) shmi_note64(&counts->large, shmi_large_next(counts->large, captured));
  return shmi_device_outcome(comm, result);
}
