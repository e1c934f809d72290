/*
 * layout.h - the data that NCCL's host code hands to its kernels, as far as their emulation looks at it.
 *
 * These structs belong to one version of NCCL each: NCCL_MINOR is 28 (2.28.9) or 30 (2.30.7). Their sizes and offsets
 * are pinned below and compared by check_layout.sh with the debugging information of the libnccl.so.2 under test, where
 * it has any. Whatever the emulation never reads is a pad.
 */
#ifndef STANDIN_NCCL_LAYOUT_H
#define STANDIN_NCCL_LAYOUT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { STEPS = 8, MAX_CHANNELS = 64, TREE_ARITY = 3, DIRECT_ARITY = 7 };
enum protocol { LL, LL128, SIMPLE, PROTOCOLS };

/* ---- connections ------------------------------------------------------------------------------------------------- */

/* What the kernel tells the proxy about a step, and the proxy about its place. */
struct fifo_slot {
  int mode; /* 1: the slot begins at `offset`, else at its step's place */
  int offset;
  ssize_t size;
  void *ptr;
};

/* One direction of a connection. */
struct conn {
  char *buffs[PROTOCOLS];
  void *mhandles[PROTOCOLS];
  uint64_t *tail, *head; /* steps sent: written by the sender; steps consumed: by the receiver */
  int flags, shared, step_bytes;
  void *ptr_exchange, *redop_arg_exchange;
  struct fifo_slot *fifo; /* where a proxy takes part */
  uint64_t step;          /* where the next kernel goes on */
  uint64_t ll_last_cleaning;
  char net_device_handle[32];
};

struct peer {
  struct conn send[2], recv[2];
};

/* ---- channels ---------------------------------------------------------------------------------------------------- */

struct tree {
  int depth, up, down[TREE_ARITY]; /* -1: none */
};

struct direct {
  int depth, out, nheads, head_rank, shift, heads[DIRECT_ARITY + 1], up[DIRECT_ARITY], down[DIRECT_ARITY];
};

struct channel {
  struct peer **peers;
  struct {
    int prev, next;
    int *user_ranks; /* in the order of the ring, this rank first */
#if NCCL_MINOR >= 30
    int *rank_to_index;
#endif
    int index;
  } ring;
  struct tree tree, collnet_chain;
  struct direct collnet_direct;
  char nvls[160];
  uint32_t *work_fifo_done;
  uint64_t work_counter;
} __attribute__((aligned(16)));

struct comm {
  int rank, nranks, node, nnodes, buff_bytes[PROTOCOLS], p2p_chunk_bytes, is_all_nvlink;
  int *dense_to_user_rank;
  uint32_t *abort_flag;
  struct channel *channels;
  int *rank_to_local_rank;
  void *work_started, *work_completed;
};

/* ---- work -------------------------------------------------------------------------------------------------------- */

/* One collective. The channels from channel_lo to channel_hi share it. */
struct work_coll {
  uint32_t channel_lo : 8, channel_hi : 8, nwarps : 8;
  uint32_t redop_arg_is_ptr : 1, reg_used : 1, net_reg_used : 1, one_node : 1, direct : 2, is_one_rank_per_node : 1,
      profiler : 1;
  uint32_t root;
#if NCCL_MINOR >= 30
  char pad_before[12];
  void *recvbuf, *sendbuf;
  uint64_t pad_after;
#else
  void *recvbuf, *sendbuf;
#endif
  uintptr_t send_offset, recv_offset, *send_remote, *recv_remote;
  union {
    struct { /* first, each middle and last channel: counts, and chunks in grains of the protocol */
      size_t lo, mid, hi;
      uint64_t grains_lo : 21, grains_mid : 21, grains_hi : 21;
    } split;
    struct {
      size_t count;
      uint32_t chunk;
    } collnet;
  };
  uint64_t redop_arg;
} __attribute__((aligned(16)));

/* One send and one receive; a part of each on every channel in turn. */
struct work_p2p {
  char *send_addr, *recv_addr;
  size_t send_bytes, recv_bytes;
  int send_rank, recv_rank;
  uint8_t nchannels, channel_base, send_channels, recv_channels, send_chunk_fp8, recv_chunk_fp8;
  uint8_t send_ll : 1, recv_ll : 1, send_net_reg : 1, recv_net_reg : 1, send_ipc_reg : 1, recv_ipc_reg : 1,
      profiler : 1;
} __attribute__((aligned(16)));

enum work_type { WORK_P2P, WORK_COLL, WORK_COLL_REGISTERED, WORK_BROADCAST };

/* Works of one function for one channel. The batches of all channels lie one after the other, each channel's linked. */
struct batch {
  uint32_t next_jump : 14, next_extends : 1, type : 2, function : 15;
  uint32_t offset_base;
  uint64_t offset_bits; /* one bit for each work from offset_base on */
};

struct kernel_args {
  struct comm *comm;
  uint64_t channel_mask;
  uint8_t storage; /* 0: works lie behind the batches, else in a ring of work_mask + 1 bytes at work_buf */
  uint32_t work_mask;
  char *work_buf;
};

/* ---- pins -------------------------------------------------------------------------------------------------------- */

/* X(our struct, our field, NCCL's struct, NCCL's field, offset in 2.28, in 2.30) */
#define LAYOUT_FIELDS(X)                                                                                               \
  X(fifo_slot, offset, ncclConnFifo, offset, 4, 4)                                                                     \
  X(fifo_slot, size, ncclConnFifo, size, 8, 8)                                                                         \
  X(conn, tail, ncclConnInfo, tail, 48, 48)                                                                            \
  X(conn, head, ncclConnInfo, head, 56, 56)                                                                            \
  X(conn, step_bytes, ncclConnInfo, stepSize, 72, 72)                                                                  \
  X(conn, fifo, ncclConnInfo, connFifo, 96, 96)                                                                        \
  X(conn, step, ncclConnInfo, step, 104, 104)                                                                          \
  X(peer, recv, ncclDevChannelPeer, recv, 304, 304)                                                                    \
  X(channel, ring, ncclDevChannel, ring, 8, 8)                                                                         \
  X(channel, tree, ncclDevChannel, tree, 32, 40)                                                                       \
  X(channel, collnet_chain, ncclDevChannel, collnetChain, 52, 60)                                                      \
  X(channel, collnet_direct, ncclDevChannel, collnetDirect, 72, 80)                                                    \
  X(channel, work_counter, ncclDevChannel, workCounter, 352, 360)                                                      \
  X(comm, buff_bytes, ncclKernelComm, buffSizes, 16, 16)                                                               \
  X(comm, p2p_chunk_bytes, ncclKernelComm, p2pChunkSize, 28, 28)                                                       \
  X(comm, abort_flag, ncclKernelComm, abortFlag, 48, 48)                                                               \
  X(comm, channels, ncclKernelComm, channels, 56, 56)                                                                  \
  X(work_coll, root, ncclDevWorkColl, root, 4, 4)                                                                      \
  X(work_coll, recvbuf, ncclDevWorkColl, recvbuff, 8, 24)                                                              \
  X(work_coll, sendbuf, ncclDevWorkColl, sendbuff, 16, 32)                                                             \
  X(work_coll, split, ncclDevWorkColl, cbd, 56, 80)                                                                    \
  X(work_coll, collnet, ncclDevWorkColl, collnet, 56, 80)                                                              \
  X(work_coll, redop_arg, ncclDevWorkColl, redOpArg, 88, 112)                                                          \
  X(work_p2p, send_rank, ncclDevWorkP2p, sendRank, 32, 32)                                                             \
  X(work_p2p, nchannels, ncclDevWorkP2p, nP2pChannels, 40, 40)                                                         \
  X(work_p2p, recv_chunk_fp8, ncclDevWorkP2p, recvChunkSize_u32fp8, 45, 45)                                            \
  X(batch, offset_base, ncclDevWorkBatch, offsetBase, 4, 4)                                                            \
  X(batch, offset_bits, ncclDevWorkBatch, offsetBitset, 8, 8)                                                          \
  X(kernel_args, channel_mask, ncclDevKernelArgs, channelMask, 8, 8)                                                   \
  X(kernel_args, work_mask, ncclDevKernelArgs, workMask, 20, 20)                                                       \
  X(kernel_args, work_buf, ncclDevKernelArgs, workBuf, 24, 24)

/* X(our struct, NCCL's struct, size in 2.28, in 2.30) */
#define LAYOUT_STRUCTS(X)                                                                                              \
  X(fifo_slot, ncclConnFifo, 24, 24)                                                                                   \
  X(conn, ncclConnInfo, 152, 152)                                                                                      \
  X(peer, ncclDevChannelPeer, 608, 608)                                                                                \
  X(tree, ncclTree, 20, 20)                                                                                            \
  X(direct, ncclDirect, 108, 108)                                                                                      \
  X(channel, ncclDevChannel, 368, 368)                                                                                 \
  X(work_coll, ncclDevWorkColl, 96, 128)                                                                               \
  X(work_p2p, ncclDevWorkP2p, 48, 48)                                                                                  \
  X(batch, ncclDevWorkBatch, 16, 16)                                                                                   \
  X(kernel_args, ncclDevKernelArgs, 32, 32)

#if NCCL_MINOR == 28
#define PINNED(in_28, in_30) (in_28)
#else
#define PINNED(in_28, in_30) (in_30)
#endif
#define PIN_FIELD(ours, field, theirs, name, in_28, in_30)                                                             \
  _Static_assert(offsetof(struct ours, field) == PINNED(in_28, in_30), #theirs "." #name);
#define PIN_STRUCT(ours, theirs, in_28, in_30) _Static_assert(sizeof(struct ours) == PINNED(in_28, in_30), #theirs);
LAYOUT_FIELDS(PIN_FIELD)
LAYOUT_STRUCTS(PIN_STRUCT)
#undef PIN_FIELD
#undef PIN_STRUCT
#undef PINNED

#endif
