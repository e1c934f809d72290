/*
 * reference.c - a net, collnet and tuner plugin that is right by being simple: the driver's own test.
 *
 * A connection is a Unix stream socket: a message is its length and its bytes, which cannot be lost, reordered or torn.
 * A receive collects the whole message aside, copies it to the buffer in ascending 8-byte words, and is done at the
 * next test. CollNet is a star: all send to rank 0, which reduces one element at a time and sends the result to all.
 *
 * REFERENCE_BROKEN names one fault to build in: the negative controls, each of which the driver must notice.
 */
#include "abi.h"
#include "base/clock.h"
#include "base/ordering.h"
#include "numbers.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#ifndef REFERENCE_BROKEN
#define REFERENCE_BROKEN NOTHING
#endif
enum fault {
  NOTHING,
  TORN,      /* the upper half of an 8-byte word is written before the lower */
  LINE,      /* the last word of a 128-byte line is written first */
  REORDER,   /* two messages change places */
  ZERO,      /* messages without bytes are not sent */
  STALE,     /* a refused call leaves *request as it was */
  BLOCK,     /* test waits */
  EARLY,     /* done is reported before the data are there */
  SIZE,      /* the capacity is reported as the size */
  DOUBLE,    /* a completion is reported for two requests */
  OVERFLOW,  /* a message longer than its buffer is written all the same */
  DEAF,      /* a peer's end goes unnoticed */
  HASTY,     /* a send is reported done before its bytes are out */
  LITTER,    /* a file stays in the folder of segments */
  ONE_SHORT, /* allreduce leaves one rank out, now and then */
  MINUS_ONE, /* the tuner enables what NCCL has excluded */
};
static const enum fault fault = REFERENCE_BROKEN;

static ncclDebugLogger_t logger;

#define WARN(...) logger(NCCL_LOG_WARN, 0x10, __FILE__, __LINE__, __VA_ARGS__)

/* ---- handles ----------------------------------------------------------------------------------------------------- */

struct address {
  uint64_t name, check;
};
static const uint64_t SALT = 0x7265666572656e63;

static socklen_t socket_address(uint64_t name, struct sockaddr_un *a) {
  *a = (struct sockaddr_un){.sun_family = AF_UNIX};
  const int length =
      snprintf(a->sun_path + 1, sizeof a->sun_path - 1, "shmccl-reference-%llx", (unsigned long long)name);
  return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
}

struct listener {
  int fd;
};

static ncclResult_t listen_on(int dev, void *handle, void **comm) {
  struct address address;
  struct sockaddr_un a;
  if (dev != 0 || !handle || !comm) {
    WARN("listen: device %d of 1", dev);
    return ncclInvalidArgument;
  }
  struct listener *l = calloc(1, sizeof *l);
  if (!l || getrandom(&address.name, sizeof address.name, 0) < 0) abort();
  address.check = address.name * SALT ^ SALT;
  l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const socklen_t length = socket_address(address.name, &a);
  if (l->fd < 0 || bind(l->fd, (struct sockaddr *)&a, length) || listen(l->fd, 64)) abort();
  memset(handle, 0, NCCL_NET_HANDLE_MAXSIZE);
  memcpy(handle, &address, sizeof address);
  *comm = l;
  return ncclSuccess;
}

static ncclResult_t close_listen(void *comm) {
  struct listener *l = comm;
  close(l->fd);
  free(l);
  return ncclSuccess;
}

/* ---- connections ------------------------------------------------------------------------------------------------- */

struct request {
  struct connection *connection;
  bool used, done;
  uint8_t *data;
  uint64_t size, capacity, sent;
};

struct registration {
  struct registration *next;
};

struct connection {
  int fd;
  bool sends;
  ncclResult_t failed;
  struct request requests[NCCL_NET_MAX_REQUESTS];
  uint64_t posted, moved; /* requests so far; messages so far: message i belongs to request i % MAX */
  bool swapped;
  uint8_t *aside; /* the message that is coming in */
  uint64_t aside_capacity, length, header_got, body_got;
  pthread_mutex_t mutex;
  struct registration *registrations;
};

static struct connection *new_connection(int fd, bool sends) {
  struct connection *c = calloc(1, sizeof *c);
  if (!c) abort();
  c->fd = fd;
  c->sends = sends;
  pthread_mutex_init(&c->mutex, NULL);
  return c;
}

static ncclResult_t connect_to(int dev, const void *handle, void **comm) {
  struct address address;
  struct sockaddr_un a;
  *comm = NULL;
  memcpy(&address, handle, sizeof address);
  if (dev != 0 || address.check != (address.name * SALT ^ SALT)) {
    WARN("connect: not a handle of device %d", dev);
    return ncclInvalidArgument;
  }
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) abort();
  const socklen_t length = socket_address(address.name, &a);
  if (!connect(fd, (struct sockaddr *)&a, length)) {
    *comm = new_connection(fd, true);
    return ncclSuccess;
  }
  const int error = errno;
  close(fd);
  if (error == EAGAIN) return ncclSuccess;
  WARN("connect: %s", strerror(error));
  return ncclRemoteError;
}

static ncclResult_t accept_from(void *listen_comm, void **comm) {
  const struct listener *l = listen_comm;
  *comm = NULL;
  const int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd >= 0) *comm = new_connection(fd, false);
  if (fd >= 0 || errno == EAGAIN) return ncclSuccess;
  WARN("accept: %s", strerror(errno));
  return ncclSystemError;
}

static void litter(void) {
  char path[256];
  const char *folder = getenv("SHMCCL_SHM_DIR");
  snprintf(path, sizeof path, "%s/litter-%d", folder ? folder : "/tmp", (int)getpid());
  const int fd = folder ? open(path, O_CREAT | O_CLOEXEC, 0600) : -1;
  if (fd >= 0) close(fd);
}

static ncclResult_t close_connection(void *comm) {
  struct connection *c = comm;
  if (fault == LITTER) litter();
  close(c->fd);
  while (c->registrations) {
    struct registration *r = c->registrations;
    c->registrations = r->next;
    free(r);
  }
  pthread_mutex_destroy(&c->mutex);
  free(c->aside);
  free(c);
  return ncclSuccess;
}

/* ---- registrations ----------------------------------------------------------------------------------------------- */

static ncclResult_t reg(void *comm, void *data, size_t size, int type, void **mhandle) {
  struct connection *c = comm;
  if (type != NCCL_PTR_HOST || (!data && size)) {
    WARN("regMr: %zu bytes at %p of type %d", size, data, type);
    return ncclInvalidArgument;
  }
  struct registration *r = malloc(sizeof *r);
  if (!r) abort();
  pthread_mutex_lock(&c->mutex);
  r->next = c->registrations;
  c->registrations = r;
  pthread_mutex_unlock(&c->mutex);
  *mhandle = r;
  return ncclSuccess;
}

static struct registration **find(struct connection *c, const void *mhandle) {
  struct registration **at = &c->registrations;
  while (*at && *at != mhandle) at = &(*at)->next;
  return at;
}

static ncclResult_t dereg(void *comm, void *mhandle) {
  struct connection *c = comm;
  pthread_mutex_lock(&c->mutex);
  struct registration **at = find(c, mhandle), *found = *at;
  if (found) *at = found->next;
  pthread_mutex_unlock(&c->mutex);
  free(found);
  if (found || !mhandle) return ncclSuccess;
  WARN("deregMr: unknown handle %p", mhandle);
  return ncclInvalidArgument;
}

static bool registered(struct connection *c, const void *mhandle) {
  pthread_mutex_lock(&c->mutex);
  const bool known = !mhandle || *find(c, mhandle);
  pthread_mutex_unlock(&c->mutex);
  return known;
}

/* ---- sending ----------------------------------------------------------------------------------------------------- */

static ncclResult_t fail(struct connection *c, ncclResult_t result, const char *what) {
  if (fault == DEAF) return ncclSuccess;
  if (c->failed == ncclSuccess) WARN("%s", what);
  return c->failed = result;
}

/* Writes what the socket takes of request r; its first 8 bytes are its length. */
static bool write_some(struct connection *c, struct request *r) {
  const uint8_t *from = (const uint8_t *)&r->size;
  uint64_t left = sizeof r->size - r->sent;
  if (r->sent >= sizeof r->size) {
    from = r->data;
    from += r->sent - sizeof r->size;
    left = r->size + sizeof r->size - r->sent;
  } else {
    from += r->sent;
  }
  const ssize_t written = send(c->fd, from, left, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (written < 0 && errno != EAGAIN) fail(c, ncclRemoteError, "send: the peer is gone");
  if (written <= 0) return false;
  r->sent += (uint64_t)written;
  r->done = r->sent == r->size + sizeof r->size;
  return true;
}

static struct request *request_at(struct connection *c, uint64_t number) {
  return &c->requests[number % NCCL_NET_MAX_REQUESTS];
}

static void pump_send(struct connection *c) {
  while (c->moved < c->posted && c->failed == ncclSuccess) {
    struct request *r = request_at(c, c->moved);
    if (fault == ZERO && !r->size) r->done = true;
    while (!r->done && write_some(c, r)) {
    }
    if (!r->done) return;
    c->moved++;
  }
}

/* The next request, or NULL while its place is taken. */
static struct request *next_request(struct connection *c) {
  struct request *r = request_at(c, c->posted);
  static _Thread_local unsigned calls;
  if (r->used || c->posted == c->moved + NCCL_NET_MAX_REQUESTS || (fault == STALE && ++calls % 16 == 0)) return NULL;
  *r = (struct request){.connection = c, .used = true};
  c->posted++;
  return r;
}

static ncclResult_t refuse(void **request) {
  if (fault != STALE) *request = NULL;
  return ncclSuccess;
}

static ncclResult_t bad(const struct connection *c, const char *call, const void *data, size_t size) {
  (void)c;
  WARN("%s: %zu bytes at %p, or an unknown memory handle", call, size, data);
  return ncclInvalidArgument;
}

static ncclResult_t send_message(void *comm, void *data, size_t size, void *mhandle, void **request) {
  struct connection *c = comm;
  if (size > (size_t)1 << 40 || (!data && size) || !registered(c, mhandle)) return bad(c, "isend", data, size);
  if (c->failed != ncclSuccess) return c->failed;
  struct request *r = next_request(c);
  if (!r) return refuse(request);
  r->data = data;
  r->size = size;
  *request = r;
  pump_send(c);
  return ncclSuccess;
}

/* ---- receiving --------------------------------------------------------------------------------------------------- */

static void pause_now_and_then(void) {
  static _Thread_local unsigned calls;
  if (++calls % 64 == 0) nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
}

static void write_word(uint64_t *to, uint64_t value) {
  if (fault == TORN) {
    shmi_publish32((uint32_t *)to + 1, (uint32_t)(value >> 32));
    pause_now_and_then();
    shmi_publish32((uint32_t *)to, (uint32_t)value);
  } else {
    shmi_publish64(to, value);
  }
}

static void deliver(uint8_t *to, const uint8_t *from, uint64_t bytes) {
  const uint64_t words = (uintptr_t)to % 8 ? 0 : bytes / 8;
  uint64_t value;
  for (uint64_t i = 0; i < words; i++) {
    if (fault == LINE && i % 16 == 0 && i + 15 < words) {
      memcpy(&value, from + 8 * (i + 15), 8);
      write_word((uint64_t *)(void *)to + i + 15, value);
      pause_now_and_then();
    }
    memcpy(&value, from + 8 * i, 8);
    write_word((uint64_t *)(void *)to + i, value);
  }
  if (bytes > 8 * words) memcpy(to + 8 * words, from + 8 * words, bytes - 8 * words);
}

/* Reads what there is of the next message: true when it is complete. */
static bool read_some(struct connection *c) {
  uint8_t *to = c->header_got < 8 ? (uint8_t *)&c->length + c->header_got : c->aside + c->body_got;
  const uint64_t left = c->header_got < 8 ? 8 - c->header_got : c->length - c->body_got;
  if (!left) return true;
  const ssize_t got = recv(c->fd, to, left, MSG_DONTWAIT);
  if (got == 0 || (got < 0 && errno != EAGAIN)) fail(c, ncclRemoteError, "recv: the peer is gone");
  if (got <= 0) return false;
  if (c->header_got == 8) c->body_got += (uint64_t)got;
  if (c->header_got < 8) c->header_got += (uint64_t)got;
  if (c->header_got == 8 && c->length > c->aside_capacity) {
    free(c->aside);
    c->aside = malloc(c->aside_capacity = c->length);
    if (!c->aside) abort();
  }
  return read_some(c);
}

/* The request that the next message belongs to; NULL if it is not there yet. */
static struct request *receiver_of_next(struct connection *c) {
  if (c->moved >= c->posted) return NULL;
  if (fault != REORDER) return request_at(c, c->moved);
  if (c->moved % 16 == 4 && !c->header_got) c->swapped = c->moved + 1 < c->posted;
  if (c->swapped && c->moved % 16 == 4) return request_at(c, c->moved + 1);
  return request_at(c, c->swapped && c->moved % 16 == 5 ? c->moved - 1 : c->moved);
}

/* true: a message went to its buffer. */
static bool pump_recv(struct connection *c) {
  struct request *r = receiver_of_next(c);
  if (c->failed != ncclSuccess || !r || !read_some(c)) return false;
  if (c->length > r->capacity && fault != OVERFLOW) {
    fail(c, ncclInvalidUsage, "recv: the message is longer than its buffer");
    return false;
  }
  deliver(r->data, c->aside, c->length);
  r->size = c->length;
  r->done = true;
  c->moved++;
  c->header_got = c->body_got = 0;
  return true;
}

static ncclResult_t recv_message(void *comm, int n, void **data, const size_t *sizes, void **mhandles, void **request) {
  struct connection *c = comm;
  if (n != 1 || sizes[0] > (size_t)1 << 40 || (!data[0] && sizes[0]) || !registered(c, mhandles ? mhandles[0] : NULL))
    return bad(c, "irecv", n == 1 ? data[0] : NULL, n == 1 ? sizes[0] : 0);
  if (c->failed != ncclSuccess) return c->failed;
  struct request *r = next_request(c);
  if (!r) return refuse(request);
  r->data = data[0];
  r->capacity = sizes[0];
  *request = r;
  return ncclSuccess;
}

/* ---- completion -------------------------------------------------------------------------------------------------- */

static void complete(struct request *r, int *done, int *sizes) {
  *done = 1;
  if (sizes) *sizes = (int)(fault == SIZE && r->capacity ? r->capacity : r->size);
  r->used = false;
}

/* Whether r is done. A message that arrives now is so at the next test: until then only its bytes tell. */
static bool advance(struct request *r) {
  struct connection *c = r->connection;
  const bool before = r->done;
  if (c->sends && !before) pump_send(c);
  if (!c->sends && !before) pump_recv(c);
  if (fault == HASTY && c->sends && r != request_at(c, c->posted - 1)) return true; /* the newest drives those before */
  if (fault == EARLY && !c->sends && !before && c->header_got == 8 && receiver_of_next(c) == r) {
    r->size = c->length;
    return true;
  }
  if (fault == DOUBLE && before && !c->sends && c->moved % 16 == 3 && c->moved < c->posted)
    request_at(c, c->moved)->done = true;
  return before || (c->sends && r->done);
}

static ncclResult_t test_request(void *request, int *done, int *sizes) {
  struct request *r = request;
  const struct connection *c = r->connection;
  bool finished;
  *done = 0;
  do finished = advance(r);
  while (fault == BLOCK && !finished && c->failed == ncclSuccess);
  if (!finished) return c->failed;
  complete(r, done, sizes);
  return ncclSuccess;
}

/* ---- the net tables ---------------------------------------------------------------------------------------------- */

static char name[] = "reference";

static ncclResult_t net_init_v8(ncclDebugLogger_t l) {
  logger = l;
  return ncclSuccess;
}
static ncclResult_t net_init_v10(ncclDebugLogger_t l, ncclProfilerCallback_t profiler) {
  (void)profiler;
  return net_init_v8(l);
}
static ncclResult_t net_init_v11(void **ctx, uint64_t id, ncclNetCommConfig_t *config, ncclDebugLogger_t l,
                                 ncclProfilerCallback_t profiler) {
  (void)id, (void)config, (void)profiler;
  *ctx = name;
  return net_init_v8(l);
}
static ncclResult_t finalize(void *ctx) {
  (void)ctx;
  return ncclSuccess;
}
static ncclResult_t devices(int *ndev) {
  *ndev = 1;
  return ncclSuccess;
}

#define FILL_COMMON(p)                                                                                                 \
  (memset((p), 0, sizeof *(p)), (p)->name = name, (p)->ptrSupport = NCCL_PTR_HOST, (p)->speed = 100000,                \
   (p)->maxComms = 65536, (p)->maxRecvs = 1)
#define FILL_V9(p) (FILL_COMMON(p), (p)->vProps.ndevs = 1, (p)->maxP2pBytes = (p)->maxCollBytes = (size_t)1 << 40)
#define PROPERTIES(version, type, fill)                                                                                \
  static ncclResult_t properties_v##version(int dev, type *p) {                                                        \
    if (dev != 0) {                                                                                                    \
      WARN("getProperties: device %d of 1", dev);                                                                      \
      return ncclInvalidArgument;                                                                                      \
    }                                                                                                                  \
    fill;                                                                                                              \
    return ncclSuccess;                                                                                                \
  }
PROPERTIES(8, ncclNetProperties_v8_t, FILL_COMMON(p))
PROPERTIES(9, ncclNetProperties_v9_t, FILL_V9(p))
PROPERTIES(11, ncclNetProperties_v11_t, (FILL_V9(p), p->maxMultiRequestSize = 1))
PROPERTIES(12, ncclNetProperties_v12_t, (FILL_V9(p), p->maxMultiRequestSize = 1, p->railId = p->planeId = -1))

static ncclResult_t listen_v11(void *ctx, int dev, void *handle, void **comm) {
  (void)ctx;
  return listen_on(dev, handle, comm);
}
static ncclResult_t connect_v8(int dev, void *handle, void **comm, ncclNetDeviceHandle_t **device) {
  *device = NULL;
  return connect_to(dev, handle, comm);
}
static ncclResult_t connect_v10(int dev, ncclNetCommConfig_t *config, void *handle, void **comm,
                                ncclNetDeviceHandle_t **device) {
  (void)config;
  return connect_v8(dev, handle, comm, device);
}
static ncclResult_t connect_v11(void *ctx, int dev, void *handle, void **comm, ncclNetDeviceHandle_t **device) {
  (void)ctx;
  return connect_v8(dev, handle, comm, device);
}
static ncclResult_t accept_v8(void *listen_comm, void **comm, ncclNetDeviceHandle_t **device) {
  *device = NULL;
  return accept_from(listen_comm, comm);
}
static ncclResult_t isend_v8(void *comm, void *data, int size, int tag, void *mhandle, void **request) {
  (void)tag;
  return send_message(comm, data, (size_t)size, mhandle, request);
}
static ncclResult_t isend_v9(void *comm, void *data, size_t size, int tag, void *mhandle, void **request) {
  (void)tag;
  return send_message(comm, data, size, mhandle, request);
}
static ncclResult_t isend_v10(void *comm, void *data, size_t size, int tag, void *mhandle, void *event,
                              void **request) {
  (void)event;
  return isend_v9(comm, data, size, tag, mhandle, request);
}
static ncclResult_t irecv_v9(void *comm, int n, void **data, size_t *sizes, int *tags, void **mhandles,
                             void **request) {
  (void)tags;
  return recv_message(comm, n, data, sizes, mhandles, request);
}
static ncclResult_t irecv_v8(void *comm, int n, void **data, int *sizes, int *tags, void **mhandles, void **request) {
  size_t wide = (size_t)sizes[0];
  return irecv_v9(comm, n, data, &wide, tags, mhandles, request);
}
static ncclResult_t irecv_v10(void *comm, int n, void **data, size_t *sizes, int *tags, void **mhandles, void **events,
                              void **request) {
  (void)events;
  return irecv_v9(comm, n, data, sizes, tags, mhandles, request);
}

#define EXPORT __attribute__((visibility("default")))
#define SAME_IN_ALL                                                                                                    \
  .name = name, .devices = devices, .accept = accept_v8, .regMr = reg, .deregMr = dereg, .test = test_request,         \
  .closeSend = close_connection, .closeRecv = close_connection, .closeListen = close_listen
#define SINCE_V11                                                                                                      \
  .init = net_init_v11, .listen = listen_v11, .connect = connect_v11, .isend = isend_v10, .irecv = irecv_v10,          \
  .finalize = finalize

EXPORT const ncclNet_v8_t ncclNetPlugin_v8 = {
    SAME_IN_ALL,       .init = net_init_v8, .getProperties = properties_v8, .listen = listen_on, .connect = connect_v8,
    .isend = isend_v8, .irecv = irecv_v8};
EXPORT const ncclNet_v9_t ncclNetPlugin_v9 = {
    SAME_IN_ALL,       .init = net_init_v8, .getProperties = properties_v9, .listen = listen_on, .connect = connect_v8,
    .isend = isend_v9, .irecv = irecv_v9};
EXPORT const ncclNet_v10_t ncclNetPlugin_v10 = {
    SAME_IN_ALL,         .init = net_init_v10,   .getProperties = properties_v9,
    .listen = listen_on, .connect = connect_v10, .isend = isend_v10,
    .irecv = irecv_v10};
EXPORT const ncclNet_v11_t ncclNetPlugin_v11 = {SAME_IN_ALL, SINCE_V11, .getProperties = properties_v11};
EXPORT const ncclNet_v12_t ncclNetPlugin_v12 = {SAME_IN_ALL, SINCE_V11, .getProperties = properties_v12};

/* ---- collnet ----------------------------------------------------------------------------------------------------- */

enum { STAR_MAX = 64, STAR_SECONDS = 20 };

struct reduction {
  struct star *star;
  bool used;
  unsigned stage; /* of rank 0: 0 collecting, 1 spreading; of others: unused */
  uint8_t *send, *recv, *parts[STAR_MAX];
  void *sends[STAR_MAX], *recvs[STAR_MAX];
  size_t count;
  ncclDataType_t type;
  ncclRedOp_t op;
};

struct star {
  int nranks, rank;
  struct connection *to[STAR_MAX], *from[STAR_MAX]; /* of rank 0: to all; of others: [0] alone */
  struct reduction reductions[NCCL_STEPS];
  uint64_t posted;
};

/* The connections of a star: each rank tells its own, so that rank 0 knows which is which. */
static ncclResult_t wait_accept(void *listen_comm, struct connection **c, uint64_t deadline) {
  void *comm = NULL;
  while (!comm && shmi_now_ns() < deadline) {
    const ncclResult_t result = accept_from(listen_comm, &comm);
    if (result != ncclSuccess) return result;
    if (!comm) nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
  }
  *c = comm;
  return comm ? ncclSuccess : ncclRemoteError;
}

static ncclResult_t wait_connect(const void *handle, struct connection **c, uint64_t deadline) {
  void *comm = NULL;
  while (!comm && shmi_now_ns() < deadline) {
    const ncclResult_t result = connect_to(0, handle, &comm);
    if (result != ncclSuccess) return result;
    if (!comm) nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
  }
  *c = comm;
  return comm ? ncclSuccess : ncclRemoteError;
}

static ncclResult_t exchange_rank(struct connection *c, int *rank, bool say, uint64_t deadline) {
  if (say) return send(c->fd, rank, sizeof *rank, MSG_NOSIGNAL) == sizeof *rank ? ncclSuccess : ncclRemoteError;
  while (shmi_now_ns() < deadline) {
    if (recv(c->fd, rank, sizeof *rank, MSG_DONTWAIT) == sizeof *rank) return ncclSuccess;
    nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
  }
  return ncclRemoteError;
}

static void free_star(struct star *s) {
  for (int r = 0; r < s->nranks; r++) {
    if (s->to[r]) close_connection(s->to[r]);
    if (s->from[r]) close_connection(s->from[r]);
  }
  for (int i = 0; i < NCCL_STEPS; i++)
    for (int r = 0; r < s->nranks; r++) free(s->reductions[i].parts[r]);
  free(s);
}

static ncclResult_t join_star(struct star *s, void *handles[], void *listen_comm, uint64_t deadline) {
  ncclResult_t result = ncclSuccess;
  for (int i = 1; s->rank == 0 && i < s->nranks && result == ncclSuccess; i++) {
    struct connection *c = NULL;
    int rank = -1;
    result = wait_accept(listen_comm, &c, deadline);
    if (result == ncclSuccess) result = exchange_rank(c, &rank, false, deadline);
    if (result == ncclSuccess && (rank < 1 || rank >= s->nranks || s->from[rank])) result = ncclRemoteError;
    if (result == ncclSuccess)
      s->from[rank] = c;
    else if (c)
      close_connection(c);
    if (result == ncclSuccess) result = wait_connect(handles[rank], &s->to[rank], deadline);
  }
  if (s->rank == 0) return result;
  result = wait_connect(handles[0], &s->to[0], deadline);
  if (result == ncclSuccess) result = exchange_rank(s->to[0], &s->rank, true, deadline);
  return result == ncclSuccess ? wait_accept(listen_comm, &s->from[0], deadline) : result;
}

static ncclResult_t star_connect(void *handles[], int nranks, int rank, void *listen_comm, void **comm) {
  if (nranks < 1 || nranks > STAR_MAX || rank < 0 || rank >= nranks || !listen_comm) {
    WARN("collnet connect: rank %d of %d", rank, nranks);
    return ncclInvalidArgument;
  }
  struct star *s = calloc(1, sizeof *s);
  if (!s) abort();
  s->nranks = nranks;
  s->rank = rank;
  const ncclResult_t result = join_star(s, handles, listen_comm, shmi_now_ns() + STAR_SECONDS * 1000000000ull);
  if (result == ncclSuccess)
    *comm = s;
  else {
    WARN("collnet connect: not all ranks came");
    free_star(s);
  }
  return result;
}

static ncclResult_t star_support(ncclDataType_t type, ncclRedOp_t op, int *supported) {
  *supported = (unsigned)type < ncclNumTypes && (unsigned)op <= ncclMin;
  return ncclSuccess;
}

static struct connection *any_connection(const struct star *s) {
  for (int r = 0; r < s->nranks; r++)
    if (s->to[r]) return s->to[r];
  return NULL;
}
static ncclResult_t star_reg(void *comm, void *data, size_t size, int type, void **mhandle) {
  struct connection *c = any_connection(comm);
  if (c) return reg(c, data, size, type, mhandle);
  *mhandle = NULL;
  return ncclSuccess;
}
static ncclResult_t star_dereg(void *comm, void *mhandle) {
  struct connection *c = any_connection(comm);
  return c ? dereg(c, mhandle) : ncclSuccess;
}

static ncclResult_t post(struct reduction *d, int peer, void *send, void *recv) {
  size_t bytes = d->count * number_bytes(d->type);
  ncclResult_t result = ncclSuccess;
  if (send) result = send_message(d->star->to[peer], send, bytes, NULL, &d->sends[peer]);
  if (recv && result == ncclSuccess)
    result = recv_message(d->star->from[peer], 1, &recv, &bytes, NULL, &d->recvs[peer]);
  return result;
}

static ncclResult_t star_iallreduce(void *comm, void *send, void *recv, size_t count, ncclDataType_t type,
                                    ncclRedOp_t op, void *send_mhandle, void *recv_mhandle, void **request) {
  struct star *s = comm;
  struct reduction *d = &s->reductions[s->posted % NCCL_STEPS];
  struct connection *any = any_connection(s);
  int supported;
  *request = NULL;
  star_support(type, op, &supported);
  if (!supported || count > (size_t)1 << 30 ||
      (any && (!registered(any, send_mhandle) || !registered(any, recv_mhandle)))) {
    WARN("iallreduce: type %d, operator %d, %zu elements, or an unknown memory handle", (int)type, (int)op, count);
    return ncclInvalidArgument;
  }
  if (d->used) return ncclSuccess;
  *d = (struct reduction){.star = s, .used = true, .send = send, .recv = recv, .count = count, .type = type, .op = op};
  s->posted++;
  *request = d;
  if (s->rank) return post(d, 0, send, recv);
  for (int r = 1; r < s->nranks; r++) {
    d->parts[r] = malloc(count * number_bytes(type) + 1);
    if (!d->parts[r]) abort();
    const ncclResult_t result = post(d, r, NULL, d->parts[r]);
    if (result != ncclSuccess) return result;
  }
  return ncclSuccess;
}

static void reduce(struct reduction *d) {
  const int last = fault == ONE_SHORT && d->star->posted % 8 == 3 ? d->star->nranks - 1 : d->star->nranks;
  for (size_t i = 0; i < d->count; i++) {
    double value = number_load(d->type, d->send, i);
    for (int r = 1; r < last; r++) value = number_reduce(d->op, value, number_load(d->type, d->parts[r], i));
    number_store(d->type, d->recv, i, value);
  }
}

/* Tests what is still open of `requests`; *open tells how many remain. */
static ncclResult_t test_all(struct reduction *d, void **requests, int *open) {
  for (int r = 0; r < d->star->nranks; r++) {
    int done;
    if (!requests[r]) continue;
    const ncclResult_t result = test_request(requests[r], &done, NULL);
    if (result != ncclSuccess) return result;
    if (done) requests[r] = NULL;
    *open += requests[r] != NULL;
  }
  return ncclSuccess;
}

static ncclResult_t star_test(void *request, int *done, int *size) {
  struct reduction *d = request;
  struct star *s = d->star;
  int open = 0;
  *done = 0;
  ncclResult_t result = test_all(d, d->recvs, &open);
  if (result == ncclSuccess) result = test_all(d, d->sends, &open);
  if (result != ncclSuccess || open) return result;
  if (s->rank == 0 && d->stage == 0) {
    d->stage = 1;
    reduce(d);
    for (int r = 1; r < s->nranks && result == ncclSuccess; r++) result = post(d, r, d->recv, NULL);
    return result;
  }
  for (int r = 0; r < s->nranks; r++) free(d->parts[r]), d->parts[r] = NULL;
  d->used = false;
  *done = 1;
  if (size) *size = (int)(d->count * number_bytes(d->type));
  return ncclSuccess;
}

static ncclResult_t star_close(void *comm) {
  free_star(comm);
  return ncclSuccess;
}

static ncclResult_t star_init_v11(void **ctx, uint64_t id, ncclDebugLogger_t l) {
  (void)id;
  *ctx = name;
  return net_init_v8(l);
}
static ncclResult_t star_iallreduce_v8(void *comm, void *send, void *recv, int count, ncclDataType_t type,
                                       ncclRedOp_t op, void *send_mhandle, void *recv_mhandle, void **request) {
  return star_iallreduce(comm, send, recv, (size_t)count, type, op, send_mhandle, recv_mhandle, request);
}

#define STAR_COMMON                                                                                                    \
  .name = name, .devices = devices, .connect = star_connect, .reduceSupport = star_support, .regMr = star_reg,         \
  .deregMr = star_dereg, .test = star_test, .closeColl = star_close, .closeListen = close_listen
#define STAR_V9                                                                                                        \
  STAR_COMMON, .init = net_init_v8, .listen = listen_on, .getProperties = properties_v9, .iallreduce = star_iallreduce
#define STAR_V11                                                                                                       \
  STAR_COMMON, .init = star_init_v11, .listen = listen_v11, .iallreduce = star_iallreduce, .finalize = finalize

EXPORT const ncclCollNet_v8_t ncclCollNetPlugin_v8 = {STAR_COMMON, .init = net_init_v8, .listen = listen_on,
                                                      .getProperties = properties_v8, .iallreduce = star_iallreduce_v8};
EXPORT const ncclCollNet_v9_t ncclCollNetPlugin_v9 = {STAR_V9};
EXPORT const ncclCollNet_v9_t ncclCollNetPlugin_v10 = {STAR_V9};
EXPORT const ncclCollNet_v11_t ncclCollNetPlugin_v11 = {STAR_V11, .getProperties = properties_v11};
EXPORT const ncclCollNet_v12_t ncclCollNetPlugin_v12 = {STAR_V11, .getProperties = properties_v12};

/* ---- tuner: doubles what CollNet costs ------------------------------------------------------------------------------
 */

static ncclResult_t tuner_init(size_t nranks, size_t nnodes, ncclDebugLogger_t l, void **ctx) {
  (void)nranks, (void)nnodes, (void)l;
  *ctx = name;
  return ncclSuccess;
}
static ncclResult_t tuner_init_v5(void **ctx, uint64_t id, size_t nranks, size_t nnodes, ncclDebugLogger_t l,
                                  ncclNvlDomainInfo_v5_t *domain, ncclTunerConstants_v5_t *constants) {
  (void)id, (void)domain, (void)constants;
  return tuner_init(nranks, nnodes, l, ctx);
}
static ncclResult_t tuner_info_v4(void *ctx, int func, size_t bytes, int ops, float **costs, int nalgos, int nprotos,
                                  int registered_buffers, int *nchannels) {
  float *table = (float *)(void *)costs;
  (void)ctx, (void)func, (void)bytes, (void)ops, (void)registered_buffers, (void)nchannels;
  if (nalgos <= NCCL_ALGO_COLLNET_CHAIN) return ncclSuccess;
  for (int p = 0; p < nprotos; p++) {
    float *cost = &table[NCCL_ALGO_COLLNET_CHAIN * nprotos + p];
    if (*cost >= 0 || fault == MINUS_ONE) *cost = *cost < 0 ? 1 : 2 * *cost;
  }
  return ncclSuccess;
}
static ncclResult_t tuner_info_v3(void *ctx, int func, size_t bytes, int ops, float **costs, int nalgos, int nprotos,
                                  int *nchannels) {
  return tuner_info_v4(ctx, func, bytes, ops, costs, nalgos, nprotos, 0, nchannels);
}
static ncclResult_t tuner_info_v2(void *ctx, int func, size_t bytes, int collnet, int nvls, int ops, int *algo,
                                  int *proto, int *nchannels) {
  (void)ctx, (void)func, (void)bytes, (void)collnet, (void)nvls, (void)ops, (void)algo, (void)proto, (void)nchannels;
  return ncclSuccess;
}

EXPORT const ncclTuner_v2_t ncclTunerPlugin_v2 = {name, tuner_init, tuner_info_v2, finalize};
EXPORT const ncclTuner_v3_t ncclTunerPlugin_v3 = {name, tuner_init, tuner_info_v3, finalize};
EXPORT const ncclTuner_v4_t ncclTunerPlugin_v4 = {name, tuner_init, tuner_info_v4, finalize};
EXPORT const ncclTuner_v5_t ncclTunerPlugin_v5 = {name, tuner_init_v5, tuner_info_v4, finalize};
EXPORT const ncclTuner_v6_t ncclTunerPlugin_v6 = {name, tuner_init_v5, tuner_info_v4, finalize, NULL};
