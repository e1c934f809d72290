/* place.h - where a process's segments lie: processes that differ in it cannot share memory. Part of every id and
 * handle. */
#ifndef SHMI_PLACE_H
#define SHMI_PLACE_H

#include "base/log.h"

struct shmi_place {
  uint8_t boot[16]; /* the kernel's boot id: one host, one boot; zeros if unknown */
  uint64_t device;  /* of the segment folder, which tells two /dev/shm of one kernel apart */
  uint64_t inode;
  uint32_t pid;  /* in its own namespace: for messages only */
  char host[44]; /* for messages, and where the boot id is unknown; cut if longer */
};

/* Where this process is. */
shmccl_result_t shmi_place_find(struct shmi_place *place);

/* Whether segments made there can be opened here; a system error, logged with cause and remedy, if not. who: of whom
 * the place is, as "the peer"; remedy: for another host, ": do this" or "". */
shmccl_result_t shmi_place_check(const struct shmi_place *place, const char *who, const char *remedy);

#endif
