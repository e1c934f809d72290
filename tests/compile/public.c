/* public.c - shmccl.h needs nothing before it: compiled alone, strictly, as C11 and as C++17. */
#include "shmccl.h"

shmccl_config_t public_config = SHMCCL_CONFIG_INITIALIZER;

#if SHMCCL_VERSION_CODE < 100
#error "the version code is major * 10000 + minor * 100 + patch"
#endif
