/* check_plugin.c - does libnccl-net-shmccl.so load, and does this NCCL find a table in it that it knows? */
#include <stdlib.h>
#include <string.h>

#include "tools/doctor/doctor.h"

static bool wanted(void) {
  const char *plugin = getenv("NCCL_NET_PLUGIN"), *net = getenv("NCCL_NET");
  return (plugin && strstr(plugin, "shmccl")) || (net && !strcasecmp(net, "shmccl"));
}

static void check_nccl_loads(struct doctor *d, const struct doctor_plugin *p) {
  if (*p->nccl_error)
    doctor_add(d, (struct doctor_finding){DOCTOR_FAILURE, "nccl.loads", doctor_text(d, "%s", p->nccl_error),
                                          "PyTorch and vLLM cannot load it either",
                                          "install it again, or what it misses"});
}

static void say_missing(struct doctor *d, const struct doctor_plugin *p) {
  const enum doctor_status status = wanted() ? DOCTOR_FAILURE : DOCTOR_WARNING;
  const char *why = wanted() ? "NCCL was told to use it; without it NCCL goes on with sockets or fails"
                             : "with it NCCL exchanges through shmccl; without it NCCL uses its own shared memory";
  if (*p->beside)
    doctor_add(d, (struct doctor_finding){status, "plugin.loads",
                                          doctor_text(d, "the plugin is at %s, where NCCL does not look", p->beside),
                                          why, doctor_text(d, "set NCCL_NET_PLUGIN=%s", p->beside)});
  else if (*p->needs && doctor_compare_versions(p->needs, p->glibc) > 0)
    doctor_add(d, (struct doctor_finding){status, "plugin.loads",
                                          doctor_text(d, "the plugin needs glibc %s, here is %s", p->needs, p->glibc),
                                          why, "take the package built for glibc 2.35"});
  else
    doctor_add(d, (struct doctor_finding){status, "plugin.loads",
                                          doctor_text(d, "%s", *p->error ? p->error : "not found"), why,
                                          "install libshmccl0, or name the file: "
                                          "NCCL_NET_PLUGIN=/path/libnccl-net-shmccl.so (in pods: deploy/k8s/vllm)"});
}

static bool has_table(const struct doctor_plugin *p, int version) {
  char name[32];
  snprintf(name, sizeof name, "ncclNetPlugin_v%d", version);
  for (int i = 0; i < p->ntables; i++)
    if (!strcmp(p->table[i], name)) return true;
  return false;
}

static void check_tables(struct doctor *d, const struct doctor_plugin *p, int nccl) {
  int oldest, newest;
  doctor_net_tables(nccl, &oldest, &newest);
  for (int version = newest; version >= oldest; version--)
    if (has_table(p, version)) {
      DOCTOR_SAY_OK(d, "plugin.loads", "%s; NCCL %d.%d.%d takes its ncclNetPlugin_v%d", p->path, nccl / 10000,
                    nccl / 100 % 100, nccl % 100, version);
      return;
    }
  doctor_add(d, (struct doctor_finding){
                    DOCTOR_FAILURE, "plugin.loads",
                    doctor_text(d, "%s has none of ncclNetPlugin_v%d to v%d", p->path, oldest, newest),
                    "this NCCL passes over it, and uses sockets",
                    "install the plugin of this release of shmccl: another file of that name is found first"});
}

void doctor_check_plugin(struct doctor *d) {
  static struct doctor_plugin p;
  const struct doctor_answer a = doctor_ask(d, "plugin", 3000, doctor_question_plugin, d->facts.nccl.path);
  const int nccl = d->facts.nccl.version;
  doctor_parse_plugin(a.text, &p);
  if (!nccl && !wanted()) return; /* a node without NCCL needs no plugin */
  check_nccl_loads(d, &p);
  if (a.timed_out)
    doctor_add(d, (struct doctor_finding){DOCTOR_FAILURE, "plugin.loads",
                                          "loading NCCL and the plugin did not end in time", "programs hang there too",
                                          "ls -l the files of nccl.version: a slow or dead disk?"});
  else if (!*p.path)
    say_missing(d, &p);
  else if (nccl)
    check_tables(d, &p, nccl);
  else
    DOCTOR_SAY_OK(d, "plugin.loads", "%s; no NCCL here to try it with", p.path);
}
