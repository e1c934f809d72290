/*
 * test_parse.c - the doctor's parsers: what they understand, and that no bytes whatever make them read or write where
 * they must not (sanitizers watch).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "tools/doctor/doctor.h"
#include "tools/doctor/elf.h"
#include "tools/doctor/wslconfig.h"

/* ---- versions ---------------------------------------------------------------------------------------------------- */

static void versions_compare(void **state) {
  (void)state;
  assert_true(doctor_compare_versions("580.65.06", "580.65.6") == 0);
  assert_true(doctor_compare_versions("6.6.87.2-microsoft", "5.10.16.3") > 0);
  assert_true(doctor_compare_versions("5.10", "5.9") > 0);
  assert_true(doctor_compare_versions("2", "2.0.0") == 0);
  assert_true(doctor_compare_versions("1.18.1-1", "1.18") > 0);
  assert_true(doctor_compare_versions("", "0.1") < 0);
  assert_true(doctor_compare_versions("", "") == 0);
  assert_true(doctor_compare_versions("x", "y") == 0);
  assert_true(doctor_compare_versions("2.34", "2.4") > 0);
}

/* ---- kernel ------------------------------------------------------------------------------------------------------ */

static void mounts(void **state) {
  static const char text[] = "a / ext4 rw 0 0\nb /dev tmpfs rw,size=1m 0 0\nc /dev/shm tmpfs rw,size=2g 0 0\n"
                             "d /dev/shmother ext4 rw 0 0\nshort line\n\n";
  struct doctor_mount m;
  (void)state;
  assert_true(doctor_mount_of(text, "/dev/shm", &m) && !strcmp(m.device, "c"));
  assert_true(doctor_mount_of(text, "/dev/shm/x", &m) && !strcmp(m.device, "c"));
  assert_true(doctor_mount_of(text, "/dev/null", &m) && !strcmp(m.device, "b"));
  assert_true(doctor_mount_of(text, "/etc", &m) && !strcmp(m.device, "a") && !strcmp(m.type, "ext4"));
  assert_true(doctor_mount_of("a / x y 0 0\nz / tmpfs rw 0 0\n", "/", &m) && !strcmp(m.device, "z")); /* the last one */
  assert_false(doctor_mount_of("", "/", &m));
  assert_false(doctor_mount_of(NULL, "/", &m));
  assert_int_equal(doctor_mount_size("rw,size=65536k,mode=1777"), 64 << 20);
  assert_int_equal(doctor_mount_size("size=3"), 3);
  assert_int_equal(doctor_mount_size("size=50%"), 0);
  assert_int_equal(doctor_mount_size("rw,osize=5,size=x"), 0);
  assert_int_equal(doctor_mount_size(""), 0);
}

static void memory(void **state) {
  uint64_t bytes = 7, free_bytes = 7;
  (void)state;
  assert_int_equal(doctor_swap_bytes("Filename Type Size Used Priority\n/dev/sda partition 4 0 -2\n/f file 6 0 -3\n"),
                   10 << 10);
  assert_int_equal(doctor_swap_bytes("Filename Type Size Used Priority\n"), 0);
  assert_int_equal(doctor_swap_bytes("/dev/sda\n\n"), 0);
  assert_int_equal(doctor_meminfo("MemTotal:  8 kB\nMemFree: 4 kB\n", "MemFree"), 4 << 10);
  assert_int_equal(doctor_meminfo("MemTotalX: 8 kB\n", "MemTotal"), 0);
  assert_true(doctor_memlock("Max locked memory         unlimited  unlimited  bytes\n", &bytes) && bytes == UINT64_MAX);
  assert_true(doctor_memlock("Max x 1\nMax locked memory         8388608  1  bytes", &bytes) && bytes == 8388608);
  assert_false(doctor_memlock("Max locked memory", &bytes));
  assert_false(doctor_memlock("Max locked memory  many", &bytes));
  assert_true(doctor_df("Filesystem 1B-blocks Used Available\nnone 100 30 70 30% /dev/shm\n", &bytes, &free_bytes));
  assert_true(bytes == 100 && free_bytes == 70);
  assert_false(doctor_df("Filesystem 1B-blocks\nnone 100\n", &bytes, &free_bytes));
  assert_int_equal(doctor_shm_needed(2), 1 << 30);
  assert_int_equal(doctor_shm_needed(4), 1 << 30);
  assert_int_equal(doctor_shm_needed(8), 2ull << 30);
}

static void cached_libraries(void **state) {
  char path[32] = "old";
  (void)state;
  assert_true(
      doctor_cached_library("head\n\tliba.so.1 (libc6,x86-64) => /l/liba.so.1\n", "liba.so.1", path, sizeof path));
  assert_string_equal(path, "/l/liba.so.1");
  assert_false(doctor_cached_library("\tliba.so.1 (libc6) => /32/liba.so.1\n", "liba.so.1", path, sizeof path));
  assert_false(doctor_cached_library("\tliba.so.12 (libc6,x86-64) => /l\n", "liba.so.1", path, sizeof path));
  assert_false(doctor_cached_library("\tliba.so.1 (libc6,x86-64)\n", "liba.so.1", path, sizeof path));
  assert_false(doctor_cached_library(NULL, "liba.so.1", path, sizeof path));
  assert_true(doctor_cached_library("a (libc6,x86-64) => /a/very/long/path/that/does/not/fit/at/all\n", "a", path,
                                    sizeof path));
  assert_int_equal(strlen(path), sizeof path - 1);
}

/* ---- NCCL -------------------------------------------------------------------------------------------------------- */

static int version_of(const char *bytes, size_t length) {
  struct doctor_nccl n = {.version = 0};
  return doctor_nccl_version(bytes, length, &n) ? n.version * 100 + n.cuda_major : 0;
}
#define VERSION_OF(text) version_of(text, sizeof(text) - 1)

static void nccl_versions(void **state) {
  int oldest, newest;
  (void)state;
  assert_int_equal(VERSION_OF("x\0NCCL version 2.27.5+cuda12.9\0y"), 2270512);
  assert_int_equal(VERSION_OF("NCCL version %d NCCL version 2.30.7+cuda13.0"), 2300713);
  assert_int_equal(VERSION_OF("NCCL version 2.28"), 2280000);
  assert_int_equal(VERSION_OF("NCCL version 2."), 0);
  assert_int_equal(VERSION_OF("NCCL version 1000.1.1"), 0);
  assert_int_equal(VERSION_OF("NCCL version "), 0);
  assert_int_equal(VERSION_OF("NCCL versio"), 0);
  assert_int_equal(VERSION_OF(""), 0);
  static const int newest_of[][2] = {{21904, 7},  {22005, 8},  {22304, 8},  {22503, 9}, {22602, 10},
                                     {22705, 10}, {22809, 11}, {22907, 11}, {23007, 12}};
  for (size_t i = 0; i < sizeof newest_of / sizeof *newest_of; i++) {
    doctor_net_tables(newest_of[i][0], &oldest, &newest);
    assert_int_equal(newest, newest_of[i][1]);
    assert_int_equal(oldest, newest_of[i][0] < 22600 ? 5 : 6);
  }
}

/* ---- ELF --------------------------------------------------------------------------------------------------------- */

static char *self(size_t *length) {
  FILE *f = fopen("/proc/self/exe", "rb");
  assert_non_null(f);
  fseek(f, 0, SEEK_END);
  *length = (size_t)ftell(f);
  rewind(f);
  char *bytes = malloc(*length);
  assert_non_null(bytes);
  assert_int_equal(fread(bytes, 1, *length, f), *length);
  fclose(f);
  return bytes;
}

static void glibc_of_this_program(void **state) {
  char version[16];
  size_t length;
  char *bytes = self(&length);
  (void)state;
  assert_true(doctor_elf_glibc(bytes, length, version, sizeof version));
  assert_true(doctor_compare_versions(version, "2.2") >= 0 && doctor_compare_versions(version, "2.99") < 0);
  assert_false(doctor_elf_glibc("\177ELF", 4, version, sizeof version));
  assert_false(doctor_elf_glibc("", 0, version, sizeof version));
  free(bytes);
}

/* ---- damage ------------------------------------------------------------------------------------------------------ */

static uint64_t seed;

static unsigned chance(unsigned limit) {
  seed = seed * 6364136223846793005u + 1442695040888963407u;
  return (unsigned)(seed >> 33) % limit;
}

/* An exact copy on the heap, some bytes changed, cut anywhere: sanitizers see a step beyond. */
static char *damage(const char *bytes, size_t length, size_t *left, unsigned changes) {
  *left = chance(2) ? length : chance((unsigned)length + 1);
  char *copy = malloc(*left + 1);
  assert_non_null(copy);
  memcpy(copy, bytes, *left);
  for (unsigned i = 0; *left && i < changes; i++) copy[chance((unsigned)*left)] = (char)chance(256);
  copy[*left] = 0;
  return copy;
}

static void damaged_elf(void **state) {
  char version[16];
  size_t length, left;
  char *bytes = self(&length);
  (void)state;
  for (int i = 0; i < 300; i++) {
    char *copy = damage(bytes, length, &left, chance(40));
    /* most of what counts is at the ends */
    for (unsigned j = 0; left > 64 && j < chance(4); j++) copy[chance(64)] = (char)chance(256);
    doctor_elf_glibc(copy, left, version, sizeof version);
    assert_true(memchr(version, 0, sizeof version) != NULL);
    free(copy);
  }
  free(bytes);
}

struct troubles {
  int count[WSLCONFIG_BAD_VALUE + 1], line;
  char meant[64];
};

static void note(void *context, enum wslconfig_trouble trouble, int line, const char *word, const char *meant) {
  struct troubles *t = context;
  assert_non_null(word);
  t->count[trouble]++;
  t->line = line;
  snprintf(t->meant, sizeof t->meant, "%s", meant ? meant : "");
}

static struct troubles parse(const char *bytes, size_t length, struct wslconfig *c) {
  struct troubles t = {.line = 0};
  wslconfig_parse(bytes, length, c, note, &t);
  return t;
}

static const char users_page[] = "[ws12]\nnetworkingMode-bridged\nvmSwitch=WSLBridge\ndhcp=false\nswap=0 ##K8S\n";
static const char whole[] =
    "# all\n[wsl2]\nnetworkingMode = bridged\nvmSwitch=\"My # Switch\" # quoted\ndhcp=false\nswap=0\n"
    "memory=96GB\n[experimental]\nsparseVhd=true\n[general]\ninstanceIdleTimeout=-1\n";

static void wslconfig_as_meant(void **state) {
  struct wslconfig c;
  (void)state;
  struct troubles t = parse(whole, sizeof whole - 1, &c);
  for (int i = 0; i <= WSLCONFIG_BAD_VALUE; i++) assert_int_equal(t.count[i], 0);
  assert_int_equal(c.settings, 7);
  assert_string_equal(c.vm_switch, "My # Switch");
  assert_string_equal(c.networking_mode, "bridged");
  assert_true(wslconfig_is_zero(c.swap));
  assert_true(wslconfig_is_zero("0GB"));
  assert_false(wslconfig_is_zero("8GB"));
  assert_false(wslconfig_is_zero(""));
  assert_false(wslconfig_is_zero("no"));
}

static void wslconfig_troubles(void **state) {
  static const struct {
    const char *text, *meant;
    enum wslconfig_trouble trouble;
    int line;
  } cases[] = {
      {"[ws12]", "wsl2", WSLCONFIG_SECTION_UNKNOWN, 1},
      {"[wsl 2]", "wsl2", WSLCONFIG_SECTION_UNKNOWN, 1},
      {"[wsl2", "wsl2", WSLCONFIG_SECTION_UNKNOWN, 1},
      {"[]", "", WSLCONFIG_SECTION_UNKNOWN, 1},
      {"\n[experimentel]", "experimental", WSLCONFIG_SECTION_UNKNOWN, 2},
      {"[wsl2]\nnetworkingMode-bridged", "networkingMode=bridged", WSLCONFIG_NO_EQUALS, 2},
      {"[wsl2]\nswap: 0", "swap=0", WSLCONFIG_NO_EQUALS, 2},
      {"[wsl2]\nswap", "", WSLCONFIG_NO_EQUALS, 2},
      {"[wsl2]\nswap # =0", "", WSLCONFIG_NO_EQUALS, 2},
      {"[wsl2]\ngibberish", "", WSLCONFIG_NO_EQUALS, 2},
      {"[wsl2]\nvmswtch=A", "vmSwitch", WSLCONFIG_KEY_UNKNOWN, 2},
      {"[wsl2]\nquux=A", "", WSLCONFIG_KEY_UNKNOWN, 2},
      {"[wsl2]\n=5", "", WSLCONFIG_KEY_UNKNOWN, 2},
      {"[wsl2]\nhostAddressLoopback=true", "experimental", WSLCONFIG_KEY_ELSEWHERE, 2},
      {"swap=0", "wsl2", WSLCONFIG_NO_SECTION, 1},
      {"[wsl2]\nswap=0\nSWAP=1", "", WSLCONFIG_TWICE, 3},
      {"[wsl2]\ndhcp=perhaps", "true or false", WSLCONFIG_BAD_VALUE, 2},
      {"[wsl2]\nprocessors=many", "a whole number", WSLCONFIG_BAD_VALUE, 2},
      {"[wsl2]\nnetworkingMode=bridge", "none, nat, bridged, mirrored or virtioproxy", WSLCONFIG_BAD_VALUE, 2},
      {"[wsl2]\nmemory=8 parsecs", "0, or a whole number with MB or GB", WSLCONFIG_BAD_VALUE, 2},
  };
  struct wslconfig c;
  (void)state;
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    const struct troubles t = parse(cases[i].text, strlen(cases[i].text), &c);
    if (t.count[cases[i].trouble] != 1 || t.line != cases[i].line || strcmp(t.meant, cases[i].meant))
      fail_msg("'%s': count %d, line %d, meant '%s'", cases[i].text, t.count[cases[i].trouble], t.line, t.meant);
  }
  const struct troubles t = parse(users_page, sizeof users_page - 1, &c);
  assert_true(t.count[WSLCONFIG_SECTION_UNKNOWN] == 1 && t.count[WSLCONFIG_NO_EQUALS] == 1 && c.settings == 0);
}

static void wslconfig_cut_anywhere(void **state) {
  struct wslconfig c;
  char wide[2 * sizeof whole];
  (void)state;
  for (size_t length = 0; length < sizeof whole; length++) {
    char *copy = malloc(length + !length);
    assert_non_null(copy);
    memcpy(copy, whole, length);
    parse(copy, length, &c);
    free(copy);
  }
  wide[0] = (char)0xff, wide[1] = (char)0xfe;
  for (size_t i = 0; i + 1 < sizeof whole; i++) wide[2 + 2 * i] = whole[i], wide[3 + 2 * i] = 0;
  parse(wide, 2 * sizeof whole, &c);
  assert_int_equal(c.settings, 7);
  for (size_t length = 0; length < sizeof wide; length++) parse(wide, length, &c);
}

static void damaged_texts(void **state) {
  static const char answers[] =
      "driver 1\ncuda-driver 13000\ngpu 0 wddm 5 N\npeer 0 1 1\npinned 5\npinned-error 6 2\nmissing x\n"
      "error y\nhost-pointer 1\nglibc 2.3\nneeds 2.4\nnccl 5\nplugin /x\ntable t\nbeside z\n"
      "front /f\nfront-error g\nversion 22809\nreal /h\n"
      "Max locked memory 5\n/dev/sda x 5 5\na / b c 0 0\nNCCL version 2.1.1+cuda3\n";
  static struct doctor_gpus gpus;
  static struct doctor_plugin plugin;
  static struct doctor_front front;
  struct doctor_nccl nccl;
  struct doctor_mount m;
  struct wslconfig c;
  uint64_t x, y;
  (void)state;
  for (int i = 0; i < 3000; i++) {
    size_t left;
    char *copy = damage(answers, sizeof answers - 1, &left, chance(12));
    doctor_parse_gpus(copy, &gpus);
    doctor_parse_plugin(copy, &plugin);
    doctor_parse_front(copy, &front);
    doctor_nccl_version(copy, left, &nccl);
    doctor_mount_of(copy, "/", &m);
    doctor_swap_bytes(copy);
    doctor_memlock(copy, &x);
    doctor_df(copy, &x, &y);
    doctor_compare_versions(copy, answers);
    free(copy);
    copy = damage(whole, sizeof whole - 1, &left, chance(12));
    parse(copy, left, &c);
    free(copy);
  }
}

int main(void) {
  const char *given = getenv("SHMCCL_TEST_SEED");
  if (given)
    seed = strtoull(given, NULL, 0);
  else if (getrandom(&seed, sizeof seed, 0) < 0)
    return 1;
  printf("# SHMCCL_TEST_SEED=%llu\n", (unsigned long long)seed);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(versions_compare),
      cmocka_unit_test(mounts),
      cmocka_unit_test(memory),
      cmocka_unit_test(cached_libraries),
      cmocka_unit_test(nccl_versions),
      cmocka_unit_test(glibc_of_this_program),
      cmocka_unit_test(damaged_elf),
      cmocka_unit_test(wslconfig_as_meant),
      cmocka_unit_test(wslconfig_troubles),
      cmocka_unit_test(wslconfig_cut_anywhere),
      cmocka_unit_test(damaged_texts),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
