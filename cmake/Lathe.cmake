# Compile flags, third-party libraries and the helpers that every folder uses.

find_program(LATHE_CCACHE ccache)
if(LATHE_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${LATHE_CCACHE})
  set(CMAKE_C_COMPILER_LAUNCHER ${LATHE_CCACHE})
endif()

add_compile_options(-Wall -Wextra -ffunction-sections -fdata-sections)
include_directories(${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
if(LATHE_SANITIZE)
  add_compile_options(-fsanitize=address,undefined -fno-omit-frame-pointer
                      -fno-sanitize-recover=undefined
                      -fno-sanitize=function) # reads in front of JIT code
  add_link_options(-fsanitize=address,undefined)
  add_library(lathe_sanitizer_options STATIC
              ${CMAKE_SOURCE_DIR}/cmake/SanitizerOptions.cpp)
  # Asked for by name: the sanitizer's own weak definition of the options would
  # do for the linker.
  add_link_options(-Wl,-u,lathe_sanitizer_options_anchor)
  link_libraries(lathe_sanitizer_options)
endif()
if(LATHE_STATIC)
  add_link_options(-static-libstdc++ -static-libgcc -Wl,--gc-sections -s)
endif()

find_package(absl REQUIRED)
if(LATHE_STATIC)
  include(AbslStatic)
  absl_use_static(absl::status absl::statusor absl::strings absl::flat_hash_map)
endif()

# lathe_third_party(<target> <name> <header>): an imported library, the .a when
# LATHE_STATIC is on.
function(lathe_third_party target name header)
  find_path(${target}_INCLUDE ${header} REQUIRED)
  if(LATHE_STATIC)
    find_library(${target}_LIBRARY NAMES lib${name}.a REQUIRED)
  else()
    find_library(${target}_LIBRARY NAMES ${name} REQUIRED)
  endif()
  add_library(${target} INTERFACE IMPORTED GLOBAL)
  target_include_directories(${target} SYSTEM INTERFACE ${${target}_INCLUDE})
  target_link_libraries(${target} INTERFACE ${${target}_LIBRARY})
endfunction()

lathe_third_party(lathe_pcre2 pcre2-8 pcre2.h)
lathe_third_party(lathe_utf8proc utf8proc utf8proc.h)
lathe_third_party(lathe_xxhash xxhash xxhash.h)
find_package(Threads REQUIRED)

# lathe_library(<name> SOURCES ... DEPS ...): a static library; DEPS are public.
function(lathe_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC ${ARG_DEPS})
endfunction()

# lathe_test(<name> SOURCES ... DEPS ...): a GoogleTest binary registered as
# one ctest test.
function(lathe_test name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} GTest::gtest_main)
  target_compile_definitions(${name} PRIVATE
    LATHE_TEST_DATA="${CMAKE_SOURCE_DIR}/tests/data"
    LATHE_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  add_test(NAME ${name} COMMAND ${name})
endfunction()
