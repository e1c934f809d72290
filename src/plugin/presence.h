/*
 * presence.h - whether ranks that listened for CollNet are still there, until they have met.
 *
 * Between listen and the communicator's segment a rank holds no lock that others know of. So a listener makes a small
 * file of its own in the segment folder, whose lock it holds; its name comes from the id in the handle. It goes with
 * the listener, or with its process.
 */
#ifndef SHMI_PLUGIN_PRESENCE_H
#define SHMI_PLUGIN_PRESENCE_H

#include "plugin/plugin.h"
#include "shm/segment.h"

struct shmi_presence {
  struct shmi_segment segment;
  uint32_t fork_generation;
};

/* False if there can be no such file: connect meets the same trouble and reports it, so here it is an INFO line. */
int shmi_presence_begin(struct shmi_presence *presence, const uint8_t id[SHMI_ID_BYTES],
                        const struct shmi_plugin_log *log);
void shmi_presence_end(struct shmi_presence *presence);

/* The presences of other ranks. */
struct shmi_attendance {
  int nranks;
  struct {
    int is_known; /* its handle says that it has a presence */
    struct shmi_segment segment;
  } ranks[SHMCCL_MAX_RANKS];
};

/* Adds the next rank. id NULL: nothing is known of it; it counts as there. */
shmccl_result_t shmi_attendance_add(struct shmi_attendance *attendance, const uint8_t id[SHMI_ID_BYTES]);
/* An error, logged, that names those who are gone; *culprit: the first. For struct shmi_watch. */
shmccl_result_t shmi_attendance_look(const void *attendance, int *culprit);
void shmi_attendance_end(struct shmi_attendance *attendance);

#endif
