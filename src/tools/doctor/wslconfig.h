/*
 * wslconfig.h - reads a .wslconfig as WSL itself does, and says what WSL passes over in silence.
 *
 * WSL's reader (microsoft/WSL, src/shared/configfile): sections and keys in any case of letters, "key = value", #
 * begins a comment also behind a value, a key that it does not know or a line that it does not understand is skipped.
 */
#ifndef DOCTOR_WSLCONFIG_H
#define DOCTOR_WSLCONFIG_H

#include <stdbool.h>
#include <stddef.h>

enum wslconfig_trouble {
  WSLCONFIG_SECTION_UNKNOWN, /* word: the section as written; meant: the nearest, or NULL */
  WSLCONFIG_KEY_UNKNOWN,     /* word: the key */
  WSLCONFIG_KEY_ELSEWHERE,   /* word: the key; meant: the section that it belongs into */
  WSLCONFIG_NO_SECTION,      /* word: a key before the first section */
  WSLCONFIG_NO_EQUALS,       /* word: the line; meant: what it was meant to be, or NULL */
  WSLCONFIG_TWICE,           /* word: a key that was set before: the first counts */
  WSLCONFIG_BAD_VALUE        /* word: key=value; meant: what values there are */
};

struct wslconfig {
  /* The values in force, "" where not set. */
  char networking_mode[32], vm_switch[128], dhcp[16], swap[32], memory[32], gpu_support[16];
  int settings; /* how many keys took effect */
};

/* Called for each thing that is wrong. All texts live during the call only. */
typedef void (*wslconfig_fn)(void *context, enum wslconfig_trouble trouble, int line, const char *word,
                             const char *meant);

/* bytes: the file, UTF-8 or UTF-16 with a byte order mark. */
void wslconfig_parse(const char *bytes, size_t length, struct wslconfig *config, wslconfig_fn trouble, void *context);

/* Whether a value of .wslconfig means 0 bytes. */
bool wslconfig_is_zero(const char *value);

#endif
