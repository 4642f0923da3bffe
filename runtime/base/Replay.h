//===- Replay.h - the ring of a state that replays --------------*- C++ -*-===//
//
// Header-free: CPU and CUDA kernels and whoever sizes their memory.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_BASE_REPLAY_H
#define LATHE_RUNTIME_BASE_REPLAY_H

/// A state with replay (ir/SPEC.md) keeps what the tokens of the last decode
/// step were made of: at most so many, in a ring in which the token at position
/// p is row p % LATHE_REPLAY_RING. The ring holds the tokens of two steps and
/// the taps of a convolution before them, so a step never overwrites a row that
/// it or another thread still reads.
#define LATHE_REPLAY_TOKENS 8
#define LATHE_REPLAY_RING 32

#endif // LATHE_RUNTIME_BASE_REPLAY_H
