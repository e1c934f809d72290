/* cases.c - see cases.h. */
#include "cases.h"

#include "base/clock.h"
#include "watch.h"

#include <dirent.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

enum { MAX_IN_FLIGHT = 256, PROBES = 100 };

/* A rank's end of the two connections of a case: lane 0 leads from rank 0 to rank 1, lane 1 back. */
struct side {
  struct world *world;
  int rank, peer;
  struct nccl_comm comm;
  const struct nccl *nccl;
  void *listen, *send, *recv;
  uint8_t handle[NCCL_NET_HANDLE_MAXSIZE];
  struct harness_random random;
};

#define OK(call)                                                                                                       \
  do {                                                                                                                 \
    const ncclResult_t result_ = (call);                                                                               \
    CHECK_TEXT(result_ == ncclSuccess, "%s: %s: %s", #call, nccl_result_name(result_), nccl_last_warning());           \
  } while (0)

/* The call must be refused with one line of warning. */
#define REFUSED(call)                                                                                                  \
  do {                                                                                                                 \
    const unsigned before_ = nccl_warnings();                                                                          \
    const ncclResult_t result_ = (call);                                                                               \
    CHECK_TEXT(result_ != ncclSuccess && result_ != ncclInProgress, "accepted: %s", #call);                            \
    CHECK_TEXT(nccl_warnings() == before_ + 1, "%u warnings, not one: %s", nccl_warnings() - before_, #call);          \
  } while (0)

static void meet(struct side *s) { world_meet(s->world, s->rank); }

static uint64_t limit_of(const struct side *s) { return shmi_now_ns() + s->world->settings.patience_s * 1000000000ull; }

static void wait_a_little(const struct side *s, uint64_t limit, const char *what) {
  CHECK_TEXT(shmi_now_ns() < limit, "%s for %u s", what, s->world->settings.patience_s);
  sched_yield();
}

/* ---- connections ------------------------------------------------------------------------------------------------- */

static void do_listen(struct side *s) {
  OK(net_listen(&s->comm, 0, s->handle, &s->listen));
  world_post(s->world, 0, s->rank, s->peer, 0, s->handle);
}

static void take_handle(struct side *s, uint8_t *handle) {
  const uint64_t limit = limit_of(s);
  while (!world_take(s->world, 0, s->peer, s->rank, 0, handle)) wait_a_little(s, limit, "no handle");
}

static void do_accept(struct side *s) {
  const uint64_t limit = limit_of(s);
  for (s->recv = NULL; !s->recv; wait_a_little(s, limit, "accept: nobody"))
    OK(net_accept(s->nccl, s->listen, &s->recv));
  OK(net_close_listen(s->nccl, s->listen));
  s->listen = NULL;
}

static void do_connect(struct side *s) {
  const uint64_t limit = limit_of(s);
  uint8_t handle[NCCL_NET_HANDLE_MAXSIZE];
  take_handle(s, handle);
  for (s->send = NULL; !s->send; wait_a_little(s, limit, "connect: pending"))
    OK(net_connect(&s->comm, 0, handle, &s->send));
}

/* Both directions, as two service threads do it that each have two connections to make. */
static void open_both(struct side *s) {
  const uint64_t limit = limit_of(s);
  uint8_t handle[NCCL_NET_HANDLE_MAXSIZE];
  do_listen(s);
  take_handle(s, handle);
  s->send = s->recv = NULL;
  while (!s->send || !s->recv) {
    if (!s->send) OK(net_connect(&s->comm, 0, handle, &s->send));
    if (!s->recv) OK(net_accept(s->nccl, s->listen, &s->recv));
    wait_a_little(s, limit, "connect and accept: pending");
  }
  OK(net_close_listen(s->nccl, s->listen));
  s->listen = NULL;
}

static void close_send(struct side *s) {
  if (s->send) OK(net_close_send(s->nccl, s->send));
  s->send = NULL;
}
static void close_recv(struct side *s) {
  if (s->recv) OK(net_close_recv(s->nccl, s->recv));
  s->recv = NULL;
}

/* The end of a case: nothing open, letters forgotten. */
static void close_both(struct side *s) {
  close_send(s);
  close_recv(s);
  if (s->listen) OK(net_close_listen(s->nccl, s->listen));
  s->listen = NULL;
  world_meet_anew(s->world, s->rank);
}

/* ---- messages ---------------------------------------------------------------------------------------------------- */

static uint8_t byte_of(unsigned message, size_t i) { return (uint8_t)(message * 31 + i * 7 + (i >> 8)); }

static void *post_send(const struct side *s, void *data, size_t bytes, void *mhandle) {
  const uint64_t limit = limit_of(s);
  for (void *request;; wait_a_little(s, limit, "isend has no resources")) {
    request = (void *)(uintptr_t)0xdead0;
    OK(net_isend(s->nccl, s->send, data, bytes, s->rank, mhandle, &request));
    CHECK_TEXT(request != (void *)(uintptr_t)0xdead0, "isend returned without writing *request");
    if (request) return request;
  }
}

static void *post_recv(const struct side *s, void *data, size_t bytes, void *mhandle) {
  const uint64_t limit = limit_of(s);
  int tag = s->peer;
  for (void *request;; wait_a_little(s, limit, "irecv has no resources")) {
    request = (void *)(uintptr_t)0xdead0;
    OK(net_irecv(s->nccl, s->recv, 1, &data, &bytes, &tag, &mhandle, &request));
    CHECK_TEXT(request != (void *)(uintptr_t)0xdead0, "irecv returned without writing *request");
    if (request) return request;
  }
}

/* Until it is done or refused. */
static ncclResult_t finish(const struct side *s, void *request, int *bytes) {
  const uint64_t limit = limit_of(s);
  int done = 0;
  for (;; wait_a_little(s, limit, "test: not done")) {
    const ncclResult_t result = net_test(s->nccl, request, &done, bytes);
    if (result != ncclSuccess || done) return result;
  }
}

/* A message from rank 0 to rank 1, the receive posted first or the send. */
static void exchange(struct side *s, unsigned number, size_t bytes, bool recv_first) {
  struct harness_buffer buffer = {0};
  uint8_t *data = harness_take(&buffer, bytes, harness_below(&s->random, 16));
  void *mhandle = NULL;
  int got = 0;
  harness_note("message %u of %zu bytes", number, bytes);
  if (bytes && number % 2) OK(net_reg(s->nccl, s->rank ? s->recv : s->send, data, bytes, NCCL_PTR_HOST, &mhandle));
  for (size_t i = 0; s->rank == 0 && i < bytes; i++) data[i] = byte_of(number, i);
  if (recv_first && s->rank == 0) meet(s);
  void *request = s->rank ? post_recv(s, data, bytes, mhandle) : post_send(s, data, bytes, mhandle);
  if (recv_first && s->rank == 1) meet(s);
  OK(finish(s, request, &got));
  if (s->rank) CHECK_TEXT((size_t)got == bytes, "test says %d bytes", got);
  for (size_t i = 0; i < bytes; i++) CHECK_TEXT(data[i] == byte_of(number, i), "byte %zu is wrong", i);
  harness_check_guards(&buffer, "message");
  if (mhandle) OK(net_dereg(s->nccl, s->rank ? s->recv : s->send, mhandle));
  harness_release(&buffer);
  harness_note("%s", "");
}

/* ---- the cases --------------------------------------------------------------------------------------------------- */

static void messages(struct side *s) {
  static const size_t sizes[] = {0,   1,    7,   8,   9,   15,   16,    63,     64,     65,           127,
                                 128, 129,  511, 512, 513, 4095, 4096,  4097,   524288, 1048576 - 1,  0,
                                 0,   3000, 2,   4,   12,  20,   70000, 131072, 65536,  16777216 + 5, 0};
  open_both(s);
  for (unsigned i = 0; i < 2 * LENGTH(sizes); i++) exchange(s, i, sizes[i / 2], i % 2);
  close_both(s);
}

/* A receive that is shorter than what comes: an error at one end at least, and nothing behind the buffer. */
static void oversized(struct side *s) {
  struct harness_buffer buffer = {0};
  const size_t bytes = s->rank ? 1000 : 5000;
  open_both(s);
  uint8_t *data = harness_take(&buffer, bytes, 0);
  void *request = s->rank ? post_recv(s, data, bytes, NULL) : post_send(s, data, bytes, NULL);
  const ncclResult_t result = s->rank ? finish(s, request, NULL) : ncclSuccess;
  if (s->rank) CHECK_TEXT(result != ncclSuccess, "5000 bytes are said to fit into 1000");
  harness_check_guards(&buffer, "receive buffer");
  meet(s);
  close_both(s);
  harness_release(&buffer);
}

/* As many requests as are taken; the others come to nothing, and none is lost. */
static void requests(struct side *s) {
  static const size_t bytes = 48;
  struct harness_buffer buffer = {0};
  uint8_t *data = harness_take(&buffer, MAX_IN_FLIGHT * bytes, 0);
  void *pending[MAX_IN_FLIGHT];
  unsigned taken = 0, done = 0;
  open_both(s);
  for (unsigned i = 0; s->rank == 0 && i < MAX_IN_FLIGHT * bytes; i++) data[i] = byte_of(i / bytes, i);
  for (unsigned i = 0; i < 2 * MAX_IN_FLIGHT && taken < MAX_IN_FLIGHT; i++) {
    void *at = data + taken * bytes, *none = NULL, **request = &pending[taken];
    int tag = s->peer;
    const ncclResult_t result = s->rank ? net_irecv(s->nccl, s->recv, 1, &at, &bytes, &tag, &none, request)
                                        : net_isend(s->nccl, s->send, at, bytes, s->rank, NULL, request);
    if (result != ncclSuccess) break;
    taken += *request != NULL;
  }
  CHECK_TEXT(taken >= NCCL_STEPS, "only %u requests in flight", taken);
  s->world->numbers[s->rank] = taken;
  meet(s);
  const unsigned most =
      (unsigned)(s->world->numbers[0] > s->world->numbers[1] ? s->world->numbers[0] : s->world->numbers[1]);
  for (; done < most; done++) {
    OK(finish(s, pending[done], NULL));
    if (taken == most) continue;
    uint8_t *at = data + taken * bytes;
    pending[taken++] = s->rank ? post_recv(s, at, bytes, NULL) : post_send(s, at, bytes, NULL);
  }
  for (unsigned i = 0; i < most * bytes; i++) CHECK_TEXT(data[i] == byte_of(i / bytes, i), "byte %u is wrong", i);
  harness_check_guards(&buffer, "buffers");
  close_both(s);
  harness_release(&buffer);
}

static void arguments(struct side *s) {
  uint64_t unknown[64] = {0};
  void *request = NULL, *mhandle = NULL, *comm = NULL, *data = unknown, *several[2] = {unknown, unknown + 8};
  const size_t bytes = 64, sizes[2] = {64, 64};
  int tags[2] = {s->peer, s->peer};
  struct net_properties p;
  uint8_t handle[NCCL_NET_HANDLE_MAXSIZE];
  open_both(s);
  OK(net_properties(s->nccl, 0, &p));
  for (int dev = -1; dev <= s->nccl->net_devices; dev += s->nccl->net_devices + 1) {
    REFUSED(net_properties(s->nccl, dev, &p));
    REFUSED(net_listen(&s->comm, dev, handle, &comm));
    take_handle(s, handle);
    REFUSED(net_connect(&s->comm, dev, handle, &comm));
  }
  REFUSED(net_reg(s->nccl, s->send, data, bytes, 64, &mhandle));
  REFUSED(net_reg(s->nccl, s->recv, NULL, bytes, NCCL_PTR_HOST, &mhandle));
  if (!(p.ptr_support & NCCL_PTR_CUDA)) REFUSED(net_reg(s->nccl, s->send, data, bytes, NCCL_PTR_CUDA, &mhandle));
  REFUSED(net_isend(s->nccl, s->send, NULL, bytes, s->rank, NULL, &request));
  REFUSED(net_isend(s->nccl, s->send, data, SIZE_MAX, s->rank, NULL, &request));
  REFUSED(net_isend(s->nccl, s->send, data, bytes, s->rank, unknown, &request));
  data = NULL;
  REFUSED(net_irecv(s->nccl, s->recv, 1, &data, &bytes, tags, &mhandle, &request));
  data = unknown;
  REFUSED(net_irecv(s->nccl, s->recv, 1, &data, (size_t[]){SIZE_MAX}, tags, &mhandle, &request));
  REFUSED(net_irecv(s->nccl, s->recv, 0, &data, &bytes, tags, &mhandle, &request));
  REFUSED(net_irecv(s->nccl, s->recv, 2, several, sizes, tags, (void *[]){NULL, NULL}, &request));
  REFUSED(net_irecv(s->nccl, s->recv, 1, &data, &bytes, tags, (void *[]){unknown}, &request));
  REFUSED(net_dereg(s->nccl, s->send, unknown));
  REFUSED(net_dereg(s->nccl, s->recv, unknown));
  exchange(s, 1, 777, false); /* no harm was done */
  close_both(s);
}

/* ---- handles ----------------------------------------------------------------------------------------------------- */

/* Whatever comes of a damaged handle, it comes soon. Connections that it made all the same are closed. */
static void try_handle(struct side *s, const uint8_t *damaged, bool must_fail) {
  const uint64_t limit = limit_of(s);
  const unsigned before = nccl_warnings();
  uint8_t handle[NCCL_NET_HANDLE_MAXSIZE];
  void *comm = NULL;
  ncclResult_t result;
  memcpy(handle, damaged, sizeof handle);
  while ((result = net_connect(&s->comm, 0, handle, &comm)) == ncclSuccess && !comm)
    wait_a_little(s, limit, "connect to a damaged handle: pending");
  CHECK_TEXT(!must_fail || result != ncclSuccess, "connected by a handle that nobody made");
  if (result == ncclSuccess) OK(net_close_send(s->nccl, comm));
  if (result != ncclSuccess)
    CHECK_TEXT(nccl_warnings() == before + 1, "%u warnings, not one, for a damaged handle", nccl_warnings() - before);
}

static void damage(struct side *s) {
  uint8_t right[NCCL_NET_HANDLE_MAXSIZE], handle[NCCL_NET_HANDLE_MAXSIZE];
  take_handle(s, right);
  for (int value = 0; value < 256; value += 85) {
    memset(handle, value, sizeof handle);
    harness_note("a handle of bytes %d", value);
    try_handle(s, handle, true);
  }
  for (size_t kept = 4; kept <= 8; kept += 4) {
    memset(handle, 0, sizeof handle);
    memcpy(handle, right, kept);
    harness_note("a handle cut off after %zu bytes", kept);
    try_handle(s, handle, true);
  }
  for (size_t i = 0; i < sizeof handle; i++) {
    memcpy(handle, right, sizeof handle);
    handle[i] ^= (uint8_t)(1u << harness_below(&s->random, 8));
    harness_note("a handle whose byte %zu is wrong", i);
    try_handle(s, handle, false);
  }
  harness_note("%s", "");
}

/* Rank 1 accepts whatever comes, until rank 0 is through; then the right handle must still work. */
static void handles(struct side *s) {
  const int last = 50;
  if (s->rank == 0) {
    damage(s);
    world_leave(s->world, 0, 0); /* says: through */
  } else {
    do_listen(s);
    void *comm = NULL;
    for (int tries = 0; tries < last; tries += !comm && world_gone_for(s->world, 0, 0) >= 0) {
      comm = NULL;
      OK(net_accept(s->nccl, s->listen, &comm));
      if (comm) OK(net_close_recv(s->nccl, comm));
      sched_yield();
    }
  }
  meet(s);
  if (s->rank == 0)
    do_connect(s);
  else
    do_accept(s);
  exchange(s, 0, 1234, false);
  close_both(s);
}

/* ---- what must not block (watch.h would notice) -------------------------------------------------------------------
 */

static void nothing_yet(struct side *s, void *request) {
  for (int i = 0; i < PROBES; i++) {
    int done = -1;
    OK(net_test(s->nccl, request, &done, NULL));
    CHECK_TEXT(done == 0, "test says done, nothing was sent");
  }
}

static void patience(struct side *s) {
  enum { MESSAGES = NCCL_STEPS, BYTES = 1 << 20 };
  uint8_t handle[NCCL_NET_HANDLE_MAXSIZE], *data = calloc(MESSAGES, BYTES);
  void *pending[MESSAGES];
  CHECK(data);
  do_listen(s);
  take_handle(s, handle);
  for (int i = 0; i < PROBES && !s->recv; i++) OK(net_accept(s->nccl, s->listen, &s->recv));
  CHECK_TEXT(!s->recv, "accept without a connect");
  meet(s);
  for (int i = 0; i < PROBES && !s->send; i++) OK(net_connect(&s->comm, 0, handle, &s->send)); /* nobody accepts */
  meet(s);
  for (const uint64_t limit = limit_of(s); !s->send || !s->recv;
       wait_a_little(s, limit, "connect and accept: pending")) {
    if (!s->send) OK(net_connect(&s->comm, 0, handle, &s->send));
    if (!s->recv) OK(net_accept(s->nccl, s->listen, &s->recv));
  }
  void *receive = post_recv(s, data, 8, NULL);
  nothing_yet(s, receive); /* each waits for the other's message before it sends its own */
  meet(s);
  void *send = post_send(s, (uint64_t[]){42}, 8, NULL);
  OK(finish(s, receive, NULL));
  OK(finish(s, send, NULL));
  CHECK(*(const uint64_t *)(void *)data == 42);
  int accepted = 0;
  for (int i = 0; i < MESSAGES; i++, accepted++) { /* nobody receives */
    OK(net_isend(s->nccl, s->send, data + (size_t)i * BYTES, BYTES, s->rank, NULL, &pending[i]));
    if (!pending[i]) break;
    int done;
    OK(net_test(s->nccl, pending[i], &done, NULL));
    if (done) pending[i] = NULL;
  }
  meet(s);
  uint8_t *target = malloc((size_t)MESSAGES * BYTES);
  CHECK(target);
  s->world->numbers[s->rank] = (uint64_t)accepted;
  meet(s);
  const int coming = (int)s->world->numbers[s->peer];
  void *receives[MESSAGES];
  for (int i = 0; i < coming; i++) receives[i] = post_recv(s, target + (size_t)i * BYTES, BYTES, NULL);
  const uint64_t limit = limit_of(s);
  for (int open = 1; open; wait_a_little(s, limit, "both ways at once: not done")) {
    open = 0;
    for (int i = 0; i < MESSAGES; i++) {
      int done = 0;
      if (i < accepted && pending[i]) {
        OK(net_test(s->nccl, pending[i], &done, NULL));
        if (done) pending[i] = NULL;
        open |= !done;
      }
      if (i < coming && receives[i]) {
        OK(net_test(s->nccl, receives[i], &done, NULL));
        if (done) receives[i] = NULL;
        open |= !done;
      }
    }
  }
  close_both(s);
  free(data);
  free(target);
}

/* ---- closing ----------------------------------------------------------------------------------------------------- */

/* Rank `closer` closes while the other has requests: each of those ends, with data or with an error, and in the end
 * there is an error. */
static void close_under(struct side *s, int closer) {
  enum { BYTES = 1 << 20 };
  uint8_t *data = calloc(NCCL_STEPS, BYTES);
  void *pending[NCCL_STEPS];
  ncclResult_t result = ncclSuccess;
  CHECK(data);
  open_both(s);
  for (int i = 0; i < 3; i++)
    pending[i] = s->rank ? post_recv(s, data + (size_t)i * BYTES, BYTES, NULL)
                         : post_send(s, data + (size_t)i * BYTES, BYTES, NULL);
  meet(s);
  if (s->rank == closer) {
    close_send(s);
    close_recv(s);
  } else {
    for (int i = 0; i < 3 && result == ncclSuccess; i++) result = finish(s, pending[i], NULL);
    for (const uint64_t limit = limit_of(s); result == ncclSuccess;
         wait_a_little(s, limit, "the other end is closed")) {
      void *request, *none = NULL, *at = data;
      const size_t bytes = BYTES;
      int tag = 0;
      result = s->rank ? net_irecv(s->nccl, s->recv, 1, &at, &bytes, &tag, &none, &request)
                       : net_isend(s->nccl, s->send, data, BYTES, 0, NULL, &request);
      if (result == ncclSuccess && request) result = finish(s, request, NULL);
    }
  }
  close_both(s);
  free(data);
}

static void closing(struct side *s) {
  for (int closer = 0; closer < 2; closer++) close_under(s, closer);
  open_both(s); /* never used */
  close_both(s);
  do_listen(s); /* nobody comes */
  close_both(s);
}

/* The listener goes while somebody is connecting: an error, at the latest when the connection is used. */
static void deserted(struct side *s) {
  uint8_t handle[NCCL_NET_HANDLE_MAXSIZE], data[64] = {0};
  ncclResult_t result = ncclSuccess;
  if (s->rank) do_listen(s);
  if (s->rank == 0) {
    take_handle(s, handle);
    result = net_connect(&s->comm, 0, handle, &s->send);
  }
  meet(s);
  if (s->rank) {
    OK(net_close_listen(s->nccl, s->listen));
    s->listen = NULL;
  }
  meet(s);
  for (const uint64_t limit = limit_of(s); s->rank == 0 && result == ncclSuccess;
       wait_a_little(s, limit, "no listener")) {
    void *request = NULL;
    int done;
    if (!s->send)
      result = net_connect(&s->comm, 0, handle, &s->send);
    else
      result = net_isend(s->nccl, s->send, data, sizeof data, 0, NULL, &request);
    if (result == ncclSuccess && request) result = net_test(s->nccl, request, &done, NULL);
  }
  close_both(s);
}

/* ---- leaks ------------------------------------------------------------------------------------------------------- */

static int descriptors(void) {
  int count = 0;
  DIR *d = opendir("/proc/self/fd");
  CHECK(d);
  while (readdir(d)) count++;
  closedir(d);
  return count;
}

static int mappings(void) {
  int count = 0, c;
  FILE *f = fopen("/proc/self/maps", "re");
  CHECK(f);
  while ((c = getc(f)) != EOF) count += c == '\n';
  fclose(f);
  return count;
}

static void again_and_again(struct side *s) {
  enum { WARM = 8, TIMES = HARNESS_SLOW ? 24 : 60 };
  int fds = 0, maps = 0;
  for (int i = 0; i < TIMES; i++) {
    open_both(s);
    exchange(s, (unsigned)i, 10000, false);
    close_both(s);
    if (i == WARM) fds = descriptors(), maps = mappings();
    meet(s);
  }
  CHECK_TEXT(descriptors() < fds + TIMES / 3, "%d descriptors, after %d connections %d", fds, TIMES - WARM,
             descriptors());
  CHECK_TEXT(mappings() < maps + TIMES / 3, "%d mappings, after %d connections %d", maps, TIMES - WARM, mappings());
}

/* 2.28 finalizes after a failed init, with whatever context there is. */
static void contexts(struct side *s) {
  net_finalize(s->nccl, NULL);
  open_both(s);
  exchange(s, 5, 100, true);
  close_both(s);
}

/* ---- running them ------------------------------------------------------------------------------------------------ */

static const struct {
  const char *name;
  void (*run)(struct side *s);
} cases[] = {{"messages", messages},     {"oversized", oversized}, {"requests", requests}, {"arguments", arguments},
             {"handles", handles},       {"patience", patience},   {"closing", closing},   {"deserted", deserted},
             {"leaks", again_and_again}, {"contexts", contexts}};

bool cases_have(const char *name) {
  bool known = !strcmp(name, "cases");
  for (size_t i = 0; i < LENGTH(cases); i++) known |= !strcmp(name, cases[i].name);
  return known;
}

static void run_side(struct side *s) {
  const char *chosen = s->world->settings.pattern, *why;
  harness_rank = s->rank;
  watch_begin(s->rank);
  CHECK_TEXT(nccl_comm_begin(world_nccl(0), &s->comm, &why), "%s: %s", s->world->settings.plugin, why);
  s->nccl = s->comm.nccl;
  for (size_t i = 0; i < LENGTH(cases); i++) {
    if (strcmp(chosen, "cases") != 0 && strcmp(chosen, cases[i].name) != 0) continue;
    cases[i].run(s);
    meet(s);
  }
  nccl_comm_end(&s->comm);
  watch_end();
}

static void case_main(int rank, int nranks, void *context) {
  struct world *w = context;
  struct side s = {.world = w, .rank = rank, .peer = 1 - rank, .random = harness_random(w->settings.seed)};
  (void)nranks;
  if (!w->settings.threads) watch_start(w->settings.patience_s);
  run_side(&s);
}

void cases_run(struct world *w) {
  w->settings.nranks = 2;
  world_reset(w);
  world_run(w, case_main, WORLD_SECONDS);
}
