//===- ObjectCache.h - compiled kernels kept on disk ------------*- C++ -*-===//
//
// A directory of compiled objects, each under the hash of everything that
// decides its bytes. What is in it will be executed, so the directory must
// belong to the user and be writable by nobody else. An entry that is missing,
// truncated, altered or written by another version is a miss: the caller
// compiles and stores again, nothing fails.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_CACHE_OBJECTCACHE_H
#define LATHE_COMPILER_CACHE_OBJECTCACHE_H

#include "runtime/base/Status.h"

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace lathe {

/// A 128-bit name of a compilation.
struct CacheKey {
  std::uint64_t high = 0;
  std::uint64_t low = 0;

  std::string hex() const;
  bool operator==(const CacheKey &) const = default;
};

/// The key of everything that decides an object's bytes: compiler, target,
/// flags, headers, source. Each part counts with its length, so moving text
/// from one part to the next changes the key; so does the cache's own schema
/// version.
CacheKey cacheKey(std::initializer_list<std::string_view> parts);

struct CacheStats {
  std::uint64_t hits = 0;
  std::uint64_t misses = 0;
  std::uint64_t stores = 0;
};

/// Thread-safe; several processes may share the directory.
class ObjectCache {
public:
  static constexpr std::uint64_t kDefaultByteCap = std::uint64_t(1) << 30;

  /// Opens `directory`, creating it (and its parents) with mode 0700. Fails
  /// when it cannot be created, is not owned by the user, or can be written by
  /// group or others; the caller goes on without a cache and prints
  /// "cache disabled: " and the message.
  static StatusOr<std::unique_ptr<ObjectCache>>
  open(const std::string &directory, std::uint64_t byteCap = kDefaultByteCap);

  ~ObjectCache();
  ObjectCache(const ObjectCache &) = delete;
  ObjectCache &operator=(const ObjectCache &) = delete;

  /// The object stored under `key`, checked; nothing on a miss. A hit marks
  /// the entry as recently used.
  std::optional<std::string> find(const CacheKey &key);

  /// Stores `object`, atomically replacing what was there, then removes the
  /// least recently used entries when the directory has outgrown its cap. A
  /// failure (full disk) loses nothing but the entry.
  Status store(const CacheKey &key, std::string_view object);

  CacheStats stats() const;

private:
  class Impl;
  explicit ObjectCache(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl;
};

} // namespace lathe

#endif // LATHE_COMPILER_CACHE_OBJECTCACHE_H
