/*
 * arena.h - the arenas that this process owns or is connected to, and their links.
 *
 * One register per process, under one lock, used by listen, connect, accept and close only. An arena keeps its name
 * while one of its links is listened on; so links that are listened on at the same time share an arena, and a later
 * listen starts another. Rings of all arenas that the process owns take at most SHMCCL_NET_BYTES; the more is taken,
 * the smaller the next one is. An arena in which this process both listens and connects is one object: that is how
 * peers within a process find each other.
 */
#ifndef SHMI_PLUGIN_ARENA_H
#define SHMI_PLUGIN_ARENA_H

#include <pthread.h>

#include "plugin/net_layout.h"
#include "shm/segment.h"

/* A message to a receiver in the same process: what the piece's word stands for. Not in the arena, where everybody who
 * opens the file could make this process read anywhere. */
struct shmi_direct_message {
  uint32_t number; /* the piece's */
  const uint8_t *address;
  size_t bytes;
};

/* Within a process the receiver reads the sender's buffer: it holds the lock meanwhile, and close takes it. */
struct shmi_direct {
  pthread_mutex_t lock;
  int is_gone;   /* the sender is closed: its buffers are no longer ours to read */
  int is_within; /* the sender is in this process; written before it says that it is there */
  struct shmi_direct_message message[SHMI_NET_PIECES];
};

struct shmi_arena {
  uint8_t id[SHMI_ID_BYTES];
  struct shmi_segment segment;
  int is_owned; /* by this process */
  uint32_t pid; /* the owner's */
  uint64_t process;
  /* the rest is arena.c's, under its lock */
  struct shmi_arena *next;
  uint32_t fork_generation;
  int users, listeners;
  uint64_t connected;                        /* bit i: this process is the sender of link i */
  uint64_t taken;                            /* owned: bit i: link i is in use or may still have a sender */
  uint64_t left;                             /* owned: bit i: of those, not in use by this process any more */
  uint32_t ring_bytes[SHMI_NET_LINKS];       /* owned: what each has in memory */
  uint32_t piece_bytes[SHMI_NET_LINKS];      /* of links that this process is an end of: as checked */
  struct shmi_direct direct[SHMI_NET_LINKS]; /* owned */
};

static inline struct shmi_net_link *shmi_arena_link(const struct shmi_arena *a, int link) {
  return (struct shmi_net_link *)(void *)(a->segment.base + shmi_net_link_at(link));
}
static inline uint8_t *shmi_arena_ring(const struct shmi_arena *a, int link) {
  return a->segment.base + shmi_net_ring_at(link);
}

/* A new link of an arena of this process, with its key; the name is there until shmi_arena_unlisten. */
shmccl_result_t shmi_arena_listen(struct shmi_arena **arena, int *link, uint64_t *key);
/* One listener less; the last one takes the name away. */
void shmi_arena_unlisten(struct shmi_arena *arena);
/* The owner is done with the link; it is used again once its sender is gone too. Ends one use of the arena. */
void shmi_arena_leave(struct shmi_arena *arena, int link);
/* The link's ring is not needed: its sender is in this process. */
void shmi_arena_release_ring(struct shmi_arena *arena, int link);

/* Becomes the sender of a link: opens the arena unless this process has it. Errors: the owner is gone, the link is not
 * the one of this key any more, somebody else is connected. */
shmccl_result_t shmi_arena_connect(struct shmi_arena **arena, const uint8_t id[SHMI_ID_BYTES], int link, uint64_t key);
/* The sender is done with the link. Ends one use of the arena. */
void shmi_arena_disconnect(struct shmi_arena *arena, int link);

/* True the first time: whether a process that is gone is still to be told of. */
int shmi_arena_first_told(uint64_t process);

/* Whether the kernel says that the process at the other end of a link lives, which must be another one than this. */
int shmi_arena_peer_lives(const struct shmi_arena *arena, int link, int peer_is_sender);

#endif
