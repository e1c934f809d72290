/*
 * test_hostile.c - the plugin where every call of the C library fails once, and beside somebody who writes nonsense
 * into its arenas.
 *
 * Linked with the plugin's objects instead of loading its file, so that their calls go through tests/faults.c. A life
 * is what NCCL does with the network: a connection between two processes, one within a process, messages of all kinds,
 * close; and with CollNet: a communicator, all-reduces, close. Any NCCL result is fine, with one warning; a crash, a
 * leak, an access outside of a mapping, a file left behind, or a peer that is not told is not.
 */
#include "faults.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"
#include "plugin/nccl_collnet.h"
#include "plugin/nccl_net.h"
#include "plugin/net_layout.h"

#ifndef FAULTS_STRIDE
#define FAULTS_STRIDE 1
#endif

enum { MESSAGES = 12, MOST = 600 << 10, LIMIT_MS = 10000, NO_VICTIM = -1 };

extern const nccl_net_v12_t ncclNetPlugin_v12;
extern const nccl_collnet_v12_t ncclCollNetPlugin_v12;
static const nccl_net_v12_t *const net = &ncclNetPlugin_v12;
static const nccl_collnet_v12_t *const collnet = &ncclCollNetPlugin_v12;

/* What the two processes of a life share. */
struct life {
  int victim;
  uint32_t call; /* of the victim's that fails */
  unsigned wait_ms;
  uint64_t seed;
  const char *folder; /* of arenas of which one word is overwritten before the sender comes; NULL: none is */
  size_t at;
  uint32_t value;
  uint32_t ready[2], over[2], fired; /* ready: the handle is there; over: this rank needs nobody any more */
  char handles[2][NCCL_NET_HANDLE_BYTES];
};

static uint32_t look(const uint32_t *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }
static void set(uint32_t *word) { __atomic_store_n(word, 1, __ATOMIC_RELEASE); }

static uint64_t now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static int warnings;
static char warning[512];

__attribute__((format(printf, 5, 6))) static void logger(nccl_log_level_t level, unsigned long subsystems,
                                                         const char *file, int line, const char *format, ...) {
  va_list arguments;
  (void)subsystems, (void)file, (void)line;
  if (level != NCCL_LOG_WARN) return;
  __atomic_fetch_add(&warnings, 1, __ATOMIC_RELAXED);
  va_start(arguments, format);
  vsnprintf(warning, sizeof warning, format, arguments);
  va_end(arguments);
}

#define TRY(call)                                                                                                      \
  do {                                                                                                                 \
    const nccl_result_t result_ = (call);                                                                              \
    if (result_ != NCCL_SUCCESS) return result_;                                                                       \
  } while (0)

/* Of a wait that was given up, as NCCL gives up when its user aborts. */
static const nccl_result_t GIVEN_UP = (nccl_result_t)99;

/* ---- arenas from outside ------------------------------------------------------------------------------------------
 */

/* Maps an arena that has its name; NULL if there is none. */
static uint8_t *map_arena(const char *folder) {
  uint8_t *memory = NULL;
  DIR *d = opendir(folder);
  for (struct dirent *e; d && !memory && (e = readdir(d));) {
    struct stat st;
    const int fd = *e->d_name == '.' ? -1 : openat(dirfd(d), e->d_name, O_RDWR | O_CLOEXEC);
    if (fd >= 0 && !fstat(fd, &st) && st.st_size == SHMI_NET_ARENA_BYTES)
      memory = mmap(NULL, SHMI_NET_ARENA_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED) memory = NULL;
    if (fd >= 0) close(fd);
  }
  if (d) closedir(d);
  return memory;
}

static void spoil_word(const struct life *life) {
  uint8_t *memory = map_arena(life->folder);
  CHECK(memory);
  __atomic_store_n((uint32_t *)(void *)(memory + life->at), life->value, __ATOMIC_RELAXED);
  munmap(memory, SHMI_NET_ARENA_BYTES);
}

/* ---- the network ------------------------------------------------------------------------------------------------- */

struct ends {
  void *context, *listener, *send, *recv, *mhandle;
  uint8_t *out, *in;
};

static nccl_result_t wait_for(const struct life *life, void *request) {
  int done = 0;
  for (const uint64_t limit = now_ms() + life->wait_ms; !done;) {
    TRY(net->test(request, &done, NULL));
    if (now_ms() > limit) return GIVEN_UP;
    if (!done) usleep(20);
  }
  return NCCL_SUCCESS;
}

static nccl_result_t accept_one(const struct life *life, struct ends *e, int peer) {
  for (const uint64_t limit = now_ms() + life->wait_ms; !e->recv;) {
    TRY(net->accept(e->listener, &e->recv, NULL));
    if (!e->recv && (now_ms() > limit || (peer >= 0 && look(&life->over[peer])))) return GIVEN_UP;
    if (!e->recv) usleep(100);
  }
  return NCCL_SUCCESS;
}

static nccl_result_t post_receive(struct ends *e, void **request) {
  size_t bytes = MOST;
  int tag = 0;
  void *data = e->in, *mhandle = e->mhandle;
  return net->irecv(e->recv, 1, &data, &bytes, &tag, &mhandle, NULL, request);
}

static size_t choose_bytes(struct harness_random *r) {
  return harness_below(r, (size_t)1 << harness_below(r, 20)) % MOST;
}

/* This process sends, receives, or both. */
static nccl_result_t move(const struct life *life, struct ends *e) {
  struct harness_random r = harness_random(life->seed);
  for (int m = 0; m < MESSAGES; m++) {
    const size_t bytes = choose_bytes(&r);
    void *sent = NULL, *received = NULL;
    if (e->send) memset(e->out, m + 1, bytes);
    if (e->recv) TRY(post_receive(e, &received));
    if (e->send) TRY(net->isend(e->send, e->out, bytes, 0, NULL, NULL, &sent));
    if (received) TRY(wait_for(life, received));
    if (sent) TRY(wait_for(life, sent));
    if (e->recv && life->victim != NO_VICTIM && bytes) CHECK(e->in[0] == m + 1 && !memcmp(e->in, e->in + 1, bytes - 1));
  }
  return NCCL_SUCCESS;
}

static void close_ends(struct ends *e) {
  if (e->mhandle) net->dereg_mr(e->recv, e->mhandle);
  if (e->send) net->close_send(e->send);
  if (e->recv) net->close_recv(e->recv);
  if (e->listener) net->close_listen(e->listener);
  e->listener = e->send = e->recv = e->mhandle = NULL;
}

static nccl_result_t receive(struct life *life, struct ends *e) {
  TRY(net->listen(e->context, 0, life->handles[0], &e->listener));
  if (life->folder) spoil_word(life);
  set(&life->ready[0]);
  TRY(accept_one(life, e, 1));
  TRY(net->reg_mr(e->recv, e->in, MOST, NCCL_PTR_HOST, &e->mhandle));
  return move(life, e);
}

static nccl_result_t send(struct life *life, struct ends *e) {
  while (!look(&life->ready[0]) && !look(&life->over[0])) usleep(100);
  if (!look(&life->ready[0])) return GIVEN_UP;
  TRY(net->connect(e->context, 0, life->handles[0], &e->send, NULL));
  return move(life, e);
}

static nccl_result_t talk_to_oneself(const struct life *life, struct ends *e) {
  char handle[NCCL_NET_HANDLE_BYTES];
  TRY(net->listen(e->context, 0, handle, &e->listener));
  TRY(net->connect(e->context, 0, handle, &e->send, NULL));
  TRY(accept_one(life, e, -1));
  return move(life, e);
}

static nccl_result_t use_net(struct life *life, int rank) {
  struct ends e = {.out = malloc(MOST), .in = malloc(MOST)};
  if (rank == life->victim) faults_on();
  nccl_result_t result = net->init(&e.context, 1, NULL, logger, NULL);
  if (result == NCCL_SUCCESS) result = rank == 0 ? receive(life, &e) : send(life, &e);
  close_ends(&e);
  set(&life->over[rank]);
  if (result == NCCL_SUCCESS) result = talk_to_oneself(life, &e);
  close_ends(&e);
  if (e.context) net->finalize(e.context);
  faults_off();
  free(e.out);
  free(e.in);
  return result;
}

/* ---- CollNet ----------------------------------------------------------------------------------------------------- */

static nccl_result_t reduce(const struct life *life, void *coll, float *values, void **mhandle) {
  enum { COUNT = 5000 };
  TRY(collnet->reg_mr(coll, values, 2 * COUNT * sizeof *values, NCCL_PTR_HOST, mhandle));
  for (int i = 0; i < 4; i++) {
    void *request = NULL;
    int done = 0, bytes;
    TRY(collnet->iallreduce(coll, values, values + COUNT, COUNT, NCCL_FLOAT32, NCCL_SUM, *mhandle, *mhandle, &request));
    for (const uint64_t limit = now_ms() + life->wait_ms; request && !done; usleep(50)) {
      TRY(collnet->test(request, &done, &bytes));
      if (now_ms() > limit) return GIVEN_UP;
    }
  }
  return NCCL_SUCCESS;
}

static nccl_result_t meet(struct life *life, int rank, void *listener, void **coll) {
  void *handles[2] = {life->handles[0], life->handles[1]};
  set(&life->ready[rank]);
  while (!look(&life->ready[1 - rank]) && !look(&life->over[1 - rank])) usleep(100);
  if (!look(&life->ready[1 - rank])) return GIVEN_UP;
  return collnet->connect(handles, 2, rank, listener, coll);
}

static nccl_result_t use_collnet(struct life *life, int rank) {
  void *context = NULL, *listener = NULL, *coll = NULL, *mhandle = NULL;
  float *values = calloc(10000, sizeof *values);
  if (rank == life->victim) faults_on();
  nccl_result_t result = collnet->init(&context, 1, logger);
  if (result == NCCL_SUCCESS) result = collnet->listen(context, 0, life->handles[rank], &listener);
  if (result == NCCL_SUCCESS) result = meet(life, rank, listener, &coll);
  if (listener) collnet->close_listen(listener);
  if (result == NCCL_SUCCESS) result = reduce(life, coll, values, &mhandle);
  if (mhandle) collnet->dereg_mr(coll, mhandle);
  if (coll) collnet->close_coll(coll);
  if (context) collnet->finalize(context);
  faults_off();
  set(&life->over[rank]);
  free(values);
  return result;
}

/* ---- faults ------------------------------------------------------------------------------------------------------ */

typedef nccl_result_t (*use_fn)(struct life *life, int rank);
static use_fn use;

static void live(int rank, int nranks, void *context) {
  struct life *life = context;
  (void)nranks;
  if (rank == life->victim) faults_arm(FAULTS_TAKING, life->call);
  const nccl_result_t result = use(life, rank);
  if (rank != life->victim) {
    CHECK_TEXT(result != GIVEN_UP || life->over[1 - rank], "was not told that its peer has failed");
    return;
  }
  life->fired = faults_fired() != NULL;
  const int expected = result != NCCL_SUCCESS && result != GIVEN_UP;
  CHECK_TEXT(warnings == expected, "call %u, %s: result %d with %d warnings: %s", life->call,
             faults_fired() ? faults_fired() : "none", (int)result, warnings, warning);
}

static struct life *new_life(void) {
  struct life *life = mmap(NULL, sizeof *life, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(life != MAP_FAILED);
  return life;
}

static void fail_each_call(const char *name, use_fn door, int victim, uint64_t seed, const char *folder) {
  struct life *life = new_life();
  int count = 0;
  use = door;
  for (uint32_t call = (uint32_t)(seed % FAULTS_STRIDE);; call += FAULTS_STRIDE, count++) {
    *life = (struct life){.victim = victim, .call = call, .wait_ms = LIMIT_MS, .seed = seed};
    harness_note("%s, victim %d, call %u", name, victim, call);
    harness_processes(2, live, life, 30);
    CHECK(harness_entries(folder) == 0);
    if (!life->fired) break;
  }
  CHECK(count > 0);
  printf("%s, victim %d: %d calls failed in turn\n", name, victim, count);
  munmap(life, sizeof *life);
}

/* ---- a corruptor ------------------------------------------------------------------------------------------------- */

/* Header, and lines and pieces of the first link. */
static void spoil(uint8_t *memory, struct harness_random *r) {
  const size_t range = harness_below(r, 4) ? shmi_net_link_at(0) + 4 * SHMI_LINE : shmi_net_link_at(1);
  const size_t least = harness_below(r, 8) ? shmi_net_link_at(0) : 0,
               at = least + harness_below(r, range - least) / 4 * 4;
  const uint32_t values[] = {0, 1, 2, UINT32_MAX, (uint32_t)harness_bits(r), (uint32_t)harness_below(r, 1 << 16)};
  __atomic_store_n((uint32_t *)(void *)(memory + at), values[harness_below(r, LENGTH(values))], __ATOMIC_RELAXED);
}

static void corrupt(const char *folder, const struct life *life) {
  struct harness_random r = harness_random(life->seed);
  uint8_t *memory = NULL;
  while (!memory) memory = map_arena(folder);
  for (;;) {
    uint8_t *newer = map_arena(folder);
    if (newer) munmap(memory, SHMI_NET_ARENA_BYTES), memory = newer;
    for (size_t words = harness_below(&r, 4); words; words--) spoil(memory, &r);
    usleep((unsigned)harness_below(&r, 400));
  }
}

static void live_beside(int rank, int nranks, void *context) {
  (void)nranks;
  faults_guard_mappings();
  use_net(context, rank);
}

static void beside_a_corruptor(struct harness_random *r, const char *folder) {
  enum { LIVES = 40 };
  struct life *life = new_life();
  for (int i = 0; i < LIVES; i++) {
    *life = (struct life){.victim = NO_VICTIM, .wait_ms = 60, .seed = harness_bits(r)};
    harness_note("life %d", i);
    fflush(NULL);
    const pid_t corruptor = fork();
    CHECK(corruptor >= 0);
    if (corruptor == 0) corrupt(folder, life);
    harness_processes(2, live_beside, life, 30);
    kill(corruptor, SIGKILL);
    waitpid(corruptor, NULL, 0);
    CHECK(harness_entries(folder) == 0);
  }
  munmap(life, sizeof *life);
}

/* Every word of the header and of the link's first lines, before the sender comes. */
static void overwritten_before_connect(uint64_t seed, const char *folder) {
  static const uint32_t values[] = {0, 1 << 20, UINT32_MAX - 7};
  static const size_t places[] = {0, SHMI_PAGE, SHMI_PAGE + SHMI_LINE, SHMI_PAGE + 2 * SHMI_LINE,
                                  SHMI_PAGE + 4 * SHMI_LINE};
  struct life *life = new_life();
  for (size_t p = 0; p < LENGTH(places); p++)
    for (size_t word = 0; word < 5; word++)
      for (size_t v = 0; v < LENGTH(values); v++) {
        *life = (struct life){.victim = NO_VICTIM, .wait_ms = 40, .seed = seed, .folder = folder};
        life->at = places[p] + 4 * word;
        life->value = values[v];
        harness_note("word at %zu set to %u", life->at, life->value);
        harness_processes(2, live_beside, life, 30);
        CHECK(harness_entries(folder) == 0);
      }
  munmap(life, sizeof *life);
}

int main(void) {
  const char *folder = harness_own_folder();
  struct harness_random r = harness_random(harness_seed());
  setenv("SHMCCL_DEBUG", "none", 1); /* NCCL's logger is told */
  setenv("SHMCCL_NCCL_ENV", "0", 1);
  setenv("SHMCCL_TIMEOUT_MS", "300", 1);
  overwritten_before_connect(harness_bits(&r), folder);
  beside_a_corruptor(&r, folder);
  for (int victim = 0; victim < 2; victim++) {
    fail_each_call("net", use_net, victim, harness_bits(&r), folder);
    fail_each_call("CollNet", use_collnet, victim, harness_bits(&r), folder);
  }
  return 0;
}
