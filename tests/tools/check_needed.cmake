# cmake -D READELF=<program> -D BINARY=<file> -P check_needed.cmake
# Fails when BINARY needs a shared library besides libc, libm and the loader.

execute_process(COMMAND ${READELF} -d ${BINARY}
                OUTPUT_VARIABLE dynamic RESULT_VARIABLE result)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "${READELF} -d ${BINARY} failed")
endif()
string(REGEX MATCHALL "\\(NEEDED\\)[^\n]*" needed "${dynamic}")
if(NOT needed)
  message(FATAL_ERROR "${BINARY} has no NEEDED entry: is it a dynamic ELF?")
endif()
set(unwanted "")
foreach(line IN LISTS needed)
  string(REGEX REPLACE ".*\\[(.*)\\].*" "\\1" library "${line}")
  if(NOT library MATCHES "^(libc\\.so|libm\\.so|ld-linux)")
    list(APPEND unwanted ${library})
  endif()
endforeach()
if(unwanted)
  message(FATAL_ERROR "${BINARY} also needs: ${unwanted}")
endif()
