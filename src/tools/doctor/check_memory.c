/* check_memory.c - swap, /dev/shm, locked memory. */
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "tools/doctor/doctor.h"

/* ---- swap -------------------------------------------------------------------------------------------------------- */

void doctor_check_swap(struct doctor *d) {
  const char *swaps = doctor_read_or_say(d, "memory.swap", "/proc/swaps", NULL);
  if (!swaps) return;
  const uint64_t bytes = doctor_swap_bytes(swaps);
  const bool node = doctor_exists(d, "/var/lib/kubelet") || doctor_exists(d, "/etc/kubernetes");
  if (!bytes)
    DOCTOR_SAY_OK(d, "memory.swap", "no swap, %s of memory",
                  doctor_bytes(d, doctor_meminfo(doctor_read(d, "/proc/meminfo", NULL), "MemTotal")));
  else if (node && !d->facts.container)
    doctor_add(d, (struct doctor_finding){DOCTOR_FAILURE, "memory.swap",
                                          doctor_text(d, "%s of swap, on a Kubernetes node", doctor_bytes(d, bytes)),
                                          "unless told otherwise the kubelet does not start while swap is on",
                                          d->facts.wsl2
                                              ? "in .wslconfig below [wsl2]: swap=0; then in Windows: wsl --shutdown"
                                              : "swapoff -a, and remove the swap lines of /etc/fstab"});
  else
    DOCTOR_SAY_OK(d, "memory.swap", "%s of swap; only a Kubernetes node must have none", doctor_bytes(d, bytes));
}

/* ---- /dev/shm ---------------------------------------------------------------------------------------------------- */

/*
 * What a tensor-parallel vLLM of ngpus ranks may put into /dev/shm at the same time:
 *   4 communicators x 64 MiB   shmccl's own limit for a communicator (SHMCCL_STAGING_BYTES); torch and pynccl each make
 *                              some for the world and for tensor parallelism
 *   ngpus x 8 channels x 10 MiB   NCCL's own shared memory, when it goes there: 9.2 MiB a channel were seen
 *                              (microsoft/WSL#12467), 8 channels is what tuned hosts use
 *   256 MiB                    vLLM's message queue: 10 chunks of 24 MiB
 * rounded up to whole GiB.
 */
uint64_t doctor_shm_needed(int ngpus) {
  const uint64_t mib = 1 << 20, gib = 1 << 30;
  const uint64_t sum = 4 * 64 * mib + (uint64_t)ngpus * 8 * 10 * mib + 256 * mib;
  return (sum + gib - 1) / gib * gib;
}

struct shm {
  uint64_t total, free_bytes;
  struct doctor_mount mount;
};

static bool measure(struct doctor *d, struct shm *s) {
  static const char *const argv[] = {"df", "-B1", "/dev/shm", NULL};
  struct statvfs v;
  const char *mounts = doctor_read_or_say(d, "shm.type", "/proc/mounts", NULL);
  if (!doctor_mount_of(mounts, "/dev/shm", &s->mount)) strcpy(s->mount.type, "unknown");
  if (d->recorded) {
    if (doctor_df(doctor_run(d, "df", 0, argv).text, &s->total, &s->free_bytes)) return true;
    s->total = s->free_bytes = doctor_mount_size(s->mount.options);
    return s->total > 0;
  }
  if (statvfs("/dev/shm", &v)) return false;
  s->total = (uint64_t)v.f_blocks * v.f_frsize;
  s->free_bytes = (uint64_t)v.f_bavail * v.f_frsize;
  return true;
}

static const char *how_to_enlarge(struct doctor *d, uint64_t bytes) {
  const unsigned gib = (unsigned)(bytes >> 30);
  if (d->facts.pod)
    return doctor_text(d,
                       "mount an emptyDir with medium: Memory and sizeLimit: %uGi on /dev/shm (deploy/k8s/vllm), and "
                       "count it in the memory limit",
                       gib);
  if (d->facts.container) return doctor_text(d, "docker run --shm-size=%ug, or --ipc=host", gib);
  return doctor_text(d, "as root: mount -o remount,size=%uG /dev/shm", gib);
}

static void check_size(struct doctor *d, const struct shm *s) {
  const int ngpus = d->facts.gpus.ngpus > 2 ? d->facts.gpus.ngpus : 2;
  const uint64_t needed = doctor_shm_needed(ngpus);
  const char *seen = doctor_text(d, "%s, %s free; a vLLM of %d ranks needs up to %s", doctor_bytes(d, s->total),
                                 doctor_bytes(d, s->free_bytes), ngpus, doctor_bytes(d, needed));
  const char *why =
      "NCCL and vLLM end with a bus error or 'Error while creating shared memory segment' when it is full; "
      "shmccl shrinks to what there is, and is slower";
  if (s->total < needed)
    doctor_add(d, (struct doctor_finding){s->total < (128 << 20) ? DOCTOR_FAILURE : DOCTOR_WARNING, "shm.size", seen,
                                          why, how_to_enlarge(d, needed)});
  else if (s->free_bytes < needed)
    doctor_add(d, (struct doctor_finding){DOCTOR_WARNING, "shm.size", seen, why,
                                          "remove what dead programs left there: ls -l /dev/shm"});
  else
    DOCTOR_SAY_OK(d, "shm.size", "%s", seen);
}

/* Who else puts files there: a folder of one pod or container holds only its own. */
static void check_sharing(struct doctor *d) {
  int files = 0, nccl = 0;
  for (char **name = doctor_list(d, "/dev/shm"); *name; name++) {
    files++;
    nccl += !strncmp(*name, "nccl-", 5) || !strncmp(*name, "shmccl", 6);
  }
  const char *with = d->facts.pod         ? "the containers of this pod that mount the same volume"
                     : d->facts.container ? "this container only, unless it was started with --ipc"
                                          : "everything on this machine outside of containers";
  DOCTOR_SAY_OK(d, "shm.shared", "shared by %s; %d files now, %d of them NCCL's or shmccl's", with, files, nccl);
}

void doctor_check_shm(struct doctor *d) {
  struct shm s = {.total = 0};
  if (!measure(d, &s)) {
    doctor_add(d, (struct doctor_finding){DOCTOR_FAILURE, "shm.type", "there is no /dev/shm",
                                          "shmccl, NCCL and vLLM put what ranks share there",
                                          how_to_enlarge(d, doctor_shm_needed(2))});
    return;
  }
  if (!strcmp(s.mount.type, "tmpfs"))
    DOCTOR_SAY_OK(d, "shm.type", "tmpfs");
  else
    doctor_add(d, (struct doctor_finding){
                      DOCTOR_WARNING, "shm.type", doctor_text(d, "/dev/shm is of type %s", s.mount.type),
                      "ranks would exchange tensors through a disk", how_to_enlarge(d, doctor_shm_needed(2))});
  check_size(d, &s);
  check_sharing(d);
}

/* ---- locked memory ----------------------------------------------------------------------------------------------- */

void doctor_check_memlock(struct doctor *d) {
  const uint64_t wanted = 256 << 20; /* what one job registers at most */
  uint64_t bytes;
  const char *limits = doctor_read_or_say(d, "memory.memlock", "/proc/self/limits", NULL);
  if (!limits || !doctor_memlock(limits, &bytes)) return;
  if (bytes == UINT64_MAX)
    DOCTOR_SAY_OK(d, "memory.memlock", "unlimited");
  else if (bytes >= wanted || d->facts.gpus.pinned_bytes >= wanted)
    DOCTOR_SAY_OK(d, "memory.memlock", "%s", doctor_bytes(d, bytes));
  else if (!d->facts.gpus.ngpus)
    DOCTOR_SAY_OK(d, "memory.memlock", "%s; without a GPU nothing is locked", doctor_bytes(d, bytes));
  else
    doctor_add(d, (struct doctor_finding){DOCTOR_WARNING, "memory.memlock",
                                          doctor_text(d, "at most %s may be locked", doctor_bytes(d, bytes)),
                                          "memory that GPUs reach is locked; some drivers count it against this limit",
                                          d->facts.container
                                              ? "docker run --ulimit memlock=-1; for pods: LimitMEMLOCK=infinity "
                                                "in containerd's systemd unit"
                                              : "ulimit -l unlimited, or 'memlock unlimited' in "
                                                "/etc/security/limits.conf"});
}
