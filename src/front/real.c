/* real.c - finds the real NCCL, and tells its calls from the program's. */
#include "front/real.h"

#include <dlfcn.h>
#include <glob.h>
#include <limits.h>
#include <link.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* By this name a front knows another: one that a copy of this library finds must not be itself. */
__attribute__((visibility("default"))) extern const int shmccl_nccl_front;
const int shmccl_nccl_front = 1;

#define SONAME     "libnccl.so.2"
#define WHEEL_FILE "nvidia/nccl/lib/" SONAME

/* ---- one library ------------------------------------------------------------------------------------------------- */

/* Where the file is mapped that holds an address; NULL if it is in none. */
static const void *base_of(const void *address, const char **path) {
  Dl_info info;
  if (!dladdr(address, &info)) return NULL;
  if (path) *path = info.dli_fname;
  return info.dli_fbase;
}

/* Of the library itself: dlsym() looks into those that it needs, too. */
static const void *own_base(void *library) {
  void *function = dlsym(library, "ncclGetUniqueId");
  return function ? base_of(function, NULL) : NULL;
}

static int is_front(void *library) {
  return dlsym(library, "shmccl_nccl_front") || own_base(library) == base_of(&shmccl_nccl_front, NULL);
}

static void take(struct shmi_nccl *nccl, void *library) {
  nccl->base = own_base(library);
#define SYMBOL(name, parameters, arguments)                 *(void **)&nccl->name = dlsym(library, "nccl" #name);
#define OTHER(result, name, parameters, arguments, lacking) SYMBOL(name, parameters, arguments)
#include "front/symbols.def"
  if (!nccl->GetVersion || nccl->GetVersion(&nccl->version) != NCCL_SUCCESS) nccl->version = 0;
}

/* ---- looking ----------------------------------------------------------------------------------------------------- */

/* An open library that is an NCCL; NULL: it is not one, and is closed. */
static void *accept_library(void *library) {
  if (library && own_base(library) && !is_front(library)) return library;
  if (library) dlclose(library);
  return NULL;
}

static void *open_file(const char *path, int flags) {
  return accept_library(dlopen(path, RTLD_NOW | RTLD_LOCAL | flags));
}

/* The library behind this one in the order in which the program's own calls would find it. */
static void *next_in_order(void) {
  const char *path;
  void *function = dlsym(RTLD_NEXT, "ncclGetUniqueId");
  if (!function || !base_of(function, &path)) return NULL;
  return open_file(path, RTLD_NOLOAD);
}

static void *open_pattern(const char *root, const char *rest) {
  char pattern[PATH_MAX];
  glob_t found;
  void *library = NULL;
  if (snprintf(pattern, sizeof pattern, "%s%s", root, rest) >= (int)sizeof pattern || glob(pattern, 0, NULL, &found))
    return NULL;
  for (size_t i = 0; i < found.gl_pathc && !library; i++) library = open_file(found.gl_pathv[i], 0);
  globfree(&found);
  return library;
}

static void *open_in_prefix(const char *prefix) {
  if (!prefix || !*prefix) return NULL;
  void *library = open_pattern(prefix, "/lib/python3*/site-packages/" WHEEL_FILE);
  return library ? library : open_pattern(prefix, "/lib/python3*/dist-packages/" WHEEL_FILE);
}

struct packages {
  char folder[PATH_MAX]; /* "" until found */
};

/* A Python program mostly has modules loaded from the folder of packages in which the wheel is too. */
static int look_for_packages(struct dl_phdr_info *info, size_t size, void *context) {
  struct packages *packages = context;
  const char *at = strstr(info->dlpi_name, "/site-packages/");
  (void)size;
  if (!at) at = strstr(info->dlpi_name, "/dist-packages/");
  if (!at) return 0;
  snprintf(packages->folder, sizeof packages->folder, "%.*s", (int)(at + strlen("/site-packages/") - info->dlpi_name),
           info->dlpi_name);
  return 1;
}

/* PREFIX/bin/python3.12: PREFIX. */
static void *open_beside_program(void) {
  char program[PATH_MAX];
  if (!realpath("/proc/self/exe", program)) return NULL;
  char *bin = strstr(program, "/bin/");
  if (!bin) return NULL;
  *bin = 0;
  return open_in_prefix(program);
}

static void *open_wheel(void) {
  struct packages packages = {""};
  void *library = NULL;
  dl_iterate_phdr(look_for_packages, &packages);
  if (*packages.folder) library = open_pattern(packages.folder, WHEEL_FILE);
  if (!library) library = open_in_prefix(getenv("VIRTUAL_ENV"));
  if (!library) library = open_in_prefix(getenv("CONDA_PREFIX"));
  if (!library) library = open_beside_program();
  return library ? library : open_in_prefix("/usr/local");
}

static void *open_any(void) {
  void *library = next_in_order();
  if (!library) library = open_file(SONAME, RTLD_NOLOAD);
  if (!library) library = open_wheel();
  return library ? library : open_file(SONAME, 0);
}

/* ---- the real one ------------------------------------------------------------------------------------------------ */

static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct shmi_nccl real;
static int is_there;
static char problem[PATH_MAX + 512];

static void describe_problem(const char *named) {
  const char *why = dlerror();
  if (!named)
    snprintf(problem, sizeof problem,
             "libshmccl-nccl.so finds no NCCL behind it: install one, or name its file: "
             "SHMCCL_NCCL_LIB=/path/" SONAME);
  else
    snprintf(problem, sizeof problem, "SHMCCL_NCCL_LIB=%s is no NCCL that can be loaded (%s): name a " SONAME, named,
             why ? why : "it lacks NCCL's functions, or is this library");
}

static void find(void) {
  const char *named = getenv("SHMCCL_NCCL_LIB"), *path = "?";
  if (named && !*named) named = NULL;
  void *library = named ? open_file(named, 0) : open_any();
  if (!library) {
    describe_problem(named);
    shmi_log(SHMI_LOG_WARN, "%s", problem);
    return;
  }
  take(&real, library);
  is_there = 1;
  base_of(dlsym(library, "ncclGetUniqueId"), &path);
  if (real.version < NCCL_OLDEST)
    shmi_log(SHMI_LOG_WARN,
             "front: %s is NCCL %d.%d: too old; it gets all calls, as if the front were not there: "
             "install 2.20 or later",
             path, real.version / (real.version < 10000 ? 1000 : 10000),
             real.version / 100 % (real.version < 10000 ? 10 : 100));
  else
    SHMI_INFO("front: NCCL %d.%d.%d, %s", real.version / 10000, real.version / 100 % 100, real.version % 100, path);
}

const struct shmi_nccl *shmi_nccl_real(void) {
  pthread_once(&once, find);
  return is_there ? &real : NULL;
}

/* ---- others ------------------------------------------------------------------------------------------------------ */

static pthread_mutex_t others_lock = PTHREAD_MUTEX_INITIALIZER;
static struct other {
  struct other *next;
  struct shmi_nccl nccl;
} * others;

/* The NCCL at base, if the file there is one. It is never closed: it has called. */
static const struct shmi_nccl *other_at(const void *base, const char *path) {
  struct other *o = others;
  while (o && o->nccl.base != base) o = o->next;
  if (o) return &o->nccl;
  void *library = open_file(path, RTLD_NOLOAD);
  if (!library || own_base(library) != base || !(o = calloc(1, sizeof *o))) return NULL;
  take(&o->nccl, library);
  o->next = others;
  others = o;
  return &o->nccl;
}

/* Also NULL if the caller is in no NCCL. Only files with "nccl" in their names are looked at closely. */
static const struct shmi_nccl *nccl_of(const void *caller) {
  const char *path = "";
  const void *base = base_of(caller, &path);
  const char *name = strrchr(path, '/');
  const struct shmi_nccl *here = shmi_nccl_real();
  if (here && base == here->base) return here;
  if (!strstr(name ? name : path, "nccl") || base == base_of(&shmccl_nccl_front, NULL)) return NULL;
  pthread_mutex_lock(&others_lock);
  here = other_at(base, path);
  pthread_mutex_unlock(&others_lock);
  return here;
}

const struct shmi_nccl *shmi_nccl_for(const void *caller) {
  const struct shmi_nccl *own = nccl_of(caller);
  return own ? own : shmi_nccl_real();
}

int shmi_nccl_calls(const void *caller) { return nccl_of(caller) != NULL; }

nccl_result_t shmi_nccl_lacks(const struct shmi_nccl *nccl, const char *name) {
  char text[256];
  if (!nccl) return shmi_front_error(NCCL_SYSTEM_ERROR, problem);
  snprintf(text, sizeof text, "NCCL %d.%d.%d has no %s: install a newer one, or do without", nccl->version / 10000,
           nccl->version / 100 % 100, nccl->version % 100, name);
  shmi_log(SHMI_LOG_WARN, "front: %s", text);
  return shmi_front_error(NCCL_INVALID_USAGE, text);
}
