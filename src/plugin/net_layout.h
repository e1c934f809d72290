/*
 * net_layout.h - what lies where in an arena, the file through which a process receives.
 *
 *   header | link 0 | link 1 | ... | ring of link 0 | ring of link 1 | ...
 *
 * A link is one connection, sender to receiver. The owner of the arena is the receiver of all its links; it makes the
 * file when it listens. Links and rings get memory when they are listened on, so the file may be mostly empty. Lines of
 * a link, 128 bytes with one writer each:
 *   owner     what the link is: written by listen, `state` last, and again by close
 *   sender    who is connected, written by connect, `state` last, and again by close
 *   receiver  how many pieces have been taken out
 *   piece[]   written by the sender: number of the piece, its message's bytes, and up to SHMI_NET_INLINE of payload
 * The protocol is that of coll/pair.h: pieces are numbered from 1 on over all messages; piece x lies in place x %
 * SHMI_NET_PIECES, and is written when x - emptied <= SHMI_NET_PIECES, so the place's word holds x or what was
 * there SHMI_NET_PIECES before when x is awaited: equality is enough, and the numbers may wrap.
 *
 * Liveness: the owner holds the lock of byte 0 (shm/segment.h), the sender of link i that of byte SHMI_NET_LOCK + i.
 * A link is used again only when neither its owner's object nor its sender's lock is left.
 */
#ifndef SHMI_NET_LAYOUT_H
#define SHMI_NET_LAYOUT_H

#include "shm/layout.h"

#define SHMI_NET_MAGIC 0x74656e6d6873ull /* "shmnet" */
enum {
  SHMI_NET_VERSION = 3, /* of this layout, the protocol and the handle */
  SHMI_NET_LINKS = 64,
  SHMI_NET_PIECES = 16,
  SHMI_NET_PIECE_LINE = 512,
  SHMI_NET_INLINE = SHMI_NET_PIECE_LINE - 16,
  SHMI_NET_RING_MOST = 6 << 20,
  SHMI_NET_RING_LEAST = 64 << 10,
  SHMI_NET_LOCK = 128, /* behind the ranks' and the sweeper's */
};

struct shmi_net_header {
  uint64_t magic;
  uint32_t version;
  uint32_t pid;     /* the owner's, in its own pid namespace: for messages only */
  uint64_t process; /* the owner's number: random, for its life */
};

enum shmi_net_state { SHMI_NET_FREE = 0, SHMI_NET_OPEN = 1, SHMI_NET_CLOSED = 2 };

struct shmi_net_owner_line {
  uint32_t state; /* enum shmi_net_state; published */
  uint32_t piece_bytes;
  uint64_t key; /* the handle's: a link that was closed and used again has another */
  uint8_t pad[SHMI_LINE - 16];
};

struct shmi_net_sender_line {
  uint32_t state; /* published */
  uint32_t pid;
  uint64_t process;
  uint8_t pad[SHMI_LINE - 16];
};

struct shmi_net_receiver_line {
  uint32_t emptied; /* pieces, on the circle; published */
  uint8_t pad[SHMI_LINE - 4];
};

/* How a piece's bytes travel: in the high half of its word. */
enum shmi_net_path {
  SHMI_NET_INLINED, /* the whole message is in `payload` */
  SHMI_NET_RING,    /* in the link's ring, at place number % SHMI_NET_PIECES */
  SHMI_NET_DIRECT,  /* within one process: struct shmi_direct_message (arena.h) */
  SHMI_NET_PATHS
};

struct shmi_net_piece {
  uint64_t word;  /* shmi_word(number, enum shmi_net_path); published */
  uint64_t bytes; /* of the message */
  uint8_t payload[SHMI_NET_INLINE];
};

struct shmi_net_link {
  struct shmi_net_owner_line owner;
  struct shmi_net_sender_line sender;
  struct shmi_net_receiver_line receiver;
  uint8_t gap[SHMI_LINE]; /* keeps that line out of what processors fetch ahead of the pieces */
  struct shmi_net_piece piece[SHMI_NET_PIECES];
};

SHMI_ASSERT_LAYOUT(sizeof(struct shmi_net_header) <= SHMI_PAGE);
SHMI_ASSERT_LAYOUT(sizeof(struct shmi_net_owner_line) == SHMI_LINE);
SHMI_ASSERT_LAYOUT(sizeof(struct shmi_net_sender_line) == SHMI_LINE);
SHMI_ASSERT_LAYOUT(sizeof(struct shmi_net_receiver_line) == SHMI_LINE);
SHMI_ASSERT_LAYOUT(sizeof(struct shmi_net_piece) == SHMI_NET_PIECE_LINE);
SHMI_ASSERT_LAYOUT(offsetof(struct shmi_net_piece, payload) % 16 == 0);

enum {
  SHMI_NET_LINK_BYTES = (sizeof(struct shmi_net_link) + SHMI_PAGE - 1) / SHMI_PAGE * SHMI_PAGE,
  SHMI_NET_RINGS_AT = SHMI_PAGE + SHMI_NET_LINKS * SHMI_NET_LINK_BYTES,
  SHMI_NET_ARENA_BYTES = SHMI_NET_RINGS_AT + SHMI_NET_LINKS * SHMI_NET_RING_MOST,
};

static inline size_t shmi_net_link_at(int link) { return SHMI_PAGE + (size_t)link * SHMI_NET_LINK_BYTES; }
static inline size_t shmi_net_ring_at(int link) { return SHMI_NET_RINGS_AT + (size_t)link * SHMI_NET_RING_MOST; }

#endif
