//===- File.h - whole files and positioned reads ----------------*- C++ -*-===//
//
// Files are read with pread, never mapped: a file that shrinks while it is
// read gives an error instead of a SIGBUS. A file that cannot be opened or is
// too short is a modelError; a failing disk is an internalError.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_IO_FILE_H
#define LATHE_RUNTIME_IO_FILE_H

#include "runtime/base/Status.h"

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace lathe {

/// A regular file open for reading. Move-only; closes itself. Concurrent
/// readAt calls are safe.
class File {
public:
  static StatusOr<File> open(const std::string &path);

  File(File &&other) noexcept;
  File &operator=(File &&other) noexcept;
  ~File();

  const std::string &path() const { return filePath; }
  /// The last component of path().
  std::string name() const;
  /// Size in bytes when the file was opened.
  uint64_t size() const { return fileSize; }

  /// Fills `out` from byte `offset`; a short file is an error.
  Status readAt(uint64_t offset, std::span<uint8_t> out) const;

private:
  File(int fd, std::string path, uint64_t size);

  int fd = -1;
  std::string filePath;
  uint64_t fileSize = 0;
};

/// A new file that replaces `path` when commit() succeeds. Until then the
/// bytes live in a temporary neighbour, which the destructor removes.
class AtomicFile {
public:
  static StatusOr<AtomicFile> create(const std::string &path);

  AtomicFile(AtomicFile &&other) noexcept;
  AtomicFile &operator=(AtomicFile &&) = delete;
  ~AtomicFile();

  /// Writes `bytes` from byte `offset`. Concurrent calls are safe.
  Status writeAt(uint64_t offset, std::span<const uint8_t> bytes);
  /// Flushes to the disk and renames over `path`. Call once, last.
  Status commit();

private:
  AtomicFile(int fd, std::string path, std::string temporary);

  int fd = -1;
  std::string path;
  std::string temporary;
};

/// The content of a file of at most `maxBytes`.
StatusOr<std::string> readFile(const std::string &path, uint64_t maxBytes);

/// Writes `text` to `path` through an AtomicFile.
Status writeFile(const std::string &path, std::string_view text);

/// Whether `path` names an existing regular file (symbolic links followed).
bool fileExists(const std::string &path);

/// `directory` and `name` joined by one '/'.
std::string joinPath(std::string_view directory, std::string_view name);

} // namespace lathe

#endif // LATHE_RUNTIME_IO_FILE_H
