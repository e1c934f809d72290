/* nccl.c - see nccl.h: loading, life and log. */
#include "nccl.h"

#include "harness.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

/* ---- which NCCL knows what --------------------------------------------------------------------------------------- */

/* Indexed by minor - 20. */
static const int newest_net[] = {8, 8, 8, 8, 9, 9, 10, 10, 11, 11, 12};
static const int newest_tuner[] = {1, 2, 3, 3, 4, 4, 4, 4, 5, 5, 6};
static const int newest_name_rule_minor = 26, name_alone_minor = 20, unloads_minor = 28;

int nccl_newest_net(int minor) { return newest_net[minor - NCCL_FIRST_MINOR]; }

int nccl_minor_for(int net_version) {
  int minor = NCCL_FIRST_MINOR;
  while (nccl_newest_net(minor) < net_version) minor++;
  return minor;
}

/* ---- the log ----------------------------------------------------------------------------------------------------- */

static _Thread_local unsigned warnings;
static atomic_bool verbose;
static _Thread_local char last_warning[512];

void nccl_log_verbose(bool on) { verbose = on; }
unsigned nccl_warnings(void) { return warnings; }
const char *nccl_last_warning(void) { return last_warning; }

void nccl_logger(ncclDebugLogLevel level, unsigned long flags, const char *file, int line, const char *format, ...) {
  char text[sizeof last_warning];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  if (level == NCCL_LOG_WARN) {
    memcpy(last_warning, text, sizeof text);
    warnings++;
  }
  if (verbose)
    fprintf(stderr, "rank %d: level %d flags %#lx %s:%d %s\n", harness_rank, (int)level, flags, file, line, text);
}

static ncclResult_t profiler(void **event, int type, void *parent, int64_t plugin, void *data) {
  (void)event, (void)type, (void)parent, (void)plugin, (void)data;
  return ncclSuccess;
}

const char *nccl_result_name(ncclResult_t result) {
  static const char *const names[] = {"success",          "unhandled CUDA error", "system error", "internal error",
                                      "invalid argument", "invalid usage",        "remote error", "in progress"};
  return result < LENGTH(names) ? names[result] : "unknown result";
}

/* ---- the file ---------------------------------------------------------------------------------------------------- */

void nccl_setup(struct nccl *nccl, const char *plugin, int minor, int newest) {
  *nccl = (struct nccl){.plugin = plugin, .minor = minor, .newest = newest};
  pthread_mutex_init(&nccl->mutex, NULL);
}

static void *open_file(const char *name) { return dlopen(name, RTLD_NOW | RTLD_LOCAL); }

/* Unset, it is libnccl-net.so. 2.20 prefixes always (a path is opened as it is all the same here: it could not be
 * tested otherwise); later ones try the value first, and since 2.26 do not prefix what has a slash or the shape of a
 * library's name. */
static void *open_library(const struct nccl *n) {
  char prefixed[512];
  const bool path = strchr(n->plugin, '/') != NULL;
  const size_t length = strlen(n->plugin);
  const bool library = !strncmp(n->plugin, "lib", 3) && length > 6 && !strcmp(n->plugin + length - 3, ".so");
  void *handle = NULL;
  if (!length) return open_file("libnccl-net.so");
  snprintf(prefixed, sizeof prefixed, "libnccl-net-%s.so", n->plugin);
  if (n->minor > name_alone_minor || path) handle = open_file(n->plugin);
  if (!handle && !(n->minor >= newest_name_rule_minor && (path || library))) handle = open_file(prefixed);
  return handle;
}

static const void *newest_symbol(void *library, const char *prefix, int newest, int oldest, int *version) {
  for (int v = newest; v >= oldest; v--) {
    char name[64];
    snprintf(name, sizeof name, "%s_v%d", prefix, v);
    const void *symbol = dlsym(library, name);
    if (!symbol) continue;
    *version = v;
    return symbol;
  }
  *version = 0;
  return NULL;
}

const void *nccl_tuner(const struct nccl *n, int *version) {
  return newest_symbol(n->library, "ncclTunerPlugin", newest_tuner[n->minor - NCCL_FIRST_MINOR], 2, version);
}

/* ---- net and collnet begin --------------------------------------------------------------------------------------- */

static ncclResult_t init_net(struct nccl *n, struct nccl_comm *c) {
  static ncclNetCommConfig_t config = {.trafficClass = -1};
  static atomic_ulong id = 0x5eed;
  switch (n->net_version) {
  case 8: return ((const ncclNet_v8_t *)n->net)->init(nccl_logger);
  case 9: return ((const ncclNet_v9_t *)n->net)->init(nccl_logger);
  case 10: return ((const ncclNet_v10_t *)n->net)->init(nccl_logger, profiler);
  default: return ((const ncclNet_v11_t *)n->net)->init(&c->net_context, ++id, &config, nccl_logger, profiler);
  }
}

static ncclResult_t count_net(const struct nccl *n, int *count) {
  switch (n->net_version) {
  case 8: return ((const ncclNet_v8_t *)n->net)->devices(count);
  case 9: return ((const ncclNet_v9_t *)n->net)->devices(count);
  case 10: return ((const ncclNet_v10_t *)n->net)->devices(count);
  default: return ((const ncclNet_v11_t *)n->net)->devices(count);
  }
}

static ncclResult_t init_collnet(struct nccl *n, struct nccl_comm *c) {
  static atomic_ulong id = 0xc011;
  switch (n->collnet_version) {
  case 8: return ((const ncclCollNet_v8_t *)n->collnet)->init(nccl_logger);
  case 9:
  case 10: return ((const ncclCollNet_v9_t *)n->collnet)->init(nccl_logger);
  default: return ((const ncclCollNet_v11_t *)n->collnet)->init(&c->collnet_context, ++id, nccl_logger);
  }
}

static ncclResult_t count_collnet(const struct nccl *n, int *count) {
  switch (n->collnet_version) {
  case 8: return ((const ncclCollNet_v8_t *)n->collnet)->devices(count);
  case 9:
  case 10: return ((const ncclCollNet_v9_t *)n->collnet)->devices(count);
  default: return ((const ncclCollNet_v11_t *)n->collnet)->devices(count);
  }
}

/* Tables up to v10 are begun once per load, later ones once per communicator. */
static const char *begin_net(struct nccl *n, struct nccl_comm *c) {
  struct net_properties p;
  if (n->net_version > 10 || !n->started)
    if (init_net(n, c) != ncclSuccess) return "net init failed";
  if (!n->net_devices && count_net(n, &n->net_devices) != ncclSuccess) return "net devices failed";
  if (n->net_devices <= 0) return "no net device";
  if (net_properties(n, 0, &p) != ncclSuccess) return "net getProperties failed";
  return p.device_type == NCCL_NET_DEVICE_HOST ? NULL : "not a host device";
}

static const char *begin_collnet(struct nccl *n, struct nccl_comm *c) {
  if (n->collnet_version > 10 || !n->started)
    if (init_collnet(n, c) != ncclSuccess) return "collnet init failed";
  if (!n->collnet_devices && count_collnet(n, &n->collnet_devices) != ncclSuccess) return "collnet devices failed";
  return n->collnet_devices > 0 ? NULL : "no collnet device";
}

static const char *load(struct nccl *n) {
  if (n->library) return NULL;
  const int newest = n->newest < nccl_newest_net(n->minor) ? n->newest : nccl_newest_net(n->minor);
  n->library = open_library(n);
  if (!n->library) return dlerror();
  n->net = newest_symbol(n->library, "ncclNetPlugin", newest, NCCL_OLDEST_TABLE, &n->net_version);
  n->collnet = newest_symbol(n->library, "ncclCollNetPlugin", newest, NCCL_OLDEST_TABLE, &n->collnet_version);
  return n->net ? NULL : "no net table";
}

static void unload(struct nccl *n) {
  if (n->library) dlclose(n->library);
  n->library = NULL;
  n->net = n->collnet = NULL;
  n->net_devices = n->collnet_devices = 0;
}

/* ---- communicators ----------------------------------------------------------------------------------------------- */

bool nccl_comm_begin(struct nccl *n, struct nccl_comm *c, const char **why) {
  *c = (struct nccl_comm){.nccl = n};
  pthread_mutex_lock(&n->mutex);
  *why = load(n);
  if (!*why) *why = begin_net(n, c);
  if (!*why && n->collnet) {
    const char *without = begin_collnet(n, c); /* costs NCCL its collnet, not its net */
    if (without) n->collnet = NULL, n->collnet_version = 0;
  }
  if (*why && !n->comms)
    unload(n);
  else if (!*why)
    n->comms++, n->started = true;
  pthread_mutex_unlock(&n->mutex);
  return !*why;
}

static void finalize(struct nccl_comm *c) {
  const struct nccl *n = c->nccl;
  if (n->net_version > 10) CHECK(net_finalize(n, c->net_context) == ncclSuccess);
  if (n->collnet_version > 10)
    CHECK(((const ncclCollNet_v11_t *)n->collnet)->finalize(c->collnet_context) == ncclSuccess);
}

/* From 2.28 on the last communicator ends tables up to v10 too: init comes again, even if the file stays. */
void nccl_comm_end(struct nccl_comm *c) {
  struct nccl *n = c->nccl;
  pthread_mutex_lock(&n->mutex);
  finalize(c);
  if (--n->comms == 0 && n->minor >= unloads_minor) {
    n->started = false;
    if (!n->keep) unload(n);
  }
  pthread_mutex_unlock(&n->mutex);
}

void nccl_close_early(struct nccl *n) {
  pthread_mutex_lock(&n->mutex);
  dlclose(n->library);
  pthread_mutex_unlock(&n->mutex);
}
