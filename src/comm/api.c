/* api.c - what the public header says of results, types and versions. */
#include "comm/comm.h"

static const struct {
  const char *name;
  size_t size;
} types[SHMCCL_DATATYPE_COUNT] = {{"int8", 1},    {"uint8", 1},    {"int32", 4},   {"uint32", 4},
                                  {"int64", 8},   {"uint64", 8},   {"float16", 2}, {"float32", 4},
                                  {"float64", 8}, {"bfloat16", 2}, {"fp8e4m3", 1}, {"fp8e5m2", 1}};

size_t shmccl_datatype_size(shmccl_datatype_t datatype) {
  return (unsigned)datatype < SHMCCL_DATATYPE_COUNT ? types[datatype].size : 0;
}

const char *shmi_datatype_name(uint32_t datatype) {
  return datatype < SHMCCL_DATATYPE_COUNT ? types[datatype].name : "unknown type";
}

int shmccl_version(void) { return SHMCCL_VERSION_CODE; }

const char *shmccl_error_string(shmccl_result_t result) {
  static const char *const texts[] = {"success",        "invalid argument", "invalid usage",  "system error",
                                      "no space",       "out of memory",    "time limit",     "peer died",
                                      "ranks disagree", "aborted",          "internal error", "CUDA error"};
  return (unsigned)result < sizeof texts / sizeof texts[0] ? texts[result] : "unknown result";
}
