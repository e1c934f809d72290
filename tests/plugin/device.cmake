# The plugin on CUDA pointers, on the stand-in CUDA runtime: tests/cuda's plugin_standin.
function(plugin_device_program name)
  add_executable(${name} ${ARGN} device_rig.c collnet_rig.c ../harness.c)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests ${PROJECT_SOURCE_DIR}/src)
  target_compile_definitions(${name} PRIVATE PLUGIN_FILE="$<TARGET_FILE:plugin_standin>")
  target_link_libraries(${name} PRIVATE shmccl_flags shmccl_static cudart_standin Threads::Threads ${CMAKE_DL_LIBS})
  add_dependencies(${name} plugin_standin)
endfunction()

function(plugin_device_test name program)
  add_test(NAME plugin_device_${name} COMMAND ${program})
  set(environment ${ARGN} TSAN_OPTIONS=atexit_sleep_ms=0
    LSAN_OPTIONS=suppressions=${PROJECT_SOURCE_DIR}/tests/cuda/lsan.supp:print_suppressions=0)
  set_tests_properties(plugin_device_${name} PROPERTIES TIMEOUT 240 ENVIRONMENT "${environment}")
endfunction()

plugin_device_program(test_device_threads test_device_memory.c)
target_compile_definitions(test_device_threads PRIVATE HARNESS_THREADS)
plugin_device_test(threads test_device_threads STANDIN_DEVICES=2)
plugin_device_test(delays test_device_threads STANDIN_DEVICES=2 STANDIN_DELAY=500)

if(NOT SHMCCL_SANITIZE STREQUAL "thread")
  plugin_device_program(test_device_memory test_device_memory.c)
  plugin_device_test(processes test_device_memory STANDIN_DEVICES=1 STANDIN_HOST_ALIAS=1 STANDIN_PINNED_LIMIT=1024)
  plugin_device_program(test_device_trouble test_device_trouble.c)
  plugin_device_test(trouble test_device_trouble STANDIN_DEVICES=2)
endif()

if(NOT SHMCCL_SANITIZE)
  plugin_device_test(one_queue test_device_threads STANDIN_DEVICES=2 STANDIN_ONE_QUEUE=1)

  # Negative control: if an event said that a copy is done before it is, the test would see it.
  plugin_device_program(test_device_lying test_device_memory.c)
  target_compile_definitions(test_device_lying PRIVATE HARNESS_THREADS LYING_EVENTS)
  plugin_device_test(lying test_device_lying STANDIN_DEVICES=2 STANDIN_DELAY=2000)
  set_tests_properties(plugin_device_lying PROPERTIES PASS_REGULAR_EXPRESSION "message [0-9]+ of [0-9]+ bytes: byte|element")
endif()
