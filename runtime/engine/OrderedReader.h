//===- OrderedReader.h - parameters read ahead, in order --------*- C++ -*-===//
//
// Threads read the parameters of a plan while the caller consumes them in the
// plan's order; as many are held as there are threads, and one more.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_ENGINE_ORDEREDREADER_H
#define LATHE_RUNTIME_ENGINE_ORDEREDREADER_H

#include "runtime/artifact/Plan.h"
#include "runtime/memory/WeightSource.h"

#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

namespace lathe {

/// A weight, or the floats of a vector or transposed parameter as they will
/// lie in memory.
struct HostParameter {
  HostWeight weight;
  std::vector<float> floats;
};

/// Reads parameter `weight` from `source`.
StatusOr<HostParameter> readParameter(const PlannedWeight &weight,
                                      WeightSource &source);

/// One consumer.
class OrderedReader {
public:
  /// REQUIRES: threads >= 1; `plan` and `source` outlive the reader.
  OrderedReader(const Plan &plan, WeightSource &source, int threads);
  ~OrderedReader();

  /// The next parameter. Errors: those of the source, of any parameter.
  /// REQUIRES: there is one.
  StatusOr<HostParameter> next();

private:
  void work();

  const Plan &plan;
  WeightSource &source;
  const size_t ahead; ///< parameters held besides the next one
  std::mutex mutex;
  std::condition_variable changed;
  std::map<size_t, HostParameter> ready;
  size_t claimed = 0;  ///< parameters that a thread reads or has read
  size_t consumed = 0; ///< parameters that were handed out
  bool stopping = false;
  Status status;
  std::vector<std::thread> pool;
};

} // namespace lathe

#endif // LATHE_RUNTIME_ENGINE_ORDEREDREADER_H
