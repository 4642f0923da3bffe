#include "compiler/cache/ObjectCache.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <mutex>
#include <utility>
#include <vector>

#include <dirent.h>
#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

namespace lathe {

namespace {

constexpr std::uint64_t kSchemaVersion = 1;
constexpr char kMagic[8] = {'L', 'a', 't', 'h', 'e', 'O', 'b', 'j'};
constexpr char kEntrySuffix[] = ".obj";
constexpr char kTempPrefix[] = "temp-";
// No kernel comes near this; it bounds what a broken header can allocate.
constexpr std::uint64_t kMaxObjectBytes = std::uint64_t(256) << 20;
constexpr std::time_t kStaleTempSeconds = 3600;

struct EntryHeader {
  char magic[8];
  std::uint64_t keyHigh;
  std::uint64_t keyLow;
  std::uint64_t length;
  std::uint64_t checksum;
};
static_assert(sizeof(EntryHeader) == 40);

/// A file descriptor that closes itself.
class Fd {
public:
  explicit Fd(int fd = -1) : fd(fd) {}
  ~Fd() {
    if (fd >= 0)
      ::close(fd);
  }
  Fd(const Fd &) = delete;
  Fd &operator=(const Fd &) = delete;
  Fd(Fd &&other) noexcept : fd(std::exchange(other.fd, -1)) {}

  explicit operator bool() const { return fd >= 0; }
  int get() const { return fd; }

private:
  int fd;
};

Status errnoError(std::string_view what) {
  return internalError(std::string(what) + ": " + std::strerror(errno));
}

bool ownedAndPrivate(const struct stat &info) {
  return info.st_uid == ::geteuid() &&
         (info.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

/// mkdir -p with mode 0700; existing folders keep their mode.
Status makeDirectories(const std::string &directory) {
  for (size_t end = 1; end <= directory.size(); ++end) {
    if (end != directory.size() && directory[end] != '/')
      continue;
    std::string prefix = directory.substr(0, end);
    if (::mkdir(prefix.c_str(), 0700) != 0 && errno != EEXIST)
      return errnoError("cannot create directory " + prefix);
  }
  return {};
}

/// Reads exactly `size` bytes.
bool readAll(int fd, void *data, size_t size) {
  char *to = static_cast<char *>(data);
  while (size > 0) {
    ssize_t n = ::read(fd, to, size);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      return false;
    to += n;
    size -= static_cast<size_t>(n);
  }
  return true;
}

bool writeAll(int fd, const void *data, size_t size) {
  const char *from = static_cast<const char *>(data);
  while (size > 0) {
    ssize_t n = ::write(fd, from, size);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return false;
    from += n;
    size -= static_cast<size_t>(n);
  }
  return true;
}

std::string hexOf(std::uint64_t value) {
  char text[17];
  std::snprintf(text, sizeof text, "%016llx",
                static_cast<unsigned long long>(value));
  return text;
}

std::string entryName(const CacheKey &key) { return key.hex() + kEntrySuffix; }

/// A name that no other thread, process or container has: random, because
/// containers share process ids.
std::string temporaryName() {
  std::uint64_t random[2] = {};
  if (::getrandom(random, sizeof random, 0) != sizeof random)
    random[0] = static_cast<std::uint64_t>(::getpid());
  return kTempPrefix + hexOf(random[0]) + hexOf(random[1]);
}

struct Entry {
  std::string name;
  std::uint64_t bytes;
  timespec used;
};

bool usedBefore(const Entry &a, const Entry &b) {
  if (a.used.tv_sec != b.used.tv_sec)
    return a.used.tv_sec < b.used.tv_sec;
  return a.used.tv_nsec < b.used.tv_nsec;
}

} // namespace

std::string CacheKey::hex() const { return hexOf(high) + hexOf(low); }

CacheKey cacheKey(std::initializer_list<std::string_view> parts) {
  std::string text(reinterpret_cast<const char *>(&kSchemaVersion),
                   sizeof kSchemaVersion);
  for (std::string_view part : parts) {
    std::uint64_t size = part.size();
    text.append(reinterpret_cast<const char *>(&size), sizeof size);
    text.append(part);
  }
  XXH128_hash_t hash = XXH3_128bits(text.data(), text.size());
  return {hash.high64, hash.low64};
}

//===----------------------------------------------------------------------===//
// The directory
//===----------------------------------------------------------------------===//

class ObjectCache::Impl {
public:
  Impl(Fd directory, std::uint64_t byteCap)
      : directory(std::move(directory)), byteCap(byteCap) {}

  std::optional<std::string> read(const CacheKey &key);
  Status write(const CacheKey &key, std::string_view object);

  std::atomic<std::uint64_t> hits{0}, misses{0}, stores{0};

private:
  Status writeTemporary(const std::string &name, const CacheKey &key,
                        std::string_view object);
  void account(std::uint64_t added);
  std::vector<Entry> scan();

  Fd directory;
  const std::uint64_t byteCap;
  std::mutex mutex;
  std::optional<std::uint64_t> totalBytes; ///< unknown before the first store
};

std::optional<std::string> ObjectCache::Impl::read(const CacheKey &key) {
  Fd file(::openat(directory.get(), entryName(key).c_str(),
                   O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  struct stat info;
  if (!file || ::fstat(file.get(), &info) != 0 || !S_ISREG(info.st_mode) ||
      !ownedAndPrivate(info))
    return std::nullopt;
  EntryHeader header;
  if (!readAll(file.get(), &header, sizeof header) ||
      std::memcmp(header.magic, kMagic, sizeof kMagic) != 0 ||
      header.keyHigh != key.high || header.keyLow != key.low ||
      header.length > kMaxObjectBytes ||
      sizeof header + header.length != static_cast<std::uint64_t>(info.st_size))
    return std::nullopt;
  std::string object(header.length, '\0');
  if (!readAll(file.get(), object.data(), object.size()) ||
      XXH3_64bits(object.data(), object.size()) != header.checksum)
    return std::nullopt;
  ::futimens(file.get(), nullptr);
  return object;
}

Status ObjectCache::Impl::writeTemporary(const std::string &name,
                                         const CacheKey &key,
                                         std::string_view object) {
  Fd file(::openat(directory.get(), name.c_str(),
                   O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!file)
    return errnoError("cannot create a cache entry");
  EntryHeader header = {{},
                        key.high,
                        key.low,
                        object.size(),
                        XXH3_64bits(object.data(), object.size())};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  if (!writeAll(file.get(), &header, sizeof header) ||
      !writeAll(file.get(), object.data(), object.size()) ||
      ::fsync(file.get()) != 0)
    return errnoError("cannot write a cache entry");
  return {};
}

Status ObjectCache::Impl::write(const CacheKey &key, std::string_view object) {
  if (object.size() > kMaxObjectBytes)
    return internalError("object of " + std::to_string(object.size()) +
                         " bytes is too large for the cache");
  std::string name = temporaryName();
  Status status = writeTemporary(name, key, object);
  if (status.ok() && ::renameat(directory.get(), name.c_str(), directory.get(),
                                entryName(key).c_str()) != 0)
    status = errnoError("cannot rename a cache entry");
  if (!status.ok()) {
    ::unlinkat(directory.get(), name.c_str(), 0);
    return status;
  }
  ++stores;
  account(sizeof(EntryHeader) + object.size());
  return {};
}

/// Adds to the running total and, above the cap, removes the oldest entries
/// until a quarter of the cap is free, so that cleaning up is rare.
void ObjectCache::Impl::account(std::uint64_t added) {
  std::lock_guard lock(mutex);
  if (totalBytes && *totalBytes + added <= byteCap) {
    *totalBytes += added;
    return;
  }
  // The running total misses what other processes did: look.
  std::vector<Entry> entries = scan();
  std::uint64_t total = 0;
  for (const Entry &entry : entries)
    total += entry.bytes;
  if (total > byteCap) {
    std::sort(entries.begin(), entries.end(), usedBefore);
    for (const Entry &entry : entries) {
      if (total <= byteCap - byteCap / 4)
        break;
      if (::unlinkat(directory.get(), entry.name.c_str(), 0) == 0)
        total -= entry.bytes;
    }
  }
  totalBytes = total;
}

/// Every entry; temporary files of crashed processes are removed on the way.
std::vector<Entry> ObjectCache::Impl::scan() {
  std::vector<Entry> entries;
  int fd = ::openat(directory.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR *stream = fd >= 0 ? ::fdopendir(fd) : nullptr;
  if (!stream) {
    if (fd >= 0)
      ::close(fd);
    return entries;
  }
  std::time_t now = std::time(nullptr);
  while (const dirent *item = ::readdir(stream)) {
    std::string name = item->d_name;
    struct stat info;
    if (::fstatat(directory.get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) !=
            0 ||
        !S_ISREG(info.st_mode))
      continue;
    if (name.ends_with(kEntrySuffix))
      entries.push_back({std::move(name),
                         static_cast<std::uint64_t>(info.st_size),
                         info.st_mtim});
    else if (name.starts_with(kTempPrefix) &&
             info.st_mtim.tv_sec + kStaleTempSeconds < now)
      ::unlinkat(directory.get(), name.c_str(), 0);
  }
  ::closedir(stream);
  return entries;
}

//===----------------------------------------------------------------------===//
// ObjectCache
//===----------------------------------------------------------------------===//

ObjectCache::ObjectCache(std::unique_ptr<Impl> impl) : impl(std::move(impl)) {}
ObjectCache::~ObjectCache() = default;

StatusOr<std::unique_ptr<ObjectCache>>
ObjectCache::open(const std::string &directory, std::uint64_t byteCap) {
  if (directory.empty())
    return usageError("the cache directory has no name");
  LATHE_RETURN_IF_ERROR(makeDirectories(directory));
  Fd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  struct stat info;
  if (!fd || ::fstat(fd.get(), &info) != 0)
    return errnoError("cannot open cache directory " + directory);
  if (info.st_uid != ::geteuid())
    return internalError("cache directory " + directory +
                         " belongs to another user; kernels from it will not "
                         "be executed");
  if (!ownedAndPrivate(info))
    return internalError("cache directory " + directory +
                         " can be written by others; run chmod 700 on it");
  return std::unique_ptr<ObjectCache>(
      new ObjectCache(std::make_unique<Impl>(std::move(fd), byteCap)));
}

std::optional<std::string> ObjectCache::find(const CacheKey &key) {
  std::optional<std::string> object = impl->read(key);
  ++(object ? impl->hits : impl->misses);
  return object;
}

Status ObjectCache::store(const CacheKey &key, std::string_view object) {
  return impl->write(key, object);
}

CacheStats ObjectCache::stats() const {
  return {impl->hits, impl->misses, impl->stores};
}

} // namespace lathe
