/* registry.c - a table in blocks that double in size. */
#include "plugin/registry.h"

#include <stdlib.h>

#include "base/ordering.h"

/* An mhandle: the version in the high half, the index plus one in the low. */
static void *encode(int32_t index, uint32_t version) {
  return (void *)(uintptr_t)((uint64_t)version << 32 | (uint32_t)(index + 1));
}

static struct shmi_registration *block_at(const struct shmi_registry *r, int block) {
  return (struct shmi_registration *)(uintptr_t)shmi_observe64(&r->blocks[block]);
}

/* Block b starts at index FIRST * (2^b - 1). */
static struct shmi_registration *entry(const struct shmi_registry *r, uint32_t index) {
  const uint32_t n = index / SHMI_REGISTRY_FIRST + 1;
  const int block = 31 - __builtin_clz(n);
  if (block >= SHMI_REGISTRY_BLOCKS) return NULL;
  struct shmi_registration *entries = block_at(r, block);
  return entries ? &entries[index - (uint32_t)SHMI_REGISTRY_FIRST * ((1u << block) - 1)] : NULL;
}

void shmi_registry_init(struct shmi_registry *r) {
  *r = (struct shmi_registry){.free = -1};
  pthread_mutex_init(&r->lock, NULL);
}

void shmi_registry_destroy(struct shmi_registry *r) {
  for (int b = 0; b < SHMI_REGISTRY_BLOCKS; b++) free(block_at(r, b));
  pthread_mutex_destroy(&r->lock);
}

/* With the lock held: makes the block of the next unused entry. */
static int grow(struct shmi_registry *r) {
  if (entry(r, (uint32_t)r->used)) return 1;
  const int block = 31 - __builtin_clz((uint32_t)r->used / SHMI_REGISTRY_FIRST + 1);
  if (block >= SHMI_REGISTRY_BLOCKS) return 0;
  struct shmi_registration *entries = calloc((size_t)SHMI_REGISTRY_FIRST << block, sizeof *entries);
  if (!entries) return 0;
  shmi_publish64(&r->blocks[block], (uint64_t)(uintptr_t)entries);
  return 1;
}

/* With the lock held. */
static struct shmi_registration *take(struct shmi_registry *r, int32_t *index) {
  if (r->free < 0 && !grow(r)) return NULL;
  *index = r->free >= 0 ? r->free : r->used++;
  struct shmi_registration *e = entry(r, (uint32_t)*index);
  if (r->free >= 0) r->free = e->next;
  return e;
}

void *shmi_registry_add(struct shmi_registry *r, const void *data, size_t bytes, int type) {
  int32_t index;
  void *mhandle = NULL;
  pthread_mutex_lock(&r->lock);
  struct shmi_registration *e = take(r, &index);
  if (e) {
    e->data = data;
    e->bytes = bytes;
    e->type = type;
    shmi_publish32(&e->version, e->version + 1);
    mhandle = encode(index, e->version);
  }
  pthread_mutex_unlock(&r->lock);
  return mhandle;
}

static struct shmi_registration *find(const struct shmi_registry *r, const void *mhandle) {
  const uint32_t index = (uint32_t)(uintptr_t)mhandle - 1, version = (uint32_t)((uint64_t)(uintptr_t)mhandle >> 32);
  struct shmi_registration *e = mhandle ? entry(r, index) : NULL;
  return e && (version & 1) && shmi_observe32(&e->version) == version ? e : NULL;
}

const struct shmi_registration *shmi_registry_find(const struct shmi_registry *r, const void *mhandle) {
  return find(r, mhandle);
}

int shmi_registry_remove(struct shmi_registry *r, void *mhandle) {
  pthread_mutex_lock(&r->lock);
  struct shmi_registration *e = find(r, mhandle);
  if (e) {
    shmi_publish32(&e->version, e->version + 1);
    e->next = r->free;
    r->free = (int32_t)((uint32_t)(uintptr_t)mhandle - 1);
  }
  pthread_mutex_unlock(&r->lock);
  return e != NULL;
}
