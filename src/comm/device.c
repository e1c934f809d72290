/* device.c - from a GPU to a communicator's device side, and back. */
#include "comm/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- opening ----------------------------------------------------------------------------------------------------- */

/* This rank's message slots and as many channels as /dev/shm has room for; the number of the latter. */
static uint32_t allocate_channels(const shmccl_comm_t *comm) {
  const struct shmi_header *h = &comm->segment.header;
  const size_t n = (size_t)comm->nranks, rank = (size_t)comm->rank;
  const size_t pairs = shmi_layout_device_bytes(h, 0) / n;
  uint32_t channels = 0;
  if (!h->channels) return 0;
  if (shmi_segment_allocate(&comm->segment, h->device_offset + rank * pairs, pairs) != SHMCCL_SUCCESS) return 0;
  while (channels < h->channels) {
    const size_t offset = h->device_offset + shmi_layout_device_bytes(h, channels) + rank * h->channel_stride;
    if (shmi_segment_allocate(&comm->segment, offset, h->channel_stride) != SHMCCL_SUCCESS) break;
    channels++;
  }
  return channels;
}

static bool allocate_engine_slots(const shmccl_comm_t *comm) {
  const struct shmi_header *h = &comm->segment.header;
  const size_t mine = 2 * h->engine_slot_bytes;
  return mine &&
         shmi_segment_allocate(&comm->segment, h->engine_offset + (size_t)comm->rank * mine, mine) == SHMCCL_SUCCESS;
}

static shmccl_result_t make(shmccl_comm_t *comm, int device) {
  struct shmi_device *d = comm->device;
  struct shmi_notice *notice;
  void *states = NULL, *pieces = NULL;
  SHMI_RETURN_IF_ERROR(shmi_gpu_open(&d->gpu, device));
  if (comm->nranks == 1) return SHMCCL_SUCCESS;
  SHMI_RETURN_IF_ERROR(shmi_gpu_pin(d->gpu, &d->told, sizeof *d->notice));
  SHMI_RETURN_IF_ERROR(shmi_gpu_allocate(d->gpu, &states, SHMI_CHANNELS_MOST * sizeof *d->launch.states));
  d->launch.states = states;
  SHMI_RETURN_IF_ERROR(shmi_gpu_allocate(d->gpu, &pieces, sizeof *d->pieces));
  d->pieces = pieces;
  notice = d->told.device;
  d->notice = d->told.host;
  d->launch = (struct shmi_launch){.states = states,
                                   .leave = &notice->leave,
                                   .status = &notice->status,
                                   .missed = notice->missed,
                                   .patience_ns = comm->options.timeout_ms * 1000000};
  d->engines.moved = &notice->moved;
  return SHMCCL_SUCCESS;
}

static shmccl_result_t open_gpu(shmccl_comm_t *comm, int device) {
  comm->device = calloc(1, sizeof *comm->device);
  if (!comm->device) return shmi_error(SHMCCL_ERROR_NO_MEMORY, "no memory for a communicator: %m");
  shmccl_result_t result = make(comm, device);
  if (result != SHMCCL_SUCCESS) shmi_device_close(comm);
  return result;
}

static bool is_wanted(const shmi_options_t *options) {
  return options->memory == SHMCCL_MEMORY_CUDA || (options->memory == SHMCCL_MEMORY_AUTO && shmi_gpu_in_use());
}

int shmi_device_of(int rank, const shmi_options_t *options) {
  const int devices = is_wanted(options) ? shmi_gpu_count() : 0;
  return devices ? rank % devices : SHMI_GPU_CURRENT;
}

static shmccl_result_t open_and_allocate(shmccl_comm_t *comm, int device) {
  struct shmi_member *mine = &shmi_control_of(&comm->world, comm->rank)->member;
  SHMI_RETURN_IF_ERROR(open_gpu(comm, device));
  if (comm->nranks > 1) mine->device_channels = allocate_channels(comm);
  if (mine->device_channels) mine->engine_slots = allocate_engine_slots(comm);
  if (comm->nranks == 1 || mine->device_channels) return SHMCCL_SUCCESS;
  shmi_device_close(comm);
  return shmi_error(SHMCCL_ERROR_NO_SPACE,
                    "rank %d: no room for device memory's staging: raise SHMCCL_STAGING_BYTES or free space in %s, or "
                    "use host memory (SHMCCL_MEMORY=host)",
                    comm->rank, shmi_option_shm_dir());
}

/* Who did not ask for device memory can do without. */
shmccl_result_t shmi_device_open(shmccl_comm_t *comm, int device) {
  if (!is_wanted(&comm->options)) return SHMCCL_SUCCESS;
  const shmccl_result_t result = open_and_allocate(comm, device);
  return comm->options.memory == SHMCCL_MEMORY_AUTO ? SHMCCL_SUCCESS : result;
}

/* ---- agreeing ---------------------------------------------------------------------------------------------------- */

static uint32_t least_of(const shmccl_comm_t *comm, uint32_t (*of)(const struct shmi_member *)) {
  uint32_t least = (uint32_t)comm->segment.header.channels;
  for (int r = 0; r < comm->nranks; r++) {
    const uint32_t channels = of(&shmi_control_of(&comm->world, r)->member);
    if (channels < least) least = channels;
  }
  return least;
}

static uint32_t allocated_by(const struct shmi_member *m) { return m->device_channels; }
static uint32_t registered_by(const struct shmi_member *m) { return shmi_observe32(&m->registered) % SHMI_ENGINES - 1; }
static uint32_t has_engine_slots(const struct shmi_member *m) { return m->engine_slots; }
static uint32_t has_engines(const struct shmi_member *m) { return shmi_observe32(&m->registered) / SHMI_ENGINES; }

/* Fewer channels until they can be pinned; how many, and the reason if not all. */
static uint32_t register_channels(const shmccl_comm_t *comm, uint64_t most, uint32_t channels, const char **why) {
  const struct shmi_header *h = &comm->segment.header;
  struct shmi_device *d = comm->device;
  const char *problem = NULL;
  for (; channels; channels /= 2) {
    problem = shmi_gpu_register(d->gpu, &d->staging, comm->segment.base + h->device_offset,
                                shmi_layout_device_bytes(h, channels), most);
    if (!problem) return channels;
    *why = problem;
  }
  return 0;
}

static uint32_t register_segment(const shmccl_comm_t *comm, uint64_t most, uint32_t channels, const char **why) {
  const struct shmi_header *h = &comm->segment.header;
  struct shmi_device *d = comm->device;
  *why = shmi_gpu_register(d->gpu, &d->control, comm->segment.base + h->control_offset,
                           (size_t)comm->nranks * h->control_stride, most);
  return *why ? 0 : register_channels(comm, most, channels, why);
}

/* Everybody's slots, if that leaves five eighths to communicators that come later; and what the engines need on the
 * device, of which a lack is an error. */
static shmccl_result_t register_engines(const shmccl_comm_t *comm, uint64_t most, bool *ready) {
  const struct shmi_header *h = &comm->segment.header;
  struct shmi_device *d = comm->device;
  void *scratch = NULL;
  const char *why = least_of(comm, has_engine_slots)
                        ? shmi_gpu_register(d->gpu, &d->slots, comm->segment.base + h->engine_offset,
                                            shmi_layout_engine_bytes(h), most / 8 * 3)
                        : "no room in staging";
  if (why) {
    SHMI_INFO("rank %d: no copy engines, kernels move all sizes: %s", comm->rank, why);
    return SHMCCL_SUCCESS;
  }
  SHMI_RETURN_IF_ERROR(shmi_gpu_open_engines(d->gpu));
  SHMI_RETURN_IF_ERROR(shmi_gpu_allocate(d->gpu, &scratch, SHMI_SCRATCH_SLOTS * h->engine_slot_bytes));
  d->engines.at.scratch = scratch;
  *ready = true;
  return SHMCCL_SUCCESS;
}

/* What this process may register in all: the share of its ranks. */
static shmccl_result_t limit_of(const shmccl_comm_t *comm, uint64_t *limit) {
  const uint32_t pid = shmi_control_of(&comm->world, comm->rank)->member.pid;
  uint64_t here = 0, most;
  SHMI_RETURN_IF_ERROR(shmi_option_local(SHMI_OPTION_PINNED_BYTES, &most));
  for (int r = 0; r < comm->nranks; r++) here += shmi_control_of(&comm->world, r)->member.pid == pid;
  *limit = most / (uint64_t)comm->nranks * here;
  return SHMCCL_SUCCESS;
}

bool shmi_device_is_common(const shmccl_comm_t *comm) { return comm->nranks > 1 && least_of(comm, allocated_by); }

shmccl_result_t shmi_device_register(shmccl_comm_t *comm) {
  const char *why = NULL;
  uint64_t most;
  SHMI_RETURN_IF_ERROR(shmi_abort_look(comm));
  if (!comm->device || !shmi_device_is_common(comm)) return SHMCCL_SUCCESS;
  shmccl_result_t result = limit_of(comm, &most);
  if (result != SHMCCL_SUCCESS) return shmi_abort_raise(comm, result, comm->rank, NULL);
  const uint32_t wanted = least_of(comm, allocated_by);
  const uint32_t channels = register_segment(comm, most, wanted, &why);
  if (channels < wanted)
    shmi_log(SHMI_LOG_WARN, "rank %d: %u of %u channels could be registered for the GPU: %s", comm->rank, channels,
             wanted, why);
  bool engines = false;
  if (channels && channels == wanted) result = register_engines(comm, most, &engines);
  if (result != SHMCCL_SUCCESS) return shmi_abort_raise(comm, result, comm->rank, NULL);
  shmi_publish32(&shmi_control_of(&comm->world, comm->rank)->member.registered,
                 channels + 1 + (engines ? SHMI_ENGINES : 0));
  return SHMCCL_SUCCESS;
}

bool shmi_device_lacks(const void *context, int peer) {
  const shmccl_comm_t *comm = context;
  return shmi_observe32(&shmi_control_of(&comm->world, peer)->member.registered) == 0;
}

/* The first rank for which `of` says 0. */
static int first_without(const shmccl_comm_t *comm, uint32_t (*of)(const struct shmi_member *)) {
  int r = 0;
  while (r < comm->nranks && of(&shmi_control_of(&comm->world, r)->member)) r++;
  return r;
}

static shmccl_result_t without_device(shmccl_comm_t *comm) {
  if (comm->device)
    SHMI_INFO("rank %d: host memory only: rank %d uses no GPU", comm->rank, first_without(comm, allocated_by));
  shmi_device_close(comm);
  return SHMCCL_SUCCESS;
}

static shmccl_result_t give_up(shmccl_comm_t *comm) {
  const int without = first_without(comm, registered_by);
  char message[256];
  shmi_device_close(comm);
  if (comm->options.memory == SHMCCL_MEMORY_AUTO) return SHMCCL_SUCCESS; /* register has said why */
  snprintf(message, sizeof message,
           "rank %d: rank %d could register no memory for its GPU: raise its limit of pinned memory "
           "(SHMCCL_PINNED_BYTES), end other users of it, or use host memory (SHMCCL_MEMORY=host)",
           comm->rank, without);
  return shmi_abort_raise(comm, SHMCCL_ERROR_NO_MEMORY, without, message);
}

static void use_engines(shmccl_comm_t *comm) {
  const struct shmi_header *h = &comm->segment.header;
  struct shmi_device *d = comm->device;
  d->engines.ready = d->engines.at.scratch && least_of(comm, has_engines); /* lines may lie, the own too */
  if (!d->engines.ready) return;
  d->engines.at.slots =
      shmi_layout_engines(h, comm->segment.base + h->control_offset, comm->segment.base + h->engine_offset, comm->rank);
  d->engines.meetings = shmi_layout_engines(h, d->control.device, d->slots.device, comm->rank);
}

shmccl_result_t shmi_device_agree(shmccl_comm_t *comm) {
  struct shmi_device *d = comm->device;
  if (comm->nranks == 1) return SHMCCL_SUCCESS;
  if (!d || !shmi_device_is_common(comm)) return without_device(comm);
  d->channels = least_of(comm, registered_by);
  if (!d->channels) return give_up(comm);
  d->launch.world = shmi_layout_channels(&comm->segment.header, d->control.device, d->staging.device, comm->rank);
  d->pairs = shmi_layout_device_pairs(&comm->segment.header, d->control.device, d->staging.device, comm->rank);
  use_engines(comm);
  SHMI_INFO("rank %d: device %d, %u channels with slots of %zu KiB, copy engines with slots of %zu KiB, %zu KiB "
            "registered",
            comm->rank, shmi_gpu_device(d->gpu), d->channels, d->launch.world.slot_bytes >> 10,
            d->engines.at.slots.slot_bytes >> 10, (d->control.bytes + d->staging.bytes + d->slots.bytes) >> 10);
  SHMI_RETURN_IF_ERROR(shmi_watchdog_start(comm));
  if (!d->engines.ready || !comm->options.cpu_reduce) return SHMCCL_SUCCESS;
  const shmccl_result_t result = shmi_helpers_start(&d->engines.helpers, comm);
  return result == SHMCCL_SUCCESS ? result : shmi_abort_raise(comm, result, comm->rank, NULL);
}

void shmi_device_trap(shmccl_comm_t *comm) {
  if (comm->device) comm->device->launch.trap = 1;
}

bool shmi_device_is_idle(const shmccl_comm_t *comm) { return !comm->device || shmi_gpu_is_idle(comm->device->gpu); }

/* ---- closing ----------------------------------------------------------------------------------------------------- */

void shmi_device_close(shmccl_comm_t *comm) {
  struct shmi_device *d = comm->device;
  if (!d) return;
  shmi_watchdog_stop(d);
  shmi_helpers_stop(d->engines.helpers);
  if (d->gpu) {
    shmi_gpu_unpin(d->gpu, &d->slots);
    shmi_gpu_unpin(d->gpu, &d->staging);
    shmi_gpu_unpin(d->gpu, &d->control);
    shmi_gpu_unpin(d->gpu, &d->told);
    shmi_gpu_free(d->gpu, d->launch.states);
    shmi_gpu_free(d->gpu, d->pieces);
    shmi_gpu_free(d->gpu, d->engines.at.scratch);
  }
  shmi_gpu_close(d->gpu);
  shmi_device_forget(comm);
}

void shmi_device_forget(shmccl_comm_t *comm) {
  free(comm->device);
  comm->device = NULL;
}
