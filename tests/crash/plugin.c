/*
 * plugin.c - the NCCL plugin's calls, by its own tables: connections between all pairs of ranks, and CollNet.
 *
 * Handles go through the ranks' marks. A rank that has not left its handles when it is hurt is NCCL's to notice: the
 * others then end.
 */
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "crash/work.h"
#include "plugin/nccl_collnet.h"
#include "plugin/nccl_net.h"

extern nccl_net_v12_t ncclNetPlugin_v12;
extern const nccl_collnet_v12_t ncclCollNetPlugin_v12;

enum work { NET, COLLNET };
const char *const work_names[WORKS_MOST] = {"net, all with all", "collnet"};
const int work_ranks_most = 4;

enum { SMALL = 8, LARGE = 192 << 10 };

static char warning[512];

bool work_tries(const struct work_plan *p) {
  return p->work != NET || p->action != STOP;
} /* NCCL has the limit there */
bool work_may_time_out(const struct work_plan *p) { return p->action == STOP || p->work == NET; }

/* The network knows processes, and of who never connected nothing. A peer that was told closes, and is gone for others
 * in its turn; only the victim can have died. */
bool work_names_victim(const struct work_plan *p, int rank, const char *error) {
  char died[48];
  if (p->work == COLLNET) return text_names(error, rank, p->victim);
  snprintf(died, sizeof died, "(pid %u) has died", p->marks[p->victim].pid);
  return strstr(error, died) || strstr(error, "has closed its connection") ||
         strstr(error, "the process that listened is gone") || strstr(error, "nobody has connected");
}

__attribute__((format(printf, 5, 6))) static void logger(nccl_log_level_t level, unsigned long subsystems,
                                                         const char *file, int line, const char *format, ...) {
  va_list arguments;
  (void)subsystems, (void)file, (void)line;
  if (level != NCCL_LOG_WARN) return;
  va_start(arguments, format);
  vsnprintf(warning, sizeof warning, format, arguments);
  va_end(arguments);
}

/* ---- ranks that meet -----------------------------------------------------------------------------------------------
 */

static bool is_lost(const struct work_plan *p) {
  return p->action != PAUSE && __atomic_load_n(&p->marks[p->victim].hurt_ns, __ATOMIC_ACQUIRE);
}

/* False if the victim will never come. */
static bool await_handles(const struct work_plan *p) {
  for (int r = 0; r < p->nranks; r++)
    while (!__atomic_load_n(&p->marks[r].entered, __ATOMIC_ACQUIRE)) {
      if (is_lost(p)) return false;
      usleep(100);
    }
  return true;
}

/* ---- net -----------------------------------------------------------------------------------------------------------
 */

struct ends {
  void *listener, *send, *recv, *sending, *receiving;
  uint8_t *out, *in;
};

static nccl_result_t open_ends(const struct work_plan *p, void *context, int rank, struct ends *ends) {
  const nccl_net_v12_t *net = &ncclNetPlugin_v12;
  nccl_result_t result = NCCL_SUCCESS;
  for (int r = 0; r < p->nranks && result == NCCL_SUCCESS; r++)
    if (r != rank) result = net->listen(context, 0, p->marks[rank].handles[r], &ends[r].listener);
  if (result != NCCL_SUCCESS) return result;
  tr_set(&p->marks[rank].entered, 1);
  if (!await_handles(p)) return NCCL_SUCCESS;
  for (int r = 0; r < p->nranks && result == NCCL_SUCCESS; r++)
    if (r != rank) result = net->connect(context, 0, p->marks[r].handles[rank], &ends[r].send, NULL);
  for (int r = 0; r < p->nranks; r++)
    while (r != rank && result == NCCL_SUCCESS && !ends[r].recv) {
      result = net->accept(ends[r].listener, &ends[r].recv, NULL);
      usleep(20);
    }
  return result;
}

static nccl_result_t post(struct ends *e, size_t bytes) {
  const nccl_net_v12_t *net = &ncclNetPlugin_v12;
  void *in = e->in;
  int tag = 0;
  nccl_result_t result = NCCL_SUCCESS;
  e->receiving = e->sending = NULL;
  result = net->irecv(e->recv, 1, &in, &bytes, &tag, NULL, NULL, &e->receiving);
  return result == NCCL_SUCCESS ? net->isend(e->send, e->out, bytes, 0, NULL, NULL, &e->sending) : result;
}

static nccl_result_t look(void **request, bool *open) {
  int done = 0;
  if (!*request) return NCCL_SUCCESS;
  const nccl_result_t result = ncclNetPlugin_v12.test(*request, &done, NULL);
  if (done) *request = NULL;
  *open |= !done;
  return result;
}

static uint8_t byte_of(int from, int to, size_t i) { return (uint8_t)(from * 89 + to * 31 + (int)(i * 7)); }

static nccl_result_t exchange(const struct work_plan *p, int rank, struct ends *ends, size_t bytes) {
  nccl_result_t result = NCCL_SUCCESS;
  for (int r = 0; r < p->nranks && result == NCCL_SUCCESS; r++) {
    if (r == rank) continue;
    for (size_t i = 0; i < bytes; i++) ends[r].out[i] = byte_of(rank, r, i);
    result = post(&ends[r], bytes);
  }
  for (bool open = true; open && result == NCCL_SUCCESS;) {
    open = false;
    for (int r = 0; r < p->nranks && result == NCCL_SUCCESS; r++) {
      if (r == rank) continue;
      result = look(&ends[r].sending, &open);
      if (result == NCCL_SUCCESS) result = look(&ends[r].receiving, &open);
    }
    sched_yield();
  }
  for (int r = 0; r < p->nranks && result == NCCL_SUCCESS; r++)
    for (size_t i = 0; i < bytes && r != rank; i++)
      CHECK(ends[r].in[i] == byte_of(r, rank, i), "rank %d: byte %zu from rank %d is %u", rank, i, r, ends[r].in[i]);
  return result;
}

static void close_ends(const struct work_plan *p, int rank, struct ends *ends) {
  const nccl_net_v12_t *net = &ncclNetPlugin_v12;
  for (int r = 0; r < p->nranks; r++) {
    if (r == rank) continue;
    if (ends[r].send) net->close_send(ends[r].send);
    if (ends[r].recv) net->close_recv(ends[r].recv);
    if (ends[r].listener) net->close_listen(ends[r].listener);
    free(ends[r].out);
    free(ends[r].in);
  }
}

static void tell(nccl_result_t result, struct tr_slot *outcome) {
  const bool late =
      strstr(warning, "did not come") || strstr(warning, "nobody has connected") || strstr(warning, "did not create");
  outcome->told_ns = tr_now_ns();
  outcome->result = result == NCCL_SUCCESS        ? SHMCCL_SUCCESS
                    : result != NCCL_REMOTE_ERROR ? SHMCCL_ERROR_INTERNAL
                    : late                        ? SHMCCL_ERROR_TIMEOUT
                                                  : SHMCCL_ERROR_PEER_DIED;
  snprintf(outcome->error, sizeof outcome->error, "%s", result == NCCL_SUCCESS ? "" : warning);
}

static void run_net(const struct work_plan *p, int rank, struct tr_slot *outcome) {
  struct ends ends[RANKS_MOST] = {0};
  void *context = NULL;
  nccl_result_t result = ncclNetPlugin_v12.init(&context, 1, NULL, logger, NULL);
  for (int r = 0; r < p->nranks; r++) {
    if (r == rank) continue;
    ends[r].out = aligned_alloc(128, LARGE);
    ends[r].in = aligned_alloc(128, LARGE);
  }
  if (result == NCCL_SUCCESS) result = open_ends(p, context, rank, ends);
  const bool all = ends[(rank + 1) % p->nranks].recv != NULL;
  if (all && result == NCCL_SUCCESS) result = exchange(p, rank, ends, SMALL);
  if (all && result == NCCL_SUCCESS) result = exchange(p, rank, ends, LARGE);
  tell(result, outcome);
  close_ends(p, rank, ends);
  ncclNetPlugin_v12.finalize(context);
}

/* ---- collnet
 * --------------------------------------------------------------------------------------------------------- */

static nccl_result_t reduce(const struct work_plan *p, int rank, void *coll, size_t count) {
  int32_t *values = malloc(count * sizeof *values);
  void *request = NULL;
  int done = 0;
  for (size_t i = 0; i < count; i++) values[i] = rank + (int32_t)i;
  nccl_result_t result =
      ncclCollNetPlugin_v12.iallreduce(coll, values, values, count, NCCL_INT32, NCCL_SUM, NULL, NULL, &request);
  while (result == NCCL_SUCCESS && !done) {
    result = ncclCollNetPlugin_v12.test(request, &done, NULL);
    usleep(20);
  }
  for (size_t i = 0; i < count && result == NCCL_SUCCESS; i++)
    CHECK(values[i] == p->nranks * (int32_t)i + p->nranks * (p->nranks - 1) / 2, "rank %d: element %zu is %d", rank, i,
          values[i]);
  return free(values), result;
}

static void run_collnet(const struct work_plan *p, int rank, struct tr_slot *outcome) {
  const nccl_collnet_v12_t *collnet = &ncclCollNetPlugin_v12;
  void *context = NULL, *listener = NULL, *coll = NULL, *handles[RANKS_MOST];
  for (int r = 0; r < p->nranks; r++) handles[r] = p->marks[r].handles[0];
  nccl_result_t result = collnet->init(&context, 1, logger);
  if (result == NCCL_SUCCESS) result = collnet->listen(context, 0, p->marks[rank].handles[0], &listener);
  if (result == NCCL_SUCCESS) tr_set(&p->marks[rank].entered, 1);
  if (result == NCCL_SUCCESS && await_handles(p)) result = collnet->connect(handles, p->nranks, rank, listener, &coll);
  if (listener) collnet->close_listen(listener);
  if (coll && result == NCCL_SUCCESS) result = reduce(p, rank, coll, SMALL);
  if (coll && result == NCCL_SUCCESS) result = reduce(p, rank, coll, LARGE / sizeof(int32_t) / 8);
  tell(result, outcome);
  if (coll) collnet->close_coll(coll);
  collnet->finalize(context);
}

void work_run(const struct work_plan *p, const shmccl_unique_id_t *id, int rank, struct tr_slot *outcome) {
  char limit[24];
  (void)id;
  snprintf(limit, sizeof limit, "%llu", (unsigned long long)p->timeout_ms);
  setenv("SHMCCL_TIMEOUT_MS", limit, 1);
  setenv("SHMCCL_NET_BYTES", "1M", 1);
  p->marks[rank].pid = (uint32_t)getpid();
  points_count(&p->marks[rank], p->action, rank == p->victim ? p->at : 0);
  p->work == NET ? run_net(p, rank, outcome) : run_collnet(p, rank, outcome);
  points_end();
}
