/* traffic.c - see traffic.h. */
#include "traffic.h"

#include "base/clock.h"
#include "base/ordering.h"
#include "link.h"
#include "watch.h"

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { MAX_LINKS = 2 * WORLD_RANKS * WORLD_LANES, EXTRA = 4 };

/* One communicator of one rank. */
struct party {
  struct world *world;
  int index, rank;
  struct nccl_comm comm;
  struct link *links;
  int nlinks;
  uint32_t stop, steps;
  unsigned stop_at, lazy_after; /* steps */
  bool close_early;
  struct harness_random random;
  struct {
    void *mhandle;
    struct link *link;
    uint8_t data[4096];
  } extra[EXTRA];
};

/* ---- patterns ---------------------------------------------------------------------------------------------------- */

static void add(struct party *p, int peer, int lane, bool sends, bool lazy) {
  const struct settings *s = &p->world->settings;
  struct link *l = &p->links[p->nlinks++];
  const int from = sends ? p->rank : peer, to = sends ? peer : p->rank;
  *l = (struct link){.world = p->world,
                     .comm = &p->comm,
                     .comm_index = p->index,
                     .self = p->rank,
                     .peer = peer,
                     .lane = lane,
                     .sends = sends,
                     .lazy = lazy,
                     .nops = s->iterations};
  l->simple_only = !strcmp(s->pattern, "alltoall");
  l->key =
      world_mix(s->seed, (uint64_t)((p->index * WORLD_RANKS + from) * WORLD_RANKS + to) * WORLD_LANES + (unsigned)lane);
  l->service_random = harness_random(world_mix(l->key, 1000001 + sends));
  l->proxy_random = harness_random(world_mix(l->key, 1000003 + sends));
  l->kernel_random = harness_random(world_mix(l->key, 1000005 + sends));
}

static void add_both(struct party *p, int peer, int lane, bool lazy) {
  add(p, peer, lane, true, lazy);
  add(p, peer, lane, false, lazy);
}

static void ring(struct party *p, int n) {
  for (int lane = 0; lane < WORLD_LANES; lane++) {
    add(p, (p->rank + 1) % n, lane, true, lane > 0);
    add(p, (p->rank + n - 1) % n, lane, false, lane > 0);
  }
}

/* Two binary trees, the second upside down; data go up and down. */
static void tree(struct party *p, int n) {
  for (int lane = 0; lane < WORLD_LANES; lane++) {
    const int place = lane ? n - 1 - p->rank : p->rank;
    const int neighbours[] = {place ? (place - 1) / 2 : n, 2 * place + 1, 2 * place + 2};
    for (size_t i = 0; i < LENGTH(neighbours); i++)
      if (neighbours[i] < n) add_both(p, lane ? n - 1 - neighbours[i] : neighbours[i], lane, lane > 0);
  }
}

static void alltoall(struct party *p, int n) {
  for (int peer = 0; peer < n; peer++)
    if (peer != p->rank) add_both(p, peer, 0, (p->rank + peer) % 2);
}

static const struct pattern {
  const char *name;
  void (*build)(struct party *p, int nranks);
} patterns[] = {{"ring", ring}, {"tree", tree}, {"alltoall", alltoall}};

static const struct pattern *find_pattern(const char *name) {
  for (size_t i = 0; i < LENGTH(patterns); i++)
    if (!strcmp(patterns[i].name, name)) return &patterns[i];
  return NULL;
}

bool traffic_has(const char *pattern) { return find_pattern(pattern); }

/* ---- progress and kernel threads ------------------------------------------------------------------------------------
 */

static bool advance_all(struct party *p, bool (*advance)(struct link *)) {
  bool moved = false;
  for (int i = 0; i < p->nlinks; i++) moved |= advance(&p->links[i]);
  return moved;
}

static void *progress_thread(void *argument) {
  struct party *p = argument;
  harness_rank = p->rank;
  watch_begin(p->rank);
  while (!shmi_observe32(&p->stop))
    if (advance_all(p, link_advance_proxy))
      shmi_note32(&p->steps, shmi_peek32(&p->steps) + 1);
    else
      sched_yield();
  watch_end();
  return NULL;
}

static void *kernel_thread(void *argument) {
  struct party *p = argument;
  harness_rank = p->rank;
  while (!shmi_observe32(&p->stop))
    if (!advance_all(p, link_advance_kernel)) sched_yield();
  return NULL;
}

/* ---- the service thread ------------------------------------------------------------------------------------------ */

static const char *failure_of(const struct party *p) {
  for (int i = 0; i < p->nlinks; i++)
    for (int t = LINK_SERVICE; t <= LINK_PROXY; t++)
      if (shmi_observe32(&p->links[i].failures[t].set)) return p->links[i].failures[t].text;
  return NULL;
}

static bool all_finished(const struct party *p) {
  for (int i = 0; i < p->nlinks; i++)
    if (!link_finished(&p->links[i])) return false;
  return true;
}

static void unregister(struct party *p, int i) {
  if (p->extra[i].mhandle) link_unregister(p->extra[i].link, p->extra[i].mhandle);
  p->extra[i].mhandle = NULL;
}

/* As ncclCommRegister and deregister do, now and then. */
static void register_something(struct party *p) {
  const int i = (int)harness_below(&p->random, EXTRA);
  struct link *l = &p->links[harness_below(&p->random, (size_t)p->nlinks)];
  if (harness_below(&p->random, 8)) return;
  if (p->extra[i].mhandle) {
    unregister(p, i);
  } else if (l->state == LINK_READY) {
    p->extra[i].link = l;
    p->extra[i].mhandle = link_register(l, p->extra[i].data, 1 + harness_below(&p->random, sizeof p->extra[i].data));
  }
}

static bool stopping(const struct party *p) {
  const unsigned steps = shmi_peek32(&p->steps);
  return all_finished(p) || failure_of(p) || (p->stop_at && steps >= p->stop_at);
}

/* Lazy connections begin in the midst of the others' traffic, or when that is over. */
static void serve(struct party *p) {
  while (!stopping(p)) {
    bool moved = false, others_finished = true;
    const bool started = shmi_peek32(&p->steps) >= p->lazy_after;
    if (started && p->close_early) {
      nccl_close_early(p->comm.nccl);
      p->close_early = false;
    }
    for (int i = 0; i < p->nlinks; i++) others_finished &= p->links[i].lazy || link_finished(&p->links[i]);
    for (int i = 0; i < p->nlinks; i++)
      if (!p->links[i].lazy || started || others_finished) moved |= link_advance_setup(&p->links[i]);
    register_something(p);
    if (!moved) nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
  }
}

static void close_all(struct party *p) {
  for (int i = 0; i < EXTRA; i++) unregister(p, i);
  for (int left = p->nlinks; left; left--) {
    const int i = (int)harness_below(&p->random, (size_t)left);
    struct link chosen = p->links[i];
    link_close(&chosen);
    p->links[i] = p->links[left - 1];
    harness_delay(&p->random);
  }
}

/* ---- a communicator ---------------------------------------------------------------------------------------------- */

static void check_net(const struct nccl *n) {
  struct net_properties p;
  CHECK(net_properties(n, 0, &p) == ncclSuccess);
  CHECK(p.name && *p.name);
  CHECK(p.ptr_support & NCCL_PTR_HOST && !(p.ptr_support & ~(NCCL_PTR_HOST | NCCL_PTR_CUDA | NCCL_PTR_DMABUF)));
  CHECK_TEXT(p.max_recvs == 1, "maxRecvs is %d: the driver makes no grouped receives", p.max_recvs);
  CHECK(p.max_comms > 0 && p.ndevs == 1 && p.first_dev == 0 && isfinite(p.latency) && p.latency >= 0);
  CHECK(p.max_p2p_bytes > 0 && p.max_coll_bytes > 0 && p.max_multi_request == 1 && p.rail == -1 && p.plane == -1);
  if (n->net_version > 8) CHECK(p.max_p2p_bytes <= (size_t)1 << 40 && p.max_coll_bytes <= (size_t)1 << 40);
  CHECK((p.reg_is_global | p.force_flush) >> 1 == 0 && p.device_version >= 0 && p.speed > 0 && p.port >= 0);
}

static int chosen_rank(const struct world *w) {
  return (int)(world_mix(w->settings.seed, 77) % (unsigned)w->settings.nranks);
}

static void begin(struct party *p) {
  const struct settings *s = &p->world->settings;
  const char *why;
  CHECK_TEXT(nccl_comm_begin(world_nccl(p->index), &p->comm, &why), "%s: %s", s->plugin, why);
  check_net(p->comm.nccl);
  p->random = harness_random(world_mix(s->seed, 500 + (unsigned)(p->index * WORLD_RANKS + p->rank)));
  p->links = calloc(MAX_LINKS, sizeof *p->links);
  CHECK(p->links);
  find_pattern(s->pattern)->build(p, s->nranks);
  p->lazy_after = (unsigned)harness_below(&p->random, 40);
  if (s->ending == END_ABRUPT && p->rank == chosen_rank(p->world))
    p->stop_at = 1 + (unsigned)harness_below(&p->random, 10 * s->iterations);
}

static void *run_party(void *argument) {
  struct party *p = argument;
  pthread_t progress, kernel;
  harness_rank = p->rank;
  watch_begin(p->rank);
  begin(p);
  CHECK(!pthread_create(&progress, NULL, progress_thread, p));
  CHECK(!pthread_create(&kernel, NULL, kernel_thread, p));
  serve(p);
  const char *failure = failure_of(p);
  if (failure && p->world->settings.ending == END_QUIET) harness_fail(__FILE__, __LINE__, "%s", failure);
  world_leave(p->world, p->index, p->rank);
  shmi_publish32(&p->stop, 1);
  pthread_join(progress, NULL);
  pthread_join(kernel, NULL);
  close_all(p);
  nccl_comm_end(&p->comm);
  free(p->links);
  watch_end();
  return NULL;
}

/* ---- a rank ------------------------------------------------------------------------------------------------------ */

static struct world *dying_world;
static int dying_rank;

static void leave_everything(void) {
  for (int c = 0; c < WORLD_COMMS; c++) world_leave(dying_world, c, dying_rank);
}

static void *kill_later(void *argument) {
  const struct timespec *delay = argument;
  nanosleep(delay, NULL);
  leave_everything();
  raise(SIGKILL);
  return NULL;
}

/* Half of the times at the beginning of a call, else at any instruction. */
static void prepare_death(struct world *w) {
  static struct timespec delay;
  struct harness_random r = harness_random(world_mix(w->settings.seed, 99));
  const double span = pow(10, (double)harness_below(&r, 1000) / 250); /* 1 to 10^4 */
  pthread_t thread;
  dying_world = w;
  dying_rank = chosen_rank(w);
  watch_before_kill = leave_everything;
  delay.tv_nsec = (long)(span * 30000); /* to 0.3 s */
  if (harness_below(&r, 2))
    watch_kill_at((uint32_t)span);
  else
    CHECK(!pthread_create(&thread, NULL, kill_later, &delay) && !pthread_detach(thread));
}

/* Communicators made, used and gone; in the first of several lives the file is closed under them, as a tuner's end did.
 */
static void live(struct world *w, int rank, unsigned life) {
  struct party parties[WORLD_COMMS] = {0};
  pthread_t threads[WORLD_COMMS];
  for (unsigned i = 0; i < w->settings.ncomms; i++) {
    parties[i].world = w;
    parties[i].index = (int)i;
    parties[i].rank = rank;
    parties[i].close_early = w->settings.lives > 1 && life == 0 && i == 0 && (rank == 0 || !w->settings.threads) &&
                             w->settings.minor <= NCCL_LAST_EARLY_CLOSER;
    CHECK(!pthread_create(&threads[i], NULL, run_party, &parties[i]));
  }
  for (unsigned i = 0; i < w->settings.ncomms; i++) pthread_join(threads[i], NULL);
}

static void rank_main(int rank, int nranks, void *context) {
  struct world *w = context;
  (void)nranks;
  if (!w->settings.threads) watch_start(w->settings.patience_s);
  if (w->settings.ending == END_KILL && rank == chosen_rank(w)) prepare_death(w);
  for (unsigned i = 0; i < w->settings.lives; i++) {
    live(w, rank, i);
    if (w->settings.lives > 1) world_meet_anew(w, rank);
  }
}

static void run_and_kill_one(struct world *w) {
  struct harness_outcome outcomes[WORLD_RANKS];
  harness_outcomes(w->settings.nranks, rank_main, w, WORLD_SECONDS, outcomes);
  for (int r = 0; r < w->settings.nranks; r++) {
    const struct harness_outcome *o = &outcomes[r];
    const bool victim = r == chosen_rank(w);
    CHECK_TEXT(!o->timed_out, "rank %d hangs after the death of rank %d", r, chosen_rank(w));
    CHECK_TEXT(o->status == 0 || (victim && o->signal == SIGKILL), "rank %d: status %d, signal %d: %s", r, o->status,
               o->signal, o->message);
  }
}

void traffic_run(struct world *w) {
  world_reset(w);
  if (w->settings.ending == END_KILL)
    run_and_kill_one(w);
  else
    world_run(w, rank_main, WORLD_SECONDS);
}
