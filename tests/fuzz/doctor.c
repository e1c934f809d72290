/* doctor.c - what shmccl-doctor reads: texts of the kernel, ldconfig, WSL and its own questions, and libraries. */
#include "fuzz.h"
#include "harness.h"
#include "tools/doctor/elf.h"
#include "tools/doctor/parse.h"
#include "tools/doctor/wslconfig.h"

#include <string.h>

const unsigned fuzz_runs = 20000;

#define TEXT(text)                                                                                                     \
  { text, sizeof(text) - 1 }
static const struct {
  const char *bytes;
  size_t size;
} texts[] = {
    TEXT("overlay / overlay rw,lowerdir=/a 0 0\ntmpfs /dev/shm tmpfs rw,nosuid,size=65536k,inode64 0 0\n"),
    TEXT("Filename\tType\tSize\tUsed\tPriority\n/dev/sdb partition 8388608 0 -2\n"),
    TEXT("MemTotal:       16316412 kB\nMemAvailable:   12016412 kB\n"),
    TEXT("Max locked memory         65536                65536                bytes\n"),
    TEXT("Filesystem 1B-blocks Used Available Use% Mounted on\ntmpfs 67108864 4096 67104768 1% /dev/shm\n"),
    TEXT("\tlibcuda.so.1 (libc6,x86-64) => /usr/lib/wsl/lib/libcuda.so.1\n"),
    TEXT("NCCL version 2.27.5+cuda12.9"),
    TEXT("driver 581.15\ncuda-driver 13000\ngpu 0 wddm 5 N\npeer 0 1 1\npinned 5\npinned-error 6 2\nmissing x\nerror y "
         "z\n"),
    TEXT("glibc 2.39\nneeds 2.34\nnccl 22809\nplugin /x\nbeside /y\ntable ncclNetPlugin_v11\nplugin-error no\n"),
    TEXT("front /x\nversion 22809\nreal /y\nfront-error no\n"),
    TEXT("[wsl2]\nnetworkingMode=bridged\nvmSwitch=\"A # B\" # c\nswap=0\n[experimental]\nsparseVhd=true\n"),
    TEXT("\xff\xfe[\0w\0s\0l\0002\0]\0\n"), /* UTF-16 */
};

static const uint8_t elf[] = {0x7f, 'E', 'L', 'F', 2, 1, 1};

size_t fuzz_seed(unsigned number, uint8_t to[FUZZ_BYTES_MOST]) {
  if (number < LENGTH(texts)) {
    memcpy(to, texts[number].bytes, texts[number].size);
    return texts[number].size;
  }
  if (number > LENGTH(texts)) return 0;
  memset(to, 0, 512); /* the beginning of a 64-bit ELF file with sections */
  memcpy(to, elf, sizeof elf);
  to[40] = 64, to[58] = 64, to[60] = 4;
  return 512;
}

static void ignore(void *context, enum wslconfig_trouble trouble, int line, const char *word, const char *meant) {
  (void)context, (void)trouble, (void)line, (void)meant;
  CHECK(word);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static struct doctor_gpus gpus;
  static struct doctor_plugin plugin;
  static struct doctor_front front;
  struct doctor_nccl nccl;
  struct doctor_mount mount;
  struct wslconfig config;
  char path[64], version[16];
  uint64_t a, b;
  char *text = malloc(size + 1);
  CHECK(text);
  memcpy(text, data, size);
  text[size] = 0;
  doctor_compare_versions(text, "580.65.06");
  if (doctor_mount_of(text, "/dev/shm/x", &mount)) doctor_mount_size(mount.options);
  doctor_swap_bytes(text);
  doctor_meminfo(text, "MemTotal");
  doctor_memlock(text, &a);
  doctor_df(text, &a, &b);
  doctor_cached_library(text, "libcuda.so.1", path, sizeof path);
  doctor_nccl_version((const char *)data, size, &nccl); /* these three end at `size` */
  doctor_parse_gpus(text, &gpus);
  doctor_parse_plugin(text, &plugin);
  doctor_parse_front(text, &front);
  wslconfig_parse((const char *)data, size, &config, ignore, NULL);
  doctor_elf_glibc((const char *)data, size, version, sizeof version);
  free(text);
  return 0;
}
