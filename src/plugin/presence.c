/* presence.c - see presence.h. */
#include "plugin/presence.h"

#include <stdio.h>

#include "shm/liveness.h"

/* Rank 0's id names the communicator too. */
static void name_of(uint8_t name[SHMI_ID_BYTES], const uint8_t id[SHMI_ID_BYTES]) {
  for (int i = 0; i < SHMI_ID_BYTES; i++) name[i] = (uint8_t)~id[i];
}

static void as_info(const void *log, shmi_log_level_t level, const char *text) {
  (void)level;
  shmi_plugin_info(log, NCCL_SUBSYS_NET, "CollNet listen: the others will not notice if this rank dies: %s", text);
}

int shmi_presence_begin(struct shmi_presence *p, const uint8_t id[SHMI_ID_BYTES], const struct shmi_plugin_log *log) {
  static const char note[] = "a listener of the NCCL plugin";
  const struct shmi_contents contents = {SHMI_PAGE, SHMI_PAGE, note, sizeof note};
  uint8_t name[SHMI_ID_BYTES];
  name_of(name, id);
  p->fork_generation = shmi_fork_generation();
  const struct shmi_log_sink before = shmi_log_redirect((struct shmi_log_sink){as_info, log});
  const shmccl_result_t result = shmi_segment_make(&p->segment, name, &contents);
  shmi_log_redirect(before);
  return result == SHMCCL_SUCCESS;
}

void shmi_presence_end(struct shmi_presence *p) {
  shmi_segment_detach(&p->segment, p->fork_generation != shmi_fork_generation());
}

shmccl_result_t shmi_attendance_add(struct shmi_attendance *a, const uint8_t id[SHMI_ID_BYTES]) {
  uint8_t name[SHMI_ID_BYTES];
  const int rank = a->nranks++;
  a->ranks[rank].is_known = id != NULL;
  a->ranks[rank].segment = (struct shmi_segment){.lock_fd = -1};
  if (!id) return SHMCCL_SUCCESS;
  name_of(name, id);
  return shmi_segment_open(&a->ranks[rank].segment, name);
}

static int is_gone(const struct shmi_attendance *a, int rank) {
  const int fd = a->ranks[rank].segment.lock_fd;
  return a->ranks[rank].is_known && (fd < 0 || shmi_liveness_held(fd, 0) == 0);
}

shmccl_result_t shmi_attendance_look(const void *attendance, int *culprit) {
  const struct shmi_attendance *a = attendance;
  char ranks[256] = "";
  int length = 0;
  for (int r = a->nranks - 1; r >= 0; r--)
    if (is_gone(a, r)) *culprit = r;
  for (int r = 0; r < a->nranks; r++)
    if (is_gone(a, r)) length += snprintf(ranks + length, sizeof ranks - (size_t)length, " %d", r);
  if (!length) return SHMCCL_SUCCESS;
  return shmi_error(SHMCCL_ERROR_PEER_DIED,
                    "CollNet connect: rank%s died or gave up before all ranks had met: look at its log", ranks);
}

void shmi_attendance_end(struct shmi_attendance *a) {
  for (int r = 0; r < a->nranks; r++) shmi_segment_detach(&a->ranks[r].segment, 0);
}
