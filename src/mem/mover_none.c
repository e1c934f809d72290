/* mover_none.c - no GPU: there is never a track. */
#include "base/log.h"
#include "mem/mover.h"

int shmi_mover_devices(void) { return 0; }
const char *shmi_mover_probe(void) { return "this library was built without CUDA"; }

static shmccl_result_t unreachable(void) { return shmi_error(SHMCCL_ERROR_INTERNAL, "a GPU is used without CUDA"); }

shmccl_result_t shmi_track_open(struct shmi_track **track, const void *memory, enum shmi_direction direction) {
  return (void)track, (void)memory, (void)direction, unreachable();
}
bool shmi_track_close(struct shmi_track *track) { return !track; }
shmccl_result_t shmi_track_check(const struct shmi_track *track, const void *memory) {
  return (void)track, (void)memory, unreachable();
}
shmccl_result_t shmi_track_pin(const struct shmi_track *track, void *host, size_t bytes, uint64_t most) {
  return (void)track, (void)host, (void)bytes, (void)most, unreachable();
}
void shmi_mover_unpin(void *host) { (void)host; }
void shmi_track_post(struct shmi_track *track, void *to, const void *from, size_t bytes) {
  (void)track, (void)to, (void)from, (void)bytes;
}
uint32_t shmi_track_done(const struct shmi_track *track) { return (void)track, 0; }
shmccl_result_t shmi_track_state(const struct shmi_track *track) { return (void)track, unreachable(); }
