#include "runtime/engine/SmHold.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>

namespace lathe {

using namespace std::chrono;

/// As measure.cu has it: a word that ends each block, then its place.
static constexpr uint32_t kGaveUp = ~0u;

std::atomic_ref<uint32_t> SmHold::flag(int index) const {
  return std::atomic_ref(
      reinterpret_cast<uint32_t *>(flags.data())[size_t(index)]);
}

StatusOr<std::unique_ptr<SmHold>>
SmHold::occupy(cuda::Context &context, const cuda::Function &hold, int blocks) {
  std::unique_ptr<SmHold> result(new SmHold(context, hold, blocks));
  const size_t bytes = 2 * sizeof(uint32_t) * size_t(blocks);
  LATHE_ASSIGN_OR_RETURN(result->flags,
                         cuda::PinnedBuffer::allocate(context, bytes));
  std::memset(result->flags.data(), 0, bytes);
  LATHE_ASSIGN_OR_RETURN(result->stream, cuda::Stream::create(context));
  cuda::DeviceAddress flags = result->flags.address();
  unsigned long long most = 1000000000ull * kMostSeconds;
  void *arguments[] = {&flags, &most};
  LATHE_RETURN_IF_ERROR(result->stream.launch(
      hold,
      {.gridX = unsigned(blocks),
       .threads = 32,
       .dynamicShared =
           unsigned(context.device().sharedPerBlock - hold.staticShared)},
      arguments));
  result->launched = true;
  const auto start = steady_clock::now();
  while (!result->started()) {
    if (steady_clock::now() - start > seconds(1))
      return internalError(
          "only " + std::to_string(result->places().size()) + " of " +
          std::to_string(blocks) +
          " multiprocessors can be had whole; is something else running on "
          "this GPU?");
    std::this_thread::sleep_for(microseconds(50));
  }
  return result;
}

bool SmHold::started() const {
  for (int block = 0; block < blocks; ++block)
    if (flag(blocks + block).load() == 0)
      return false;
  return true;
}

std::vector<int> SmHold::places() const {
  std::vector<int> places;
  for (int block = 0; block < blocks; ++block)
    if (const uint32_t place = flag(blocks + block).load())
      places.push_back(int(place) - 1);
  std::ranges::sort(places);
  const auto same = std::ranges::unique(places);
  places.erase(same.begin(), same.end());
  return places;
}

std::vector<int> SmHold::spread(int sms, int count) {
  // Two at a time: neighbours share a port to the rest of the GPU.
  const int pairs = (sms + 1) / 2, wanted = (count + 1) / 2;
  std::vector<int> places;
  for (int i = 0; i < wanted; ++i) {
    const int pair = int(int64_t(i) * pairs / wanted);
    for (int place = 2 * pair; place < std::min(2 * pair + 2, sms); ++place)
      if (int(places.size()) < count)
        places.push_back(place);
  }
  for (int place = sms - 1; int(places.size()) < count; --place)
    if (!std::ranges::count(places, place))
      places.push_back(place);
  return places;
}

StatusOr<std::unique_ptr<SmHold>>
SmHold::create(cuda::Context &context, const cuda::Function &hold, int free) {
  const cuda::DeviceInfo &device = context.device();
  if (free < 1 || free > device.sms)
    return usageError("expected 1 to " + std::to_string(device.sms) +
                      " multiprocessors, as many as " + device.name +
                      " has, found " + std::to_string(free));
  LATHE_ASSIGN_OR_RETURN(std::unique_ptr<SmHold> result,
                         occupy(context, hold, device.sms));
  const std::vector<int> found = result->places();
  if (int(found.size()) != device.sms)
    return internalError("held " + std::to_string(found.size()) +
                         " multiprocessors, expected " +
                         std::to_string(device.sms));
  std::vector<int> freed;
  for (int index : spread(device.sms, free))
    freed.push_back(found[size_t(index)]);
  for (int block = 0; block < device.sms; ++block)
    if (std::ranges::count(freed,
                           int(result->flag(device.sms + block).load()) - 1))
      result->flag(block).store(1);
  result->free = free;
  // Those blocks have ended when others fit.
  LATHE_RETURN_IF_ERROR(result->check());
  return result;
}

Status SmHold::check() const {
  for (int block = 0; block < blocks; ++block)
    if (flag(blocks + block).load() == kGaveUp)
      return internalError("multiprocessors were held for longer than " +
                           std::to_string(kMostSeconds) +
                           " s; measure less at a time");
  LATHE_ASSIGN_OR_RETURN(auto others, occupy(context, hold, free));
  if (int(others->places().size()) != free)
    return internalError("found " + std::to_string(others->places().size()) +
                         " free multiprocessors, expected " +
                         std::to_string(free));
  return absl::OkStatus();
}

SmHold::~SmHold() {
  if (!launched)
    return;
  for (int block = 0; block < blocks; ++block)
    flag(block).store(1);
  // Whatever the driver says then, it says again at its next call.
  (void)stream.synchronize();
}

} // namespace lathe
