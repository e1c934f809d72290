# One interface target that everything in the tree is compiled with: language, warnings, sanitizers.
set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

add_library(shmccl_flags INTERFACE)
target_compile_definitions(shmccl_flags INTERFACE _GNU_SOURCE)
target_compile_options(shmccl_flags INTERFACE
  -Wall -Wextra -Wshadow $<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes> $<$<COMPILE_LANGUAGE:C>:-Wmissing-prototypes> -Wformat=2 -Wundef -Wpointer-arith -Wcast-qual
  -Wwrite-strings -Wvla
  "SHELL:-include ${CMAKE_CURRENT_LIST_DIR}/glibc.h"
  -ffile-prefix-map=${PROJECT_SOURCE_DIR}/= -ffile-prefix-map=${PROJECT_BINARY_DIR}/=  # no path of this machine inside
  -ffp-contract=off -fno-math-errno)  # docs/numerics.md: one rounding per operation, on every compiler
if(SHMCCL_WERROR)
  target_compile_options(shmccl_flags INTERFACE -Werror)
endif()
if(SHMCCL_SANITIZE)
  target_compile_options(shmccl_flags INTERFACE -fsanitize=${SHMCCL_SANITIZE} -fno-omit-frame-pointer -g
    -fno-sanitize-recover=all)
  target_link_options(shmccl_flags INTERFACE -fsanitize=${SHMCCL_SANITIZE})
endif()
