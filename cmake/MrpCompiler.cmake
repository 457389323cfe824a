# How every target of this tree is compiled. Nothing here touches a directory
# property, so a project that adds mrpool as a subdirectory keeps its own flags.

find_package(PkgConfig REQUIRED)
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)

if(PROJECT_IS_TOP_LEVEL)
  set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
  if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
    set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "build type" FORCE)
  endif()
  find_program(MRP_CCACHE ccache)
  mark_as_advanced(MRP_CCACHE)
  if(MRP_CCACHE AND NOT CMAKE_C_COMPILER_LAUNCHER)
    set(CMAKE_C_COMPILER_LAUNCHER "${MRP_CCACHE}")
  endif()
endif()

add_library(mrpool_flags INTERFACE)
target_compile_features(mrpool_flags INTERFACE c_std_11)
target_compile_definitions(mrpool_flags INTERFACE _GNU_SOURCE)
target_compile_options(mrpool_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion
  $<$<BOOL:${MRP_WERROR}>:-Werror>)

if(MRP_SANITIZE)
  target_compile_options(mrpool_flags INTERFACE
    -fsanitize=${MRP_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(mrpool_flags INTERFACE -fsanitize=${MRP_SANITIZE})
  if(MRP_SANITIZE MATCHES "thread" AND CMAKE_C_COMPILER_ID STREQUAL "GNU")
    # gcc warns of every fence because its ThreadSanitizer does not model them;
    # the accesses either side of a fence are atomic here, so it needs no model.
    target_compile_options(mrpool_flags INTERFACE -Wno-tsan)
  endif()
endif()
if(MRP_COVERAGE)
  target_compile_options(mrpool_flags INTERFACE --coverage -fprofile-update=atomic)
  target_link_options(mrpool_flags INTERFACE --coverage)
endif()

# A target of this tree: standard, warnings, hidden symbols.
function(mrp_house_rules target)
  target_link_libraries(${target} PRIVATE $<BUILD_INTERFACE:mrpool_flags>)
  set_target_properties(${target} PROPERTIES
    C_STANDARD 11
    C_STANDARD_REQUIRED ON
    C_EXTENSIONS OFF
    C_VISIBILITY_PRESET hidden)
endfunction()

# Undefined symbols are an error at link time, except where clang leaves the
# sanitizer runtime to the executable.
set(MRP_LINK_DEFS LINKER:-z,defs)
if(MRP_SANITIZE AND CMAKE_C_COMPILER_ID MATCHES "Clang")
  set(MRP_LINK_DEFS "")
endif()
