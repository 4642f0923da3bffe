#include "compiler/jit/KernelCompiler.h"

#include "compiler/cache/ObjectCache.h"
#include "compiler/jit/ClangCompiler.h"
#include "compiler/jit/ObjectLoader.h"
#include "runtime/base/ParallelFor.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <optional>

namespace lathe {

class KernelCompiler::Impl {
public:
  Impl(CpuTarget target, ObjectCache *cache, int threads,
       std::unique_ptr<ObjectLoader> loader)
      : compiler(std::move(target)), cache(cache),
        threads(std::max(threads, 1)), loader(std::move(loader)) {}

  StatusOr<std::vector<std::string>>
  objects(std::span<const KernelSource> sources);
  StatusOr<Kernels> link(std::span<const KernelSource> sources,
                         const std::vector<std::string> &objects);
  KernelCompilerStats stats() const;

  /// Adds the time until its destruction to the statistics.
  class Timer {
  public:
    explicit Timer(Impl &impl) : impl(impl) {}
    ~Timer() {
      std::chrono::duration<double, std::milli> spent = Clock::now() - start;
      std::lock_guard lock(impl.mutex);
      impl.totals.milliseconds += spent.count();
    }

  private:
    using Clock = std::chrono::steady_clock;
    Impl &impl;
    Clock::time_point start = Clock::now();
  };

private:
  StatusOr<std::string> object(const KernelSource &source, CacheKey key);
  void store(CacheKey key, const std::string &object);

  const ClangCompiler compiler;
  ObjectCache *const cache;
  const int threads;
  const std::unique_ptr<ObjectLoader> loader;
  mutable std::mutex mutex;
  KernelCompilerStats totals;
};

/// Finds in the cache what is there and compiles the rest.
StatusOr<std::vector<std::string>>
KernelCompiler::Impl::objects(std::span<const KernelSource> sources) {
  std::vector<std::string> found(sources.size());
  std::vector<CacheKey> keys(sources.size());
  std::vector<size_t> absent;
  for (size_t i = 0; i < sources.size(); ++i) {
    keys[i] =
        cacheKey({compiler.fingerprint(), sources[i].name, sources[i].text});
    std::optional<std::string> hit;
    if (cache)
      hit = cache->find(keys[i]);
    if (hit)
      found[i] = *std::move(hit);
    else
      absent.push_back(i);
  }
  std::vector<Status> statuses(absent.size());
  std::atomic<bool> failed{false};
  parallelFor(absent.size(), threads, [&](size_t n) {
    // What started before a failure ends, so the first in order is reported.
    if (failed)
      return;
    size_t i = absent[n];
    StatusOr<std::string> object =
        compiler.compile(sources[i].name, sources[i].text);
    if (!object.ok()) {
      statuses[n] = annotate(object.status(), "kernel " + sources[i].name);
      failed = true;
      return;
    }
    found[i] = *std::move(object);
    if (cache)
      store(keys[i], found[i]);
  });
  for (const Status &status : statuses)
    LATHE_RETURN_IF_ERROR(status);
  std::lock_guard lock(mutex);
  totals.compiled += absent.size();
  totals.cacheHits += sources.size() - absent.size();
  return found;
}

void KernelCompiler::Impl::store(CacheKey key, const std::string &object) {
  Status status = cache->store(key, object);
  if (status.ok())
    return;
  std::lock_guard lock(mutex);
  if (totals.cacheError.ok())
    totals.cacheError = status;
}

StatusOr<KernelCompiler::Kernels>
KernelCompiler::Impl::link(std::span<const KernelSource> sources,
                           const std::vector<std::string> &objects) {
  Kernels kernels;
  for (size_t i = 0; i < sources.size(); ++i) {
    LATHE_ASSIGN_OR_RETURN(ObjectLoader::ObjectId id, loader->add(objects[i]));
    StatusOr<void *> address = loader->lookup(id, sources[i].name);
    if (!address.ok())
      return annotate(address.status(), "kernel " + sources[i].name);
    if (!kernels
             .emplace(sources[i].name, reinterpret_cast<LatheKernel>(*address))
             .second)
      return internalError("two kernels of one batch are named " +
                           sources[i].name);
  }
  return kernels;
}

KernelCompilerStats KernelCompiler::Impl::stats() const {
  std::lock_guard lock(mutex);
  return totals;
}

KernelCompiler::KernelCompiler(std::unique_ptr<Impl> impl)
    : impl(std::move(impl)) {}
KernelCompiler::~KernelCompiler() = default;

StatusOr<std::unique_ptr<KernelCompiler>>
KernelCompiler::create(CpuTarget target, ObjectCache *cache, int threads) {
  LATHE_ASSIGN_OR_RETURN(std::unique_ptr<ObjectLoader> loader,
                         ObjectLoader::create());
  return std::unique_ptr<KernelCompiler>(
      new KernelCompiler(std::make_unique<Impl>(std::move(target), cache,
                                                threads, std::move(loader))));
}

StatusOr<KernelCompiler::Kernels>
KernelCompiler::compile(std::span<const KernelSource> sources) {
  Impl::Timer timer(*impl);
  LATHE_ASSIGN_OR_RETURN(std::vector<std::string> objects,
                         impl->objects(sources));
  return impl->link(sources, objects);
}

StatusOr<std::vector<std::string>>
KernelCompiler::compileObjects(std::span<const KernelSource> sources) {
  Impl::Timer timer(*impl);
  return impl->objects(sources);
}

KernelCompilerStats KernelCompiler::stats() const { return impl->stats(); }

} // namespace lathe
