/* bench.c - see bench.h. Progress threads alone: the kernels' part is done beforehand, so a core does one copy. */
#include "bench.h"

#include "base/clock.h"
#include "base/ordering.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

enum {
  STEP = 512 << 10,
  STREAM = 256,
  ROUNDS = 21,
  TRIPS = 2000,
  LARGEST_SMALL = 8192,
  STREAM_BYTES = NCCL_STEPS * STEP
};

static const size_t small_sizes[] = {8, 64, 512, 1024, 2048, 4096, 8192};

/* What the ranks tell each other and the one that prints. */
struct measured {
  _Alignas(128) uint64_t turn;
  char rest_of_line[120];
  double copy[2][ROUNDS], net[ROUNDS], crossing[2][ROUNDS];  /* bytes per ns */
  double handover[ROUNDS], way[LENGTH(small_sizes)][ROUNDS]; /* ns */
};

struct racer {
  struct world *world;
  struct measured *measured;
  int rank;
  struct nccl_comm comm;
  const struct nccl *nccl;
  void *send, *recv, *send_mhandle, *recv_mhandle;
  uint8_t *from, *to;
};
static struct measured *results;
static uint8_t *crossed; /* STREAM_BYTES that both ranks map */

#define OK(call)                                                                                                       \
  do {                                                                                                                 \
    const ncclResult_t result_ = (call);                                                                               \
    CHECK_TEXT(result_ == ncclSuccess, "%s: %s: %s", #call, nccl_result_name(result_), nccl_last_warning());           \
  } while (0)

static void pin(int place) {
  cpu_set_t allowed, one;
  CHECK(!sched_getaffinity(0, sizeof allowed, &allowed));
  CHECK_TEXT(CPU_COUNT(&allowed) > 1, "two cores are needed");
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
    if (!CPU_ISSET(cpu, &allowed) || place--) continue;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    CHECK(!sched_setaffinity(0, sizeof one, &one));
    return;
  }
}

/* ---- connections both ways ----------------------------------------------------------------------------------------
 */

static void open_both(struct racer *r) {
  uint8_t handle[NCCL_NET_HANDLE_MAXSIZE];
  void *listen = NULL;
  OK(net_listen(&r->comm, 0, handle, &listen));
  world_post(r->world, 0, r->rank, 1 - r->rank, 0, handle);
  while (!world_take(r->world, 0, 1 - r->rank, r->rank, 0, handle)) sched_yield();
  while (!r->send || !r->recv) {
    if (!r->send) OK(net_connect(&r->comm, 0, handle, &r->send));
    if (!r->recv) OK(net_accept(r->nccl, listen, &r->recv));
  }
  OK(net_close_listen(r->nccl, listen));
  r->from = aligned_alloc(4096, STREAM_BYTES);
  r->to = aligned_alloc(4096, STREAM_BYTES);
  CHECK(r->from && r->to);
  memset(r->from, 1 + r->rank, STREAM_BYTES);
  memset(r->to, HARNESS_POISON, STREAM_BYTES);
  OK(net_reg(r->nccl, r->send, r->from, STREAM_BYTES, NCCL_PTR_HOST, &r->send_mhandle));
  OK(net_reg(r->nccl, r->recv, r->to, STREAM_BYTES, NCCL_PTR_HOST, &r->recv_mhandle));
}

static void close_both(struct racer *r) {
  OK(net_dereg(r->nccl, r->send, r->send_mhandle));
  OK(net_dereg(r->nccl, r->recv, r->recv_mhandle));
  OK(net_close_send(r->nccl, r->send));
  OK(net_close_recv(r->nccl, r->recv));
  free(r->from);
  free(r->to);
}

static void *start(const struct racer *r, bool send, size_t slot, size_t bytes) {
  void *request = NULL, *data = (send ? r->from : r->to) + slot * STEP, *mhandle = r->recv_mhandle;
  int tag = 0;
  if (send)
    OK(net_isend(r->nccl, r->send, data, bytes, tag, r->send_mhandle, &request));
  else
    OK(net_irecv(r->nccl, r->recv, 1, &data, &bytes, &tag, &mhandle, &request));
  return request;
}

static bool done(const struct racer *r, void *request) {
  int is_done = 0, bytes = 0;
  OK(net_test(r->nccl, request, &is_done, &bytes));
  return is_done;
}

/* ---- measurements --------------------------------------------------------------------------------------------------
 */

static uint64_t begin(struct racer *r) {
  world_meet(r->world, r->rank);
  return shmi_now_ns();
}

/* Each core copies its own buffer: the first of the two copies that a message needs, or the second. */
static void measure_copies(struct racer *r, int round) {
  const uint64_t start_ns = begin(r);
  for (size_t i = 0; i < STREAM; i++) {
    memcpy(r->to + i % NCCL_STEPS * STEP, r->from + i % NCCL_STEPS * STEP, STEP);
    __asm__ volatile("" ::"r"(r->to) : "memory");
  }
  r->measured->copy[r->rank][round] = (double)STREAM * STEP / (double)(shmi_now_ns() - start_ns);
}

/* As memcpy, but past the caches. */
static void write_past(uint8_t *to, const uint8_t *from, size_t bytes) {
#ifdef __SSE2__
  for (size_t i = 0; i < bytes; i += 16)
    _mm_stream_si128((__m128i *)(void *)(to + i), _mm_load_si128((const __m128i *)(const void *)(from + i)));
  _mm_sfence();
#else
  memcpy(to, from, bytes);
#endif
}

/* Rank 1's half of the way alone: rank 0 has written all of it, with usual stores (0) or past the caches (1), and rests
 * meanwhile. */
static void measure_crossing(struct racer *r, int round, int past) {
  if (!r->rank) past ? write_past(crossed, r->from, STREAM_BYTES) : (void)memcpy(crossed, r->from, STREAM_BYTES);
  const uint64_t start_ns = begin(r);
  if (r->rank) {
    memcpy(r->to, crossed, STREAM_BYTES);
    __asm__ volatile("" ::"r"(r->to) : "memory");
    r->measured->crossing[past][round] = (double)STREAM_BYTES / (double)(shmi_now_ns() - start_ns);
  }
  world_meet(r->world, r->rank);
}

/* From rank 0 to rank 1, eight steps in flight. */
static void measure_stream(struct racer *r, int round) {
  void *requests[NCCL_STEPS];
  size_t started = 0, finished = 0;
  const bool sends = r->rank == 0;
  const uint64_t start_ns = begin(r);
  while (finished < STREAM) {
    void **next = &requests[started % NCCL_STEPS];
    if (started < STREAM && started < finished + NCCL_STEPS && (*next = start(r, sends, started % NCCL_STEPS, STEP)))
      started++;
    if (finished < started && done(r, requests[finished % NCCL_STEPS])) finished++;
  }
  if (!sends) r->measured->net[round] = (double)STREAM * STEP / (double)(shmi_now_ns() - start_ns);
  for (size_t i = 0; !sends && i < STREAM_BYTES; i += 509) CHECK_TEXT(r->to[i] == 1, "byte %zu is wrong", i);
}

static void measure_handover(struct racer *r, int round) {
  uint64_t *turn = &r->measured->turn;
  const uint64_t first = shmi_observe64(turn), start_ns = begin(r);
  for (uint64_t i = first + (unsigned)r->rank; i < first + 2 * TRIPS; i += 2) {
    while (shmi_observe64(turn) != i) {
    }
    shmi_publish64(turn, i + 1);
  }
  if (!r->rank) r->measured->handover[round] = (double)(shmi_now_ns() - start_ns) / (2.0 * TRIPS);
}

static void wait_done(const struct racer *r, void *request) {
  while (!done(r, request)) {
  }
}

static void measure_way(struct racer *r, int round, size_t which) {
  const size_t bytes = small_sizes[which];
  void *incoming = start(r, false, 0, bytes);
  const uint64_t start_ns = begin(r);
  for (int i = 0; i < TRIPS; i++) {
    void *outgoing = NULL;
    if (r->rank) wait_done(r, incoming);
    if (r->rank && i + 1 < TRIPS) incoming = start(r, false, (size_t)(i + 1) % NCCL_STEPS, bytes);
    while (!outgoing) outgoing = start(r, true, (size_t)i % NCCL_STEPS, bytes);
    if (!r->rank) wait_done(r, incoming);
    if (!r->rank && i + 1 < TRIPS) incoming = start(r, false, (size_t)(i + 1) % NCCL_STEPS, bytes);
    wait_done(r, outgoing);
  }
  if (!r->rank) r->measured->way[which][round] = (double)(shmi_now_ns() - start_ns) / (2.0 * TRIPS);
}

static void race(int rank, int nranks, void *context) {
  struct racer r = {.world = context, .measured = results, .rank = rank};
  const char *why;
  (void)nranks;
  pin(rank);
  CHECK_TEXT(nccl_comm_begin(world_nccl(0), &r.comm, &why), "%s: %s", r.world->settings.plugin, why);
  r.nccl = r.comm.nccl;
  open_both(&r);
  for (int round = -1; round < ROUNDS; round++) { /* the first is for warming up, and overwritten */
    const int at = round < 0 ? 0 : round;
    measure_copies(&r, at);
    for (int past = 0; past < 2; past++) measure_crossing(&r, at, past);
    measure_stream(&r, at);
    measure_handover(&r, at);
    for (size_t i = 0; i < LENGTH(small_sizes); i++) measure_way(&r, at, i);
  }
  close_both(&r);
  nccl_comm_end(&r.comm);
}

/* ---- the report ----------------------------------------------------------------------------------------------------
 */

static int by_value(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double median(double *values) {
  qsort(values, ROUNDS, sizeof *values, by_value);
  return values[ROUNDS / 2];
}

static void report(const struct settings *s) {
  for (int round = 0; round < ROUNDS; round++) /* the slower of the two limits a stream */
    if (results->copy[1][round] < results->copy[0][round]) results->copy[0][round] = results->copy[1][round];
  const double copy = median(results->copy[0]), net = median(results->net), handover = median(results->handover);
  printf("# %s, two ranks as %s on two cores, medians of %d rounds in turn (least to most)\n", s->plugin,
         s->threads ? "threads" : "processes", ROUNDS);
  printf("stream, 512 KiB x 8  %6.2f GB/s (%.2f to %.2f)   two memcpys: %.2f GB/s, %.0f %% of it\n", net,
         results->net[0], results->net[ROUNDS - 1], copy, 100 * net / copy);
  printf("of what the other core wrote, one copies %.2f GB/s; written past the caches, %.2f GB/s\n",
         median(results->crossing[0]), median(results->crossing[1]));
  printf("hand-over of a line  %6.0f ns   (%.0f to %.0f)\n", handover, results->handover[0],
         results->handover[ROUNDS - 1]);
  for (size_t i = 0; i < LENGTH(small_sizes); i++) {
    const double way = median(results->way[i]);
    printf("%5zu bytes one way   %6.0f ns   (%.0f to %.0f)   1.5 hand-overs + 150 ns: %.0f\n", small_sizes[i], way,
           results->way[i][0], results->way[i][ROUNDS - 1], 1.5 * handover + 150);
  }
}

void bench_run(struct world *w) {
  w->settings.nranks = 2;
  world_reset(w);
  results = mmap(NULL, sizeof *results, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  crossed = mmap(NULL, STREAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(results != MAP_FAILED && crossed != MAP_FAILED);
  world_run(w, race, WORLD_SECONDS);
  report(&w->settings);
  munmap(crossed, STREAM_BYTES);
  munmap(results, sizeof *results);
}
