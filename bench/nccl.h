/*
 * nccl.h - NCCL as a peer: what its ranks are told by their environment, so that each of the three ways in which it is
 * measured is the one that its name says, and a model of its ring for machines where that cannot run.
 *
 *   nccl-shm     stock: the SHM transport
 *   nccl-tuned   the same with NCCL_MIN_NCHANNELS=8, the setting of the best figures published
 *   nccl-plugin  libnccl-net-shmccl.so, or fail
 *
 * Whatever else a user has set for NCCL counts for all three.
 */
#ifndef BENCH_NCCL_H
#define BENCH_NCCL_H

#include "link.h"
#include "options.h"

#include <sys/types.h>

bool peer_is_nccl(int peer);

/* Why it cannot run as it should; NULL if nothing is known against it. */
const char *nccl_hindrance(const struct options *options, int peer);

/* In the process that becomes a rank. */
void nccl_set_environment(const struct options *options, int peer, int rank);

/* Before a rank is killed, a child of ours. NCCL's segments have names in /dev/shm until both sides have mapped them;
 * those that a rank has open or mapped are its own. */
void nccl_remove_segments(pid_t pid);

/* Whether a model stands in for nccl-shm, which was asked for: it needs a GPU for each rank. */
bool nccl_needs_model(const struct options *options);

/* A model of NCCL's ring through host memory, not a measurement: the latencies that NCCL itself reckons with
 * (graph/tuning.cc: a start, and for each hop over PCI), and all bytes of the ring at the rates of the links, measured
 * in this run, as if its kernels filled them: real ones do not, so it flatters NCCL. The better of the protocols LL,
 * which sends every byte twice, and Simple. 0: not a ring in NCCL. */
double nccl_model_seconds(const struct link *link, const struct point *point, int nranks);
#define NCCL_MODEL_NAME "model:nccl-shm"

#endif
