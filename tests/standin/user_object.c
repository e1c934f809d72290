/*
 * user_object.c - user objects of the stand-in: destroyed when the last graph that holds them is gone.
 */
#include "internal.h"

struct CUuserObject_st {
  unsigned references; /* atomic */
  cudaHostFn_t destroy;
  void *arg;
};

static void retain(struct CUuserObject_st *o, unsigned n) { __atomic_add_fetch(&o->references, n, __ATOMIC_RELAXED); }

static void release(struct CUuserObject_st *o, unsigned n) {
  if (__atomic_sub_fetch(&o->references, n, __ATOMIC_ACQ_REL)) return;
  o->destroy(o->arg);
  free(o);
}

static void add(struct si_objects *to, struct CUuserObject_st *o, unsigned n) {
  to->list = realloc(to->list, (to->n + 1) * sizeof *to->list);
  if (!to->list) si_die("out of memory");
  to->list[to->n].object = o;
  to->list[to->n++].n = n;
}

void si_objects_copy(struct si_objects *to, const struct si_objects *from) {
  for (size_t i = 0; i < from->n; i++) {
    retain(from->list[i].object, from->list[i].n);
    add(to, from->list[i].object, from->list[i].n);
  }
}

void si_objects_release(struct si_objects *all) {
  for (size_t i = 0; i < all->n; i++)
    if (all->list[i].n) release(all->list[i].object, all->list[i].n);
  free(all->list);
}

cudaError_t cudaUserObjectCreate(cudaUserObject_t *object, void *p, cudaHostFn_t destroy, unsigned references,
                                 unsigned flags) {
  ENTER(SAFE);
  NEED(object && destroy && references && flags == cudaUserObjectNoDestructorSync, cudaErrorInvalidValue);
  *object = si_alloc(sizeof **object);
  **object = (struct CUuserObject_st){references, destroy, p};
  return cudaSuccess;
}

cudaError_t cudaUserObjectRetain(cudaUserObject_t object, unsigned count) {
  ENTER(SAFE);
  NEED(object && count, cudaErrorInvalidValue);
  retain(object, count);
  return cudaSuccess;
}

cudaError_t cudaUserObjectRelease(cudaUserObject_t object, unsigned count) {
  ENTER(ANY);
  NEED(object && count, cudaErrorInvalidValue);
  release(object, count);
  return cudaSuccess;
}

cudaError_t cudaGraphRetainUserObject(cudaGraph_t graph, cudaUserObject_t object, unsigned count, unsigned flags) {
  ENTER(SAFE);
  NEED(graph && object && count, cudaErrorInvalidValue);
  if (!(flags & cudaGraphUserObjectMove)) retain(object, count);
  add(&graph->objects, object, count);
  return cudaSuccess;
}

cudaError_t cudaGraphReleaseUserObject(cudaGraph_t graph, cudaUserObject_t object, unsigned count) {
  ENTER(ANY);
  NEED(graph, cudaErrorInvalidValue);
  for (size_t i = 0; i < graph->objects.n; i++)
    if (graph->objects.list[i].object == object && graph->objects.list[i].n >= count) {
      graph->objects.list[i].n -= count;
      release(object, count);
      return cudaSuccess;
    }
  return si_fail(cudaErrorInvalidValue);
}
