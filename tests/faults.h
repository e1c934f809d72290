/*
 * faults.h - calls of the C library that fail when a test says so, and mappings with guard pages around them.
 *
 * A program that is linked with shmccl_wrap_calls() (tests/CMakeLists.txt) and the static library has every call of the
 * functions in SHMCCL_WRAPPED_CALLS, the library's and its own, go through here: the linker renames them. Calls are
 * numbered between faults_on() and faults_off(), by all threads together; one of them can be made to fail.
 */
#ifndef FAULTS_H
#define FAULTS_H

#include <stdbool.h>
#include <stdint.h>

/* Calls that remove names: one that fails leaves a file, for the next sweep. All others must leave none. */
enum faults_kind { FAULTS_TAKING, FAULTS_REMOVING };

/* The number-th call (from 0 on) of that kind fails, every time faults are switched on anew. UINT32_MAX: none. */
void faults_arm(enum faults_kind kind, uint32_t number);
void faults_on(void);
void faults_off(void);
/* The function whose call failed; NULL if there were not so many. */
const char *faults_fired(void);

/* From now on pages that nobody may touch lie before and behind every file that is mapped. */
void faults_guard_mappings(void);

/* How often a clock was asked for that can jump. */
uint32_t faults_jumping_clocks(void);

#endif
