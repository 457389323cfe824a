# The core library, its backends and its providers.
#
#   mrp_add_core(<layer>...)                        src/<layer>/*.c
#   mrp_add_backend(<name> [LIBRARIES <lib>...])    src/backends/<name>.c
#   mrp_add_provider(<name> EMBEDDED)               src/providers/<name>/*.c, in the core
#   mrp_add_provider(<name> PKGCONFIG <module>...)  the same as a shared object
#                    [SOURCES <folder>]             of src/providers/<folder>/*.c
#   mrp_finish_core()                               after the last of them
#
# A provider that is a module has a cache entry MRP_PROVIDER_<NAME>: AUTO builds
# it when its dependency is found, ON insists, OFF leaves it out.

# beside libmrpool.so, as installed, so that the library finds them by itself
set(MRP_MODULE_DIR "${PROJECT_BINARY_DIR}/mrpool")
set(MRP_MODULE_INSTALL_DIR "${CMAKE_INSTALL_LIBDIR}/mrpool")
set(MRP_GENERATED_DIR "${PROJECT_BINARY_DIR}/generated")

set(kind_width 9)
set(name_width 20)

# One line of the summary that ends a configure run.
function(mrp_summary kind name text)
  foreach(column kind name)
    string(LENGTH "${${column}}" width)
    math(EXPR missing "${${column}_width} - ${width}")
    if(missing GREATER 0)
      string(REPEAT " " ${missing} padding)
      string(APPEND ${column} "${padding}")
    endif()
  endforeach()
  set_property(GLOBAL APPEND PROPERTY MRP_SUMMARY "  ${kind} ${name} ${text}")
endfunction()

function(mrp_print_summary)
  set(how "${CMAKE_C_COMPILER_ID} ${CMAKE_C_COMPILER_VERSION}" ${CMAKE_BUILD_TYPE})
  if(MRP_SANITIZE)
    list(APPEND how "sanitizers ${MRP_SANITIZE}")
  endif()
  list(JOIN how ", " how)
  message(STATUS "")
  message(STATUS "mrpool ${PROJECT_VERSION}: ${how}")
  get_property(lines GLOBAL PROPERTY MRP_SUMMARY)
  foreach(line IN LISTS lines)
    message(STATUS "${line}")
  endforeach()
  message(STATUS "")
endfunction()

# Everything of the core is compiled once, into mrpool_objects; the shared and
# the static library and the tests are made from it, so that tests reach
# internals which no library exports.
function(mrp_add_core)
  set(sources)
  foreach(layer IN LISTS ARGN)
    file(GLOB found CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/src/${layer}/*.c")
    list(APPEND sources ${found})
  endforeach()
  add_library(mrpool_objects OBJECT ${sources})
  mrp_house_rules(mrpool_objects)
  set_target_properties(mrpool_objects PROPERTIES POSITION_INDEPENDENT_CODE ON)
  target_compile_definitions(mrpool_objects PRIVATE
    MRP_MODULE_DIR="${CMAKE_INSTALL_FULL_LIBDIR}/mrpool")
  target_include_directories(mrpool_objects
    PUBLIC "${PROJECT_SOURCE_DIR}/include"
    PRIVATE "${PROJECT_SOURCE_DIR}/src")
  target_link_libraries(mrpool_objects PUBLIC Threads::Threads ${CMAKE_DL_LIBS})

  # Only the context knows which backends and providers are built in.
  file(GLOB context_sources "${PROJECT_SOURCE_DIR}/src/context/*.c")
  set_source_files_properties(${context_sources} PROPERTIES
    INCLUDE_DIRECTORIES "${MRP_GENERATED_DIR}")
endfunction()

function(mrp_add_backend name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "LIBRARIES")
  file(GLOB parts CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/src/backends/${name}_*.c")
  target_sources(mrpool_objects PRIVATE
    "${PROJECT_SOURCE_DIR}/src/backends/${name}.c" ${parts})
  target_link_libraries(mrpool_objects PUBLIC ${arg_LIBRARIES})
  set_property(GLOBAL APPEND PROPERTY MRP_BUILTINS "MRP_BUILTIN_BACKEND(${name})")
  mrp_summary(backend ${name} "built in")
endfunction()

function(mrp_add_provider name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "EMBEDDED" "SOURCES" "PKGCONFIG")
  if(NOT arg_SOURCES)
    set(arg_SOURCES ${name})
  endif()
  file(GLOB sources CONFIGURE_DEPENDS
    "${PROJECT_SOURCE_DIR}/src/providers/${arg_SOURCES}/*.c")
  if(arg_EMBEDDED)
    target_sources(mrpool_objects PRIVATE ${sources})
    set_property(GLOBAL APPEND PROPERTY MRP_BUILTINS "MRP_BUILTIN_PROVIDER(${name})")
    mrp_summary(provider ${name} "built in")
    return()
  endif()

  # named even where it is not built, so that the library can say that it is missing
  set_property(GLOBAL APPEND PROPERTY MRP_BUILTINS "MRP_KNOWN_MODULE(${name})")
  string(TOUPPER "${name}" upper)
  set(MRP_PROVIDER_${upper} AUTO CACHE STRING "provider ${name}: AUTO, ON or OFF")
  set_property(CACHE MRP_PROVIDER_${upper} PROPERTY STRINGS AUTO ON OFF)
  mrp_find_dependency(${name} ${arg_PKGCONFIG})
  set_property(GLOBAL APPEND PROPERTY MRP_DEPENDENT ${name})
  get_property(missing GLOBAL PROPERTY MRP_MISSING_${name})
  if(NOT missing AND NOT sources)
    set(missing "no sources in src/providers/${arg_SOURCES}")
    set_property(GLOBAL PROPERTY MRP_MISSING_${name} "${missing}")
  endif()
  if(missing)
    # one of an earlier configuration would still be found
    file(REMOVE "${MRP_MODULE_DIR}/libmrpool-${name}.so")
    mrp_summary(provider ${name} "not built: ${missing}")
    return()
  endif()
  mrp_add_module(mrpool_${name} ${name} "${MRP_MODULE_DIR}" ${sources})
  target_link_libraries(mrpool_${name} PRIVATE PkgConfig::MRP_DEP_${upper})
  install(TARGETS mrpool_${name} LIBRARY DESTINATION "${MRP_MODULE_INSTALL_DIR}")
  set_property(GLOBAL APPEND PROPERTY MRP_MODULES ${name})
  mrp_summary(provider ${name}
    "module, ${arg_PKGCONFIG} ${MRP_DEP_${upper}_VERSION}")
endfunction()

# Sets the global property MRP_MISSING_<name>: empty, or why there is none.
# The library itself becomes the target PkgConfig::MRP_DEP_<NAME>.
function(mrp_find_dependency name)
  string(TOUPPER "${name}" upper)
  set(choice "${MRP_PROVIDER_${upper}}")
  string(JOIN " " wanted ${ARGN})
  if(NOT choice MATCHES "^(AUTO|ON|OFF)$")
    message(FATAL_ERROR "MRP_PROVIDER_${upper} is '${choice}', not AUTO, ON or OFF")
  endif()
  if(NOT choice STREQUAL "OFF")
    pkg_check_modules(MRP_DEP_${upper} QUIET IMPORTED_TARGET GLOBAL ${ARGN})
  endif()
  set(missing "")
  if(choice STREQUAL "OFF")
    set(missing "switched off (MRP_PROVIDER_${upper}=OFF)")
  elseif(NOT MRP_DEP_${upper}_FOUND)
    set(missing "pkg-config does not find ${wanted}")
  endif()
  if(missing AND choice STREQUAL "ON")
    message(FATAL_ERROR "MRP_PROVIDER_${upper}=ON, but ${missing}")
  endif()
  set_property(GLOBAL PROPERTY MRP_MISSING_${name} "${missing}")
  set(MRP_DEP_${upper}_VERSION "${MRP_DEP_${upper}_VERSION}" PARENT_SCOPE)
endfunction()

# A provider module as a stranger would build it: public headers, the shared
# library, and one exported symbol.
function(mrp_add_module target name folder)
  add_library(${target} MODULE ${ARGN})
  set_property(GLOBAL APPEND PROPERTY MRP_MODULE_TARGETS ${target})
  mrp_house_rules(${target})
  target_link_libraries(${target} PRIVATE mrpool)
  set(map "${MRP_GENERATED_DIR}/${target}.map")
  file(CONFIGURE OUTPUT "${map}" CONTENT
    "{ global: mrp_provider_${name}; local: *; };\n" @ONLY)
  target_link_options(${target} PRIVATE
    ${MRP_LINK_DEFS} "LINKER:--version-script=${map}")
  set_target_properties(${target} PROPERTIES
    OUTPUT_NAME "mrpool-${name}"
    LIBRARY_OUTPUT_DIRECTORY "${folder}"
    INSTALL_RPATH "$ORIGIN/..")
endfunction()

# The two libraries of the core, and the list of what is built into them.
function(mrp_finish_core)
  get_property(builtins GLOBAL PROPERTY MRP_BUILTINS)
  list(JOIN builtins "\n" builtins)
  file(CONFIGURE OUTPUT "${MRP_GENERATED_DIR}/mrp_builtin.h" CONTENT
"/* Written by CMake from the mrp_add_backend and mrp_add_provider lines of the top
 * CMakeLists.txt. Define the three macros, include as often as needed, undefine them. */
@builtins@
" @ONLY)

  add_library(mrpool SHARED $<TARGET_OBJECTS:mrpool_objects>)
  add_library(mrpool_static STATIC $<TARGET_OBJECTS:mrpool_objects>)
  foreach(target mrpool mrpool_static)
    add_library(mrpool::${target} ALIAS ${target})
    set_target_properties(${target} PROPERTIES
      LINKER_LANGUAGE C
      OUTPUT_NAME mrpool)
    target_include_directories(${target} INTERFACE
      "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>"
      "$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>")
  endforeach()

  # nodelete: threads may still be inside a destructor of ours when the last
  # dlclose comes, and modules are never unloaded either.
  # Bsymbolic-functions: the library's calls of its own public functions stay
  # inside it, whatever a program happens to define.
  set(map "${PROJECT_SOURCE_DIR}/src/mrpool.map")
  mrp_house_rules(mrpool)
  set_target_properties(mrpool PROPERTIES
    VERSION ${PROJECT_VERSION}
    SOVERSION ${PROJECT_VERSION_MAJOR}
    LINK_DEPENDS "${map}")
  target_link_options(mrpool PRIVATE ${MRP_LINK_DEFS}
    LINKER:-z,nodelete LINKER:-Bsymbolic-functions "LINKER:--version-script=${map}")
  target_link_libraries(mrpool PRIVATE Threads::Threads ${CMAKE_DL_LIBS})

  # A program with the static library offers its symbols to the modules it loads:
  # see tests/CMakeLists.txt on how a module finds them.
  target_link_libraries(mrpool_static PRIVATE $<BUILD_INTERFACE:mrpool_flags>)
  target_link_libraries(mrpool_static INTERFACE Threads::Threads ${CMAKE_DL_LIBS})
  target_link_options(mrpool_static INTERFACE LINKER:--export-dynamic)
endfunction()

# Which provider with a dependency a file is about, by its name: <provider>_* or
# *_<provider>*. Gives the provider and, when it cannot be built, why not.
function(mrp_dependency_of name provider_out missing_out)
  get_property(known GLOBAL PROPERTY MRP_DEPENDENT)
  set(provider "")
  set(missing "")
  foreach(candidate IN LISTS known)
    if("_${name}_" MATCHES "_${candidate}_")
      set(provider ${candidate})
      get_property(missing GLOBAL PROPERTY MRP_MISSING_${candidate})
    endif()
  endforeach()
  set(${provider_out} "${provider}" PARENT_SCOPE)
  set(${missing_out} "${missing}" PARENT_SCOPE)
endfunction()
