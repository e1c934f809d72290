/*
 * liveness.h - who is alive, told by the kernel.
 *
 * Each rank holds a byte-range lock on byte `rank` of the segment file, through an open file description of its own (an
 * OFD lock). The kernel drops it when the last descriptor of that description closes, which is at the process's death,
 * however it dies; process ids, their namespaces and their reuse play no part. The description is never mapped, since a
 * mapping inherited by a child would keep it open, and an atfork handler closes the child's descriptor.
 */
#ifndef SHMI_LIVENESS_H
#define SHMI_LIVENESS_H

#include <stdint.h>

/* Opens path (O_RDWR | O_CLOEXEC | flags) as a description of its own, to be closed in forked children. -1 with errno.
 */
int shmi_liveness_open(const char *path, int flags);

/* Takes the lock of `rank` on a descriptor from shmi_liveness_open. 0, or an errno value: EAGAIN if somebody has it. */
int shmi_liveness_claim(int fd, int rank);

/* Drops the lock of `rank` and leaves fd open. */
void shmi_liveness_drop(int fd, int rank);

/* Closes fd, which drops its locks. */
void shmi_liveness_release(int fd);

/* 1 if somebody other than fd's description holds the lock of rank, 0 if nobody, -1 with errno set. */
int shmi_liveness_held(int fd, int rank);

/* 1 if anybody but fd's description holds any rank's lock. */
int shmi_liveness_any_held(int fd);

/* How many forks this process is away from the one that created the first communicator. */
uint32_t shmi_fork_generation(void);

#endif
