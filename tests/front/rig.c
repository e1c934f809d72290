/* rig.c - see rig.h. */
#include "rig.h"

#include <dlfcn.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/ordering.h"

struct api front, fake;
int (*rig_count)(const char *);
void (*rig_answer)(int);
struct rig_shared *rig_shared;

static void *load(struct api *api, const char *file) {
  void *library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
  CHECK_TEXT(library, "%s", dlerror());
#define SYMBOL(name, parameters, arguments)                 *(void **)&api->name = dlsym(library, "nccl" #name);
#define OTHER(result, name, parameters, arguments, lacking) SYMBOL(name, parameters, arguments)
#include "front/symbols.def"
  return library;
}

void rig_load(void) {
  load(&front, getenv("FRONT"));
  void *library = load(&fake, getenv("SHMCCL_NCCL_LIB"));
  *(void **)&rig_count = dlsym(library, "fake_count");
  *(void **)&rig_answer = dlsym(library, "fake_answer");
}

/* ---- ranks ------------------------------------------------------------------------------------------------------- */

void rig_begin(void) {
  rig_shared = mmap(NULL, sizeof *rig_shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(rig_shared != MAP_FAILED);
}

void rig_prepare(void) {
  rig_load();
  for (int i = 0; i < RIG_RANKS; i++) OK(fake.GetUniqueId(&rig_shared->id[i]));
  memset(rig_shared->met, 0, sizeof rig_shared->met);
}

void rig_meet(int rank, int nranks, uint32_t number) {
  shmi_publish32(&rig_shared->met[rank], number);
  for (int r = 0; r < nranks; r++)
    while (shmi_observe32(&rig_shared->met[r]) < number) usleep(1000);
}

/* ---- data -------------------------------------------------------------------------------------------------------- */

struct data rig_open(void) {
  struct data d;
  CUDA(cudaMalloc((void **)&d.buffer, RIG_COUNT * RIG_RANKS * sizeof(float)));
  CUDA(cudaStreamCreateWithFlags(&d.stream, cudaStreamNonBlocking));
  return d;
}

void rig_close(struct data *d) {
  CUDA(cudaStreamSynchronize(d->stream));
  CUDA(cudaFree(d->buffer));
  CUDA(cudaStreamDestroy(d->stream));
}

void rig_fill(const struct data *d, float value) {
  float values[RIG_COUNT];
  for (int i = 0; i < RIG_COUNT; i++) values[i] = value + (float)i;
  CUDA(cudaMemcpy(d->buffer, values, sizeof values, cudaMemcpyHostToDevice));
  CUDA(cudaDeviceSynchronize());
}

void rig_expect(const struct data *d, float first, float step) {
  float values[RIG_COUNT];
  CUDA(cudaStreamSynchronize(d->stream));
  CUDA(cudaMemcpy(values, d->buffer, sizeof values, cudaMemcpyDeviceToHost));
  for (int i = 0; i < RIG_COUNT; i++)
    CHECK_TEXT(values[i] == first + step * (float)i, "element %d is %g", i, (double)values[i]);
}

void rig_expect_sum(const struct data *d, int nranks) {
  rig_expect(d, (float)(nranks * (nranks - 1) / 2), (float)nranks);
}

nccl_result_t rig_call(nccl_comm_t comm, const struct data *d) {
  return front.AllReduce(d->buffer, d->buffer, RIG_COUNT, NCCL_FLOAT32, NCCL_SUM, comm, d->stream);
}

bool rig_all_reduce(nccl_comm_t comm, const struct data *d, int rank, int nranks) {
  const int before = rig_count("AllReduce");
  rig_fill(d, (float)rank);
  OK(rig_call(comm, d));
  const bool asked = rig_count("AllReduce") > before;
  rig_expect_sum(d, nranks);
  return asked;
}
