//===- BundleFormat.h - what writer and reader agree on ---------*- C++ -*-===//
//
// Private to runtime/artifact.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_ARTIFACT_BUNDLEFORMAT_H
#define LATHE_RUNTIME_ARTIFACT_BUNDLEFORMAT_H

#include "runtime/artifact/Bundle.h"

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

namespace lathe {

inline constexpr char kManifestFile[] = "manifest.json";
inline constexpr char kConfigFile[] = "config.json";
/// The value of "format", which makes a directory a bundle.
inline constexpr char kBundleFormat[] = "lathe-bundle";
inline const std::initializer_list<std::string_view> kModelSources = {
    "checkpoint", "synthetic"};

/// 128-bit XXH3 in hexadecimal.
std::string xxh128(std::string_view bytes);

/// A file descriptor that closes itself.
class Fd {
public:
  explicit Fd(int fd = -1) : fd(fd) {}
  ~Fd();
  Fd(Fd &&other) noexcept : fd(std::exchange(other.fd, -1)) {}
  Fd &operator=(Fd &&other) noexcept {
    std::swap(fd, other.fd);
    return *this;
  }

  explicit operator bool() const { return fd >= 0; }
  int get() const { return fd; }

private:
  int fd;
};

} // namespace lathe

#endif // LATHE_RUNTIME_ARTIFACT_BUNDLEFORMAT_H
