# tools/mrpool/*.c -> mrpool, bench/*.c -> mrpool-bench, examples/<name>.c ->
# examples/<name>. All of them are users: public headers and the shared library.

function(mrp_add_program target)
  add_executable(${target} ${ARGN})
  mrp_house_rules(${target})
  target_link_libraries(${target} PRIVATE mrpool Threads::Threads)
endfunction()

# Links an optional library and tells the sources so; quiet when there is none.
function(mrp_link_optional target module define)
  string(MAKE_C_IDENTIFIER "MRP_OPT_${module}" prefix)
  pkg_check_modules(${prefix} QUIET IMPORTED_TARGET GLOBAL ${module})
  if(${prefix}_FOUND)
    target_link_libraries(${target} PRIVATE PkgConfig::${prefix})
    target_compile_definitions(${target} PRIVATE ${define})
    set(found "with ${module} ${${prefix}_VERSION}")
  else()
    set(found "without ${module}")
  endif()
  set_property(TARGET ${target} APPEND PROPERTY MRP_OPTIONS "${found}")
endfunction()

# Tool and benchmarks write JSON.
pkg_check_modules(MRP_JANSSON QUIET IMPORTED_TARGET jansson)

file(GLOB mrp_tool_sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/tools/mrpool/*.c")
if(mrp_tool_sources AND MRP_JANSSON_FOUND)
  mrp_add_program(mrpool_tool ${mrp_tool_sources})
  set_target_properties(mrpool_tool PROPERTIES
    OUTPUT_NAME mrpool
    RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/tools")
  target_link_libraries(mrpool_tool PRIVATE PkgConfig::MRP_JANSSON)
  mrp_summary(tool mrpool "built")
elseif(mrp_tool_sources)
  mrp_summary(tool mrpool "not built: pkg-config does not find jansson")
endif()

file(GLOB mrp_bench_sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/bench/*.c")
if(mrp_bench_sources AND MRP_JANSSON_FOUND)
  mrp_add_program(mrpool_bench ${mrp_bench_sources})
  set_target_properties(mrpool_bench PROPERTIES
    OUTPUT_NAME mrpool-bench
    RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bench")
  target_link_libraries(mrpool_bench PRIVATE PkgConfig::MRP_JANSSON m)
  mrp_link_optional(mrpool_bench ucx HAVE_UCX)
  mrp_link_optional(mrpool_bench libfabric HAVE_OFI)
  get_target_property(mrp_bench_options mrpool_bench MRP_OPTIONS)
  list(JOIN mrp_bench_options ", " mrp_bench_options)
  mrp_summary(tool mrpool-bench "built, ${mrp_bench_options}")
elseif(mrp_bench_sources)
  mrp_summary(tool mrpool-bench "not built: pkg-config does not find jansson")
endif()

# An example named after a provider (ofi_rma.c) uses that network's library.
file(GLOB mrp_example_sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/examples/*.c")
foreach(source IN LISTS mrp_example_sources)
  cmake_path(GET source STEM name)
  mrp_dependency_of("${name}" provider missing)
  if(missing)
    mrp_summary(example ${name} "not built: ${missing}")
    continue()
  endif()
  mrp_add_program(example_${name} "${source}")
  if(provider)
    string(TOUPPER "${provider}" upper)
    target_link_libraries(example_${name} PRIVATE PkgConfig::MRP_DEP_${upper})
  endif()
  set_target_properties(example_${name} PROPERTIES
    OUTPUT_NAME "${name}"
    RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/examples")
  mrp_summary(example ${name} "built")
endforeach()
