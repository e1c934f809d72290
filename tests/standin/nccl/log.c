/* log.c - see log.h. */
#include "log.h"

#include <dirent.h>
#include <regex.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "harness.h"

static char folder[512];

void log_begin(void) {
  char pattern[sizeof folder + 16];
  const char *parent = getenv("TMPDIR");
  CHECK((size_t)snprintf(folder, sizeof folder, "%s/nccl-log-XXXXXX", parent ? parent : "/tmp") < sizeof folder);
  CHECK_TEXT(mkdtemp(folder), "cannot make %s", folder);
  snprintf(pattern, sizeof pattern, "%s/%%p", folder);
  setenv("NCCL_DEBUG", "INFO", 1);
  setenv("NCCL_DEBUG_SUBSYS", "INIT,ENV,NET,TUNING", 1);
  setenv("NCCL_DEBUG_FILE", pattern, 1);
  printf("NCCL's log, until the test has passed: %s\n", folder);
  fflush(stdout);
}

static char *read_file(const char *path) {
  FILE *file = fopen(path, "r");
  char *text = NULL;
  size_t capacity = 0;
  CHECK(file);
  if (getdelim(&text, &capacity, '\0', file) < 0) text = strdup("");
  fclose(file);
  CHECK(text);
  return text;
}

/* Every line that tells of a connection says " via " and the transport. */
static void check_transports(const char *log, const char *net) {
  char own[64], collective[64], chosen[64];
  snprintf(own, sizeof own, "NET/%s/", net);
  snprintf(collective, sizeof collective, "COLLNET/%s/", net);
  snprintf(chosen, sizeof chosen, "Using network %s\n", net);
  for (const char *at = log; (at = strstr(at, " via "));) {
    at += strlen(" via ");
    CHECK_TEXT(!strncmp(at, own, strlen(own)) || !strncmp(at, collective, strlen(collective)),
               "a connection goes via %.*s, not via %s", (int)strcspn(at, " \n"), at, own);
  }
  CHECK_TEXT(strstr(log, chosen), "a process does not use the network %s", net);
}

static bool matches(const char *log, const char *pattern) {
  regex_t compiled;
  CHECK_TEXT(!regcomp(&compiled, pattern, REG_EXTENDED | REG_NOSUB | REG_NEWLINE), "not a pattern: %s", pattern);
  const bool found = !regexec(&compiled, log, 0, NULL, 0);
  regfree(&compiled);
  return found;
}

void log_check(const char *net, const char *const *patterns, int npatterns) {
  DIR *d = opendir(folder);
  unsigned seen = 0;
  int logs = 0;
  CHECK(d);
  for (struct dirent *e; (e = readdir(d));) {
    char path[sizeof folder + sizeof e->d_name + 1];
    if (*e->d_name == '.') continue;
    snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
    char *log = read_file(path);
    check_transports(log, net);
    for (int i = 0; i < npatterns; i++) seen |= (unsigned)matches(log, patterns[i]) << i;
    free(log);
    logs++;
  }
  CHECK(logs);
  for (int i = 0; i < npatterns; i++) CHECK_TEXT(seen >> i & 1, "no line matches \"%s\"", patterns[i]);
  rewinddir(d);
  for (struct dirent *e; (e = readdir(d));) unlinkat(dirfd(d), e->d_name, 0);
  closedir(d);
  rmdir(folder);
}
