//===- Plan.h - what the runtime executes -----------------------*- C++ -*-===//
//
// The contract between the compiler and the runtime: plain data, no MLIR. A
// plan lists the kernels, the weights with the layout their kernels read, the
// states that live from step to step, and the entry points with their launches
// in order. Every size is known before memory is touched, except that a KV
// cache grows with the context the user asks for.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_ARTIFACT_PLAN_H
#define LATHE_RUNTIME_ARTIFACT_PLAN_H

#include "runtime/base/Weight.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lathe {

/// How a parameter lies in memory.
enum class Layout : uint8_t {
  Rows,       ///< as stored, row-major: embedding tables
  Tiles,      ///< tiles of 16 output features: everything that is multiplied;
              ///< the bytes of a tile are the target's own
  Vector,     ///< floats
  Transposed, ///< a float matrix [n, m] stored as [m, n]
};

struct PlannedWeight {
  std::string name; ///< canonical checkpoint name
  Layout layout;
  WeightDesc desc;            ///< Rows and Tiles
  std::vector<int64_t> shape; ///< Vector and Transposed
};

enum class StateKind : uint8_t { Kv, Conv, Recurrent };

struct PlannedState {
  std::string name;
  StateKind kind;
  /// Kv: heads, head_dim. Conv: steps, channels. Recurrent: heads, key_dim,
  /// value_dim. Elements are floats, except that those of a Kv have
  /// `elementBytes`; a Kv holds all keys [heads][capacity][head_dim], then all
  /// values.
  std::vector<int64_t> dims;
  int32_t elementBytes = 4; ///< 2: f16
  /// Rows of a ring in which position p is row p % ring. Conv: the inputs; 0:
  /// the last `steps` inputs, oldest first. Recurrent: behind the matrices the
  /// gates, per row beta and then decay of every head, both padded to whole
  /// vectors; 0: none, the state cannot replay.
  int32_t ring = 0;

  int64_t byteSize(int64_t capacity) const;
};

/// Where an operand of a launch lives.
struct PlannedOperand {
  enum class Space : uint8_t { Arena, Weight, State, Input, Output };
  Space space;
  int64_t value; ///< byte offset in the arena, or an index
};

struct PlannedLaunch {
  int32_t kernel; ///< index into Plan::kernels
  std::vector<PlannedOperand> operands;
};

/// One CUDA entry of a kernel. Its grid is blocks x ceil(tokens of the launch /
/// tokensPerBlock).
struct PlannedStage {
  std::string entry;          ///< symbol in the kernel's cubin
  int32_t threads = 0;        ///< per block
  int32_t blocks = 1;         ///< grid.x
  int32_t tokensPerBlock = 0; ///< 0: grid.y is 1
  int32_t dynamicShared = 0;  ///< bytes of shared memory per block
  /// `blocks` may be any smaller multiple of this too, with the same results;
  /// 0: it may not.
  int32_t grain = 0;
  /// Known once compiled; what `infer inspect` shows.
  int32_t registers = 0, spillBytes = 0, stackBytes = 0;
};

struct PlannedKernel {
  std::string name;        ///< symbol, unique in the plan
  int64_t sharedBytes = 0; ///< workspace of the launch (CPU: of the team)
  /// CUDA: more workspace for every position that a KV cache holds.
  int64_t bytesPerPosition = 0;
  int64_t localBytes = 0;           ///< CPU only: scratch of each thread
  std::vector<PlannedStage> stages; ///< CUDA only, in launch order
};

/// An input or output of an entry: `width` floats per token with the row
/// stride rounded up to 16 floats, or one token id (width 0).
struct PlannedIo {
  int64_t width;
};

struct PlannedEntry {
  std::string function; ///< "trunk", "head", "mtp"
  int64_t tokens;       ///< exact for decode, the maximum for prefill
  bool prefill;
  int64_t arenaBytes;
  std::vector<PlannedIo> inputs, outputs;
  std::vector<PlannedLaunch> launches;
};

/// A decode step of `tokens`, trunk and head, in the persistent kernel
/// (step.cuh in compiler/device/cuda): it stands for every run of launches
/// whose kernels it covers; the others are launched between.
struct PlannedStep {
  int64_t tokens;
  int32_t kernel;              ///< index into Plan::kernels; one stage
  std::vector<int32_t> covers; ///< kernels, ascending
};

/// Whose limits and size a plan keeps that was compiled for another GPU.
struct PlannedProfile {
  std::string arch; ///< "sm_120"; empty: the plan is for its own target
  int32_t sms = 0;  ///< multiprocessors that its grids fill
};

struct Plan {
  std::string target = "cpu"; ///< "cpu" or a CUDA architecture: "sm_90"
  PlannedProfile profile;
  std::vector<PlannedKernel> kernels;
  std::vector<PlannedWeight> weights;
  std::vector<PlannedState> states;
  std::vector<PlannedEntry> entries;
  std::vector<PlannedStep> steps; ///< CUDA only

  /// The step of exactly `tokens`, or null.
  const PlannedStep *findStep(int64_t tokens) const;

  /// The entry that takes `tokens` rows: the decode entry of exactly that
  /// count if there is one, else the prefill entry; null if neither fits. With
  /// `preferPrefill` the other way round.
  const PlannedEntry *find(std::string_view function, int64_t tokens,
                           bool preferPrefill = false) const;

  /// Most tokens that an entry of `function` takes; 0 when there is none.
  int64_t maxTokens(std::string_view function) const;
};

} // namespace lathe

#endif // LATHE_RUNTIME_ARTIFACT_PLAN_H
