/*
 * shmccl-peer-*: one rank of an MPI job, of another build of this library, or of NCCL, that shmccl-perf starts beside
 * its own ranks. Connects to the driver's socket once it has its communicator, and is from then on a worker like any
 * other.
 *
 *     shmccl-peer-openmpi SOCKET BYTES host|cuda      BYTES: the largest buffer
 */
#include "worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int connect_to(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof address)) {
    close(fd);
    return -1;
  }
  return fd;
}

/* On GPUs, which of the ranks this is must be known before there is a communicator. */
static int own_rank(void) {
  const char *rank = getenv("SHMCCL_RANK");
  return rank ? atoi(rank) : 0;
}

int main(int argc, char **argv) {
  struct worker worker = {0};
  char version[64];
  if (argc != 4) {
    fprintf(stderr, "%s is started by shmccl-perf --peer: SOCKET BYTES host|cuda\n", argv[0]);
    return 2;
  }
  const bool on_gpu = !strcmp(argv[3], "cuda");
  if (on_gpu && !gpu_use(own_rank(), worker.error)) {
    fprintf(stderr, "%s: %s\n", argv[0], worker.error);
    return 1;
  }
  if (!backend_peer_open(&worker.backend, on_gpu, version)) {
    fprintf(stderr, "%s: %s\n", argv[0], worker.backend.error);
    return 1;
  }
  int fd = connect_to(argv[1]);
  if (fd < 0) {
    fprintf(stderr, "%s: cannot connect to %s\n", argv[0], argv[1]);
    return 1;
  }
  if (!worker_open(&worker, strtoull(argv[2], NULL, 10), on_gpu)) {
    fprintf(stderr, "%s: two buffers of %s bytes: %s\n", argv[0], argv[2], worker.error);
    return 1;
  }
  if (on_gpu) worker.backend.stream = gpu_stream(worker.gpu);
  if (!worker_serve(&worker, fd, version)) _exit(1);
  worker_close(&worker);
  return worker.backend.ops->close(&worker.backend) ? 0 : 1;
}
