# Headers, libraries, modules (see mrp_add_provider), tools, pkg-config, CMake package.

include(CMakePackageConfigHelpers)

set(MRP_CMAKE_INSTALL_DIR "${CMAKE_INSTALL_LIBDIR}/cmake/mrpool")

install(DIRECTORY "${PROJECT_SOURCE_DIR}/include/mrpool"
  DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
  FILES_MATCHING PATTERN "*.h" PATTERN "*.hpp")
install(TARGETS mrpool mrpool_static EXPORT mrpoolTargets)
install(EXPORT mrpoolTargets NAMESPACE mrpool:: DESTINATION "${MRP_CMAKE_INSTALL_DIR}")

file(RELATIVE_PATH mrp_bin_to_lib
  "/prefix/${CMAKE_INSTALL_BINDIR}" "/prefix/${CMAKE_INSTALL_LIBDIR}")
foreach(program mrpool_tool mrpool_bench)
  if(TARGET ${program})
    set_target_properties(${program} PROPERTIES INSTALL_RPATH "$ORIGIN/${mrp_bin_to_lib}")
    install(TARGETS ${program})
  endif()
endforeach()

# The .pc file finds its prefix from where it lies, so an installed tree may move.
file(RELATIVE_PATH MRP_PC_TO_PREFIX
  "/prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/prefix")
configure_file("${PROJECT_SOURCE_DIR}/cmake/mrpool.pc.in"
  "${MRP_GENERATED_DIR}/mrpool.pc" @ONLY)
install(FILES "${MRP_GENERATED_DIR}/mrpool.pc"
  DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")

configure_package_config_file("${PROJECT_SOURCE_DIR}/cmake/mrpoolConfig.cmake.in"
  "${MRP_GENERATED_DIR}/mrpoolConfig.cmake"
  INSTALL_DESTINATION "${MRP_CMAKE_INSTALL_DIR}"
  PATH_VARS MRP_MODULE_INSTALL_DIR)
write_basic_package_version_file("${MRP_GENERATED_DIR}/mrpoolConfigVersion.cmake"
  COMPATIBILITY SameMinorVersion)
install(FILES
  "${MRP_GENERATED_DIR}/mrpoolConfig.cmake"
  "${MRP_GENERATED_DIR}/mrpoolConfigVersion.cmake"
  DESTINATION "${MRP_CMAKE_INSTALL_DIR}")
