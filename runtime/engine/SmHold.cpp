#include "runtime/engine/SmHold.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>

namespace lathe {

using namespace std::chrono;

/// As measure.cu has it: a word per block that ends it, then its place plus
/// one.
static constexpr uint32_t kGaveUp = ~0u;

std::atomic_ref<uint32_t> SmHold::Grid::flag(int index) const {
  return std::atomic_ref(
      reinterpret_cast<uint32_t *>(flags.data())[size_t(index)]);
}

Status SmHold::Grid::prepare(cuda::Context &context) {
  const size_t bytes = 2 * sizeof(uint32_t) * size_t(context.device().sms);
  LATHE_ASSIGN_OR_RETURN(flags, cuda::PinnedBuffer::allocate(context, bytes));
  LATHE_ASSIGN_OR_RETURN(stream, cuda::Stream::create(context));
  return absl::OkStatus();
}

Status SmHold::Grid::launch(const cuda::Function &hold, int count,
                            int dynamicShared) {
  blocks = count;
  std::memset(flags.data(), 0, flags.size());
  cuda::DeviceAddress address = flags.address();
  unsigned long long most = 1000000000ull * kMostSeconds;
  void *arguments[] = {&address, &most};
  LATHE_RETURN_IF_ERROR(
      stream.launch(hold,
                    {.gridX = unsigned(blocks),
                     .threads = 32,
                     .dynamicShared = unsigned(dynamicShared)},
                    arguments));
  const auto start = steady_clock::now();
  while (!started() && steady_clock::now() - start < seconds(1))
    std::this_thread::sleep_for(microseconds(50));
  const int had = int(places().size());
  if (had == blocks)
    return absl::OkStatus();
  LATHE_RETURN_IF_ERROR(end());
  return internalError("only " + std::to_string(had) + " of " +
                       std::to_string(count) +
                       " multiprocessors can be had whole; is something else "
                       "running on this GPU?");
}

Status SmHold::Grid::end() {
  for (int block = 0; block < blocks; ++block)
    flag(block).store(1);
  blocks = 0;
  return stream.synchronize();
}

bool SmHold::Grid::started() const {
  for (int block = 0; block < blocks; ++block)
    if (placeOf(block) < 0)
      return false;
  return true;
}

bool SmHold::Grid::gaveUp() const {
  for (int block = 0; block < blocks; ++block)
    if (flag(blocks + block).load() == kGaveUp)
      return true;
  return false;
}

int SmHold::Grid::placeOf(int block) const {
  return int(flag(blocks + block).load()) - 1;
}

std::vector<int> SmHold::Grid::places() const {
  std::vector<int> places;
  for (int block = 0; block < blocks; ++block)
    if (const int place = placeOf(block); place >= 0)
      places.push_back(place);
  std::ranges::sort(places);
  const auto same = std::ranges::unique(places);
  places.erase(same.begin(), same.end());
  return places;
}

std::vector<int> SmHold::spread(int sms, int count) {
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
  std::unique_ptr<SmHold> result(
      new SmHold(hold, device.sharedPerBlock - hold.staticShared, free));
  Grid &all = result->all;
  for (Grid *grid : {&all, &result->others})
    LATHE_RETURN_IF_ERROR(grid->prepare(context));
  LATHE_RETURN_IF_ERROR(all.launch(hold, device.sms, result->dynamicShared));
  const std::vector<int> found = all.places();
  std::vector<bool> isFree(size_t(found.back()) + 1);
  for (int index : spread(device.sms, free))
    isFree[size_t(found[size_t(index)])] = true;
  for (int block = 0; block < device.sms; ++block)
    if (isFree[size_t(all.placeOf(block))])
      all.flag(block).store(1);
  // Those blocks have ended when others fit.
  LATHE_RETURN_IF_ERROR(result->check());
  return result;
}

Status SmHold::check() {
  if (all.gaveUp())
    return internalError("multiprocessors were held for longer than " +
                         std::to_string(kMostSeconds) +
                         " s; measure less at a time");
  LATHE_RETURN_IF_ERROR(others.launch(hold, free, dynamicShared));
  return others.end();
}

SmHold::~SmHold() {
  // Whatever the driver says here, it says again at its next call.
  for (Grid *grid : {&others, &all})
    if (grid->blocks > 0)
      (void)grid->end();
}

} // namespace lathe
