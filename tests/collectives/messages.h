/*
 * messages.h - one message from rank to rank as a test sees it. Its content is a function of the message, so both ranks
 * work it out by themselves.
 */
#ifndef MESSAGES_H
#define MESSAGES_H

#include "harness.h"

/* All ranks know all messages of a group. */
struct message {
  int from, to;
  shmccl_datatype_t type;
  size_t count;
  uint64_t seed;
  struct harness_buffer send, recv; /* on those two ranks */
};

size_t message_bytes(const struct message *m);
/* Between any two ranks, up to `most` bytes; every eighth is empty. */
struct message message_random(struct harness_random *r, int nranks, size_t most);

/* What `rank` needs of it: sendbuf filled, recvbuf poisoned, either misaligned at random. */
void message_open(struct message *m, int rank, struct harness_random *own);
/* Filled and poisoned anew. */
void message_refill(struct message *m, int rank);
/* sendbuf is as it was, recvbuf is what was sent, nothing else was written. */
void message_check(const struct message *m, int rank);
void message_release(struct message *m);
/* Check and release. */
void message_close(struct message *m, int rank);

#endif
