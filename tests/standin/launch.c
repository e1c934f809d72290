/*
 * launch.c - launches of the stand-in: the arguments are copied and checked at the launch, the implementation runs on
 * the stream's thread.
 *
 * Checked means: no word of the arguments is an address that the device could not use: a host address that has another
 * on the device, pageable or freed memory. On a GPU the kernel would fault at such an address, so the launch ends
 * with cudaErrorIllegalAddress when its turn comes. What device memory holds is not looked through.
 */
#include "internal.h"

#define ALIGNED(bytes) (((bytes) + 15) & ~(size_t)15)

struct work {
  const struct standin_kernel *implementation;
  struct si_kernel *kernel;
  struct si_config config;
  int device, n_args;
  size_t packed_bytes, at[STANDIN_MAX_ARGS], bytes[STANDIN_MAX_ARGS];
  bool bad; /* an address in the arguments */
  max_align_t data[];
};

static _Thread_local struct si_config configurations[16]; /* of <<<>>>, between its two calls */
static _Thread_local size_t nconfigurations;
static unsigned long kernels_run;

unsigned long si_kernel_count(void) { return __atomic_load_n(&kernels_run, __ATOMIC_RELAXED); }

static void *argument(struct work *w, int i) { return (char *)w->data + w->at[i]; }

/* ---- preparing --------------------------------------------------------------------------------------------------- */

static cudaError_t check_config(const struct si_kernel *k, const struct si_config *c) {
  const dim3 *g = &c->grid, *b = &c->block;
  if (!g->x || !g->y || !g->z || g->x > 0x7fffffff || g->y > 65535 || g->z > 65535)
    return cudaErrorInvalidConfiguration;
  if (!b->x || !b->y || !b->z || b->x > 1024 || b->y > 1024 || b->z > 64) return cudaErrorInvalidConfiguration;
  if (b->x * b->y * b->z > 1024) return cudaErrorInvalidConfiguration;
  return c->shared > si_kernel_shared_most(k) ? cudaErrorInvalidValue : cudaSuccess;
}

static const void *packed_arguments(void **extra, size_t *bytes) {
  const void *data = NULL;
  for (; extra && *extra != CU_LAUNCH_PARAM_END; extra += 2)
    if (*extra == CU_LAUNCH_PARAM_BUFFER_POINTER)
      data = extra[1];
    else if (*extra == CU_LAUNCH_PARAM_BUFFER_SIZE)
      *bytes = *(size_t *)extra[1];
  return data;
}

/* Where each argument is to be; their bytes together. */
static size_t lay_out(struct work *head, bool packed) {
  size_t end = 0;
  head->n_args = packed ? 1 : head->implementation->n_args;
  for (int i = 0; i < head->n_args; i++) {
    head->at[i] = end;
    head->bytes[i] = packed ? head->packed_bytes : head->implementation->arg_bytes[i];
    end += ALIGNED(head->bytes[i]);
  }
  return end;
}

static cudaError_t prepare(struct si_kernel *k, const struct si_config *c, void **parameters, void **extra,
                           struct work **work, size_t *bytes) {
  if (!k) return cudaErrorInvalidDeviceFunction;
  const cudaError_t error = check_config(k, c);
  if (error != cudaSuccess) return error;
  struct work head = {.implementation = si_implementation(k), .kernel = k, .config = *c, .device = si_device};
  if (!head.implementation) return cudaErrorNoKernelImageForDevice;
  const void *packed = packed_arguments(extra, &head.packed_bytes);
  if (!packed && !parameters && head.implementation->n_args) return cudaErrorInvalidValue;
  *bytes = sizeof head + lay_out(&head, packed != NULL);
  struct work *w = si_alloc(*bytes);
  *w = head;
  for (int i = 0; i < w->n_args; i++)
    if (w->bytes[i]) memcpy(argument(w, i), packed ? packed : parameters[i], w->bytes[i]);
  *work = w;
  return cudaSuccess;
}

cudaError_t si_prepare_launch(const struct cudaKernelNodeParams *p, void **work, size_t *bytes) {
  const struct si_config c = {p->gridDim, p->blockDim, p->sharedMemBytes, NULL};
  struct work *w;
  const cudaError_t error = prepare(si_kernel_of(p->func), &c, p->kernelParams, p->extra, &w, bytes);
  if (error == cudaSuccess) *work = w;
  return error;
}

void si_describe_launch(void *work, struct cudaKernelNodeParams *p, void **addresses) {
  struct work *w = work;
  for (int i = 0; i < w->n_args; i++) addresses[i] = argument(w, i);
  *p = (struct cudaKernelNodeParams){.func = (void *)(uintptr_t)si_kernel_symbol(w->kernel),
                                     .gridDim = w->config.grid,
                                     .blockDim = w->config.block,
                                     .sharedMemBytes = (unsigned)w->config.shared,
                                     .kernelParams = addresses};
}

void si_check_launch(void *work) {
  struct work *w = work;
  w->bad = false;
  for (int i = 0; i < w->n_args && !w->implementation->unchecked; i++)
    for (size_t at = 0; at + sizeof(uint64_t) <= w->bytes[i]; at += sizeof(uint64_t)) {
      uint64_t word;
      memcpy(&word, (char *)argument(w, i) + at, sizeof word);
      const char *why = si_bad_address(word, w->device);
      if (!why) continue;
      w->bad = true;
      si_say(0, "kernel %s, argument %d, byte %zu: 0x%llx is %s", si_kernel_name(w->kernel), i, at,
             (unsigned long long)word, why);
    }
}

/* ---- running ----------------------------------------------------------------------------------------------------- */

cudaError_t si_run_launch(void *arg) {
  struct work *w = arg;
  void *args[STANDIN_MAX_ARGS];
  if (w->bad) return cudaErrorIllegalAddress;
  for (int i = 0; i < w->n_args; i++) args[i] = argument(w, i);
  const struct standin_launch launch = {.kernel = si_kernel_name(w->kernel),
                                        .device = w->device,
                                        .grid = w->config.grid,
                                        .block = w->config.block,
                                        .shared_bytes = w->config.shared,
                                        .n_args = w->n_args,
                                        .args = args,
                                        .packed_bytes = w->packed_bytes};
  __atomic_add_fetch(&kernels_run, 1, __ATOMIC_RELAXED);
  return w->implementation->run(&launch);
}

cudaError_t si_launch(struct si_kernel *k, const struct si_config *c, void **parameters, void **extra) {
  struct work *w;
  struct CUstream_st *s;
  struct si_position where;
  size_t bytes;
  cudaError_t error = si_stream(c->stream, &s);
  if (error == cudaSuccess && s->device != si_device) error = cudaErrorInvalidResourceHandle;
  if (error == cudaSuccess) error = prepare(k, c, parameters, extra, &w, &bytes);
  if (error != cudaSuccess) return error;
  si_say(2, "launch %s, grid %u %u %u", si_kernel_name(k), c->grid.x, c->grid.y, c->grid.z);
  si_check_launch(w);
  error = si_submit(c->stream, cudaGraphNodeTypeKernel, si_run_launch, w, bytes, &where);
  free(w);
  return error;
}

/* ---- CUDA's functions -------------------------------------------------------------------------------------------- */

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared_bytes, struct CUstream_st *stream);
cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared_bytes, void *stream);

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared_bytes, struct CUstream_st *stream) {
  if (nconfigurations == LENGTH(configurations)) return 1;
  configurations[nconfigurations++] = (struct si_config){grid, block, shared_bytes, stream};
  return 0;
}

cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared_bytes, void *stream) {
  NEED(nconfigurations, cudaErrorMissingConfiguration);
  const struct si_config *c = &configurations[--nconfigurations];
  *grid = c->grid;
  *block = c->block;
  *shared_bytes = c->shared;
  *(cudaStream_t *)stream = c->stream;
  return cudaSuccess;
}

cudaError_t cudaLaunchKernel(const void *func, dim3 grid, dim3 block, void **arguments, size_t shared_bytes,
                             cudaStream_t stream) {
  ENTER(SAFE);
  const struct si_config config = {grid, block, shared_bytes, stream};
  return si_fail(si_launch(si_kernel_of(func), &config, arguments, NULL));
}

cudaError_t cudaLaunchCooperativeKernel(const void *func, dim3 grid, dim3 block, void **arguments, size_t shared_bytes,
                                        cudaStream_t stream) {
  ENTER(SAFE);
  const struct si_config config = {grid, block, shared_bytes, stream};
  return si_fail(si_launch(si_kernel_of(func), &config, arguments, NULL));
}

/* Of the attributes only events matter here: before the launch and after it. */
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *c, const void *func, void **arguments) {
  ENTER(SAFE);
  NEED(c && (!c->numAttrs || c->attrs), cudaErrorInvalidValue);
  const struct si_config config = {c->gridDim, c->blockDim, c->dynamicSmemBytes, c->stream};
  for (unsigned i = 0; i < c->numAttrs; i++)
    if (c->attrs[i].id == cudaLaunchAttributeLaunchCompletionEvent)
      TRY(si_record(c->attrs[i].val.launchCompletionEvent.event, c->stream, 0));
  TRY(si_launch(si_kernel_of(func), &config, arguments, NULL));
  for (unsigned i = 0; i < c->numAttrs; i++)
    if (c->attrs[i].id == cudaLaunchAttributeProgrammaticEvent)
      TRY(si_record(c->attrs[i].val.programmaticEvent.event, c->stream, 0));
  return cudaSuccess;
}
