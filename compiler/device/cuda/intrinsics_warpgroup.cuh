//===- intrinsics_warpgroup.cuh - tensor cores of sm_90a -------*- CUDA -*-===//
//
// What intrinsics.cuh has no room for: instructions that four consecutive warps
// issue together, and that run while the warps go on. Only sm_90a has them.
//
// The sums and the A operand belong to the tensor cores from wgmma until the
// wgmmaWait that covers it, and so does B, in shared memory.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_INTRINSICS_WARPGROUP_CUH
#define LATHE_COMPILER_DEVICE_CUDA_INTRINSICS_WARPGROUP_CUH

#include "compiler/device/cuda/intrinsics.cuh"

namespace lathe {

/// Changes how many registers each thread of this warpgroup has. Those that are
/// taken must have been given before by others.
template <int kCount> LATHE_DEVICE void giveRegisters() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCount));
}
template <int kCount> LATHE_DEVICE void takeRegisters() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kCount));
}

/// After registers of the next wgmma were written.
LATHE_DEVICE void wgmmaFence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
LATHE_DEVICE void wgmmaCommit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/// Waits until at most kPending of the committed groups run.
template <int kPending> LATHE_DEVICE void wgmmaWait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
/// What is computed from these, or into them, stays on its side of this: after
/// a wait, and before a fence.
template <int kCount> LATHE_DEVICE void wgmmaHold(float (&d)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i)
    asm volatile("" : "+f"(d[i])::"memory");
}
template <int kCount> LATHE_DEVICE void wgmmaHold(u32 (&a)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i)
    asm volatile("" : "+r"(a[i])::"memory");
}

/// B for wgmma: rows of 64 halves, 128 bytes each, that swizzle as
/// WarpgroupShape::place says; `rows` is 1024-byte aligned. Adding 2 goes on by
/// 16 halves, adding 64 by 8 rows.
LATHE_DEVICE u64 wgmmaOperand(const void *rows) {
  return (u64)(sharedAddress(rows) >> 4) | 1ull << 16 | 64ull << 32 |
         1ull << 62;
}

#define LATHE_OUT_8(i)                                                         \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]),  \
      "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define LATHE_OUT_32                                                           \
  LATHE_OUT_8(0), LATHE_OUT_8(8), LATHE_OUT_8(16), LATHE_OUT_8(24)
#define LATHE_OUT_40 LATHE_OUT_32, LATHE_OUT_8(32)
#define LATHE_OUT_48 LATHE_OUT_40, LATHE_OUT_8(40)
#define LATHE_OUT_56 LATHE_OUT_48, LATHE_OUT_8(48)
#define LATHE_OUT_64 LATHE_OUT_56, LATHE_OUT_8(56)
#define LATHE_NAME_32                                                          \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20," \
  "%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define LATHE_NAME_40 LATHE_NAME_32 ",%32,%33,%34,%35,%36,%37,%38,%39"
#define LATHE_NAME_48 LATHE_NAME_40 ",%40,%41,%42,%43,%44,%45,%46,%47"
#define LATHE_NAME_56 LATHE_NAME_48 ",%48,%49,%50,%51,%52,%53,%54,%55"
#define LATHE_NAME_64 LATHE_NAME_56 ",%56,%57,%58,%59,%60,%61,%62,%63"

/// d += A B for f16 A [64 x 16] and B [16 x n], sums in f32. Warp w of the four
/// has rows 16 w to 16 w + 15: of A as in mma, of columns [8j, 8j + 8) of d in
/// d[4j] to d[4j + 3].
#define LATHE_WGMMA(n, sums, a, b)                                             \
  LATHE_DEVICE void wgmma(float (&d)[sums], const u32(&w)[4], u64 x) {         \
    asm volatile("{\n.reg .pred p;\nsetp.eq.u32 p, 0, 0;\n"                    \
                 "wgmma.mma_async.sync.aligned.m64n" #n                        \
                 "k16.f32.f16.f16 {" LATHE_NAME_##sums "}, {" a "}, " b        \
                                                       ", p, 1, 1, 0;\n}"      \
                 : LATHE_OUT_##sums                                            \
                 : "r"(w[0]), "r"(w[1]), "r"(w[2]), "r"(w[3]), "l"(x));        \
  }
LATHE_WGMMA(64, 32, "%32,%33,%34,%35", "%36")
LATHE_WGMMA(80, 40, "%40,%41,%42,%43", "%44")
LATHE_WGMMA(96, 48, "%48,%49,%50,%51", "%52")
LATHE_WGMMA(112, 56, "%56,%57,%58,%59", "%60")
LATHE_WGMMA(128, 64, "%64,%65,%66,%67", "%68")

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_INTRINSICS_WARPGROUP_CUH
