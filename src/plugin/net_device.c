/* net_device.c - a connection's track to the GPU, and its ring as the GPU reaches it. */
#include "plugin/gdr.h"
#include "plugin/net.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of making tracks: NCCL may register from several threads */

/* The owner may have overwritten its size meanwhile; it lies within the ring's place in the arena in any case. */
static size_t ring_bytes(const struct shmi_net_comm *c) {
  return (c->piece_bytes * SHMI_NET_PIECES + SHMI_PAGE - 1) / SHMI_PAGE * SHMI_PAGE;
}

static shmccl_result_t make_track(struct shmi_net_comm *c, const void *memory) {
  struct shmi_track *track;
  uint64_t limit;
  SHMI_RETURN_IF_ERROR(shmi_gdr_pinned_limit(&limit));
  SHMI_RETURN_IF_ERROR(shmi_track_open(&track, memory, c->kind == SHMI_NET_SENDER ? SHMI_FROM_DEVICE : SHMI_TO_DEVICE));
  const shmccl_result_t result = shmi_track_pin(track, c->ring, ring_bytes(c), limit);
  if (result != SHMCCL_SUCCESS) return shmi_track_close(track), result;
  c->track = track;
  return SHMCCL_SUCCESS;
}

shmccl_result_t shmi_net_use_device(struct shmi_net_comm *c, const void *memory) {
  const struct shmi_log_sink before = shmi_plugin_log_enter(&c->context->log);
  pthread_mutex_lock(&lock);
  const shmccl_result_t result = c->track ? shmi_track_check(c->track, memory) : make_track(c, memory);
  pthread_mutex_unlock(&lock);
  shmi_plugin_log_leave(before);
  return result;
}

bool shmi_net_leave_device(struct shmi_net_comm *c) {
  if (!c->track) return true;
  if (!shmi_track_close(c->track)) return false;
  shmi_mover_unpin(c->ring);
  return true;
}
