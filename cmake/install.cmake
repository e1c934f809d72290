# What is installed where, and how other projects find it: find_package(shmccl) and pkg-config. Installed files name no
# path of this machine, so that the tree can be moved.
#
# Components are the Debian packages of package.cmake: runtime (what programs load; also what NCCL opens by its name),
# development, tools.
include(CMakePackageConfigHelpers)

foreach(directory LIBDIR INCLUDEDIR BINDIR)
  if(IS_ABSOLUTE "${CMAKE_INSTALL_${directory}}")
    message(FATAL_ERROR "CMAKE_INSTALL_${directory} is ${CMAKE_INSTALL_${directory}}: give it relative to the prefix")
  endif()
endforeach()

install(TARGETS shmccl shmccl_static EXPORT shmccl
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT runtime NAMELINK_COMPONENT development
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT development
  INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(TARGETS nccl-net-shmccl shmccl-nccl LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT runtime)
install(FILES include/shmccl.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT development)

set(cmake_folder ${CMAKE_INSTALL_LIBDIR}/cmake/shmccl)
configure_package_config_file(cmake/shmcclConfig.cmake.in ${PROJECT_BINARY_DIR}/shmcclConfig.cmake
  INSTALL_DESTINATION ${cmake_folder} NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/shmcclConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/shmcclConfig.cmake ${PROJECT_BINARY_DIR}/shmcclConfigVersion.cmake
  DESTINATION ${cmake_folder} COMPONENT development)
install(EXPORT shmccl FILE shmcclTargets.cmake NAMESPACE shmccl:: DESTINATION ${cmake_folder} COMPONENT development)

file(RELATIVE_PATH from_pc_to_prefix /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
string(REGEX REPLACE "/$" "" from_pc_to_prefix ${from_pc_to_prefix})
configure_file(cmake/shmccl.pc.in ${PROJECT_BINARY_DIR}/shmccl.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/shmccl.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT development)

install(TARGETS shmccl-info shmccl-doctor shmccl-nccl-env DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT tools)
if(SHMCCL_BENCH)
  file(RELATIVE_PATH from_bin_to_lib /prefix/${CMAKE_INSTALL_BINDIR} /prefix/${CMAKE_INSTALL_LIBDIR})
  set_target_properties(shmccl-perf PROPERTIES INSTALL_RPATH "$ORIGIN/${from_bin_to_lib}")
  install(TARGETS shmccl-perf DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT tools)
  if(TARGET shmccl-peer-nccl)  # of no NCCL in particular; looked for beside shmccl-perf
    set_target_properties(shmccl-peer-nccl PROPERTIES INSTALL_RPATH "$ORIGIN/${from_bin_to_lib}")
    install(TARGETS shmccl-peer-nccl DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT tools)
  endif()
endif()
install(FILES README.md CHANGELOG.md LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT tools)
