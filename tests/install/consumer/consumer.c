/* A foreign program, as C and as C++: two ranks, threads of this process, add up. Prints "sum 3". */
#include <pthread.h>
#include <shmccl.h>
#include <stdio.h>

static shmccl_comm_t *comms[2];
static int32_t values[2] = {1, 2};

static void *run(void *argument) {
  const int rank = *(const int *)argument;
  int32_t *value = &values[rank];
  if (shmccl_allreduce(value, value, 1, SHMCCL_INT32, SHMCCL_SUM, comms[rank], NULL) != SHMCCL_SUCCESS) *value = -1;
  return NULL;
}

int main(void) {
  int ranks[2] = {0, 1};
  pthread_t thread;
  if (shmccl_version() != SHMCCL_VERSION_CODE || shmccl_comm_init_all(comms, 2, NULL) != SHMCCL_SUCCESS) return 1;
  if (pthread_create(&thread, NULL, run, &ranks[1])) return 1;
  run(&ranks[0]);
  pthread_join(thread, NULL);
  for (int r = 0; r < 2; r++) shmccl_comm_destroy(comms[r]);
  printf("sum %d\n", (int)values[0]);
  return values[0] != values[1];
}
