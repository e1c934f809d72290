/*
 * The processes that a run consists of. The driver (this process) starts parties of workers: our own ranks, and for
 * each peer an MPI job or the like. All sockets, logs and shared files lie in one private folder, which goes away with
 * the run whatever ends it.
 */
#ifndef BENCH_LAUNCH_H
#define BENCH_LAUNCH_H

#include "options.h"
#include "party.h"

/* Makes the folder and takes over the signals that end programs, which are then seen only while waiting for a party. */
bool launch_begin(void);
const char *launch_folder(void);
/* Kills what still runs and removes the folder. */
void launch_end(void);

/* How communicators of our own are made, where not by the environment's settings alone. */
struct setup {
  shmccl_config_t config;
  const char *tuning_file; /* in place of the environment's; "": none */
};

/* Start a party and wait for all its ranks' hellos. The ranks get a core each if the cpus suffice. PARTY_FAILED: the
 * cause is in party->error. setup: NULL for the environment's. */
enum party_result party_start_own(struct party *party, const struct options *options, int nranks, const cpu_set_t *cpus,
                                  const struct setup *setup);
enum party_result party_start_peer(struct party *party, const struct options *options, const cpu_set_t *cpus, int peer);

/* Lets the ranks end by themselves. */
void party_quit(struct party *party);
/* The same, waits for them, and forgets the party: another may be started in its place. */
void party_dismiss(struct party *party);

#endif
