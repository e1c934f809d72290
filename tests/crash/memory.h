/*
 * memory.h - whose memory the calls of a work use: host_memory.c or device_memory.c is linked.
 *
 * Calls are made on twins of the arrays of results.h; on host memory the twins are the arrays
 * themselves. On a device a call is complete when its stream is, and right if the communicator then has no error.
 */
#ifndef CRASH_MEMORY_H
#define CRASH_MEMORY_H

#include "crash/work.h"

/* The works of engine.c, in this order. Those from WORKS on, if the memory has them, are the calls again, captured and
 * replayed. */
enum work {
  ALLREDUCE,
  ALLREDUCE_TWO_SHOT,
  ALLGATHER,
  REDUCE_SCATTER,
  BROADCAST,
  REDUCE,
  ALLTOALL,
  GATHER,
  SCATTER,
  BARRIER,
  SEND_RECV,
  GROUP,
  LIFE,
  SPLIT,
  WORKS
};
#define CALL_NAMES(after)                                                                                              \
  "allreduce" after, "allreduce, two-shot" after, "allgather" after, "reduce_scatter" after, "broadcast" after,        \
      "reduce" after, "alltoall" after, "gather" after, "scatter" after, "barrier" after, "send, recv" after,          \
      "group of send, recv" after
#define WORK_NAMES CALL_NAMES(""), "init, finalize, destroy", "split"

enum { SMALL = 5, LARGE = 5000 };

struct buffers {
  int32_t *in, *out; /* [RANKS_MOST * LARGE] */
  void *stream;
};

extern const shmccl_memory_t memory_kind;
extern const size_t memory_staging_bytes;

/* The twins of the arrays of results.h. */
struct buffers memory_open(int rank);
/* After the communicator's end: nothing of it may be left on the device, and a new one must work there, unless the
 * device is broken. */
void memory_close(void);
/* Whether a captured kernel has given up. */
bool memory_is_broken(void);

/* Calls `enqueue`, which calls the library, once or as a replayed graph, and waits for what it enqueued; then asks for
 * the communicator's state. The arrays are twins before it and, if it succeeds, after it. On host memory the call's
 * result is all. */
typedef shmccl_result_t (*enqueue_fn)(const void *context, size_t count);
typedef shmccl_result_t (*state_fn)(const void *context);
shmccl_result_t memory_run(bool captured, enqueue_fn enqueue, state_fn state, const void *context, size_t count);

#endif
