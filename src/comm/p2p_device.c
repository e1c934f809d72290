/*
 * p2p_device.c - messages in device memory: the group that ends becomes one launch (coll/messages.h), and nothing
 * waits.
 */
#include "comm/device.h"

static bool belongs(const struct shmi_message *m) { return m->on_device && !m->complete; }

static struct shmi_posted posted_of(const struct shmi_message *m) {
  return (struct shmi_posted){.buffer = m->bytes ? m->buffer : NULL, /* which may be host memory then */
                              .count = m->id.count,
                              .signature = m->signature,
                              .datatype = (uint16_t)m->id.datatype,
                              .element = (uint16_t)shmccl_datatype_size((shmccl_datatype_t)m->id.datatype)};
}

/* If the group has messages for it. */
static void add_lane(struct shmi_group *g, const shmccl_comm_t *comm, int peer, bool is_send) {
  const struct shmi_lane *last = g->nlanes ? &g->lanes[g->nlanes - 1] : NULL;
  struct shmi_lane lane = {.peer = (uint16_t)peer, .is_send = is_send};
  if (last) lane.first = (uint16_t)(last->first + last->messages);
  for (size_t i = 0; i < comm->nmessages; i++) {
    const struct shmi_message *m = &comm->messages[i];
    if (belongs(m) && m->peer == peer && m->is_send == is_send)
      g->messages[lane.first + lane.messages++] = posted_of(m);
  }
  if (lane.messages) g->lanes[g->nlanes++] = lane;
}

/* By sender, then by receiver: an order of pairs that all ranks share. */
void shmi_device_add_lanes(const shmccl_comm_t *comm, struct shmi_group *g) {
  for (int from = 0; from < comm->nranks; from++) {
    if (from != comm->rank) add_lane(g, comm, from, false);
    for (int to = 0; from == comm->rank && to < comm->nranks; to++)
      if (to != comm->rank) add_lane(g, comm, to, true);
  }
}

static shmccl_result_t launch(shmccl_comm_t *comm, void *stream) {
  const struct shmi_call_id id = {.collective = SHMI_MESSAGES};
  struct shmi_device *d = comm->device;
  struct shmi_group group = {.launch = d->launch, .pieces = d->pieces};
  SHMI_RETURN_IF_ERROR(shmi_device_look(comm));
  shmi_device_add_lanes(comm, &group);
  group.launch.world = d->pairs;
  group.launch.call.element = 1;
  group.launch.number = shmi_watchdog_number(d, &id);
  return shmi_device_outcome(comm, shmi_gpu_launch_group(d->gpu, &group, stream));
}

static void take_out(shmccl_comm_t *comm) {
  size_t left = 0;
  for (size_t i = 0; i < comm->nmessages; i++)
    if (!comm->messages[i].on_device) comm->messages[left++] = comm->messages[i];
  comm->nmessages = left;
}

/* Empty messages without a stream may well be of a caller who knows of host memory only: for him calls are synchronous.
 */
shmccl_result_t shmi_device_run_messages(shmccl_comm_t *comm, bool *waits) {
  const bool may_wait = !comm->kind.device && !comm->kind.stream;
  size_t count = 0;
  for (size_t i = 0; i < comm->nmessages; i++) count += belongs(&comm->messages[i]);
  if (count > SHMI_GROUP_MOST)
    return shmi_error(SHMCCL_ERROR_INVALID_USAGE,
                      "group_end: the group has %zu messages in device memory to and from other ranks, and at most %d "
                      "are possible: make several groups",
                      count, SHMI_GROUP_MOST);
  if (count) SHMI_RETURN_IF_ERROR(launch(comm, may_wait ? shmi_gpu_own_stream(comm->device->gpu) : comm->kind.stream));
  take_out(comm);
  *waits = count && may_wait;
  return SHMCCL_SUCCESS;
}

shmccl_result_t shmi_device_finish_messages(shmccl_comm_t *comm) {
  SHMI_RETURN_IF_ERROR(shmi_device_outcome(comm, shmi_gpu_finish(comm->device->gpu)));
  return shmi_device_look(comm);
}

/* The kernel left everything in the lines: what it awaited in its own, and the piece behind the last one that it
 * emptied lies in its slot. Its status, which the caller has observed, orders all of this. */
void shmi_device_note_message(shmccl_comm_t *comm, int peer) {
  const struct shmi_segment *s = &comm->segment;
  const struct shmi_world pairs = shmi_layout_device_pairs(&s->header, s->base + s->header.control_offset,
                                                           s->base + s->header.device_offset, comm->rank);
  const struct shmi_pair_in *mine = shmi_pair_in_of(&pairs, comm->rank, peer);
  const uint32_t slot = (shmi_peek32(&mine->emptied) + 1) % SHMI_PAIR_SLOTS;
  const struct shmi_message_id awaited = mine->awaited,
                               sent = shmi_pair_out_of(&pairs, peer, comm->rank)->message[slot];
  char message[SHMI_OTHER_MESSAGE_TEXT];
  shmi_other_message_text(comm, peer, &awaited, &sent, message);
  shmi_abort_note(comm, SHMCCL_ERROR_MISMATCH, peer, 0, NULL, message);
}
