/*
 * The processes that a run consists of. The driver (this process) starts parties of workers: our own ranks, and for
 * each peer an MPI job. All sockets, logs and shared files lie in one private folder, which goes away with the run
 * whatever ends it.
 */
#ifndef BENCH_LAUNCH_H
#define BENCH_LAUNCH_H

#include "options.h"
#include "party.h"

/* Makes the folder and takes over the signals that end programs, which are then seen only while waiting for a party. */
bool launch_begin(void);
/* Kills what still runs and removes the folder. */
void launch_end(void);

/* Start a party and wait for all its ranks' hellos. The ranks get a core each if the cpus suffice. PARTY_FAILED: the
 * cause is in party->error. */
enum party_result party_start_own(struct party *party, const struct options *options, const cpu_set_t *cpus);
enum party_result party_start_mpi(struct party *party, const struct options *options, const cpu_set_t *cpus, int peer);

/* Lets the ranks end by themselves. */
void party_quit(struct party *party);

#endif
