/* check_front.c - does libshmccl-nccl.so load, and find the NCCL behind it? */
#include <stdlib.h>
#include <string.h>

#include "tools/doctor/doctor.h"

/* What LD_PRELOAD has of it; NULL: nothing. */
static const char *preloaded(struct doctor *d) {
  const char *list = getenv("LD_PRELOAD");
  for (size_t length; list && *list; list += length + (list[length] != 0)) {
    length = strcspn(list, ": ");
    const char *one = doctor_text(d, "%.*s", (int)length, list);
    if (doctor_is_front(one)) return one;
  }
  return NULL;
}

/* The file that programs here are told to use; NULL: none. */
static const char *wanted(struct doctor *d) {
  const char *by_vllm = getenv("VLLM_NCCL_SO_PATH");
  return doctor_is_front(by_vllm) ? by_vllm : preloaded(d);
}

static void say_problem(struct doctor *d, const struct doctor_front *f, bool is_wanted) {
  const bool loads = *f->path;
  doctor_add(
      d,
      (struct doctor_finding){
          is_wanted ? DOCTOR_FAILURE : DOCTOR_WARNING, "front.loads",
          doctor_text(d, "%s%s%s", f->path, loads ? ": " : "", *f->error ? f->error : "no answer"),
          is_wanted ? "programs here are told to call NCCL through it: every call fails, or they end at their start"
                    : "with it collectives go to shmccl before NCCL sees them",
          loads ? "as it says; or name NCCL's file: SHMCCL_NCCL_LIB=/path/libnccl.so.2"
                : "name the file, VLLM_NCCL_SO_PATH=/path/libshmccl-nccl.so, or unset it (in pods: deploy/k8s/vllm)"});
}

void doctor_check_front(struct doctor *d) {
  struct doctor_front f;
  const char *file = wanted(d);
  const struct doctor_front_question question = {file ? file : "", d->facts.nccl.path};
  const struct doctor_answer a = doctor_ask(d, "front", 3000, doctor_question_front, &question);
  doctor_parse_front(a.text, &f);
  if (!file && (!*f.path || !d->facts.nccl.version)) return; /* nobody asked for it, or nothing to put it before */
  if (a.timed_out)
    doctor_add(d, (struct doctor_finding){DOCTOR_FAILURE, "front.loads",
                                          "loading the front and NCCL did not end in time", "programs hang there too",
                                          "ls -l the files of nccl.version: a slow or dead disk?"});
  else if (!f.version)
    say_problem(d, &f, file);
  else
    DOCTOR_SAY_OK(d, "front.loads", "%s, before NCCL %d.%d.%d (%s)", f.path, f.version / 10000, f.version / 100 % 100,
                  f.version % 100, *f.real ? f.real : "of unknown place");
}
