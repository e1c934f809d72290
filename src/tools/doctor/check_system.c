/* check_system.c - what kind of machine this is: later checks judge by it. */
#include <stdlib.h>
#include <string.h>

#include "tools/doctor/doctor.h"

/* The first kernel that NVIDIA's guide to CUDA on WSL 2 accepts. */
static const char wsl_kernel_least[] = "5.10.16.3";

static const char *first_line(struct doctor *d, const char *path) {
  char line[256] = "";
  const char *text = doctor_read(d, path, NULL);
  if (!text || !doctor_next_line(text, line, sizeof line)) return "unknown";
  return doctor_text(d, "%s", line);
}

static const char *distribution(struct doctor *d) {
  char line[256];
  const char *text = doctor_read(d, "/etc/os-release", NULL);
  while ((text = doctor_next_line(text, line, sizeof line)))
    if (!strncmp(line, "PRETTY_NAME=", 12)) {
      char *name = line + 12 + (line[12] == '"');
      name[strcspn(name, "\"")] = 0;
      return doctor_text(d, "%s", name);
    }
  return "unknown distribution";
}

static bool mentions(struct doctor *d, const char *path, const char *word) {
  const char *text = doctor_read(d, path, NULL);
  return text && strstr(text, word);
}

static bool in_container(struct doctor *d) {
  return doctor_exists(d, "/.dockerenv") || doctor_exists(d, "/run/.containerenv") ||
         mentions(d, "/proc/1/cgroup", "kubepods") || mentions(d, "/proc/1/cgroup", "docker") ||
         mentions(d, "/proc/1/cgroup", "containerd");
}

static bool in_pod(struct doctor *d) {
  return getenv("KUBERNETES_SERVICE_HOST") || doctor_exists(d, "/var/run/secrets/kubernetes.io");
}

/* wsl.exe writes UTF-16: ASCII with zeros between. */
static const char *wsl_package(struct doctor *d) {
  static const char *const argv[] = {"sh", "-c", "wsl.exe --version | tr -d '\\0\\r'", NULL};
  char line[256];
  if (d->facts.container) return NULL;
  const char *text = doctor_run(d, "wsl-version", 2000, argv).text;
  if (!doctor_next_line(text, line, sizeof line)) return NULL;
  const char *version = line + strcspn(line, "0123456789"); /* the words before it are in Windows' language */
  return *version ? doctor_text(d, "%s", version) : NULL;
}

static void check_wsl(struct doctor *d, const char *kernel) {
  const char *package = wsl_package(d);
  if (doctor_compare_versions(kernel, wsl_kernel_least) < 0)
    doctor_add(d, (struct doctor_finding){
                      DOCTOR_FAILURE, "system.wsl",
                      doctor_text(d, "the WSL 2 kernel is %s, older than %s", kernel, wsl_kernel_least),
                      "CUDA does not work on older WSL 2 kernels", "in Windows: wsl --update; then wsl --shutdown"});
  else if (package && doctor_compare_versions(package, "2.0.0") < 0)
    doctor_add(d, (struct doctor_finding){DOCTOR_WARNING, "system.wsl",
                                          doctor_text(d, "WSL is %s, kernel %s", package, kernel),
                                          "this way was written for WSL 2.6; older ones lack network settings it uses",
                                          "in Windows: wsl --update; then wsl --shutdown"});
  else
    DOCTOR_SAY_OK(d, "system.wsl", "WSL %s, kernel %s", package ? package : "2 (its package cannot be asked from here)",
                  kernel);
}

void doctor_check_system(struct doctor *d) {
  const char *kernel = first_line(d, "/proc/sys/kernel/osrelease");
  const bool microsoft = strcasestr(kernel, "microsoft") != NULL;
  const bool wsl1 = microsoft && strstr(kernel, "-Microsoft") && !strstr(kernel, "WSL2");
  d->facts.wsl2 = microsoft && !wsl1;
  d->facts.pod = in_pod(d);
  d->facts.container = d->facts.pod || in_container(d);
  const char *place = d->facts.pod ? "a pod" : d->facts.container ? "a container" : "no container";
  if (wsl1) {
    doctor_add(d, (struct doctor_finding){DOCTOR_FAILURE, "system.kind", doctor_text(d, "WSL 1, kernel %s", kernel),
                                          "WSL 1 has no GPU, and no /dev/shm between containers",
                                          "in Windows: wsl --set-version DISTRIBUTION 2 (wsl -l -v names it)"});
    return;
  }
  DOCTOR_SAY_OK(d, "system.kind", "%s, %s, in %s", d->facts.wsl2 ? "WSL 2" : doctor_text(d, "Linux %s", kernel),
                distribution(d), place);
  if (d->facts.wsl2) check_wsl(d, kernel);
}
