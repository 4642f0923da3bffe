//===- intrinsics.cuh - what only the GPU can say --------------*- CUDA -*-===//
//
// Every use of PTX and of CUDA's built-in names in the device library goes
// through this file or, for sm_90a alone, intrinsics_warpgroup.cuh; the rest is
// plain C++. tests/kernels/cuda/emulator has the same functions for a CPU,
// which is how the kernels are tested without a GPU.
//
// Half-precision pairs are held in a u32, the lower half in the lower bits.
// Shared memory is dynamic only, reached through sharedMemory().
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_INTRINSICS_CUH
#define LATHE_COMPILER_DEVICE_CUDA_INTRINSICS_CUH

#define LATHE_DEVICE static __device__ __forceinline__
#define LATHE_DEVICE_MEMBER __device__ __forceinline__
#define LATHE_LAMBDA __device__
#define LATHE_KERNEL(threads, blocks)                                          \
  extern "C" __global__ void __launch_bounds__(threads, blocks)

namespace lathe {

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

//===----------------------------------------------------------------------===//
// Where am I
//===----------------------------------------------------------------------===//

LATHE_DEVICE int threadX() { return threadIdx.x; }
LATHE_DEVICE int lane() { return threadIdx.x & 31; }
/// Uniform over the warp, and the compiler knows it, because it is a shuffle:
/// every lane must take part.
LATHE_DEVICE int warp() { return __shfl_sync(~0u, threadIdx.x >> 5, 0); }
LATHE_DEVICE int threadCount() { return blockDim.x; }
LATHE_DEVICE int blockX() { return blockIdx.x; }
LATHE_DEVICE int blockY() { return blockIdx.y; }
LATHE_DEVICE int gridX() { return gridDim.x; }
LATHE_DEVICE int gridY() { return gridDim.y; }

/// The block's dynamic shared memory, 1024-byte aligned.
LATHE_DEVICE char *sharedMemory() {
  extern __shared__ __align__(1024) char latheSharedMemory[];
  return latheSharedMemory;
}
LATHE_DEVICE u32 sharedAddress(const void *p) {
  return (u32)__cvta_generic_to_shared(p);
}

//===----------------------------------------------------------------------===//
// Threads together
//===----------------------------------------------------------------------===//

LATHE_DEVICE void syncThreads() { __syncthreads(); }
LATHE_DEVICE void syncWarp() { __syncwarp(); }
/// Barrier `id` (1 to 15) among the first arrivals of `threads` threads.
LATHE_DEVICE void syncNamed(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
template <class T> LATHE_DEVICE T shuffle(T value, int from) {
  return __shfl_sync(~0u, value, from);
}
template <class T> LATHE_DEVICE T shuffleXor(T value, int mask) {
  return __shfl_xor_sync(~0u, value, mask);
}
template <class T> LATHE_DEVICE T shuffleUp(T value, int by) {
  return __shfl_up_sync(~0u, value, by);
}
LATHE_DEVICE u32 ballot(bool vote) { return __ballot_sync(~0u, vote); }

LATHE_DEVICE void fenceDevice() { __threadfence(); }
/// Returns the value before.
LATHE_DEVICE u32 atomicAddDevice(u32 *p, u32 value) {
  return atomicAdd(p, value);
}
LATHE_DEVICE u32 atomicAddShared(u32 *p, u32 value) {
  return atomicAdd(p, value);
}
LATHE_DEVICE u64 atomicAddShared(u64 *p, u64 value) {
  return atomicAdd(p, value);
}
LATHE_DEVICE u64 atomicMaxDevice(u64 *p, u64 value) {
  return atomicMax(p, value);
}
LATHE_DEVICE u64 atomicAddDevice(u64 *p, u64 value) {
  return atomicAdd(p, value);
}

/// Adds to *p after everything that this thread has seen written; blocks that
/// then waitForCount() see that too.
LATHE_DEVICE void signalCount(u32 *p, u32 value) {
  asm volatile("red.release.gpu.global.add.u32 [%0], %1;" ::"l"(p), "r"(value)
               : "memory");
}
/// Waits until *p, which only grows, is at least `count`.
LATHE_DEVICE void waitForCount(const u32 *p, u32 count) {
  u32 found;
  do
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];"
                 : "=r"(found)
                 : "l"(p)
                 : "memory");
  while (found < count);
}

/// Programmatic dependent launch: wait until the launches before this one have
/// finished and their writes are visible; let the next one start early. Every
/// entry waits before it touches anything but weights.
LATHE_DEVICE void waitForPrevious() {
  asm volatile("griddepcontrol.wait;" ::: "memory");
}
LATHE_DEVICE void launchNext() {
  asm volatile("griddepcontrol.launch_dependents;");
}

/// The number of the multiprocessor that this runs on.
LATHE_DEVICE u32 multiprocessor() {
  u32 id;
  asm volatile("mov.u32 %0, %%smid;" : "=r"(id));
  return id;
}
/// A clock, and about a tenth of a millisecond without doing anything.
LATHE_DEVICE u64 nanoseconds() {
  u64 now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  return now;
}
LATHE_DEVICE void nap() { asm volatile("nanosleep.u32 100000;"); }
/// A word of host memory that the host reads and writes meanwhile.
LATHE_DEVICE u32 loadHost(const u32 *p) {
  u32 value;
  asm volatile("ld.relaxed.sys.u32 %0, [%1];"
               : "=r"(value)
               : "l"(p)
               : "memory");
  return value;
}
LATHE_DEVICE void storeHost(u32 *p, u32 value) {
  asm volatile("st.relaxed.sys.u32 [%0], %1;" ::"l"(p), "r"(value) : "memory");
}

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

/// Global memory that this launch only reads and reads once.
LATHE_DEVICE Vec4 loadStream(const void *p) {
  Vec4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(p));
  return v;
}
/// Global memory that another block has just written (after its fence).
LATHE_DEVICE float loadFresh(const float *p) {
  float v;
  asm volatile("ld.global.cg.f32 %0, [%1];" : "=f"(v) : "l"(p) : "memory");
  return v;
}

LATHE_DEVICE Float2 loadFresh(const Float2 *p) {
  Float2 v;
  asm volatile("ld.global.cg.v2.f32 {%0,%1}, [%2];"
               : "=f"(v.x), "=f"(v.y)
               : "l"(p)
               : "memory");
  return v;
}
LATHE_DEVICE Float4 loadFresh(const Float4 *p) {
  Float4 v;
  asm volatile("ld.global.cg.v4.f32 {%0,%1,%2,%3}, [%4];"
               : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
               : "l"(p)
               : "memory");
  return v;
}

/// 16 bytes global to shared, asynchronously; zeros when not `valid`.
LATHE_DEVICE void copyAsync16(void *shared, const void *global,
                              bool valid = true) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
                   sharedAddress(shared)),
               "l"(global), "r"(valid ? 16 : 0)
               : "memory");
}
LATHE_DEVICE void copyCommit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
/// Waits until at most kPending of this thread's groups are under way.
template <int kPending> LATHE_DEVICE void copyWait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

/// An mbarrier in shared memory.
typedef u64 Barrier;
LATHE_DEVICE void barrierInit(Barrier *b, int arrivals) {
  asm volatile(
      "mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(sharedAddress(b)),
      "r"(arrivals)
      : "memory");
}
/// Ends a barrier at which nobody waits: its memory may be initialised anew.
LATHE_DEVICE void barrierEnd(Barrier *b) {
  asm volatile("mbarrier.inval.shared::cta.b64 [%0];" ::"r"(sharedAddress(b))
               : "memory");
}
/// Makes barrierInit visible to the copy engine; before the syncThreads.
LATHE_DEVICE void barrierInitFence() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
LATHE_DEVICE void barrierArrive(Barrier *b) {
  asm volatile(
      "mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(sharedAddress(b))
      : "memory");
}
/// Arrives and announces `bytes` that copyBulk will deliver.
LATHE_DEVICE void barrierExpect(Barrier *b, u32 bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(
                   sharedAddress(b)),
               "r"(bytes)
               : "memory");
}
/// Waits for the phase of this parity to end.
LATHE_DEVICE void barrierWait(Barrier *b, u32 parity) {
  asm volatile("{\n"
               ".reg .pred p;\n"
               "again:\n"
               "mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n"
               "@p bra done;\n"
               "bra again;\n"
               "done:\n"
               "}\n" ::"r"(sharedAddress(b)),
               "r"(parity)
               : "memory");
}
/// `bytes` (a multiple of 16, 16-byte aligned both sides) global to shared by
/// the copy engine; `b` counts them.
LATHE_DEVICE void copyBulk(void *shared, const void *global, u32 bytes,
                           Barrier *b) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::"
               "bytes [%0], [%1], %2, [%3];" ::"r"(sharedAddress(shared)),
               "l"(global), "r"(bytes), "r"(sharedAddress(b))
               : "memory");
}

/// Global memory that this thread reads once and may overwrite later; issued
/// where it stands.
LATHE_DEVICE Float4 loadOnce(const float *p) {
  Float4 v;
  asm volatile("ld.global.L1::no_allocate.v4.f32 {%0,%1,%2,%3}, [%4];"
               : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
               : "l"(p));
  return v;
}

LATHE_DEVICE u64 loadFresh(const u64 *p) {
  u64 v;
  asm volatile("ld.global.cg.u64 %0, [%1];" : "=l"(v) : "l"(p) : "memory");
  return v;
}

//===----------------------------------------------------------------------===//
// Tensor cores. t = lane, g = t / 4, q = t % 4.
//===----------------------------------------------------------------------===//

/// d += A B for f16 A [16 x 16] and B [16 x 8], sums in f32.
///   a[r]: row g + 8 (r & 1), columns 2q, 2q + 1 of half r >> 1
///   b[r]: rows 2q, 2q + 1 of half r, column g
///   d[i]: row g + 8 (i >> 1), column 2q + (i & 1)
LATHE_DEVICE void mma(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
/// d = A B + c.
LATHE_DEVICE void mma(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1,
                      float c0, float c1, float c2, float c3) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};"
      : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "f"(c0),
        "f"(c1), "f"(c2), "f"(c3));
}
/// The same for bf16.
LATHE_DEVICE void mmaBf16(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
/// d += A B for tf32 A [16 x 8] and B [8 x 8]: floats, whose lower 13 bits do
/// not count.
///   a[r]: row g + 8 (r & 1), column q + 4 (r >> 1)
///   b[r]: row q + 4 r, column g
///   d[i]: as above
LATHE_DEVICE void mmaTf32(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
      "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
/// Four 8x8 matrices of 16-bit elements: lane 8i + j gives the address of row j
/// (16 bytes) of matrix i; r[i] gets elements 2q, 2q + 1 of row g of matrix i.
LATHE_DEVICE void ldmatrix(u32 (&r)[4], const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(sharedAddress(row))
               : "memory");
}
/// The same with each matrix transposed: rows 2q, 2q + 1 of column g.
LATHE_DEVICE void ldmatrixTransposed(u32 (&r)[4], const void *row) {
  asm volatile(
      "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
      : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
      : "r"(sharedAddress(row))
      : "memory");
}

//===----------------------------------------------------------------------===//
// Numbers. Conversions round to nearest, ties to even.
//===----------------------------------------------------------------------===//

LATHE_DEVICE u32 floatBits(float f) { return __float_as_uint(f); }
LATHE_DEVICE float bitsFloat(u32 u) { return __uint_as_float(u); }

LATHE_DEVICE u32 packHalf(float lower, float upper) {
  u32 r;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(upper), "f"(lower));
  return r;
}
LATHE_DEVICE u32 packBf16(float lower, float upper) {
  u32 r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(upper), "f"(lower));
  return r;
}
LATHE_DEVICE float halfToFloat(u16 h) {
  float f;
  asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
  return f;
}
LATHE_DEVICE u16 floatToHalf(float f) {
  u16 h;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f));
  return h;
}
/// Two e4m3 bytes to two halves; exact.
LATHE_DEVICE u32 e4m3ToHalf(u16 pair) {
  u32 r;
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(r) : "h"(pair));
  return r;
}
#if __CUDA_ARCH__ >= 1000 && (defined(__CUDA_ARCH_FEAT_SM120_ALL) ||           \
                              defined(__CUDA_ARCH_FAMILY_SPECIFIC__))
#define LATHE_HAS_E2M1 1
/// The two e2m1 codes of byte `byte` of `word` to two halves; exact.
LATHE_DEVICE u32 e2m1ToHalf(u32 word, int byte) {
  u32 r;
  asm("{\n.reg .b8 c0, c1, c2, c3;\n"
      "mov.b32 {c0, c1, c2, c3}, %1;\n"
      "cvt.rn.f16x2.e2m1x2 %0, c0;\n}"
      : "=r"(r)
      : "r"(word >> (8 * byte)));
  return r;
}
#else
#define LATHE_HAS_E2M1 0
#endif
/// One half of a pair, twice.
LATHE_DEVICE u32 lowerTwice(u32 pair) {
  return __byte_perm(pair, pair, 0x1010);
}
LATHE_DEVICE u32 upperTwice(u32 pair) {
  return __byte_perm(pair, pair, 0x3232);
}
/// word & mask | bits, in one instruction even where both are constants.
LATHE_DEVICE u32 maskOr(u32 word, u32 mask, u32 bits) {
  u32 r;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;"
      : "=r"(r)
      : "r"(word), "r"(mask), "r"(bits));
  return r;
}
LATHE_DEVICE u32 halfAdd(u32 a, u32 b) {
  u32 r;
  asm("add.rn.f16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
  return r;
}
LATHE_DEVICE u32 halfMul(u32 a, u32 b) {
  u32 r;
  asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
  return r;
}
LATHE_DEVICE u32 halfFma(u32 a, u32 b, u32 c) {
  u32 r;
  asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(c));
  return r;
}
LATHE_DEVICE float fma(float a, float b, float c) { return __fmaf_rn(a, b, c); }
/// a + b, never contracted with a product that a or b is.
LATHE_DEVICE float add(float a, float b) { return __fadd_rn(a, b); }
LATHE_DEVICE float rsqrt(float x) { return rsqrtf(x); }
/// 1 / x within an ulp; 0 of an infinity.
LATHE_DEVICE float reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
/// 2^x within 2 ulp; 0 far below.
LATHE_DEVICE float exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
/// e^x within 2 ulp and a bit; for softmax, sigmoid and SiLU.
LATHE_DEVICE float exp(float x) { return expf(x); }
LATHE_DEVICE float log1p(float x) { return log1pf(x); }
LATHE_DEVICE float maximum(float a, float b) { return fmaxf(a, b); }
LATHE_DEVICE float minimum(float a, float b) { return fminf(a, b); }
LATHE_DEVICE double logDouble(double x) { return ::log(x); }
/// 0 to 64.
LATHE_DEVICE int leadingZeros(u64 x) { return __clzll((i64)x); }

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_INTRINSICS_CUH
