/* net_connect.c - connections, from handle to close. */
#include <stdlib.h>

#include "base/clock.h"
#include "plugin/gdr.h"
#include "plugin/handle.h"
#include "plugin/net.h"

/* ---- listening ------------------------------------------------------------------------------------------------------
 */

shmccl_result_t shmi_net_listen(struct shmi_context *context, void *handle, struct shmi_net_listener **out) {
  uint64_t key;
  struct shmi_net_listener *l = calloc(1, sizeof *l);
  if (!l) return shmi_error(SHMCCL_ERROR_NO_MEMORY, "no memory for a listener");
  shmccl_result_t result = shmi_arena_listen(&l->arena, &l->link, &key);
  if (result != SHMCCL_SUCCESS) goto free_listener;
  result = shmi_handle_make(handle, l->arena->id, l->link, key);
  if (result != SHMCCL_SUCCESS) goto end_listening;
  l->kind = SHMI_NET_LISTENER;
  l->context = context;
  l->is_listening = 1;
  *out = l;
  return SHMCCL_SUCCESS;
end_listening:
  shmi_arena_unlisten(l->arena);
  shmi_arena_leave(l->arena, l->link);
free_listener:
  free(l);
  return result;
}

void shmi_net_close_listener(struct shmi_net_listener *l) {
  if (l->is_listening) {
    shmi_arena_unlisten(l->arena);
    shmi_arena_leave(l->arena, l->link);
  }
  shmi_context_release(l->context, NULL, 0);
  l->kind = 0;
  free(l);
}

/* ---- connecting -----------------------------------------------------------------------------------------------------
 */

static shmccl_result_t new_comm(enum shmi_net_kind kind, struct shmi_context *context, struct shmi_net_comm **out) {
  struct shmi_net_comm *c = calloc(1, sizeof *c);
  if (!c) return shmi_error(SHMCCL_ERROR_NO_MEMORY, "no memory for a connection");
  c->kind = kind;
  c->context = context;
  shmi_registry_init(&c->registry);
  *out = c;
  return SHMCCL_SUCCESS;
}

static void free_comm(struct shmi_net_comm *c) {
  shmi_registry_destroy(&c->registry);
  c->kind = 0;
  free(c);
}

static void tie(struct shmi_net_comm *c, struct shmi_arena *arena, int link) {
  c->arena = arena;
  c->link_index = link;
  c->link = shmi_arena_link(arena, link);
  c->ring = shmi_arena_ring(arena, link);
  c->piece_bytes = arena->piece_bytes[link];
  c->is_within = arena->direct[link].is_within;
  c->is_direct = c->is_within && !shmi_gdr_offered(); /* a buffer may be a GPU's */
}

shmccl_result_t shmi_net_connect(struct shmi_context *context, const void *handle, struct shmi_net_comm **out) {
  struct shmi_handle h;
  struct shmi_arena *arena;
  struct shmi_net_comm *c;
  SHMI_RETURN_IF_ERROR(shmi_handle_read(handle, &h));
  SHMI_RETURN_IF_ERROR(new_comm(SHMI_NET_SENDER, context, &c));
  const shmccl_result_t result = shmi_arena_connect(&arena, h.arena, (int)h.link, h.key);
  if (result != SHMCCL_SUCCESS) return free_comm(c), result;
  tie(c, arena, (int)h.link);
  *out = c;
  return SHMCCL_SUCCESS;
}

static shmccl_result_t nobody_yet(struct shmi_net_listener *l) {
  const uint64_t now = shmi_now_ns();
  shmi_options_t options;
  if (l->deadline_ns && now < l->deadline_ns) return SHMCCL_SUCCESS;
  SHMI_RETURN_IF_ERROR(shmi_options_read(NULL, &options));
  if (!l->deadline_ns) return l->deadline_ns = now + options.timeout_ms * 1000000, SHMCCL_SUCCESS;
  return shmi_error(SHMCCL_ERROR_TIMEOUT,
                    "nobody has connected within %llu ms: look at the other ranks' logs, or raise "
                    "SHMCCL_TIMEOUT_MS",
                    (unsigned long long)options.timeout_ms);
}

shmccl_result_t shmi_net_accept(struct shmi_net_listener *l, struct shmi_net_comm **out) {
  struct shmi_net_comm *c;
  *out = NULL;
  if (!l->is_listening)
    return shmi_error(SHMCCL_ERROR_INVALID_USAGE, "accept: this listener has been accepted already: a handle makes one "
                                                  "connection");
  if (shmi_observe32(&shmi_arena_link(l->arena, l->link)->sender.state) == SHMI_NET_FREE) return nobody_yet(l);
  SHMI_RETURN_IF_ERROR(new_comm(SHMI_NET_RECEIVER, l->context, &c));
  shmi_context_share(l->context);
  tie(c, l->arena, l->link);
  if (c->is_direct) shmi_arena_release_ring(c->arena, c->link_index);
  l->is_listening = 0;
  shmi_arena_unlisten(l->arena);
  *out = c;
  return SHMCCL_SUCCESS;
}

/* ---- closing --------------------------------------------------------------------------------------------------------
 */

/* Until now a receiver in this process may read the buffers of messages under way. */
static void end_direct(struct shmi_net_comm *c) {
  struct shmi_direct *d = &c->arena->direct[c->link_index];
  pthread_mutex_lock(&d->lock);
  d->is_gone = 1;
  pthread_mutex_unlock(&d->lock);
}

/* Where the GPU does not come to an end the connection is abandoned as it is. */
void shmi_net_close(struct shmi_net_comm *c) {
  const int is_sender = c->kind == SHMI_NET_SENDER;
  if (!shmi_net_leave_device(c)) return;
  if (is_sender && c->is_direct) end_direct(c);
  is_sender ? shmi_arena_disconnect(c->arena, c->link_index) : shmi_arena_leave(c->arena, c->link_index);
  shmi_context_release(c->context, &c->counters, is_sender);
  free_comm(c);
}
