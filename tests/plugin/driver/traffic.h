/*
 * traffic.h - communicators at work: each rank with a service, a progress and a kernel thread over the connections of a
 * pattern, half of them made while the others carry data; registrations beside the traffic; three ways to end.
 */
#ifndef DRIVER_TRAFFIC_H
#define DRIVER_TRAFFIC_H

#include "world.h"

/* Whether there is a pattern of that name: ring, tree, alltoall. */
bool traffic_has(const char *pattern);
/* One run with the settings' ending; checks what must be so afterwards. */
void traffic_run(struct world *w);

#endif
