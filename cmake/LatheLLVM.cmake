# LLVM, MLIR and clang 22: the shared libraries, or with LATHE_STATIC the
# archives. Targets use lathe_mlir (IR and passes) and lathe_clang (the
# in-process compiler and ORC).

find_package(MLIR REQUIRED CONFIG HINTS /usr/lib/llvm-22/lib/cmake/mlir)
if(NOT LLVM_VERSION_MAJOR EQUAL 22)
  message(FATAL_ERROR "Lathe needs LLVM 22, found ${LLVM_PACKAGE_VERSION} in "
                      "${LLVM_DIR}; run tools/setup")
endif()
find_package(Clang REQUIRED CONFIG HINTS "${LLVM_CMAKE_DIR}/../clang")
list(APPEND CMAKE_MODULE_PATH "${MLIR_CMAKE_DIR}" "${LLVM_CMAKE_DIR}")
include(TableGen)
include(AddLLVM)
include(AddMLIR)

add_library(lathe_mlir INTERFACE)
separate_arguments(llvm_definitions NATIVE_COMMAND "${LLVM_DEFINITIONS}")
# ODS-generated code has unused parameters.
target_compile_options(lathe_mlir INTERFACE ${llvm_definitions}
                       -Wno-unused-parameter)
target_include_directories(lathe_mlir SYSTEM INTERFACE
  ${LLVM_INCLUDE_DIRS} ${MLIR_INCLUDE_DIRS})
add_library(lathe_clang INTERFACE)
target_link_libraries(lathe_clang INTERFACE lathe_mlir)

if(NOT LATHE_STATIC)
  target_link_libraries(lathe_mlir INTERFACE MLIR LLVM)
  target_link_libraries(lathe_clang INTERFACE clang-cpp)
else()
  # Both link these archives; lld takes a second where GNU ld takes several.
  find_program(LATHE_LLD ld.lld)
  if(LATHE_LLD)
    add_link_options(-fuse-ld=lld)
  endif()

  # Debian exports every archive with a link to the LLVM dylib: point those
  # links at the archives instead.
  llvm_map_components_to_libnames(llvm_archives
    perfjitevents support core orcjit passes x86codegen x86asmparser x86desc
    x86info irreader targetparser linker coverage frontendopenmp
    frontenddriver frontendhlsl option lto objcarcopts windowsdriver)
  add_library(lathe_llvm_static INTERFACE)
  target_link_libraries(lathe_llvm_static INTERFACE ${llvm_archives})
  function(lathe_relink)
    foreach(t IN LISTS ARGN)
      if(TARGET ${t})
        get_target_property(l ${t} INTERFACE_LINK_LIBRARIES)
        if(l)
          list(TRANSFORM l REPLACE "^LLVM$" "lathe_llvm_static")
          list(TRANSFORM l REPLACE ".*libz3\\.so$" "")
          list(TRANSFORM l REPLACE "^zstd::libzstd_shared$" "libzstd.a")
          list(TRANSFORM l REPLACE "^ZLIB::ZLIB$" "libz.a")
          list(REMOVE_ITEM l "" Polly MLIR)
          set_property(TARGET ${t} PROPERTY INTERFACE_LINK_LIBRARIES "${l}")
        endif()
      endif()
    endforeach()
  endfunction()
  get_property(mlir_archives GLOBAL PROPERTY MLIR_ALL_LIBS)
  lathe_relink(${LLVM_AVAILABLE_LIBS} ${mlir_archives} ${CLANG_EXPORTED_TARGETS})
  add_library(lathe_polly_stub STATIC ${CMAKE_CURRENT_LIST_DIR}/PollyStub.cpp)
  target_include_directories(lathe_polly_stub SYSTEM PRIVATE
                             ${LLVM_INCLUDE_DIRS})
  target_compile_options(lathe_polly_stub PRIVATE ${llvm_definitions})
  set_property(TARGET LLVMLTO clangCodeGen APPEND PROPERTY
               INTERFACE_LINK_LIBRARIES lathe_polly_stub)
  target_link_libraries(lathe_mlir INTERFACE
    MLIRFuncDialect MLIRParser MLIROptLib MLIRPass MLIRTransforms
    MLIRTransformUtils MLIRIR MLIRSupport lathe_llvm_static)
  target_link_libraries(lathe_clang INTERFACE
    clangCodeGen clangFrontend clangDriver clangSerialization clangParse
    clangSema clangAnalysis clangEdit clangAST clangASTMatchers clangLex
    clangBasic clangSupport)
endif()
