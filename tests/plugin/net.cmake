# The network and what init does.
shmccl_add_plugin_test(NAME test_net SOURCES test_net.c collnet_rig.c ../harness.c TIMEOUT 120 THREADS)

add_library(plugin_nvml SHARED fake_nvml.c)
set_target_properties(plugin_nvml PROPERTIES OUTPUT_NAME nvidia-ml SOVERSION 1
  LIBRARY_OUTPUT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/nvml)
shmccl_add_plugin_test(NAME test_net_environment SOURCES test_net_environment.c ../harness.c TIMEOUT 120)
if(TARGET test_net_environment)
  add_dependencies(test_net_environment plugin_nvml)
  set_tests_properties(test_net_environment PROPERTIES ENVIRONMENT LD_LIBRARY_PATH=$<TARGET_FILE_DIR:plugin_nvml>)
endif()

add_test(NAME plugin_file COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/check_plugin_file.sh $<TARGET_FILE:nccl-net-shmccl>
  ${CMAKE_NM} ${PROJECT_SOURCE_DIR}/src/plugin/nccl-net-shmccl.map)

# With the plugin's objects linked in: every call of the C library fails once, arenas are written into meanwhile.
shmccl_add_test(NAME test_hostile SOURCES test_hostile.c ../harness.c ../faults.c TIMEOUT 240)
if(TARGET test_hostile)
  target_link_libraries(test_hostile PRIVATE shmccl_plugin_objects)
  shmccl_wrap_calls(test_hostile)
  if(NOT SHMCCL_SANITIZE STREQUAL "address")
    target_compile_definitions(test_hostile PRIVATE FAULTS_STRIDE=3)
  endif()
endif()
