#include "compiler/nvrtc/CudaCompiler.h"

#include "compiler/cache/ObjectCache.h"
#include "compiler/nvrtc/ImageCodec.h"
#include "runtime/base/ParallelFor.h"

#include "absl/strings/str_cat.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <optional>

namespace lathe {

class CudaCompiler::Impl {
public:
  Impl(std::shared_ptr<const Nvrtc> nvrtc, CudaTarget target,
       ObjectCache *cache, int threads, std::vector<std::string> options)
      : nvrtc(std::move(nvrtc)), target(std::move(target)), cache(cache),
        threads(std::max(threads, 1)), options(std::move(options)) {}

  StatusOr<std::vector<CompiledImage>>
  images(std::span<const CudaSource> sources);
  CudaCompilerStats stats() const;
  void addTime(double milliseconds);

  const std::shared_ptr<const Nvrtc> nvrtc;
  const CudaTarget target;

private:
  CacheKey keyOf(const CudaSource &source) const;
  StatusOr<CompiledImage> compileWithFewSpills(const CudaSource &source) const;
  Status image(const CudaSource &source, CompiledImage &result);
  std::optional<CompiledImage> cached(const CacheKey &key);
  void store(const CacheKey &key, const CompiledImage &image);
  Status check(const CudaSource &source, const CompiledImage &image) const;

  ObjectCache *const cache;
  const int threads;
  const std::vector<std::string> options;
  mutable std::mutex mutex;
  CudaCompilerStats totals;
};

Status checkLaunch(const CudaTarget &target, const EntryResources &entry,
                   int threads, int dynamicShared) {
  constexpr int warp = 32, maxThreads = 1024;
  auto tooMuch = [&](std::string_view what, int64_t needed, int64_t limit) {
    return internalError(absl::StrCat("kernel ", entry.name, " needs ", needed,
                                      " ", std::string(what), ", ", target.arch,
                                      " allows ", limit));
  };
  if (entry.registers > kCudaRegistersPerThread)
    return tooMuch("registers per thread", entry.registers,
                   kCudaRegistersPerThread);
  if (threads < 1 || threads > maxThreads)
    return tooMuch("threads per block", threads, maxThreads);
  // Registers are given to whole warps, 8 per thread at a time.
  int64_t warps = (threads + warp - 1) / warp;
  int64_t registers = warps * warp * ((entry.registers + 7) / 8 * 8);
  if (registers > kCudaRegistersPerSm)
    return tooMuch("registers per block", registers, kCudaRegistersPerSm);
  int64_t shared = int64_t(entry.staticShared) + dynamicShared;
  if (shared > target.sharedPerBlock)
    return tooMuch("bytes of shared memory per block", shared,
                   target.sharedPerBlock);
  return absl::OkStatus();
}

CacheKey CudaCompiler::Impl::keyOf(const CudaSource &source) const {
  std::string flags;
  for (const std::string &option : options)
    absl::StrAppend(&flags, option, "\n");
  return cacheKey({"cuda, spills tried twice", nvrtc->fingerprint(),
                   target.arch, flags, device::cudaFilesHash(), source.name,
                   source.text});
}

std::optional<CompiledImage> CudaCompiler::Impl::cached(const CacheKey &key) {
  if (!cache)
    return std::nullopt;
  std::optional<std::string> bytes = cache->find(key);
  return bytes ? decodeImage(*bytes) : std::nullopt;
}

void CudaCompiler::Impl::store(const CacheKey &key,
                               const CompiledImage &image) {
  if (!cache)
    return;
  Status status = cache->store(key, encodeImage(image));
  std::lock_guard lock(mutex);
  if (totals.cacheError.ok())
    totals.cacheError = status;
}

Status CudaCompiler::Impl::check(const CudaSource &source,
                                 const CompiledImage &image) const {
  if (image.resources.empty())
    return internalError("source " + source.name + " has no kernel");
  for (const EntryResources &entry : image.resources)
    LATHE_RETURN_IF_ERROR(checkLaunch(target, entry, 1, 0));
  return absl::OkStatus();
}

static int spillBytes(const CompiledImage &image) {
  int bytes = 0;
  for (const EntryResources &entry : image.resources)
    bytes += entry.spillBytes;
  return bytes;
}

/// At -O1 ptxas hardly ever spills; its code can be slower, so only where the
/// usual way does.
StatusOr<CompiledImage>
CudaCompiler::Impl::compileWithFewSpills(const CudaSource &source) const {
  LATHE_ASSIGN_OR_RETURN(
      CompiledImage best,
      nvrtc->compile(source, target.arch, device::cudaFiles(), options));
  if (spillBytes(best) == 0)
    return best;
  std::vector<std::string> plain = options;
  plain.push_back("--ptxas-options=-O1");
  LATHE_ASSIGN_OR_RETURN(
      CompiledImage other,
      nvrtc->compile(source, target.arch, device::cudaFiles(), plain));
  return spillBytes(other) < spillBytes(best) ? other : best;
}

Status CudaCompiler::Impl::image(const CudaSource &source,
                                 CompiledImage &result) {
  CacheKey key = keyOf(source);
  std::optional<CompiledImage> hit = cached(key);
  if (hit) {
    result = *std::move(hit);
  } else {
    LATHE_ASSIGN_OR_RETURN(result, compileWithFewSpills(source));
    LATHE_RETURN_IF_ERROR(check(source, result));
    store(key, result);
  }
  std::lock_guard lock(mutex);
  ++(hit ? totals.cacheHits : totals.compiled);
  for (const EntryResources &entry : result.resources)
    totals.spillingEntries += entry.spillBytes > 0;
  return absl::OkStatus();
}

StatusOr<std::vector<CompiledImage>>
CudaCompiler::Impl::images(std::span<const CudaSource> sources) {
  std::vector<CompiledImage> results(sources.size());
  std::vector<Status> statuses(sources.size());
  std::atomic<bool> failed{false};
  parallelFor(sources.size(), threads, [&](size_t i) {
    // What started before a failure ends, so the first in order is reported.
    if (failed)
      return;
    statuses[i] = image(sources[i], results[i]);
    if (!statuses[i].ok())
      failed = true;
  });
  for (const Status &status : statuses)
    LATHE_RETURN_IF_ERROR(status);
  return results;
}

CudaCompilerStats CudaCompiler::Impl::stats() const {
  std::lock_guard lock(mutex);
  return totals;
}

void CudaCompiler::Impl::addTime(double milliseconds) {
  std::lock_guard lock(mutex);
  totals.milliseconds += milliseconds;
}

CudaCompiler::CudaCompiler(std::unique_ptr<Impl> impl)
    : impl(std::move(impl)) {}
CudaCompiler::~CudaCompiler() = default;

StatusOr<std::unique_ptr<CudaCompiler>>
CudaCompiler::create(std::shared_ptr<const Nvrtc> nvrtc, CudaTarget target,
                     ObjectCache *cache, int threads,
                     std::vector<std::string> options) {
  if (!nvrtc->supports(target.arch))
    return usageError(absl::StrCat("NVRTC ", nvrtc->version(), " (",
                                   nvrtc->library(), ") does not compile for ",
                                   target.arch, ", use a newer one"));
  return std::unique_ptr<CudaCompiler>(new CudaCompiler(
      std::make_unique<Impl>(std::move(nvrtc), std::move(target), cache,
                             threads, std::move(options))));
}

const CudaTarget &CudaCompiler::target() const { return impl->target; }

StatusOr<std::vector<CompiledImage>>
CudaCompiler::compile(std::span<const CudaSource> sources) {
  auto start = std::chrono::steady_clock::now();
  auto images = impl->images(sources);
  std::chrono::duration<double, std::milli> spent =
      std::chrono::steady_clock::now() - start;
  impl->addTime(spent.count());
  return images;
}

CudaCompilerStats CudaCompiler::stats() const { return impl->stats(); }

} // namespace lathe
