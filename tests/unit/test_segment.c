/*
 * test_segment.c - a segment's life: created complete and under lock, found, claimed once per rank, swept only when
 * dead, gone without a trace; files that are not ours are neither opened nor removed.
 *
 * Several ranks' segments are attached in one process, each with a description and a lock of its own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "harness.h"
#include "shm/liveness.h"
#include "shm/segment.h"

static const uint8_t id[SHMI_ID_BYTES] = {0x01, 0x23, 0x45};
static const shmi_options_t options = {.timeout_ms = 1000, .staging_bytes = 1 << 20};
static const char *folder;
static char path[256]; /* of the segment named by id */

static struct shmi_segment create(int nranks) {
  struct shmi_segment s;
  assert_int_equal(shmi_segment_create(&s, id, nranks, &options), SHMCCL_SUCCESS);
  assert_non_null(s.base);
  return s;
}

static struct shmi_segment attach(int rank) {
  struct shmi_segment s;
  assert_int_equal(shmi_segment_attach(&s, id, rank), SHMCCL_SUCCESS);
  return s;
}

static void expect_refusal(shmccl_result_t result, int rank) {
  struct shmi_segment s;
  assert_int_equal(shmi_segment_attach(&s, id, rank), result);
  assert_true(s.base == NULL && s.lock_fd == -1);
}

static int is_named(void) { return !access(path, F_OK); }

static void write_file(mode_t mode, const void *content, size_t bytes) {
  const int fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0600);
  assert_true(fd >= 0);
  assert_int_equal(fchmod(fd, mode), 0);
  assert_int_equal(write(fd, content, bytes), bytes);
  close(fd);
}

/* ---- life ---------------------------------------------------------------------------------------------------------
 */

static void created_and_attached(void **state) {
  struct shmi_segment first = create(2), second = attach(1);
  struct stat st;
  (void)state;
  assert_non_null(second.base);
  assert_int_equal(stat(path, &st), 0);
  assert_int_equal(st.st_mode & 07777, 0600);
  assert_int_equal(st.st_size, first.bytes);
  assert_true(st.st_blocks * 512 < (1 << 20)); /* staging is allocated at first use */
  first.base[SHMI_PAGE] = 42;
  assert_int_equal(second.base[SHMI_PAGE], 42);
  assert_int_equal(shmi_liveness_held(first.lock_fd, 1), 1);
  assert_int_equal(shmi_liveness_held(first.lock_fd, 2), 0);
  shmi_segment_unlink(&first);
  assert_false(is_named());
  shmi_segment_detach(&second, 0);
  assert_int_equal(shmi_liveness_held(first.lock_fd, 1), 0);
  shmi_segment_detach(&first, 0);
  shmi_segment_detach(&first, 0); /* harmless */
}

static void not_there_yet(void **state) {
  struct shmi_segment s = attach(1);
  (void)state;
  assert_null(s.base);
}

static void a_name_that_is_still_there_goes_with_its_creator(void **state) {
  struct shmi_segment s = create(2);
  (void)state;
  assert_true(is_named());
  shmi_segment_detach(&s, 0);
  assert_false(is_named());
}

static void allocation_gives_memory(void **state) {
  struct shmi_segment s = create(3);
  const struct shmi_header *h = (const struct shmi_header *)(const void *)s.base;
  struct stat before, after;
  (void)state;
  assert_int_equal(stat(path, &before), 0);
  assert_int_equal(shmi_segment_allocate(&s, h->staging_offset, h->staging_stride), SHMCCL_SUCCESS);
  assert_int_equal(stat(path, &after), 0);
  assert_int_equal((after.st_blocks - before.st_blocks) * 512, h->staging_stride);
  shmi_segment_detach(&s, 0);
}

static void forked_children_have_neither_mapping_nor_descriptor(void **state) {
  struct shmi_segment s = create(2), peer = attach(1);
  int status;
  (void)state;
  const pid_t child = fork();
  if (child == 0) {
    struct stat st;
    const int closed = fstat(s.lock_fd, &st) && fstat(peer.lock_fd, &st);
    _exit(closed && shmi_fork_generation() == 1 && mincore(s.base, SHMI_PAGE, &(unsigned char){0}) ? 0 : 1);
  }
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_int_equal(status, 0);
  assert_int_equal(shmi_liveness_held(s.lock_fd, 1), 1); /* the child's end did not drop the lock */
  shmi_segment_detach(&peer, 0);
  shmi_segment_detach(&s, 0);
}

/* ---- conflicts ------------------------------------------------------------------------------------------------------
 */

static void each_rank_once(void **state) {
  struct shmi_segment s = create(2), peer = attach(1), again;
  (void)state;
  expect_refusal(SHMCCL_ERROR_INVALID_USAGE, 1);
  expect_refusal(SHMCCL_ERROR_MISMATCH, 2); /* rank 0 knows of two ranks only */
  assert_int_equal(shmi_segment_create(&again, id, 2, &options), SHMCCL_ERROR_INVALID_USAGE);
  assert_true(is_named());
  shmi_segment_detach(&peer, 0);
  peer = attach(1); /* its place is free again */
  assert_non_null(peer.base);
  shmi_segment_detach(&peer, 0);
  shmi_segment_detach(&s, 0);
}

static void foreign_files_are_left_alone(void **state) {
  struct shmi_segment s;
  (void)state;
  write_file(0644, "x", 1);
  expect_refusal(SHMCCL_ERROR_INVALID_USAGE, 1);
  assert_int_equal(shmi_segment_create(&s, id, 2, &options), SHMCCL_ERROR_INVALID_USAGE);
  assert_non_null(strstr(shmccl_last_error(), path));
  shmi_segment_sweep();
  assert_true(is_named());
  unlink(path);
}

static void symbolic_links_are_not_followed(void **state) {
  struct shmi_segment s;
  char target[300];
  struct stat st;
  (void)state;
  snprintf(target, sizeof target, "%s/target", folder);
  const int fd = open(target, O_CREAT | O_WRONLY, 0600);
  assert_true(fd >= 0);
  close(fd);
  assert_int_equal(symlink(target, path), 0);
  expect_refusal(SHMCCL_ERROR_SYSTEM, 1);
  assert_int_equal(shmi_segment_create(&s, id, 2, &options), SHMCCL_ERROR_INVALID_USAGE);
  shmi_segment_sweep();
  assert_int_equal(lstat(path, &st), 0);
  assert_true(S_ISLNK(st.st_mode));
  assert_int_equal(stat(target, &st), 0);
  assert_int_equal(st.st_size, 0);
  unlink(path);
  unlink(target);
}

/* Who may write to the folder can give a living segment of ours the name of another. */
static void another_communicators_segment_is_refused(void **state) {
  const uint8_t other_id[SHMI_ID_BYTES] = {0xff};
  struct shmi_segment other;
  (void)state;
  for (int linked = 0; linked < 2; linked++) {
    assert_int_equal(shmi_segment_create(&other, other_id, 2, &options), SHMCCL_SUCCESS);
    assert_int_equal(linked ? link(other.path, path) : rename(other.path, path), 0);
    expect_refusal(SHMCCL_ERROR_INVALID_USAGE, 1);
    assert_non_null(strstr(shmccl_last_error(), "another communicator's"));
    shmi_segment_detach(&other, 0);
    unlink(path);
  }
}

static void no_umask_opens_it_to_others(void **state) {
  const mode_t masks[] = {0, 0777};
  struct stat st;
  (void)state;
  for (size_t i = 0; i < LENGTH(masks); i++) {
    const mode_t before = umask(masks[i]);
    struct shmi_segment s = create(2);
    umask(before);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    shmi_segment_detach(&s, 0);
  }
}

static void other_kinds_of_files_are_refused(void **state) {
  struct shmi_segment s;
  (void)state;
  assert_int_equal(mkfifo(path, 0600), 0);
  expect_refusal(SHMCCL_ERROR_INVALID_USAGE, 1); /* and does not block */
  assert_int_equal(shmi_segment_create(&s, id, 2, &options), SHMCCL_ERROR_INVALID_USAGE);
  shmi_segment_sweep();
  assert_true(is_named());
  unlink(path);
}

/* ---- hostile contents
 * ------------------------------------------------------------------------------------------------ */

/* A living segment whose header somebody has spoilt. */
static void spoilt_headers_are_refused(void **state) {
  struct shmi_segment s = create(2);
  (void)state;
  for (size_t at = 0; at < offsetof(struct shmi_header, window_bytes); at += 4) {
    const bool is_version = at == offsetof(struct shmi_header, layout_version) ||
                            at / 8 == offsetof(struct shmi_header, library_version) / 8;
    s.base[at] ^= 1;
    expect_refusal(is_version ? SHMCCL_ERROR_MISMATCH : SHMCCL_ERROR_INVALID_USAGE, 1);
    assert_non_null(strstr(shmccl_last_error(), path));
    s.base[at] ^= 1;
  }
  struct shmi_segment peer = attach(1);
  assert_non_null(peer.base);
  shmi_segment_detach(&peer, 0);
  shmi_segment_detach(&s, 0);
}

static void cut_files_are_refused(void **state) {
  struct shmi_segment s = create(2);
  (void)state;
  for (int i = 0; i < 3; i++) {
    assert_int_equal(truncate(path, i == 0 ? (off_t)s.bytes - 1 : i == 1 ? 100 : 0), 0);
    expect_refusal(SHMCCL_ERROR_INVALID_USAGE, 1);
  }
  shmi_segment_detach(&s, 0);
}

/* ---- sweeping
 * --------------------------------------------------------------------------------------------------------- */

/* A rank 0 that dies with the name still there. */
static void leave_a_dead_segment(void) {
  int status;
  const pid_t child = fork();
  if (child == 0) {
    struct shmi_segment s;
    _exit(shmi_segment_create(&s, id, 2, &options) == SHMCCL_SUCCESS ? 0 : 1);
  }
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_int_equal(status, 0);
  assert_true(is_named());
}

static void the_dead_are_swept(void **state) {
  (void)state;
  leave_a_dead_segment();
  shmi_segment_sweep();
  assert_false(is_named());
}

static void the_dead_are_not_attached_to(void **state) {
  (void)state;
  leave_a_dead_segment();
  struct shmi_segment s = attach(1);
  assert_null(s.base); /* as if not there: rank 0 may come yet */
  shmi_segment_sweep();
}

static void the_dead_make_room(void **state) {
  (void)state;
  leave_a_dead_segment();
  struct shmi_segment s = create(2), peer = attach(1);
  assert_non_null(peer.base);
  shmi_segment_detach(&peer, 0);
  shmi_segment_detach(&s, 0);
}

static void the_living_are_not_swept(void **state) {
  struct shmi_segment s = create(2), peer = attach(1);
  (void)state;
  shmi_segment_sweep();
  assert_true(is_named());
  close(s.lock_fd); /* rank 0 dies: the other one is still there */
  shmi_segment_sweep();
  assert_true(is_named());
  shmi_segment_detach(&peer, 0);
  shmi_segment_sweep();
  assert_false(is_named());
  s.lock_fd = -1, s.named = 0;
  shmi_segment_detach(&s, 0);
}

/* Names that only look alike. */
static void other_names_are_not_swept(void **state) {
  static const char *const ends[] = {"0", "g", "-"};
  char other[300];
  (void)state;
  for (size_t i = 0; i < LENGTH(ends); i++) {
    snprintf(other, sizeof other, "%s", path);
    if (i == 0)
      strcat(other, ends[i]);
    else
      other[strlen(other) - 1] = *ends[i];
    const int fd = open(other, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    close(fd);
    shmi_segment_sweep();
    assert_int_equal(unlink(other), 0);
  }
}

/* ---- space and folders
 * -------------------------------------------------------------------------------------------------- */

static void missing_folders_are_named(void **state) {
  struct shmi_segment s;
  (void)state;
  setenv("SHMCCL_SHM_DIR", "/dev/shm/no/such/folder", 1);
  assert_int_equal(shmi_segment_create(&s, id, 2, &options), SHMCCL_ERROR_NO_SPACE);
  assert_non_null(strstr(shmccl_last_error(), "/dev/shm/no/such/folder"));
  shmi_segment_sweep();
  setenv("SHMCCL_SHM_DIR", folder, 1);
}

static void too_little_staging_is_refused(void **state) {
  const shmi_options_t little = {.timeout_ms = 1000, .staging_bytes = 65536};
  struct shmi_segment s;
  (void)state;
  assert_int_equal(shmi_segment_create(&s, id, 16, &little), SHMCCL_ERROR_NO_SPACE);
  assert_false(is_named());
}

static int check_nothing_left(void **state) {
  (void)state;
  return harness_entries(folder) ? -1 : 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(created_and_attached, check_nothing_left),
      cmocka_unit_test_teardown(not_there_yet, check_nothing_left),
      cmocka_unit_test_teardown(a_name_that_is_still_there_goes_with_its_creator, check_nothing_left),
      cmocka_unit_test_teardown(allocation_gives_memory, check_nothing_left),
      cmocka_unit_test_teardown(forked_children_have_neither_mapping_nor_descriptor, check_nothing_left),
      cmocka_unit_test_teardown(each_rank_once, check_nothing_left),
      cmocka_unit_test_teardown(foreign_files_are_left_alone, check_nothing_left),
      cmocka_unit_test_teardown(symbolic_links_are_not_followed, check_nothing_left),
      cmocka_unit_test_teardown(another_communicators_segment_is_refused, check_nothing_left),
      cmocka_unit_test_teardown(no_umask_opens_it_to_others, check_nothing_left),
      cmocka_unit_test_teardown(other_kinds_of_files_are_refused, check_nothing_left),
      cmocka_unit_test_teardown(spoilt_headers_are_refused, check_nothing_left),
      cmocka_unit_test_teardown(cut_files_are_refused, check_nothing_left),
      cmocka_unit_test_teardown(the_dead_are_swept, check_nothing_left),
      cmocka_unit_test_teardown(the_dead_are_not_attached_to, check_nothing_left),
      cmocka_unit_test_teardown(the_dead_make_room, check_nothing_left),
      cmocka_unit_test_teardown(the_living_are_not_swept, check_nothing_left),
      cmocka_unit_test_teardown(other_names_are_not_swept, check_nothing_left),
      cmocka_unit_test_teardown(missing_folders_are_named, check_nothing_left),
      cmocka_unit_test_teardown(too_little_staging_is_refused, check_nothing_left),
  };
  setenv("SHMCCL_DEBUG", "none", 1);
  shmi_log_configure();
  folder = harness_own_folder();
  snprintf(path, sizeof path, "%s/shmccl-%u-01234500000000000000000000000000", folder, (unsigned)geteuid());
  return cmocka_run_group_tests(tests, NULL, NULL);
}
