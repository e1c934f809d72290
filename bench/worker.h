/*
 * One rank: waits for a command, does it together with the other ranks, replies. Between commands it blocks, so that
 * the ranks that are measured have the machine to themselves.
 */
#ifndef BENCH_WORKER_H
#define BENCH_WORKER_H

#include "backend.h"
#include "gpu.h"
#include "verify.h"

#include <sched.h>
#include <sys/types.h>

enum command_kind {
  COMMAND_CHECK, /* run once on known data and compare */
  COMMAND_TIME,  /* warm up, then time `iters` runs back to back */
  COMMAND_COPY,  /* time `iters` plain copies of `bytes`: the machine's limit */
  COMMAND_LINK,  /* the same between a GPU and pinned memory */
  COMMAND_QUIT
};

struct command {
  enum command_kind kind;
  struct point point;
  uint64_t iters;
  uint64_t warmup;
  uint64_t bytes;
  uint64_t graphs;  /* check, time: capture the runs and replay the graph so often; 0: run them as they are */
  uint64_t copiers; /* link: the ranks that do, a bit each */
  int alone;        /* copy: only rank 0 does */
  int streaming;    /* copy: by stores that bypass the caches */
  enum gpu_direction direction;
  int each; /* time: each iteration too; `iters` floats, seconds, follow the reply. At most EACH_MOST */
};

/* What still fits into one message of a socket. */
enum { EACH_MOST = 20000 };

enum reply_status { REPLY_DONE, REPLY_UNSUPPORTED, REPLY_FAILED };

struct reply {
  enum reply_status status;
  double seconds; /* per run */
  uint64_t wrong;
  char text[256]; /* the cause of a failure, or the first wrong element */
};

/* The first thing that a worker writes to its socket. */
struct hello {
  int rank;
  pid_t pid;
  char version[64]; /* of the peer's library */
};

struct worker {
  struct backend backend; /* filled in by the caller */
  struct gpu *gpu;        /* which calls are on; NULL: host memory */
  struct buffer send;
  struct buffer recv;
  struct buffer scratch[2]; /* for copies; freed before the first run */
  float *each;              /* seconds of the last command's iterations, if it asked for them */
  struct patterns patterns;
  char error[GPU_ERROR_BYTES];
};

/* Seconds on a clock that only moves forward. */
double seconds_now(void);

/* Pins the calling thread to the index-th of the cores. */
void worker_pin(const cpu_set_t *cpus, int index);

/* Allocates both buffers, on the thread's GPU too if asked to, and what timing needs. False: worker->error says what is
 * missing. */
bool worker_open(struct worker *worker, size_t max_bytes, bool on_gpu);
void worker_close(struct worker *worker);

struct reply worker_do(struct worker *worker, const struct command *command);

/* Says hello on `fd`, then does what it is told. True when told to quit, false when the driver is gone: then the other
 * ranks may be gone too, and there is nobody to close the communicator with. */
bool worker_serve(struct worker *worker, int fd, const char *version);

#endif
