/*
 * A party: the ranks of one communicator, ours or a peer's, as the driver sees them: a socket per rank, to which it
 * writes one command at a time and from which it reads one reply. Ranks without a command block in a read. In a joined
 * job there are no sockets: every rank does the commands itself, and shares its reply with the others.
 */
#ifndef BENCH_PARTY_H
#define BENCH_PARTY_H

#include "worker.h"

#include <poll.h>
#include <signal.h>

enum average { AVERAGE_RANK0, AVERAGE_MEAN, AVERAGE_MIN, AVERAGE_MAX }; /* numbered as nccl-tests' -a */

struct party {
  const char *name;
  char version[64];
  int nranks;
  enum average average;         /* how the ranks' times become one */
  double limit_seconds;         /* for one command */
  struct worker *local;         /* joined: this process's own rank */
  int fds[SHMCCL_MAX_RANKS];    /* -1: none */
  pid_t pids[SHMCCL_MAX_RANKS]; /* 0: unknown or gone. Ranks that are threads: the first only */
  bool leaves_segments;         /* ranks of NCCL that are killed while they start leave files */
  pid_t launcher;               /* an mpirun or the like: its ranks are not our children; else 0 */
  char log[64];                 /* where that writes */
  char error[512];
};

/* One command's effect over all ranks. */
struct outcome {
  bool supported;
  double seconds; /* of the ranks, by party->average */
  double slowest;
  uint64_t wrong;
  char text[256]; /* what was wrong first */
};

enum party_result { PARTY_OK, PARTY_FAILED, PARTY_INTERRUPTED };

/* Longer than the library's own limit: it has the first word on what went wrong. */
#define PARTY_LIMIT_SECONDS 660

/* Has every rank do the command and waits for all. PARTY_FAILED: the cause is in party->error. */
enum party_result party_do(struct party *party, const struct command *command, struct outcome *outcome);
/* The same for a command with `each`: writes command->iters seconds, each of them of the ranks by party->average. */
enum party_result party_do_each(struct party *party, const struct command *command, struct outcome *outcome,
                                double *each);

/* Receives a message of `size` bytes from every rank, into messages[rank]. */
enum party_result party_receive(struct party *party, void *messages, size_t size, double limit_seconds);

/* Waits for a child of ours to end (-1: for all of them); false if it has not within the limit. */
bool party_reap(pid_t pid, double limit_seconds, int *status);

/* ppoll() that lets the signals in; -1 if one of them stopped the run. */
int party_poll(struct pollfd *fds, int count, double limit_seconds);
extern volatile sig_atomic_t party_signal;

__attribute__((format(printf, 2, 3))) enum party_result party_fail(struct party *party, const char *format, ...);
enum party_result party_fail_with_log(struct party *party, const char *what);

#endif
