# Sources of the reduction layer, relative to src/, and what each instruction set's loops are compiled with.
#
# No float traps, so that selects between floats vectorise; no fused operations, as docs/numerics.md demands.
set(SHMCCL_REDUCE_SOURCES reduce/reduce.c reduce/kernels_generic.c)
set(kernel_options -ffp-contract=off -fno-trapping-math $<$<NOT:$<CONFIG:Debug>>:-O3>)
set_source_files_properties(reduce/kernels_generic.c PROPERTIES COMPILE_OPTIONS "${kernel_options}")

if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  list(APPEND SHMCCL_REDUCE_SOURCES reduce/kernels_avx2.c reduce/kernels_avx512.c)
  set_source_files_properties(reduce/kernels_avx2.c PROPERTIES COMPILE_OPTIONS
    "${kernel_options};-mavx2;-mf16c;-mfma")
  set_source_files_properties(reduce/kernels_avx512.c PROPERTIES COMPILE_OPTIONS
    "${kernel_options};-mavx2;-mf16c;-mfma;-mavx512f;-mavx512bw;-mavx512dq;-mavx512vl;-mprefer-vector-width=512")
endif()
