/*
 * The collectives that the benchmark knows, as data: their names, how a row's size becomes counts, and how a time
 * becomes bandwidth. Counts, sizes and bandwidths mean what they mean in nccl-tests, so that rows of both paste side by
 * side.
 */
#ifndef BENCH_COLL_H
#define BENCH_COLL_H

#include <shmccl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum coll_id {
  COLL_ALL_REDUCE,
  COLL_ALL_GATHER,
  COLL_REDUCE_SCATTER,
  COLL_BROADCAST,
  COLL_REDUCE,
  COLL_ALLTOALL,
  COLL_GATHER,
  COLL_SCATTER,
  COLL_SENDRECV,
  COLL_COUNT
};

struct coll {
  const char *name;
  const char *alias;
  bool reduces;
  bool rooted;
  bool send_at_root; /* only the root's sendbuf is read */
  bool recv_at_root; /* only the root's recvbuf is written */
  bool send_blocks;  /* sendbuf holds one block of `count` per rank, otherwise one block */
  bool recv_blocks;
  bool in_place;
  int wire_passes; /* how often a byte crosses between ranks, at best, in units of (n-1)/n; 0: bandwidths are equal */
};

extern const struct coll colls[COLL_COUNT];
extern const char *const type_names[SHMCCL_DATATYPE_COUNT + 1]; /* NULL-terminated, as are the operators */
extern const char *const op_names[SHMCCL_REDOP_COUNT + 1];

enum { MESSAGES_MOST = 1024 };

/* One thing to run. */
struct point {
  int coll;
  int type;
  int op;   /* -1: does not reduce */
  int root; /* -1: has no root */
  int in_place;
  int messages;   /* sendrecv: how many exchanges of `count` go into one group, from successive places; else 1 */
  int offset;     /* bytes by which the buffers' beginnings are off their alignment */
  uint64_t count; /* the count argument of the call, in elements */
};

/* The collective called `name`, -1 if there is none. */
int coll_find(const char *name);

/* The count argument for a row of at most `bytes`. */
uint64_t coll_count(int coll, int type, uint64_t bytes, int nranks);

size_t type_bytes(int type);
size_t point_send_bytes(const struct point *point, int nranks);
size_t point_recv_bytes(const struct point *point, int nranks);
/* The row's size column: the larger of both. */
size_t point_size(const struct point *point, int nranks);
/* How many ranks write a recvbuf. */
int point_writers(const struct point *point, int nranks);

/* In bytes per second. */
double point_algbw(const struct point *point, int nranks, double seconds);
double point_busbw(const struct point *point, int nranks, double seconds);

#endif
