/*
 * The table of collectives and its arithmetic.
 */
#include "coll.h"

#include <string.h>

const struct coll colls[COLL_COUNT] = {
    [COLL_ALL_REDUCE] =
        {.name = "all_reduce", .alias = "allreduce", .reduces = true, .in_place = true, .wire_passes = 2},
    [COLL_ALL_GATHER] =
        {.name = "all_gather", .alias = "allgather", .recv_blocks = true, .in_place = true, .wire_passes = 1},
    [COLL_REDUCE_SCATTER] = {.name = "reduce_scatter",
                             .alias = "reducescatter",
                             .reduces = true,
                             .send_blocks = true,
                             .in_place = true,
                             .wire_passes = 1},
    [COLL_BROADCAST] = {.name = "broadcast", .alias = "bcast", .rooted = true, .send_at_root = true, .in_place = true},
    [COLL_REDUCE] =
        {.name = "reduce", .alias = "reduce", .reduces = true, .rooted = true, .recv_at_root = true, .in_place = true},
    [COLL_ALLTOALL] = {.name = "alltoall",
                       .alias = "all_to_all",
                       .send_blocks = true,
                       .recv_blocks = true,
                       .in_place = true,
                       .wire_passes = 1},
    [COLL_GATHER] = {.name = "gather",
                     .alias = "gather",
                     .rooted = true,
                     .recv_at_root = true,
                     .recv_blocks = true,
                     .in_place = true,
                     .wire_passes = 1},
    [COLL_SCATTER] = {.name = "scatter",
                      .alias = "scatter",
                      .rooted = true,
                      .send_at_root = true,
                      .send_blocks = true,
                      .in_place = true,
                      .wire_passes = 1},
    [COLL_SENDRECV] = {.name = "sendrecv", .alias = "send_recv"},
};

const char *const type_names[] = {"int8",  "uint8",  "int32",    "uint32", "int64",  "uint64", "half",
                                  "float", "double", "bfloat16", "f8e4m3", "f8e5m2", NULL};

const char *const op_names[] = {"sum", "prod", "max", "min", "avg", NULL};

int coll_find(const char *name) {
  for (int i = 0; i < COLL_COUNT; i++)
    if (!strcmp(name, colls[i].name) || !strcmp(name, colls[i].alias)) return i;
  return -1;
}

/* The table is ours, not the library's: the MPI peers are built from it without the library. */
size_t type_bytes(int type) {
  static const unsigned char bytes[SHMCCL_DATATYPE_COUNT] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2, 1, 1};
  return bytes[type];
}

/* Blocks are whole units of 16 bytes, as in nccl-tests: the smallest rows of a divided collective have no bytes at all.
 */
uint64_t coll_count(int coll, int type, uint64_t bytes, int nranks) {
  uint64_t elements = bytes / type_bytes(type);
  if (!colls[coll].send_blocks && !colls[coll].recv_blocks) return elements;
  return elements / (uint64_t)nranks & ~(uint64_t)(16 / type_bytes(type) - 1);
}

static size_t blocks_bytes(const struct point *point, bool per_rank, int nranks) {
  return point->count * type_bytes(point->type) * (per_rank ? (size_t)nranks : 1);
}

size_t point_send_bytes(const struct point *point, int nranks) {
  return blocks_bytes(point, colls[point->coll].send_blocks, nranks);
}

size_t point_recv_bytes(const struct point *point, int nranks) {
  return blocks_bytes(point, colls[point->coll].recv_blocks, nranks);
}

size_t point_size(const struct point *point, int nranks) {
  size_t send = point_send_bytes(point, nranks), recv = point_recv_bytes(point, nranks);
  return send > recv ? send : recv;
}

int point_writers(const struct point *point, int nranks) { return colls[point->coll].recv_at_root ? 1 : nranks; }

double point_algbw(const struct point *point, int nranks, double seconds) {
  return seconds > 0 ? (double)point_size(point, nranks) / seconds : 0;
}

double point_busbw(const struct point *point, int nranks, double seconds) {
  int passes = colls[point->coll].wire_passes;
  double factor = passes ? (double)passes * (nranks - 1) / nranks : 1;
  return point_algbw(point, nranks, seconds) * factor;
}
