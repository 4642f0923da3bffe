//===- SanitizerOptions.cpp - defaults of the asan preset -----------------===//
//
// LLVM's allocator poisons its free memory from its headers, which we compile
// with ASan, and unpoisons it in Debian's library, which is compiled without:
// that poison says nothing.
//
//===----------------------------------------------------------------------===//

extern "C" const char *__asan_default_options();
extern "C" const char *__asan_default_options() {
  return "allow_user_poisoning=0";
}

extern "C" const char lathe_sanitizer_options_anchor;
extern "C" const char lathe_sanitizer_options_anchor = 0;
