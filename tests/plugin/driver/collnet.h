/*
 * collnet.h - the collnet table as NCCL's collnet transport drives it: one group over all ranks, all-reduces of whole
 * chunks with garbage behind the user's data, eight in flight, every type and operator.
 */
#ifndef DRIVER_COLLNET_H
#define DRIVER_COLLNET_H

#include "world.h"

void collnet_run(struct world *w);

#endif
