# lathe_embed(<output.cpp> HEADER <h> FUNCTION <name> FILES <path>...)
#
# Writes a C++ source that defines, in lathe::device, `<name>()`: every file
# as a path relative to the repository and its text, and `<name>Hash()`: the
# SHA-256 of them all. The source is written again when a file changes. This
# file is also the script that the build runs.

if(NOT CMAKE_SCRIPT_MODE_FILE)
  set(lathe_embed_script ${CMAKE_CURRENT_LIST_FILE})
  function(lathe_embed output)
    cmake_parse_arguments(ARG "" "HEADER;FUNCTION" "FILES" ${ARGN})
    list(JOIN ARG_FILES "," files)
    list(TRANSFORM ARG_FILES PREPEND "${CMAKE_SOURCE_DIR}/")
    add_custom_command(OUTPUT ${output}
      COMMAND ${CMAKE_COMMAND} -D ROOT=${CMAKE_SOURCE_DIR} -D OUTPUT=${output}
              -D HEADER=${ARG_HEADER} -D FUNCTION=${ARG_FUNCTION}
              -D FILES=${files} -P ${lathe_embed_script}
      DEPENDS ${ARG_FILES} ${lathe_embed_script}
      COMMENT "Embedding device files: ${ARG_FUNCTION}" VERBATIM)
  endfunction()
  return()
endif()

string(REPLACE "," ";" files "${FILES}")
set(hashes "")
set(entries "")
foreach(file IN LISTS files)
  file(READ "${ROOT}/${file}" text)
  string(SHA256 hash "${text}")
  string(APPEND hashes "${file} ${hash}\n")
  string(APPEND entries "    {\"${file}\", R\"lathe(${text})lathe\"},\n")
endforeach()
string(SHA256 hash "${hashes}")
file(WRITE "${OUTPUT}"
"#include \"${HEADER}\"

namespace lathe::device {

static const File kFiles[] = {
${entries}};

std::span<const File> ${FUNCTION}() { return kFiles; }
std::string_view ${FUNCTION}Hash() {
  return \"${hash}\";
}

} // namespace lathe::device
")
