/*
 * fuzz.h - what a fuzz target is: a function that takes any bytes and must not crash, and the inputs to start from.
 *
 * Built with clang and SHMCCL_FUZZ=ON, libFuzzer calls it (tests/fuzz/run); everywhere else driver.c does, a fixed
 * number of times with random changes of the seeds, so that every run of the tests tries some.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stddef.h>
#include <stdint.h>

enum { FUZZ_BYTES_MOST = 8192 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Writes seed `number` and returns its size; 0 if there are no more. */
size_t fuzz_seed(unsigned number, uint8_t to[FUZZ_BYTES_MOST]);

/* What driver.c does by default: as many as take a second or two. */
extern const unsigned fuzz_runs;

#endif
