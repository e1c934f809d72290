/*
 * test_topo.c - the cgroup's share of CPU time is read right from recorded trees of either version, and helper threads
 * get only CPUs that are allowed, free and paid for.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <ftw.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "topo/hwloc.h"
#include "topo/topo.h"

#ifdef TOPO_WITHOUT_HWLOC
void *__wrap_dlopen(const char *file, int flags);
void *__wrap_dlopen(const char *file, int flags) {
  assert_string_equal(file, "libhwloc.so.15");
  (void)flags;
  return NULL;
}
enum { HAVE_HWLOC = 0 };
#else
enum { HAVE_HWLOC = 1 };
#endif

/* ---- recorded trees
 * --------------------------------------------------------------------------------------------------- */

static char root[PATH_MAX];

static int make_root(void **state) {
  (void)state;
  strcpy(root, "/tmp/shmccl-topo-XXXXXX");
  return mkdtemp(root) ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
  (void)st, (void)type, (void)ftw;
  return remove(path);
}

static int remove_root(void **state) {
  (void)state;
  return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void record(const char *path, const char *text) {
  char full[2 * PATH_MAX];
  snprintf(full, sizeof full, "%s%s", root, path);
  for (char *slash = full + strlen(root) + 1; (slash = strchr(slash, '/')); slash++) {
    *slash = 0;
    mkdir(full, 0700);
    *slash = '/';
  }
  FILE *f = fopen(full, "w");
  assert_non_null(f);
  assert_true(fputs(text, f) >= 0);
  assert_int_equal(fclose(f), 0);
}

static void nothing_recorded_is_unlimited(void **state) {
  (void)state;
  assert_int_equal(shmi_topo_quota(root), UINT32_MAX);
  record("/proc/self/cgroup", "0::/\n");
  assert_int_equal(shmi_topo_quota(root), UINT32_MAX);
}

/* A container: its own group is mounted at the top. */
static void version_2_in_a_container(void **state) {
  (void)state;
  record("/proc/self/cgroup", "0::/\n");
  record("/sys/fs/cgroup/cpu.max", "max 100000\n");
  assert_int_equal(shmi_topo_quota(root), UINT32_MAX);
  record("/sys/fs/cgroup/cpu.max", "200000 100000\n");
  assert_int_equal(shmi_topo_quota(root), 2);
  record("/sys/fs/cgroup/cpu.max", "150000 100000\n"); /* one and a half: two threads can run */
  assert_int_equal(shmi_topo_quota(root), 2);
  record("/sys/fs/cgroup/cpu.max", "1000 100000\n");
  assert_int_equal(shmi_topo_quota(root), 1);
}

/* systemd on the host: every ancestor limits too. */
static void version_2_nested(void **state) {
  (void)state;
  record("/proc/self/cgroup", "0::/user.slice/user-1000.slice/job.scope\n");
  record("/sys/fs/cgroup/user.slice/user-1000.slice/job.scope/cpu.max", "max 100000\n");
  assert_int_equal(shmi_topo_quota(root), UINT32_MAX);
  record("/sys/fs/cgroup/user.slice/cpu.max", "300000 100000\n");
  assert_int_equal(shmi_topo_quota(root), 3);
  record("/sys/fs/cgroup/user.slice/user-1000.slice/cpu.max", "800000 100000\n");
  assert_int_equal(shmi_topo_quota(root), 3);
  record("/sys/fs/cgroup/user.slice/user-1000.slice/job.scope/cpu.max", "100000 100000\n");
  assert_int_equal(shmi_topo_quota(root), 1);
  record("/sys/fs/cgroup/elsewhere/cpu.max", "1 100000\n");
  assert_int_equal(shmi_topo_quota(root), 1);
}

static void version_1(void **state) {
  (void)state;
  record("/proc/self/cgroup", "12:perf_event:/\n4:cpu,cpuacct:/docker/abc\n3:cpuset:/other\n1:name=systemd:/x\n");
  record("/sys/fs/cgroup/cpu/docker/abc/cpu.cfs_quota_us", "-1\n");
  record("/sys/fs/cgroup/cpu/docker/abc/cpu.cfs_period_us", "100000\n");
  assert_int_equal(shmi_topo_quota(root), UINT32_MAX);
  record("/sys/fs/cgroup/cpu/docker/abc/cpu.cfs_quota_us", "250000\n");
  assert_int_equal(shmi_topo_quota(root), 3);
  record("/proc/self/cgroup", "4:cpuacct,cpu:/docker/abc\n"); /* the order differs between distributions */
  assert_int_equal(shmi_topo_quota(root), 3);
  record("/proc/self/cgroup", "4:cpu:/docker/abc\n");
  assert_int_equal(shmi_topo_quota(root), 3);
}

/* Groups of controllers whose names only begin alike say nothing about CPU time. */
static void version_1_other_controllers(void **state) {
  (void)state;
  record("/proc/self/cgroup", "5:memory,cpuset:/jail\n4:cpu,cpuacct:/free\n");
  record("/sys/fs/cgroup/cpu/jail/cpu.cfs_quota_us", "100000\n");
  record("/sys/fs/cgroup/cpu/jail/cpu.cfs_period_us", "100000\n");
  assert_int_equal(shmi_topo_quota(root), UINT32_MAX);
}

static void nonsense_is_unlimited(void **state) {
  static const char *const groups[] = {"", "\n", ":\n", "0:\n", "0::\n", "garbage", "0::relative\n", "::::::/\n"};
  static const char *const limits[] = {"", "max", "0 0\n", "100000", "-5 100000\n", "5 -1\n", "x y\n"};
  (void)state;
  for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
    record("/proc/self/cgroup", groups[i]);
    assert_int_equal(shmi_topo_quota(root), UINT32_MAX);
  }
  record("/proc/self/cgroup", "0::/\n");
  for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
    record("/sys/fs/cgroup/cpu.max", limits[i]);
    assert_int_equal(shmi_topo_quota(root), UINT32_MAX);
  }
}

/* ---- this machine
 * ------------------------------------------------------------------------------------------------------ */

enum { MASK_BYTES = 1024, CPUS_MOST = 8 * MASK_BYTES };

static int allowed(const uint8_t *mask, int cpu) { return mask[cpu / 8] >> (cpu % 8) & 1; }

static int first_cpu(const uint8_t *mask) {
  for (int cpu = 0; cpu < CPUS_MOST; cpu++)
    if (allowed(mask, cpu)) return cpu;
  return -1;
}

static void helpers_are_allowed_and_free(void **state) {
  uint8_t mask[MASK_BYTES];
  int cpus[CPUS_MOST], busy[2];
  const int count = shmi_topo_affinity(mask, sizeof mask);
  (void)state;
  assert_true(count >= 1);
  busy[0] = first_cpu(mask);
  for (int wanted = 0; wanted <= count + 1; wanted++)
    for (int node = -1; node < 2; node++) {
      const int got = shmi_topo_helpers(cpus, wanted, busy, 1, node);
      assert_in_range(got, 0, wanted < count - 1 ? wanted : count - 1);
      for (int i = 0; i < got; i++) {
        assert_true(cpus[i] != busy[0] && allowed(mask, cpus[i]));
        for (int j = 0; j < i; j++) assert_int_not_equal(cpus[i], cpus[j]);
      }
    }
}

static void one_cpu_has_no_helpers(void **state) {
  cpu_set_t all, one;
  uint8_t mask[MASK_BYTES];
  int cpus[4];
  (void)state;
  if (sched_getaffinity(0, sizeof all, &all)) skip();
  shmi_topo_affinity(mask, sizeof mask);
  const int cpu = first_cpu(mask);
  CPU_ZERO(&one);
  CPU_SET(cpu, &one);
  assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
  assert_int_equal(shmi_topo_affinity(mask, sizeof mask), 1);
  assert_int_equal(shmi_topo_helpers(cpus, 4, &cpu, 1, -1), 0);
  const int got = shmi_topo_helpers(cpus, 4, NULL, 0, -1);
  assert_true(got == 1 && cpus[0] == cpu);
  assert_int_equal(sched_setaffinity(0, sizeof all, &all), 0);
}

static void short_masks_are_not_overrun(void **state) {
  uint8_t mask[2] = {0, 0xa5};
  (void)state;
  assert_true(shmi_topo_affinity(mask, 1) >= 1);
  assert_int_equal(mask[1], 0xa5);
}

static void other_answers_are_usable(void **state) {
  char page[1];
  (void)state;
  assert_int_equal(shmi_hwloc() != NULL, HAVE_HWLOC);
  assert_true(shmi_topo_node() >= -1);
  const struct shmi_caches caches = shmi_topo_caches();
  assert_true(caches.second >= 64 << 10 && caches.last >= caches.second);
  assert_in_range(shmi_topo_is_wsl2() != 0, 0, 1);
  assert_int_equal(shmi_topo_place(page, sizeof page, -1), -1); /* unknown node: nothing done */
  assert_int_equal(shmi_topo_place(page, sizeof page, 1 << 20), -1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(nothing_recorded_is_unlimited, make_root, remove_root),
      cmocka_unit_test_setup_teardown(version_2_in_a_container, make_root, remove_root),
      cmocka_unit_test_setup_teardown(version_2_nested, make_root, remove_root),
      cmocka_unit_test_setup_teardown(version_1, make_root, remove_root),
      cmocka_unit_test_setup_teardown(version_1_other_controllers, make_root, remove_root),
      cmocka_unit_test_setup_teardown(nonsense_is_unlimited, make_root, remove_root),
      cmocka_unit_test(helpers_are_allowed_and_free),
      cmocka_unit_test(one_cpu_has_no_helpers),
      cmocka_unit_test(short_masks_are_not_overrun),
      cmocka_unit_test(other_answers_are_usable),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
