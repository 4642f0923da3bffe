#include "runtime/engine/OrderedReader.h"

namespace lathe {

StatusOr<HostParameter> readParameter(const PlannedWeight &weight,
                                      WeightSource &source) {
  HostParameter result;
  if (weight.layout == Layout::Rows || weight.layout == Layout::Tiles) {
    LATHE_ASSIGN_OR_RETURN(result.weight,
                           source.weight(weight.name, weight.desc));
    return result;
  }
  LATHE_ASSIGN_OR_RETURN(result.floats,
                         source.tensor(weight.name, weight.shape));
  if (weight.layout == Layout::Vector)
    return result;
  const int64_t rows = weight.shape[0], cols = weight.shape[1];
  std::vector<float> transposed(result.floats.size());
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c)
      transposed[size_t(c * rows + r)] = result.floats[size_t(r * cols + c)];
  result.floats = std::move(transposed);
  return result;
}

OrderedReader::OrderedReader(const Plan &plan, WeightSource &source,
                             int threads)
    : plan(plan), source(source), ahead(size_t(threads)) {
  for (int i = 0; i < threads; ++i)
    pool.emplace_back([this] { work(); });
}

OrderedReader::~OrderedReader() {
  {
    std::lock_guard<std::mutex> lock(mutex);
    stopping = true;
  }
  changed.notify_all();
  for (std::thread &thread : pool)
    thread.join();
}

void OrderedReader::work() {
  std::unique_lock<std::mutex> lock(mutex);
  while (true) {
    changed.wait(lock, [&] {
      return stopping || claimed == plan.weights.size() ||
             claimed <= consumed + ahead;
    });
    if (stopping || claimed == plan.weights.size())
      return;
    const size_t index = claimed++;
    lock.unlock();
    StatusOr<HostParameter> parameter =
        readParameter(plan.weights[index], source);
    lock.lock();
    if (parameter.ok()) {
      ready[index] = *std::move(parameter);
    } else {
      status = parameter.status();
      stopping = true;
    }
    changed.notify_all();
  }
}

StatusOr<HostParameter> OrderedReader::next() {
  std::unique_lock<std::mutex> lock(mutex);
  changed.wait(lock, [&] { return ready.contains(consumed) || !status.ok(); });
  if (!ready.contains(consumed))
    return status;
  HostParameter parameter = std::move(ready[consumed]);
  ready.erase(consumed++);
  changed.notify_all();
  return parameter;
}

} // namespace lathe
