/*
 * registry.h - the buffers that NCCL has registered with one connection.
 *
 * NCCL's service thread adds and removes them while its progress thread sends from and receives into others. What NCCL
 * gets is a number, not an address: a value that was never given out, or taken back, is found without being followed.
 * Entries have their memory's kind.
 */
#ifndef SHMI_PLUGIN_REGISTRY_H
#define SHMI_PLUGIN_REGISTRY_H

#include <pthread.h>

#include "plugin/plugin.h"

struct shmi_registration {
  const uint8_t *data;
  size_t bytes;
  int type;         /* NCCL_PTR_* */
  uint32_t version; /* odd: registered; published */
  int32_t next;     /* free ones: the next, -1: none */
};

enum { SHMI_REGISTRY_BLOCKS = 20, SHMI_REGISTRY_FIRST = 16 }; /* block b has FIRST << b entries; they never move */

struct shmi_registry {
  pthread_mutex_t lock;                  /* of adding and removing */
  uint64_t blocks[SHMI_REGISTRY_BLOCKS]; /* addresses; published; 0: none yet */
  int32_t used, free;                    /* entries ever used; first free one of those, -1: none */
};

void shmi_registry_init(struct shmi_registry *r);
void shmi_registry_destroy(struct shmi_registry *r);

/* NULL if there is no memory. */
void *shmi_registry_add(struct shmi_registry *r, const void *data, size_t bytes, int type);
/* False if mhandle is not registered. */
int shmi_registry_remove(struct shmi_registry *r, void *mhandle);

/* The entry, or NULL if mhandle is not registered. Any thread. */
const struct shmi_registration *shmi_registry_find(const struct shmi_registry *r, const void *mhandle);

#endif
