//===- delta_prefill.cuh - Gated DeltaNet for a prompt --------*- CUDA -*-===//
//
// The recurrence of delta.cuh in its chunked form (arXiv 2412.06464, section
// 3.3): the state enters a chunk of n tokens only at its start and leaves at
// its end, and everything between is products of small matrices. With rows
// q, k, v, G_i the running sum of g inside the chunk, S0 and S1 the state
// before and after:
//
//   L_ij = beta_i (k_i . k_j) e^{G_i - G_j}                  j < i
//   M = (I + L)^{-1} diag(beta)
//   P_ij = (q_i . k_j) e^{G_i - G_j}                         j <= i
//   X = M (V - diag(e^G) K S0)
//   O = diag(e^G) Q S0 + P X
//   S1 = e^{G_n} S0 + K^T diag(e^{G_n - G}) X
//
// Two entries, launched in order:
//  - deltaPrepare makes all that does not need the state, every chunk and head
//    at once: q, k, v, M, P and the decays, into the scratch;
//  - deltaScan takes 16 value columns per warp through the chunks in order.
//    These are independent, so a warp keeps its columns of S in registers and
//    waits for nobody but the copies of k, q, M and P.
//
// The products run on tensor cores in f16 with f32 sums. Both factors are split
// into an upper and a lower half of 11 bits, which three products multiply to
// within 2^-21. What an f16 cannot hold is kept out by powers of two, see
// delta_chunk.cuh. Rows beyond the last token are zero: they add nothing.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_DELTA_PREFILL_CUH
#define LATHE_COMPILER_DEVICE_CUDA_DELTA_PREFILL_CUH

#include "compiler/device/cuda/delta_prepare.cuh"
#include "compiler/device/cuda/delta_scan.cuh"

#endif // LATHE_COMPILER_DEVICE_CUDA_DELTA_PREFILL_CUH
