/*
 * overhead.c - what the NCCL front adds to an all-reduce of the C API, measured without one: the front's own code, with
 * an engine that returns at once.
 *
 *   front-overhead            best and median of some runs, ns per call
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "front/comms.h"

enum { CALLS = 200000, RUNS = 21 };

shmccl_result_t __wrap_shmccl_allreduce(const void *sendbuf, void *recvbuf, size_t count, shmccl_datatype_t datatype,
                                        shmccl_redop_t op, shmccl_comm_t *comm, void *stream);

shmccl_result_t __wrap_shmccl_allreduce(const void *sendbuf, void *recvbuf, size_t count, shmccl_datatype_t datatype,
                                        shmccl_redop_t op, shmccl_comm_t *comm, void *stream) {
  (void)sendbuf, (void)recvbuf, (void)count, (void)datatype, (void)op, (void)comm, (void)stream;
  return SHMCCL_SUCCESS;
}

/* A call through a pointer that the compiler cannot see through, as programs make it. */
static nccl_result_t (*volatile all_reduce)(const void *, void *, size_t, nccl_datatype_t, nccl_redop_t, nccl_comm_t,
                                            void *) = ncclAllReduce;
static shmccl_result_t (*volatile direct)(const void *, void *, size_t, shmccl_datatype_t, shmccl_redop_t,
                                          shmccl_comm_t *, void *) = __wrap_shmccl_allreduce;

static char buffer[64];

static double through_front(nccl_comm_t comm) {
  const uint64_t start = shmi_now_ns();
  for (int i = 0; i < CALLS; i++) all_reduce(buffer, buffer, 16, NCCL_FLOAT32, NCCL_SUM, comm, NULL);
  return (double)(shmi_now_ns() - start) / CALLS;
}

static double without(nccl_comm_t comm) {
  const uint64_t start = shmi_now_ns();
  for (int i = 0; i < CALLS; i++)
    direct(buffer, buffer, 16, SHMCCL_FLOAT32, SHMCCL_SUM, (shmccl_comm_t *)(void *)comm, NULL);
  return (double)(shmi_now_ns() - start) / CALLS;
}

static int ascending(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static void print(const char *what, double (*run)(nccl_comm_t), nccl_comm_t comm) {
  double times[RUNS];
  for (int i = 0; i < RUNS; i++) times[i] = run(comm);
  qsort(times, RUNS, sizeof *times, ascending);
  printf("%-12s best %6.1f ns, median %6.1f ns per call\n", what, times[0], times[RUNS / 2]);
}

int main(void) {
  static char handle[64], engine[64]; /* nobody looks inside */
  const nccl_comm_t comm = (nccl_comm_t)(void *)handle;
  const uint8_t id[SHMI_ID_BYTES] = {1};
  struct shmi_front_comm *known = shmi_front_enter(comm, id);
  if (!known || !shmi_front_begin(known)) return 1;
  known->nranks = 2;
  shmi_front_decided(known, (shmccl_comm_t *)(void *)engine);
  print("C API", without, comm);
  print("front", through_front, comm);
  return 0;
}
