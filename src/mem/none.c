/* none.c - no GPU: what a library that is built without CUDA says. */
#include "base/log.h"
#include "mem/gpu.h"

bool shmi_gpu_in_use(void) { return false; }
int shmi_gpu_count(void) { return 0; }
int shmi_gpu_choose(int device) { return (void)device, -1; }
void shmi_gpu_bus_id(int device, char text[SHMI_BUS_ID_BYTES]) { *text = (char)((void)device, 0); }

shmccl_result_t shmi_gpu_open(struct shmi_gpu **gpu, int device) {
  (void)gpu, (void)device;
  return shmi_error(SHMCCL_ERROR_CUDA, "this library was built without CUDA: use one that was built with it, or host "
                                       "memory (SHMCCL_MEMORY=host)");
}

/* Nothing below is reached: there is never a hold. */
void shmi_gpu_close(struct shmi_gpu *gpu) { (void)gpu; }
int shmi_gpu_device(const struct shmi_gpu *gpu) { return (void)gpu, 0; }
const char *shmi_gpu_register(const struct shmi_gpu *gpu, struct shmi_pinned *p, void *host, size_t bytes,
                              uint64_t most) {
  (void)gpu, (void)p, (void)host, (void)bytes, (void)most;
  return "no CUDA";
}
void shmi_gpu_unpin(const struct shmi_gpu *gpu, struct shmi_pinned *p) { (void)gpu, (void)p; }
void shmi_gpu_free(const struct shmi_gpu *gpu, void *p) { (void)gpu, (void)p; }

static shmccl_result_t unreachable(void) { return shmi_error(SHMCCL_ERROR_INTERNAL, "a GPU is used without CUDA"); }

shmccl_result_t shmi_gpu_pin(const struct shmi_gpu *gpu, struct shmi_pinned *p, size_t bytes) {
  return (void)gpu, (void)p, (void)bytes, unreachable();
}
shmccl_result_t shmi_gpu_allocate(const struct shmi_gpu *gpu, void **p, size_t bytes) {
  return (void)gpu, (void)p, (void)bytes, unreachable();
}
shmccl_result_t shmi_gpu_kind_of(const struct shmi_gpu *gpu, const void *p, enum shmi_memory_kind *kind) {
  return (void)gpu, (void)p, (void)kind, unreachable();
}
shmccl_result_t shmi_gpu_launch(struct shmi_gpu *gpu, struct shmi_launch *launch, void *stream) {
  return (void)gpu, (void)launch, (void)stream, unreachable();
}
shmccl_result_t shmi_gpu_launch_group(struct shmi_gpu *gpu, struct shmi_group *group, void *stream) {
  return (void)gpu, (void)group, (void)stream, unreachable();
}
shmccl_result_t shmi_gpu_copy(struct shmi_gpu *gpu, void *to, const void *from, size_t bytes, void *stream) {
  return (void)gpu, (void)to, (void)from, (void)bytes, (void)stream, unreachable();
}
shmccl_result_t shmi_gpu_open_engines(struct shmi_gpu *gpu) { return (void)gpu, unreachable(); }
shmccl_result_t shmi_gpu_carry(struct shmi_gpu *gpu, const struct shmi_carry *carry, void *stream) {
  return (void)gpu, (void)carry, (void)stream, unreachable();
}
shmccl_result_t shmi_gpu_is_captured(const struct shmi_gpu *gpu, void *stream, bool *captured) {
  return (void)gpu, (void)stream, (void)captured, unreachable();
}
void *shmi_gpu_own_stream(const struct shmi_gpu *gpu) { return (void)gpu, NULL; }
shmccl_result_t shmi_gpu_finish(struct shmi_gpu *gpu) { return (void)gpu, unreachable(); }
bool shmi_gpu_is_idle(const struct shmi_gpu *gpu) { return (void)gpu, true; }
bool shmi_gpu_is_lost(const struct shmi_gpu *gpu) { return (void)gpu, false; }
const char *shmi_gpu_wait(const struct shmi_gpu *gpu, bool patiently) { return (void)gpu, (void)patiently, "no CUDA"; }
