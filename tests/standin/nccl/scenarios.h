/*
 * scenarios.h - what the tests with a real NCCL do; each is run by every rank of a party.
 */
#ifndef NCCL_SCENARIOS_H
#define NCCL_SCENARIOS_H

#include "ranks.h"

/* scenario_collectives.c */
void scenario_allreduce(struct party *party, int rank);   /* all sizes, in and out of place */
void scenario_collectives(struct party *party, int rank); /* the others too, those made of send and receive included */
void scenario_types(struct party *party, int rank);       /* every type and operator */
void scenario_random(struct party *party, int rank);
void scenario_graph(struct party *party, int rank);

/* scenario_groups.c */
void scenario_groups(struct party *party, int rank);   /* several collectives in one launch */
void scenario_messages(struct party *party, int rank); /* send and receive, at random */

/* scenario_communicators.c */
void scenario_communicators(struct party *party, int rank); /* created again and again, two at a time */
void scenario_split(struct party *party, int rank);
void scenario_failure(struct party *party, int rank); /* the network fails for all, at the first use or sooner */
void scenario_death(struct party *party, int rank);   /* the last rank dies; the others must see it and abort */
void scenario_abort(struct party *party, int rank);   /* rank 0 aborts amid a collective; so must the others */

#endif
