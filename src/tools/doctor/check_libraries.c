/* check_libraries.c - the GPU's device nodes, which libcuda.so.1 programs get, and what FFmpeg needs beside it. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/doctor/doctor.h"

static const char wsl_folder[] = "/usr/lib/wsl/";

static void ask_loader(struct doctor *d) {
  static const char *const argv[] = {"sh", "-c", "PATH=$PATH:/sbin:/usr/sbin exec ldconfig -p", NULL};
  d->facts.cache = doctor_run(d, "ldconfig", 1000, argv).text;
}

/* ---- device nodes ------------------------------------------------------------------------------------------------ */

static bool may_use(const struct doctor *d, const char *path) { return d->recorded || !access(path, R_OK | W_OK); }

static void check_dxg(struct doctor *d) {
  if (!doctor_exists(d, "/dev/dxg"))
    doctor_add(d,
               (struct doctor_finding){
                   DOCTOR_FAILURE, "gpu.device", "WSL 2 without /dev/dxg", "it is the only way to the GPU here",
                   d->facts.pod ? "ask for nvidia.com/gpu in resources.limits, and set runtimeClassName: nvidia"
                   : d->facts.container
                       ? "docker run --gpus all, with the NVIDIA container toolkit set up (docs/wsl2.md, step 6)"
                       : "install NVIDIA's Windows driver, take gpuSupport=false out of .wslconfig; then in Windows: "
                         "wsl --update, wsl --shutdown"});
  else if (!may_use(d, "/dev/dxg"))
    doctor_add(d, (struct doctor_finding){DOCTOR_FAILURE, "gpu.device",
                                          doctor_text(d, "/dev/dxg cannot be opened by user %d", (int)geteuid()),
                                          "it is the only way to the GPU here", "ls -l /dev/dxg: it must be 0666"});
  else
    DOCTOR_SAY_OK(d, "gpu.device", "/dev/dxg");
}

/* A container may have been given any of the GPUs: /dev/nvidia2 alone is right. */
static int count_nvidia_nodes(struct doctor *d) {
  int count = 0;
  for (char **name = doctor_list(d, "/dev"); *name; name++)
    count += !strncmp(*name, "nvidia", 6) && isdigit((unsigned char)(*name)[6]);
  return count;
}

static void check_nvidia_nodes(struct doctor *d) {
  const int count = count_nvidia_nodes(d);
  if (count && doctor_exists(d, "/dev/nvidiactl"))
    DOCTOR_SAY_OK(d, "gpu.device", "/dev/nvidiactl and %d GPUs in /dev", count);
  else
    doctor_add(d, (struct doctor_finding){DOCTOR_WARNING, "gpu.device", "no GPU of NVIDIA in /dev",
                                          "without a GPU shmccl moves host memory only",
                                          d->facts.pod ? "ask for nvidia.com/gpu in resources.limits"
                                          : d->facts.container
                                              ? "docker run --gpus all"
                                              : "where there is a GPU: install NVIDIA's driver; nvidia-smi "
                                                "makes the device nodes"});
}

/* ---- libcuda ----------------------------------------------------------------------------------------------------- */

/* libcuda.so.580.65.06: a Linux driver's, or a compatibility package's; WSL's is libcuda.so.1.1. */
static bool is_linux_drivers(struct doctor *d, const char *path) {
  const char *target = doctor_link(d, path), *dot;
  const char *name = target ? target : path;
  return (dot = strstr(name, "libcuda.so.")) && isdigit((unsigned char)dot[11]) && isdigit((unsigned char)dot[12]);
}

static void check_libcuda(struct doctor *d) {
  const char *path = doctor_find_library(d, "libcuda.so.1");
  const bool wsl_has = doctor_exists(d, "/usr/lib/wsl/lib/libcuda.so.1");
  if (!path)
    doctor_add(d, (struct doctor_finding){
                      d->facts.wsl2 ? DOCTOR_FAILURE : DOCTOR_WARNING, "gpu.libcuda", "no libcuda.so.1 is found",
                      "CUDA programs see no GPU",
                      wsl_has ? "export LD_LIBRARY_PATH=/usr/lib/wsl/lib, or as root: echo /usr/lib/wsl/lib "
                                ">/etc/ld.so.conf.d/ld.wsl.conf && ldconfig"
                      : d->facts.container ? "start the container through the NVIDIA runtime (docs/wsl2.md, step 6)"
                      : d->facts.wsl2      ? "install NVIDIA's Windows driver: WSL mounts it on /usr/lib/wsl/lib"
                                           : "install NVIDIA's driver"});
  else if (d->facts.wsl2 && strncmp(path, wsl_folder, sizeof wsl_folder - 1) && is_linux_drivers(d, path))
    doctor_add(d, (struct doctor_finding){
                      DOCTOR_FAILURE, "gpu.libcuda", doctor_text(d, "%s wins, and belongs to a Linux driver", path),
                      "in WSL 2 only the Windows driver's libcuda.so.1, of /usr/lib/wsl, reaches the GPU",
                      strstr(path, "compat") ? "take the compat folder out of LD_LIBRARY_PATH and /etc/ld.so.conf.d"
                                             : "remove the Linux driver's packages: apt-get purge 'libcuda1*' "
                                               "'libnvidia-compute-*' 'nvidia-driver-*'"});
  else
    DOCTOR_SAY_OK(d, "gpu.libcuda", "%s", path);
}

static void check_wsl_folder(struct doctor *d) {
  static const char *const files[] = {"libcuda.so.1", "libdxcore.so", "libnvidia-ml.so.1"};
  char *missing = doctor_text(d, "%s", "");
  for (size_t i = 0; i < sizeof files / sizeof *files; i++)
    if (!doctor_exists(d, doctor_text(d, "/usr/lib/wsl/lib/%s", files[i])))
      missing = doctor_text(d, "%s %s", missing, files[i]);
  if (*missing)
    doctor_add(
        d, (struct doctor_finding){DOCTOR_FAILURE, "wsl.libraries", doctor_text(d, "/usr/lib/wsl/lib lacks%s", missing),
                                   "WSL mounts the Windows driver there; without it there is no GPU",
                                   "install or update NVIDIA's Windows driver; then in Windows: wsl --shutdown"});
  else
    DOCTOR_SAY_OK(d, "wsl.libraries", "/usr/lib/wsl/lib holds the Windows driver");
}

/* ---- FFmpeg ------------------------------------------------------------------------------------------------------ */

static void check_video(struct doctor *d) {
  static const char *const libraries[] = {"libnvcuvid.so.1", "libnvidia-encode.so.1"};
  char *missing = doctor_text(d, "%s", ""), *found = doctor_text(d, "%s", "");
  for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++) {
    const char *path = doctor_find_library(d, libraries[i]);
    if (path)
      found = doctor_text(d, "%s%s%s", found, *found ? ", " : "", path);
    else
      missing = doctor_text(d, "%s%s%s", missing, *missing ? ", " : "", libraries[i]);
  }
  if (*missing)
    doctor_add(
        d, (struct doctor_finding){
               DOCTOR_WARNING, "gpu.video", doctor_text(d, "not found: %s", missing),
               "FFmpeg decodes (NVDEC) and encodes (NVENC) through them; vLLM and shmccl do not need them",
               d->facts.wsl2 && d->facts.container
                   ? "mount them from the node's /usr/lib/wsl/lib (deploy/k8s/ffmpeg): the container toolkit leaves "
                     "them out on WSL 2"
               : d->facts.container ? "set NVIDIA_DRIVER_CAPABILITIES=compute,utility,video"
               : d->facts.wsl2      ? "update NVIDIA's Windows driver, and have /usr/lib/wsl/lib in the loader's path"
                                    : "install the driver's encode and decode packages (libnvidia-encode, "
                                      "libnvidia-decode)"});
  else
    DOCTOR_SAY_OK(d, "gpu.video", "%s", found);
}

void doctor_check_libraries(struct doctor *d) {
  ask_loader(d);
  if (d->facts.wsl2)
    check_dxg(d);
  else
    check_nvidia_nodes(d);
  if (d->facts.wsl2 && !d->facts.container) check_wsl_folder(d);
  if (!d->facts.wsl2 && !doctor_exists(d, "/dev/nvidiactl")) return; /* no GPU: nothing more to say of its libraries */
  check_libcuda(d);
  check_video(d);
}
