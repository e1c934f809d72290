/*
 * internal.h - what the files of the stand-in share.
 *
 * Locks, each held for a few lines and, where two are needed, taken in this order: capture, event, streams' list,
 * stream, kernels, memory, queue. The threads that do a stream's work take none of them while they work, but to give
 * memory back, so that under ThreadSanitizer two pieces of work are ordered by what CUDA orders and by nothing else.
 */
#ifndef STANDIN_INTERNAL_H
#define STANDIN_INTERNAL_H

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cuda.h>

#include "cudart_standin.h"

#define LENGTH(array) (sizeof(array) / sizeof *(array))

/* ---- options.c: the environment, read once ----------------------------------------------------------------------- */

enum { SI_MAX_DEVICES = 16, SI_PCI_BUS_FIRST = 0x10, SI_SHARED_BYTES = 48 << 10 };

struct si_options {
  int devices, major, minor, p2p, host_alias, one_queue, free_waits, memory_ops, stats, log;
  size_t memory, pinned_limit; /* bytes */
  unsigned delay_us;
  uint64_t seed;
  const char *name, *kernels, *fail; /* NULL if not given */
};
const struct si_options *si_options(void);

/* Level 0 is always printed; 1: errors and oddities, 2: every call (STANDIN_LOG). */
void si_say(int level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* For what a test tool cannot go on after: out of memory, a bad setting. */
_Noreturn void si_die(const char *format, ...) __attribute__((format(printf, 1, 2)));
void *si_alloc(size_t bytes); /* zeros; dies rather than fails */
void *si_copy_of(const void *p, size_t bytes);

/* ---- entry.c: every CUDA function begins with one of these ------------------------------------------------------- */

struct si_call {
  const char *name;
  unsigned long count;
  struct si_call *next;
  bool listed;
};

/* UNSAFE: forbidden during a capture. ANY: works on a broken device and in host functions too. */
enum { SAFE, UNSAFE, ANY };
cudaError_t si_enter(struct si_call *call, int flags);

#define ENTER_(flags, function, type, fail)                                                                            \
  do {                                                                                                                 \
    static struct si_call call_ = {.name = function};                                                                  \
    cudaError_t error_ = si_enter(&call_, flags);                                                                      \
    if (error_ != cudaSuccess) return (type)fail(error_);                                                              \
  } while (0)
#define ENTER(flags) ENTER_(flags, __func__, cudaError_t, si_fail)
/* In a function standin_cuSomething. Since CUDA 10.1 the error numbers are those of the runtime API. */
#define ENTER_DRIVER(flags) ENTER_(flags, __func__ + sizeof "standin_" - 1, CUresult, )
#define NEED(condition, error)                                                                                         \
  do {                                                                                                                 \
    if (!(condition)) return si_fail(error);                                                                           \
  } while (0)
#define TRY(call)                                                                                                      \
  do {                                                                                                                 \
    cudaError_t error_ = (call);                                                                                       \
    if (error_ != cudaSuccess) return si_fail(error_);                                                                 \
  } while (0)

/* ---- error.c
 * --------------------------------------------------------------------------------------------------------- */

cudaError_t si_fail(cudaError_t error); /* remembers it for cudaGetLastError and returns it */
void si_unbreak(int device);

extern _Thread_local bool si_in_host_function;

/* ---- device.c
 * -------------------------------------------------------------------------------------------------------- */

extern _Thread_local int si_device; /* the current one */
bool si_valid_device(int device);
int si_attribute(int attribute, int device);

/* ---- queue.c: work in order -------------------------------------------------------------------------------------- */

typedef cudaError_t si_work_fn(void *arg); /* arg: the copied argument */

struct si_queue;
/* Everything in that queue up to here; queue NULL: nothing. */
struct si_position {
  struct si_queue *queue;
  uint64_t at;
};

struct si_queue *si_queue_take(int device); /* for a new stream */
void si_queue_give_back(struct si_queue *queue);
struct si_position si_queue_push(struct si_queue *queue, int device, si_work_fn *run, const void *arg, size_t bytes,
                                 bool always);
bool si_reached(struct si_position position);
void si_wait(struct si_position position);

/* ---- stream.c
 * -------------------------------------------------------------------------------------------------------- */

struct si_nodes {
  struct CUgraphNode_st **list;
  size_t n;
};

/* Never freed, so that a stale handle is told from a living one. */
struct CUstream_st {
  struct CUstream_st *next;
  struct si_queue *queue;
  int device, priority;
  unsigned flags;
  unsigned long long id;
  bool alive; /* atomic */
  bool internal;
  pthread_mutex_t lock;
  struct si_position last;    /* of its newest work; under lock */
  struct si_capture *capture; /* this and deps: capture.c, under its lock */
  struct si_nodes deps;
};

cudaError_t si_stream(cudaStream_t handle, struct CUstream_st **stream); /* what a handle stands for */
struct CUstream_st *si_stream_new(int device, unsigned flags, int priority, bool internal);
void si_stream_end(struct CUstream_st *stream);
bool si_is_legacy(const struct CUstream_st *stream);

/* Past any capture. `always`: also on a broken device, for housekeeping. */
struct si_position si_push(struct CUstream_st *stream, si_work_fn *run, const void *arg, size_t bytes);
struct si_position si_push_always(struct CUstream_st *stream, si_work_fn *run, const void *arg, size_t bytes);
void si_push_wait(struct CUstream_st *stream, struct si_position position);
struct si_position si_end_of(struct CUstream_st *stream);
void si_order_with_legacy(struct CUstream_st *stream);

/* Runs it or, if the stream captures, makes a node of it; then where->queue is NULL. */
cudaError_t si_submit(cudaStream_t handle, enum cudaGraphNodeType type, si_work_fn *run, const void *arg, size_t bytes,
                      struct si_position *where);
cudaError_t si_device_wait(int device);
/* Now if nothing is under way on the device, otherwise after what is; does not wait for it. */
void si_after_device(int device, si_work_fn *run, void *arg, size_t bytes);

struct si_host_call {
  cudaHostFn_t fn;
  void *arg;
};
cudaError_t si_run_host_call(void *arg);
void si_stream_stats(struct standin_stats *stats);

/* ---- event.c
 * --------------------------------------------------------------------------------------------------------- */

struct CUevent_st {
  struct CUevent_st *next; /* among the destroyed */
  int references;
  bool alive; /* atomic */
  int device;
  unsigned flags;
  uint64_t when_ns; /* atomic */
  pthread_mutex_t lock;
  struct si_position where;      /* of the latest record */
  unsigned long long capture_id; /* not 0: recorded in that capture */
  struct si_nodes deps;
};

void si_event_keep(cudaEvent_t event);
void si_event_drop(cudaEvent_t event);
bool si_event_alive(cudaEvent_t event);
void si_push_record(struct CUstream_st *stream, cudaEvent_t event);
void si_push_event_wait(struct CUstream_st *stream, cudaEvent_t event);
cudaError_t si_record(cudaEvent_t event, cudaStream_t handle, unsigned flags);
long si_event_count(void);

/* ---- memory.c
 * -------------------------------------------------------------------------------------------------------- */

enum si_range_kind { SI_DEVICE, SI_PINNED, SI_MANAGED, SI_SYMBOL };
struct si_range {
  char *base;  /* as the host sees it */
  char *alias; /* as the device sees it; the same unless STANDIN_HOST_ALIAS */
  size_t bytes, mapped;
  enum si_range_kind kind;
  bool registered; /* the caller's own memory */
  int device;
  unsigned flags;
};
bool si_find(const void *p, struct si_range *range); /* by host or device address */
bool si_host_can_use(const void *p);
bool si_was_freed(const void *p); /* not long ago */
/* Why a kernel of that device could not use the address `p`, or NULL: it can, or it is no address at all. */
const char *si_bad_address(uint64_t p, int device);
void si_add_symbol(void *p, size_t bytes);
cudaError_t si_allocate(void **p, size_t bytes, enum si_range_kind kind, unsigned flags);
cudaError_t si_release_now(void *p);
void si_memory_stats(struct standin_stats *stats);

/* ---- copy.c
 * ---------------------------------------------------------------------------------------------------------- */

cudaError_t si_copy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream, bool wait);
void si_copy_stats(struct standin_stats *stats);

/* ---- capture.c
 * ------------------------------------------------------------------------------------------------------- */

cudaError_t si_capture_forbids(void); /* the error that an unsafe call must return now */
bool si_capturing(struct CUstream_st *stream);
bool si_captured(struct CUstream_st *stream, enum cudaGraphNodeType type, si_work_fn *run, const void *arg,
                 size_t bytes, cudaError_t *result);
bool si_captured_record(struct CUstream_st *stream, cudaEvent_t event, unsigned flags, cudaError_t *result);
bool si_captured_wait(struct CUstream_st *stream, cudaEvent_t event, unsigned flags, cudaError_t *result);
cudaError_t si_no_capture(struct CUstream_st *stream); /* an error, and the capture is lost, if the stream captures */
void si_capture_leave(struct CUstream_st *stream);
bool si_blocking_capture(int device, bool lose); /* a blocking stream of the device is capturing */

/* ---- graph.c, exec.c, user_object.c
 * ---------------------------------------------------------------------------------- */

struct CUgraphNode_st {
  struct CUgraph_st *graph;
  enum cudaGraphNodeType type;
  si_work_fn *run;
  void *arg;
  size_t arg_bytes;
  void **parameters; /* KERNEL: what cudaGraphKernelNodeGetParams gave out */
  cudaEvent_t event;
  struct si_nodes deps;
  bool captured;
  size_t index;
};

struct si_objects {
  struct {
    struct CUuserObject_st *object;
    unsigned n;
  } * list;
  size_t n;
};
void si_objects_copy(struct si_objects *to, const struct si_objects *from); /* holds as many references again */
void si_objects_release(struct si_objects *all);

struct CUgraph_st {
  struct si_nodes nodes;
  struct si_objects objects;
};

struct CUgraphNode_st *si_node(struct CUgraph_st *graph, enum cudaGraphNodeType type, const cudaGraphNode_t *deps,
                               size_t ndeps);
struct CUgraphNode_st *si_work_node(struct CUgraph_st *graph, enum cudaGraphNodeType type, const cudaGraphNode_t *deps,
                                    size_t ndeps, si_work_fn *run, const void *arg, size_t bytes);
void si_node_set_work(struct CUgraphNode_st *node, si_work_fn *run, const void *arg, size_t bytes);
void si_node_clear(struct CUgraphNode_st *node);
void si_nodes_set(struct si_nodes *to, const cudaGraphNode_t *list, size_t n);
void si_nodes_add(struct si_nodes *to, cudaGraphNode_t node);
bool si_nodes_reach(const struct si_nodes *from, cudaGraphNode_t node); /* it is one of them or before one */
struct CUgraph_st *si_graph_new(void);
void si_graph_drop(struct CUgraph_st *graph);
long si_graph_count(void);
long si_exec_count(void);

/* ---- kernel.c, launch.c
 * ---------------------------------------------------------------------------------------------- */

struct si_kernel; /* what cudaKernel_t, cudaFunction_t and CUfunction point to */
struct si_kernel *si_kernel_of(const void *symbol);
const void *si_kernel_symbol(const struct si_kernel *kernel);
const char *si_kernel_name(const struct si_kernel *kernel);
size_t si_kernel_shared_most(const struct si_kernel *kernel);
const struct standin_kernel *si_implementation(struct si_kernel *kernel);

struct si_config {
  dim3 grid, block;
  size_t shared;
  cudaStream_t stream;
};
cudaError_t si_launch(struct si_kernel *kernel, const struct si_config *config, void **parameters, void **extra);
/* A launch as the argument of a piece of work, in new memory. */
cudaError_t si_prepare_launch(const struct cudaKernelNodeParams *parameters, void **work, size_t *bytes);
si_work_fn si_run_launch;
void si_check_launch(void *work); /* just before it is pushed: do its addresses mean device memory? */
void si_describe_launch(void *work, struct cudaKernelNodeParams *parameters, void **addresses);
unsigned long si_kernel_count(void);

/* ---- driver.c, memory_ops.c
 * ------------------------------------------------------------------------------------------ */

struct si_driver_function {
  const char *name;
  unsigned version; /* the oldest with this signature */
  void (*function)(void);
};
/* The type in cudaTypedefs.h checks the signature of standin_<name>. */
#define SI_DRIVER_FUNCTION(name, version)                                                                              \
  { #name, version, _Generic(&standin_##name, PFN_##name##_v##version : (void (*)(void)) & standin_##name) }
extern const struct si_driver_function si_memory_ops[]; /* ends with a name that is NULL */

#endif
