//===- intrinsics.cuh - what only the GPU can say --------------*- CUDA -*-===//
//
// Every use of PTX and of CUDA's built-in names in the device library goes
// through this file (threads and memory), intrinsics_math.cuh or, for sm_90a
// alone, intrinsics_warpgroup.cuh; the rest is plain C++.
// tests/kernels/cuda/emulator has the same functions for a CPU, which is how
// the kernels are tested without a GPU.
//
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

/// Behind LATHE_KERNEL: two neighbouring blocks run together.
#define LATHE_TWINS __cluster_dims__(2, 1, 1)

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
/// Barrier `id` (0 to 15; syncThreads has 0) among the first arrivals of
/// `threads` threads.
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
/// Likewise; writes that this thread has seen before are then seen by whoever
/// counts after it.
LATHE_DEVICE u32 atomicCountDevice(u32 *p) {
  u32 before;
  asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], 1;"
               : "=r"(before)
               : "l"(p)
               : "memory");
  return before;
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
/// The same, if `wanted`, without a branch, which other loads do not pass.
LATHE_DEVICE void copyAsync16If(bool wanted, void *shared, const void *global) {
  asm volatile("{\n"
               ".reg .pred p;\n"
               "setp.ne.b32 p, %2, 0;\n"
               "@p cp.async.cg.shared.global [%0], [%1], 16;\n"
               "}\n" ::"r"(sharedAddress(shared)),
               "l"(global), "r"((int)wanted)
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
/// Until the try_wait `wait` of barrier `b` says that the phase has ended.
#define LATHE_BARRIER_WAIT(wait, b, parity)                                    \
  asm volatile("{\n"                                                           \
               ".reg .pred p;\n"                                               \
               "again:\n" wait " p, [%0], %1;\n"                               \
               "@p bra done;\n"                                                \
               "bra again;\n"                                                  \
               "done:\n"                                                       \
               "}\n" ::"r"(sharedAddress(b)),                                  \
               "r"(parity)                                                     \
               : "memory")
/// Waits for the phase of this parity to end.
LATHE_DEVICE void barrierWait(Barrier *b, u32 parity) {
  LATHE_BARRIER_WAIT("mbarrier.try_wait.parity.shared::cta.b64", b, parity);
}
/// Of twins (LATHE_TWINS): before one stores to the other all threads of both
/// have to clusterArrive(), and who stores to clusterWait().
LATHE_DEVICE void clusterArrive() {
  asm volatile("barrier.cluster.arrive.release;" ::: "memory");
}
LATHE_DEVICE void clusterWait() {
  asm volatile("barrier.cluster.wait.acquire;" ::: "memory");
}
/// The address of the place of `p` in the shared memory of the block's twin.
LATHE_DEVICE u32 twinAddress(const void *p) {
  u32 there;
  asm("mapa.shared::cluster.u32 %0, %1, %2;"
      : "=r"(there)
      : "r"(sharedAddress(p)), "r"(blockX() % 2 ^ 1));
  return there;
}
/// *p = value in the twin's memory, at some time; its barrier at the place of
/// `b` then has so many bytes more.
LATHE_DEVICE void storeTwin(u32 *p, u32 value, Barrier *b) {
  asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.u32 "
               "[%0], %1, [%2];" ::"r"(twinAddress(p)),
               "r"(value), "r"(twinAddress(b))
               : "memory");
}
LATHE_DEVICE void storeTwin(u64 *p, u64 value, Barrier *b) {
  asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.u64 "
               "[%0], %1, [%2];" ::"r"(twinAddress(p)),
               "l"(value), "r"(twinAddress(b))
               : "memory");
}
/// barrierWait() for what the twin stores.
LATHE_DEVICE void barrierWaitTwin(Barrier *b, u32 parity) {
  LATHE_BARRIER_WAIT("mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64",
                     b, parity);
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

/// Brings the line of 128 bytes that holds `global` nearer.
LATHE_DEVICE void prefetchLine(const void *global) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(global));
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

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_INTRINSICS_CUH
