/* wslconfig.c - one pass over the lines; the tables of sections and keys are WSL 2.6's. */
#include "tools/doctor/wslconfig.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/spelling.h"
#include "tools/doctor/parse.h"

enum kind { TEXT, TRUTH, NUMBER, SIZE, MODE };

struct key {
  const char *section, *name;
  enum kind kind;
  size_t offset, bytes; /* in struct wslconfig; 0 bytes: only checked */
};
#define FIELD(member) offsetof(struct wslconfig, member), sizeof((struct wslconfig *)0)->member

static const struct key keys[] = {
    {"wsl2", "networkingMode", MODE, FIELD(networking_mode)},
    {"wsl2", "vmSwitch", TEXT, FIELD(vm_switch)},
    {"wsl2", "dhcp", TRUTH, FIELD(dhcp)},
    {"wsl2", "swap", SIZE, FIELD(swap)},
    {"wsl2", "memory", SIZE, FIELD(memory)},
    {"wsl2", "gpuSupport", TRUTH, FIELD(gpu_support)},
    {"wsl2", "kernel", TEXT, 0, 0},
    {"wsl2", "kernelCommandLine", TEXT, 0, 0},
    {"wsl2", "kernelModules", TEXT, 0, 0},
    {"wsl2", "processors", NUMBER, 0, 0},
    {"wsl2", "debugConsole", TRUTH, 0, 0},
    {"wsl2", "debugConsoleLogFile", TEXT, 0, 0},
    {"wsl2", "earlyBootLogging", TRUTH, 0, 0},
    {"wsl2", "swapFile", TEXT, 0, 0},
    {"wsl2", "localhostForwarding", TRUTH, 0, 0},
    {"wsl2", "nestedVirtualization", TRUTH, 0, 0},
    {"wsl2", "virtio", TRUTH, 0, 0},
    {"wsl2", "virtio9p", TRUTH, 0, 0},
    {"wsl2", "virtiofs", TRUTH, 0, 0},
    {"wsl2", "kernelDebugPort", NUMBER, 0, 0},
    {"wsl2", "guiApplications", TRUTH, 0, 0},
    {"wsl2", "systemDistro", TEXT, 0, 0},
    {"wsl2", "telemetry", TRUTH, 0, 0},
    {"wsl2", "vmIdleTimeout", NUMBER, 0, 0},
    {"wsl2", "kernelBootTimeout", NUMBER, 0, 0},
    {"wsl2", "distributionStartTimeout", NUMBER, 0, 0},
    {"wsl2", "mountDeviceTimeout", NUMBER, 0, 0},
    {"wsl2", "hostFileSystemAccess", TRUTH, 0, 0},
    {"wsl2", "hardwarePerformanceCounters", TRUTH, 0, 0},
    {"wsl2", "macAddress", TEXT, 0, 0},
    {"wsl2", "dhcpTimeout", NUMBER, 0, 0},
    {"wsl2", "ipv6", TRUTH, 0, 0},
    {"wsl2", "dnsProxy", TRUTH, 0, 0},
    {"wsl2", "safeMode", TRUTH, 0, 0},
    {"wsl2", "defaultVhdSize", SIZE, 0, 0},
    {"wsl2", "crashDumpFolder", TEXT, 0, 0},
    {"wsl2", "maxCrashDumpCount", NUMBER, 0, 0},
    {"wsl2", "dnsTunneling", TRUTH, 0, 0},
    {"wsl2", "firewall", TRUTH, 0, 0},
    {"wsl2", "autoProxy", TRUTH, 0, 0},
    {"wsl2", "loadKernelModules", TEXT, 0, 0},
    {"wsl2", "loadDefaultKernelModules", TRUTH, 0, 0},
    {"wsl2", "isolateDistroCgroup", TRUTH, 0, 0},
    {"general", "distributionInstallPath", TEXT, 0, 0},
    {"general", "instanceIdleTimeout", NUMBER, 0, 0},
    {"experimental", "networkingMode", MODE, FIELD(networking_mode)},
    {"experimental", "autoMemoryReclaim", TEXT, 0, 0},
    {"experimental", "sparseVhd", TRUTH, 0, 0},
    {"experimental", "dnsTunneling", TRUTH, 0, 0},
    {"experimental", "bestEffortDnsParsing", TRUTH, 0, 0},
    {"experimental", "dnsTunnelingIpAddress", TEXT, 0, 0},
    {"experimental", "firewall", TRUTH, 0, 0},
    {"experimental", "autoProxy", TRUTH, 0, 0},
    {"experimental", "initialAutoProxyTimeout", NUMBER, 0, 0},
    {"experimental", "ignoredPorts", TEXT, 0, 0},
    {"experimental", "hostAddressLoopback", TRUTH, 0, 0},
    {"experimental", "setVersionDebug", TRUTH, 0, 0},
};
enum { KEY_COUNT = sizeof keys / sizeof keys[0], LINE_MOST = 1024 };

static const char *const sections[] = {"wsl2", "general", "experimental"};
static const char *const modes[] = {"none", "nat", "bridged", "mirrored", "virtioproxy", "consomme"};

struct parser {
  struct wslconfig *config;
  wslconfig_fn trouble;
  void *context;
  int line;
  const char *section; /* of the table; NULL: none or unknown */
  bool seen_section;
  bool set[KEY_COUNT];
};

static void say(struct parser *p, enum wslconfig_trouble trouble, const char *word, const char *meant) {
  p->trouble(p->context, trouble, p->line, word, meant);
}

/* ---- spelling ---------------------------------------------------------------------------------------------------- */

static void lower(char *to, size_t bytes, const char *from) {
  size_t i = 0;
  for (; from[i] && i < bytes - 1; i++) to[i] = (char)tolower((unsigned char)from[i]);
  to[i] = 0;
}

static const char *nearer(const char *word, const char *known, int *least, const char *so_far) {
  char a[SHMI_SPELLING_MOST + 1], b[SHMI_SPELLING_MOST + 1];
  lower(a, sizeof a, word);
  lower(b, sizeof b, known);
  const int unlike = shmi_spelling_unlikeness(a, b);
  return unlike < *least ? *least = unlike, known : so_far;
}

static const char *nearest_section(const char *word) {
  const char *nearest = NULL;
  int least = shmi_spelling_limit(word);
  for (size_t i = 0; i < sizeof sections / sizeof *sections; i++) nearest = nearer(word, sections[i], &least, nearest);
  return nearest;
}

static const char *nearest_key(const char *word) {
  const char *nearest = NULL;
  int least = shmi_spelling_limit(word);
  for (int i = 0; i < KEY_COUNT; i++) nearest = nearer(word, keys[i].name, &least, nearest);
  return nearest;
}

/* "networkingMode-bridged": a key of the table, then something that is no letter. */
static const struct key *key_at_start(const char *line) {
  const struct key *longest = NULL;
  for (int i = 0; i < KEY_COUNT; i++) {
    const size_t length = strlen(keys[i].name);
    if (strncasecmp(line, keys[i].name, length) || isalnum((unsigned char)line[length])) continue;
    if (!longest || length > strlen(longest->name)) longest = &keys[i];
  }
  return longest;
}

/* ---- values ------------------------------------------------------------------------------------------------------ */

static bool is_truth(const char *value) {
  static const char *const words[] = {"true", "false", "1", "0"};
  for (size_t i = 0; i < sizeof words / sizeof *words; i++)
    if (!strcasecmp(value, words[i])) return true;
  return false;
}

static bool is_number(const char *value) {
  char *end;
  strtol(value, &end, 0);
  return *value && !*end;
}

static bool is_size(const char *value) {
  static const char *const units[] = {"", "B", "K", "KB", "M", "MB", "G", "GB", "T", "TB"};
  char *end;
  if (!isdigit((unsigned char)*value)) return false;
  strtoull(value, &end, 10);
  end += strspn(end, " ");
  for (size_t i = 0; i < sizeof units / sizeof *units; i++)
    if (!strcasecmp(end, units[i])) return true;
  return false;
}

static bool is_mode(const char *value) {
  for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
    if (!strcasecmp(value, modes[i])) return true;
  return false;
}

static const char *wrong_value(enum kind kind, const char *value) {
  switch (kind) {
  case TRUTH: return is_truth(value) ? NULL : "true or false";
  case NUMBER: return is_number(value) ? NULL : "a whole number";
  case SIZE: return is_size(value) ? NULL : "0, or a whole number with MB or GB";
  case MODE: return is_mode(value) ? NULL : "none, nat, bridged, mirrored or virtioproxy";
  default: return NULL;
  }
}

bool wslconfig_is_zero(const char *value) { return is_size(value) && strtoull(value, NULL, 10) == 0; }

/* ---- lines ------------------------------------------------------------------------------------------------------- */

static char *trim(char *text) {
  text += strspn(text, " \t");
  size_t length = strlen(text);
  while (length && (text[length - 1] == ' ' || text[length - 1] == '\t')) text[--length] = 0;
  return text;
}

/* Ends the text at a # outside of quotes; takes the quotes off. */
static char *value_of(char *text) {
  bool quoted = false;
  char *to = text;
  for (const char *c = text; *c && (quoted || *c != '#'); c++) {
    if (*c == '"')
      quoted = !quoted;
    else
      *to++ = *c;
  }
  *to = 0;
  return trim(text);
}

static void take_section(struct parser *p, char *line) {
  char *name = line + 1, *end = strchr(name, ']');
  p->section = NULL;
  p->seen_section = true;
  if (end) *end = 0;
  name = trim(name);
  for (size_t i = 0; end && i < sizeof sections / sizeof *sections; i++)
    if (!strcasecmp(name, sections[i])) p->section = sections[i];
  if (!p->section) say(p, WSLCONFIG_SECTION_UNKNOWN, name, nearest_section(name));
}

static void take_value(struct parser *p, int key, const char *value) {
  const struct key *k = &keys[key];
  char word[LINE_MOST + SHMI_SPELLING_MOST];
  const char *wrong = wrong_value(k->kind, value);
  snprintf(word, sizeof word, "%s=%s", k->name, value);
  if (p->set[key]) return say(p, WSLCONFIG_TWICE, k->name, NULL);
  p->set[key] = true;
  if (wrong) return say(p, WSLCONFIG_BAD_VALUE, word, wrong);
  p->config->settings++;
  if (k->bytes) snprintf((char *)p->config + k->offset, k->bytes, "%s", value);
}

/* Whatever section it stands in: the section itself has been complained of. */
static void take_key(struct parser *p, const char *name, const char *value) {
  const char *elsewhere = NULL;
  for (int i = 0; i < KEY_COUNT; i++) {
    if (strcasecmp(name, keys[i].name)) continue;
    if (p->section == keys[i].section) return take_value(p, i, value);
    if (!elsewhere) elsewhere = keys[i].section;
  }
  if (!p->seen_section) return say(p, WSLCONFIG_NO_SECTION, name, elsewhere);
  if (!p->section && elsewhere) return;
  if (elsewhere) return say(p, WSLCONFIG_KEY_ELSEWHERE, name, elsewhere);
  say(p, WSLCONFIG_KEY_UNKNOWN, name, nearest_key(name));
}

static void complain_of_no_equals(struct parser *p, const char *line) {
  const struct key *k = key_at_start(line);
  char meant[LINE_MOST];
  const char *value = line + (k ? strlen(k->name) : 0);
  value += strspn(value, " \t-:;,._");
  snprintf(meant, sizeof meant, "%s=%s", k ? k->name : "", value);
  say(p, WSLCONFIG_NO_EQUALS, line, k && *value ? meant : NULL);
}

static void take_line(struct parser *p, char *line) {
  line = trim(line);
  if (!*line || *line == '#') return;
  if (*line == '[') return take_section(p, line);
  char *equals = strchr(line, '=');
  const char *comment = strchr(line, '#');
  if (!equals || (comment && comment < equals)) return complain_of_no_equals(p, value_of(line));
  *equals = 0;
  take_key(p, trim(line), value_of(equals + 1));
}

/* ---- bytes ------------------------------------------------------------------------------------------------------- */

/* The file as bytes with zeros at the end: what is not ASCII in a UTF-16 file becomes '?'. */
static char *decode(const char *bytes, size_t length) {
  const unsigned char *b = (const unsigned char *)bytes;
  const bool little = length >= 2 && b[0] == 0xff && b[1] == 0xfe, big = length >= 2 && b[0] == 0xfe && b[1] == 0xff;
  char *text = malloc(length + 1), *to = text;
  if (!text) return NULL;
  if (little || big)
    for (size_t i = 2; i + 1 < length; i += 2) {
      const unsigned unit = little ? b[i] | (unsigned)b[i + 1] << 8 : b[i + 1] | (unsigned)b[i] << 8;
      *to++ = '?';
      if (unit && unit < 0x80) to[-1] = (char)unit;
    }
  else
    for (size_t i = length >= 3 && !memcmp(b, "\xef\xbb\xbf", 3) ? 3 : 0; i < length; i++) *to++ = bytes[i];
  *to = 0;
  for (char *c = text; c < to; c++)
    if (!*c) *c = '?';
  return text;
}

void wslconfig_parse(const char *bytes, size_t length, struct wslconfig *config, wslconfig_fn trouble, void *context) {
  struct parser p = {.config = config, .trouble = trouble, .context = context};
  char line[LINE_MOST], *text = decode(bytes, length);
  const char *rest = text;
  *config = (struct wslconfig){.settings = 0};
  while ((rest = doctor_next_line(rest, line, sizeof line))) {
    p.line++;
    take_line(&p, line);
  }
  free(text);
}
