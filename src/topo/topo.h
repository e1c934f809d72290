/*
 * topo.h - what the engine asks of the machine: CPUs it may use, NUMA nodes, caches, WSL2.
 *
 * Cheap questions are answered from the kernel; hwloc is loaded once, when NUMA placement or cores for helper threads
 * are asked for. Where hwloc sees nothing (containers, WSL2) every answer is still usable: one node, the affinity mask.
 */
#ifndef SHMI_TOPO_H
#define SHMI_TOPO_H

#include <stddef.h>
#include <stdint.h>

/* Sets bit c of mask for each CPU c < 8 * bytes in the calling thread's affinity. Returns how many. */
int shmi_topo_affinity(uint8_t *mask, size_t bytes);

/* CPUs' worth of time that the cgroup grants (v2 or v1), rounded up; UINT32_MAX if unlimited. root is prefixed to the
 * paths read ("" for the machine itself; tests pass recorded trees). */
uint32_t shmi_topo_quota(const char *root);

/* The NUMA node (OS index) that the calling thread runs on; -1 if the kernel does not say. */
int shmi_topo_node(void);

/* Bytes of a core's second-level cache and of the last-level one; modest guesses where unknown. */
struct shmi_caches {
  size_t second, last;
};
struct shmi_caches shmi_topo_caches(void);

/* Whether this kernel is WSL2's. */
int shmi_topo_is_wsl2(void);

/* Asks that the pages of [address, address + bytes), not yet allocated, come from that node. 0, or -1 if nothing was
 * done: one node only, unknown node, or a kernel that refuses. Never fatal. */
int shmi_topo_place(void *address, size_t bytes, int node);

/* Chooses up to `wanted` CPUs (OS indices) for helper threads: within the affinity mask and the cgroup quota, other
 * cores than `busy[0..nbusy-1]`'s first, one thread per core before second threads, nearest to node first (-1: any).
 * Returns how many were written to cpus; 0 where there is no CPU to spare. */
int shmi_topo_helpers(int *cpus, int wanted, const int *busy, int nbusy, int node);

#endif
