/*
 * p2p.c - send, recv and groups of them.
 *
 * A call outside a group is a group of one. A group's messages are progressed round robin, a piece at a time; of those
 * between the same ranks in the same direction only the oldest unfinished one moves, which keeps their order. That is
 * for host memory; messages in device memory leave the group for a kernel first (p2p_device.c).
 */
#include "coll/pair.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coll/host.h"
#include "comm/device.h"

static uint32_t signature_of(size_t count, shmccl_datatype_t datatype) {
  return (uint32_t)((count * 16 + (size_t)datatype) * 0x9e3779b97f4a7c15ull >> 32);
}

/* ---- one piece ------------------------------------------------------------------------------------------------------
 */

static size_t piece_bytes(const shmccl_comm_t *comm, const struct shmi_message *m) {
  size_t left = m->bytes - m->done;
  return left < comm->world.pair_bytes ? left : comm->world.pair_bytes;
}

static bool can_move(const shmccl_comm_t *comm, const struct shmi_message *m, uint32_t *signature) {
  if (m->is_send) return shmi_pair_has_room(&comm->world, m->peer, comm->sent[m->peer] + 1);
  return shmi_pair_has_come(&comm->world, m->peer, comm->received[m->peer] + 1, signature);
}

/* Past the caches to a rank that reads them slowly, as the collectives do. */
static void stage(const shmccl_comm_t *comm, int peer, uint8_t *slot, const uint8_t *from, size_t bytes) {
  if (bytes < SHMI_FAR_LEAST || !(comm->far >> peer & 1)) {
    memcpy(slot, from, bytes);
    return;
  }
  shmi_stream_copy(slot, from, bytes);
  shmi_stream_fence();
}

static void move_out(shmccl_comm_t *comm, struct shmi_message *m, size_t bytes) {
  const uint32_t number = ++comm->sent[m->peer];
  if (bytes)
    stage(comm, m->peer, shmi_pair_slot_of(&comm->world, comm->rank, m->peer, number), m->buffer + m->done, bytes);
  shmi_pair_publish(&comm->world, m->peer, number, m->signature, &m->id);
}

static void move_in(shmccl_comm_t *comm, struct shmi_message *m, size_t bytes) {
  const uint32_t number = ++comm->received[m->peer];
  if (bytes) memcpy(m->buffer + m->done, shmi_pair_slot_of(&comm->world, m->peer, comm->rank, number), bytes);
  shmi_pair_empty(&comm->world, m->peer, number);
}

void shmi_other_message_text(const shmccl_comm_t *comm, int peer, const struct shmi_message_id *awaited,
                             const struct shmi_message_id *sent, char text[SHMI_OTHER_MESSAGE_TEXT]) {
  snprintf(text, SHMI_OTHER_MESSAGE_TEXT,
           "ranks disagree: rank %d receives %llu %s from rank %d, which sent %llu %s: make send and recv agree",
           comm->rank, (unsigned long long)awaited->count, shmi_datatype_name(awaited->datatype), peer,
           (unsigned long long)sent->count, shmi_datatype_name(sent->datatype));
}

static shmccl_result_t report_mismatch(shmccl_comm_t *comm, const struct shmi_message *m) {
  char message[SHMI_OTHER_MESSAGE_TEXT];
  const uint32_t slot = (comm->received[m->peer] + 1) % SHMI_PAIR_SLOTS;
  const struct shmi_message_id sent = shmi_pair_out_of(&comm->world, m->peer, comm->rank)->message[slot];
  shmi_other_message_text(comm, m->peer, &m->id, &sent, message);
  return shmi_abort_raise(comm, SHMCCL_ERROR_MISMATCH, m->peer, message);
}

/* Moves one piece of m if it can be moved. */
static shmccl_result_t progress(shmccl_comm_t *comm, struct shmi_message *m, bool *moved) {
  uint32_t signature = m->signature;
  if (!can_move(comm, m, &signature)) return SHMCCL_SUCCESS;
  if (signature != m->signature) return report_mismatch(comm, m);
  const size_t bytes = piece_bytes(comm, m);
  m->is_send ? move_out(comm, m, bytes) : move_in(comm, m, bytes);
  m->done += bytes;
  m->complete = m->done == m->bytes;
  *moved = true;
  return SHMCCL_SUCCESS;
}

/* ---- groups
 * ------------------------------------------------------------------------------------------------------------ */

/* The messages that may move now: the oldest unfinished one per peer and direction. Call with index 0 first. */
struct heads {
  uint64_t seen[2];
};

static bool is_head(struct heads *h, const struct shmi_message *m) {
  const uint64_t bit = 1ull << m->peer;
  if (m->complete || h->seen[m->is_send] & bit) return false;
  h->seen[m->is_send] |= bit;
  return true;
}

static bool lacks_peer(const void *context, int peer) {
  const shmccl_comm_t *comm = context;
  struct heads heads = {{0}};
  for (size_t i = 0; i < comm->nmessages; i++) {
    const struct shmi_message *m = &comm->messages[i];
    uint32_t signature;
    if (is_head(&heads, m) && m->peer == peer && !can_move(comm, m, &signature)) return true;
  }
  return false;
}

static shmccl_result_t pass(shmccl_comm_t *comm, bool *moved, bool *open) {
  struct heads heads = {{0}};
  *moved = *open = false;
  for (size_t i = 0; i < comm->nmessages; i++) {
    struct shmi_message *m = &comm->messages[i];
    if (!is_head(&heads, m)) continue;
    SHMI_RETURN_IF_ERROR(progress(comm, m, moved));
    *open = true; /* or another one behind it: the next pass tells */
  }
  return SHMCCL_SUCCESS;
}

/* Messages with one peer must not hide what became of another. */
enum { PASSES_PER_GLANCE = 64 };

static shmccl_result_t run_messages(shmccl_comm_t *comm) {
  struct shmi_wait wait = shmi_wait_begin(comm, "send/recv");
  for (unsigned passes = 1;; passes++) {
    bool moved, open;
    SHMI_RETURN_IF_ERROR(pass(comm, &moved, &open));
    if (!open) return SHMCCL_SUCCESS;
    if (passes % PASSES_PER_GLANCE == 0) SHMI_RETURN_IF_ERROR(shmi_wait_glance(&wait, lacks_peer, comm));
    if (moved)
      shmi_wait_progress(&wait);
    else
      SHMI_RETURN_IF_ERROR(shmi_wait_pause(&wait, lacks_peer, comm));
  }
}

static struct shmi_message *next_own(shmccl_comm_t *comm, bool is_send) {
  for (size_t i = 0; i < comm->nmessages; i++) {
    struct shmi_message *m = &comm->messages[i];
    if (m->peer == comm->rank && m->is_send == is_send && !m->complete) return m;
  }
  return NULL;
}

static shmccl_result_t copy_own(shmccl_comm_t *comm, const struct shmi_message *send, const struct shmi_message *recv) {
  if (!send->bytes || recv->buffer == send->buffer) return SHMCCL_SUCCESS;
  if (!send->on_device) return memmove(recv->buffer, send->buffer, send->bytes), SHMCCL_SUCCESS;
  if ((uintptr_t)send->buffer < (uintptr_t)recv->buffer + send->bytes &&
      (uintptr_t)recv->buffer < (uintptr_t)send->buffer + send->bytes)
    return shmi_error(SHMCCL_ERROR_INVALID_ARGUMENT,
                      "rank %d sends to itself in device memory, and the two buffers overlap: keep them apart",
                      comm->rank);
  return shmi_device_outcome(
      comm, shmi_gpu_copy(comm->device->gpu, recv->buffer, send->buffer, send->bytes, comm->kind.stream));
}

/* Messages to this rank itself: the first send meets the first receive, and so on. */
static shmccl_result_t run_own(shmccl_comm_t *comm) {
  for (;;) {
    struct shmi_message *send = next_own(comm, true), *recv = next_own(comm, false);
    if (!send && !recv) return SHMCCL_SUCCESS;
    if (!send || !recv || send->signature != recv->signature)
      return shmi_error(SHMCCL_ERROR_INVALID_USAGE,
                        "rank %d %s itself without the matching %s of the same count and datatype "
                        "in the same group: add it",
                        comm->rank, send ? "sends to" : "receives from", send ? "recv" : "send");
    SHMI_RETURN_IF_ERROR(copy_own(comm, send, recv));
    send->complete = recv->complete = true;
  }
}

/* Slots toward the peers that this group sends to. */
static shmccl_result_t allocate_lanes(shmccl_comm_t *comm) {
  const size_t bytes = comm->world.pair_places * comm->world.pair_bytes;
  for (size_t i = 0; i < comm->nmessages; i++) {
    const struct shmi_message *m = &comm->messages[i];
    if (!m->is_send || m->peer == comm->rank || comm->lanes_allocated >> m->peer & 1) continue;
    uint8_t *lane = shmi_pair_lane_of(&comm->world, comm->rank, m->peer);
    shmi_place_for(comm, lane, bytes, m->peer);
    shmccl_result_t result = shmi_segment_allocate(&comm->segment, (size_t)(lane - comm->segment.base), bytes);
    if (result != SHMCCL_SUCCESS) return shmi_abort_raise(comm, result, comm->rank, NULL);
    comm->lanes_allocated |= 1ull << m->peer;
  }
  return SHMCCL_SUCCESS;
}

static size_t longest(const shmccl_comm_t *comm) {
  size_t bytes = 0;
  for (size_t i = 0; i < comm->nmessages; i++)
    if (comm->messages[i].bytes > bytes) bytes = comm->messages[i].bytes;
  return bytes;
}

static shmccl_result_t run_group(shmccl_comm_t *comm) {
  bool waits = false;
  SHMI_RETURN_IF_ERROR(shmi_abort_look(comm));
  SHMI_RETURN_IF_ERROR(run_own(comm));
  if (comm->kind.enqueued) SHMI_RETURN_IF_ERROR(shmi_device_run_messages(comm, &waits));
  SHMI_RETURN_IF_ERROR(allocate_lanes(comm));
  const bool measures = shmi_distance_wanted(&comm->sized_groups, longest(comm));
  if (measures) shmi_distance_light(comm);
  SHMI_RETURN_IF_ERROR(run_messages(comm));
  if (measures) shmi_distance_measure(comm);
  return waits ? shmi_device_finish_messages(comm) : SHMCCL_SUCCESS;
}

static shmccl_result_t end_group(shmccl_comm_t *comm) {
  shmccl_result_t result = run_group(comm);
  comm->nmessages = 0;
  comm->kind = (struct shmi_group_kind){0};
  return result;
}

shmccl_result_t shmccl_group_start(shmccl_comm_t *comm) {
  SHMI_RETURN_IF_ERROR(shmi_check_usable(comm, "group_start", NULL));
  if (comm->in_group)
    return shmi_error(SHMCCL_ERROR_INVALID_USAGE, "group_start: a group is open: groups do not nest, end it first");
  SHMI_RETURN_IF_ERROR(shmi_abort_look(comm));
  comm->in_group = true;
  return SHMCCL_SUCCESS;
}

shmccl_result_t shmccl_group_end(shmccl_comm_t *comm) {
  SHMI_RETURN_IF_ERROR(shmi_check_usable(comm, "group_end", NULL));
  if (!comm->in_group) SHMI_RETURN_IF_ERROR(shmi_abort_look(comm)); /* which is why there is none */
  if (!comm->in_group)
    return shmi_error(SHMCCL_ERROR_INVALID_USAGE, "group_end: no group is open: call shmccl_group_start() first");
  comm->in_group = false;
  return end_group(comm);
}

/* ---- send and recv -------------------------------------------------------------------------------------------------
 */

static shmccl_result_t note(shmccl_comm_t *comm, const struct shmi_message *m) {
  if (comm->nmessages == comm->messages_capacity) {
    size_t capacity = 2 * comm->messages_capacity + 8;
    struct shmi_message *more = realloc(comm->messages, capacity * sizeof *more);
    if (!more) return shmi_error(SHMCCL_ERROR_NO_MEMORY, "no memory for a group of %zu messages", capacity);
    comm->messages = more;
    comm->messages_capacity = capacity;
  }
  comm->messages[comm->nmessages++] = *m;
  return SHMCCL_SUCCESS;
}

/* A message without elements has no memory that tells: where there is a GPU all ranks leave it to that one. */
static shmccl_result_t find_side(const shmccl_comm_t *comm, struct shmi_message *m) {
  const struct shmi_call c = {.id = {.count = m->id.count}, .sendbuf = m->buffer};
  SHMI_RETURN_IF_ERROR(shmi_device_wanted(comm, &c, m->stream, &m->on_device));
  if (!m->bytes) m->on_device = comm->device != NULL;
  return SHMCCL_SUCCESS;
}

static shmccl_result_t join_group(shmccl_comm_t *comm, const char *name, const struct shmi_message *m) {
  struct shmi_group_kind kind = comm->kind;
  if (m->bytes) *(m->on_device ? &kind.device : &kind.host) = true;
  if (kind.host && kind.device)
    return shmi_error(SHMCCL_ERROR_INVALID_ARGUMENT,
                      "%s: the buffer at %p is %s memory, unlike the group's others: make a group for each kind", name,
                      (const void *)m->buffer, m->on_device ? "device" : "host");
  if (m->on_device && kind.enqueued && kind.stream != m->stream)
    return shmi_error(SHMCCL_ERROR_INVALID_ARGUMENT,
                      "%s: the stream is another one than the group's: pass one stream to all calls of a group", name);
  if (m->on_device) kind.enqueued = true, kind.stream = m->stream;
  SHMI_RETURN_IF_ERROR(note(comm, m));
  comm->kind = kind;
  return SHMCCL_SUCCESS;
}

static shmccl_result_t check_message(const shmccl_comm_t *comm, const char *name, const void *buffer, size_t count,
                                     shmccl_datatype_t datatype, int peer) {
  const size_t element = shmccl_datatype_size(datatype);
  if (element == 0)
    return shmi_error(SHMCCL_ERROR_INVALID_ARGUMENT, "%s: datatype is %d: give a shmccl_datatype_t", name,
                      (int)datatype);
  if (peer < 0 || peer >= comm->nranks)
    return shmi_error(SHMCCL_ERROR_INVALID_ARGUMENT, "%s: peer is %d: give 0 to %d", name, peer, comm->nranks - 1);
  if (count > PTRDIFF_MAX / element)
    return shmi_error(SHMCCL_ERROR_INVALID_ARGUMENT, "%s: count is %zu: that is more than fits into memory", name,
                      count);
  if (count && !buffer)
    return shmi_error(SHMCCL_ERROR_INVALID_ARGUMENT, "%s: the buffer is NULL: pass %zu elements", name, count);
  return SHMCCL_SUCCESS;
}

static shmccl_result_t message(bool is_send, void *buffer, size_t count, shmccl_datatype_t datatype, int peer,
                               shmccl_comm_t *comm, void *stream) {
  const char *name = is_send ? "send" : "recv";
  SHMI_RETURN_IF_ERROR(shmi_check_usable(comm, name, stream));
  SHMI_RETURN_IF_ERROR(check_message(comm, name, buffer, count, datatype, peer));
  struct shmi_message m = {.is_send = is_send,
                           .peer = peer,
                           .buffer = buffer,
                           .bytes = count * shmccl_datatype_size(datatype),
                           .id = {.count = count, .datatype = (uint32_t)datatype},
                           .signature = signature_of(count, datatype),
                           .stream = stream};
  SHMI_RETURN_IF_ERROR(find_side(comm, &m));
  SHMI_RETURN_IF_ERROR(join_group(comm, name, &m));
  return comm->in_group ? SHMCCL_SUCCESS : end_group(comm);
}

shmccl_result_t shmccl_send(const void *sendbuf, size_t count, shmccl_datatype_t datatype, int peer,
                            shmccl_comm_t *comm, void *stream) {
  union {
    const void *read_only;
    void *any;
  } buffer = {.read_only = sendbuf}; /* a send never writes it */
  return message(true, buffer.any, count, datatype, peer, comm, stream);
}

shmccl_result_t shmccl_recv(void *recvbuf, size_t count, shmccl_datatype_t datatype, int peer, shmccl_comm_t *comm,
                            void *stream) {
  return message(false, recvbuf, count, datatype, peer, comm, stream);
}
