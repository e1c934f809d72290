/* check_probe.c - --probe: two ranks all-reduce through this machine's /dev/shm, and every element is checked. */
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "shmccl.h"
#include "tools/doctor/doctor.h"

enum {
  RANKS = 2,
  LARGEST = 1 << 18 /* elements: 1 MiB */,
  REPEATS = 50,
  TIMED = 1 << 14 /* 64 KiB */,
  LIMIT_MS = 3000
};

/* Sums of small whole numbers: exact in float. */
static float element(int rank, int i) { return (float)((rank + 1) * (i % 1000)); }

static bool reduce_and_check(shmccl_comm_t *comm, float *buffer, int rank, int count) {
  for (int i = 0; i < count; i++) buffer[i] = element(rank, i);
  if (shmccl_allreduce(buffer, buffer, (size_t)count, SHMCCL_FLOAT32, SHMCCL_SUM, comm, NULL)) return false;
  for (int i = 0; i < count; i++)
    if (buffer[i] != element(0, i) + element(1, i)) return false;
  return true;
}

static bool run_rank(const shmccl_unique_id_t *id, int rank, double *microseconds) {
  static float buffer[LARGEST];
  shmccl_config_t config = SHMCCL_CONFIG_INITIALIZER;
  shmccl_comm_t *comm;
  bool right = true;
  config.timeout_ms = LIMIT_MS;
  if (shmccl_comm_init_rank(&comm, RANKS, id, rank, &config)) return false;
  for (int count = 256; right && count <= LARGEST; count *= 4) right = reduce_and_check(comm, buffer, rank, count);
  const uint64_t start = shmi_now_ns();
  for (int i = 0; right && i < REPEATS; i++)
    right = !shmccl_allreduce(buffer, buffer, TIMED, SHMCCL_FLOAT32, SHMCCL_MAX, comm, NULL);
  *microseconds = (double)(shmi_now_ns() - start) / 1000 / REPEATS;
  if (right) right = !shmccl_comm_finalize(comm);
  shmccl_comm_destroy(comm);
  return right;
}

static void probe(FILE *out, const void *context) {
  shmccl_unique_id_t id;
  double microseconds = 0;
  int status;
  (void)context;
  if (shmccl_get_unique_id(&id)) return;
  const pid_t peer = fork();
  if (peer < 0) return;
  const bool right = run_rank(&id, peer == 0, &microseconds);
  if (peer == 0) _exit(!right);
  waitpid(peer, &status, 0);
  if (right && status == 0)
    fprintf(out, "right %.1f\n", microseconds);
  else
    fprintf(out, "wrong %s\n", shmccl_last_error());
}

void doctor_check_probe(struct doctor *d) {
  const struct doctor_answer a = doctor_ask(d, "probe", LIMIT_MS + 1000, probe, NULL);
  double microseconds;
  if (sscanf(a.text, "right %lf", &microseconds) == 1)
    DOCTOR_SAY_OK(d, "probe",
                  "two ranks on host memory: 1 KiB to 1 MiB all-reduced, every element right; 64 KiB in %.1f us",
                  microseconds);
  else
    doctor_add(d, (struct doctor_finding){DOCTOR_FAILURE, "probe",
                                          !strncmp(a.text, "wrong ", 6) && a.text[6] > ' '
                                              ? doctor_text(d, "%.*s", (int)strcspn(a.text + 6, "\n"), a.text + 6)
                                              : "two ranks could not all-reduce in time",
                                          "no collective works here",
                                          "see shm.size; run it again with SHMCCL_DEBUG=info"});
}
