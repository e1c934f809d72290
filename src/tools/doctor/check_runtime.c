/* check_runtime.c - on a node: is the container runtime set up for NVIDIA, and does the cluster offer the GPUs? */
#include <stdlib.h>
#include <string.h>

#include "tools/doctor/doctor.h"

/* ---- container runtime ------------------------------------------------------------------------------------------- */

static const char why_runtime[] = "containers get the GPU only through NVIDIA's runtime";

static bool names_nvidia(struct doctor *d, const char *path, bool *is_default) {
  const char *text = doctor_read_or_say(d, "container.runtime", path, NULL);
  if (!text || !strstr(text, "nvidia-container-runtime")) return false;
  const char *set = strstr(text, "default_runtime_name");
  if (!set) set = strstr(text, "default-runtime");
  char line[256];
  if (set && doctor_next_line(set, line, sizeof line) && strstr(line, "nvidia")) *is_default = true;
  return true;
}

static void check_containerd(struct doctor *d) {
  const char *main_file = "/etc/containerd/config.toml", *found = NULL;
  bool is_default = false;
  if (names_nvidia(d, main_file, &is_default)) found = main_file;
  for (char **name = doctor_list(d, "/etc/containerd/conf.d"); *name; name++) {
    const char *path = doctor_text(d, "/etc/containerd/conf.d/%s", *name);
    if (names_nvidia(d, path, &is_default)) found = path;
  }
  const char *text = doctor_read(d, main_file, NULL);
  const bool imported = !found || found == main_file || (text && strstr(text, "conf.d"));
  const char *fix = "as root: nvidia-ctk runtime configure --runtime=containerd && systemctl restart containerd";
  if (!found)
    doctor_add(d, (struct doctor_finding){DOCTOR_FAILURE, "container.runtime",
                                          "containerd is here, and does not know nvidia-container-runtime", why_runtime,
                                          fix});
  else if (!imported)
    doctor_add(d, (struct doctor_finding){
                      DOCTOR_FAILURE, "container.runtime", doctor_text(d, "%s is not imported by %s", found, main_file),
                      why_runtime, "add imports = [\"/etc/containerd/conf.d/*.toml\"] to it, and restart containerd"});
  else
    DOCTOR_SAY_OK(d, "container.runtime", "containerd knows NVIDIA's runtime (%s)%s", found,
                  is_default ? ", as its default" : "; pods ask for it with runtimeClassName: nvidia");
}

static void check_docker(struct doctor *d) {
  bool is_default = false;
  if (names_nvidia(d, "/etc/docker/daemon.json", &is_default))
    DOCTOR_SAY_OK(d, "container.docker", "docker knows NVIDIA's runtime%s", is_default ? ", as its default" : "");
  else
    doctor_add(d,
               (struct doctor_finding){
                   DOCTOR_WARNING, "container.docker", "docker is here, and does not know nvidia-container-runtime",
                   why_runtime, "as root: nvidia-ctk runtime configure --runtime=docker && systemctl restart docker"});
}

static void check_toolkit(struct doctor *d) {
  static const char *const argv[] = {"nvidia-ctk", "--version", NULL};
  const struct doctor_answer a = doctor_run(d, "nvidia-ctk", 1500, argv);
  char line[256] = "";
  doctor_next_line(a.text, line, sizeof line);
  const char *version = line + strcspn(line, "0123456789");
  if (!a.answered || !*version)
    doctor_add(d, (struct doctor_finding){DOCTOR_FAILURE, "container.toolkit",
                                          "the NVIDIA container toolkit is not installed", why_runtime,
                                          "install nvidia-container-toolkit 1.18.1 (docs/wsl2.md, step 6)"});
  else if (doctor_compare_versions(version, "1.18") < 0)
    doctor_add(d, (struct doctor_finding){
                      DOCTOR_WARNING, "container.toolkit", doctor_text(d, "NVIDIA container toolkit %s", version),
                      "this way was written for 1.18", "apt-get install nvidia-container-toolkit=1.18.1-1"});
  else if (d->facts.wsl2 && doctor_compare_versions(version, "1.19.1") >= 0 &&
           doctor_compare_versions(version, "1.19.2") < 0)
    doctor_add(d,
               (struct doctor_finding){
                   DOCTOR_WARNING, "container.toolkit", doctor_text(d, "NVIDIA container toolkit %s on WSL 2", version),
                   "its CDI specification leaves libnvcuvid and libnvidia-encode out "
                   "(NVIDIA/nvidia-container-toolkit#1864): transcoding fails",
                   "mount both (deploy/k8s/ffmpeg), or apt-get install nvidia-container-toolkit=1.18.1-1"});
  else
    DOCTOR_SAY_OK(d, "container.toolkit", "NVIDIA container toolkit %s", version);
}

void doctor_check_runtime(struct doctor *d) {
  const bool containerd = doctor_exists(d, "/etc/containerd"), docker = doctor_exists(d, "/etc/docker");
  if (d->facts.container || (!containerd && !docker)) return;
  check_toolkit(d);
  if (containerd) check_containerd(d);
  if (docker) check_docker(d);
}

/* ---- Kubernetes -------------------------------------------------------------------------------------------------- */

static bool has_cluster(struct doctor *d) {
  const char *home = getenv("HOME");
  return getenv("KUBECONFIG") || doctor_exists(d, "/etc/kubernetes/admin.conf") ||
         (home && doctor_exists(d, doctor_text(d, "%s/.kube/config", home)));
}

/* Lines of "NODE GPUS"; no number where the node offers none. */
static void check_nodes(struct doctor *d, const char *nodes) {
  char line[512], name[256];
  int count, with = 0, offered = 0, without = 0;
  while ((nodes = doctor_next_line(nodes, line, sizeof line))) {
    count = 0;
    if (sscanf(line, "%255s %d", name, &count) < 1) continue;
    if (count > 0)
      with++, offered += count;
    else
      without++;
  }
  if (with)
    DOCTOR_SAY_OK(d, "kubernetes.gpus", "%d nodes offer %d nvidia.com/gpu together; %d offer none", with, offered,
                  without);
  else
    doctor_add(
        d, (struct doctor_finding){
               DOCTOR_FAILURE, "kubernetes.gpus", doctor_text(d, "none of %d nodes offers nvidia.com/gpu", without),
               "pods that ask for GPUs stay pending",
               "kubectl apply -k deploy/k8s/cluster (device plugin 0.17.1 with runtimeClassName: nvidia); its logs say "
               "what it found: kubectl -n kube-system logs ds/nvidia-device-plugin-daemonset"});
}

static void check_class(struct doctor *d) {
  static const char *const argv[] = {"kubectl", "--request-timeout=2s", "get", "runtimeclass", "nvidia",
                                     "-o",      "jsonpath={.handler}",  NULL};
  const struct doctor_answer a = doctor_run(d, "kubectl-runtimeclass", 2500, argv);
  if (a.answered && !strncmp(a.text, "nvidia", 6))
    DOCTOR_SAY_OK(d, "kubernetes.runtimeclass", "nvidia");
  else
    doctor_add(
        d, (struct doctor_finding){DOCTOR_WARNING, "kubernetes.runtimeclass", "there is no RuntimeClass nvidia",
                                   "deploy/k8s asks for it; without it pods run without NVIDIA's runtime, unless it is "
                                   "containerd's default",
                                   "kubectl apply -k deploy/k8s/cluster"});
}

void doctor_check_kubernetes(struct doctor *d) {
  static const char *const argv[] = {
      "kubectl",
      "--request-timeout=2s",
      "get",
      "nodes",
      "-o",
      "jsonpath={range .items[*]}{.metadata.name}{\" \"}{.status.allocatable.nvidia\\.com/gpu}{\"\\n\"}{end}",
      NULL};
  if (d->facts.container || !has_cluster(d)) return;
  const struct doctor_answer a = doctor_run(d, "kubectl-nodes", 2500, argv);
  if (!a.answered) {
    doctor_add(d, (struct doctor_finding){DOCTOR_WARNING, "kubernetes.gpus", "kubectl cannot ask the cluster",
                                          "whether it offers GPUs could not be checked",
                                          "kubectl get nodes must work for this user: see KUBECONFIG"});
    return;
  }
  check_nodes(d, a.text);
  check_class(d);
}
