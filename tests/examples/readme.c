/* Adds up one array over all ranks: SHMCCL_ID=demo SHMCCL_NRANKS=2 SHMCCL_RANK=0 ./readme & ... SHMCCL_RANK=1 ./readme
 */
#include <shmccl.h>
#include <stdio.h>

#define TRY(call)                                                                                                      \
  do {                                                                                                                 \
    shmccl_result_t result = (call);                                                                                   \
    if (result != SHMCCL_SUCCESS) {                                                                                    \
      fprintf(stderr, "%s: %s\n%s\n", #call, shmccl_error_string(result), shmccl_last_error());                        \
      return 1;                                                                                                        \
    }                                                                                                                  \
  } while (0)

int main(void) {
  shmccl_comm_t *comm;
  int rank, nranks;
  TRY(shmccl_comm_init_env(&comm, NULL)); /* rank and number of ranks from torchrun, mpirun, srun or SHMCCL_RANK */
  TRY(shmccl_comm_user_rank(comm, &rank));
  TRY(shmccl_comm_count(comm, &nranks));

  float values[4] = {1.0f, 10.0f, 100.0f, (float)rank};
  TRY(shmccl_allreduce(values, values, 4, SHMCCL_FLOAT32, SHMCCL_SUM, comm, NULL)); /* in place */
  printf("rank %d of %d: %g %g %g %g\n", rank, nranks, values[0], values[1], values[2], values[3]);

  TRY(shmccl_comm_finalize(comm)); /* all ranks are done: they may end in any order */
  TRY(shmccl_comm_destroy(comm));
  return 0;
}
