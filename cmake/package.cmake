# Packages: cpack makes shmccl-VERSION-linux-ARCH.tar.gz, or, in a tree of the preset "deb", Debian's usual three:
# libshmccl0 (what programs load), libshmccl-dev, shmccl-tools.
set(CPACK_PACKAGE_VENDOR "The shmccl authors")
if(NOT CPACK_PACKAGE_CONTACT)
  set(CPACK_PACKAGE_CONTACT "The shmccl authors")
endif()
set(CPACK_RESOURCE_FILE_LICENSE ${PROJECT_SOURCE_DIR}/LICENSE)
set(CPACK_STRIP_FILES ON)
if(NOT CPACK_GENERATOR)
  set(CPACK_GENERATOR TGZ)
endif()
string(TOLOWER ${CMAKE_SYSTEM_NAME} system)
set(CPACK_PACKAGE_FILE_NAME shmccl-${PROJECT_VERSION}-${system}-${CMAKE_SYSTEM_PROCESSOR})

if(CPACK_GENERATOR STREQUAL "DEB")
  get_target_property(soversion shmccl SOVERSION)
  set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
  set(CPACK_DEB_COMPONENT_INSTALL ON)
  set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
  set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
  set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
  set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS_POLICY >=)

  set(runtime libshmccl${soversion})
  set(CPACK_DEBIAN_RUNTIME_PACKAGE_NAME ${runtime})
  set(CPACK_DEBIAN_RUNTIME_PACKAGE_SECTION libs)
  set(CPACK_DEBIAN_RUNTIME_PACKAGE_DEPENDS "libc6 (>= 2.35)")  # at most that: tests/install/check_files.sh
  set(CPACK_DEBIAN_RUNTIME_PACKAGE_RECOMMENDS libhwloc15)
  set(CPACK_COMPONENT_RUNTIME_DESCRIPTION
    "The shared library, for programs that use it.")

  set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_NAME libshmccl-dev)
  set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_SECTION libdevel)
  set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_DEPENDS "${runtime} (= ${PROJECT_VERSION})")
  set(CPACK_COMPONENT_DEVELOPMENT_DESCRIPTION
    "Header, static library, CMake and pkg-config files, manual pages of the C interface.")

  set(CPACK_DEBIAN_TOOLS_PACKAGE_NAME shmccl-tools)
  set(CPACK_DEBIAN_TOOLS_PACKAGE_SECTION utils)
  set(CPACK_DEBIAN_TOOLS_PACKAGE_DEPENDS "${runtime} (= ${PROJECT_VERSION})")
  set(CPACK_COMPONENT_TOOLS_DESCRIPTION
    "shmccl-perf measures the collectives, shmccl-info shows what the library sees of a machine, shmccl-doctor what is wrong with it.")

  foreach(component RUNTIME DEVELOPMENT TOOLS)
    string(TOLOWER ${component} lower)
    install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/${CPACK_DEBIAN_${component}_PACKAGE_NAME}
      RENAME copyright COMPONENT ${lower})
  endforeach()
endif()
include(CPack)
