/*
 * test_net.c - the network at its edges: handles, budget and space, misuse, registration beside traffic, closing in any
 * order, several tables at once. Both ends are in this process unless a case forks.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/filter.h>
#include <linux/seccomp.h>

#include "base/clock.h"
#include "base/ordering.h"
#include "collnet_rig.h"
#include "plugin/handle.h"
#include "plugin/net_layout.h"

static nccl_net_v12_t *net;
static void *context;

static void *do_listen(char *handle) {
  void *listener;
  EXPECT_QUIETLY(net->listen(context, 0, handle, &listener), NCCL_SUCCESS);
  return listener;
}

struct ends {
  void *send, *recv;
};

static struct ends open_pair(void) {
  char handle[NCCL_NET_HANDLE_BYTES];
  struct ends e = {NULL, NULL};
  void *listener = do_listen(handle);
  CHECK(net->accept(listener, &e.recv, NULL) == NCCL_SUCCESS && !e.recv);
  CHECK(net->connect(context, 0, handle, &e.send, NULL) == NCCL_SUCCESS && e.send);
  CHECK(net->accept(listener, &e.recv, NULL) == NCCL_SUCCESS && e.recv);
  CHECK(net->close_listen(listener) == NCCL_SUCCESS);
  return e;
}

static void close_pair(struct ends e) {
  EXPECT_QUIETLY(net->close_send(e.send), NCCL_SUCCESS);
  EXPECT_QUIETLY(net->close_recv(e.recv), NCCL_SUCCESS);
}

static nccl_result_t wait_for(void *request, int *bytes) {
  int done = 0;
  for (const uint64_t limit = shmi_now_ns() + 20000000000ull; !done;) {
    const nccl_result_t result = net->test(request, &done, bytes);
    if (result != NCCL_SUCCESS) return result;
    CHECK(shmi_now_ns() < limit);
  }
  return NCCL_SUCCESS;
}

static void *post_recv(void *recv, void *data, size_t bytes) {
  void *request = (void *)(uintptr_t)NCCL_NET_OPTIONAL_RECV;
  int tag = 0;
  CHECK(net->irecv(recv, 1, &data, &bytes, &tag, NULL, NULL, &request) == NCCL_SUCCESS);
  CHECK(request != (void *)(uintptr_t)NCCL_NET_OPTIONAL_RECV);
  return request;
}

static void exchange(struct ends e, size_t bytes) {
  uint8_t *out = malloc(bytes + 1), *in = calloc(bytes + 1, 1);
  void *sent = NULL;
  int got = -1;
  for (size_t i = 0; i < bytes; i++) out[i] = (uint8_t)(i * 7 + bytes);
  void *received = post_recv(e.recv, in, bytes);
  CHECK(net->isend(e.send, out, bytes, 0, NULL, NULL, &sent) == NCCL_SUCCESS && sent && received);
  CHECK(wait_for(received, &got) == NCCL_SUCCESS && (size_t)got == bytes && !memcmp(in, out, bytes) && !in[bytes]);
  CHECK(wait_for(sent, NULL) == NCCL_SUCCESS);
  free(out);
  free(in);
}

/* ---- handles ----------------------------------------------------------------------------------------------------- */

static void rewrite(char handle[NCCL_NET_HANDLE_BYTES], const struct shmi_handle *h) {
  struct shmi_handle copy = *h;
  copy.check = 0;
  uint32_t hash = 0x811c9dc5; /* as documented: FNV-1a */
  for (size_t i = 0; i < sizeof copy; i++) hash = (hash ^ ((const uint8_t *)&copy)[i]) * 0x01000193;
  copy.check = hash;
  memcpy(handle, &copy, sizeof copy);
}

static void try_handle(const struct shmi_handle *h, nccl_result_t wanted, const char *words) {
  char handle[NCCL_NET_HANDLE_BYTES] = {0};
  void *send = &send;
  rewrite(handle, h);
  EXPECT(net->connect(context, 0, handle, &send, NULL), wanted, words);
  CHECK(send == &send);
}

/* Whole handles that tell of somewhere else. */
static void foreign_handles(void) {
  char handle[NCCL_NET_HANDLE_BYTES];
  struct shmi_handle right, h;
  void *listener = do_listen(handle), *send;
  memcpy(&right, handle, sizeof right);
  h = right, h.place.boot[3] ^= 1, memcpy(h.place.host, "elsewhere", 10);
  try_handle(&h, NCCL_SYSTEM_ERROR, "elsewhere|host");
  h = right, h.place.inode ^= 1;
  try_handle(&h, NCCL_SYSTEM_ERROR, "another|ipc=host");
  h = right, h.place.device ^= 1;
  try_handle(&h, NCCL_SYSTEM_ERROR, "another|ipc=host");
  h = right, h.version++;
  try_handle(&h, NCCL_INVALID_USAGE, "version|same libnccl-net-shmccl.so");
  h = right, h.tuner = 0;
  try_handle(&h, NCCL_INVALID_USAGE, "off in the peer|on here|SHMCCL_TUNER");
  h = right, h.tuner++;
  try_handle(&h, NCCL_INVALID_USAGE, "SHMCCL_TUNER|same|libnccl-net-shmccl.so");
  h = right, h.link = SHMI_NET_LINKS;
  try_handle(&h, NCCL_INVALID_ARGUMENT, "damaged");
  h = right, h.key ^= 1;
  try_handle(&h, NCCL_REMOTE_ERROR, "gone");
  h = right, h.arena[0] ^= 1;
  try_handle(&h, NCCL_REMOTE_ERROR, "gone");
  memset(handle + 40, 0, sizeof handle - 40);
  EXPECT(net->connect(context, 0, handle, &send, NULL), NCCL_INVALID_ARGUMENT, "damaged");
  memcpy(handle, &right, sizeof right);
  EXPECT_QUIETLY(net->connect(context, 0, handle, &send, NULL), NCCL_SUCCESS); /* the right one still works */
  void *again;
  EXPECT(net->connect(context, 0, handle, &again, NULL), NCCL_INVALID_USAGE, "another sender");
  EXPECT_QUIETLY(net->close_send(send), NCCL_SUCCESS);
  EXPECT_QUIETLY(net->close_listen(listener), NCCL_SUCCESS);
  EXPECT(net->connect(context, 0, handle, &send, NULL), NCCL_REMOTE_ERROR, "gone");
}

/* ---- misuse ------------------------------------------------------------------------------------------------------ */

static void misuse(void) {
  const struct ends e = open_pair();
  char handle[NCCL_NET_HANDLE_BYTES], byte = 0;
  void *out, *sent = NULL;
  int done;
  EXPECT(net->listen(NULL, 0, handle, &out), NCCL_INVALID_ARGUMENT, "context");
  EXPECT(net->listen(handle, 0, handle, &out), NCCL_INVALID_ARGUMENT, "context");
  EXPECT(net->connect(handle, 0, handle, &out, NULL), NCCL_INVALID_ARGUMENT, "context");
  EXPECT(net->finalize(handle), NCCL_INVALID_ARGUMENT, "not given by init");
  EXPECT(net->accept(NULL, &out, NULL), NCCL_INVALID_ARGUMENT, "no open listener");
  EXPECT(net->accept(e.send, &out, NULL), NCCL_INVALID_ARGUMENT, "no open listener");
  EXPECT(net->close_send(e.recv), NCCL_INVALID_ARGUMENT, "no open send");
  EXPECT(net->close_recv(e.send), NCCL_INVALID_ARGUMENT, "no open receive");
  EXPECT(net->close_listen(e.send), NCCL_INVALID_ARGUMENT, "no open listener");
  EXPECT(net->isend(e.recv, &byte, 1, 0, NULL, NULL, &sent), NCCL_INVALID_ARGUMENT, "no open send");
  EXPECT(net->test(NULL, &done, NULL), NCCL_INVALID_ARGUMENT, "no request");
  CHECK(net->isend(e.send, &byte, 1, 0, NULL, NULL, &sent) == NCCL_SUCCESS && wait_for(sent, NULL) == NCCL_SUCCESS);
  EXPECT(net->test(sent, &done, NULL), NCCL_INVALID_USAGE, "done before");
  CHECK(wait_for(post_recv(e.recv, &byte, 1), NULL) == NCCL_SUCCESS); /* no harm was done */
  exchange(e, 100000);
  close_pair(e);
}

/* ---- requests, registration ----------------------------------------------------------------------------------------
 */

static void as_many_requests_as_allowed(void) {
  const struct ends e = open_pair();
  static uint8_t data[NCCL_NET_MAX_REQUESTS + 1];
  void *requests[NCCL_NET_MAX_REQUESTS], *sent;
  for (int i = 0; i < NCCL_NET_MAX_REQUESTS; i++) CHECK((requests[i] = post_recv(e.recv, &data[i], 1)));
  CHECK(!post_recv(e.recv, &data[NCCL_NET_MAX_REQUESTS], 1)); /* not an error: try again */
  for (int i = 0; i < NCCL_NET_MAX_REQUESTS; i++) {
    uint8_t byte = (uint8_t)(i + 1);
    CHECK(net->isend(e.send, &byte, 1, 0, NULL, NULL, &sent) == NCCL_SUCCESS && sent);
    CHECK(wait_for(requests[i], NULL) == NCCL_SUCCESS && wait_for(sent, NULL) == NCCL_SUCCESS && data[i] == i + 1);
  }
  close_pair(e);
}

static uint32_t stop;

static void *register_and_deregister(void *comm) {
  static uint8_t data[4096];
  void *handles[100] = {NULL};
  for (unsigned i = 0; !shmi_observe32(&stop); i = (i + 7) % 100) {
    if (!handles[i]) {
      CHECK(net->reg_mr(comm, data, sizeof data, NCCL_PTR_HOST, &handles[i]) == NCCL_SUCCESS);
      continue;
    }
    CHECK(net->dereg_mr(comm, handles[i]) == NCCL_SUCCESS);
    handles[i] = NULL;
  }
  for (int i = 0; i < 100; i++)
    if (handles[i]) CHECK(net->dereg_mr(comm, handles[i]) == NCCL_SUCCESS);
  return NULL;
}

static void registration_beside_traffic(void) {
  const struct ends e = open_pair();
  static uint8_t data[1000];
  pthread_t thread;
  void *mhandle, *request;
  CHECK(net->reg_mr(e.send, data, sizeof data, NCCL_PTR_HOST, &mhandle) == NCCL_SUCCESS);
  CHECK(!pthread_create(&thread, NULL, register_and_deregister, e.send));
  for (int i = 0; i < 2000; i++) {
    uint8_t in[1000];
    void *received = post_recv(e.recv, in, sizeof in);
    CHECK(net->isend(e.send, data, sizeof data, 0, mhandle, NULL, &request) == NCCL_SUCCESS);
    CHECK(wait_for(received, NULL) == NCCL_SUCCESS && wait_for(request, NULL) == NCCL_SUCCESS);
  }
  shmi_publish32(&stop, 1);
  pthread_join(thread, NULL);
  EXPECT(net->isend(e.send, data + 1, sizeof data, 0, mhandle, NULL, &request), NCCL_INVALID_ARGUMENT, "outside");
  CHECK(net->dereg_mr(e.send, mhandle) == NCCL_SUCCESS);
  EXPECT(net->isend(e.send, data, sizeof data, 0, mhandle, NULL, &request), NCCL_INVALID_ARGUMENT, "not registered");
  EXPECT(net->dereg_mr(e.send, mhandle), NCCL_INVALID_ARGUMENT, "not registered");
  close_pair(e);
}

/* Only where SHMCCL_NET_GDR=1 and there is a GPU: test_device_memory.c. */
static void cuda_memory(void) {
  const struct ends e = open_pair();
  uint8_t data[64];
  void *mhandle;
  EXPECT(net->reg_mr(e.send, data, sizeof data, NCCL_PTR_CUDA, &mhandle), NCCL_INVALID_ARGUMENT, "SHMCCL_NET_GDR");
  close_pair(e);
}

/* ---- budget and space ----------------------------------------------------------------------------------------------
 */

static void budget(void) {
  enum { MOST = 8 };
  char handles[MOST][NCCL_NET_HANDLE_BYTES];
  void *listeners[MOST], *refused;
  setenv("SHMCCL_NET_BYTES", "256K", 1);
  for (int i = 0; i < 4; i++) listeners[i] = do_listen(handles[i]);
  EXPECT(net->listen(context, 0, handles[4], &refused), NCCL_SYSTEM_ERROR, "SHMCCL_NET_BYTES|256|raise");
  EXPECT_QUIETLY(net->close_listen(listeners[0]), NCCL_SUCCESS); /* gives back */
  listeners[0] = do_listen(handles[0]);
  for (int i = 0; i < 4; i++) EXPECT_QUIETLY(net->close_listen(listeners[i]), NCCL_SUCCESS);
  unsetenv("SHMCCL_NET_BYTES");
}

/* More connections than an arena has links. */
static void many_connections(void) {
  enum { MANY = 3 * SHMI_NET_LINKS / 2 };
  static struct ends all[MANY];
  for (int round = 0; round < 3; round++) {
    char handle[NCCL_NET_HANDLE_BYTES];
    void *kept = do_listen(handle); /* keeps the name, so that links are used again */
    for (int i = 0; i < MANY; i++) all[i] = open_pair();
    for (int i = 0; i < MANY; i += 7) exchange(all[i], (size_t)i * 1000);
    for (int i = 0; i < MANY; i++) {
      const struct ends e = all[(i * 37 + round) % MANY];
      if (i % 2) {
        CHECK(net->close_send(e.send) == NCCL_SUCCESS && net->close_recv(e.recv) == NCCL_SUCCESS);
      } else {
        CHECK(net->close_recv(e.recv) == NCCL_SUCCESS && net->close_send(e.send) == NCCL_SUCCESS);
      }
    }
    EXPECT_QUIETLY(net->close_listen(kept), NCCL_SUCCESS);
  }
}

/* A /dev/shm of 64 KiB: no ring fits. Needs the right to mount. */
static void full_folder(const char *folder) {
  char small[512], handle[NCCL_NET_HANDLE_BYTES];
  void *listener;
  snprintf(small, sizeof small, "%s/small", folder);
  CHECK(!mkdir(small, 0700));
  if (mount("tmpfs", small, "tmpfs", 0, "size=64k")) {
    printf("# a full /dev/shm: not tried, this user may not mount\n");
  } else {
    setenv("SHMCCL_SHM_DIR", small, 1);
    EXPECT(net->listen(context, 0, handle, &listener), NCCL_SYSTEM_ERROR, "free|SHMCCL_NET_BYTES");
    CHECK(harness_entries(small) == 0);
    setenv("SHMCCL_SHM_DIR", folder, 1);
    CHECK(!umount(small));
  }
  CHECK(!rmdir(small));
}

/* ---- closing -------------------------------------------------------------------------------------------------------
 */

/* The sender closes in the midst of messages; the receiver must be told, and read nothing of it any more. */
static void sender_leaves(void) {
  enum { BYTES = 4 << 20 };
  const struct ends e = open_pair();
  uint8_t *out = malloc(BYTES), *in = malloc(BYTES);
  void *sent;
  memset(out, 1, BYTES);
  void *received = post_recv(e.recv, in, BYTES);
  CHECK(net->isend(e.send, out, BYTES, 0, NULL, NULL, &sent) == NCCL_SUCCESS);
  int done;
  CHECK(net->test(received, &done, NULL) == NCCL_SUCCESS && !done);
  EXPECT_QUIETLY(net->close_send(e.send), NCCL_SUCCESS);
  free(out);
  EXPECT(wait_for(received, NULL), NCCL_REMOTE_ERROR, "closed");
  EXPECT_QUIETLY(wait_for(received, NULL), NCCL_REMOTE_ERROR); /* the same, without another line */
  EXPECT_QUIETLY(net->close_recv(e.recv), NCCL_SUCCESS);
  free(in);
}

/* In a child of its own: listens, tells the parent where, accepts. */
static void *receive_from_pipe(int handles) {
  char handle[NCCL_NET_HANDLE_BYTES];
  void *own, *listener, *recv = NULL;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  CHECK(net->init(&own, 1, NULL, rig_logger, NULL) == NCCL_SUCCESS);
  CHECK(net->listen(own, 0, handle, &listener) == NCCL_SUCCESS);
  CHECK(write(handles, handle, sizeof handle) == sizeof handle);
  while (!recv) CHECK(net->accept(listener, &recv, NULL) == NCCL_SUCCESS);
  CHECK(net->close_listen(listener) == NCCL_SUCCESS);
  return recv;
}

static void receive_nothing(int handles) {
  receive_from_pipe(handles);
  CHECK(write(handles, "", 1) == 1); /* accepted */
  for (;;) pause();
}

/* The ring has room, so sends would go on being done; but nobody takes anything any more. */
static void receiver_dies(void) {
  char handle[NCCL_NET_HANDLE_BYTES], accepted;
  uint64_t data = 1;
  void *send = NULL, *request = NULL;
  int handles[2], status;
  CHECK(!pipe(handles));
  const pid_t child = fork();
  if (child == 0) receive_nothing(handles[1]);
  CHECK(child > 0 && read(handles[0], handle, sizeof handle) == sizeof handle);
  EXPECT_QUIETLY(net->connect(context, 0, handle, &send, NULL), NCCL_SUCCESS);
  CHECK(read(handles[0], &accepted, 1) == 1);
  EXPECT_QUIETLY(net->isend(send, &data, sizeof data, 0, NULL, NULL, &request), NCCL_SUCCESS);
  CHECK(wait_for(request, NULL) == NCCL_SUCCESS);
  CHECK(!kill(child, SIGKILL) && waitpid(child, &status, 0) == child);
  usleep(100000); /* longer than the plugin waits before it asks the kernel */
  EXPECT(net->isend(send, &data, sizeof data, 0, NULL, NULL, &request), NCCL_REMOTE_ERROR, "has died|messages to it");
  EXPECT_QUIETLY(net->close_send(send), NCCL_SUCCESS);
  close(handles[0]);
  close(handles[1]);
}

/* ---- the steady state ---------------------------------------------------------------------------------------------
 */

#if !defined(__SANITIZE_ADDRESS__) && !HARNESS_SLOW
static const size_t sizes[] = {8, 0, 600, 100000, 3};
enum { SIZES = sizeof sizes / sizeof sizes[0], ROUNDS = 100, LARGEST = 100000 };

/* What the plugin allocates while `counting`: its malloc is this one. */
void *__libc_malloc(size_t bytes);               // NOLINT(bugprone-reserved-identifier)
void *__libc_calloc(size_t count, size_t bytes); // NOLINT(bugprone-reserved-identifier)
static _Thread_local int counting;
static uint32_t allocations;
void *malloc(size_t bytes) {
  if (counting) shmi_note32(&allocations, allocations + 1);
  return __libc_malloc(bytes);
}
void *calloc(size_t count, size_t bytes) {
  if (counting) shmi_note32(&allocations, allocations + 1);
  return __libc_calloc(count, bytes);
}

/* From here on the kernel ends the process for any system call of this thread but exit, and fcntl, by which a wait in
 * vain asks whether the peer lives. */
static void be_strict(void) {
  struct sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit, 1, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fcntl, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
  };
  const struct sock_fprog program = {sizeof filter / sizeof filter[0], filter};
  CHECK(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
  CHECK(!prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
  counting = 1;
}

struct strict {
  void *send, *recv; /* one of them */
  uint32_t result;   /* 1: all went well */
};

static nccl_result_t start(const struct strict *s, uint8_t *data, size_t bytes, void **request) {
  void *buffer = data;
  size_t room = LARGEST;
  int tag = 0;
  if (s->send) return net->isend(s->send, data, bytes, tag, NULL, NULL, request);
  return net->irecv(s->recv, 1, &buffer, &room, &tag, NULL, NULL, request);
}

/* Up to four messages under way. */
static void *move_strictly(void *argument) {
  static uint8_t data[4][LARGEST];
  struct strict *s = argument;
  void *requests[4] = {0};
  unsigned started = 0, finished = 0;
  int right = 1;
  be_strict();
  while (finished < ROUNDS * SIZES && right) {
    void **next = &requests[started % 4];
    if (started < ROUNDS * SIZES && started < finished + 4) {
      right &= start(s, data[started % 4], sizes[started % SIZES], next) == NCCL_SUCCESS;
      started += *next != NULL;
    }
    const size_t wanted = sizes[finished % SIZES];
    int done = 0, bytes = (int)wanted;
    right &= net->test(requests[finished % 4], &done, s->send ? NULL : &bytes) == NCCL_SUCCESS;
    right &= !done || (size_t)bytes == wanted;
    finished += done != 0;
  }
  shmi_publish32(&s->result, right && !allocations);
  syscall(SYS_exit, 0);
  return NULL;
}

static void move_all(struct strict s) {
  pthread_t thread;
  CHECK(!pthread_create(&thread, NULL, move_strictly, &s) && !pthread_join(thread, NULL));
  CHECK(shmi_observe32(&s.result));
}

/* Between processes: neither system calls nor allocations, at either end. */
static void steady_state(void) {
  char handle[NCCL_NET_HANDLE_BYTES];
  void *send = NULL;
  int handles[2], status = -1;
  CHECK(!pipe(handles));
  const pid_t child = fork();
  if (child == 0) {
    move_all((struct strict){.recv = receive_from_pipe(handles[1])});
    _exit(0);
  }
  CHECK(child > 0 && read(handles[0], handle, sizeof handle) == sizeof handle);
  EXPECT_QUIETLY(net->connect(context, 0, handle, &send, NULL), NCCL_SUCCESS);
  move_all((struct strict){.send = send});
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && !WEXITSTATUS(status));
  EXPECT_QUIETLY(net->close_send(send), NCCL_SUCCESS);
  close(handles[0]);
  close(handles[1]);
}
#else
static void steady_state(void) {}
#endif

static void tables_beside_each_other(void) {
  nccl_net_v8_t *old = rig_symbol("ncclNetPlugin_v8");
  char handle[NCCL_NET_HANDLE_BYTES];
  void *listener, *send = NULL, *recv = NULL;
  EXPECT_QUIETLY(old->init(rig_logger), NCCL_SUCCESS);
  EXPECT_QUIETLY(old->listen(0, handle, &listener), NCCL_SUCCESS);
  EXPECT_QUIETLY(net->connect(context, 0, handle, &send, NULL), NCCL_SUCCESS);
  EXPECT_QUIETLY(old->accept(listener, &recv, NULL), NCCL_SUCCESS);
  EXPECT_QUIETLY(old->close_listen(listener), NCCL_SUCCESS);
  CHECK(send && recv);
  exchange((struct ends){send, recv}, 5000);
  EXPECT_QUIETLY(old->close_recv(recv), NCCL_SUCCESS);
  EXPECT_QUIETLY(net->close_send(send), NCCL_SUCCESS);
}

int main(void) {
  const char *folder = harness_own_folder();
  net = rig_symbol("ncclNetPlugin_v12");
  CHECK(net->init(&context, 1, NULL, rig_logger, NULL) == NCCL_SUCCESS);
  receiver_dies();
  steady_state();
  foreign_handles();
  misuse();
  as_many_requests_as_allowed();
  registration_beside_traffic();
  cuda_memory();
  budget();
  many_connections();
  full_folder(folder);
  sender_leaves();
  tables_beside_each_other();
  CHECK(harness_entries(folder) == 0);
  CHECK(net->finalize(context) == NCCL_SUCCESS);
  EXPECT(net->finalize(context), NCCL_INVALID_ARGUMENT, "finalized already");
  return 0;
}
