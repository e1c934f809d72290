/* tuner.h - the tuner's table of every version, asked as NCCL's selection asks, with its cost tables and exclusions. */
#ifndef DRIVER_TUNER_H
#define DRIVER_TUNER_H

#include "world.h"

void tuner_run(struct world *w);

#endif
