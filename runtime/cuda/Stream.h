//===- Stream.h - work in order: copies, launches, graphs -------*- C++ -*-===//
//
// A stream is a queue of work on the GPU. Nothing here waits unless it says so,
// and nothing but create() and capture() allocates. An error may come from
// earlier work: the driver reports a failed kernel at a later call, and after
// that every call of the context fails.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_CUDA_STREAM_H
#define LATHE_RUNTIME_CUDA_STREAM_H

#include "runtime/cuda/Buffer.h"
#include "runtime/cuda/Context.h"
#include "runtime/cuda/Module.h"
#include "runtime/cuda/Owned.h"

#include <cstddef>
#include <cstdint>
#include <functional>

namespace lathe::cuda {

class Event;
class GraphExec;

struct LaunchShape {
  unsigned gridX = 1;
  unsigned gridY = 1;
  unsigned threads = 1;       ///< per block, in x
  unsigned dynamicShared = 0; ///< bytes per block
  /// Starts while the kernel before it in the stream still runs. The kernel
  /// must wait (griddepcontrol.wait) before it reads what that one wrote, and
  /// before it writes what that one reads.
  bool programmatic = false;
  /// All blocks run at the same time, or the launch fails. Not programmatic.
  bool cooperative = false;
};

/// Movable. Independent of other streams and of the default stream.
class Stream {
public:
  Stream() = default;
  static StatusOr<Stream> create(Context &context);

  /// Copies; the memory must stay valid until the copy has run. Host memory
  /// that is not pinned is staged by the driver, which may wait.
  Status copyToDevice(DeviceAddress to, const void *from, size_t bytes);
  Status copyToHost(void *to, DeviceAddress from, size_t bytes);
  Status copyOnDevice(DeviceAddress to, DeviceAddress from, size_t bytes);
  /// Sets `bytes` bytes to `value`.
  Status fill(DeviceAddress to, uint8_t value, size_t bytes);

  /// Launches `function`. `arguments[i]` points to the value of parameter i;
  /// the values are copied before this returns.
  Status launch(const Function &function, const LaunchShape &shape,
                void **arguments);

  /// Plays a captured graph.
  Status launch(const GraphExec &graph);

  /// Work queued from now on waits for `event` as last recorded.
  Status wait(const Event &event);

  /// Waits on the host until the queue is empty.
  Status synchronize();
  /// Whether the queue is empty; does not wait.
  StatusOr<bool> idle();

  /// Runs `record`, whose work on this stream is not executed but becomes a
  /// graph. Programmatic launches become programmatic edges. `record` must not
  /// synchronize or allocate; when it fails, its error is returned and the
  /// stream is usable again. Pointers and arguments are fixed in the graph:
  /// what changes from play to play must lie in device memory.
  StatusOr<GraphExec> capture(const std::function<Status()> &record);

  Context &context() const { return stream.owner(); }
  abi::CUstream handle() const { return stream.get(); }

private:
  Owned<abi::CUstream> stream;
};

/// A captured sequence of work, ready to be played. Movable.
class GraphExec {
public:
  GraphExec() = default;

  /// Moves the graph to the GPU ahead of its first launch, in stream order.
  Status upload(Stream &stream) const;
  /// Kernels, copies and fills in it.
  size_t nodes() const { return nodeCount; }
  explicit operator bool() const { return exec.get() != nullptr; }

private:
  friend class Stream;
  Owned<abi::CUgraphExec> exec;
  size_t nodeCount = 0;
};

/// A mark in a stream. Movable.
class Event {
public:
  Event() = default;

  /// With `timed`, elapsedMs() works and recording costs a little more.
  static StatusOr<Event> create(Context &context, bool timed = false);

  /// Marks the end of what is queued in `stream`.
  Status record(Stream &stream);
  /// Whether the mark has been reached (true before the first record).
  StatusOr<bool> query() const;
  /// Waits on the host for the mark.
  Status synchronize() const;
  /// Milliseconds from `start` to this; both timed and reached.
  StatusOr<float> elapsedMs(const Event &start) const;

private:
  friend class Stream;
  Owned<abi::CUevent> event;
};

} // namespace lathe::cuda

#endif // LATHE_RUNTIME_CUDA_STREAM_H
