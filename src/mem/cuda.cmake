# SHMCCL_MEMORY and SHMCCL_MOVER with CUDA: mem/cuda.c and the kernels, mem/mover_cuda.c, and the static CUDA runtime.
#
# The host stubs that nvcc makes are never called; their thread-safe statics would need the C++ library.
# Kernels are compiled for what they are meant for (8.0's run on 8.6 too), and as PTX for what comes later.
set(SHMCCL_CUDA_ARCHITECTURES "75;80;90;120" CACHE STRING "compute capabilities to compile the kernels for")
set(gencode)
foreach(arch ${SHMCCL_CUDA_ARCHITECTURES})
  list(APPEND gencode -gencode arch=compute_${arch},code=sm_${arch})
endforeach()
list(GET SHMCCL_CUDA_ARCHITECTURES -1 newest)
list(APPEND gencode -gencode arch=compute_${newest},code=compute_${newest})
set(SHMCCL_GENCODE ${gencode} CACHE INTERNAL "nvcc's flags for these")

# The kernels' objects in the calling folder: their list in `result`, to be built first by the target `target`; with more flags.
function(shmccl_compile_kernels target result)
  set(src ${PROJECT_SOURCE_DIR}/src)
  set(kernels)
  foreach(part integer float messages)
    set(source ${src}/coll/kernels_${part}.cu)
    set(object ${CMAKE_CURRENT_BINARY_DIR}/${target}_${part}.o)
    add_custom_command(OUTPUT ${object}
      COMMAND ${SHMCCL_NVCC} ${SHMCCL_GENCODE} -std=c++17 -O3 -fmad=false
        -Xcompiler -fPIC,-fvisibility=hidden,-fno-threadsafe-statics,-fno-exceptions ${ARGN}
        -I${PROJECT_SOURCE_DIR}/include -I${src} -MD -MF ${object}.d -c ${source} -o ${object}
      DEPENDS ${source} DEPFILE ${object}.d COMMENT "Compiling kernels: ${part}" VERBATIM)
    list(APPEND kernels ${object})
  endforeach()
  add_custom_target(${target} DEPENDS ${kernels})
  set(${result} ${kernels} PARENT_SCOPE)
endfunction()
shmccl_compile_kernels(shmccl_kernels kernels)

get_filename_component(toolkit ${SHMCCL_NVCC} DIRECTORY)
find_library(SHMCCL_CUDART cudart_static REQUIRED HINTS ${toolkit}/../lib64 ${toolkit}/../targets/x86_64-linux/lib
  ${toolkit}/../targets/sbsa-linux/lib)
find_path(SHMCCL_CUDA_INCLUDE cuda_runtime_api.h REQUIRED HINTS ${toolkit}/../include)

add_library(shmccl_memory_cuda OBJECT mem/cuda.c mem/cuda_pinned.c)
add_library(shmccl_mover_cuda OBJECT mem/mover_cuda.c mem/cuda_pinned.c)
foreach(library shmccl_memory_cuda shmccl_mover_cuda)
  target_compile_options(${library} PRIVATE -fvisibility=hidden)
  target_include_directories(${library} PRIVATE ${PROJECT_SOURCE_DIR}/include ${CMAKE_CURRENT_SOURCE_DIR})
  target_include_directories(${library} SYSTEM PRIVATE ${SHMCCL_CUDA_INCLUDE})
  target_link_libraries(${library} PRIVATE shmccl_flags)
endforeach()
add_dependencies(shmccl_memory_cuda shmccl_kernels)
set(SHMCCL_MEMORY shmccl_memory_cuda ${kernels} ${SHMCCL_CUDART} rt ${CMAKE_DL_LIBS})
set(SHMCCL_MOVER shmccl_mover_cuda ${SHMCCL_CUDART} rt ${CMAKE_DL_LIBS})
