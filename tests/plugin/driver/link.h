/*
 * link.h - one connection of one rank, as NCCL's net transport drives it: three rings of eight steps (LL, LL128,
 * Simple) in host memory, a proxy that calls the plugin, and a stand-in for the GPU kernel at the other side of the
 * rings.
 *
 * The kernel writes the steps to be sent and reads those received; for LL and LL128 it polls the flags in the receive
 * ring and looks at the data at once, before the plugin has reported anything. All bytes follow from the link's key and
 * the step's number, so both ends know what must arrive; the rest of each receive step must stay as it was.
 *
 * Threads: setup and close belong to the service thread, the proxy to the progress thread, the kernel to a third.
 */
#ifndef DRIVER_LINK_H
#define DRIVER_LINK_H

#include "world.h"

struct op {
  int protocol;
  unsigned slice, nsteps, style;
  uint64_t base;
};

/* Where a thread is in the link's list of operations. */
struct cursor {
  unsigned index;
  struct op op;
  unsigned posted, moved, done;
};

/* What the plugin refused first, if anything. */
struct failure {
  uint32_t set;
  char text[256];
};

enum link_thread { LINK_SERVICE, LINK_PROXY };
enum link_state { LINK_WAITING, LINK_PENDING, LINK_READY, LINK_CLOSED };

struct link {
  struct world *world;
  const struct nccl_comm *comm;
  int comm_index, self, peer, lane;
  bool sends, lazy, simple_only;
  unsigned nops;
  uint64_t key;
  struct harness_random service_random, proxy_random, kernel_random;

  enum link_state state; /* the service thread's */
  uint32_t ready;        /* published to the other threads */
  uint8_t handle[NCCL_NET_HANDLE_MAXSIZE];
  void *listen, *connection;
  uint8_t *memory, *ring[NCCL_PROTOS];
  void *mhandles[NCCL_PROTOS];

  /* The memory that proxy and kernel share, named as seen by NCCL. */
  uint64_t head, tail;
  uint64_t fifo_size[NCCL_STEPS]; /* plus one; 0: none */
  uint32_t kernel_finished, proxy_finished;

  struct cursor proxy, kernel;
  void *requests[NCCL_STEPS];
  bool clean;             /* the step to be posted next is poisoned already */
  size_t line;            /* of the step that the kernel is at */
  uint64_t line_since_ns; /* it waits for that one; 0: it does not wait */

  struct failure failures[2]; /* of each thread that calls the plugin */
};

/* Each returns whether it got anywhere. A refusal of the plugin is left in l->failures. */
bool link_advance_setup(struct link *l);
bool link_advance_proxy(struct link *l);
bool link_advance_kernel(struct link *l);

void link_close(struct link *l);
bool link_finished(const struct link *l);
/* A registration of other memory while the proxy is at work, and its end. */
void *link_register(struct link *l, void *data, size_t size);
void link_unregister(struct link *l, void *mhandle);

#endif
