/* arena.c - the register of arenas, the budget of their rings, and who is on which link. */
#include "plugin/arena.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/log.h"
#include "plugin/gdr.h"
#include "shm/liveness.h"
#include "topo/topo.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of all below, and of all arenas */
static struct shmi_arena *arenas;
static uint64_t rings_bytes; /* of all owned arenas */
static uint64_t own_process;
enum { TOLD = 32 };
static uint64_t told[TOLD]; /* processes that are gone, the newest ones */
static unsigned tellings;

static uint64_t bit(int link) { return 1ull << link; }

/* ---- the register ---------------------------------------------------------------------------------------------- */

/* A forked child has neither the mappings nor the descriptors: it starts anew. */
static void forget_parents(void) {
  if (!arenas || arenas->fork_generation == shmi_fork_generation()) return;
  arenas = NULL;
  rings_bytes = 0;
  own_process = 0;
}

static void enter(void) {
  pthread_mutex_lock(&lock);
  forget_parents();
}

static void leave(void) { pthread_mutex_unlock(&lock); }

/* For what ends an object's part: nothing is left to end in a forked child. */
static int enter_with(const struct shmi_arena *a) {
  if (a->fork_generation != shmi_fork_generation()) return 0;
  enter();
  return 1;
}

static shmccl_result_t random_bytes(void *to, size_t bytes) {
  if (getrandom(to, bytes, 0) == (ssize_t)bytes) return SHMCCL_SUCCESS;
  return shmi_error(SHMCCL_ERROR_SYSTEM, "the kernel gives no random bytes: %m");
}

static shmccl_result_t name_process(void) {
  return own_process ? SHMCCL_SUCCESS : random_bytes(&own_process, sizeof own_process);
}

static shmccl_result_t new_arena(struct shmi_arena **out) {
  SHMI_RETURN_IF_ERROR(name_process());
  struct shmi_arena *a = calloc(1, sizeof *a);
  if (!a) return shmi_error(SHMCCL_ERROR_NO_MEMORY, "no memory for an arena");
  a->segment.lock_fd = -1;
  a->fork_generation = shmi_fork_generation();
  for (int i = 0; i < SHMI_NET_LINKS; i++) pthread_mutex_init(&a->direct[i].lock, NULL);
  *out = a;
  return SHMCCL_SUCCESS;
}

static void free_arena(struct shmi_arena *a) {
  for (int i = 0; i < SHMI_NET_LINKS; i++) {
    rings_bytes -= a->ring_bytes[i];
    pthread_mutex_destroy(&a->direct[i].lock);
  }
  shmi_segment_detach(&a->segment, 0);
  free(a);
}

static void enroll(struct shmi_arena *a) {
  a->next = arenas;
  arenas = a;
}

static void end_use(struct shmi_arena *a) {
  if (--a->users > 0) return;
  for (struct shmi_arena **at = &arenas; *at; at = &(*at)->next)
    if (*at == a) {
      *at = a->next;
      break;
    }
  free_arena(a);
}

/* The kernel would map the pages at their first use, within the first messages. Best effort. */
static void map_now(struct shmi_arena *a, size_t offset, size_t bytes) {
#ifdef MADV_POPULATE_WRITE
  madvise(a->segment.base + offset, bytes, MADV_POPULATE_WRITE);
#else
  (void)a, (void)offset, (void)bytes;
#endif
}

/* ---- the owner ----------------------------------------------------------------------------------------------------
 */

static shmccl_result_t fill_arena(struct shmi_arena *a) {
  const struct shmi_net_header header = {SHMI_NET_MAGIC, SHMI_NET_VERSION, (uint32_t)getpid(), own_process};
  a->is_owned = 1;
  a->pid = header.pid;
  a->process = header.process;
  SHMI_RETURN_IF_ERROR(random_bytes(a->id, sizeof a->id));
  shmi_segment_sweep();
  return shmi_segment_make(&a->segment, a->id,
                           &(struct shmi_contents){SHMI_NET_ARENA_BYTES, SHMI_PAGE, &header, sizeof header});
}

static shmccl_result_t make_arena(struct shmi_arena **out) {
  struct shmi_arena *a;
  SHMI_RETURN_IF_ERROR(new_arena(&a));
  const shmccl_result_t result = fill_arena(a);
  if (result != SHMCCL_SUCCESS) return free_arena(a), result;
  enroll(a);
  *out = a;
  return SHMCCL_SUCCESS;
}

/* Links whose sender has gone after this process had left them; an arena of another process has none. */
static void reclaim(struct shmi_arena *a) {
  for (int i = 0; i < SHMI_NET_LINKS; i++) {
    if (!(a->left & bit(i)) || (a->connected & bit(i)) || shmi_liveness_held(a->segment.lock_fd, SHMI_NET_LOCK + i))
      continue;
    shmi_segment_give_back(&a->segment, shmi_net_ring_at(i), a->ring_bytes[i]);
    rings_bytes -= a->ring_bytes[i];
    a->ring_bytes[i] = 0;
    a->taken &= ~bit(i);
    a->left &= ~bit(i);
  }
}

static shmccl_result_t find_arena(struct shmi_arena **out) {
  for (struct shmi_arena *a = arenas; a; a = a->next)
    if (a->is_owned && a->segment.named && ~a->taken) return *out = a, SHMCCL_SUCCESS;
  return make_arena(out);
}

/* Three times a core's own cache: what is read has then left the writer's for the one that both share, where it is read
 * several times as fast. Powers of two were slower (docs/plugin.md). */
static uint32_t best_ring(void) {
  if (shmi_gdr_offered()) return SHMI_NET_RING_MOST; /* copy engines know no caches */
  const size_t ring = 3 * shmi_topo_caches().second;
  if (ring < SHMI_NET_RING_LEAST) return SHMI_NET_RING_LEAST;
  return ring > SHMI_NET_RING_MOST ? SHMI_NET_RING_MOST : (uint32_t)(ring / SHMI_PAGE * SHMI_PAGE);
}

static uint32_t half_of(uint32_t ring) {
  return ring / 2 < SHMI_NET_RING_LEAST ? SHMI_NET_RING_LEAST : ring / 2 / SHMI_PAGE * SHMI_PAGE;
}

/* With a GPU rings are registered, here and by their senders: one half of the limit is for those, one for others'. */
static shmccl_result_t ring_budget(uint64_t *bytes) {
  uint64_t pinned;
  SHMI_RETURN_IF_ERROR(shmi_option_local(SHMI_OPTION_NET_BYTES, bytes));
  if (!shmi_gdr_offered()) return SHMCCL_SUCCESS;
  SHMI_RETURN_IF_ERROR(shmi_gdr_pinned_limit(&pinned));
  if (*bytes > pinned / 2) *bytes = pinned / 2;
  return SHMCCL_SUCCESS;
}

/* An eighth of what the budget has left, and of an eighth of what the folder has, in which others make rings too. */
static shmccl_result_t choose_ring(uint32_t *bytes) {
  uint64_t budget;
  SHMI_RETURN_IF_ERROR(ring_budget(&budget));
  const uint64_t left = budget > rings_bytes ? budget - rings_bytes : 0, space = shmi_segment_space() / 8;
  uint32_t ring = best_ring();
  while (ring > SHMI_NET_RING_LEAST && ring > (left < space ? left : space) / 8) ring = half_of(ring);
  if (ring > left)
    return shmi_error(SHMCCL_ERROR_NO_SPACE,
                      "%llu KiB of rings are in use, %s allows %llu KiB, the next connection needs %u: raise it, or "
                      "lower NCCL_MAX_NCHANNELS",
                      (unsigned long long)rings_bytes >> 10,
                      shmi_gdr_offered() ? "half a process's share of SHMCCL_PINNED_BYTES" : "SHMCCL_NET_BYTES",
                      (unsigned long long)budget >> 10, ring >> 10);
  *bytes = ring;
  return SHMCCL_SUCCESS;
}

/* The sender's lines too: there is none yet. */
static shmccl_result_t open_link(struct shmi_arena *a, int i, uint64_t key, uint32_t ring) {
  struct shmi_net_link *link = shmi_arena_link(a, i);
  SHMI_RETURN_IF_ERROR(shmi_segment_allocate(&a->segment, shmi_net_link_at(i), SHMI_NET_LINK_BYTES));
  SHMI_RETURN_IF_ERROR(shmi_segment_allocate(&a->segment, shmi_net_ring_at(i), ring));
  map_now(a, shmi_net_link_at(i), SHMI_NET_LINK_BYTES);
  map_now(a, shmi_net_ring_at(i), ring);
  a->ring_bytes[i] = ring;
  rings_bytes += ring;
  a->taken |= bit(i);
  a->piece_bytes[i] = ring / SHMI_NET_PIECES;
  a->direct[i].is_gone = a->direct[i].is_within = 0;
  memset(a->direct[i].message, 0, sizeof a->direct[i].message);
  memset(link, 0, sizeof *link);
  link->owner.key = key;
  link->owner.piece_bytes = a->piece_bytes[i];
  shmi_publish32(&link->owner.state, SHMI_NET_OPEN);
  return SHMCCL_SUCCESS;
}

static shmccl_result_t listen_locked(struct shmi_arena **out, int *link, uint64_t *key) {
  struct shmi_arena *a;
  uint32_t ring;
  uint64_t random;
  for (a = arenas; a; a = a->next) reclaim(a);
  SHMI_RETURN_IF_ERROR(random_bytes(&random, sizeof random));
  SHMI_RETURN_IF_ERROR(choose_ring(&ring));
  SHMI_RETURN_IF_ERROR(find_arena(&a));
  const int i = __builtin_ctzll(~a->taken);
  a->users++;
  const shmccl_result_t result = open_link(a, i, random, ring);
  if (result != SHMCCL_SUCCESS) return end_use(a), result;
  a->listeners++;
  *out = a;
  *link = i;
  *key = random;
  return SHMCCL_SUCCESS;
}

shmccl_result_t shmi_arena_listen(struct shmi_arena **arena, int *link, uint64_t *key) {
  enter();
  const shmccl_result_t result = listen_locked(arena, link, key);
  leave();
  return result;
}

void shmi_arena_unlisten(struct shmi_arena *a) {
  if (!enter_with(a)) return;
  if (--a->listeners == 0) shmi_segment_unlink(&a->segment);
  leave();
}

/* A sender that comes now takes its lock first and then looks at the state: either it sees that the link is closed, or
 * reclaim sees its lock. */
void shmi_arena_leave(struct shmi_arena *a, int link) {
  if (!enter_with(a)) return;
  shmi_publish32(&shmi_arena_link(a, link)->owner.state, SHMI_NET_CLOSED);
  a->left |= bit(link);
  end_use(a);
  leave();
}

void shmi_arena_release_ring(struct shmi_arena *a, int link) {
  if (!enter_with(a)) return;
  shmi_segment_give_back(&a->segment, shmi_net_ring_at(link), a->ring_bytes[link]);
  rings_bytes -= a->ring_bytes[link];
  a->ring_bytes[link] = 0;
  leave();
}

/* ---- the sender ---------------------------------------------------------------------------------------------------
 */

static shmccl_result_t owner_is_gone(void) {
  return shmi_error(SHMCCL_ERROR_PEER_DIED, "cannot connect: the process that listened is gone, or has stopped "
                                            "listening: look at its log");
}

static shmccl_result_t check_header(struct shmi_arena *a) {
  struct shmi_net_header h;
  if (pread(a->segment.lock_fd, &h, sizeof h, 0) != (ssize_t)sizeof h || h.magic != SHMI_NET_MAGIC)
    return shmi_error(SHMCCL_ERROR_INVALID_USAGE, "cannot use %s: it is no arena", a->segment.path);
  if (h.version != SHMI_NET_VERSION || lseek(a->segment.lock_fd, 0, SEEK_END) != SHMI_NET_ARENA_BYTES)
    return shmi_error(SHMCCL_ERROR_INVALID_USAGE,
                      "cannot use %s: its layout has version %u, this library has %u: all ranks must load the same "
                      "libnccl-net-shmccl.so",
                      a->segment.path, h.version, (unsigned)SHMI_NET_VERSION);
  a->pid = h.pid;
  a->process = h.process;
  return SHMCCL_SUCCESS;
}

static shmccl_result_t attach(struct shmi_arena *a) {
  SHMI_RETURN_IF_ERROR(shmi_segment_open(&a->segment, a->id));
  if (a->segment.lock_fd < 0) return owner_is_gone();
  SHMI_RETURN_IF_ERROR(check_header(a));
  return shmi_segment_map(&a->segment, SHMI_NET_ARENA_BYTES);
}

static shmccl_result_t get_arena(struct shmi_arena **out, const uint8_t id[SHMI_ID_BYTES]) {
  struct shmi_arena *a;
  for (a = arenas; a; a = a->next)
    if (!memcmp(a->id, id, SHMI_ID_BYTES)) return a->users++, *out = a, SHMCCL_SUCCESS;
  SHMI_RETURN_IF_ERROR(new_arena(&a));
  memcpy(a->id, id, SHMI_ID_BYTES);
  const shmccl_result_t result = attach(a);
  if (result != SHMCCL_SUCCESS) return free_arena(a), result;
  enroll(a);
  a->users = 1;
  *out = a;
  return SHMCCL_SUCCESS;
}

static int is_open(const struct shmi_arena *a, int link, uint64_t key) {
  const struct shmi_net_owner_line *owner = &shmi_arena_link(a, link)->owner;
  return shmi_observe32(&owner->state) == SHMI_NET_OPEN && owner->key == key;
}

/* What lies in the file is used after it has been checked, not read again. */
static shmccl_result_t read_piece_bytes(struct shmi_arena *a, int link) {
  const uint32_t bytes = shmi_peek32(&shmi_arena_link(a, link)->owner.piece_bytes);
  if (bytes < SHMI_NET_RING_LEAST / SHMI_NET_PIECES || bytes > SHMI_NET_RING_MOST / SHMI_NET_PIECES ||
      bytes % SHMI_LINE)
    return shmi_error(SHMCCL_ERROR_INTERNAL, "cannot connect: the arena of pid %u was overwritten: pieces of %u bytes",
                      a->pid, bytes);
  a->piece_bytes[link] = bytes;
  return SHMCCL_SUCCESS;
}

static shmccl_result_t claim(struct shmi_arena *a, int link, uint64_t key) {
  const int is_mine = (a->connected & bit(link)) != 0; /* locks of one description do not exclude each other */
  const int error = is_mine ? EAGAIN : a->is_owned ? 0 : shmi_liveness_claim(a->segment.lock_fd, SHMI_NET_LOCK + link);
  if (error)
    return shmi_error(SHMCCL_ERROR_INVALID_USAGE,
                      "cannot connect: another sender uses this handle already (%s): each "
                      "connection needs a listen of its own",
                      strerror(error));
  const shmccl_result_t result = is_open(a, link, key) ? read_piece_bytes(a, link) : owner_is_gone();
  if (result == SHMCCL_SUCCESS)
    a->connected |= bit(link);
  else if (!a->is_owned)
    shmi_liveness_drop(a->segment.lock_fd, SHMI_NET_LOCK + link);
  return result;
}

static void introduce(struct shmi_arena *a, int link) {
  struct shmi_net_link *l = shmi_arena_link(a, link);
  map_now(a, shmi_net_link_at(link), SHMI_NET_LINK_BYTES);
  if (!a->is_owned) map_now(a, shmi_net_ring_at(link), (size_t)a->piece_bytes[link] * SHMI_NET_PIECES);
  a->direct[link].is_within = a->is_owned;
  l->sender.pid = (uint32_t)getpid();
  l->sender.process = own_process;
  shmi_publish32(&l->sender.state, SHMI_NET_OPEN);
}

static shmccl_result_t connect_locked(struct shmi_arena **out, const uint8_t id[SHMI_ID_BYTES], int link,
                                      uint64_t key) {
  struct shmi_arena *a;
  SHMI_RETURN_IF_ERROR(get_arena(&a, id));
  const shmccl_result_t result = claim(a, link, key);
  if (result != SHMCCL_SUCCESS) return end_use(a), result;
  introduce(a, link);
  *out = a;
  return SHMCCL_SUCCESS;
}

shmccl_result_t shmi_arena_connect(struct shmi_arena **arena, const uint8_t id[SHMI_ID_BYTES], int link, uint64_t key) {
  enter();
  const shmccl_result_t result = connect_locked(arena, id, link, key);
  leave();
  return result;
}

void shmi_arena_disconnect(struct shmi_arena *a, int link) {
  if (!enter_with(a)) return;
  shmi_publish32(&shmi_arena_link(a, link)->sender.state, SHMI_NET_CLOSED);
  a->connected &= ~bit(link);
  if (!a->is_owned) shmi_liveness_drop(a->segment.lock_fd, SHMI_NET_LOCK + link);
  end_use(a);
  leave();
}

/* ---- either end -------------------------------------------------------------------------------------------------- */

int shmi_arena_first_told(uint64_t process) {
  int first = 1;
  enter();
  for (int i = 0; i < TOLD; i++) first &= told[i] != process;
  if (first) told[tellings++ % TOLD] = process;
  leave();
  return first;
}

int shmi_arena_peer_lives(const struct shmi_arena *a, int link, int peer_is_sender) {
  return shmi_liveness_held(a->segment.lock_fd, peer_is_sender ? SHMI_NET_LOCK + link : 0) != 0;
}
