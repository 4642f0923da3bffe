//===- ObjectLoader.h - object bytes to code that runs ----------*- C++ -*-===//
//
// Links relocatable objects into this process with ORC and JITLink. Objects do
// not see each other: each may define the same symbols. They see memcpy,
// memmove, memset and memcmp, which LLVM may call on its own, and nothing else
// of the process, so the loader works the same in a static binary.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_JIT_OBJECTLOADER_H
#define LATHE_COMPILER_JIT_OBJECTLOADER_H

#include "runtime/base/Status.h"

#include <cstddef>
#include <memory>
#include <string_view>

namespace lathe {

/// Owns the code: every pointer from lookup() dies with the loader.
/// Thread-safe.
class ObjectLoader {
public:
  using ObjectId = std::size_t;

  static StatusOr<std::unique_ptr<ObjectLoader>> create();

  ~ObjectLoader();
  ObjectLoader(const ObjectLoader &) = delete;
  ObjectLoader &operator=(const ObjectLoader &) = delete;

  /// Takes a copy of an ELF relocatable object for this CPU. It is linked by
  /// the first lookup(). The bytes are code: they must come from the compiler
  /// or from a checked cache.
  StatusOr<ObjectId> add(std::string_view object);

  /// The address of `symbol` in an object. Fails when the object does not
  /// define it, is malformed, or needs a symbol that there is not.
  StatusOr<void *> lookup(ObjectId id, std::string_view symbol);

private:
  class Impl;
  explicit ObjectLoader(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl;
};

} // namespace lathe

#endif // LATHE_COMPILER_JIT_OBJECTLOADER_H
