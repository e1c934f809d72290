/* hwloc.c - opens libhwloc and loads the topology, once. */
#include "topo/hwloc.h"

#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

#include "base/log.h"

/* Of all hwloc 2.x. */
static const char file_name[] = "libhwloc.so.15";

static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct shmi_hwloc loaded;
static const struct shmi_hwloc *usable;

static int find(void *library, const char *name, void *field) {
  void *address = dlsym(library, name);
  memcpy(field, &address, sizeof address);
  return address != NULL;
}

static int find_all(void *library) {
  int found = 1;
#define FIND(name) found &= find(library, "hwloc_" #name, &loaded.name);
  SHMI_HWLOC_FUNCTIONS(FIND)
#undef FIND
  return found && loaded.get_api_version() >> 16 == HWLOC_API_VERSION >> 16;
}

static int load_topology(void) {
  if (loaded.topology_init(&loaded.topology)) return 0;
  loaded.topology_set_io_types_filter(loaded.topology, HWLOC_TYPE_FILTER_KEEP_NONE);
  if (!loaded.topology_load(loaded.topology)) return 1;
  loaded.topology_destroy(loaded.topology);
  return 0;
}

static void load(void) {
  void *library = dlopen(file_name, RTLD_NOW | RTLD_LOCAL);
  if (library && find_all(library) && load_topology())
    usable = &loaded;
  else
    SHMI_INFO("%s %s: no NUMA placement", file_name, library ? "is of no use here" : "is not installed");
}

const struct shmi_hwloc *shmi_hwloc(void) {
  pthread_once(&once, load);
  return usable;
}
