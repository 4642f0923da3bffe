//===- EmulatorTable.h - what kernels ask of the emulator -------*- C++ -*-===//
//
// Header-free, as intrinsics.h is. The text of a kernel that is compiled in
// process defines LATHE_EMULATOR_DEFINE, and who loads the object stores
// emulator::table() in its `latheEmulator`.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_TESTS_KERNELS_CUDA_EMULATOR_EMULATORTABLE_H
#define LATHE_TESTS_KERNELS_CUDA_EMULATOR_EMULATORTABLE_H

namespace lathe {

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

/// What the lanes of a warp do together, given each one's argument (null for
/// the lanes that a partial warp lacks).
typedef void (*EmulatorCollective)(void *const *arguments);

/// A wgmma that has not been waited for, and sums that such ones add to.
struct EmulatorWgmma {
  const u32 *a;
  u64 b;
  int count; ///< of sums per lane
  int sums;  ///< index into EmulatorWarpgroup::sums
  int group;
};
struct EmulatorSums {
  float *d; ///< null: unused
  int count;
  float values[64];
};
/// What a thread has under way on its warpgroup's tensor cores.
struct EmulatorWarpgroup {
  static constexpr int kMostProducts = 128, kMostSums = 4;
  int groups; ///< committed so far
  int due;    ///< groups before this one are waited for
  int count;
  EmulatorWgmma products[kMostProducts]; ///< oldest first
  EmulatorSums sums[kMostSums];
};

struct EmulatorTable {
  // The thread that is running.
  int thread = 0;
  int threads = 0, blockX = 0, blockY = 0, gridX = 0, gridY = 0;
  u64 sharedBytes = 0;
  char *shared;

  /// Ends the launch with this message.
  void (*fail)(const char *message);
  /// Waits for all lanes of the warp; the last one to come executes.
  void (*collective)(const char *name, void *argument,
                     EmulatorCollective execute);
  /// Barrier `id` of `threads` threads; 0 is that of all threads.
  void (*sync)(int id, int threads);
  /// Waits until *p, which other blocks add to, is at least `count`.
  void (*waitForCount)(const u32 *p, u32 count);

  void (*copyAsync16)(void *shared, const void *global, bool valid);
  void (*copyCommit)();
  void (*copyWait)(int pending);
  void (*barrierInit)(u64 *b, int arrivals);
  void (*barrierArrive)(u64 *b, u32 bytes);
  void (*barrierWait)(u64 *b, u32 parity);
  /// Of a launch with twins: once for all threads of both; and a store of
  /// `bytes` bytes to the place of `p` in the other block, whose barrier counts
  /// them.
  void (*clusterArrive)();
  void (*clusterWait)();
  void (*storeTwin)(void *p, const void *value, u32 bytes, u64 *b);
  void (*copyBulk)(void *shared, const void *global, u32 bytes, u64 *b);
  EmulatorWarpgroup *(*warpgroup)();

  float (*fma)(float a, float b, float c);
  float (*rsqrt)(float x), (*exp)(float x), (*exp2)(float x), (*log1p)(float x);
  double (*logDouble)(double x);
};

extern "C" EmulatorTable *latheEmulator;
#ifdef LATHE_EMULATOR_DEFINE
EmulatorTable *latheEmulator = nullptr;
#endif

} // namespace lathe

#endif // LATHE_TESTS_KERNELS_CUDA_EMULATOR_EMULATORTABLE_H
