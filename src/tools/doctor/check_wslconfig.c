/* check_wslconfig.c - the .wslconfig of the Windows user, where WSL mounts its drive. */
#include <string.h>
#include <strings.h>

#include "tools/doctor/doctor.h"
#include "tools/doctor/wslconfig.h"

static const char id[] = "wsl.config";

struct file {
  struct doctor *d;
  const char *path;
};

static void add(struct file *f, enum doctor_status status, const char *seen, const char *why, const char *fix) {
  doctor_add(f->d, (struct doctor_finding){status, id, seen, why,
                                           doctor_text(f->d, "%s; then in Windows: wsl --shutdown", fix)});
}

static void say_trouble(void *context, enum wslconfig_trouble trouble, int line, const char *word, const char *meant) {
  struct file *f = context;
  struct doctor *d = f->d;
  const char *at = doctor_text(d, "%s line %d", f->path, line);
  switch (trouble) {
  case WSLCONFIG_SECTION_UNKNOWN:
    return add(f, DOCTOR_FAILURE, doctor_text(d, "%s: [%s] is no section that WSL knows", at, word),
               "WSL passes over everything in it without a word: none of its settings is in force",
               meant ? doctor_text(d, "write [%s]%s", meant,
                                   strcmp(word, "ws12") ? "" : " (with the letter l, not the digit 1)")
                     : "write [wsl2], [general] or [experimental]");
  case WSLCONFIG_KEY_UNKNOWN:
    return add(f, meant ? DOCTOR_FAILURE : DOCTOR_WARNING,
               doctor_text(d, "%s: %s is no key that WSL 2.6 knows", at, word),
               "WSL passes over it: it is not in force",
               meant ? doctor_text(d, "write %s", meant) : "remove it, or look it up in WSL's documentation");
  case WSLCONFIG_KEY_ELSEWHERE:
    return add(f, DOCTOR_FAILURE, doctor_text(d, "%s: %s stands in the wrong section", at, word),
               "WSL passes over it: it is not in force", doctor_text(d, "move it below [%s]", meant));
  case WSLCONFIG_NO_SECTION:
    return add(f, DOCTOR_FAILURE, doctor_text(d, "%s: %s stands before the first section", at, word),
               "WSL passes over it: it is not in force", doctor_text(d, "write [%s] above it", meant ? meant : "wsl2"));
  case WSLCONFIG_NO_EQUALS:
    return add(f, DOCTOR_FAILURE, doctor_text(d, "%s: '%s' has no '='", at, word), "WSL passes over the line",
               meant ? doctor_text(d, "write %s", meant) : "write key=value");
  case WSLCONFIG_TWICE:
    return add(f, DOCTOR_WARNING, doctor_text(d, "%s: %s was set before", at, word), "WSL takes the first one",
               "remove one of the two");
  case WSLCONFIG_BAD_VALUE:
    return add(f, DOCTOR_FAILURE, doctor_text(d, "%s: %s", at, word),
               "WSL does not understand the value, and ignores it", doctor_text(d, "give it %s", meant));
  }
}

static void check_network(struct file *f, const struct wslconfig *c) {
  struct doctor *d = f->d;
  const bool bridged = !strcasecmp(c->networking_mode, "bridged");
  if (bridged && !*c->vm_switch)
    add(f, DOCTOR_FAILURE, doctor_text(d, "%s: networkingMode=bridged without vmSwitch", f->path),
        "WSL does not know which Hyper-V switch to join, and starts without a network",
        "add vmSwitch=NAME, the name of the external switch in Hyper-V's Virtual Switch Manager");
  else if (bridged)
    DOCTOR_SAY_OK(d, "wsl.network", "bridged to the Hyper-V switch %s, address %s", c->vm_switch,
                  !strcasecmp(c->dhcp, "false") || !strcmp(c->dhcp, "0") ? "set inside Linux (dhcp=false)" : "by DHCP");
  else
    doctor_add(
        d, (struct doctor_finding){
               DOCTOR_WARNING, "wsl.network",
               doctor_text(d, "networkingMode is %s", *c->networking_mode ? c->networking_mode : "not set: NAT"),
               "nodes of one Kubernetes cluster must reach each other on one network; behind NAT, or mirrored, this "
               "one cannot be reached as they do. A cluster of this machine alone does not need it",
               "in .wslconfig below [wsl2]: networkingMode=bridged and vmSwitch=NAME of an external Hyper-V "
               "switch; then in Windows: wsl --shutdown"});
}

static void check_file(struct doctor *d, const char *path) {
  size_t length;
  struct wslconfig c;
  struct file f = {d, path};
  const int before = d->counts[DOCTOR_WARNING] + d->counts[DOCTOR_FAILURE];
  const char *bytes = doctor_read_or_say(d, id, path, &length);
  if (!bytes) return;
  wslconfig_parse(bytes, length, &c, say_trouble, &f);
  if (!strcasecmp(c.gpu_support, "false") || !strcmp(c.gpu_support, "0"))
    add(&f, DOCTOR_FAILURE, doctor_text(d, "%s: gpuSupport=%s", path, c.gpu_support), "WSL shows Linux no GPU",
        "remove the line");
  if (d->counts[DOCTOR_WARNING] + d->counts[DOCTOR_FAILURE] == before)
    DOCTOR_SAY_OK(d, id, "%s: %d settings, all understood", path, c.settings);
  check_network(&f, &c);
  if (!wslconfig_is_zero(c.swap))
    add(&f, DOCTOR_WARNING,
        doctor_text(d, "%s: swap is %s", path, *c.swap ? c.swap : "not set: a quarter of the memory"),
        "the kubelet does not start on a node with swap", "below [wsl2]: swap=0");
}

/* Where WSL mounts Windows' drives: "root" in [automount] of /etc/wsl.conf, or /mnt/. */
static const char *drives(struct doctor *d) {
  char line[512], root[256];
  const char *text = doctor_read(d, "/etc/wsl.conf", NULL);
  while ((text = doctor_next_line(text, line, sizeof line)))
    if (sscanf(line, " root = %255[^# \t]", root) == 1)
      return doctor_text(d, "%s%s", root, root[strlen(root) - 1] == '/' ? "" : "/");
  return "/mnt/";
}

void doctor_check_wslconfig(struct doctor *d) {
  int files = 0;
  if (!d->facts.wsl2 || d->facts.container) return; /* Windows' drives are not mounted into containers */
  const char *users = doctor_text(d, "%sc/Users", drives(d));
  for (char **user = doctor_list(d, users); *user; user++) {
    const char *path = doctor_text(d, "%s/%s/.wslconfig", users, *user);
    if (!doctor_exists(d, path)) continue;
    check_file(d, path);
    files++;
  }
  if (!files)
    doctor_add(d,
               (struct doctor_finding){DOCTOR_WARNING, id, doctor_text(d, "no .wslconfig below %s", users),
                                       "WSL's defaults are in force: swap on, NAT, half of the memory",
                                       "write C:\\Users\\YOU\\.wslconfig (docs/wsl2.md, step 3); then in Windows: wsl "
                                       "--shutdown. If drives are not mounted, this check cannot see it"});
}
