/*
 * settings.c - the environment: every variable of the library and of the launchers with any value.
 *
 * A line of the input sets one: its first byte chooses the variable, the rest is the value. Left alone are those that
 * name files and folders, which a random value would make the test open, and SHMCCL_DEBUG.
 */
#include <string.h>

#include "base/variables.h"
#include "comm/comm.h"
#include "fuzz.h"
#include "harness.h"

const unsigned fuzz_runs = 3000;

static const char *const names[] = {
    "SHMCCL_TIMEOUT_MS",
    "SHMCCL_STAGING_BYTES",
    "SHMCCL_ALGORITHM",
    "SHMCCL_CHUNK_BYTES",
    "SHMCCL_ISA",
    "SHMCCL_ID",
    "SHMCCL_RANK",
    "SHMCCL_NRANKS",
    "SHMCCL_NCCL_ENV",
    "SHMCCL_NET_BYTES",
    "SHMCCL_NET_GDR",
    "SHMCCL_TUNER",
    "RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "TORCHELASTIC_RUN_ID",
    "OMPI_COMM_WORLD_RANK",
    "OMPI_COMM_WORLD_SIZE",
    "PMIX_NAMESPACE",
    "OMPI_COMM_WORLD_LOCAL_SIZE",
    "PMI_RANK",
    "PMI_SIZE",
    "PMI_JOBID",
    "MPI_LOCALNRANKS",
    "SLURM_PROCID",
    "SLURM_NTASKS",
    "SLURM_JOB_ID",
    "SLURM_NNODES",
};

size_t fuzz_seed(unsigned number, uint8_t to[FUZZ_BYTES_MOST]) {
  static const char *const seeds[] = {
      "a500\nb8M\nctwo-shot\nd64K\neavx2\n",
      "fjob\ng0\nh2\n",
      "m1\nn2\no2\npnone\n",
      "q0\nr2\nsjob.1\nt2\n",
      "u1\nv4\nw5\nx4\n",
      "y3\nz4\n{7\n|1\n",
      "iauto\nj64M\nk0\nl1\n",
  };
  if (number >= LENGTH(seeds)) return 0;
  memcpy(to, seeds[number], strlen(seeds[number]));
  return strlen(seeds[number]);
}

static void set_variables(const uint8_t *data, size_t size) {
  char value[256];
  for (size_t at = 0; at < size;) {
    const uint8_t *end = memchr(data + at, '\n', size - at);
    const size_t length = end ? (size_t)(end - data) - at : size - at;
    const size_t bytes = length > sizeof value ? sizeof value - 1 : length ? length - 1 : 0;
    memcpy(value, data + at + 1, bytes);
    value[bytes] = 0;
    if (length) setenv(names[(unsigned)(data[at] - 'a') % LENGTH(names)], value, 1);
    at += length + 1;
  }
}

static void prepare(void) {
  static const char *folder;
  if (!folder) folder = harness_own_folder();
  setenv("SHMCCL_DEBUG", "none", 1);
  for (size_t i = 0; i < LENGTH(names); i++) unsetenv(names[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const shmccl_config_t hasty = {.size = sizeof hasty, .timeout_ms = 1};
  shmi_options_t options;
  shmccl_comm_t *comm;
  uint64_t value;
  const char *name;
  prepare();
  set_variables(data, size);
  if (shmi_options_read(NULL, &options) == SHMCCL_SUCCESS) CHECK(options.timeout_ms > 0 && options.staging_bytes > 0);
  for (int local = SHMI_OPTION_NET_BYTES; local <= SHMI_OPTION_TUNER; local++)
    shmi_option_local((shmi_local_option_t)local, &value);
  shmi_job_spans_hosts(&name);
  shmi_variable_nearest(size ? "SHMCCL_TIMOUT" : "");
  if (shmccl_comm_init_env(&comm, &hasty) == SHMCCL_SUCCESS) shmccl_comm_destroy(comm);
  return 0;
}
