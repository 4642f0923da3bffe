#include "runtime/engine/ReadBandwidth.h"

#include "runtime/memory/AlignedBuffer.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>

namespace lathe {

namespace {
constexpr int64_t kBytes = int64_t(1) << 29;
constexpr int kPasses = 9;

typedef uint64_t Line __attribute__((vector_size(64)));
} // namespace

#if defined(__x86_64__)
__attribute__((target_clones("avx512f", "avx2", "default")))
#endif
static uint64_t sumLines(const uint8_t *data, int64_t lines) {
  const Line *p = reinterpret_cast<const Line *>(data);
  Line a = {}, b = {}, c = {}, d = {};
  for (int64_t i = 0; i + 4 <= lines; i += 4) {
    a += p[i];
    b += p[i + 1];
    c += p[i + 2];
    d += p[i + 3];
  }
  a += b + c + d;
  return a[0] ^ a[7];
}

StatusOr<double> measureReadBandwidth(ThreadTeam &team) {
  LATHE_ASSIGN_OR_RETURN(AlignedBuffer buffer, AlignedBuffer::allocate(kBytes));
  std::memset(buffer.data(), 1, size_t(kBytes));
  std::atomic<uint64_t> sink{0};
  std::vector<double> rates;
  const int64_t part = kBytes / 64 / team.size();
  for (int pass = 0; pass < kPasses; ++pass) {
    auto start = std::chrono::steady_clock::now();
    team.run([&](int thread) {
      sink += sumLines(buffer.data() + thread * part * 64, part);
    });
    std::chrono::duration<double> elapsed =
        std::chrono::steady_clock::now() - start;
    rates.push_back(double(part * 64 * team.size()) / elapsed.count());
  }
  return *std::ranges::max_element(rates);
}

} // namespace lathe
