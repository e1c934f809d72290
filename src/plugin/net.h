/*
 * net.h - the network: one implementation, which net_tables.c offers to NCCL in its five versions.
 *
 * listen makes a link and its handle; connect, at the other end, becomes its sender; accept its receiver. None of them
 * waits. isend and irecv note a message; it moves within them and within test, on the thread that calls, at most
 * SHARE bytes a call. They make no system call and take no memory; only a wait in vain asks the kernel now and then
 * whether the peer lives.
 *
 * Messages of device memory go through the ring as well, by the GPU's copy engines (mem/mover.h): a piece is given to
 * the connection's track, and published, or given back to the sender, when the track has done it.
 *
 * Threads: isend, irecv and test of one connection by one thread at a time; register and deregister by any, at any
 * time; the others by any, but not while the connection is in use. After an error a connection returns it for ever.
 */
#ifndef SHMI_PLUGIN_NET_H
#define SHMI_PLUGIN_NET_H

#include "comm/distance.h"
#include "mem/mover.h"
#include "plugin/arena.h"
#include "plugin/context.h"
#include "plugin/registry.h"

struct shmi_net_comm;

/* One message; what NCCL calls a request. */
struct shmi_net_request {
  struct shmi_net_comm *comm;
  enum { SHMI_REQUEST_FREE, SHMI_REQUEST_POSTED, SHMI_REQUEST_MOVED } state;
  enum shmi_net_path path;
  int is_on_device;
  uint8_t *data;       /* of a send: only read */
  size_t bytes;        /* of a receive: what may come, then what did */
  size_t begun, moved; /* begun: given to the track, or moved */
  uint32_t number;     /* of its last piece */
};

enum shmi_net_kind { SHMI_NET_LISTENER = 0x6c697374, SHMI_NET_SENDER = 0x73656e64, SHMI_NET_RECEIVER = 0x72656376 };

struct shmi_net_listener {
  enum shmi_net_kind kind;
  struct shmi_context *context;
  struct shmi_arena *arena;
  int link;
  int is_listening;     /* until accepted or closed */
  uint64_t deadline_ns; /* of accept; 0: not called yet */
};

struct shmi_net_comm {
  enum shmi_net_kind kind;
  int is_within; /* the peer is in this process */
  int is_direct; /* and its messages are copied from buffer to buffer */
  struct shmi_net_link *link;
  uint8_t *ring;
  size_t piece_bytes;
  uint32_t posted, begun, moved; /* messages, on the circle; between `moved` and `begun`: all of it is with the track */
  uint32_t pieces;               /* published or taken out so far */
  uint32_t pieces_begun;         /* or given to the track */
  uint32_t emptied;              /* sender: by the receiver, as last seen */
  struct shmi_distance distance; /* sender: of the receiver's core */
  uint64_t checked_ns;           /* when the peer was last looked at; 0: not in this wait */
  uint64_t watched_ns;           /* sender: when the receiver's progress was last looked at, */
  uint32_t watched;              /* and what was emptied then */
  shmccl_result_t failed;
  struct shmi_counters counters;
  struct shmi_context *context;
  struct shmi_arena *arena;
  int link_index;
  struct shmi_registry registry;
  struct shmi_track *track;                                /* once device memory is registered: then the ring is, too */
  uint32_t track_done;                                     /* copies of it that were looked after */
  struct shmi_net_request requests[NCCL_NET_MAX_REQUESTS]; /* message i is in i % NCCL_NET_MAX_REQUESTS */
};

/* ---- net_connect.c ---- */

/* Writes NCCL_NET_HANDLE_BYTES bytes to handle. The context's hold passes to the object. */
shmccl_result_t shmi_net_listen(struct shmi_context *context, void *handle, struct shmi_net_listener **listener);
shmccl_result_t shmi_net_connect(struct shmi_context *context, const void *handle, struct shmi_net_comm **sender);
/* *receiver NULL: nobody has connected yet. */
shmccl_result_t shmi_net_accept(struct shmi_net_listener *listener, struct shmi_net_comm **receiver);
void shmi_net_close_listener(struct shmi_net_listener *listener);
/* Also with messages under way, which end here. */
void shmi_net_close(struct shmi_net_comm *comm);

/* ---- net_device.c ---- */

/* Before device memory is registered with the connection. */
shmccl_result_t shmi_net_use_device(struct shmi_net_comm *comm, const void *memory);
/* False: the GPU still copies from or to the ring, which must be left alone for ever. */
bool shmi_net_leave_device(struct shmi_net_comm *comm);

/* ---- net_transfer.c ---- */

/* *request NULL: all requests are in use, try again. */
shmccl_result_t shmi_net_isend(struct shmi_net_comm *sender, void *data, size_t bytes, const void *mhandle,
                               struct shmi_net_request **request);
shmccl_result_t shmi_net_irecv(struct shmi_net_comm *receiver, void *data, size_t bytes, const void *mhandle,
                               struct shmi_net_request **request);
/* *bytes (may be NULL): with *done, how many there were. The request is free then. */
shmccl_result_t shmi_net_test(struct shmi_net_request *request, int *done, size_t *bytes);

#endif
