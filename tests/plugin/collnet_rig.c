/* collnet_rig.c - see collnet_rig.h. */
#include "collnet_rig.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

/* ---- loading ----------------------------------------------------------------------------------------------------- */

void *rig_symbol(const char *name) {
  void *plugin = dlopen(PLUGIN_FILE, RTLD_NOW | RTLD_LOCAL);
  CHECK_TEXT(plugin, "%s", dlerror());
  void *symbol = dlsym(plugin, name);
  CHECK_TEXT(symbol, "%s is not exported", name);
  return symbol;
}

/* Members that all versions have. */
#define TAKE(rig, table)                                                                                               \
  do {                                                                                                                 \
    CHECK(!strcmp((table)->name, "shmccl"));                                                                           \
    CHECK((table)->devices && (table)->get_properties && (table)->listen && (table)->iallreduce);                      \
    CHECK(!(table)->iallgather && !(table)->ireducescatter && !(table)->reg_mr_dmabuf);                                \
    (rig)->connect = (table)->connect;                                                                                 \
    (rig)->reduce_support = (table)->reduce_support;                                                                   \
    (rig)->reg_mr = (table)->reg_mr;                                                                                   \
    (rig)->dereg_mr = (table)->dereg_mr;                                                                               \
    (rig)->iflush = (table)->iflush;                                                                                   \
    (rig)->test = (table)->test;                                                                                       \
    (rig)->close_coll = (table)->close_coll;                                                                           \
    (rig)->close_listen = (table)->close_listen;                                                                       \
  } while (0)

struct rig rig_open(int version) {
  char name[32];
  struct rig rig = {.version = version};
  snprintf(name, sizeof name, "ncclCollNetPlugin_v%d", version);
  const void *table = rig_symbol(name);
  if (version == 8) {
    rig.old = table;
    TAKE(&rig, rig.old);
    CHECK(rig.old->init(rig_logger) == NCCL_SUCCESS);
  } else if (version <= 10) {
    rig.plain = table;
    TAKE(&rig, rig.plain);
    CHECK(rig.plain->init(rig_logger) == NCCL_SUCCESS);
  } else {
    rig.late = table;
    TAKE(&rig, rig.late);
    CHECK(rig.late->finalize);
    CHECK(rig.late->init(&rig.context, 0x123456789abcdef0ull, rig_logger) == NCCL_SUCCESS);
  }
  return rig;
}

void rig_finalize(const struct rig *rig) {
  if (rig->late) CHECK(rig->late->finalize(rig->context) == NCCL_SUCCESS);
}

nccl_result_t rig_listen(const struct rig *rig, int device, void *handle, void **listen_comm) {
  if (rig->late) return rig->late->listen(rig->context, device, handle, listen_comm);
  return (rig->old ? rig->old->listen : rig->plain->listen)(device, handle, listen_comm);
}

nccl_result_t rig_iallreduce(const struct rig *rig, void *coll, void *sendbuf, void *recvbuf, size_t count,
                             nccl_datatype_t type, nccl_redop_t op, void *send_mhandle, void *recv_mhandle,
                             void **request) {
  if (rig->old)
    return rig->old->iallreduce(coll, sendbuf, recvbuf, (int)count, type, op, send_mhandle, recv_mhandle, request);
  return (rig->plain ? rig->plain->iallreduce : rig->late->iallreduce)(coll, sendbuf, recvbuf, count, type, op,
                                                                       send_mhandle, recv_mhandle, request);
}

/* ---- log --------------------------------------------------------------------------------------------------------- */

static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static int warnings;
static char last_warning[RIG_LINE];

void rig_logger(nccl_log_level_t level, unsigned long subsystems, const char *file, int line, const char *format, ...) {
  va_list arguments;
  (void)subsystems, (void)file, (void)line;
  if (level != NCCL_LOG_WARN) return;
  pthread_mutex_lock(&log_lock);
  warnings++;
  va_start(arguments, format);
  vsnprintf(last_warning, sizeof last_warning, format, arguments);
  va_end(arguments);
  pthread_mutex_unlock(&log_lock);
}

int rig_warnings(char last[RIG_LINE]) {
  pthread_mutex_lock(&log_lock);
  const int count = warnings;
  if (last) memcpy(last, last_warning, RIG_LINE);
  warnings = 0;
  pthread_mutex_unlock(&log_lock);
  return count;
}

void rig_expect(nccl_result_t got, nccl_result_t wanted, const char *words, const char *file, int line,
                const char *call) {
  char text[RIG_LINE], word[64];
  const int count = rig_warnings(text);
  if (got != wanted) harness_fail(file, line, "%s: result %d, not %d", call, (int)got, (int)wanted);
  if (count != (words != NULL)) harness_fail(file, line, "%s: %d warnings, the last: %.200s", call, count, text);
  for (const char *at = words; at; at = strchr(at, '|'), at += at != NULL) {
    snprintf(word, sizeof word, "%.*s", (int)strcspn(at, "|"), at);
    if (!strstr(text, word)) harness_fail(file, line, "%s: no '%s' in: %.200s", call, word, text);
  }
}

/* ---- ranks ------------------------------------------------------------------------------------------------------- */

struct rig_exchange *rig_exchanges(int count) {
  void *memory = mmap(NULL, (size_t)count * sizeof(struct rig_exchange), PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(memory != MAP_FAILED);
  return memory;
}

void rig_barrier(struct rig_exchange *exchange, int rank, int nranks) {
  __atomic_store_n(&exchange->written[rank], 1, __ATOMIC_RELEASE);
  for (int r = 0; r < nranks; r++)
    while (!__atomic_load_n(&exchange->written[r], __ATOMIC_ACQUIRE)) sched_yield();
}

void *rig_meet(const struct rig *rig, struct rig_exchange *exchange, int rank, int nranks, void *handles[RIG_RANKS]) {
  void *listen_comm = NULL;
  CHECK(rig_listen(rig, 0, exchange->handles[rank], &listen_comm) == NCCL_SUCCESS && listen_comm);
  rig_barrier(exchange, rank, nranks);
  for (int r = 0; r < nranks; r++) handles[r] = exchange->handles[r];
  return listen_comm;
}

void *rig_connect(const struct rig *rig, struct rig_exchange *exchange, int rank, int nranks) {
  void *handles[RIG_RANKS], *coll = NULL;
  void *listen_comm = rig_meet(rig, exchange, rank, nranks, handles);
  CHECK(rig->connect(handles, nranks, rank, listen_comm, &coll) == NCCL_SUCCESS && coll);
  CHECK(rig->close_listen(listen_comm) == NCCL_SUCCESS);
  return coll;
}

nccl_result_t rig_wait(const struct rig *rig, void *request, int *bytes) {
  int done = 0;
  for (;;) {
    const nccl_result_t result = rig->test(request, &done, bytes);
    if (result != NCCL_SUCCESS || done) return result;
    sched_yield();
  }
}
