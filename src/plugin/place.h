/* place.h - where segments of this process lie: ranks that differ in it cannot share memory. */
#ifndef SHMI_PLUGIN_PLACE_H
#define SHMI_PLUGIN_PLACE_H

#include "base/log.h"

/* A number for this boot of this host and the file system of the folder for segments (containers may have their own).
 */
shmccl_result_t shmi_place_find(uint64_t *place);

#endif
