#include "runtime/engine/SmHold.h"

#include <atomic>
#include <chrono>
#include <cstring>
#include <set>
#include <thread>

namespace lathe {

using namespace std::chrono;

uint32_t SmHold::flag(int index) const {
  auto *words = reinterpret_cast<uint32_t *>(flags.data());
  return std::atomic_ref(words[index]).load();
}

bool SmHold::started() const {
  for (int block = 0; block < blocks; ++block)
    if (flag(1 + block) == 0)
      return false;
  return true;
}

Status SmHold::checkPlaces() const {
  std::set<uint32_t> places;
  for (int block = 0; block < blocks; ++block)
    places.insert(flag(1 + block));
  if (int(places.size()) == blocks)
    return absl::OkStatus();
  return internalError("held " + std::to_string(places.size()) +
                       " multiprocessors, expected " + std::to_string(blocks) +
                       "; is something else running on this GPU?");
}

Status SmHold::check() const {
  for (int block = 0; block < blocks; ++block)
    if (flag(1 + block) == ~0u)
      return internalError("multiprocessors were held for longer than " +
                           std::to_string(kMostSeconds) +
                           " s; measure less at a time");
  return absl::OkStatus();
}

StatusOr<std::unique_ptr<SmHold>>
SmHold::create(cuda::Context &context, const cuda::Function &hold, int free) {
  const cuda::DeviceInfo &device = context.device();
  if (free < 1 || free > device.sms)
    return usageError("expected 1 to " + std::to_string(device.sms) +
                      " multiprocessors, as many as " + device.name +
                      " has, found " + std::to_string(free));
  std::unique_ptr<SmHold> result(new SmHold(device.sms - free));
  if (result->blocks == 0)
    return result;
  const size_t bytes = sizeof(uint32_t) * size_t(1 + result->blocks);
  LATHE_ASSIGN_OR_RETURN(result->flags,
                         cuda::PinnedBuffer::allocate(context, bytes));
  std::memset(result->flags.data(), 0, bytes);
  LATHE_ASSIGN_OR_RETURN(result->stream, cuda::Stream::create(context));
  cuda::DeviceAddress flags = result->flags.address();
  unsigned long long most = 1000000000ull * kMostSeconds;
  void *arguments[] = {&flags, &most};
  LATHE_RETURN_IF_ERROR(result->stream.launch(
      hold,
      {.gridX = unsigned(result->blocks),
       .threads = 32,
       .dynamicShared = unsigned(device.sharedPerBlock - hold.staticShared)},
      arguments));
  result->launched = true;
  const auto start = steady_clock::now();
  while (!result->started()) {
    if (steady_clock::now() - start > seconds(2))
      return internalError("the kernel that holds " +
                           std::to_string(result->blocks) +
                           " multiprocessors has not started; is something "
                           "else running on this GPU?");
    std::this_thread::sleep_for(microseconds(100));
  }
  LATHE_RETURN_IF_ERROR(result->checkPlaces());
  return result;
}

SmHold::~SmHold() {
  if (!launched)
    return;
  auto *words = reinterpret_cast<uint32_t *>(flags.data());
  std::atomic_ref(words[0]).store(1);
  // Whatever the driver says then, it says again at its next call.
  (void)stream.synchronize();
}

} // namespace lathe
