/* place.c - see place.h. */
#include "shm/place.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/options.h"

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

shmccl_result_t shmi_place_find(struct shmi_place *place) {
  struct stat st;
  if (stat(shmi_option_shm_dir(), &st))
    return shmi_error(SHMCCL_ERROR_SYSTEM,
                      "cannot look at the segment folder %s: %m: mount a tmpfs there, or set "
                      "SHMCCL_SHM_DIR",
                      shmi_option_shm_dir());
  memset(place, 0, sizeof *place);
  place->device = st.st_dev;
  place->inode = st.st_ino;
  place->pid = (uint32_t)getpid();
  read_boot_id(place->boot);
  if (gethostname(place->host, sizeof place->host - 1)) strcpy(place->host, "?");
  return SHMCCL_SUCCESS;
}

shmccl_result_t shmi_place_check(const struct shmi_place *there, const char *who, const char *remedy) {
  static const uint8_t unknown[16];
  struct shmi_place here;
  const int length = (int)strnlen(there->host, sizeof there->host);
  SHMI_RETURN_IF_ERROR(shmi_place_find(&here));
  const int both_known = memcmp(there->boot, unknown, 16) && memcmp(here.boot, unknown, 16);
  if (both_known ? memcmp(there->boot, here.boot, 16) : strncmp(there->host, here.host, sizeof here.host))
    return shmi_error(SHMCCL_ERROR_SYSTEM,
                      "%s (pid %u) is on host %.*s, this is %s: shmccl carries traffic within one host only%s", who,
                      there->pid, length, there->host, here.host, remedy);
  if (there->device != here.device || there->inode != here.inode)
    return shmi_error(SHMCCL_ERROR_SYSTEM,
                      "%s (pid %u on %.*s) has another %s than this process: let the containers share it (docker "
                      "--ipc=host, Kubernetes one emptyDir for all), and set SHMCCL_SHM_DIR for all ranks alike",
                      who, there->pid, length, there->host, shmi_option_shm_dir());
  return SHMCCL_SUCCESS;
}
