/*
 * agree.c - who may be diverted: ranks of one host with one /dev/shm, whose GPUs cannot reach each other, with the
 * engine's communicator up on all.
 *
 * A communicator of the engine on host memory, named by the hash that all ranks share, is where they meet: that they do
 * shows that they are on one host. Its allgathers carry what each has and what each has come to; since all ranks get
 * the same bytes, or an error, all come to the same end. A rank that misses the last of them gives up its part of the
 * engine communicator, which ends it for the others too: then calls fail there, but nothing waits and nothing is mixed
 * up.
 */
#include "front/agree.h"

#include <stdio.h>
#include <string.h>

#include "comm/device.h"
#include "topo/peers.h"
#include "topo/topo.h"

/* NCCL has created the communicator on all ranks just before: who does not come within this time has no front, or is on
 * another host. */
enum { MEETING_MS = 10000 };

uint64_t shmi_front_setting(void) {
  static uint32_t warned;
  uint64_t setting;
  if (shmi_option_local(SHMI_OPTION_FRONT, &setting) == SHMCCL_SUCCESS) return setting;
  if (shmi_claim(&warned)) shmi_log(SHMI_LOG_WARN, "front: all calls stay with NCCL: %s", shmccl_last_error());
  return SHMI_FRONT_NEVER;
}

/* ---- what ranks tell each other ---------------------------------------------------------------------------------- */

struct passport {
  uint64_t setting;
  char gpu[SHMI_BUS_ID_BYTES]; /* "": none that the engine can use */
};

/* What a rank has come to; the worst of all ranks' holds. */
enum verdict { GO, NO_ENGINE, PEERS_UNKNOWN, PEERS, NO_GPU, MIXED, VERDICTS };

static const char *const reasons[VERDICTS] = {
    [NO_ENGINE] = "the engine could not be set up on all ranks",
    [PEERS_UNKNOWN] = "the driver does not say whether the GPUs reach each other (SHMCCL_FRONT=always diverts anyway)",
    [PEERS] = "the GPUs reach each other (P2P), which is faster (SHMCCL_FRONT=always diverts anyway)",
    [NO_GPU] = "this library was built without CUDA, or a rank's GPU cannot be used",
    [MIXED] = "SHMCCL_FRONT differs between ranks: set it alike on all"};

static enum verdict judge(const struct passport *all, int nranks) {
  const char *gpus[SHMCCL_MAX_RANKS];
  for (int r = 0; r < nranks; r++) {
    if (all[r].setting != all[0].setting) return MIXED;
    if (!*all[r].gpu) return NO_GPU;
    gpus[r] = all[r].gpu;
  }
  if (all[0].setting == SHMI_FRONT_ALWAYS) return GO;
  switch (shmi_gpus_reach(gpus, nranks)) {
  case 0: return GO;
  case 1: return PEERS;
  default: return PEERS_UNKNOWN;
  }
}

/* ---- the meeting ------------------------------------------------------------------------------------------------- */

static shmccl_result_t meet(const struct shmi_front_comm *comm, shmccl_comm_t **control) {
  const size_t least = shmi_layout_least_staging(comm->nranks);
  shmccl_config_t config = SHMCCL_CONFIG_INITIALIZER;
  shmi_options_t options, usual;
  config.memory = SHMCCL_MEMORY_HOST;
  config.timeout_ms = MEETING_MS;
  config.staging_bytes = least > 64 << 10 ? least : 64 << 10;
  SHMI_RETURN_IF_ERROR(shmi_options_read(&config, &options));
  SHMI_RETURN_IF_ERROR(shmi_options_read(NULL, &usual));
  SHMI_RETURN_IF_ERROR(shmi_comm_create(control, comm->nranks, comm->id, comm->rank, &options));
  (*control)->options.timeout_ms = usual.timeout_ms; /* all are here: GPUs may take their time to start */
  return SHMCCL_SUCCESS;
}

static shmccl_result_t exchange(const void *mine, void *all, size_t bytes, shmccl_comm_t *control) {
  return shmccl_allgather(mine, all, bytes, SHMCCL_UINT8, control, NULL);
}

/* The worst of all ranks' verdicts. */
static shmccl_result_t settle(enum verdict *verdict, shmccl_comm_t *control) {
  uint8_t all[SHMCCL_MAX_RANKS], mine = (uint8_t)*verdict;
  SHMI_RETURN_IF_ERROR(exchange(&mine, all, 1, control));
  for (int r = 0; r < control->nranks; r++)
    if (all[r] > *verdict) *verdict = all[r] < VERDICTS ? (enum verdict)all[r] : NO_ENGINE;
  return SHMCCL_SUCCESS;
}

static shmccl_result_t compare(const struct shmi_front_comm *comm, enum verdict *verdict, shmccl_comm_t *control) {
  struct passport all[SHMCCL_MAX_RANKS], mine = {.setting = shmi_front_setting()};
  shmi_gpu_bus_id(comm->device, mine.gpu);
  SHMI_RETURN_IF_ERROR(exchange(&mine, all, sizeof mine, control));
  *verdict = judge(all, comm->nranks);
  return settle(verdict, control);
}

/* A part of the meeting's communicator with the same ranks: its creation ends with the meeting, if a rank dies.
 * Programs that use NCCL look at data without asking it for errors: what is aborted must not look like a result. */
static shmccl_result_t make_engine(const struct shmi_front_comm *comm, shmccl_comm_t *control, shmccl_comm_t **engine) {
  shmccl_config_t config = SHMCCL_CONFIG_INITIALIZER;
  config.memory = SHMCCL_MEMORY_CUDA;
  const int before = shmi_gpu_choose(comm->device);
  shmccl_result_t result = shmccl_comm_split(control, 0, comm->rank, engine, &config);
  shmi_gpu_choose(before);
  if (result == SHMCCL_SUCCESS) shmi_device_trap(*engine);
  return result;
}

static shmccl_result_t decide(struct shmi_front_comm *comm, shmccl_comm_t *control, enum verdict *verdict,
                              shmccl_comm_t **engine) {
  SHMI_RETURN_IF_ERROR(compare(comm, verdict, control));
  if (*verdict != GO) return SHMCCL_SUCCESS;
  shmccl_result_t made = make_engine(comm, control, engine);
  if (made != SHMCCL_SUCCESS) *verdict = NO_ENGINE;
  return settle(verdict, control);
}

/* ---- the outcome ------------------------------------------------------------------------------------------------- */

/* What the engine says meanwhile is no warning: NCCL does the work instead. */
static void as_information(const void *context, shmi_log_level_t level, const char *text) {
  (void)context, (void)level;
  shmi_log_print(SHMI_LOG_INFO, text);
}

static void report(const struct shmi_front_comm *comm, const char *reason, bool warns) {
  char line[512];
  snprintf(line, sizeof line, "front: communicator %02x%02x%02x%02x of %d ranks: %s%s", comm->id[0], comm->id[1],
           comm->id[2], comm->id[3], comm->nranks,
           reason ? "its calls stay with NCCL: " : "its collectives are diverted", reason ? reason : "");
  shmi_log(warns ? SHMI_LOG_WARN : SHMI_LOG_INFO, "%s", line);
}

static void report_failure(const struct shmi_front_comm *comm) {
  char reason[384];
  snprintf(reason, sizeof reason, "its ranks did not agree: other hosts, or ranks without the front? (%.300s)",
           shmccl_last_error());
  report(comm, reason, shmi_front_setting() == SHMI_FRONT_ALWAYS);
}

static void report_verdict(const struct shmi_front_comm *comm, enum verdict verdict) {
  if (comm->rank) return;
  report(comm, reasons[verdict], verdict == MIXED || (verdict != GO && shmi_front_setting() == SHMI_FRONT_ALWAYS));
}

static void give_up(shmccl_comm_t *engine) {
  if (!engine) return;
  shmccl_comm_abort(engine);
  shmccl_comm_destroy(engine);
}

shmccl_comm_t *shmi_front_agree(struct shmi_front_comm *comm) {
  shmccl_comm_t *control = NULL, *engine = NULL;
  enum verdict verdict = GO;
  const struct shmi_log_sink before = shmi_log_redirect((struct shmi_log_sink){as_information, NULL});
  shmccl_result_t result = meet(comm, &control);
  if (result == SHMCCL_SUCCESS) {
    if (!shmi_front_set_control(comm, control)) shmccl_comm_abort(control);
    result = decide(comm, control, &verdict, &engine);
    shmi_front_set_control(comm, NULL);
    shmccl_comm_destroy(control);
  }
  shmi_log_redirect(before);
  result == SHMCCL_SUCCESS ? report_verdict(comm, verdict) : report_failure(comm);
  if (result == SHMCCL_SUCCESS && verdict == GO) return engine;
  give_up(engine);
  return NULL;
}
