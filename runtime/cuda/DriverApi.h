//===- DriverApi.h - the part of the CUDA driver ABI we use -----*- C++ -*-===//
//
// Types and constants of libcuda, written down here because Lathe builds and
// starts without CUDA installed. Values and layouts are NVIDIA's stable ABI;
// names are theirs where a type is opaque. Only the sources of this folder and
// the tests' fake driver include this file.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_CUDA_DRIVERAPI_H
#define LATHE_RUNTIME_CUDA_DRIVERAPI_H

#include <cstddef>

namespace lathe::cuda::abi {

/// A number that cuDeviceGet() makes of an ordinal.
using CUdevice = int;
/// A byte address on the GPU.
using CUdeviceptr = unsigned long long;
/// Opaque handles; null is no object.
using CUcontext = struct CUctx_st *;
using CUmodule = struct CUmod_st *;
using CUfunction = struct CUfunc_st *;
using CUstream = struct CUstream_st *;
using CUevent = struct CUevent_st *;
using CUgraph = struct CUgraph_st *;
using CUgraphNode = struct CUgraphNode_st *;
using CUgraphExec = struct CUgraphExec_st *;

struct CUuuid {
  unsigned char bytes[16];
};

/// CUresult: the values that Lathe tells apart.
enum CUresult : int {
  Success = 0,
  InvalidValue = 1,
  OutOfMemory = 2,
  StubLibrary = 34,
  DeviceUnavailable = 46,
  NoDevice = 100,
  InvalidDevice = 101,
  InvalidImage = 200,
  NoBinaryForGpu = 209,
  EccUncorrectable = 214,
  InvalidPtx = 218,
  UnsupportedPtxVersion = 222,
  InvalidSource = 300,
  OperatingSystem = 304,
  NotFound = 500,
  NotReady = 600,
  IllegalAddress = 700,
  LaunchOutOfResources = 701,
  LaunchTimeout = 702,
  Assert = 710,
  IllegalInstruction = 715,
  MisalignedAddress = 716,
  LaunchFailed = 719,
  SystemNotReady = 802,
  SystemDriverMismatch = 803,
  CompatNotSupported = 804,
  CaptureUnsupported = 900,
  CaptureInvalidated = 901,
  Unknown = 999,
};

/// CUdevice_attribute.
enum class DeviceAttribute : int {
  SmCount = 16,
  MemoryClockKhz = 36,
  MemoryBusBits = 37,
  L2Bytes = 38,
  ComputeMajor = 75,
  ComputeMinor = 76,
  SharedPerSm = 81,
  SharedPerBlockOptIn = 97,
};

/// CUfunction_attribute.
enum class FunctionAttribute : int {
  MaxThreadsPerBlock = 0,
  StaticSharedBytes = 1,
  LocalBytes = 3,
  Registers = 4,
  MaxDynamicSharedBytes = 8,
};

/// CUstreamCaptureMode: which threads a capture forbids unsafe calls.
enum class CaptureMode : int { Global = 0, ThreadLocal = 1, Relaxed = 2 };

/// Flags of cuStreamCreate, cuEventCreate and cuMemHostAlloc.
inline constexpr unsigned kStreamNonBlocking = 1;
inline constexpr unsigned kEventDefault = 0;
inline constexpr unsigned kEventDisableTiming = 2;
inline constexpr unsigned kMemHostPortable = 1;

/// CUlaunchAttributeID.
enum class LaunchAttributeId : int {
  Cooperative = 2,
  ProgrammaticStreamSerialization = 6
};

/// CUlaunchAttribute: the driver's value is a union padded to 64 bytes.
struct LaunchAttribute {
  LaunchAttributeId id;
  char pad[4];
  union {
    char bytes[64];
    int cooperative;
    int programmaticStreamSerializationAllowed;
    unsigned long long align;
  } value;
};
static_assert(sizeof(LaunchAttribute) == 72 &&
              offsetof(LaunchAttribute, value) == 8);

/// CUlaunchConfig. `attributes` is read during the call only.
struct LaunchConfig {
  unsigned gridX, gridY, gridZ;
  unsigned blockX, blockY, blockZ;
  unsigned dynamicSharedBytes;
  CUstream stream;
  LaunchAttribute *attributes;
  unsigned attributeCount;
};
static_assert(sizeof(LaunchConfig) == 56 &&
              offsetof(LaunchConfig, stream) == 32);

} // namespace lathe::cuda::abi

namespace lathe::cuda {

/// The driver's functions, filled by Driver::load(): none is null.
struct DriverApi {
#define LATHE_CUDA_SYMBOL(name, symbol, parameters)                            \
  abi::CUresult(*name) parameters = nullptr;
  // The table names the types of the ABI without its namespace.
  using CUresult = abi::CUresult;
  using CUdevice = abi::CUdevice;
  using CUdeviceptr = abi::CUdeviceptr;
  /// Opaque handles; null is no object.
  using CUcontext = abi::CUcontext;
  using CUmodule = abi::CUmodule;
  using CUfunction = abi::CUfunction;
  using CUstream = abi::CUstream;
  using CUevent = abi::CUevent;
  using CUgraph = abi::CUgraph;
  using CUgraphNode = abi::CUgraphNode;
  using CUgraphExec = abi::CUgraphExec;
  using CUuuid = abi::CUuuid;
  using DeviceAttribute = abi::DeviceAttribute;
  using FunctionAttribute = abi::FunctionAttribute;
  using CaptureMode = abi::CaptureMode;
  using LaunchConfig = abi::LaunchConfig;
#include "runtime/cuda/DriverSymbols.def"
};

} // namespace lathe::cuda

#endif // LATHE_RUNTIME_CUDA_DRIVERAPI_H
