/*
 * net_transfer.c - messages under way.
 *
 * A message of up to SHMI_NET_INLINE bytes is one piece that lies beside its word. A longer one is cut into pieces of
 * the ring, so that sender and receiver copy at the same time; to a peer in the same process it is one piece that says
 * where it lies, and the receiver copies it once. Messages of a connection move in order: only the oldest one that has
 * not moved does.
 */
#include "base/clock.h"
#include "coll/host.h"
#include "plugin/deliver.h"
#include "plugin/net.h"
#include "reduce/reduce.h"

/* What one call moves at most: the caller's thread has other connections to look after. */
enum { SHARE = 256 << 10 };
enum { FETCHED = 1024 }; /* messages up to here find the lines of their place fetched ahead */
static const uint64_t CHECK_NS = 20000000;

/* ---- errors ---------------------------------------------------------------------------------------------------------
 */

/* An error of this call's arguments, after which the connection is as before; one that ends the connection. */
#define refuse(comm, result, ...) shmi_plugin_error(&(comm)->context->log, result, __VA_ARGS__)
#define fail(comm, result, ...)   ((comm)->failed = refuse(comm, result, __VA_ARGS__))

static int is_closed(const struct shmi_net_comm *c) {
  const uint32_t *state = c->kind == SHMI_NET_SENDER ? &c->link->owner.state : &c->link->sender.state;
  return shmi_observe32(state) == SHMI_NET_CLOSED;
}

/* One line a process that is gone, not one a connection. */
static shmccl_result_t report_gone(struct shmi_net_comm *c, int closed) {
  const int sends = c->kind == SHMI_NET_SENDER;
  const uint32_t pid = sends ? c->arena->pid : c->link->sender.pid;
  c->failed = SHMCCL_ERROR_PEER_DIED;
  if (!shmi_arena_first_told(sends ? c->arena->process : c->link->sender.process)) return c->failed;
  return fail(c, SHMCCL_ERROR_PEER_DIED, "the peer (pid %u) %s with %s under way: look at its log", pid,
              closed ? "has closed its connection" : "has died", sends ? "messages to it" : "messages from it");
}

/* Whether nothing can come from the peer any more. What it did before it went can be seen afterwards. */
static int is_gone(const struct shmi_net_comm *c, int *closed) {
  *closed = is_closed(c);
  return *closed || (!c->is_direct && !shmi_arena_peer_lives(c->arena, c->link_index, c->kind == SHMI_NET_RECEIVER));
}

/* After a look in vain: now and then at the peer. `lacks` looks once more. */
static shmccl_result_t check_peer(struct shmi_net_comm *c, int (*lacks)(struct shmi_net_comm *)) {
  const uint64_t now = shmi_coarse_now_ns();
  int closed;
  if (!c->checked_ns) c->checked_ns = now;
  if (now - c->checked_ns < CHECK_NS) return SHMCCL_SUCCESS;
  c->checked_ns = now;
  return is_gone(c, &closed) && lacks(c) ? report_gone(c, closed) : SHMCCL_SUCCESS;
}

/* ---- requests -------------------------------------------------------------------------------------------------------
 */

static struct shmi_net_request *request_of(struct shmi_net_comm *c, uint32_t message) {
  return &c->requests[message % NCCL_NET_MAX_REQUESTS];
}

static void count(struct shmi_net_comm *c, const struct shmi_net_request *r) {
  c->counters.messages[r->path]++;
  c->counters.bytes[r->path] += r->bytes;
}

/* The oldest message has moved: the next one's turn. */
static void finish(struct shmi_net_comm *c, struct shmi_net_request *r) {
  r->state = SHMI_REQUEST_MOVED;
  c->moved++;
  count(c, r);
}

/* ---- sending --------------------------------------------------------------------------------------------------------
 */

/* The receiver's line is the one that tells how far it is: it was written a moment ago. */
static void look_at_receiver(struct shmi_net_comm *c) {
  const uint32_t *emptied = &c->link->receiver.emptied;
  uint64_t ns;
  if (request_of(c, c->moved)->path != SHMI_NET_RING)
    c->emptied = shmi_observe32(emptied);
  else if (shmi_distance_read(emptied, &c->emptied, &ns))
    shmi_distance_add(&c->distance, ns);
}

static int has_room(struct shmi_net_comm *c) {
  if (c->pieces + 1 - c->emptied > SHMI_NET_PIECES) look_at_receiver(c);
  return c->pieces + 1 - c->emptied <= SHMI_NET_PIECES;
}

static int lacks_room(struct shmi_net_comm *c) { return !has_room(c); }

/* Past the caches to a core that reads them slowly, as the engine does. */
static void stage(const struct shmi_net_comm *c, uint8_t *place, const uint8_t *from, size_t bytes) {
  if (!c->distance.is_far || bytes < SHMI_FAR_LEAST) {
    shmi_copy(place, from, bytes);
    return;
  }
  shmi_stream_copy(place, from, bytes);
  shmi_stream_fence();
}

static struct shmi_direct_message *direct_of(const struct shmi_net_comm *c, uint32_t number) {
  return &c->arena->direct[c->link_index].message[number % SHMI_NET_PIECES];
}

/* A hint. Compilers take the one for reading unless told of the processor; this one does nothing where it is unknown.
 */
static void fetch_to_write(const uint8_t *from, size_t bytes) {
  for (size_t at = 0; at < bytes; at += 64)
#ifdef __x86_64__
    __asm__ volatile("prefetchw %0" ::"m"(from[at]));
#else
    __builtin_prefetch(from + at, 1);
#endif
}

/* Takes the lines of the next place from the receiver's cache, where its last message was read, before the next message
 * needs them: as many as this one had. */
static void prepare_next(const struct shmi_net_comm *c, const struct shmi_net_request *r, size_t bytes) {
  const uint32_t place = (c->pieces + 1) % SHMI_NET_PIECES;
  const uint8_t *piece = (const uint8_t *)&c->link->piece[place];
  fetch_to_write(piece, offsetof(struct shmi_net_piece, payload) + (r->path == SHMI_NET_INLINED ? bytes : 0));
  if (r->path == SHMI_NET_RING) fetch_to_write(c->ring + place * c->piece_bytes, bytes);
}

/* Sends the next piece of r; returns how many bytes that took to copy. */
static size_t send_piece(struct shmi_net_comm *c, struct shmi_net_request *r) {
  const uint32_t number = ++c->pieces;
  struct shmi_net_piece *p = &c->link->piece[number % SHMI_NET_PIECES];
  size_t copied = r->bytes - r->moved;
  if (r->path == SHMI_NET_INLINED) {
    if (copied) memcpy(p->payload, r->data, copied);
    r->moved = r->bytes;
  } else if (r->path == SHMI_NET_RING) {
    if (copied > c->piece_bytes) copied = c->piece_bytes;
    stage(c, c->ring + number % SHMI_NET_PIECES * c->piece_bytes, r->data + r->moved, copied);
    r->moved += copied;
  } else {
    *direct_of(c, number) = (struct shmi_direct_message){number, r->data, r->bytes};
    r->moved = r->bytes;
    copied = 0;
  }
  p->bytes = r->bytes;
  r->number = number;
  shmi_publish64(&p->word, shmi_word(number, r->path));
  if (r->bytes <= FETCHED) prepare_next(c, r, copied);
  return copied;
}

static int lacks_arrival(struct shmi_net_comm *c) { return shmi_observe32(&c->link->receiver.emptied) != c->pieces; }

/* What is in the ring is done, but nothing more is sent to a receiver that has taken nothing for a while and is gone.
 */
static shmccl_result_t check_receiver(struct shmi_net_comm *c) {
  const uint64_t now = shmi_coarse_now_ns();
  const uint32_t before = c->watched;
  int closed;
  if (now - c->watched_ns < CHECK_NS) return SHMCCL_SUCCESS;
  c->watched_ns = now;
  c->watched = shmi_observe32(&c->link->receiver.emptied);
  if (c->watched != before || c->watched == c->pieces) return SHMCCL_SUCCESS;
  return is_gone(c, &closed) && lacks_arrival(c) ? report_gone(c, closed) : SHMCCL_SUCCESS;
}

static shmccl_result_t progress_sender(struct shmi_net_comm *c) {
  for (size_t share = 0; c->moved != c->posted && share < SHARE;) {
    struct shmi_net_request *r = request_of(c, c->moved);
    if (!has_room(c)) return check_peer(c, lacks_room);
    c->checked_ns = 0;
    share += send_piece(c, r);
    if (r->moved == r->bytes) finish(c, r);
  }
  return SHMCCL_SUCCESS;
}

/* ---- receiving ------------------------------------------------------------------------------------------------------
 */

static const struct shmi_net_piece *next_piece(const struct shmi_net_comm *c) {
  return &c->link->piece[(c->pieces + 1) % SHMI_NET_PIECES];
}

static int has_come(const struct shmi_net_comm *c, uint64_t *word) {
  *word = shmi_observe64(&next_piece(c)->word);
  return shmi_word_generation(*word) == c->pieces + 1;
}

static int lacks_piece(struct shmi_net_comm *c) {
  uint64_t word;
  return !has_come(c, &word);
}

/* Whether a piece can be what it says. */
static int is_possible(const struct shmi_net_comm *c, uint32_t path, uint64_t bytes) {
  const struct shmi_direct_message *d = direct_of(c, c->pieces + 1);
  if (path == SHMI_NET_INLINED) return bytes <= SHMI_NET_INLINE;
  if (path == SHMI_NET_RING) return !c->is_direct;
  return path == SHMI_NET_DIRECT && c->is_direct && d->number == c->pieces + 1 && d->bytes == bytes;
}

/* A message's first piece says how long it is and how it comes. */
static shmccl_result_t begin(struct shmi_net_comm *c, struct shmi_net_request *r, const struct shmi_net_piece *p,
                             uint32_t path) {
  const uint64_t bytes = p->bytes;
  if (!is_possible(c, path, bytes))
    return fail(c, SHMCCL_ERROR_INTERNAL,
                "the connection from pid %u holds a message that cannot be: its memory was "
                "overwritten",
                c->link->sender.pid);
  if (bytes > r->bytes)
    return fail(c, SHMCCL_ERROR_INVALID_USAGE,
                "pid %u sent %llu bytes into a receive of %zu: both ends must agree on "
                "sizes (the same NCCL and NCCL_* settings on all ranks)",
                c->link->sender.pid, (unsigned long long)bytes, r->bytes);
  r->bytes = bytes;
  r->path = (enum shmi_net_path)path;
  r->number = c->pieces + 1; /* begun */
  return SHMCCL_SUCCESS;
}

/* At most SHARE bytes of a message that lies in this process; the sender cannot be closed meanwhile. */
static size_t take_direct(struct shmi_net_comm *c, struct shmi_net_request *r, const uint8_t *from) {
  struct shmi_direct *d = &c->arena->direct[c->link_index];
  const size_t left = r->bytes - r->moved, bytes = left < SHARE ? left : SHARE;
  pthread_mutex_lock(&d->lock);
  const int gone = d->is_gone;
  if (!gone) shmi_deliver(r->data + r->moved, from + r->moved, bytes);
  pthread_mutex_unlock(&d->lock);
  if (gone) report_gone(c, 1);
  return gone ? 0 : bytes;
}

/* What of r this piece holds now; returns the bytes copied. */
static size_t take(struct shmi_net_comm *c, struct shmi_net_request *r, const struct shmi_net_piece *p) {
  const uint32_t place = (c->pieces + 1) % SHMI_NET_PIECES;
  size_t bytes = r->bytes - r->moved;
  if (r->path == SHMI_NET_DIRECT) return take_direct(c, r, direct_of(c, c->pieces + 1)->address);
  if (r->path == SHMI_NET_RING && bytes > c->piece_bytes) bytes = c->piece_bytes;
  if (bytes)
    shmi_deliver(r->data + r->moved, r->path == SHMI_NET_RING ? c->ring + place * c->piece_bytes : p->payload, bytes);
  return bytes;
}

static shmccl_result_t progress_receiver(struct shmi_net_comm *c) {
  for (size_t share = 0; c->moved != c->posted && share < SHARE;) {
    struct shmi_net_request *r = request_of(c, c->moved);
    uint64_t word;
    if (!has_come(c, &word)) return check_peer(c, lacks_piece);
    const struct shmi_net_piece *p = next_piece(c);
    c->checked_ns = 0;
    if (!r->number) SHMI_RETURN_IF_ERROR(begin(c, r, p, shmi_word_signature(word)));
    const size_t bytes = take(c, r, p);
    if (c->failed != SHMCCL_SUCCESS) return c->failed;
    r->moved += bytes;
    share += bytes;
    if (r->path != SHMI_NET_DIRECT || r->moved == r->bytes) shmi_publish32(&c->link->receiver.emptied, ++c->pieces);
    if (r->moved == r->bytes) finish(c, r);
  }
  return SHMCCL_SUCCESS;
}

static shmccl_result_t progress(struct shmi_net_comm *c) {
  return c->kind == SHMI_NET_SENDER ? progress_sender(c) : progress_receiver(c);
}

/* ---- calls ----------------------------------------------------------------------------------------------------------
 */

static shmccl_result_t check_buffer(struct shmi_net_comm *c, const char *call, const void *data, size_t bytes,
                                    const void *mhandle) {
  if (bytes && !data)
    return refuse(c, SHMCCL_ERROR_INVALID_ARGUMENT, "%s: the buffer of %zu bytes is NULL", call, bytes);
  if (bytes > NCCL_MAX_NET_BYTES)
    return refuse(c, SHMCCL_ERROR_INVALID_ARGUMENT, "%s: %zu bytes are more than a message may have", call, bytes);
  if (!mhandle) return SHMCCL_SUCCESS;
  const struct shmi_registration *e = shmi_registry_find(&c->registry, mhandle);
  if (!e)
    return refuse(c, SHMCCL_ERROR_INVALID_ARGUMENT, "%s: mhandle %p is not registered with this connection", call,
                  mhandle);
  if (e->type != NCCL_PTR_HOST)
    return refuse(c, SHMCCL_ERROR_INVALID_USAGE, "%s: CUDA memory is not carried by this version: unset SHMCCL_NET_GDR",
                  call);
  const uint8_t *at = data;
  if (bytes && (at < e->data || bytes > e->bytes || (size_t)(at - e->data) > e->bytes - bytes))
    return refuse(c, SHMCCL_ERROR_INVALID_ARGUMENT, "%s: %zu bytes at %p are outside of the registered %zu at %p", call,
                  bytes, data, e->bytes, (const void *)e->data);
  return SHMCCL_SUCCESS;
}

static shmccl_result_t post(struct shmi_net_comm *c, const struct shmi_net_request *message,
                            struct shmi_net_request **out) {
  struct shmi_net_request *r = request_of(c, c->posted);
  if (r->state != SHMI_REQUEST_FREE) return *out = NULL, SHMCCL_SUCCESS;
  *r = *message;
  c->posted++;
  *out = r;
  return SHMCCL_SUCCESS;
}

static enum shmi_net_path choose_path(const struct shmi_net_comm *c, size_t bytes) {
  return bytes <= SHMI_NET_INLINE ? SHMI_NET_INLINED : c->is_direct ? SHMI_NET_DIRECT : SHMI_NET_RING;
}

shmccl_result_t shmi_net_isend(struct shmi_net_comm *c, void *data, size_t bytes, const void *mhandle,
                               struct shmi_net_request **request) {
  if (c->failed != SHMCCL_SUCCESS) return c->failed;
  SHMI_RETURN_IF_ERROR(check_buffer(c, "isend", data, bytes, mhandle));
  SHMI_RETURN_IF_ERROR(check_receiver(c));
  SHMI_RETURN_IF_ERROR(
      post(c,
           &(struct shmi_net_request){
               .comm = c, .state = SHMI_REQUEST_POSTED, .path = choose_path(c, bytes), .data = data, .bytes = bytes},
           request));
  return progress_sender(c);
}

shmccl_result_t shmi_net_irecv(struct shmi_net_comm *c, void *data, size_t bytes, const void *mhandle,
                               struct shmi_net_request **request) {
  if (c->failed != SHMCCL_SUCCESS) return c->failed;
  SHMI_RETURN_IF_ERROR(check_buffer(c, "irecv", data, bytes, mhandle));
  return post(c, &(struct shmi_net_request){.comm = c, .state = SHMI_REQUEST_POSTED, .data = data, .bytes = bytes},
              request);
}

/* A direct send has moved when the receiver has it. */
static int has_arrived(struct shmi_net_comm *c, const struct shmi_net_request *r) {
  if (r->path != SHMI_NET_DIRECT || c->kind == SHMI_NET_RECEIVER) return 1;
  if ((int32_t)(c->emptied - r->number) >= 0) return 1;
  c->emptied = shmi_observe32(&c->link->receiver.emptied);
  return (int32_t)(c->emptied - r->number) >= 0;
}

shmccl_result_t shmi_net_test(struct shmi_net_request *r, int *done, size_t *bytes) {
  *done = 0;
  struct shmi_net_comm *c = r->comm;
  if (r->state == SHMI_REQUEST_FREE)
    return refuse(c, SHMCCL_ERROR_INVALID_USAGE, "test: this request is not in use: it was done before");
  if (c->failed != SHMCCL_SUCCESS) return c->failed;
  if (c->moved != c->posted) SHMI_RETURN_IF_ERROR(progress(c));
  if (r->state != SHMI_REQUEST_MOVED) return SHMCCL_SUCCESS;
  if (!has_arrived(c, r)) return check_peer(c, lacks_arrival);
  r->state = SHMI_REQUEST_FREE;
  if (bytes) *bytes = r->bytes;
  *done = 1;
  return SHMCCL_SUCCESS;
}
