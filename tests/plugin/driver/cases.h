/*
 * cases.h - two ranks that take turns: messages of every alignment, what must be refused, what must not block, closing
 * under all circumstances. The other half of the driver beside traffic.h, where nothing is left to chance.
 */
#ifndef DRIVER_CASES_H
#define DRIVER_CASES_H

#include "world.h"

/* The settings' pattern names one, or all. */
bool cases_have(const char *name);
void cases_run(struct world *w);

#endif
