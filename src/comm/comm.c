/*
 * comm.c - from an id to a communicator, and back.
 *
 * Rank 0 makes the segment, the others look for its name; each claims its rank and says so in its member line; when a
 * rank has seen all lines it is done, and rank 0 removes the name. A rank that fails on the way leaves its abort line
 * and its lock to tell the others. Attaching does not wait, so that one thread can attach several ranks (init_all).
 */
#include "comm/comm.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/thread.h"
#include "comm/create.h"
#include "comm/device.h"
#include "reduce/reduce.h"
#include "shm/liveness.h"
#include "shm/place.h"
#include "topo/topo.h"

enum { POLL_NS = 200000, POLLS_PER_CHECK = 64, LINGER_MS = 400, RETIRE_NS = 200000000, ID_VERSION = 2 };

/* ---- ids ------------------------------------------------------------------------------------------------------- */

/* What the 128 public bytes hold. */
struct id_bytes {
  char magic[8]; /* "shmccl" */
  uint32_t version;
  uint8_t id[SHMI_ID_BYTES];
  uint32_t library, layout; /* versions of who made it; up to here the same in all versions */
  struct shmi_place place;  /* of who made it; inode 0: not known */
};
_Static_assert(sizeof(struct id_bytes) <= sizeof(shmccl_unique_id_t), "id");

shmccl_result_t shmi_random_id(uint8_t id[SHMI_ID_BYTES]) {
  if (getrandom(id, SHMI_ID_BYTES, 0) == SHMI_ID_BYTES) return SHMCCL_SUCCESS;
  return shmi_error(SHMCCL_ERROR_SYSTEM, "the kernel gives no random bytes: %m");
}

/* Without one, what makes or opens a segment says so. */
static bool has_folder(void) {
  struct stat st;
  return !stat(shmi_option_shm_dir(), &st) && S_ISDIR(st.st_mode);
}

shmccl_result_t shmccl_get_unique_id(shmccl_unique_id_t *id) {
  struct id_bytes bytes = {
      .magic = "shmccl", .version = ID_VERSION, .library = SHMI_LIBRARY_VERSION, .layout = SHMI_LAYOUT_VERSION};
  if (!id) return shmi_error(SHMCCL_ERROR_INVALID_ARGUMENT, "id is NULL: pass the address of a shmccl_unique_id_t");
  SHMI_RETURN_IF_ERROR(shmi_random_id(bytes.id));
  if (has_folder()) SHMI_RETURN_IF_ERROR(shmi_place_find(&bytes.place));
  memset(id, 0, sizeof *id);
  memcpy(id->internal, &bytes, sizeof bytes);
  return SHMCCL_SUCCESS;
}

static shmccl_result_t read_id(const shmccl_unique_id_t *id, uint8_t out[SHMI_ID_BYTES]) {
  struct id_bytes bytes;
  if (!id) return shmi_error(SHMCCL_ERROR_INVALID_ARGUMENT, "id is NULL: pass the id that rank 0 made");
  memcpy(&bytes, id->internal, sizeof bytes);
  if (memcmp(bytes.magic, "shmccl\0", sizeof bytes.magic))
    return shmi_error(SHMCCL_ERROR_INVALID_ARGUMENT,
                      "these bytes are no id of this library: all ranks must get the 128 "
                      "bytes that shmccl_get_unique_id() wrote on one of them");
  if (bytes.version != ID_VERSION || bytes.library != SHMI_LIBRARY_VERSION || bytes.layout != SHMI_LAYOUT_VERSION)
    return shmi_error(SHMCCL_ERROR_MISMATCH,
                      "this id was made by shmccl %s, this rank runs %s: all ranks must load the same libshmccl",
                      shmi_version_text(bytes.library, bytes.layout).text,
                      shmi_version_text(SHMI_LIBRARY_VERSION, SHMI_LAYOUT_VERSION).text);
  if (bytes.place.inode && has_folder())
    SHMI_RETURN_IF_ERROR(shmi_place_check(&bytes.place, "the process that made this id", ""));
  memcpy(out, bytes.id, SHMI_ID_BYTES);
  return SHMCCL_SUCCESS;
}

/* ---- attaching --------------------------------------------------------------------------------------------------- */

static void pause_ns(long ns) { nanosleep(&(struct timespec){.tv_nsec = ns}, NULL); }

/* Rank 0 was here if there is a segment. A rank that has left was done, or its abort line says why it gave up. */
bool shmi_comm_has_died(const shmccl_comm_t *comm, int peer) {
  const uint32_t *state = &shmi_control_of(&comm->world, peer)->member.state;
  const bool here = peer == 0 || shmi_observe32(state) == SHMI_MEMBER_ATTACHED;
  return peer != comm->rank && here && shmi_liveness_held(comm->segment.lock_fd, peer) == 0 &&
         shmi_observe32(state) != SHMI_MEMBER_LEFT;
}

int shmi_comm_first_dead(const shmccl_comm_t *comm) {
  for (int peer = 0; peer < comm->nranks && comm->segment.base; peer++)
    if (shmi_comm_has_died(comm, peer)) return peer;
  return -1;
}

static shmccl_result_t look_at_watch(const shmccl_comm_t *comm, int *culprit) {
  *culprit = -1;
  return comm->watch ? comm->watch->look(comm->watch->context, culprit) : SHMCCL_SUCCESS;
}

static shmccl_result_t find_segment(shmccl_comm_t *comm, const uint8_t id[SHMI_ID_BYTES]) {
  uint64_t deadline = shmi_now_ns() + comm->options.timeout_ms * 1000000;
  int culprit; /* there is nobody yet to be told */
  for (unsigned looks = 1;; looks++) {
    SHMI_RETURN_IF_ERROR(shmi_segment_attach(&comm->segment, id, comm->rank));
    if (comm->segment.base) return SHMCCL_SUCCESS;
    if (looks % POLLS_PER_CHECK == 0) SHMI_RETURN_IF_ERROR(look_at_watch(comm, &culprit));
    if (shmi_now_ns() > deadline)
      return shmi_error(SHMCCL_ERROR_TIMEOUT,
                        "rank %d: rank 0 did not create the communicator within %llu ms: either it has not come "
                        "(its own log may say why), or it looks elsewhere: it must run on this host, as this user, "
                        "with the same id, and see the same %s (containers: docker --ipc=host, one emptyDir for all)",
                        comm->rank, (unsigned long long)comm->options.timeout_ms, shmi_option_shm_dir());
    pause_ns(POLL_NS);
  }
}

/* After the mapping, so that the others can be told. */
static shmccl_result_t compare_settings(shmccl_comm_t *comm, int nranks) {
  const struct shmi_header *h = &comm->segment.header;
  uint64_t theirs, mine;
  char message[256];
  const char *name = shmi_options_difference(&h->options, &comm->options, &theirs, &mine);
  if ((int)h->nranks != nranks) name = "the number of ranks", theirs = h->nranks, mine = (uint64_t)nranks;
  if (!name) return SHMCCL_SUCCESS;
  snprintf(message, sizeof message, "ranks disagree on %s: rank 0 has %llu, rank %d has %llu: pass the same to all",
           name, (unsigned long long)theirs, comm->rank, (unsigned long long)mine);
  return shmi_abort_raise(comm, SHMCCL_ERROR_MISMATCH, comm->rank, message);
}

/* What a rank tells of itself. Gathered before it is attached: a rank that dies between its lock and its line would be
 * taken for one that never came. */
struct introduction {
  uint8_t cpus[SHMI_CPU_MASK_BYTES];
  int node;
  uint32_t quota;
};

static struct introduction prepare_introduction(void) {
  struct introduction i = {.node = shmi_topo_node(), .quota = shmi_topo_quota("")};
  shmi_topo_affinity(i.cpus, sizeof i.cpus);
  return i;
}

static void introduce(shmccl_comm_t *comm, const struct introduction *i) {
  struct shmi_control *mine = shmi_control_of(&comm->world, comm->rank);
  memcpy(mine->cpus, i->cpus, sizeof mine->cpus);
  mine->member.pid = (uint32_t)getpid();
  mine->member.node = i->node;
  mine->member.quota = i->quota;
  shmi_publish32(&mine->member.state, SHMI_MEMBER_ATTACHED);
}

static shmccl_result_t check_staging(const shmccl_comm_t *comm) {
  const uint64_t least = shmi_layout_least_staging(comm->nranks);
  if (comm->options.staging_bytes >= least) return SHMCCL_SUCCESS;
  return shmi_error(
      SHMCCL_ERROR_INVALID_ARGUMENT,
      "staging of %llu bytes is too little for %d ranks: set SHMCCL_STAGING_BYTES (or config.staging_bytes) "
      "to %llu or more",
      (unsigned long long)comm->options.staging_bytes, comm->nranks, (unsigned long long)least);
}

/* A communicator of one rank has the same lines, in memory of its own. */
static shmccl_result_t make_alone(shmccl_comm_t *comm) {
  size_t bytes = shmi_layout_control_bytes(1);
  uint8_t *memory = aligned_alloc(SHMI_PAGE, bytes);
  if (!memory) return shmi_error(SHMCCL_ERROR_NO_MEMORY, "no memory for a communicator: %m");
  memset(memory, 0, bytes);
  comm->world = (struct shmi_world){
      .nranks = 1, .control = memory, .control_stride = bytes, .step_offset = offsetof(struct shmi_control, step)};
  return SHMCCL_SUCCESS;
}

static shmccl_result_t attach(shmccl_comm_t *comm, const uint8_t id[SHMI_ID_BYTES]) {
  if (comm->nranks == 1) return make_alone(comm);
  SHMI_RETURN_IF_ERROR(check_staging(comm));
  if (comm->rank == 0) {
    shmi_segment_sweep();
    comm->options.thresholds = shmi_option_thresholds(comm->nranks);
    SHMI_RETURN_IF_ERROR(shmi_segment_create(&comm->segment, id, comm->nranks, &comm->options));
  } else {
    SHMI_RETURN_IF_ERROR(find_segment(comm, id));
  }
  comm->world = shmi_layout_world(&comm->segment.header, comm->segment.base, comm->rank);
  comm->options.thresholds = comm->segment.header.options.thresholds;
  shmccl_result_t result = compare_settings(comm, comm->nranks);
  comm->nranks = comm->world.nranks; /* what the lines are there for; a difference ends here */
  return result;
}

static shmccl_result_t attach_watched(shmccl_comm_t **out, int nranks, const uint8_t id[SHMI_ID_BYTES], int rank,
                                      const shmi_options_t *options, const struct shmi_watch *watch, int device) {
  shmccl_comm_t *comm = calloc(1, sizeof *comm);
  if (!comm) return shmi_error(SHMCCL_ERROR_NO_MEMORY, "no memory for a communicator: %m");
  comm->rank = rank;
  comm->nranks = nranks;
  comm->watch = watch;
  comm->options = *options;
  comm->segment.lock_fd = -1;
  comm->fork_generation = shmi_fork_generation();
  comm->stream_bytes = shmi_topo_caches().last / 2 / (size_t)nranks;
  const struct introduction introduction = prepare_introduction();
  shmccl_result_t result = attach(comm, id);
  if (result != SHMCCL_SUCCESS) return shmi_comm_free(comm), result;
  result = shmi_device_open(comm, device);
  if (result != SHMCCL_SUCCESS) shmi_abort_raise(comm, result, comm->rank, NULL);
  introduce(comm, &introduction);
  *out = comm;
  return SHMCCL_SUCCESS;
}

shmccl_result_t shmi_comm_attach(shmccl_comm_t **out, int nranks, const uint8_t id[SHMI_ID_BYTES], int rank,
                                 const shmi_options_t *options, int device) {
  return attach_watched(out, nranks, id, rank, options, NULL, device);
}

/* ---- meeting ----------------------------------------------------------------------------------------------------- */

static bool lacks_member(const void *context, int peer) {
  const shmccl_comm_t *comm = context;
  return shmi_observe32(&shmi_control_of(&comm->world, peer)->member.state) == SHMI_MEMBER_ABSENT;
}

static shmccl_result_t report_missing(shmccl_comm_t *comm, shmi_wait_lacks_fn lacks) {
  char ranks[SHMI_RANKS_TEXT], message[512];
  int first = shmi_lacking_text(comm, lacks, comm, ranks, &comm->late);
  if (first < 0) return SHMCCL_SUCCESS; /* it has just come */
  snprintf(message, sizeof message,
           "rank %d: rank%s did not come within %llu ms to create the communicator: either not started, or looking "
           "elsewhere: every rank must run on this host, as this user, with the same id, and see the same %s "
           "(containers: docker --ipc=host, one emptyDir for all)",
           comm->rank, ranks, (unsigned long long)comm->options.timeout_ms, shmi_option_shm_dir());
  return shmi_abort_raise(comm, SHMCCL_ERROR_TIMEOUT, first, message);
}

static shmccl_result_t check_died(shmccl_comm_t *comm) {
  char message[128];
  const int dead = shmi_comm_first_dead(comm);
  if (dead < 0) return SHMCCL_SUCCESS;
  snprintf(message, sizeof message, "rank %d: rank %d died while the communicator was created: start all ranks again",
           comm->rank, dead);
  return shmi_abort_raise(comm, SHMCCL_ERROR_PEER_DIED, dead, message);
}

/* A rank of another version has found the segment, and cannot write its lines. */
static shmccl_result_t check_versions(shmccl_comm_t *comm) {
  char message[256];
  const uint64_t refusal = shmi_observe64((const uint64_t *)(const void *)(comm->segment.base + SHMI_REFUSAL_AT));
  const int other = (int)(refusal >> 32) - 1;
  if (!refusal) return SHMCCL_SUCCESS;
  snprintf(message, sizeof message, "rank %d runs shmccl %s, rank %d runs %s: all ranks must load the same libshmccl",
           comm->rank, shmi_version_text(SHMI_LIBRARY_VERSION, SHMI_LAYOUT_VERSION).text, other,
           shmi_version_text((uint32_t)refusal, 0).text);
  return shmi_abort_raise(comm, SHMCCL_ERROR_MISMATCH, other, message);
}

/* The watch's error, for all: some may have met already. */
static shmccl_result_t check_watch(shmccl_comm_t *comm) {
  int culprit;
  const shmccl_result_t watched = look_at_watch(comm, &culprit);
  return watched == SHMCCL_SUCCESS ? watched : shmi_abort_raise(comm, watched, culprit, NULL);
}

/* What this rank's watch says is more than that another gave up because of its own. */
static shmccl_result_t check_abort(shmccl_comm_t *comm) {
  if (shmi_abort_is_foreign(comm)) SHMI_RETURN_IF_ERROR(look_at_watch(comm, &(int){0}));
  return shmi_abort_look(comm);
}

/* A rank that has not come yet holds no lock: for it the time limit counts, for those that were here their death. */
static shmccl_result_t await_all(shmccl_comm_t *comm, shmi_wait_lacks_fn lacks) {
  uint64_t deadline = shmi_now_ns() + comm->options.timeout_ms * 1000000;
  unsigned looks = 0;
  for (int peer = 0; peer < comm->nranks;) {
    if (!lacks(comm, peer)) {
      peer++;
      continue;
    }
    SHMI_RETURN_IF_ERROR(check_abort(comm));
    if (++looks % POLLS_PER_CHECK == 0) {
      SHMI_RETURN_IF_ERROR(check_watch(comm));
      SHMI_RETURN_IF_ERROR(check_died(comm));
      SHMI_RETURN_IF_ERROR(check_versions(comm));
    }
    if (shmi_now_ns() > deadline) SHMI_RETURN_IF_ERROR(report_missing(comm, lacks));
    pause_ns(POLL_NS);
  }
  return SHMCCL_SUCCESS;
}

/* A rank that has neither come nor refused. */
static bool is_awaited(const void *context, int peer) {
  const shmccl_comm_t *comm = context;
  return lacks_member(comm, peer) && !shmi_observe32(&shmi_control_of(&comm->world, peer)->abort.cause);
}

/* Without rank 0's segment a late rank would look for it until its time limit: rank 0 stays a moment to have it told.
 */
static void linger(const shmccl_comm_t *comm) {
  char text[SHMI_RANKS_TEXT];
  uint64_t ranks, deadline = shmi_now_ns() + LINGER_MS * 1000000ull;
  while (shmi_lacking_text(comm, is_awaited, comm, text, &ranks) >= 0 && shmi_now_ns() < deadline) pause_ns(POLL_NS);
}

/* From what all ranks said of themselves, so that all come to the same answer. */
bool shmi_comm_oversubscribed(const shmccl_comm_t *comm, uint32_t threads) {
  uint32_t cpus = 0, quota = UINT32_MAX;
  for (int byte = 0; byte < SHMI_CPU_MASK_BYTES; byte++) {
    unsigned all = 0;
    for (int r = 0; r < comm->nranks; r++) all |= shmi_control_of(&comm->world, r)->cpus[byte];
    cpus += (uint32_t)__builtin_popcount(all);
  }
  for (int r = 0; r < comm->nranks; r++) {
    uint32_t granted = shmi_control_of(&comm->world, r)->member.quota;
    if (granted < quota) quota = granted;
  }
  return threads * (uint32_t)comm->nranks > (cpus < quota ? cpus : quota);
}

void shmi_place_for(const shmccl_comm_t *comm, void *address, size_t bytes, int reader) {
  int node = shmi_control_of(&comm->world, reader)->member.node;
  if (node != shmi_topo_node()) shmi_topo_place(address, bytes, node); /* else the kernel's own choice is right */
}

shmccl_result_t shmi_comm_meet(shmccl_comm_t *comm) {
  if (comm->abort_told != SHMCCL_SUCCESS) return comm->abort_told; /* this rank has no GPU, and told the others */
  if (comm->nranks > 1) SHMI_RETURN_IF_ERROR(await_all(comm, lacks_member));
  shmi_segment_unlink(&comm->segment);
  comm->oversubscribed = shmi_comm_oversubscribed(comm, 1);
  SHMI_INFO("rank %d of %d: pid %d, node %d, %s, %s kernels, slots of %zu KiB%s%s", comm->rank, comm->nranks,
            (int)getpid(), shmi_topo_node(), comm->segment.path, shmi_reduce_isa(), comm->world.slot_bytes >> 10,
            comm->oversubscribed ? ", more ranks than CPUs" : "", shmi_topo_is_wsl2() ? ", WSL2" : "");
  return shmi_device_register(comm);
}

shmccl_result_t shmi_comm_settle(shmccl_comm_t *comm) {
  if (shmi_device_is_common(comm)) SHMI_RETURN_IF_ERROR(await_all(comm, shmi_device_lacks));
  return shmi_device_agree(comm);
}

shmccl_result_t shmi_comm_create_watched(shmccl_comm_t **out, int nranks, const uint8_t id[SHMI_ID_BYTES], int rank,
                                         const shmi_options_t *options, const struct shmi_watch *watch, int device) {
  shmccl_comm_t *comm;
  shmi_log_configure();
  shmccl_result_t result = attach_watched(&comm, nranks, id, rank, options, watch, device);
  if (result != SHMCCL_SUCCESS && rank == 0 && !watch) shmi_segment_refuse(id, result, LINGER_MS);
  SHMI_RETURN_IF_ERROR(result);
  result = shmi_comm_meet(comm);
  if (result == SHMCCL_SUCCESS) result = shmi_comm_settle(comm);
  if (result != SHMCCL_SUCCESS) {
    if (rank == 0 && result != SHMCCL_ERROR_TIMEOUT) linger(comm);
    shmi_comm_free(comm);
    shmi_segment_sweep(); /* the last of the failed removes the name, if rank 0 could not */
    return result;
  }
  comm->watch = NULL;
  *out = comm;
  return SHMCCL_SUCCESS;
}

shmccl_result_t shmi_comm_create(shmccl_comm_t **out, int nranks, const uint8_t id[SHMI_ID_BYTES], int rank,
                                 const shmi_options_t *options) {
  return shmi_comm_create_watched(out, nranks, id, rank, options, NULL, SHMI_GPU_CURRENT);
}

/* ---- public --------------------------------------------------------------------------------------------------- */

static shmccl_result_t check_nranks(int nranks) {
  if (nranks >= 1 && nranks <= SHMCCL_MAX_RANKS) return SHMCCL_SUCCESS;
  return shmi_error(SHMCCL_ERROR_INVALID_ARGUMENT, "nranks is %d: give 1 to %d", nranks, SHMCCL_MAX_RANKS);
}

static shmccl_result_t check_out(const void *comm) {
  if (comm) return SHMCCL_SUCCESS;
  return shmi_error(SHMCCL_ERROR_INVALID_ARGUMENT, "comm is NULL: pass where to store the communicator");
}

shmccl_result_t shmccl_comm_init_rank(shmccl_comm_t **comm, int nranks, const shmccl_unique_id_t *id, int rank,
                                      const shmccl_config_t *config) {
  uint8_t bytes[SHMI_ID_BYTES];
  shmi_options_t options;
  SHMI_RETURN_IF_ERROR(check_out(comm));
  SHMI_RETURN_IF_ERROR(check_nranks(nranks));
  if (rank < 0 || rank >= nranks)
    return shmi_error(SHMCCL_ERROR_INVALID_ARGUMENT, "rank is %d: give 0 to nranks - 1, which is %d", rank, nranks - 1);
  SHMI_RETURN_IF_ERROR(read_id(id, bytes));
  SHMI_RETURN_IF_ERROR(shmi_options_read(config, &options));
  return shmi_comm_create(comm, nranks, bytes, rank, &options);
}

static shmccl_result_t create_all(shmccl_comm_t **comms, int nranks, const uint8_t id[SHMI_ID_BYTES],
                                  const shmi_options_t *options) {
  for (int r = 0; r < nranks; r++)
    SHMI_RETURN_IF_ERROR(shmi_comm_attach(&comms[r], nranks, id, r, options, shmi_device_of(r, options)));
  for (int r = 0; r < nranks; r++) SHMI_RETURN_IF_ERROR(shmi_comm_meet(comms[r]));
  for (int r = 0; r < nranks; r++) SHMI_RETURN_IF_ERROR(shmi_comm_settle(comms[r]));
  return SHMCCL_SUCCESS;
}

shmccl_result_t shmccl_comm_init_all(shmccl_comm_t **comms, int nranks, const shmccl_config_t *config) {
  uint8_t id[SHMI_ID_BYTES];
  shmi_options_t options;
  shmccl_comm_t *made[SHMCCL_MAX_RANKS] = {0};
  SHMI_RETURN_IF_ERROR(check_out(comms));
  SHMI_RETURN_IF_ERROR(check_nranks(nranks));
  shmi_log_configure();
  SHMI_RETURN_IF_ERROR(shmi_options_read(config, &options));
  SHMI_RETURN_IF_ERROR(shmi_random_id(id));
  shmccl_result_t result = create_all(made, nranks, id, &options);
  for (int r = 0; r < nranks; r++) {
    if (result == SHMCCL_SUCCESS)
      comms[r] = made[r];
    else
      shmi_comm_free(made[r]);
  }
  return result;
}

shmccl_result_t shmi_comm_check(const shmccl_comm_t *comm) {
  if (!comm) return shmi_error(SHMCCL_ERROR_INVALID_ARGUMENT, "comm is NULL: pass a communicator");
  if (comm->fork_generation == shmi_fork_generation()) return SHMCCL_SUCCESS;
  return shmi_error(SHMCCL_ERROR_INVALID_USAGE, "this communicator belongs to the parent process: create communicators "
                                                "after fork");
}

void shmi_comm_free(shmccl_comm_t *comm) {
  if (!comm) return;
  bool forked = comm->fork_generation != shmi_fork_generation();
  forked ? shmi_device_forget(comm) : shmi_device_close(comm);
  if (comm->segment.base && !forked && !lacks_member(comm, comm->rank)) /* who has refused has never come */
    shmi_publish32(&shmi_control_of(&comm->world, comm->rank)->member.state, SHMI_MEMBER_LEFT);
  if (!comm->segment.base && comm->world.control) free(comm->world.control);
  shmi_segment_detach(&comm->segment, forked);
  free(comm->messages);
  free(comm);
}

/* Kernels may still need this rank's memory, and so may the peers' kernels: waits for them and frees everything. */
static void *retire(void *context) {
  shmccl_comm_t *comm = context;
  shmi_gpu_wait(comm->device->gpu, true);
  shmi_comm_free(comm);
  return NULL;
}

/* A moment, so that usually all is gone on return; kernels that wait for a rank must not make the program wait too. */
static void retire_behind_kernels(shmccl_comm_t *comm) {
  const uint64_t deadline = shmi_now_ns() + RETIRE_NS;
  pthread_t thread;
  if (shmi_thread_start(&thread, retire, comm)) {
    retire(comm);
    return;
  }
  while (pthread_tryjoin_np(thread, NULL)) {
    if (shmi_now_ns() > deadline) {
      pthread_detach(thread);
      return;
    }
    pause_ns(POLL_NS);
  }
}

shmccl_result_t shmccl_comm_destroy(shmccl_comm_t *comm) {
  if (comm && comm->device && comm->fork_generation == shmi_fork_generation())
    retire_behind_kernels(comm);
  else
    shmi_comm_free(comm);
  return SHMCCL_SUCCESS;
}

shmccl_result_t shmccl_comm_get_async_error(shmccl_comm_t *comm, shmccl_result_t *state) {
  SHMI_RETURN_IF_ERROR(shmi_comm_check(comm));
  if (!state) return shmi_error(SHMCCL_ERROR_INVALID_ARGUMENT, "state is NULL: pass where to store the result");
  if (comm->device) shmi_device_notice(comm);
  shmccl_result_t found = shmi_abort_peek(comm);
  const int dead = found == SHMCCL_SUCCESS ? shmi_comm_first_dead(comm) : -1;
  if (dead >= 0)
    found = shmi_error_again(SHMCCL_ERROR_PEER_DIED, "rank %d: rank %d (pid %u) has died", comm->rank, dead,
                             shmi_control_of(&comm->world, dead)->member.pid);
  *state = found;
  return SHMCCL_SUCCESS;
}

shmccl_result_t shmccl_comm_count(const shmccl_comm_t *comm, int *nranks) {
  SHMI_RETURN_IF_ERROR(shmi_comm_check(comm));
  if (!nranks) return shmi_error(SHMCCL_ERROR_INVALID_ARGUMENT, "nranks is NULL: pass where to store the number");
  *nranks = comm->nranks;
  return SHMCCL_SUCCESS;
}

shmccl_result_t shmccl_comm_user_rank(const shmccl_comm_t *comm, int *rank) {
  SHMI_RETURN_IF_ERROR(shmi_comm_check(comm));
  if (!rank) return shmi_error(SHMCCL_ERROR_INVALID_ARGUMENT, "rank is NULL: pass where to store the number");
  *rank = comm->rank;
  return SHMCCL_SUCCESS;
}
