/*
 * gpu_none.c - no GPU: what a program that is built without CUDA says.
 */
#include "gpu.h"

#include <stdio.h>

void gpu_find(struct gpus *gpus) {
  gpus->count = 0;
  snprintf(gpus->missing, sizeof gpus->missing, "this program was built without CUDA: build it where nvcc is");
}

/* Nothing below is reached: no GPU is ever found. */
static bool fail(void) { return false; }

bool gpu_use(int rank, char *error) { return (void)rank, (void)error, fail(); }
bool gpu_used(struct gpu_card *card, char *error) { return (void)card, (void)error, fail(); }
struct gpu *gpu_open(const struct buffer buffers[2], char *error) {
  return (void)buffers, (void)error, NULL;
}
void gpu_close(struct gpu *gpu) { (void)gpu; }
void *gpu_stream(const struct gpu *gpu) { return (void)gpu, NULL; }
void *gpu_twin(const struct gpu *gpu, const void *host) { return (void)gpu, (void)host, NULL; }
bool gpu_push(struct gpu *gpu, size_t bytes) { return (void)gpu, (void)bytes, fail(); }
bool gpu_pull(struct gpu *gpu, size_t bytes) { return (void)gpu, (void)bytes, fail(); }
bool gpu_wait(struct gpu *gpu) { return (void)gpu, fail(); }
bool gpu_capture_begin(struct gpu *gpu) { return (void)gpu, fail(); }
bool gpu_capture_end(struct gpu *gpu) { return (void)gpu, fail(); }
bool gpu_replay(struct gpu *gpu, uint64_t times) { return (void)gpu, (void)times, fail(); }
bool gpu_mark(struct gpu *gpu) { return (void)gpu, fail(); }
bool gpu_read_marks(struct gpu *gpu, double *seconds, float *spans) {
  return (void)gpu, (void)seconds, (void)spans, fail();
}
bool gpu_time_link(struct gpu *gpu, enum gpu_direction direction, size_t bytes, uint64_t iters, double *seconds) {
  return (void)gpu, (void)direction, (void)bytes, (void)iters, (void)seconds, fail();
}
size_t gpu_link_open(struct gpu *gpu, size_t bytes) { return (void)gpu, (void)bytes, 0; }
void gpu_link_close(struct gpu *gpu) { (void)gpu; }
