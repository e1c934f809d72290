/* device_works.c - engine.c's works on device memory: its calls are there twice. */
#include "crash/memory.h"

const char *const work_names[WORKS_MOST] = {WORK_NAMES, CALL_NAMES(", captured")};
const int work_ranks_most = RANKS_MOST;
