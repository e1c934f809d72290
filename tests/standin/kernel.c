/*
 * kernel.c - which kernels there are, and what stands in for each.
 *
 * Host code knows a kernel by an address, its host stub. The code that nvcc generates registers stubs and names here,
 * as it would with the real runtime, and its device code is ignored; a program without nvcc registers any address
 * (standin_kernel_symbol). Implementations are known by name (standin_kernel). Shared objects named in STANDIN_KERNELS
 * are loaded when a kernel without one is launched, and register theirs as they load.
 */
#include "internal.h"

#include <ctype.h>
#include <dlfcn.h>

struct si_kernel {
  struct si_kernel *next;
  const void *symbol;
  char *name;
  bool complained; /* atomic */
  int shared_most; /* atomic */
};

struct variable {
  struct variable *next;
  const void *symbol;
  size_t bytes;
  void *memory;
};

struct known {
  struct known *next;
  const struct standin_kernel *kernel;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct si_kernel *kernels;
static struct variable *variables;
static struct known *known;

static void add_kernel(const void *symbol, const char *name) {
  struct si_kernel *k = si_alloc(sizeof *k);
  k->symbol = symbol;
  k->name = strdup(name);
  k->shared_most = SI_SHARED_BYTES;
  pthread_mutex_lock(&lock);
  k->next = kernels;
  kernels = k;
  pthread_mutex_unlock(&lock);
}

struct si_kernel *si_kernel_of(const void *symbol) {
  pthread_mutex_lock(&lock);
  struct si_kernel *k = kernels;
  while (k && k->symbol != symbol && k != symbol) k = k->next; /* a cudaKernel_t serves as well */
  pthread_mutex_unlock(&lock);
  return k;
}

const void *si_kernel_symbol(const struct si_kernel *k) { return k->symbol; }
const char *si_kernel_name(const struct si_kernel *k) { return k->name; }

size_t si_kernel_shared_most(const struct si_kernel *k) {
  return (size_t)__atomic_load_n(&k->shared_most, __ATOMIC_RELAXED);
}

/* ---- implementations --------------------------------------------------------------------------------------------- */

void standin_kernel(const struct standin_kernel *kernel) {
  struct known *n = si_alloc(sizeof *n);
  pthread_mutex_lock(&lock);
  *n = (struct known){known, kernel};
  known = n;
  pthread_mutex_unlock(&lock);
}

void standin_kernel_symbol(const void *symbol, const struct standin_kernel *kernel) {
  standin_kernel(kernel);
  add_kernel(symbol, kernel->name);
}

/* Does the compiler's name mean the plain name? _Z3addPfi means add; nested names are known only mangled. */
static bool means(const char *name, const char *wanted) {
  const size_t n = strlen(wanted);
  const bool prefix = n && wanted[n - 1] == '*';
  size_t length = 0;
  if (prefix ? !strncmp(name, wanted, n - 1) : !strcmp(name, wanted)) return true;
  if (strncmp(name, "_Z", 2) != 0) return false;
  for (name += 2; isdigit((unsigned char)*name); name++) length = length * 10 + (size_t)(*name - '0');
  return prefix ? length >= n - 1 && !strncmp(name, wanted, n - 1) : length == n && !strncmp(name, wanted, n);
}

static const struct standin_kernel *find_known(const char *name) {
  const struct standin_kernel *found = NULL;
  pthread_mutex_lock(&lock);
  for (struct known *n = known; n && !found; n = n->next)
    if (means(name, n->kernel->name)) found = n->kernel;
  pthread_mutex_unlock(&lock);
  return found;
}

static void load_kernels(void) {
  char *list = strdup(si_options()->kernels ? si_options()->kernels : ""), *rest = list, *file;
  while ((file = strsep(&rest, ":")) != NULL)
    if (*file && !dlopen(file, RTLD_NOW | RTLD_LOCAL)) si_die("STANDIN_KERNELS: %s", dlerror());
  free(list);
}

const struct standin_kernel *si_implementation(struct si_kernel *k) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  const struct standin_kernel *found = find_known(k->name);
  if (found) return found;
  pthread_once(&once, load_kernels);
  found = find_known(k->name);
  if (!found && !__atomic_exchange_n(&k->complained, true, __ATOMIC_RELAXED))
    si_say(0, "nothing stands in for kernel %s", k->name);
  return found;
}

/* ---- what nvcc's host code calls --------------------------------------------------------------------------------- */

void **__cudaRegisterFatBinary(void *fat);
void __cudaRegisterFatBinaryEnd(void **handle);
void __cudaUnregisterFatBinary(void **handle);
char __cudaInitModule(void **handle);
void __cudaRegisterFunction(void **handle, const char *symbol, char *device, const char *name, int thread_limit,
                            uint3 *tid, uint3 *bid, dim3 *block, dim3 *grid, int *warp);
void __cudaRegisterVar(void **handle, char *symbol, char *device, const char *name, int external, size_t bytes,
                       int constant, int global);
cudaError_t __cudaGetKernel(cudaKernel_t *kernel, const void *symbol);
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void **arguments, size_t shared_bytes,
                               cudaStream_t stream);

void **__cudaRegisterFatBinary(void *fat) {
  static void *handle;
  (void)fat;
  return &handle;
}

void __cudaRegisterFatBinaryEnd(void **handle) { (void)handle; }
void __cudaUnregisterFatBinary(void **handle) { (void)handle; }

char __cudaInitModule(void **handle) {
  (void)handle;
  return 1;
}

void __cudaRegisterFunction(void **handle, const char *symbol, char *device, const char *name, int thread_limit,
                            uint3 *tid, uint3 *bid, dim3 *block, dim3 *grid, int *warp) {
  (void)handle, (void)device, (void)thread_limit, (void)tid, (void)bid, (void)block, (void)grid, (void)warp;
  add_kernel(symbol, name);
}

cudaError_t __cudaGetKernel(cudaKernel_t *kernel, const void *symbol) { return cudaGetKernel(kernel, symbol); }

cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void **arguments, size_t shared_bytes,
                               cudaStream_t stream) {
  return cudaLaunchKernel(kernel, grid, block, arguments, shared_bytes, stream);
}

/* ---- __device__ and __constant__ variables: zeros until written (initialisers are in the device code)
 * ---------------- */

void __cudaRegisterVar(void **handle, char *symbol, char *device, const char *name, int external, size_t bytes,
                       int constant, int global) {
  (void)handle, (void)device, (void)name, (void)external, (void)constant, (void)global;
  struct variable *v = si_alloc(sizeof *v);
  *v = (struct variable){NULL, symbol, bytes, si_alloc(bytes)};
  si_add_symbol(v->memory, bytes);
  pthread_mutex_lock(&lock);
  v->next = variables;
  variables = v;
  pthread_mutex_unlock(&lock);
}

static struct variable *variable_of(const void *symbol) {
  pthread_mutex_lock(&lock);
  struct variable *v = variables;
  while (v && v->symbol != symbol) v = v->next;
  pthread_mutex_unlock(&lock);
  return v;
}

cudaError_t cudaGetSymbolAddress(void **p, const void *symbol) {
  ENTER(SAFE);
  const struct variable *v = variable_of(symbol);
  NEED(p, cudaErrorInvalidValue);
  NEED(v, cudaErrorInvalidSymbol);
  *p = v->memory;
  return cudaSuccess;
}

cudaError_t cudaGetSymbolSize(size_t *bytes, const void *symbol) {
  ENTER(SAFE);
  const struct variable *v = variable_of(symbol);
  NEED(bytes, cudaErrorInvalidValue);
  NEED(v, cudaErrorInvalidSymbol);
  *bytes = v->bytes;
  return cudaSuccess;
}

/* Where a copy of that many bytes would begin. */
static cudaError_t inside_variable(const void *symbol, size_t bytes, size_t offset, char **at) {
  const struct variable *v = variable_of(symbol);
  if (!v) return cudaErrorInvalidSymbol;
  if (offset > v->bytes || bytes > v->bytes - offset) return cudaErrorInvalidValue;
  *at = (char *)v->memory + offset;
  return cudaSuccess;
}

cudaError_t cudaMemcpyToSymbol(const void *symbol, const void *from, size_t bytes, size_t offset,
                               enum cudaMemcpyKind kind) {
  ENTER(UNSAFE);
  char *at;
  TRY(inside_variable(symbol, bytes, offset, &at));
  return si_fail(si_copy(at, from, bytes, kind, NULL, true));
}

cudaError_t cudaMemcpyFromSymbol(void *to, const void *symbol, size_t bytes, size_t offset, enum cudaMemcpyKind kind) {
  ENTER(UNSAFE);
  char *at;
  TRY(inside_variable(symbol, bytes, offset, &at));
  return si_fail(si_copy(to, at, bytes, kind, NULL, true));
}

cudaError_t cudaMemcpyToSymbolAsync(const void *symbol, const void *from, size_t bytes, size_t offset,
                                    enum cudaMemcpyKind kind, cudaStream_t stream) {
  ENTER(SAFE);
  char *at;
  TRY(inside_variable(symbol, bytes, offset, &at));
  return si_fail(si_copy(at, from, bytes, kind, stream, false));
}

cudaError_t cudaMemcpyFromSymbolAsync(void *to, const void *symbol, size_t bytes, size_t offset,
                                      enum cudaMemcpyKind kind, cudaStream_t stream) {
  ENTER(SAFE);
  char *at;
  TRY(inside_variable(symbol, bytes, offset, &at));
  return si_fail(si_copy(to, at, bytes, kind, stream, false));
}

/* ---- what CUDA tells about kernels ------------------------------------------------------------------------------- */

cudaError_t cudaGetFuncBySymbol(cudaFunction_t *function, const void *symbol) {
  ENTER(ANY);
  NEED(function, cudaErrorInvalidValue);
  *function = (cudaFunction_t)si_kernel_of(symbol);
  return *function ? cudaSuccess : si_fail(cudaErrorInvalidDeviceFunction);
}

cudaError_t cudaGetKernel(cudaKernel_t *kernel, const void *symbol) {
  ENTER(ANY);
  NEED(kernel, cudaErrorInvalidValue);
  *kernel = (cudaKernel_t)si_kernel_of(symbol);
  return *kernel ? cudaSuccess : si_fail(cudaErrorInvalidDeviceFunction);
}

cudaError_t cudaFuncGetName(const char **name, const void *symbol) {
  ENTER(ANY);
  const struct si_kernel *k = si_kernel_of(symbol);
  NEED(name, cudaErrorInvalidValue);
  NEED(k, cudaErrorInvalidDeviceFunction);
  *name = k->name;
  return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *a, const void *symbol) {
  ENTER(SAFE);
  const struct si_kernel *k = si_kernel_of(symbol);
  const int version = si_options()->major * 10 + si_options()->minor;
  NEED(a, cudaErrorInvalidValue);
  NEED(k, cudaErrorInvalidDeviceFunction);
  *a = (struct cudaFuncAttributes){.maxThreadsPerBlock = 1024,
                                   .numRegs = 32,
                                   .ptxVersion = version,
                                   .binaryVersion = version,
                                   .maxDynamicSharedSizeBytes = (int)si_kernel_shared_most(k),
                                   .preferredShmemCarveout = -1};
  return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void *symbol, enum cudaFuncAttribute attribute, int value) {
  ENTER(SAFE);
  struct si_kernel *k = si_kernel_of(symbol);
  NEED(k, cudaErrorInvalidDeviceFunction);
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
  NEED(value >= 0 && value <= si_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, 0), cudaErrorInvalidValue);
  __atomic_store_n(&k->shared_most, value, __ATOMIC_RELAXED);
  return cudaSuccess;
}

cudaError_t cudaFuncSetCacheConfig(const void *symbol, enum cudaFuncCache config) {
  ENTER(SAFE);
  (void)config;
  NEED(si_kernel_of(symbol), cudaErrorInvalidDeviceFunction);
  return cudaSuccess;
}

static cudaError_t occupancy(int *blocks, const void *symbol, int threads, size_t shared) {
  NEED(si_kernel_of(symbol), cudaErrorInvalidDeviceFunction);
  NEED(blocks && threads > 0 && threads <= 1024, cudaErrorInvalidValue);
  const int by_shared =
      shared ? (int)((size_t)si_attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor, 0) / shared) : 32;
  *blocks = 2048 / threads < 32 ? 2048 / threads : 32;
  if (by_shared < *blocks) *blocks = by_shared;
  return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *symbol, int threads, size_t shared) {
  ENTER(SAFE);
  return occupancy(blocks, symbol, threads, shared);
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *symbol, int threads,
                                                                   size_t shared, unsigned flags) {
  ENTER(SAFE);
  (void)flags;
  return occupancy(blocks, symbol, threads, shared);
}
