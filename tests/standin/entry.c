/*
 * entry.c - what every CUDA function of the stand-in does first: count the call, make it fail where a test asked for
 * that, refuse it where CUDA would. Also the statistics that are made of the counts.
 */
#include "internal.h"

#include <stdio.h>
#include <unistd.h>

struct order {
  struct order *next;
  char *function;
  unsigned long left;
  cudaError_t error;
  bool breaks; /* the device too */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct si_call *calls;
static struct order *orders;
_Thread_local bool si_in_host_function;

/* ---- calls that are to fail -------------------------------------------------------------------------------------- */

/* Under the lock. */
static void add_order(const char *function, unsigned long nth, cudaError_t error, bool breaks) {
  struct order *order = si_alloc(sizeof *order);
  *order = (struct order){orders, strdup(function), nth, error, breaks};
  __atomic_store_n(&orders, order, __ATOMIC_RELEASE);
}

/* STANDIN_FAIL=function:n:error[:break][,...] for programs as they are. */
static void read_orders(void) {
  char *list = strdup(si_options()->fail ? si_options()->fail : ""), *rest = list, *item;
  while ((item = strsep(&rest, ",")) != NULL) {
    char name[128], word[8] = "";
    unsigned long nth;
    int error;
    if (!*item) continue;
    const int parts = sscanf(item, "%127[^:]:%lu:%d:%7s", name, &nth, &error, word);
    if (parts < 3 || (parts == 4 && strcmp(word, "break") != 0))
      si_die("STANDIN_FAIL: '%s' is not function:n:error or function:n:error:break", item);
    add_order(name, nth, (cudaError_t)error, parts == 4);
  }
  free(list);
}

void standin_fail(const char *function, unsigned long nth, cudaError_t error) {
  struct order *order;
  pthread_mutex_lock(&lock);
  if (function) add_order(function, nth, error, false);
  while (!function && (order = orders) != NULL) {
    __atomic_store_n(&orders, order->next, __ATOMIC_RELEASE);
    free(order->function);
    free(order);
  }
  pthread_mutex_unlock(&lock);
}

static cudaError_t ordered_error(const char *name) {
  cudaError_t error = cudaSuccess;
  if (!__atomic_load_n(&orders, __ATOMIC_ACQUIRE)) return error;
  pthread_mutex_lock(&lock);
  for (struct order *order = orders; order; order = order->next)
    if (order->left && !strcmp(order->function, name) && !--order->left) {
      error = order->error;
      if (order->breaks) standin_break(si_device, error);
    }
  pthread_mutex_unlock(&lock);
  if (error != cudaSuccess) si_say(1, "%s fails on order", name);
  return error;
}

/* ---- every call -------------------------------------------------------------------------------------------------- */

static void count(struct si_call *call) {
  __atomic_add_fetch(&call->count, 1, __ATOMIC_RELAXED);
  if (__atomic_load_n(&call->listed, __ATOMIC_RELAXED)) return;
  pthread_mutex_lock(&lock);
  if (!call->listed) {
    call->next = calls;
    calls = call;
  }
  __atomic_store_n(&call->listed, true, __ATOMIC_RELAXED);
  pthread_mutex_unlock(&lock);
}

cudaError_t si_enter(struct si_call *call, int flags) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, read_orders);
  count(call);
  si_say(2, "%s", call->name);
  const cudaError_t ordered = ordered_error(call->name);
  if (ordered != cudaSuccess || flags == ANY) return ordered;
  if (si_in_host_function) return cudaErrorNotPermitted;
  if (!si_options()->devices) return cudaErrorNoDevice;
  const cudaError_t lasting = standin_broken(si_device);
  if (lasting != cudaSuccess) return lasting;
  return flags == UNSAFE ? si_capture_forbids() : cudaSuccess;
}

unsigned long standin_calls(const char *function) {
  unsigned long sum = 0;
  pthread_mutex_lock(&lock);
  for (struct si_call *call = calls; call; call = call->next)
    if (!strcmp(call->name, function)) sum += __atomic_load_n(&call->count, __ATOMIC_RELAXED);
  pthread_mutex_unlock(&lock);
  return sum;
}

/* ---- statistics -------------------------------------------------------------------------------------------------- */

struct standin_stats standin_stats(void) {
  struct standin_stats stats = {0};
  si_memory_stats(&stats);
  si_copy_stats(&stats);
  si_stream_stats(&stats);
  stats.events = si_event_count();
  stats.graphs = si_graph_count();
  stats.graph_execs = si_exec_count();
  stats.kernels = si_kernel_count();
  return stats;
}

/* STANDIN_STATS=1: at the end of the program, while threads of it may still call. */
__attribute__((destructor)) static void print_stats(void) {
  pthread_mutex_lock(&lock);
  struct si_call *all = calls;
  pthread_mutex_unlock(&lock);
  if (!all || !si_options()->stats) return;
  const struct standin_stats s = standin_stats();
  si_say(0,
         "left: %zu device bytes in %ld ranges, %zu host bytes in %ld, %ld streams, %ld events, %ld graphs, %ld "
         "instantiated; ran: %lu kernels, %lu copies, %lu fills, %lu host functions",
         s.device_bytes, s.device_ranges, s.host_bytes, s.host_ranges, s.streams, s.events, s.graphs, s.graph_execs,
         s.kernels, s.copies, s.fills, s.host_functions);
  for (struct si_call *call = all; call; call = call->next)
    fprintf(stderr, "  %8lu %s\n", __atomic_load_n(&call->count, __ATOMIC_RELAXED), call->name);
}
