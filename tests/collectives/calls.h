/*
 * calls.h - one collective call as a test sees it: deterministic inputs of all ranks, the result that reference.c and
 * the definitions of shmccl.h demand of this rank, and the comparison, bit for bit.
 *
 * Everything is a function of struct call and the rank, so every rank works it out by itself and nothing is exchanged
 * but by the call under test.
 */
#ifndef CALLS_H
#define CALLS_H

#include "coll/plan.h"
#include "harness.h"

struct call {
  enum shmi_collective collective;
  shmccl_datatype_t type;
  shmccl_redop_t op;
  int root;
  size_t count;
  bool in_place;
  size_t send_misalignment, recv_misalignment;
  uint64_t seed; /* of the inputs */
  bool exact;    /* small whole inputs: of up to 4 ranks, any order and rounding gives the same */
};

/* What a collective's buffers look like. */
bool call_reduces(const struct call *c);
bool call_rooted(const struct call *c);
size_t call_send_blocks(const struct call *c, int nranks);
size_t call_recv_blocks(const struct call *c, int nranks);
bool call_sends(const struct call *c, int rank);
bool call_receives(const struct call *c, int rank);

/* Any valid call of up to `most` bytes per block, all parameters at random. */
struct call call_random(struct harness_random *r, int nranks, size_t most);
/* As "allreduce float16 prod root 0 count 12 in place misaligned 1 2 seed 0x..." */
void call_text(const struct call *c, char text[256]);

/* A call with one rank's inputs and expected result, to be run as often as wanted. */
struct prepared {
  struct call call;
  int rank, nranks;
  size_t send_bytes, recv_bytes; /* 0 where this rank has no such buffer */
  uint8_t *input, *expected;
};
struct prepared call_prepare(const struct call *c, int rank, int nranks);
void call_release(struct prepared *p);

/* The buffers of one rank, filled for a call. send == NULL where the rank has none. */
struct buffers {
  struct harness_buffer a, b;
  uint8_t *send, *recv;
};
void call_fill(const struct prepared *p, struct buffers *buffers);
/* Result right, sendbuf unchanged, nothing else written. */
void call_check(const struct prepared *p, const struct buffers *buffers);
void call_release_buffers(struct buffers *buffers);

/* Makes the call, which must succeed, and nothing else. */
void call_make(const struct prepared *p, const struct buffers *buffers, shmccl_comm_t *comm);
/* The same on a stream, with buffers in device memory. */
void call_make_on(const struct prepared *p, const struct buffers *buffers, shmccl_comm_t *comm, void *stream);
/* Fill, make and check. */
void call_run(const struct prepared *p, struct buffers *buffers, shmccl_comm_t *comm);
/* Prepare, run and release. */
void call_once(const struct call *c, struct buffers *buffers, shmccl_comm_t *comm);

#endif
