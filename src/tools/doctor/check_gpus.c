/* check_gpus.c - drivers, GPUs, peer access, pinned memory: judged from the answers of question_gpus.c. */
#include <string.h>

#include "tools/doctor/doctor.h"

static bool gpu_expected(const struct doctor *d) {
  return doctor_exists(d, d->facts.wsl2 ? "/dev/dxg" : "/dev/nvidiactl");
}

static void check_presence(struct doctor *d, const struct doctor_answer *a) {
  const struct doctor_gpus *g = &d->facts.gpus;
  const char *trouble = doctor_text(d, "%s%s%s", *g->missing ? doctor_text(d, "not found: %s", g->missing) : "",
                                    g->errors, a->timed_out ? "the driver did not answer in time" : "");
  if (*trouble || !g->ngpus)
    doctor_add(d, (struct doctor_finding){
                      g->ngpus ? DOCTOR_WARNING : DOCTOR_FAILURE, "gpu.driver",
                      *trouble ? trouble : "the driver sees no GPU", "programs here will not see all of it either",
                      d->facts.wsl2
                          ? "see gpu.device and gpu.libcuda; then update NVIDIA's Windows driver, and in Windows: "
                            "wsl --shutdown"
                          : "see gpu.device and gpu.libcuda; nvidia-smi must work here first"});
  if (!g->ngpus) return;
  DOCTOR_SAY_OK(d, "gpu.count", "%d: %s, %s each", g->ngpus, g->gpu[0].name, doctor_bytes(d, g->gpu[0].memory_bytes));
}

static void check_model(struct doctor *d) {
  const struct doctor_gpus *g = &d->facts.gpus;
  int tcc = 0, unknown = 0;
  for (int i = 0; i < g->ngpus; i++) tcc += g->gpu[i].model == DOCTOR_MODEL_TCC, unknown += g->gpu[i].model == 0;
  if (!d->facts.wsl2 || !g->ngpus) return;
  if (tcc)
    doctor_add(d, (struct doctor_finding){
                      DOCTOR_FAILURE, "gpu.model", doctor_text(d, "%d GPUs are in TCC mode", tcc),
                      "WSL 2 reaches GPUs in WDDM mode only",
                      "in Windows as administrator: nvidia-smi -i INDEX -dm 0, then restart. L20: switch the "
                      "display mode first (docs/wsl2.md, step 1)"});
  else if (unknown)
    DOCTOR_SAY_OK(d, "gpu.model",
                  "cannot be told from here; a GPU that WSL 2 sees is in WDDM mode (in Windows: nvidia-smi -q)");
  else
    DOCTOR_SAY_OK(d, "gpu.model", "WDDM");
}

static void check_peers(struct doctor *d) {
  const struct doctor_gpus *g = &d->facts.gpus;
  if (!g->peers_asked) return;
  if (!g->peers_possible)
    DOCTOR_SAY_OK(d, "gpu.peers", "no GPU reaches another: shmccl is made for this");
  else
    DOCTOR_SAY_OK(d, "gpu.peers", "%d of %d pairs reach each other: where all do, NCCL alone is faster than shmccl",
                  g->peers_possible, g->peers_asked);
}

static void check_pinned(struct doctor *d) {
  const struct doctor_gpus *g = &d->facts.gpus;
  if (!g->pinned_asked) return;
  const char *limit = g->pinned_error_bytes ? doctor_text(d, "; %s were refused with CUDA error %d",
                                                          doctor_bytes(d, g->pinned_error_bytes), g->pinned_error)
                                            : "";
  const char *seen = doctor_text(d, "%s could be registered%s", doctor_bytes(d, g->pinned_bytes), limit);
  if (g->pinned_bytes >= (256 << 20))
    DOCTOR_SAY_OK(d, "gpu.pinned", "%s", seen);
  else
    doctor_add(d, (struct doctor_finding){
                      g->pinned_bytes >= (64 << 20) ? DOCTOR_WARNING : DOCTOR_FAILURE, "gpu.pinned", seen,
                      "staging that GPUs reach is registered, up to 256 MiB a job; with less it shrinks and is slower",
                      d->facts.wsl2
                          ? "end other CUDA programs; give the VM more memory (.wslconfig, memory=): WSL 2 lets a part "
                            "of it be pinned only; set SHMCCL_STAGING_BYTES to less"
                          : "ulimit -l unlimited; end other CUDA programs; set SHMCCL_STAGING_BYTES to less"});
}

void doctor_check_gpus(struct doctor *d) {
  struct doctor_answer a = doctor_ask(d, "gpus", 4000, doctor_question_gpus, NULL);
  doctor_parse_gpus(a.text, &d->facts.gpus);
  if (!gpu_expected(d) && !d->facts.gpus.ngpus && !*d->facts.gpus.errors && !a.timed_out)
    return; /* gpu.device has said so */
  check_presence(d, &a);
  check_model(d);
  check_peers(d);
  check_pinned(d);
}
