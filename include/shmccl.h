/*
 * shmccl.h - collectives between the GPUs and processes of one host through shared memory.
 *
 * Introduction
 *   Ranks of one host that cannot reach each other peer-to-peer exchange data through staging buffers in /dev/shm.
 *   Each rank creates one communicator object of the same communicator, then all ranks call the same collectives in
 *   the same order. The meaning of every call follows NCCL's call of the same name unless noted.
 *
 * A first program (compiled and run as a test: tests/examples/readme.c)
 *     shmccl_comm_t *comm;
 *     if (shmccl_comm_init_env(&comm, NULL) != SHMCCL_SUCCESS) return 1;      // under torchrun, mpirun or srun
 *     shmccl_allreduce(sendbuf, recvbuf, count, SHMCCL_FLOAT32, SHMCCL_SUM, comm, NULL);
 *     shmccl_comm_destroy(comm);
 *
 * Conventions
 *   Errors      Every call that can fail returns shmccl_result_t. The call that detects an error writes one line with
 *               its cause and remedy to stderr (SHMCCL_DEBUG=none silences it) and keeps it for shmccl_last_error().
 *               Result pointers are written on success only. After an error the contents of recvbuf are undefined.
 *   Threads     A communicator object is used by one thread at a time; different objects by different threads at once.
 *               Ranks may be processes or threads of one process. Exceptions: shmccl_comm_abort() and
 *               shmccl_comm_get_async_error() may be called from any thread at any time before the destroy.
 *   Host memory Calls are synchronous: on return recvbuf is complete and sendbuf may be reused. Pass NULL as stream.
 *   Device      On a communicator made with SHMCCL_MEMORY_CUDA (see shmccl_memory_t) buffers may be device memory of
 *   memory      its GPU, both or neither; `stream` is then a cudaStream_t of that GPU. The call enqueues its work and
 *               returns; buffers belong to it until the stream has passed it. Calls of one communicator run in the
 *               order in which they were made, on whatever streams. They may be captured into CUDA graphs, a
 *               call by all ranks or by none (of large calls ranks are told if they differ), and replayed any
 *               number of times, between other calls; replays of one communicator must not run at the same time as
 *               each other or as its eager calls: put them on one stream, or join the streams by events.
 *               What goes wrong in a kernel is reported by the next call and by shmccl_comm_get_async_error(); a kernel
 *               of a graph that gives up ends with a CUDA error instead, so that its result cannot pass as good.
 *               Every collective without buffers or elements is on the device if its stream is not NULL.
 *   Order       Collectives of one communicator are matched by their order. Every collective is also a meeting: no rank
 *               returns from it before all ranks have entered it (this is how ranks that disagree are told so).
 *               Send and recv are matched per pair of ranks, in order, independently of collectives.
 *   Ownership   The library never keeps a pointer to a user buffer after the call returns.
 *   Bounded     No call waits for ever: the death of a peer is reported within a second (of the kernel's taking down
 *               the process, core dump included), an absent peer after the communicator's time limit. The first
 *               error of a communicator is final: every later call on it returns an error at once, on all ranks.
 *               Destroy it and create another.
 *   Counts      `count` is in elements, any value from 0 up to buffers of 128 GiB; buffers need no alignment.
 *   Results     Reductions are a pure function of the inputs: the same bits on all ranks, in all runs, for every
 *               algorithm (docs/numerics.md).
 *   Fork        A communicator belongs to the process that created it; in a forked child every call on it fails.
 */
#ifndef SHMCCL_H
#define SHMCCL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32) || !defined(__GNUC__)
#define SHMCCL_API
#else
#define SHMCCL_API __attribute__((visibility("default")))
#endif

/* ---- version ------------------------------------------------------------------------------------------------- */

#define SHMCCL_VERSION_MAJOR 0
#define SHMCCL_VERSION_MINOR 1
#define SHMCCL_VERSION_PATCH 0
/* Encoded as NCCL encodes its own: major * 10000 + minor * 100 + patch. */
#define SHMCCL_VERSION_CODE (SHMCCL_VERSION_MAJOR * 10000 + SHMCCL_VERSION_MINOR * 100 + SHMCCL_VERSION_PATCH)

/* Returns SHMCCL_VERSION_CODE of the library that is loaded. Never fails. Since 0.1. */
SHMCCL_API int shmccl_version(void);

/* ---- results ------------------------------------------------------------------------------------------------- */

/* The numbers are fixed for ever; new codes are added at the end. */
typedef enum shmccl_result {
  SHMCCL_SUCCESS = 0,
  SHMCCL_ERROR_INVALID_ARGUMENT = 1, /* this call's arguments; the communicator stays usable */
  SHMCCL_ERROR_INVALID_USAGE = 2,    /* a call that is not allowed here; the communicator stays usable */
  SHMCCL_ERROR_SYSTEM = 3,           /* a system call failed */
  SHMCCL_ERROR_NO_SPACE = 4,         /* /dev/shm is too small or full */
  SHMCCL_ERROR_NO_MEMORY = 5,        /* malloc failed */
  SHMCCL_ERROR_TIMEOUT = 6,          /* a rank did not come within the time limit */
  SHMCCL_ERROR_PEER_DIED = 7,        /* a rank's process ended, or it destroyed its communicator too early */
  SHMCCL_ERROR_MISMATCH = 8,  /* ranks disagree: collective, count, type, operator, root, number of ranks, version */
  SHMCCL_ERROR_ABORTED = 9,   /* shmccl_comm_abort() was called on some rank */
  SHMCCL_ERROR_INTERNAL = 10, /* a defect of this library: please report it */
  SHMCCL_ERROR_CUDA = 11      /* a call of CUDA failed, or the GPU did */
} shmccl_result_t;

/* A short fixed text for `result`, such as "invalid argument". Never NULL; static storage. Since 0.1. */
SHMCCL_API const char *shmccl_error_string(shmccl_result_t result);

/* The line that the calling thread's last failed call logged, with cause and remedy; "" if none failed yet.
 * Valid until the thread's next failing call. Since 0.1. */
SHMCCL_API const char *shmccl_last_error(void);

/* ---- types and operators --------------------------------------------------------------------------------------- */

/* Numbered as ncclDataType_t. fp8 types as in the OCP 8-bit floating point specification. */
typedef enum shmccl_datatype {
  SHMCCL_INT8 = 0,
  SHMCCL_UINT8 = 1,
  SHMCCL_INT32 = 2,
  SHMCCL_UINT32 = 3,
  SHMCCL_INT64 = 4,
  SHMCCL_UINT64 = 5,
  SHMCCL_FLOAT16 = 6,
  SHMCCL_FLOAT32 = 7,
  SHMCCL_FLOAT64 = 8,
  SHMCCL_BFLOAT16 = 9,
  SHMCCL_FLOAT8E4M3 = 10,
  SHMCCL_FLOAT8E5M2 = 11
} shmccl_datatype_t;
#define SHMCCL_DATATYPE_COUNT 12

/* Numbered as ncclRedOp_t. SHMCCL_AVG is the sum divided by the number of ranks. */
typedef enum shmccl_redop {
  SHMCCL_SUM = 0,
  SHMCCL_PROD = 1,
  SHMCCL_MAX = 2,
  SHMCCL_MIN = 3,
  SHMCCL_AVG = 4
} shmccl_redop_t;
#define SHMCCL_REDOP_COUNT 5

/* Size of one element in bytes; 0 for a value that is no datatype. Since 0.1. */
SHMCCL_API size_t shmccl_datatype_size(shmccl_datatype_t datatype);

/* ---- communicators --------------------------------------------------------------------------------------------- */

/* One rank's object of a communicator. Opaque. */
typedef struct shmccl_comm shmccl_comm_t;

/* The most ranks that one communicator can have. */
#define SHMCCL_MAX_RANKS 64

/* Names one communicator; made by one rank and given to the others as 128 plain bytes, by whatever means. */
typedef struct shmccl_unique_id {
  char internal[128];
} shmccl_unique_id_t;

/* How collectives move data. The algorithm never changes a result's bits. */
typedef enum shmccl_algorithm {
  SHMCCL_ALGORITHM_AUTO = 0,     /* by size and number of ranks */
  SHMCCL_ALGORITHM_ONE_SHOT = 1, /* every rank reads all ranks' data: one exchange */
  SHMCCL_ALGORITHM_TWO_SHOT = 2  /* every rank reduces its share, then all collect the shares: two exchanges */
} shmccl_algorithm_t;

/* What memory a communicator moves, besides that of the host. */
typedef enum shmccl_memory {
  SHMCCL_MEMORY_AUTO = 0, /* as CUDA if every rank's process uses a GPU already, else as HOST */
  SHMCCL_MEMORY_HOST = 1,
  SHMCCL_MEMORY_CUDA = 2 /* also device memory, of the GPU that the creating thread uses (init_all: GPU rank % GPUs) */
} shmccl_memory_t;

/* Options of one communicator. Start from SHMCCL_CONFIG_INITIALIZER: zero means "the default", which the environment
 * variable named beside the field can change. All ranks must pass the same values; disagreement is an error at init.
 * The struct grows at its end only; `size` tells the library which version the caller was compiled with. */
typedef struct shmccl_config {
  size_t size;                  /* sizeof(shmccl_config_t) */
  uint64_t timeout_ms;          /* time limit of every wait for a live peer; SHMCCL_TIMEOUT_MS; default 600000 */
  uint64_t staging_bytes;       /* most staging of all ranks together; SHMCCL_STAGING_BYTES; default and limit 64 MiB */
  uint64_t chunk_bytes;         /* most bytes staged by a rank in one step; SHMCCL_CHUNK_BYTES; default by size */
  shmccl_algorithm_t algorithm; /* SHMCCL_ALGORITHM (auto, one-shot, two-shot); default auto */
  shmccl_memory_t memory;       /* SHMCCL_MEMORY (auto, host, cuda); default auto */
} shmccl_config_t;
#define SHMCCL_CONFIG_INITIALIZER                                                                                      \
  { sizeof(shmccl_config_t), 0, 0, 0, SHMCCL_ALGORITHM_AUTO, SHMCCL_MEMORY_AUTO }

/* Makes a new id from random bits. Called by one rank; the others get its bytes. It also says which version of the
 * library made it, on which host and with which segment folder: ranks that differ in that are refused at once, not
 * after the time limit. An id serves one communicator; it may be used again once all ranks of that one have been
 * created. Since 0.1. */
SHMCCL_API shmccl_result_t shmccl_get_unique_id(shmccl_unique_id_t *id);

/* Creates this rank's object of the communicator `id` and waits for the others (collective; time limit config's).
 * nranks: 1..SHMCCL_MAX_RANKS; rank: 0..nranks-1, each once. config: NULL for defaults. All ranks must run on this
 * host, as this user, with the same /dev/shm (SHMCCL_SHM_DIR overrides the folder). The caller owns *comm and gives it
 * back with shmccl_comm_destroy(). Since 0.1. */
SHMCCL_API shmccl_result_t shmccl_comm_init_rank(shmccl_comm_t **comm, int nranks, const shmccl_unique_id_t *id,
                                                 int rank, const shmccl_config_t *config);

/* The same with rank, nranks and id from the environment: torchrun (RANK, WORLD_SIZE, ...), Open MPI and MPICH
 * (mpirun), Slurm (srun), or SHMCCL_RANK, SHMCCL_NRANKS and SHMCCL_ID set by hand; SHMCCL_ID alone replaces only the
 * id. The id is derived from the user, the launcher's job id and its restart count, and from how many times
 * this process has called it before, so all ranks must call it equally often. Refuses (invalid usage) an
 * environment that shows no launcher or a job of several hosts. Since 0.1. */
SHMCCL_API shmccl_result_t shmccl_comm_init_env(shmccl_comm_t **comm, const shmccl_config_t *config);

/* Creates all nranks objects of a new communicator in one call, for ranks that are threads of this process:
 * comms[0..nranks-1] are written, comms[i] being rank i. On failure none is. Since 0.1. */
SHMCCL_API shmccl_result_t shmccl_comm_init_all(shmccl_comm_t **comms, int nranks, const shmccl_config_t *config);

/* Pass as color to shmccl_comm_split() to take part without joining a new communicator: *newcomm becomes NULL. */
#define SHMCCL_SPLIT_NOCOLOR (-1)

/* Divides `comm` (collective): the ranks that pass the same color (>= 0) form a new communicator, ordered by key, then
 * by rank in comm. config: NULL takes over comm's options. comm stays usable, and may be destroyed first. Since 0.1. */
SHMCCL_API shmccl_result_t shmccl_comm_split(shmccl_comm_t *comm, int color, int key, shmccl_comm_t **newcomm,
                                             const shmccl_config_t *config);

/* Waits until all ranks have called it (collective), with device memory also for the whole device. Afterwards every
 * call but the destroy and the queries is an error, and no rank can still need another: processes may end in any order
 * without being reported as dead. Since 0.1. */
SHMCCL_API shmccl_result_t shmccl_comm_finalize(shmccl_comm_t *comm);

/* Frees this rank's object. Local: does not wait. The shared memory goes with the last rank's object, since peers may
 * still be reading. NULL is accepted. A rank that still waits for this one in a collective gets SHMCCL_ERROR_PEER_DIED.
 * In a forked child it frees the child's copy only. Kernels that were enqueued before go on to their end: what they
 * need is freed behind them, which destroy waits for some 200 ms and then leaves to a thread. Since 0.1. */
SHMCCL_API shmccl_result_t shmccl_comm_destroy(shmccl_comm_t *comm);

/* Makes every present and future call on the communicator return SHMCCL_ERROR_ABORTED, on all ranks. From any thread.
 * Does not free: each rank still calls shmccl_comm_destroy() after its calls have returned. Since 0.1. */
SHMCCL_API shmccl_result_t shmccl_comm_abort(shmccl_comm_t *comm);

/* Writes to *state the error that the communicator is in (also one found by another rank), SHMCCL_SUCCESS if none.
 * Looks at peers: a dead one is seen here too. From any thread. Since 0.1. */
SHMCCL_API shmccl_result_t shmccl_comm_get_async_error(shmccl_comm_t *comm, shmccl_result_t *state);

/* Queries; local, valid until destroy. Since 0.1. */
SHMCCL_API shmccl_result_t shmccl_comm_count(const shmccl_comm_t *comm, int *nranks);
SHMCCL_API shmccl_result_t shmccl_comm_user_rank(const shmccl_comm_t *comm, int *rank);

/* ---- collectives ----------------------------------------------------------------------------------------------- */
/* n is the number of ranks. "In place" names the one overlap of sendbuf and recvbuf that is allowed; any other overlap
 * is an invalid argument. Buffers of 0 elements may be NULL. All ranks pass the same count, datatype, op, root and kind
 * of memory. */

/* recvbuf[i] = reduction over the ranks r of sendbuf_r[i], on every rank. Both have count elements.
 * In place: sendbuf == recvbuf. Since 0.1. */
SHMCCL_API shmccl_result_t shmccl_allreduce(const void *sendbuf, void *recvbuf, size_t count,
                                            shmccl_datatype_t datatype, shmccl_redop_t op, shmccl_comm_t *comm,
                                            void *stream);

/* recvbuf = the ranks' sendbufs one after the other, on every rank. sendbuf: sendcount; recvbuf: n * sendcount.
 * In place: sendbuf == recvbuf + rank * sendcount. Since 0.1. */
SHMCCL_API shmccl_result_t shmccl_allgather(const void *sendbuf, void *recvbuf, size_t sendcount,
                                            shmccl_datatype_t datatype, shmccl_comm_t *comm, void *stream);

/* Reduction as allreduce; rank r gets elements r * recvcount ... of it. sendbuf: n * recvcount; recvbuf: recvcount.
 * In place: recvbuf == sendbuf + rank * recvcount. Since 0.1. */
SHMCCL_API shmccl_result_t shmccl_reduce_scatter(const void *sendbuf, void *recvbuf, size_t recvcount,
                                                 shmccl_datatype_t datatype, shmccl_redop_t op, shmccl_comm_t *comm,
                                                 void *stream);

/* recvbuf = the root's sendbuf on every rank. sendbuf is read on the root only. In place on the root: sendbuf ==
 * recvbuf. Since 0.1. */
SHMCCL_API shmccl_result_t shmccl_broadcast(const void *sendbuf, void *recvbuf, size_t count,
                                            shmccl_datatype_t datatype, int root, shmccl_comm_t *comm, void *stream);

/* As allreduce, but only the root's recvbuf is written; the others' may be NULL. Since 0.1. */
SHMCCL_API shmccl_result_t shmccl_reduce(const void *sendbuf, void *recvbuf, size_t count, shmccl_datatype_t datatype,
                                         shmccl_redop_t op, int root, shmccl_comm_t *comm, void *stream);

/* Block j of rank i's sendbuf becomes block i of rank j's recvbuf. Both have n blocks of count elements.
 * In place: sendbuf == recvbuf. Since 0.1. */
SHMCCL_API shmccl_result_t shmccl_alltoall(const void *sendbuf, void *recvbuf, size_t count, shmccl_datatype_t datatype,
                                           shmccl_comm_t *comm, void *stream);

/* The root's recvbuf = the ranks' sendbufs one after the other. sendbuf: count; recvbuf (root only): n * count.
 * In place on the root: sendbuf == recvbuf + root * count. Since 0.1. */
SHMCCL_API shmccl_result_t shmccl_gather(const void *sendbuf, void *recvbuf, size_t count, shmccl_datatype_t datatype,
                                         int root, shmccl_comm_t *comm, void *stream);

/* recvbuf of rank r = block r of the root's sendbuf. sendbuf (root only): n * count; recvbuf: count.
 * In place on the root: recvbuf == sendbuf + root * count. Since 0.1. */
SHMCCL_API shmccl_result_t shmccl_scatter(const void *sendbuf, void *recvbuf, size_t count, shmccl_datatype_t datatype,
                                          int root, shmccl_comm_t *comm, void *stream);

/* Returns when all ranks have called it. Since 0.1. */
SHMCCL_API shmccl_result_t shmccl_barrier(shmccl_comm_t *comm, void *stream);

/* ---- point to point -------------------------------------------------------------------------------------------- */

/* Sends count elements to rank peer, which must call shmccl_recv() with the same count and datatype, for memory of the
 * same kind. In host memory it returns when sendbuf may be reused, which for large messages is not before the peer
 * receives; in device memory it returns when it is enqueued, and that time comes in the stream. To exchange, use a
 * group. Since 0.1. */
SHMCCL_API shmccl_result_t shmccl_send(const void *sendbuf, size_t count, shmccl_datatype_t datatype, int peer,
                                       shmccl_comm_t *comm, void *stream);

/* Receives the next message that rank peer sends to this one from memory of the same kind: enqueued, in device memory.
 * A peer that sent another count or datatype is an error on both sides. Since 0.1. */
SHMCCL_API shmccl_result_t shmccl_recv(void *recvbuf, size_t count, shmccl_datatype_t datatype, int peer,
                                       shmccl_comm_t *comm, void *stream);

/* Between start and end the sends and receives of `comm` are only noted; the end runs them all, progressed together, so
 * that ranks may exchange in any order, also with themselves. Messages of one pair keep their order. Groups do not
 * nest, and other collectives are invalid inside. The buffers must stay as they are until the end returns.
 *
 * A group's messages are all in host memory or all in device memory. In device memory all have the same stream, on
 * which the end enqueues them as one kernel, and returns; at most 256 are to and from other ranks; the buffers must
 * stay as they are until the stream has passed them. On a communicator with a GPU messages of 0 elements go with those
 * in device memory, whatever their buffers; the end waits for them if the group has no others and no stream. Since 0.1.
 */
SHMCCL_API shmccl_result_t shmccl_group_start(shmccl_comm_t *comm);
SHMCCL_API shmccl_result_t shmccl_group_end(shmccl_comm_t *comm);

#ifdef __cplusplus
}
#endif
#endif
