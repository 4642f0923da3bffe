#include "runtime/io/File.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace lathe {

static std::string reason() { return std::strerror(errno); }

StatusOr<File> File::open(const std::string &path) {
  // O_NONBLOCK: opening a FIFO must not wait for a writer.
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0)
    return modelError(path + ": cannot open: " + reason());
  struct stat info;
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(fd);
    return modelError(path + ": expected a regular file");
  }
  return File(fd, path, uint64_t(info.st_size));
}

File::File(int fd, std::string path, uint64_t size)
    : fd(fd), filePath(std::move(path)), fileSize(size) {}

File::File(File &&other) noexcept
    : fd(std::exchange(other.fd, -1)), filePath(std::move(other.filePath)),
      fileSize(other.fileSize) {}

File &File::operator=(File &&other) noexcept {
  std::swap(fd, other.fd);
  std::swap(filePath, other.filePath);
  std::swap(fileSize, other.fileSize);
  return *this;
}

File::~File() {
  if (fd >= 0)
    ::close(fd);
}

std::string File::name() const {
  return filePath.substr(filePath.find_last_of('/') + 1);
}

Status File::readAt(uint64_t offset, std::span<uint8_t> out) const {
  size_t done = 0;
  while (done < out.size()) {
    // Linux reads at most 2 GiB at a time.
    size_t chunk = std::min(out.size() - done, size_t(1) << 30);
    ssize_t n = ::pread(fd, out.data() + done, chunk, off_t(offset + done));
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return internalError(filePath + ": reading failed: " + reason());
    if (n == 0)
      return modelError(name() + ": truncated: expected " +
                        std::to_string(out.size()) + " bytes at offset " +
                        std::to_string(offset) + ", found " +
                        std::to_string(done));
    done += size_t(n);
  }
  return absl::OkStatus();
}

StatusOr<AtomicFile> AtomicFile::create(const std::string &path) {
  std::string temporary = path + ".XXXXXX";
  int fd = ::mkostemp(temporary.data(), O_CLOEXEC);
  if (fd < 0)
    return usageError(path + ": cannot create: " + reason());
  ::fchmod(fd, 0644);
  return AtomicFile(fd, path, temporary);
}

AtomicFile::AtomicFile(int fd, std::string path, std::string temporary)
    : fd(fd), path(std::move(path)), temporary(std::move(temporary)) {}

AtomicFile::AtomicFile(AtomicFile &&other) noexcept
    : fd(std::exchange(other.fd, -1)), path(std::move(other.path)),
      temporary(std::move(other.temporary)) {}

AtomicFile::~AtomicFile() {
  if (fd < 0)
    return;
  ::close(fd);
  ::unlink(temporary.c_str());
}

Status AtomicFile::writeAt(uint64_t offset, std::span<const uint8_t> bytes) {
  while (!bytes.empty()) {
    size_t chunk = std::min(bytes.size(), size_t(1) << 30);
    ssize_t n = ::pwrite(fd, bytes.data(), chunk, off_t(offset));
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0 && errno == ENOSPC)
      return capacityError(path + ": the disk is full");
    if (n < 0)
      return internalError(path + ": writing failed: " + reason());
    bytes = bytes.subspan(size_t(n));
    offset += uint64_t(n);
  }
  return absl::OkStatus();
}

Status AtomicFile::commit() {
  bool ok = ::fsync(fd) == 0;
  ok = ::close(std::exchange(fd, -1)) == 0 && ok;
  ok = ok && ::rename(temporary.c_str(), path.c_str()) == 0;
  if (ok)
    return absl::OkStatus();
  Status status = internalError(path + ": writing failed: " + reason());
  ::unlink(temporary.c_str());
  return status;
}

StatusOr<std::string> readFile(const std::string &path, uint64_t maxBytes) {
  LATHE_ASSIGN_OR_RETURN(File file, File::open(path));
  if (file.size() > maxBytes)
    return modelError(path + ": expected at most " + std::to_string(maxBytes) +
                      " bytes, found " + std::to_string(file.size()));
  std::string text(file.size(), '\0');
  LATHE_RETURN_IF_ERROR(
      file.readAt(0, {reinterpret_cast<uint8_t *>(text.data()), text.size()}));
  return text;
}

Status writeFile(const std::string &path, std::string_view text) {
  LATHE_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::create(path));
  LATHE_RETURN_IF_ERROR(file.writeAt(
      0, {reinterpret_cast<const uint8_t *>(text.data()), text.size()}));
  return file.commit();
}

bool fileExists(const std::string &path) {
  struct stat info;
  return ::stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode);
}

std::string joinPath(std::string_view directory, std::string_view name) {
  std::string path(directory);
  if (!path.empty() && path.back() != '/')
    path += '/';
  return path.append(name);
}

} // namespace lathe
