//===- KernelProvider.h - where kernels come from ---------------*- C++ -*-===//
//
// The runtime executes plans and does not know how kernels are made: a bundle
// reader or the compiling driver implements this interface.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_ENGINE_KERNELPROVIDER_H
#define LATHE_RUNTIME_ENGINE_KERNELPROVIDER_H

#include "runtime/base/KernelAbi.h"
#include "runtime/base/Status.h"

#include <string>

namespace lathe {

class KernelProvider {
public:
  virtual ~KernelProvider() = default;

  /// The entry point of the plan's kernel `name`. The code stays valid for the
  /// life of the provider. Errors: internalError for an unknown name.
  virtual StatusOr<LatheKernel> kernel(const std::string &name) = 0;
};

} // namespace lathe

#endif // LATHE_RUNTIME_ENGINE_KERNELPROVIDER_H
