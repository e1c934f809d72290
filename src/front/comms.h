/*
 * comms.h - what the front knows of a communicator of NCCL's, by NCCL's handle.
 *
 * Those created through this library are known, whether their calls are diverted or not; others are NCCL's alone. An
 * object lives as long as somebody holds it: its handle, a call, a call that a group has put off, the thread that
 * decides. So an abort from another thread frees nothing that a call is using, and waits for nobody.
 */
#ifndef SHMI_COMMS_H
#define SHMI_COMMS_H

#include "base/ordering.h"
#include "comm/comm.h"
#include "front/real.h"

enum shmi_front_state {
  SHMI_FRONT_UNDECIDED, /* NCCL is not done creating it, or the ranks have not agreed yet */
  SHMI_FRONT_DECIDING,  /* in a thread of its own */
  SHMI_FRONT_DECIDED
};

/* What came of the calls: diverted, or why not. */
enum shmi_front_way {
  SHMI_FRONT_DIVERTED,
  SHMI_FRONT_NOT_AGREED, /* the communicator's calls stay with NCCL */
  SHMI_FRONT_NOT_OP,     /* its own operator, or one that NCCL computes otherwise (divert.c) */
  SHMI_FRONT_NOT_USEFUL, /* no elements; arguments that NCCL shall judge */
  SHMI_FRONT_WAYS
};

struct shmi_front_comm {
  struct shmi_front_comm *next; /* in its bucket */
  nccl_comm_t handle;
  uint8_t id[SHMI_ID_BYTES];
  int rank, nranks, device;
  uint32_t splits;     /* of it so far */
  struct shmi_shrink { /* of it so far, by the ranks that are left out */
    struct shmi_shrink *next;
    uint8_t excluded[SHMI_ID_BYTES];
    uint32_t count;
  } * shrinks;
  struct shmi_expected { /* NCCL goes on creating it from this one, and will put it there */
    struct shmi_expected *next;
    nccl_comm_t *place;
    uint8_t id[SHMI_ID_BYTES];
  } * expected;
  enum shmi_front_state state;
  bool stopped, finalized, suspended; /* its calls are NCCL's: revoked or aborted; finalized; for the time being */
  shmccl_comm_t *control;             /* while the ranks agree; for abort */
  shmccl_comm_t *engine;              /* NULL: its calls are NCCL's */
  unsigned holders;
  uint32_t fork_generation; /* of the process that made it */
  uint64_t calls[SHMI_FRONT_WAYS], bytes[SHMI_FRONT_WAYS];
};

/* Makes one known; the caller holds it too. NULL: no memory, so it is NCCL's alone. */
struct shmi_front_comm *shmi_front_enter(nccl_comm_t handle, const uint8_t id[SHMI_ID_BYTES]);
/* What stands there; NCCL writes it in a thread of its own. */
static inline nccl_comm_t shmi_front_at(const nccl_comm_t *place) {
  return (nccl_comm_t)(uintptr_t)shmi_observe64((const uint64_t *)(const void *)place);
}
/* One will be made of parent, and stand at *place when NCCL says that parent is done with it. Without memory for that
 * it is NCCL's alone. */
void shmi_front_expect(struct shmi_front_comm *parent, nccl_comm_t *place, const uint8_t id[SHMI_ID_BYTES]);
/* NCCL says so, and the program does not know yet: makes those known that were expected, each held for the caller, who
 * calls until there is none. */
struct shmi_front_comm *shmi_front_next_expected(struct shmi_front_comm *parent);
/* Holds the one of that handle; NULL: not known. */
struct shmi_front_comm *shmi_front_hold(nccl_comm_t handle);
void shmi_front_hold_again(struct shmi_front_comm *comm);
/* NULL is accepted. The last one frees it, with what its engine has. */
void shmi_front_release(struct shmi_front_comm *comm);
/* The same, and counts a call. */
void shmi_front_count(struct shmi_front_comm *comm, enum shmi_front_way way, uint64_t bytes);
/* Its handle's end: not known any more. The caller takes over the handle's hold; NULL: not known. */
struct shmi_front_comm *shmi_front_leave(nccl_comm_t handle);
/* Waits, if a thread is deciding, until it has, or the communicator is aborted or revoked: that is the value. Not in a
 * forked child, where nobody is. */
bool shmi_front_await(struct shmi_front_comm *comm);
/* The engine that its calls go to now; NULL: they are NCCL's. False if that is not decided yet. */
bool shmi_front_look(struct shmi_front_comm *comm, shmccl_comm_t **engine);
/* The engine whose errors are its own, also those of calls before it was finalized or suspended. NULL: none. */
shmccl_comm_t *shmi_front_engine_of(struct shmi_front_comm *comm);
/* True for the one who is to decide. Nobody does about one that has been stopped, and no forked child: its parent does.
 */
bool shmi_front_begin(struct shmi_front_comm *comm);
/* The decision: engine or NULL. */
void shmi_front_decided(struct shmi_front_comm *comm, shmccl_comm_t *engine);
/* While ranks agree: what an abort has to abort. False if one came before. */
bool shmi_front_set_control(struct shmi_front_comm *comm, shmccl_comm_t *control);
/* Its calls are NCCL's from now on, which says what is wrong with them. */
void shmi_front_finalize(struct shmi_front_comm *comm);
void shmi_front_suspend(struct shmi_front_comm *comm, bool suspended);
/* The same as finalize, and its engine and the agreement, if under way, end on all ranks. */
void shmi_front_abort(struct shmi_front_comm *comm);
/* The same for one that has left, by whoever holds it. If nothing of it is under way it just ends, as with NCCL: what
 * the other ranks still have under way may be complete without this one. */
void shmi_front_abort_last(struct shmi_front_comm *comm);

#endif
