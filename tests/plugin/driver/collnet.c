/* collnet.c - see collnet.h. */
#include "collnet.h"

#include "base/clock.h"
#include "base/ordering.h"
#include "numbers.h"
#include "watch.h"

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { SLOTS = NCCL_STEPS, SLOT_BYTES = 512 << 10, SMALLEST_CHUNK = 32 << 10, OPS = ncclMin + 1 };
enum { MAX_DELAY_US = 20000 };

struct reduction {
  void *request;
  size_t bytes, count;
  ncclDataType_t type;
  ncclRedOp_t op;
  bool in_place;
};

struct group {
  struct world *world;
  int rank, nranks;
  struct nccl_comm comm;
  const struct nccl *nccl;
  void *collective;
  uint8_t *send, *recv;
  void *send_mhandle, *recv_mhandle;
  struct reduction slots[SLOTS];
  struct harness_random common; /* the same on all ranks */
  struct harness_random own;
  bool refused;
};

#define OK(call)                                                                                                       \
  do {                                                                                                                 \
    const ncclResult_t result_ = (call);                                                                               \
    CHECK_TEXT(result_ == ncclSuccess, "%s: %s: %s", #call, nccl_result_name(result_), nccl_last_warning());           \
  } while (0)
#define REFUSED(call)                                                                                                  \
  do {                                                                                                                 \
    const unsigned before_ = nccl_warnings();                                                                          \
    CHECK_TEXT((call) != ncclSuccess, "accepted: %s", #call);                                                          \
    CHECK_TEXT(nccl_warnings() == before_ + 1, "%u warnings, not one: %s", nccl_warnings() - before_, #call);          \
  } while (0)

/* ---- numbers: exact in every type, whatever the order of operations -------------------------------------------------
 */

static bool is_unsigned(ncclDataType_t type) { return type == ncclUint8 || type == ncclUint32 || type == ncclUint64; }

/* Sums of eight stay within 8, products within 4: of eight ranks at most two have a factor other than 1 and -1. */
static double element(const struct group *g, const struct reduction *d, uint64_t number, int rank, size_t i) {
  const uint64_t bits = world_mix(number * 64 + (unsigned)rank, i) >> 7;
  if (d->op == ncclProd) {
    const double factor =
        (int)((i + number) % (unsigned)g->nranks) == rank || (i + 1) % (unsigned)g->nranks == (unsigned)rank ? 2 : 1;
    return is_unsigned(d->type) || bits % 2 ? factor : -factor;
  }
  return is_unsigned(d->type) ? (double)(bits % 2) : (double)(bits % 3) - 1;
}

static double result(const struct group *g, const struct reduction *d, uint64_t number, size_t i) {
  double value = element(g, d, number, 0, i);
  for (int r = 1; r < g->nranks; r++) value = number_reduce(d->op, value, element(g, d, number, r, i));
  return value;
}

/* The user's elements, and behind them what happened to be in the memory. */
static void fill(struct group *g, const struct reduction *d, uint64_t number, uint8_t *data) {
  const size_t size = number_bytes(d->type), user = d->count;
  for (size_t i = 0; i < user; i++) number_store(d->type, data, i, element(g, d, number, g->rank, i));
  for (size_t i = user * size; i < d->bytes; i++) data[i] = (uint8_t)harness_bits(&g->own);
}

static void check(const struct group *g, const struct reduction *d, uint64_t number, const uint8_t *data) {
  for (size_t i = 0; i < d->count; i++) {
    const double right = result(g, d, number, i), got = number_load(d->type, data, i);
    CHECK_TEXT(got == right, "all-reduce %llu, type %d, operator %d, %d ranks: element %zu of %zu is %g, not %g",
               (unsigned long long)number, (int)d->type, (int)d->op, g->nranks, i, d->count, got, right);
  }
}

/* ---- the group --------------------------------------------------------------------------------------------------- */

static ncclResult_t join(struct group *g) {
  uint8_t handles[WORLD_RANKS][NCCL_NET_HANDLE_MAXSIZE];
  void *listen = NULL, *list[WORLD_RANKS];
  uint8_t mine[NCCL_NET_HANDLE_MAXSIZE];
  OK(collnet_listen(&g->comm, 0, mine, &listen));
  for (int r = 0; r < g->nranks; r++) world_post(g->world, 0, g->rank, r, 0, mine);
  for (int r = 0; r < g->nranks; r++) {
    list[r] = handles[r];
    while (!world_take(g->world, 0, r, g->rank, 0, list[r])) {
      if (world_gone_for(g->world, 0, r) > 0) {
        OK(collnet_close_listen(g->nccl, listen));
        return ncclRemoteError;
      }
      sched_yield();
    }
  }
  const uint64_t limit = shmi_now_ns() + 3ull * g->world->settings.patience_s * 1000000000u;
  const ncclResult_t result = collnet_connect(g->nccl, list, g->nranks, g->rank, listen, &g->collective);
  CHECK_TEXT(shmi_now_ns() < limit, "collnet connect takes more than %u s", 3 * g->world->settings.patience_s);
  OK(collnet_close_listen(g->nccl, listen));
  return result;
}

static void map(struct group *g) {
  const size_t bytes = (size_t)SLOTS * SLOT_BYTES;
  g->send = aligned_alloc(4096, bytes);
  g->recv = aligned_alloc(4096, bytes);
  CHECK(g->send && g->recv);
  memset(g->recv, HARNESS_POISON, bytes);
  OK(collnet_reg(g->nccl, g->collective, g->send, bytes, NCCL_PTR_HOST, &g->send_mhandle));
  OK(collnet_reg(g->nccl, g->collective, g->recv, bytes, NCCL_PTR_HOST, &g->recv_mhandle));
}

static void leave(struct group *g) {
  if (g->send) {
    OK(collnet_dereg(g->nccl, g->collective, g->send_mhandle));
    OK(collnet_dereg(g->nccl, g->collective, g->recv_mhandle));
  }
  if (g->collective) OK(collnet_close(g->nccl, g->collective));
  free(g->send);
  free(g->recv);
}

/* ---- traffic -------------------------------------------------------------------------------------------------------
 */

/* What all ranks ask for next: whole chunks as NCCL makes them, and now and then something smaller, or nothing at all.
 */
static struct reduction next(struct group *g) {
  static const unsigned chunks[] = {1, 2, 4, 8, 16};
  struct harness_random *r = &g->common;
  struct reduction d = {.type = (ncclDataType_t)harness_below(r, ncclNumTypes),
                        .op = (ncclRedOp_t)harness_below(r, OPS)};
  const size_t size = number_bytes(d.type);
  d.bytes = chunks[harness_below(r, HARNESS_SLOW ? 2 : LENGTH(chunks))] * (size_t)SMALLEST_CHUNK;
  if (harness_below(r, 4) == 0) d.bytes = (1 + harness_below(r, 1000)) * size;
  d.count = harness_below(r, 3) ? d.bytes / size : harness_below(r, d.bytes / size + 1);
  d.in_place = harness_below(r, 8) == 0;
  return d;
}

static bool refused(struct group *g, ncclResult_t result, const char *call) {
  if (result == ncclSuccess) return false;
  if (g->world->settings.ending == END_QUIET)
    harness_fail(__FILE__, __LINE__, "%s: %s: %s", call, nccl_result_name(result), nccl_last_warning());
  return g->refused = true;
}

static bool start(struct group *g, uint64_t number) {
  static uint64_t stale;
  struct reduction *d = &g->slots[number % SLOTS];
  uint8_t *send = g->send + number % SLOTS * SLOT_BYTES, *recv = g->recv + number % SLOTS * SLOT_BYTES;
  void *target = d->in_place ? send : recv, *mhandle = d->in_place ? g->send_mhandle : g->recv_mhandle;
  d->request = &stale;
  const ncclResult_t result = collnet_iallreduce(g->nccl, g->collective, send, target, d->bytes / number_bytes(d->type),
                                                 d->type, d->op, g->send_mhandle, mhandle, &d->request);
  if (refused(g, result, "iallreduce")) return false;
  CHECK_TEXT(d->request != &stale, "iallreduce returned without writing *request");
  return d->request;
}

static bool complete(struct group *g, uint64_t number) {
  struct reduction *d = &g->slots[number % SLOTS];
  int done = -1, size = 0;
  if (refused(g, collnet_test(g->nccl, d->request, &done, &size), "collnet test")) return false;
  CHECK_TEXT(done == 0 || done == 1, "test set done to %d", done);
  if (!done) return false;
  uint8_t *recv = (d->in_place ? g->send : g->recv) + number % SLOTS * SLOT_BYTES;
  check(g, d, number, recv);
  CHECK_TEXT(d->in_place || harness_untouched(recv + d->bytes, SLOT_BYTES - d->bytes), "written behind the result");
  if (!d->in_place) memset(recv, HARNESS_POISON, d->bytes);
  return true;
}

static void check_silence(struct group *g) {
  for (int r = 0; r < g->nranks; r++)
    CHECK_TEXT(g->refused || world_gone_for(g->world, 0, r) < g->world->settings.patience_s,
               "nothing tells that rank %d has been gone for %u s", r, g->world->settings.patience_s);
}

/* The progress thread: as many as there are slots, completed in order. */
static void traffic(struct group *g, uint64_t count) {
  uint64_t prepared = 0, started = 0, done = 0;
  const bool abrupt =
      g->world->settings.ending == END_ABRUPT && g->rank == (int)(g->world->settings.seed % (unsigned)g->nranks);
  const uint64_t end = abrupt ? 1 + harness_below(&g->own, count) : count;
  while (done < end && !g->refused) {
    bool moved = false;
    if (prepared == started && prepared < count && prepared < done + SLOTS) {
      g->slots[prepared % SLOTS] = next(g);
      fill(g, &g->slots[prepared % SLOTS], prepared, g->send + prepared % SLOTS * SLOT_BYTES);
      prepared++;
    }
    if (started < prepared) moved = start(g, started), started += moved;
    if (done < started && complete(g, done)) moved = true, done++;
    if (!moved) {
      check_silence(g);
      sched_yield();
    }
    harness_delay(&g->own);
  }
}

/* ---- what each rank checks -----------------------------------------------------------------------------------------
 */

static void check_support(const struct nccl *n) {
  int supported;
  for (int type = 0; type < ncclNumTypes; type++)
    for (int op = 0; op < OPS; op++) {
      supported = -1;
      OK(collnet_support(n, (ncclDataType_t)type, (ncclRedOp_t)op, &supported));
      CHECK_TEXT(supported == 1, "type %d, operator %d: reduceSupport says %d", type, op, supported);
    }
  supported = -1;
  OK(collnet_support(n, ncclFloat32, ncclAvg, &supported));
  CHECK_TEXT(supported == 0, "averages are said to be supported");
  OK(collnet_support(n, ncclNumTypes, ncclSum, &supported));
  CHECK_TEXT(supported == 0, "a type that does not exist is said to be supported");
}

static void check_properties(const struct nccl *n) {
  struct net_properties net, coll;
  OK(net_properties(n, 0, &net));
  OK(collnet_properties(n, 0, &coll));
  CHECK_TEXT(!strcmp(net.name, coll.name), "net is named %s, collnet %s", net.name, coll.name);
  CHECK(n->net_devices == n->collnet_devices && coll.ndevs == 1 && coll.ptr_support & NCCL_PTR_HOST);
  if (n->collnet_version > 8) CHECK(coll.max_coll_bytes > 0 && coll.max_coll_bytes <= (size_t)1 << 40);
}

static void misuse(struct group *g) {
  uint64_t unknown[64] = {0};
  void *request, *comm = NULL;
  REFUSED(collnet_iallreduce(g->nccl, g->collective, g->send, g->recv, 8, ncclNumTypes, ncclSum, g->send_mhandle,
                             g->recv_mhandle, &request));
  REFUSED(collnet_iallreduce(g->nccl, g->collective, g->send, g->recv, 8, ncclFloat32, ncclAvg, g->send_mhandle,
                             g->recv_mhandle, &request));
  REFUSED(collnet_iallreduce(g->nccl, g->collective, g->send, g->recv, 8, ncclFloat32, ncclSum, unknown,
                             g->recv_mhandle, &request));
  REFUSED(collnet_dereg(g->nccl, g->collective, unknown));
  REFUSED(collnet_listen(&g->comm, g->nccl->collnet_devices, unknown, &comm));
}

static void say_goodbye(struct group *g) { world_leave(g->world, 0, g->rank); }

static struct group *dying;
static void before_kill(void) { say_goodbye(dying); }
static void *kill_later(void *argument) {
  nanosleep(argument, NULL);
  before_kill();
  raise(SIGKILL);
  return NULL;
}

static int victim(const struct world *w) { return (int)(w->settings.seed % (unsigned)w->settings.nranks); }

static void prepare_death(struct group *g) {
  static struct timespec delay;
  pthread_t thread;
  dying = g;
  watch_before_kill = before_kill;
  delay.tv_nsec = 1000 * (long)harness_below(&g->own, MAX_DELAY_US);
  if (harness_below(&g->own, 2))
    watch_kill_at(1 + (uint32_t)harness_below(&g->own, 300));
  else
    CHECK(!pthread_create(&thread, NULL, kill_later, &delay) && !pthread_detach(thread));
}

static void rank_main(int rank, int nranks, void *context) {
  struct world *w = context;
  struct group g = {.world = w, .rank = rank, .nranks = nranks};
  const char *why;
  g.common = harness_random(w->settings.seed);
  g.own = harness_random(world_mix(w->settings.seed, 7000 + (unsigned)rank));
  if (!w->settings.threads) watch_start(w->settings.patience_s);
  watch_begin(rank);
  if (w->settings.ending == END_KILL && rank == victim(w)) prepare_death(&g);
  CHECK_TEXT(nccl_comm_begin(world_nccl(0), &g.comm, &why), "%s: %s", w->settings.plugin, why);
  g.nccl = g.comm.nccl;
  CHECK_TEXT(g.nccl->collnet, "no collnet table that NCCL 2.%d would use", g.nccl->minor);
  check_properties(g.nccl);
  check_support(g.nccl);
  if (!refused(&g, join(&g), "collnet connect")) {
    CHECK_TEXT(g.collective, "collnet connect returned no communicator");
    map(&g);
    if (w->settings.ending == END_QUIET) misuse(&g);
    traffic(&g, w->settings.iterations * 2);
  }
  say_goodbye(&g);
  leave(&g);
  nccl_comm_end(&g.comm);
  watch_end();
}

void collnet_run(struct world *w) {
  struct harness_outcome outcomes[WORLD_RANKS];
  world_reset(w);
  if (w->settings.ending != END_KILL) {
    world_run(w, rank_main, WORLD_SECONDS);
    return;
  }
  harness_outcomes(w->settings.nranks, rank_main, w, WORLD_SECONDS, outcomes);
  for (int r = 0; r < w->settings.nranks; r++) {
    CHECK_TEXT(!outcomes[r].timed_out, "rank %d hangs after the death of rank %d", r, victim(w));
    CHECK_TEXT(outcomes[r].status == 0 || (r == victim(w) && outcomes[r].signal == SIGKILL), "rank %d: status %d: %s",
               r, outcomes[r].status, outcomes[r].message);
  }
}
