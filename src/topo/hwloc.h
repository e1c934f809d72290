/*
 * hwloc.h - hwloc, looked up at run time.
 *
 * This library is loaded into programs and containers that do not have hwloc, and must work there too; so it is not
 * linked but opened when it is first needed. Only functions that the library exports are listed here: hwloc's inline
 * helpers call those by name and cannot be used.
 */
#ifndef SHMI_HWLOC_H
#define SHMI_HWLOC_H

#include <hwloc.h>

#define SHMI_HWLOC_FUNCTIONS(F)                                                                                        \
  F(get_api_version)                                                                                                   \
  F(topology_init)                                                                                                     \
  F(topology_set_io_types_filter)                                                                                      \
  F(topology_load)                                                                                                     \
  F(topology_destroy)                                                                                                  \
  F(get_type_depth)                                                                                                    \
  F(get_nbobjs_by_depth)                                                                                               \
  F(get_obj_by_depth)                                                                                                  \
  F(set_area_membind)                                                                                                  \
  F(bitmap_isset)                                                                                                      \
  F(obj_type_snprintf)                                                                                                 \
  F(obj_attr_snprintf)                                                                                                 \
  F(bitmap_list_snprintf)

/* hwloc_<name>() is `<name>` here. */
struct shmi_hwloc {
  hwloc_topology_t topology; /* this machine's, without devices */
#define SHMI_HWLOC_FIELD(name) __typeof__(hwloc_##name) *name;
  SHMI_HWLOC_FUNCTIONS(SHMI_HWLOC_FIELD)
#undef SHMI_HWLOC_FIELD
};

/* NULL where there is no usable hwloc. Loaded at the first call, never freed: other threads may still ask while the
 * process exits. */
const struct shmi_hwloc *shmi_hwloc(void);

#endif
