/* check_versions.c - which NCCL programs get, and whether driver, CUDA runtime and NCCL fit each other. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/doctor/doctor.h"

/* ---- NCCL -------------------------------------------------------------------------------------------------------- */

/* Below LIB: python3.12/site-packages/nvidia/nccl/lib, as the wheels that PyTorch depends on install it. */
static char *in_python(struct doctor *d, const char *lib) {
  static const char *const places[] = {"site-packages", "dist-packages"};
  for (char **name = doctor_list(d, lib); *name; name++) {
    if (strncmp(*name, "python3", 7)) continue;
    for (int i = 0; i < 2; i++) {
      char *path = doctor_text(d, "%s/%s/%s/nvidia/nccl/lib/libnccl.so.2", lib, *name, places[i]);
      if (doctor_exists(d, path)) return path;
    }
  }
  return NULL;
}

static char *find_nccl(struct doctor *d) {
  const char *named = getenv("VLLM_NCCL_SO_PATH"), *environment = getenv("VIRTUAL_ENV");
  char *path = NULL;
  if (doctor_is_front(named)) named = getenv("SHMCCL_NCCL_LIB"); /* it finds what is found here, too */
  if (named && *named && doctor_exists(d, named)) return doctor_text(d, "%s", named);
  if (environment && *environment) path = in_python(d, doctor_text(d, "%s/lib", environment));
  if (!path) path = in_python(d, "/usr/local/lib");
  if (!path) path = in_python(d, "/opt/venv/lib");
  if (!path) path = doctor_find_library(d, "libnccl.so.2");
  return path ? path : in_python(d, "/usr/lib");
}

static void read_version(struct doctor *d, struct doctor_nccl *nccl) {
  struct stat st;
  const int fd = doctor_open(d, nccl->path, O_RDONLY);
  if (fd < 0) return;
  if (!fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_size > 0) {
    const size_t length = (size_t)st.st_size;
    void *bytes = mmap(NULL, length, PROT_READ, MAP_PRIVATE, fd, 0);
    if (bytes != MAP_FAILED) {
      doctor_nccl_version(bytes, length, nccl);
      munmap(bytes, length);
    }
  }
  close(fd);
}

static const char *version_text(struct doctor *d, int version) {
  return doctor_text(d, "%d.%d.%d", version / 10000, version / 100 % 100, version % 100);
}

void doctor_check_nccl(struct doctor *d) {
  struct doctor_nccl *nccl = &d->facts.nccl;
  const char *path = find_nccl(d);
  if (!path) {
    if (d->facts.container)
      doctor_add(d, (struct doctor_finding){
                        DOCTOR_WARNING, "nccl.version", "no libnccl.so.2 is found",
                        "the plugin is loaded by NCCL; PyTorch brings its own",
                        "use an image with PyTorch or NCCL (vllm/vllm-openai, or CUDA's runtime image); if "
                        "it lies elsewhere, name it: VLLM_NCCL_SO_PATH=/path/libnccl.so.2"});
    return;
  }
  snprintf(nccl->path, sizeof nccl->path, "%s", path);
  read_version(d, nccl);
  if (!nccl->version)
    doctor_add(d, (struct doctor_finding){DOCTOR_WARNING, "nccl.version", doctor_text(d, "%s names no version", path),
                                          "whether the plugin fits it could not be checked",
                                          "install a release of NCCL again"});
  else if (nccl->version < 22000)
    doctor_add(d, (struct doctor_finding){DOCTOR_FAILURE, "nccl.version",
                                          doctor_text(d, "NCCL %s (%s)", version_text(d, nccl->version), path),
                                          "the plugin speaks to NCCL 2.20 and newer",
                                          "update PyTorch, or nvidia-nccl-cu12"});
  else if (nccl->version >= 23100)
    doctor_add(d, (struct doctor_finding){DOCTOR_WARNING, "nccl.version",
                                          doctor_text(d, "NCCL %s (%s)", version_text(d, nccl->version), path),
                                          "the plugin was written against NCCL 2.20 to 2.30",
                                          "compare plugin.loads below"});
  else
    DOCTOR_SAY_OK(d, "nccl.version", "NCCL %s%s (%s)", version_text(d, nccl->version),
                  nccl->cuda_major ? doctor_text(d, " for CUDA %d", nccl->cuda_major) : "", path);
}

/* ---- together ---------------------------------------------------------------------------------------------------- */

/* 13000 for CUDA 13.0: of the toolkit in /usr/local/cuda, else the newest runtime that the loader finds. */
static int runtime_version(struct doctor *d) {
  const char *text = doctor_read(d, "/usr/local/cuda/version.json", NULL);
  int major, minor;
  text = text ? strstr(text, "\"cuda\"") : NULL;
  text = text ? strstr(text, "\"version\"") : NULL;
  if (text && sscanf(text, "\"version\" : \"%d.%d", &major, &minor) == 2) return major * 1000 + minor * 10;
  for (major = 19; major >= 11; major--)
    if (doctor_find_library(d, doctor_text(d, "libcudart.so.%d", major))) return major * 1000;
  return 0;
}

static void check_fit(struct doctor *d, const char *what, int version) {
  const int driver = d->facts.gpus.cuda_driver;
  if (!version) return;
  if (version / 1000 > driver / 1000)
    doctor_add(
        d, (struct doctor_finding){
               DOCTOR_FAILURE, "cuda.fit",
               doctor_text(d, "%s is for CUDA %d, the driver (%s) for %d.%d", what, version / 1000,
                           d->facts.gpus.driver, driver / 1000, driver % 1000 / 10),
               "a driver runs its own major version of CUDA and older ones",
               d->facts.wsl2
                   ? "update NVIDIA's Windows driver (CUDA 13 needs 580 or newer), or take images for the older CUDA"
                   : "update the driver (CUDA 13 needs 580 or newer), or take images for the older CUDA"});
  else if (version > driver && version % 1000)
    doctor_add(d, (struct doctor_finding){
                      DOCTOR_WARNING, "cuda.fit",
                      doctor_text(d, "%s is for CUDA %d.%d, the driver for %d.%d", what, version / 1000,
                                  version % 1000 / 10, driver / 1000, driver % 1000 / 10),
                      "that works within a major version, except for code that the driver must compile (PTX)",
                      "update the driver if kernels fail to load"});
  else
    DOCTOR_SAY_OK(d, "cuda.fit", "driver %s for CUDA %d.%d, %s for CUDA %d",
                  *d->facts.gpus.driver ? d->facts.gpus.driver : "(unknown)", driver / 1000, driver % 1000 / 10, what,
                  version / 1000);
}

void doctor_check_versions(struct doctor *d) {
  if (!d->facts.gpus.cuda_driver) return;
  check_fit(d, "the CUDA runtime", runtime_version(d));
  check_fit(d, "NCCL", d->facts.nccl.cuda_major * 1000);
}
