# What tests/gpu/run runs: the same programs twice, in a folder each.
#
#   standin/   on the stand-in runtime: so that what will run on a GPU has been run before
#   cuda/      on CUDA's, linked statically, where there is nvcc. Target gpu_folder adds libraries and tools: then it needs
#              nothing of the tree and can be moved. trial/ and broken/ have the library once more, with kernels that dawdle
#              (dawdle.cuh), in the latter with one slot instead of two; LD_LIBRARY_PATH puts them in the other's place.
set(tests ${PROJECT_SOURCE_DIR}/tests)
set(ranks ${tests}/harness.c ${tests}/reference.c ${tests}/collectives/calls.c)
set(programs probe litmus overhead sweep random messages trouble wrap)
set(sources_of_probe probe.c ${tests}/harness.c)
set(sources_of_litmus litmus.c arguments.c ${tests}/harness.c)
set(sources_of_overhead overhead.c arguments.c ${tests}/harness.c)
set(sources_of_sweep sweep.c arguments.c ${ranks})
set(sources_of_random ${tests}/cuda/test_collectives.c ${ranks})
set(sources_of_messages ${tests}/cuda/test_p2p.c ${tests}/collectives/messages.c ${ranks})
set(sources_of_trouble ${tests}/cuda/test_trouble.c ${tests}/trouble/support.c ${tests}/harness.c)
set(sources_of_wrap wrap.c arguments.c ${ranks})

# A program <runtime>/<file> of the target gpu_<runtime>_<file>.
function(gpu_program runtime file)
  set(target gpu_${runtime}_${file})
  add_executable(${target} ${ARGN})
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src ${tests}
    ${tests}/collectives ${tests}/standin)
  target_link_libraries(${target} PRIVATE shmccl_flags gpu_${runtime} Threads::Threads m)
  set_target_properties(${target} PROPERTIES OUTPUT_NAME ${file}
    RUNTIME_OUTPUT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/${runtime})
endfunction()

# ---- on the stand-in ---------------------------------------------------------------------------------------------------

add_library(gpu_standin OBJECT kernels_standin.c)
target_include_directories(gpu_standin PRIVATE ${PROJECT_SOURCE_DIR}/src)
target_link_libraries(gpu_standin PUBLIC cudart_standin PRIVATE shmccl_flags)
foreach(program ${programs})
  gpu_program(standin ${program} ${sources_of_${program}})
  if(program STREQUAL "wrap")
    target_link_libraries(gpu_standin_wrap PRIVATE shmccl_standin)
  else()
    target_link_libraries(gpu_standin_${program} PRIVATE shmccl_standin_shared)
  endif()
endforeach()
if(TARGET shmccl_perf_objects)
  gpu_program(standin shmccl-perf ${PROJECT_SOURCE_DIR}/bench/gpu_cuda.c)
  target_link_libraries(gpu_standin_shmccl-perf PRIVATE shmccl_perf_objects shmccl_standin_shared)
endif()

# ---- on CUDA's runtime -------------------------------------------------------------------------------------------------

if(SHMCCL_HAVE_NVCC)
  set(cuda ${CMAKE_CURRENT_BINARY_DIR}/cuda)
  set(kernels ${CMAKE_CURRENT_BINARY_DIR}/gpu_kernels.o)
  add_custom_command(OUTPUT ${kernels}
    COMMAND ${SHMCCL_NVCC} ${SHMCCL_GENCODE} -std=c++17 -O3 -Werror all-warnings
      -Xcompiler -fPIC,-fno-threadsafe-statics,-fno-exceptions -I${PROJECT_SOURCE_DIR}/src
      -MD -MF ${kernels}.d -c ${CMAKE_CURRENT_SOURCE_DIR}/kernels.cu -o ${kernels}
    DEPENDS kernels.cu DEPFILE ${kernels}.d COMMENT "Compiling kernels: tests" VERBATIM)
  add_custom_target(gpu_kernels DEPENDS ${kernels})

  add_library(gpu_cuda OBJECT real_runtime.c)
  target_include_directories(gpu_cuda PRIVATE ${tests}/standin)
  target_include_directories(gpu_cuda SYSTEM PUBLIC ${SHMCCL_CUDA_INCLUDE})
  target_compile_definitions(gpu_cuda INTERFACE TESTS_ON_GPU=1)
  target_link_libraries(gpu_cuda PRIVATE shmccl_flags PUBLIC ${SHMCCL_CUDART} rt ${CMAKE_DL_LIBS})

  function(gpu_cuda_program file)
    gpu_program(cuda ${file} ${ARGN})
    add_dependencies(gpu_cuda_${file} gpu_kernels)
    target_link_libraries(gpu_cuda_${file} PRIVATE ${kernels})
    target_link_options(gpu_cuda_${file} PRIVATE -Wl,--enable-new-dtags)
    set_target_properties(gpu_cuda_${file} PROPERTIES BUILD_WITH_INSTALL_RPATH ON INSTALL_RPATH "\$ORIGIN")
    set_property(GLOBAL APPEND PROPERTY gpu_cuda_programs gpu_cuda_${file})
  endfunction()

  # The library with kernels that are compiled with these flags, in a folder of its own; objects in ${name}_objects.
  function(gpu_variant name)
    shmccl_compile_kernels(gpu_${name}_kernels objects -DSHMI_POINTS -include ${CMAKE_CURRENT_SOURCE_DIR}/dawdle.cuh ${ARGN})
    add_library(gpu_${name} SHARED EXCLUDE_FROM_ALL)
    add_dependencies(gpu_${name} gpu_${name}_kernels)
    target_link_libraries(gpu_${name} PRIVATE shmccl_objects shmccl_memory_cuda ${objects} ${SHMCCL_CUDART} rt ${CMAKE_DL_LIBS})
    target_link_options(gpu_${name} PRIVATE -Wl,--version-script=${PROJECT_SOURCE_DIR}/src/shmccl.map)
    set_target_properties(gpu_${name} PROPERTIES OUTPUT_NAME shmccl SOVERSION 0 LINKER_LANGUAGE C
      LIBRARY_OUTPUT_DIRECTORY ${cuda}/${name})
    set(${name}_objects ${objects} PARENT_SCOPE)
  endfunction()
  gpu_variant(trial)
  gpu_variant(broken -DSHMI_BREAK_SLOTS)

  foreach(program ${programs})
    gpu_cuda_program(${program} ${sources_of_${program}})
    if(program STREQUAL "wrap")
      add_dependencies(gpu_cuda_wrap gpu_trial_kernels)
      target_link_libraries(gpu_cuda_wrap PRIVATE shmccl_objects shmccl_memory_cuda ${trial_objects})
      set_target_properties(gpu_cuda_wrap PROPERTIES EXCLUDE_FROM_ALL ON)
    else()
      target_link_libraries(gpu_cuda_${program} PRIVATE shmccl)
    endif()
  endforeach()
  gpu_cuda_program(nccl_gpu ${nccl_gpu_sources})
  target_include_directories(gpu_cuda_nccl_gpu PRIVATE ${nccl})
  target_link_libraries(gpu_cuda_nccl_gpu PRIVATE shmccl_static)
  if(TARGET shmccl_perf_objects)
    gpu_cuda_program(shmccl-perf ${PROJECT_SOURCE_DIR}/bench/gpu_cuda.c)
    target_link_libraries(gpu_cuda_shmccl-perf PRIVATE shmccl_perf_objects shmccl)
  endif()

  get_property(all GLOBAL PROPERTY gpu_cuda_programs)
  set(carried $<TARGET_FILE:nccl-net-shmccl> $<TARGET_FILE:shmccl-nccl> $<TARGET_FILE:shmccl-doctor>)
  add_custom_target(gpu_folder
    COMMAND ${CMAKE_COMMAND} -E copy $<TARGET_FILE:shmccl> ${cuda}/libshmccl.so.0
    COMMAND ${CMAKE_COMMAND} -E copy ${carried} ${CMAKE_CURRENT_SOURCE_DIR}/run ${cuda}
    DEPENDS ${all} gpu_trial gpu_broken shmccl nccl-net-shmccl shmccl-nccl shmccl-doctor VERBATIM)
endif()

# ---- the script --------------------------------------------------------------------------------------------------------

set(run ${tests}/bench/run.sh)
add_test(NAME gpu_run COMMAND ${run} ${CMAKE_CURRENT_SOURCE_DIR}/run --build ${CMAKE_CURRENT_BINARY_DIR}/cuda
  --out ${CMAKE_CURRENT_BINARY_DIR}/results/run)
set_tests_properties(gpu_run PROPERTIES TIMEOUT 600 RUN_SERIAL ON SKIP_RETURN_CODE 77)
add_test(NAME gpu_run_standin COMMAND ${run} ${CMAKE_CURRENT_SOURCE_DIR}/check_run.py ${CMAKE_CURRENT_BINARY_DIR}/standin)
set_tests_properties(gpu_run_standin PROPERTIES TIMEOUT 400 RUN_SERIAL ON SKIP_RETURN_CODE 77)
