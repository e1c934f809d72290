/*
 * net_transfer.c - messages under way.
 *
 * A message of up to SHMI_NET_INLINE bytes is one piece that lies beside its word. A longer one is cut into pieces of
 * the ring, so that sender and receiver copy at the same time; to a peer in the same process it is one piece that says
 * where it lies, and the receiver copies it once. Messages of a connection move in order: only the oldest one that has
 * not begun does. Pieces of device memory begin when the track gets them and end when it has copied them, in order; one
 * of host memory begins when none is with the track, and ends at once.
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
  return *closed || (!c->is_within && !shmi_arena_peer_lives(c->arena, c->link_index, c->kind == SHMI_NET_RECEIVER));
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
  const int path = r->is_on_device ? SHMI_COUNTED_ON_DEVICE : (int)r->path;
  c->counters.messages[path]++;
  c->counters.bytes[path] += r->bytes;
}

/* So many more bytes of r have begun. The next message's turn, if that is all. */
static void advance_begun(struct shmi_net_comm *c, struct shmi_net_request *r, size_t bytes) {
  r->begun += bytes;
  if (r->begun == r->bytes) c->begun++;
}

static void advance_moved(struct shmi_net_comm *c, struct shmi_net_request *r, size_t bytes) {
  r->moved += bytes;
  if (r->moved < r->bytes) return;
  r->state = SHMI_REQUEST_MOVED;
  c->moved++;
  count(c, r);
}

static uint8_t *place_of(const struct shmi_net_comm *c, uint32_t number) {
  return c->ring + number % SHMI_NET_PIECES * c->piece_bytes;
}

/* What a piece of r holds of so many bytes that are left. */
static size_t piece_of(const struct shmi_net_comm *c, const struct shmi_net_request *r, size_t left) {
  return r->path == SHMI_NET_RING && left > c->piece_bytes ? c->piece_bytes : left;
}

/* ---- pieces that are with the track --------------------------------------------------------------------------------
 */

static int is_with_track(const struct shmi_net_comm *c) { return c->pieces != c->pieces_begun; }

static shmccl_result_t check_track(struct shmi_net_comm *c) {
  const struct shmi_log_sink before = shmi_plugin_log_enter(&c->context->log);
  c->failed = shmi_track_state(c->track);
  shmi_plugin_log_leave(before);
  return c->failed;
}

/* Ends the pieces that the track is done with. */
static shmccl_result_t follow_track(struct shmi_net_comm *c,
                                    void (*end)(struct shmi_net_comm *, struct shmi_net_request *)) {
  if (!is_with_track(c)) return SHMCCL_SUCCESS;
  for (const uint32_t done = shmi_track_done(c->track); c->track_done != done; c->track_done++) {
    struct shmi_net_request *r = request_of(c, c->moved);
    end(c, r);
    advance_moved(c, r, piece_of(c, r, r->bytes - r->moved));
  }
  return is_with_track(c) ? check_track(c) : SHMCCL_SUCCESS;
}

/* ---- sending --------------------------------------------------------------------------------------------------------
 */

/* The receiver's line is the one that tells how far it is: it was written a moment ago. */
static void look_at_receiver(struct shmi_net_comm *c) {
  const uint32_t *emptied = &c->link->receiver.emptied;
  uint64_t ns;
  if (request_of(c, c->begun)->path != SHMI_NET_RING)
    c->emptied = shmi_observe32(emptied);
  else if (shmi_distance_read(emptied, &c->emptied, &ns))
    shmi_distance_add(&c->distance, ns);
}

static int has_room(struct shmi_net_comm *c) {
  if (c->pieces_begun + 1 - c->emptied > SHMI_NET_PIECES) look_at_receiver(c);
  return c->pieces_begun + 1 - c->emptied <= SHMI_NET_PIECES;
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

/* What the next piece holds is in its place: the receiver is told. */
static void publish(struct shmi_net_comm *c, struct shmi_net_request *r) {
  const uint32_t number = ++c->pieces;
  struct shmi_net_piece *p = &c->link->piece[number % SHMI_NET_PIECES];
  p->bytes = r->bytes;
  r->number = number;
  shmi_publish64(&p->word, shmi_word(number, r->path));
}

/* Sends the next piece of r; returns how many bytes that took to copy. */
static size_t send_piece(struct shmi_net_comm *c, struct shmi_net_request *r) {
  const uint32_t number = ++c->pieces_begun;
  const size_t bytes = piece_of(c, r, r->bytes - r->begun);
  if (r->path == SHMI_NET_INLINED) {
    if (bytes) memcpy(c->link->piece[number % SHMI_NET_PIECES].payload, r->data, bytes);
  } else if (r->path == SHMI_NET_RING) {
    stage(c, place_of(c, number), r->data + r->begun, bytes);
  } else {
    *direct_of(c, number) = (struct shmi_direct_message){number, r->data, r->bytes};
  }
  advance_begun(c, r, bytes);
  publish(c, r);
  advance_moved(c, r, bytes);
  const size_t copied = r->path == SHMI_NET_DIRECT ? 0 : bytes;
  if (r->bytes <= FETCHED) prepare_next(c, r, copied);
  return copied;
}

/* The GPU copies the next piece of r. */
static void hand_over(struct shmi_net_comm *c, struct shmi_net_request *r) {
  const size_t bytes = piece_of(c, r, r->bytes - r->begun);
  shmi_track_post(c->track, place_of(c, ++c->pieces_begun), r->data + r->begun, bytes);
  advance_begun(c, r, bytes);
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
  SHMI_RETURN_IF_ERROR(follow_track(c, publish));
  for (size_t share = 0; c->begun != c->posted && share < SHARE;) {
    struct shmi_net_request *r = request_of(c, c->begun);
    if (!r->is_on_device && is_with_track(c)) return SHMCCL_SUCCESS;
    if (!has_room(c)) return check_peer(c, lacks_room);
    c->checked_ns = 0;
    if (r->is_on_device)
      hand_over(c, r);
    else
      share += send_piece(c, r);
  }
  return SHMCCL_SUCCESS;
}

/* ---- receiving ------------------------------------------------------------------------------------------------------
 */

static const struct shmi_net_piece *next_piece(const struct shmi_net_comm *c) {
  return &c->link->piece[(c->pieces_begun + 1) % SHMI_NET_PIECES];
}

static int has_come(const struct shmi_net_comm *c, uint64_t *word) {
  *word = shmi_observe64(&next_piece(c)->word);
  return shmi_word_generation(*word) == c->pieces_begun + 1;
}

static int lacks_piece(struct shmi_net_comm *c) {
  uint64_t word;
  return !has_come(c, &word);
}

/* Whether a piece can be what it says. */
static int is_possible(const struct shmi_net_comm *c, uint32_t path, uint64_t bytes) {
  const uint32_t number = c->pieces_begun + 1;
  const struct shmi_direct_message *d = direct_of(c, number);
  if (path == SHMI_NET_INLINED) return bytes <= SHMI_NET_INLINE;
  if (path == SHMI_NET_RING) return !c->is_direct;
  return path == SHMI_NET_DIRECT && c->is_direct && d->number == number && d->bytes == bytes;
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
  r->number = c->pieces_begun + 1; /* begun */
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
  const uint32_t number = c->pieces_begun + 1;
  const size_t bytes = piece_of(c, r, r->bytes - r->moved);
  if (r->path == SHMI_NET_DIRECT) return take_direct(c, r, direct_of(c, number)->address);
  if (bytes) shmi_deliver(r->data + r->moved, r->path == SHMI_NET_RING ? place_of(c, number) : p->payload, bytes);
  return bytes;
}

/* The next piece has been taken out: the sender may write its place again. */
static void give_back(struct shmi_net_comm *c, struct shmi_net_request *r) {
  (void)r;
  shmi_publish32(&c->link->receiver.emptied, ++c->pieces);
}

/* The GPU copies what this piece holds. The ring's place is the receiver's until it gives the piece back, so a message
 * that came beside its word goes there first: the words' lines are not registered. */
static void take_by_track(struct shmi_net_comm *c, struct shmi_net_request *r, const struct shmi_net_piece *p) {
  uint8_t *place = place_of(c, ++c->pieces_begun);
  const size_t bytes = piece_of(c, r, r->bytes - r->begun);
  if (r->path == SHMI_NET_INLINED) memcpy(place, p->payload, bytes);
  shmi_track_post(c->track, r->data + r->begun, place, bytes);
  advance_begun(c, r, bytes);
}

static shmccl_result_t progress_receiver(struct shmi_net_comm *c) {
  SHMI_RETURN_IF_ERROR(follow_track(c, give_back));
  for (size_t share = 0; c->begun != c->posted && share < SHARE;) {
    struct shmi_net_request *r = request_of(c, c->begun);
    uint64_t word;
    if (!r->is_on_device && is_with_track(c)) return SHMCCL_SUCCESS;
    if (!has_come(c, &word)) return check_peer(c, lacks_piece);
    const struct shmi_net_piece *p = next_piece(c);
    c->checked_ns = 0;
    if (!r->number) SHMI_RETURN_IF_ERROR(begin(c, r, p, shmi_word_signature(word)));
    if (r->is_on_device) {
      take_by_track(c, r, p);
      continue;
    }
    const size_t bytes = take(c, r, p);
    if (c->failed != SHMCCL_SUCCESS) return c->failed;
    share += bytes;
    if (r->path != SHMI_NET_DIRECT || r->moved + bytes == r->bytes) {
      c->pieces_begun++;
      give_back(c, r);
    }
    advance_begun(c, r, bytes);
    advance_moved(c, r, bytes);
  }
  return SHMCCL_SUCCESS;
}

static shmccl_result_t progress(struct shmi_net_comm *c) {
  return c->kind == SHMI_NET_SENDER ? progress_sender(c) : progress_receiver(c);
}

/* ---- calls ----------------------------------------------------------------------------------------------------------
 */

static shmccl_result_t check_buffer(struct shmi_net_comm *c, const char *call, const void *data, size_t bytes,
                                    const void *mhandle, int *is_on_device) {
  *is_on_device = 0;
  if (bytes && !data)
    return refuse(c, SHMCCL_ERROR_INVALID_ARGUMENT, "%s: the buffer of %zu bytes is NULL", call, bytes);
  if (bytes > NCCL_MAX_NET_BYTES)
    return refuse(c, SHMCCL_ERROR_INVALID_ARGUMENT, "%s: %zu bytes are more than a message may have", call, bytes);
  if (!mhandle) return SHMCCL_SUCCESS;
  const struct shmi_registration *e = shmi_registry_find(&c->registry, mhandle);
  if (!e)
    return refuse(c, SHMCCL_ERROR_INVALID_ARGUMENT, "%s: mhandle %p is not registered with this connection", call,
                  mhandle);
  const uint8_t *at = data;
  if (bytes && (at < e->data || bytes > e->bytes || (size_t)(at - e->data) > e->bytes - bytes))
    return refuse(c, SHMCCL_ERROR_INVALID_ARGUMENT, "%s: %zu bytes at %p are outside of the registered %zu at %p", call,
                  bytes, data, e->bytes, (const void *)e->data);
  *is_on_device = e->type == NCCL_PTR_CUDA;
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

static enum shmi_net_path choose_path(const struct shmi_net_comm *c, size_t bytes, int is_on_device) {
  if (is_on_device) return SHMI_NET_RING;
  return bytes <= SHMI_NET_INLINE ? SHMI_NET_INLINED : c->is_direct ? SHMI_NET_DIRECT : SHMI_NET_RING;
}

shmccl_result_t shmi_net_isend(struct shmi_net_comm *c, void *data, size_t bytes, const void *mhandle,
                               struct shmi_net_request **request) {
  struct shmi_net_request r = {.comm = c, .state = SHMI_REQUEST_POSTED, .data = data, .bytes = bytes};
  if (c->failed != SHMCCL_SUCCESS) return c->failed;
  SHMI_RETURN_IF_ERROR(check_buffer(c, "isend", data, bytes, mhandle, &r.is_on_device));
  SHMI_RETURN_IF_ERROR(check_receiver(c));
  r.path = choose_path(c, bytes, r.is_on_device);
  SHMI_RETURN_IF_ERROR(post(c, &r, request));
  return progress_sender(c);
}

shmccl_result_t shmi_net_irecv(struct shmi_net_comm *c, void *data, size_t bytes, const void *mhandle,
                               struct shmi_net_request **request) {
  struct shmi_net_request r = {.comm = c, .state = SHMI_REQUEST_POSTED, .data = data, .bytes = bytes};
  if (c->failed != SHMCCL_SUCCESS) return c->failed;
  SHMI_RETURN_IF_ERROR(check_buffer(c, "irecv", data, bytes, mhandle, &r.is_on_device));
  return post(c, &r, request);
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
