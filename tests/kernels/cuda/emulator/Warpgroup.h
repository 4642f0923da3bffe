//===- Warpgroup.h - wgmma on a CPU -----------------------------*- C++ -*-===//
//
// The functions of compiler/device/cuda/intrinsics_warpgroup.cuh; the rest of
// intrinsics.h. Products are made as late as the hardware may: when they are
// waited for, from what the operands are then. Until then sums are poison.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_TESTS_KERNELS_CUDA_EMULATOR_WARPGROUP_H
#define LATHE_TESTS_KERNELS_CUDA_EMULATOR_WARPGROUP_H

#include "tests/kernels/cuda/emulator/intrinsics.h"

// The device library's own version is to think that it was included.
#define LATHE_COMPILER_DEVICE_CUDA_INTRINSICS_WARPGROUP_CUH

namespace lathe {

template <int kCount> LATHE_DEVICE void giveRegisters() {}
template <int kCount> LATHE_DEVICE void takeRegisters() {}
LATHE_DEVICE void wgmmaFence() {}
template <class T, int kCount> LATHE_DEVICE void wgmmaHold(T (&)[kCount]) {}

LATHE_DEVICE u64 wgmmaOperand(const void *rows) {
  if (sharedAddress(rows) % 1024)
    latheEmulator->fail("wgmmaOperand: not 1024-byte aligned");
  return (u64)(sharedAddress(rows) >> 4) | 1ull << 16 | 64ull << 32 |
         1ull << 62;
}

/// Element `k` of row `n` of B.
LATHE_DEVICE float emulatorWgmmaElement(u64 b, int n, int k) {
  u64 address = (b & 0x3fff) << 4;
  address += (u64)(n / 8) * ((b >> 32 & 0x3fff) << 4) + n % 8 * 128 + k * 2;
  address ^= (address >> 7 & 7) << 4;
  if (address + 2 > latheEmulator->sharedBytes) {
    latheEmulator->fail("wgmma: B outside shared memory");
    return 0;
  }
  return halfToFloat(*(const u16 *)(latheEmulator->shared + address));
}

/// Adds the warp's product number `i` to its lanes' sums.
static inline void emulatorMultiply(EmulatorWarpgroup *const *lanes, int i) {
  const EmulatorWgmma &first = lanes[0]->products[i];
  float a[16][16], b[16][128];
  for (int t = 0; t < 32; ++t) {
    const u32 *mine = lanes[t]->products[i].a;
    for (int r = 0; r < 4; ++r)
      for (int x = 0; x < 2; ++x)
        a[t / 4 + 8 * (r & 1)][8 * (r >> 1) + 2 * (t % 4) + x] =
            halfToFloat(mine[r] >> 16 * x);
  }
  const int columns = 2 * first.count;
  for (int n = 0; n < columns; ++n)
    for (int k = 0; k < 16; ++k)
      b[k][n] = emulatorWgmmaElement(first.b, n, k);
  for (int t = 0; t < 32; ++t) {
    float *values = lanes[t]->sums[first.sums].values;
    for (int j = 0; j < first.count; ++j)
      for (int k = 0; k < 16; ++k)
        values[j] += a[t / 4 + 8 * (j >> 1 & 1)][k] *
                     b[k][j / 4 * 8 + 2 * (t % 4) + (j & 1)];
  }
}

static inline void emulatorMultiplyAll(void *const *arguments) {
  auto *const *lanes = (EmulatorWarpgroup *const *)arguments;
  for (int t = 0; t < 32; ++t)
    if (!lanes[t] || lanes[t]->count != lanes[0]->count ||
        lanes[t]->due != lanes[0]->due)
      return latheEmulator->fail("wgmma: not the same in all lanes of a warp");
  for (int i = 0; i < lanes[0]->count; ++i)
    if (lanes[0]->products[i].group < lanes[0]->due)
      emulatorMultiply(lanes, i);
}

/// Sums that nobody adds to any more become visible.
static inline void emulatorPublish(EmulatorWarpgroup &state) {
  int left = 0;
  bool used[EmulatorWarpgroup::kMostSums] = {};
  for (int i = 0; i < state.count; ++i)
    if (state.products[i].group >= state.due) {
      state.products[left++] = state.products[i];
      used[state.products[i].sums] = true;
    }
  state.count = left;
  for (int s = 0; s < EmulatorWarpgroup::kMostSums; ++s)
    if (EmulatorSums &sums = state.sums[s]; sums.d && !used[s]) {
      for (int j = 0; j < sums.count; ++j)
        sums.d[j] = sums.values[j];
      sums.d = nullptr;
    }
}

template <int kPending> LATHE_DEVICE void wgmmaWait() {
  EmulatorWarpgroup *state = latheEmulator->warpgroup();
  state->due = state->groups - kPending;
  latheEmulator->collective("wgmmaWait", state, emulatorMultiplyAll);
  emulatorPublish(*state);
}
LATHE_DEVICE void wgmmaCommit() { ++latheEmulator->warpgroup()->groups; }

/// The place of `d` among the sums under way.
static inline int emulatorSumsOf(EmulatorWarpgroup &state, float *d,
                                 int count) {
  int free = -1;
  for (int s = 0; s < EmulatorWarpgroup::kMostSums; ++s) {
    if (state.sums[s].d == d)
      return s;
    free = state.sums[s].d ? free : s;
  }
  if (free < 0) {
    latheEmulator->fail("wgmma: too many sums under way");
    return 0;
  }
  EmulatorSums &sums = state.sums[free];
  sums.d = d, sums.count = count;
  for (int j = 0; j < count; ++j) {
    sums.values[j] = d[j];
    d[j] = bitsFloat(~0u);
  }
  return free;
}

template <int kSums>
LATHE_DEVICE void wgmma(float (&d)[kSums], const u32 (&a)[4], u64 b) {
  static_assert(kSums >= 32 && kSums <= 64 && kSums % 8 == 0);
  EmulatorWarpgroup *state = latheEmulator->warpgroup();
  if (state->count == EmulatorWarpgroup::kMostProducts)
    return latheEmulator->fail("wgmma: too many under way");
  int sums = emulatorSumsOf(*state, d, kSums);
  state->products[state->count++] = {a, b, kSums, sums, state->groups};
}

} // namespace lathe

#endif // LATHE_TESTS_KERNELS_CUDA_EMULATOR_WARPGROUP_H
