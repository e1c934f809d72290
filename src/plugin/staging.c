/* staging.c - pinned buffers and tracks. */
#include "plugin/staging.h"

#include <sys/mman.h>

#include "base/log.h"
#include "plugin/gdr.h"

enum { BYTES = SHMI_STAGED_CHUNKS * SHMI_STAGED_BYTES };

static shmccl_result_t open_tracks(struct shmi_staging *s, const void *memory) {
  uint64_t limit;
  SHMI_RETURN_IF_ERROR(shmi_gdr_pinned_limit(&limit));
  SHMI_RETURN_IF_ERROR(shmi_track_open(&s->in, memory, SHMI_FROM_DEVICE));
  shmccl_result_t result = shmi_track_open(&s->out, memory, SHMI_TO_DEVICE);
  if (result != SHMCCL_SUCCESS) goto close_in;
  result = shmi_track_pin(s->in, s->buffers, BYTES, limit);
  if (result == SHMCCL_SUCCESS) return result;
  shmi_track_close(s->out);
close_in:
  shmi_track_close(s->in);
  return result;
}

shmccl_result_t shmi_staging_open(struct shmi_staging *s, const void *memory) {
  struct shmi_staging made = {.buffers = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)};
  if (made.buffers == MAP_FAILED) return shmi_error(SHMCCL_ERROR_NO_MEMORY, "no memory to stage a GPU's data: %m");
  const shmccl_result_t result = open_tracks(&made, memory);
  if (result != SHMCCL_SUCCESS) return munmap(made.buffers, BYTES), result;
  *s = made;
  return SHMCCL_SUCCESS;
}

/* What the GPU still copies stays as it is. */
void shmi_staging_close(struct shmi_staging *s) {
  if (!s->buffers) return;
  const bool in = shmi_track_close(s->in), out = shmi_track_close(s->out);
  if (!in || !out) return;
  shmi_mover_unpin(s->buffers);
  munmap(s->buffers, BYTES);
  s->buffers = NULL;
}
