/* handle.c - makes and checks handles. */
#include "plugin/handle.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "plugin/net_layout.h"

static const char magic[8] = "shmccln";

/* FNV-1a: finds damage, not malice. */
static uint32_t check_of(struct shmi_handle h) {
  uint32_t hash = 0x811c9dc5;
  h.check = 0;
  for (size_t i = 0; i < sizeof h; i++) hash = (hash ^ ((const uint8_t *)&h)[i]) * 0x01000193;
  return hash;
}

/* "01234567-89ab-...": zeros where the kernel does not tell. */
static void read_boot_id(uint8_t id[16]) {
  char text[64] = "";
  int digits = 0;
  memset(id, 0, 16);
  const int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  if (read(fd, text, sizeof text - 1) < 0) text[0] = 0;
  close(fd);
  for (const char *c = text; *c && digits < 32; c++) {
    unsigned digit;
    if (sscanf((char[]){*c, 0}, "%x", &digit) == 1)
      id[digits / 2] |= (uint8_t)(digit << (digits % 2 ? 0 : 4)), digits++;
  }
}

/* Where this process is: the fields that must be equal at both ends. */
static shmccl_result_t locate(struct shmi_handle *h) {
  struct stat st;
  if (stat(shmi_option_shm_dir(), &st))
    return shmi_error(SHMCCL_ERROR_SYSTEM,
                      "cannot look at the segment folder %s: %m: mount a tmpfs there, or set "
                      "SHMCCL_SHM_DIR",
                      shmi_option_shm_dir());
  h->shm_device = st.st_dev;
  h->shm_inode = st.st_ino;
  read_boot_id(h->boot);
  memset(h->host, 0, sizeof h->host);
  if (gethostname(h->host, sizeof h->host - 1)) strcpy(h->host, "?");
  return SHMCCL_SUCCESS;
}

shmccl_result_t shmi_handle_make(void *bytes, const uint8_t arena[SHMI_ID_BYTES], int link, uint64_t key) {
  struct shmi_handle h = {.version = SHMI_NET_VERSION, .key = key, .link = (uint32_t)link, .pid = (uint32_t)getpid()};
  memcpy(h.magic, magic, sizeof magic);
  memcpy(h.arena, arena, SHMI_ID_BYTES);
  SHMI_RETURN_IF_ERROR(locate(&h));
  h.check = check_of(h);
  memset(bytes, 0, NCCL_NET_HANDLE_BYTES);
  memcpy(bytes, &h, sizeof h);
  return SHMCCL_SUCCESS;
}

static shmccl_result_t check_place(const struct shmi_handle *h) {
  static const uint8_t unknown[16];
  struct shmi_handle here;
  SHMI_RETURN_IF_ERROR(locate(&here));
  const int both_known = memcmp(h->boot, unknown, 16) && memcmp(here.boot, unknown, 16);
  if (both_known ? memcmp(h->boot, here.boot, 16) : strcmp(h->host, here.host))
    return shmi_error(SHMCCL_ERROR_SYSTEM,
                      "the peer (pid %u) is on host %s, this is %s: shmccl carries traffic within one host only: unset "
                      "NCCL_NET_PLUGIN and NCCL_NET for jobs on several hosts",
                      h->pid, h->host, here.host);
  if (h->shm_device != here.shm_device || h->shm_inode != here.shm_inode)
    return shmi_error(SHMCCL_ERROR_SYSTEM,
                      "the peer (pid %u on %s) has another %s than this process: let the containers share it (docker "
                      "--ipc=host, Kubernetes one emptyDir for all), and set SHMCCL_SHM_DIR for all ranks alike",
                      h->pid, h->host, shmi_option_shm_dir());
  return SHMCCL_SUCCESS;
}

shmccl_result_t shmi_handle_read(const void *bytes, struct shmi_handle *out) {
  struct shmi_handle h;
  memcpy(&h, bytes, sizeof h);
  if (memcmp(h.magic, magic, sizeof magic))
    return shmi_error(SHMCCL_ERROR_INVALID_ARGUMENT, "cannot connect: these 128 bytes are no handle of shmccl: all "
                                                     "ranks must use the same NCCL_NET_PLUGIN");
  if (h.version != SHMI_NET_VERSION)
    return shmi_error(SHMCCL_ERROR_INVALID_USAGE,
                      "cannot connect: the peer's handle has version %u, this library makes %u: all ranks must load "
                      "the same libnccl-net-shmccl.so",
                      h.version, (unsigned)SHMI_NET_VERSION);
  if (h.check != check_of(h) || h.link >= SHMI_NET_LINKS)
    return shmi_error(SHMCCL_ERROR_INVALID_ARGUMENT, "cannot connect: the peer's handle was damaged on its way");
  h.host[sizeof h.host - 1] = 0;
  SHMI_RETURN_IF_ERROR(check_place(&h));
  *out = h;
  return SHMCCL_SUCCESS;
}
