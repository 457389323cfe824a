# tools/mrpool/*.c -> mrpool, bench/*.c -> mrpool-bench, examples/<name>.c ->
# examples/<name>. All of them are users: public headers and the shared library.
# bench/workers/subject_<name>.*, memory_*.c -> programs that mrpool-bench starts.

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

# ---- workers of mrpool-bench pool ------------------------------------------------

# mrp_add_worker(<name> SOURCE <subject> [LIBRARIES <lib>...] [DEFINES ...] [OPTIONS ...])
function(mrp_add_worker name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "SOURCE" "LIBRARIES;DEFINES;OPTIONS")
  set(folder "${PROJECT_SOURCE_DIR}/bench/workers")
  set(target mrpool_worker_${name})
  add_executable(${target}
    "${folder}/${arg_SOURCE}" "${folder}/support.c" "${folder}/histogram.c")
  mrp_house_rules(${target})
  target_compile_definitions(${target} PRIVATE ${arg_DEFINES})
  # What stands before a loop must not decide how fast it is: DPDK's pair cost 6.8 or
  # 7.4 ns, depending on that.
  target_compile_options(${target} PRIVATE -falign-functions=64 -falign-loops=64
    ${arg_OPTIONS})
  target_link_libraries(${target} PRIVATE ${arg_LIBRARIES} Threads::Threads
    ${CMAKE_DL_LIBS} m)
  set_target_properties(${target} PROPERTIES
    OUTPUT_NAME "worker-${name}"
    RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bench/workers")
  add_dependencies(mrpool_bench ${target})
  file(RELATIVE_PATH to_lib "/prefix/${MRP_WORKER_DIR}" "/prefix/${CMAKE_INSTALL_LIBDIR}")
  set_target_properties(${target} PROPERTIES INSTALL_RPATH "$ORIGIN/${to_lib}")
  install(TARGETS ${target} RUNTIME DESTINATION "${MRP_WORKER_DIR}")
  set_property(GLOBAL APPEND PROPERTY MRP_WORKERS ${name})
endfunction()

# mrpool in each of its forms: the same source, linked in different ways.
function(mrp_add_mrpool_worker name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "LIBRARY" "DEFINES;OPTIONS")
  mrp_add_worker(${name} SOURCE subject_mrpool.c LIBRARIES ${arg_LIBRARY}
    DEFINES ${arg_DEFINES} OPTIONS ${arg_OPTIONS})
  target_sources(mrpool_worker_${name} PRIVATE
    "${PROJECT_SOURCE_DIR}/bench/workers/growth.c")
endfunction()

# Of `mrpool-bench memory`: bench/workers/memory_<part>.c, the first with main().
function(mrp_add_memory_worker name first)
  cmake_parse_arguments(PARSE_ARGV 2 arg "" "LIBRARY" "")
  set(folder "${PROJECT_SOURCE_DIR}/bench/workers")
  mrp_add_worker(${name} SOURCE memory_${first}.c LIBRARIES ${arg_LIBRARY})
  target_sources(mrpool_worker_${name} PRIVATE
    "${folder}/memory_load.c" "${folder}/memory_support.c")
  foreach(part IN LISTS arg_UNPARSED_ARGUMENTS)
    target_sources(mrpool_worker_${name} PRIVATE "${folder}/memory_${part}.c")
  endforeach()
endfunction()

# Of `mrpool-bench rma` and keys: bench/workers/<benchmark>_<network>.c over the library of
# that provider; endpoints of rma are those of the examples.
function(mrp_add_network_worker benchmark network)
  cmake_parse_arguments(PARSE_ARGV 2 arg "" "SOURCE" "")
  if(NOT arg_SOURCE)
    set(arg_SOURCE "${benchmark}_${network}.c")
  endif()
  mrp_dependency_of("${network}" provider missing)
  if(missing)
    return()
  endif()
  string(TOUPPER "${network}" upper)
  mrp_add_worker(${benchmark}-${network} SOURCE ${arg_SOURCE}
    LIBRARIES mrpool PkgConfig::MRP_DEP_${upper})
endfunction()

function(mrp_add_workers)
  mrp_add_worker(malloc SOURCE subject_malloc.c)
  mrp_add_worker(mutex SOURCE subject_mutex.c)
  mrp_add_mrpool_worker(mrpool LIBRARY mrpool)
  mrp_add_mrpool_worker(plt LIBRARY mrpool DEFINES MRP_NOPLT=)
  mrp_add_mrpool_worker(static LIBRARY mrpool_static)
  mrp_add_mrpool_worker(inline LIBRARY mrpool DEFINES SUBJECT_INLINE)

  mrp_add_memory_worker(memory-malloc malloc)
  mrp_add_memory_worker(memory-mrpool
    mrpool trim latency waiting counts LIBRARY mrpool)

  mrp_add_network_worker(rma ofi)
  mrp_add_network_worker(keys ofi)
  mrp_add_network_worker(rma ucx)
  mrp_add_network_worker(keys ucx)
  mrp_add_network_worker(rma verbs)
  mrp_add_network_worker(rma mpi)
  mrp_add_network_worker(rma mpich SOURCE rma_mpi.c)

  pkg_check_modules(MRP_WORKER_DPDK QUIET IMPORTED_TARGET libdpdk)
  if(MRP_WORKER_DPDK_FOUND)
    # of all its libraries only those of the mempool
    mrp_add_worker(dpdk SOURCE subject_dpdk.c LIBRARIES rte_mempool rte_eal
      OPTIONS ${MRP_WORKER_DPDK_CFLAGS_OTHER})
    target_include_directories(mrpool_worker_dpdk SYSTEM PRIVATE
      ${MRP_WORKER_DPDK_INCLUDE_DIRS})
    target_link_directories(mrpool_worker_dpdk PRIVATE ${MRP_WORKER_DPDK_LIBRARY_DIRS})
  endif()
  if(TARGET PkgConfig::MRP_OPT_ucx)
    mrp_add_worker(ucx SOURCE subject_ucx.c LIBRARIES PkgConfig::MRP_OPT_ucx)
  endif()
  if(CMAKE_CXX_COMPILER AND MRP_BOOST_STACK)
    mrp_add_worker(boost SOURCE subject_boost.cpp)
  endif()
  get_property(workers GLOBAL PROPERTY MRP_WORKERS)
  list(JOIN workers ", " workers)
  mrp_summary(tool "mrpool-bench" "workers ${workers}")
endfunction()

# C++ only for boost's stack, and only if both are there.
include(CheckLanguage)
if(NOT MRP_SANITIZE)
  check_language(CXX)
  if(CMAKE_CXX_COMPILER)
    enable_language(CXX)
    find_path(MRP_BOOST_STACK boost/lockfree/stack.hpp)
    mark_as_advanced(MRP_BOOST_STACK)
  endif()
endif()

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
  mrp_link_optional(mrpool_bench liburing HAVE_URING)
  get_target_property(mrp_bench_options mrpool_bench MRP_OPTIONS)
  list(JOIN mrp_bench_options ", " mrp_bench_options)
  mrp_summary(tool mrpool-bench "built, ${mrp_bench_options}")

  # The workers of `mrpool-bench pool`: one program per allocator, started by it. Not
  # under sanitizers, which replace malloc and make figures meaningless.
  set(MRP_WORKER_DIR "${CMAKE_INSTALL_LIBEXECDIR}/mrpool")
  target_compile_definitions(mrpool_bench PRIVATE
    MRP_WORKER_DIR="${CMAKE_INSTALL_FULL_LIBEXECDIR}/mrpool")
  if(NOT MRP_SANITIZE)
    mrp_add_workers()
  endif()
elseif(mrp_bench_sources)
  mrp_summary(tool mrpool-bench "not built: pkg-config does not find jansson")
endif()

# An example named after a provider (ofi_rma.c) uses that network's library. <name>_<part>.c
# beside a <name>.c is a part of that example; a part named after a provider is left out
# where that cannot be built, and HAVE_<PROVIDER> tells the others.
file(GLOB mrp_example_sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/examples/*.c")

# mrp_example_of(<file's stem> <out>): the example that it is a part of, or ""
function(mrp_example_of stem out)
  set(whole "")
  foreach(source IN LISTS mrp_example_sources)
    cmake_path(GET source STEM candidate)
    string(FIND "${stem}" "${candidate}_" place)
    if(place EQUAL 0)
      set(whole "${candidate}")
    endif()
  endforeach()
  set(${out} "${whole}" PARENT_SCOPE)
endfunction()

# Adds the parts of an example; gives the networks they use, and what is left out.
function(mrp_add_example_parts name networks_out lacks_out)
  set(networks "")
  set(lacks "")
  foreach(part IN LISTS mrp_example_sources)
    cmake_path(GET part STEM stem)
    mrp_example_of("${stem}" whole)
    if(NOT whole STREQUAL name)
      continue()
    endif()
    mrp_dependency_of("${stem}" network missing)
    if(missing)
      string(APPEND lacks ", without ${network}: ${missing}")
      continue()
    endif()
    target_sources(example_${name} PRIVATE "${part}")
    list(APPEND networks ${network})
  endforeach()
  set(${networks_out} "${networks}" PARENT_SCOPE)
  set(${lacks_out} "${lacks}" PARENT_SCOPE)
endfunction()

function(mrp_add_example name source)
  mrp_dependency_of("${name}" provider missing)
  if(missing)
    mrp_summary(example ${name} "not built: ${missing}")
    return()
  endif()
  mrp_add_program(example_${name} "${source}")
  set_target_properties(example_${name} PROPERTIES
    OUTPUT_NAME "${name}"
    RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/examples")
  mrp_add_example_parts(${name} networks lacks)
  foreach(network IN LISTS provider networks)
    string(TOUPPER "${network}" upper)
    target_link_libraries(example_${name} PRIVATE PkgConfig::MRP_DEP_${upper})
    target_compile_definitions(example_${name} PRIVATE HAVE_${upper})
  endforeach()
  mrp_summary(example ${name} "built${lacks}")
endfunction()

foreach(source IN LISTS mrp_example_sources)
  cmake_path(GET source STEM name)
  mrp_example_of("${name}" whole)
  if(whole)
    continue()
  endif()
  mrp_add_example(${name} "${source}")
  if(name MATCHES "^mpi_") # the same with the other implementation
    mrp_add_example(${name}_mpich "${source}")
  endif()
endforeach()
