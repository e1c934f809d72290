/* place.c - see place.h. */
#include "plugin/place.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/options.h"

enum { BOOT_ID_BYTES = 36 };

static shmccl_result_t read_boot_id(char text[BOOT_ID_BYTES]) {
  static const char path[] = "/proc/sys/kernel/random/boot_id";
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  const ssize_t length = fd < 0 ? -1 : read(fd, text, BOOT_ID_BYTES);
  if (fd >= 0) close(fd);
  if (length == BOOT_ID_BYTES) return SHMCCL_SUCCESS;
  return shmi_error(SHMCCL_ERROR_SYSTEM, "%s cannot be read: %m: mount /proc", path);
}

shmccl_result_t shmi_place_find(uint64_t *place) {
  char boot[BOOT_ID_BYTES];
  struct stat folder;
  uint64_t hash = 0xcbf29ce484222325ull;
  SHMI_RETURN_IF_ERROR(read_boot_id(boot));
  if (stat(shmi_option_shm_dir(), &folder))
    return shmi_error(SHMCCL_ERROR_SYSTEM, "%s: %m: mount it, or set SHMCCL_SHM_DIR", shmi_option_shm_dir());
  for (int i = 0; i < BOOT_ID_BYTES; i++) hash = (hash ^ (uint8_t)boot[i]) * 0x100000001b3ull;
  *place = (hash ^ (uint64_t)folder.st_dev) * 0x100000001b3ull;
  return SHMCCL_SUCCESS;
}
