/* questions.c - a child that answers on a pipe, and is killed with all it has started when its time is over. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "tools/doctor/doctor.h"

enum { ANSWER_MOST = 1 << 18 };

struct question {
  doctor_question_fn fn;
  const void *context;
  const char *const *argv; /* instead of fn */
};

static struct doctor_answer recorded_answer(struct doctor *d, const char *name) {
  char *text = doctor_read(d, doctor_text(d, "/answers/%s", name), NULL);
  return (struct doctor_answer){text ? text : doctor_text(d, "%s", ""), text != NULL, false};
}

static _Noreturn void answer(const struct question *q, int out) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (nowhere >= 0) dup2(nowhere, STDIN_FILENO), dup2(nowhere, STDERR_FILENO);
  dup2(out, STDOUT_FILENO);
  if (q->argv) execvp(q->argv[0], (char *const *)(uintptr_t)q->argv);
  if (!q->fn) _exit(127);
  FILE *stream = fdopen(out, "w");
  if (!stream) _exit(1);
  setvbuf(stream, NULL, _IOLBF, 0); /* what was found before a crash is told */
  q->fn(stream, q->context);
  fflush(stream);
  _exit(0);
}

/* Reads until the end or the deadline; false at the deadline. */
static bool collect(int in, uint64_t deadline_ns, char *text, size_t *length) {
  for (;;) {
    const uint64_t now = shmi_now_ns();
    if (now >= deadline_ns) return false;
    struct pollfd p = {.fd = in, .events = POLLIN};
    const int ready = poll(&p, 1, (int)((deadline_ns - now) / 1000000) + 1);
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return false;
    const ssize_t more = read(in, text + *length, ANSWER_MOST - *length);
    if (more <= 0 || (*length += (size_t)more) == ANSWER_MOST) return true;
  }
}

static bool ended(pid_t child, uint64_t deadline_ns, int *status) {
  const struct timespec pause = {0, 1000000};
  while (waitpid(child, status, WNOHANG) == 0) {
    if (shmi_now_ns() >= deadline_ns) return false;
    nanosleep(&pause, NULL);
  }
  return true;
}

static struct doctor_answer ask(struct doctor *d, unsigned limit_ms, const struct question *q) {
  struct doctor_answer a = {doctor_text(d, "%s", ""), false, false};
  uint64_t deadline_ns = shmi_now_ns() + (uint64_t)limit_ms * 1000000;
  int ends[2], status = -1;
  size_t length = 0;
  if (deadline_ns > d->deadline_ns) deadline_ns = d->deadline_ns;
  if (pipe2(ends, O_CLOEXEC)) return a;
  fflush(NULL);
  const pid_t child = fork();
  if (child == 0) answer(q, ends[1]);
  close(ends[1]);
  if (child > 0) {
    char *text = malloc(ANSWER_MOST);
    setpgid(child, child); /* whoever comes first */
    if (text && collect(ends[0], deadline_ns, text, &length)) a.answered = ended(child, deadline_ns, &status);
    a.timed_out = !a.answered;
    kill(-child, SIGKILL);
    if (!a.answered) waitpid(child, NULL, WNOHANG); /* one that cannot be killed is not waited for */
    if (text) a.text = doctor_text(d, "%.*s", (int)length, text);
    free(text);
  }
  close(ends[0]);
  a.answered = a.answered && status == 0;
  return a;
}

struct doctor_answer doctor_run(struct doctor *d, const char *name, unsigned limit_ms, const char *const *argv) {
  if (d->recorded) return recorded_answer(d, name);
  return ask(d, limit_ms, &(struct question){.argv = argv});
}

struct doctor_answer doctor_ask(struct doctor *d, const char *name, unsigned limit_ms, doctor_question_fn fn,
                                const void *context) {
  if (d->recorded) return recorded_answer(d, name);
  return ask(d, limit_ms, &(struct question){.fn = fn, .context = context});
}
