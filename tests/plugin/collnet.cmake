# CollNet and tuner.
set(collnet_sources collnet_rig.c ../collectives/calls.c ../harness.c ../reference.c)
shmccl_add_plugin_test(NAME test_collnet_processes SOURCES test_collnet.c ${collnet_sources} TIMEOUT 300)
shmccl_add_plugin_test(NAME test_collnet_threads SOURCES test_collnet.c ${collnet_sources} TIMEOUT 300 THREADS)
if(TARGET test_collnet_threads)
  target_compile_definitions(test_collnet_threads PRIVATE HARNESS_THREADS)
endif()
shmccl_add_plugin_test(NAME test_collnet_trouble SOURCES test_collnet_trouble.c ${collnet_sources} TIMEOUT 300)
if(TARGET test_collnet_trouble)
  target_sources(test_collnet_trouble PRIVATE ${PROJECT_SOURCE_DIR}/src/plugin/helper_cpu.c)
endif()

shmccl_add_plugin_test(NAME test_tuner SOURCES test_tuner.c ../harness.c)

if(NOT SHMCCL_SANITIZE)  # the sanitizers' libraries must be there before a plugin is loaded
  add_test(NAME nccl_env COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/check_nccl_env.sh $<TARGET_FILE:shmccl-nccl-env>)
endif()
