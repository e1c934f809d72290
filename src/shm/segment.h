/*
 * segment.h - life of a segment: one file in /dev/shm, from its creation by rank 0 to the last unmapping.
 *
 * A communicator's segment has ranks and the header of layout.h. Others (the NCCL plugin's arenas) hold what their
 * maker likes; they share name, liveness, allocation and sweeping.
 *
 * The file gets its name when it is complete and its creator's lock is held, so a name without any lock belongs to the
 * dead and can be swept away. The name goes as soon as all ranks are attached; after that a crash leaves nothing.
 * Only files of this user with mode 0600 are ever opened; symbolic links are not followed.
 */
#ifndef SHMI_SEGMENT_H
#define SHMI_SEGMENT_H

#include <limits.h>

#include "shm/layout.h"

enum { SHMI_ID_BYTES = 16 };

struct shmi_segment {
  uint8_t *base; /* NULL: not attached */
  size_t bytes;
  int lock_fd;               /* this rank's liveness lock; -1: none */
  int named;                 /* its maker: the name is still there and ours to remove */
  struct shmi_header header; /* a communicator's, as checked: what lies in the mapping could still be changed */
  char path[PATH_MAX];
};

/* Rank 0: makes the file, claims rank 0, names it. A dead file of that name is swept; a living one is an error. */
shmccl_result_t shmi_segment_create(struct shmi_segment *s, const uint8_t id[SHMI_ID_BYTES], int nranks,
                                    const shmi_options_t *options);

/* The header that it would write now, for tools: makes nothing. */
shmccl_result_t shmi_segment_plan(struct shmi_header *h, int nranks, const shmi_options_t *options);

/* The others: one try, to be repeated. *s is attached if s->base is not NULL afterwards; success without that means
 * that there is no living segment of this name yet. Claims `rank`; the header has been checked. */
shmccl_result_t shmi_segment_attach(struct shmi_segment *s, const uint8_t id[SHMI_ID_BYTES], int rank);

/* What a file holds from its first moment on. */
struct shmi_contents {
  size_t bytes, allocated; /* in all; from its start on, with memory of their own */
  const void *head;
  size_t head_bytes;
};

/* Makes any file, holds the lock of byte 0, names it. Sweeping as for create. */
shmccl_result_t shmi_segment_make(struct shmi_segment *s, const uint8_t id[SHMI_ID_BYTES],
                                  const struct shmi_contents *contents);
/* Opens any file whose maker lives, without claiming or mapping it: s->lock_fd is -1 if there is none. */
shmccl_result_t shmi_segment_open(struct shmi_segment *s, const uint8_t id[SHMI_ID_BYTES]);
/* Maps an open one. */
shmccl_result_t shmi_segment_map(struct shmi_segment *s, size_t bytes);

/* Bytes free in the segment folder now; UINT64_MAX if it has no limit. */
uint64_t shmi_segment_space(void);

/* Rank 0, if it cannot create: for so long, a file without memory stands under the name, whose size tells `cause` to
 * those who attach meanwhile. */
void shmi_segment_refuse(const uint8_t id[SHMI_ID_BYTES], shmccl_result_t cause, unsigned ms);

/* "0.1.0 (layout 2)" */
struct shmi_version_text {
  char text[48];
};
struct shmi_version_text shmi_version_text(uint32_t library, uint32_t layout);

/* Rank 0, when all are attached: removes the name. */
void shmi_segment_unlink(struct shmi_segment *s);

/* Gives bytes [offset, offset + length) of the file memory of their own, so that touching them cannot fail later. */
shmccl_result_t shmi_segment_allocate(const struct shmi_segment *s, size_t offset, size_t length);

/* Takes the memory away again; the bytes then read as zeros. */
void shmi_segment_give_back(const struct shmi_segment *s, size_t offset, size_t length);

/* Unlinks if named, unmaps, drops the lock. A half-made *s is fine. forked: this process is a child of the one that
 * attached, where neither mapping nor descriptor exist. */
void shmi_segment_detach(struct shmi_segment *s, int forked);

/* Removes what dead communicators of this user have left in the segment folder. */
void shmi_segment_sweep(void);

#endif
