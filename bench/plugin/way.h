/*
 * way.h - the ways of doing an all-reduce that are compared.
 *
 * The thread of a rank is NCCL's progress thread. With `kernel` it also does a GPU's part, copies between the user's
 * buffers and the FIFOs and reduces, so that the result can be verified; without, the FIFOs go as they are, and what is
 * left is the plugin's part. All ranks make the same calls.
 */
#ifndef BENCH_WAY_H
#define BENCH_WAY_H

#include "plugin/nccl_collnet.h"
#include "plugin/nccl_net.h"
#include "team.h"

/* NCCL's, for one channel: eight steps in a FIFO of 4 MiB. */
enum { WAY_STEPS = 8, WAY_STEP_BYTES = 512 << 10 };

struct way {
  const char *name;
  void *(*open)(const struct team *team, const char *plugin);
  /* recvbuf = sum over the ranks of sendbuf; the buffers are apart. */
  void (*allreduce)(void *self, const float *sendbuf, float *recvbuf, size_t count, int kernel);
  void (*close)(void *self);
};

/* A ring over the plugin's net. */
extern const struct way way_ring;
/* The plugin's CollNet. */
extern const struct way way_collnet;
/* The engine by itself. */
extern const struct way way_engine;
/* No all-reduce: two plain copies of every byte that a rank of the ring sends, and no waiting. */
extern const struct way way_copies;

/* A symbol of the plugin's file; ends the process if it is not there. */
const void *way_symbol(const struct team *team, const char *plugin, const char *name);
/* A FIFO. */
void *way_fifo(const struct team *team);
/* Ends the process if the plugin failed. */
void way_check(const struct team *team, int result, const char *call);
void way_logger(nccl_log_level_t level, unsigned long subsystems, const char *file, int line, const char *format, ...);

#endif
