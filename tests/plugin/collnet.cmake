# CollNet and tuner.
set(collnet_sources collnet_rig.c ../collectives/calls.c ../harness.c ../reference.c)
shmccl_add_plugin_test(NAME test_collnet_processes SOURCES test_collnet.c ${collnet_sources} TIMEOUT 300)
shmccl_add_plugin_test(NAME test_collnet_threads SOURCES test_collnet.c ${collnet_sources} TIMEOUT 300 THREADS)
if(TARGET test_collnet_threads)
  target_compile_definitions(test_collnet_threads PRIVATE HARNESS_THREADS)
endif()
