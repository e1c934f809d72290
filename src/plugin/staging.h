/*
 * staging.h - host buffers through which CollNet reduces a GPU's memory, a chunk at a time.
 *
 * Chunks are numbered on the circle. Each is one copy on either track, if only of nothing, so the tracks' counts tell
 * which buffers hold input and which are free again.
 */
#ifndef SHMI_PLUGIN_STAGING_H
#define SHMI_PLUGIN_STAGING_H

#include "mem/mover.h"

enum { SHMI_STAGED_CHUNKS = 4, SHMI_STAGED_BYTES = 1 << 20 }; /* a multiple of every element's size */

struct shmi_staging {
  struct shmi_track *in, *out; /* from and to the device */
  uint8_t *buffers;
};

/* For the GPU that `memory` is on. */
shmccl_result_t shmi_staging_open(struct shmi_staging *staging, const void *memory);
/* If it was opened. */
void shmi_staging_close(struct shmi_staging *staging);

static inline uint8_t *shmi_staging_buffer(const struct shmi_staging *s, uint32_t chunk) {
  return s->buffers + (size_t)(chunk % SHMI_STAGED_CHUNKS) * SHMI_STAGED_BYTES;
}

#endif
