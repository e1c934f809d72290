/*
 * shmccl-nccl-env - prints what a launcher must set for NCCL to find the plugin and use CollNet.
 *
 * The plugin sets the rest itself when NCCL initialises it; these are read before that.
 */
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define PLUGIN "libnccl-net-shmccl.so"

/* Folders beside that of this program, ROOM less than PATH_MAX for their names. */
static const char *const folders[] = {INSTALLED_FOLDER, "../../plugin" /* in the build folder */};
enum { FOLDERS = sizeof folders / sizeof *folders, ROOM = 256 };

/* The folder of this program. */
static int own_folder(char folder[PATH_MAX]) {
  const ssize_t length = readlink("/proc/self/exe", folder, PATH_MAX - 1);
  if (length < 0) return fprintf(stderr, "shmccl-nccl-env: /proc/self/exe: %s: mount /proc\n", strerror(errno)), -1;
  folder[length] = 0;
  *strrchr(folder, '/') = 0;
  return 0;
}

/* The folder that the plugin lies in; "" where the dynamic linker finds it by its name, as NCCL will try. */
static int find_plugin(char folder[PATH_MAX]) {
  char own[PATH_MAX], path[PATH_MAX + ROOM];
  *folder = 0;
  if (dlopen(PLUGIN, RTLD_NOW | RTLD_LOCAL)) return 0;
  if (own_folder(own)) return -1;
  for (int i = 0; i < FOLDERS; i++) {
    snprintf(path, sizeof path, "%.*s/%.200s/%s", PATH_MAX - 1, own, folders[i], PLUGIN);
    if (access(path, R_OK) || !realpath(path, folder)) continue;
    if (!dlopen(folder, RTLD_NOW | RTLD_LOCAL))
      return fprintf(stderr, "shmccl-nccl-env: the plugin does not load, here as in NCCL: %s\n", dlerror()), -1;
    *strrchr(folder, '/') = 0;
    return 0;
  }
  fprintf(stderr,
          "shmccl-nccl-env: there is no " PLUGIN " beside %s: install it, or add its folder to LD_LIBRARY_PATH\n", own);
  return -1;
}

/* In single quotes, as a shell reads it back. */
static void print_quoted(const char *text) {
  putchar('\'');
  for (; *text; text++) *text == '\'' ? (void)fputs("'\\''", stdout) : (void)putchar(*text);
  putchar('\'');
}

/* What the user has set against it. */
static void warn(void) {
  const char *net = getenv("NCCL_NET"), *collnet = getenv("NCCL_COLLNET_ENABLE"), *algo = getenv("NCCL_ALGO");
  if (net && *net && strcasecmp(net, "shmccl"))
    fprintf(stderr, "shmccl-nccl-env: NCCL_NET=%s makes NCCL use another network: unset it, or set it to shmccl\n",
            net);
  if (collnet && !strcmp(collnet, "0"))
    fprintf(stderr, "shmccl-nccl-env: NCCL_COLLNET_ENABLE=0 is set: what is printed here turns CollNet on\n");
  if (algo && *algo && *algo != '^' && !strcasestr(algo, "collnet"))
    fprintf(stderr, "shmccl-nccl-env: NCCL_ALGO=%s leaves CollNet out: unset it, or add CollNetChain\n", algo);
}

static void print(const char *folder) {
  puts("# For NCCL jobs whose ranks all run on this host:  eval \"$(shmccl-nccl-env)\"\n"
       "export NCCL_NET_PLUGIN=shmccl");
  if (*folder) {
    fputs("export LD_LIBRARY_PATH=", stdout);
    print_quoted(folder);
    puts("${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}");
  }
  puts("# All-reduces as one exchange (CollNet) instead of a ring. NCCL reads it before it loads a plugin.\n"
       "export NCCL_COLLNET_ENABLE=1\n"
       "# Keeps the plugin for programs that destroy all communicators and create new ones: NCCL 2.28.3 to 2.29.7\n"
       "# would go on without it.\n"
       "export NCCL_NET_PLUGIN_REF_COUNT=1");
}

int main(int argc, char **argv) {
  char folder[PATH_MAX];
  if (argc > 1) {
    const int asked = argc == 2 && !strcmp(argv[1], "--help");
    fprintf(asked ? stdout : stderr,
            "usage: eval \"$(shmccl-nccl-env)\"\n"
            "Prints, as lines for a shell, what must be set before an NCCL job starts so that it uses the plugin and\n"
            "CollNet. Fails, and says why, if the plugin is not found or does not load.\n");
    return asked ? 0 : 2;
  }
  if (find_plugin(folder)) return 1;
  warn();
  print(folder);
  if (fflush(stdout) == 0) return 0;
  fprintf(stderr, "shmccl-nccl-env: cannot write: %s\n", strerror(errno));
  return 1;
}
