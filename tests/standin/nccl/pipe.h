/*
 * pipe.h - what one group of a kernel's warps drives: connections to receive from, connections to send to, and the one
 * operation that moves data from the user's buffer and the former to the user's buffer and the latter.
 *
 * Only what the host side sees is reproduced: the steps, their counters and sizes, the lines and flags of LL and LL128.
 * Waits end when the counter comes, the communicator's abort flag is set or the device is lost, as a kernel's do; never
 * otherwise.
 */
#ifndef STANDIN_NCCL_PIPE_H
#define STANDIN_NCCL_PIPE_H

#include <stdbool.h>

#include "arithmetic.h"

/* One block of the grid, which works for one channel. */
struct block {
  struct comm *comm;
  struct channel *channel;
  int channel_id, device;
};

/* Says what NCCL asks for and the emulation has not, and ends the process. */
_Noreturn void give_up(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Whether the kernel must leave: the communicator is aborted or the device lost. */
bool is_aborted(const struct block *b);

struct pipe_end {
  struct conn *conn;
  uint64_t step;
};

struct pipe {
  const struct block *block;
  enum protocol protocol;
  struct arithmetic arithmetic;
  size_t element_bytes;
  int slices, slice_steps; /* a chunk is moved in so many slices of so many steps each */
  size_t step_elements;
  int nrecv, nsend;
  struct pipe_end recv[TREE_ARITY], send[TREE_ARITY];
};

struct pipe_plan {
  const int *recv, *send; /* peers' ranks, at most so many, ended by -1 if they are fewer */
  int most_recv, most_send;
  int conn_index;
  int slices, slice_steps; /* of SIMPLE; the other protocols have one */
  size_t step_bytes;       /* of SIMPLE; 0: as usual */
};

/* `function` says what is moved: where it does not reduce, bytes. */
void pipe_open(struct pipe *p, const struct block *b, const struct function *function, uint64_t redop_argument,
               const struct pipe_plan *plan);
/* Leaves the steps to the next kernel. */
void pipe_close(struct pipe *p);

/* FROM_INPUT: `in` takes part. TO_OUTPUT: the result goes to `out` too. COMPLETE: it has everybody's input. */
enum { DO_RECV = 1, DO_SEND = 2, FROM_INPUT = 4, TO_OUTPUT = 8, COMPLETE = 16 };
/* One chunk of `elements` (below 0 counts as 0: an empty step that the peer awaits). Returns early if aborted. */
void pipe_move(struct pipe *p, unsigned what, const void *in, void *out, ssize_t elements);

#endif
