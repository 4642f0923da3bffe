//===- intrinsics.h - the CUDA intrinsics on a CPU --------------*- C++ -*-===//
//
// The functions of compiler/device/cuda/intrinsics.cuh and intrinsics_math.cuh,
// in their order, for a CPU: included first, it takes their place. Emulator.h
// runs the kernels.
//
// Header-free, because printed kernels are also compiled in process, where
// there is neither a header nor a math library: what cannot be said here goes
// through EmulatorTable.
//
// To add a function, say here what it does to one thread; or, if the lanes of a
// warp do it together, give collective() what becomes of their 32 arguments, as
// ballot does. Only what waits or needs a library is a new member of the table.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_TESTS_KERNELS_CUDA_EMULATOR_INTRINSICS_H
#define LATHE_TESTS_KERNELS_CUDA_EMULATOR_INTRINSICS_H

// The device library's own versions are to think that they were included.
#define LATHE_COMPILER_DEVICE_CUDA_INTRINSICS_CUH
#define LATHE_COMPILER_DEVICE_CUDA_INTRINSICS_MATH_CUH

#include "tests/kernels/cuda/emulator/EmulatorTable.h"

#define LATHE_DEVICE static inline __attribute__((always_inline))
#define LATHE_DEVICE_MEMBER inline __attribute__((always_inline))
#define LATHE_LAMBDA
#define LATHE_KERNEL(threads, blocks) extern "C" void
#define LATHE_TWINS

namespace lathe {

//===----------------------------------------------------------------------===//
// Where am I
//===----------------------------------------------------------------------===//

LATHE_DEVICE int threadX() { return latheEmulator->thread; }
LATHE_DEVICE int lane() { return threadX() & 31; }
/// A shuffle on the GPU: every lane must take part.
LATHE_DEVICE int warp() {
  latheEmulator->collective("warp", nullptr, [](void *const *) {});
  return threadX() >> 5;
}
LATHE_DEVICE int threadCount() { return latheEmulator->threads; }
LATHE_DEVICE int blockX() { return latheEmulator->blockX; }
LATHE_DEVICE int blockY() { return latheEmulator->blockY; }
LATHE_DEVICE int gridX() { return latheEmulator->gridX; }
LATHE_DEVICE int gridY() { return latheEmulator->gridY; }

LATHE_DEVICE char *sharedMemory() { return latheEmulator->shared; }
LATHE_DEVICE u32 sharedAddress(const void *p) {
  return (u32)((const char *)p - latheEmulator->shared);
}

//===----------------------------------------------------------------------===//
// Threads together
//===----------------------------------------------------------------------===//

LATHE_DEVICE void syncThreads() { latheEmulator->sync(0, 0); }
LATHE_DEVICE void syncWarp() {
  latheEmulator->collective("syncWarp", nullptr, [](void *const *) {});
}
LATHE_DEVICE void syncNamed(int id, int threads) {
  latheEmulator->sync(id, threads);
}

template <class T> struct EmulatorShuffle {
  T value, result;
  int from;

  static void execute(void *const *arguments) {
    for (int i = 0; i < 32; ++i) {
      auto *mine = (EmulatorShuffle *)arguments[i];
      if (!mine)
        continue;
      auto *other = (EmulatorShuffle *)arguments[mine->from & 31];
      if (!other)
        return latheEmulator->fail("a shuffle reads a lane that is not there");
      mine->result = other->value;
    }
  }
  static T run(const char *name, T value, int from) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8);
    EmulatorShuffle arguments{value, value, from};
    latheEmulator->collective(name, &arguments, execute);
    return arguments.result;
  }
};
template <class T> LATHE_DEVICE T shuffle(T value, int from) {
  return EmulatorShuffle<T>::run("shuffle", value, from);
}
template <class T> LATHE_DEVICE T shuffleXor(T value, int mask) {
  return EmulatorShuffle<T>::run("shuffleXor", value, lane() ^ mask);
}
template <class T> LATHE_DEVICE T shuffleUp(T value, int by) {
  int from = lane() < by ? lane() : lane() - by;
  return EmulatorShuffle<T>::run("shuffleUp", value, from);
}

struct EmulatorBallot {
  bool vote;
  u32 result;

  static void execute(void *const *arguments) {
    u32 votes = 0;
    for (int i = 0; i < 32; ++i)
      if (arguments[i] && ((EmulatorBallot *)arguments[i])->vote)
        votes |= 1u << i;
    for (int i = 0; i < 32; ++i)
      if (arguments[i])
        ((EmulatorBallot *)arguments[i])->result = votes;
  }
};
LATHE_DEVICE u32 ballot(bool vote) {
  EmulatorBallot arguments{vote, 0};
  latheEmulator->collective("ballot", &arguments, EmulatorBallot::execute);
  return arguments.result;
}

LATHE_DEVICE void fenceDevice() {}
LATHE_DEVICE void signalCount(u32 *p, u32 value) {
  __atomic_fetch_add(p, value, __ATOMIC_RELEASE);
}
LATHE_DEVICE void waitForCount(const u32 *p, u32 count) {
  latheEmulator->waitForCount(p, count);
}
LATHE_DEVICE u32 atomicAddDevice(u32 *p, u32 value) {
  return __atomic_fetch_add(p, value, __ATOMIC_RELAXED);
}
LATHE_DEVICE u32 atomicCountDevice(u32 *p) {
  return __atomic_fetch_add(p, 1, __ATOMIC_ACQ_REL);
}
LATHE_DEVICE u32 atomicAddShared(u32 *p, u32 value) {
  return __atomic_fetch_add(p, value, __ATOMIC_RELAXED);
}
LATHE_DEVICE u64 atomicAddShared(u64 *p, u64 value) {
  return __atomic_fetch_add(p, value, __ATOMIC_RELAXED);
}
LATHE_DEVICE u64 atomicMaxDevice(u64 *p, u64 value) {
  return __atomic_fetch_max(p, value, __ATOMIC_RELAXED);
}
LATHE_DEVICE u64 atomicAddDevice(u64 *p, u64 value) {
  return __atomic_fetch_add(p, value, __ATOMIC_RELAXED);
}

LATHE_DEVICE void waitForPrevious() {}
LATHE_DEVICE void launchNext() {}

// What holds a multiprocessor is for a GPU alone: nothing here calls these.
LATHE_DEVICE u32 multiprocessor() { return 0; }
LATHE_DEVICE u64 nanoseconds() { return 0; }
LATHE_DEVICE void nap() {}
LATHE_DEVICE u32 loadHost(const u32 *p) { return *p; }
LATHE_DEVICE void storeHost(u32 *p, u32 value) { *p = value; }

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

struct alignas(16) Vec4 {
  u32 x, y, z, w;
};
struct alignas(8) Float2 {
  float x, y;
};
struct alignas(16) Float4 {
  float x, y, z, w;
};

LATHE_DEVICE Vec4 loadStream(const void *p) {
  if ((u64)p % 16)
    latheEmulator->fail("loadStream: not 16-byte aligned");
  return *(const Vec4 *)p;
}
LATHE_DEVICE float loadFresh(const float *p) { return *p; }
LATHE_DEVICE Float2 loadFresh(const Float2 *p) {
  if ((u64)p % 8)
    latheEmulator->fail("loadFresh: not 8-byte aligned");
  return *p;
}
LATHE_DEVICE Float4 loadFresh(const Float4 *p) {
  if ((u64)p % 16)
    latheEmulator->fail("loadFresh: not 16-byte aligned");
  return *p;
}

LATHE_DEVICE void copyAsync16(void *shared, const void *global,
                              bool valid = true) {
  latheEmulator->copyAsync16(shared, global, valid);
}
LATHE_DEVICE void copyAsync16If(bool wanted, void *shared, const void *global) {
  if (wanted)
    copyAsync16(shared, global);
}
LATHE_DEVICE void copyCommit() { latheEmulator->copyCommit(); }
template <int kPending> LATHE_DEVICE void copyWait() {
  latheEmulator->copyWait(kPending);
}

typedef u64 Barrier;
LATHE_DEVICE void barrierInit(Barrier *b, int arrivals) {
  latheEmulator->barrierInit(b, arrivals);
}
LATHE_DEVICE void barrierEnd(Barrier *) {}
LATHE_DEVICE void barrierInitFence() {}
LATHE_DEVICE void barrierArrive(Barrier *b) {
  latheEmulator->barrierArrive(b, 0);
}
LATHE_DEVICE void barrierExpect(Barrier *b, u32 bytes) {
  latheEmulator->barrierArrive(b, bytes);
}
LATHE_DEVICE void barrierWait(Barrier *b, u32 parity) {
  latheEmulator->barrierWait(b, parity);
}
LATHE_DEVICE void clusterArrive() { latheEmulator->clusterArrive(); }
LATHE_DEVICE void clusterWait() { latheEmulator->clusterWait(); }
LATHE_DEVICE void storeTwin(u32 *p, u32 value, Barrier *b) {
  latheEmulator->storeTwin(p, &value, 4, b);
}
LATHE_DEVICE void storeTwin(u64 *p, u64 value, Barrier *b) {
  latheEmulator->storeTwin(p, &value, 8, b);
}
LATHE_DEVICE void barrierWaitTwin(Barrier *b, u32 parity) {
  barrierWait(b, parity);
}
LATHE_DEVICE void prefetchLine(const void *) {}
LATHE_DEVICE void copyBulk(void *shared, const void *global, u32 bytes,
                           Barrier *b) {
  latheEmulator->copyBulk(shared, global, bytes, b);
}

LATHE_DEVICE Float4 loadOnce(const float *p) {
  if ((u64)p % 16)
    latheEmulator->fail("loadOnce: not 16-byte aligned");
  return *(const Float4 *)p;
}
LATHE_DEVICE u64 loadFresh(const u64 *p) { return *p; }

//===----------------------------------------------------------------------===//
// Numbers
//===----------------------------------------------------------------------===//

LATHE_DEVICE u32 floatBits(float f) { return __builtin_bit_cast(u32, f); }
LATHE_DEVICE float bitsFloat(u32 u) { return __builtin_bit_cast(float, u); }

LATHE_DEVICE float halfToFloat(u16 h) {
  u32 sign = (u32)(h & 0x8000) << 16, magnitude = (u32)(h & 0x7fff) << 13;
  // An infinity or NaN keeps its mantissa; all else only changes its bias.
  if (magnitude >= 0x7c00u << 13)
    return bitsFloat(sign | 0x7f800000 | magnitude);
  return bitsFloat(sign | floatBits(bitsFloat(magnitude) * 0x1p112f));
}
/// One rounding from any value that a double holds; a NaN is 0x7fff.
LATHE_DEVICE u16 emulatorRoundToHalf(double value) {
  u64 bits = __builtin_bit_cast(u64, value);
  u64 magnitude = bits & ~0ull >> 1;
  u16 sign = (bits >> 48) & 0x8000;
  if (magnitude > 0x7ffull << 52)
    return 0x7fff;
  if (magnitude >= __builtin_bit_cast(u64, 65520.0))
    return sign | 0x7c00;
  // The sum's last place is that of the half, so the addition rounds.
  const u64 smallest = 1023 - 14;
  u64 exponent = magnitude >> 52 < smallest ? smallest : magnitude >> 52;
  u64 large = (exponent + 42) << 52;
  double sum =
      __builtin_bit_cast(double, magnitude) + __builtin_bit_cast(double, large);
  u64 places = __builtin_bit_cast(u64, sum) - large;
  return sign | (u16)(((exponent - smallest) << 10) + places);
}
LATHE_DEVICE u16 floatToHalf(float f) { return emulatorRoundToHalf(f); }
LATHE_DEVICE u32 packHalf(float lower, float upper) {
  return floatToHalf(lower) | (u32)floatToHalf(upper) << 16;
}
LATHE_DEVICE u32 emulatorRoundToBf16(float f) {
  u32 bits = floatBits(f);
  return f != f ? 0x7fff : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
LATHE_DEVICE u32 packBf16(float lower, float upper) {
  return emulatorRoundToBf16(lower) | emulatorRoundToBf16(upper) << 16;
}
LATHE_DEVICE u32 e4m3ToHalf(u16 pair) {
  u32 result = 0;
  for (int i = 0; i < 2; ++i) {
    u32 sign = pair >> 8 * i & 0x80, magnitude = pair >> 8 * i & 0x7f;
    // The same fields seven bits up, and 8 between the biases.
    float value = halfToFloat(sign << 8 | magnitude << 7) * 256;
    result |= (magnitude == 0x7f ? 0x7fff : floatToHalf(value)) << 16 * i;
  }
  return result;
}

// Hardware that lacks e2m1 is the default; a test may ask for the other.
#ifndef LATHE_HAS_E2M1
#define LATHE_HAS_E2M1 0
#endif
LATHE_DEVICE u32 e2m1ToHalf(u32 word, int byte) {
  u32 result = 0;
  for (int i = 0; i < 2; ++i) {
    u32 sign = word >> (8 * byte + 4 * i) & 8;
    u32 magnitude = word >> (8 * byte + 4 * i) & 7;
    float value = halfToFloat(sign << 12 | magnitude << 9) * 0x1p14f;
    result |= (u32)floatToHalf(value) << 16 * i;
  }
  return result;
}

LATHE_DEVICE u32 lowerTwice(u32 pair) { return (pair & 0xffff) * 0x10001u; }
LATHE_DEVICE u32 upperTwice(u32 pair) { return (pair >> 16) * 0x10001u; }
LATHE_DEVICE u32 maskOr(u32 word, u32 mask, u32 bits) {
  return (word & mask) | bits;
}

/// a b + c of both halves: in double, then one rounding. The sum can be inexact
/// in double only where it is too far from a tie for that to matter.
LATHE_DEVICE u32 halfFma(u32 a, u32 b, u32 c) {
  u32 result = 0;
  for (int shift = 0; shift < 32; shift += 16)
    result |= (u32)emulatorRoundToHalf((double)halfToFloat(a >> shift) *
                                           halfToFloat(b >> shift) +
                                       halfToFloat(c >> shift))
              << shift;
  return result;
}
LATHE_DEVICE u32 halfAdd(u32 a, u32 b) { return halfFma(a, 0x3c003c00, b); }
/// Adding -0 keeps the sign of a zero.
LATHE_DEVICE u32 halfMul(u32 a, u32 b) { return halfFma(a, b, 0x80008000); }

LATHE_DEVICE float fma(float a, float b, float c) {
  return latheEmulator->fma(a, b, c);
}
LATHE_DEVICE float add(float a, float b) { return a + b; }
LATHE_DEVICE float rsqrt(float x) { return latheEmulator->rsqrt(x); }
LATHE_DEVICE float reciprocal(float x) { return 1.0f / x; }
LATHE_DEVICE float exp(float x) { return latheEmulator->exp(x); }
LATHE_DEVICE float exp2(float x) { return latheEmulator->exp2(x); }
LATHE_DEVICE float log1p(float x) { return latheEmulator->log1p(x); }
LATHE_DEVICE float maximum(float a, float b) { return a > b || b != b ? a : b; }
LATHE_DEVICE float minimum(float a, float b) { return a < b || b != b ? a : b; }
LATHE_DEVICE double logDouble(double x) { return latheEmulator->logDouble(x); }
LATHE_DEVICE int leadingZeros(u64 x) { return x ? __builtin_clzll(x) : 64; }

} // namespace lathe

#include "tests/kernels/cuda/emulator/TensorCores.h"
#include "tests/kernels/cuda/emulator/Warpgroup.h"

#endif // LATHE_TESTS_KERNELS_CUDA_EMULATOR_INTRINSICS_H
