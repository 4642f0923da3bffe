#include "compiler/jit/ObjectLoader.h"

#include "llvm/ExecutionEngine/Orc/AbsoluteSymbols.h"
#include "llvm/ExecutionEngine/Orc/Core.h"
#include "llvm/ExecutionEngine/Orc/ObjectLinkingLayer.h"
#include "llvm/ExecutionEngine/Orc/SelfExecutorProcessControl.h"
#include "llvm/ExecutionEngine/Orc/TaskDispatch.h"
#include "llvm/Support/MemoryBuffer.h"

#include <cstring>
#include <mutex>
#include <string>
#include <vector>

namespace lathe {

namespace orc = llvm::orc;

static Status statusOf(llvm::Error error) {
  return internalError("cannot load a kernel: " +
                       llvm::toString(std::move(error)));
}

class ObjectLoader::Impl {
public:
  explicit Impl(std::unique_ptr<orc::ExecutorProcessControl> control)
      : session(std::move(control)), layer(session),
        runtime(session.createBareJITDylib("runtime")) {
    // ORC would print link errors; lookup() returns them instead.
    session.setErrorReporter([this](llvm::Error error) {
      std::lock_guard lock(mutex);
      reports += "; " + llvm::toString(std::move(error));
    });
  }
  ~Impl() { llvm::consumeError(session.endSession()); }

  llvm::Error defineRuntime();

  std::string takeReports() {
    std::lock_guard lock(mutex);
    return std::exchange(reports, {});
  }

  orc::ExecutionSession session;
  orc::ObjectLinkingLayer layer;
  orc::JITDylib &runtime;
  std::mutex mutex; ///< guards what follows
  std::vector<orc::JITDylib *> objects;
  std::string reports;
};

llvm::Error ObjectLoader::Impl::defineRuntime() {
  orc::SymbolMap symbols;
  auto define = [&](const char *name, auto *function) {
    symbols[session.intern(name)] = {orc::ExecutorAddr::fromPtr(function),
                                     llvm::JITSymbolFlags::Exported |
                                         llvm::JITSymbolFlags::Callable};
  };
  define("memcpy", &std::memcpy);
  define("memmove", &std::memmove);
  define("memset", &std::memset);
  define("memcmp", &std::memcmp);
  define("bcmp", &std::memcmp); // a memcmp whose sign nobody reads
  return runtime.define(orc::absoluteSymbols(std::move(symbols)));
}

ObjectLoader::ObjectLoader(std::unique_ptr<Impl> impl)
    : impl(std::move(impl)) {}
ObjectLoader::~ObjectLoader() = default;

StatusOr<std::unique_ptr<ObjectLoader>> ObjectLoader::create() {
  auto control = orc::SelfExecutorProcessControl::Create(
      nullptr, std::make_unique<orc::InPlaceTaskDispatcher>());
  if (!control)
    return statusOf(control.takeError());
  auto impl = std::make_unique<Impl>(std::move(*control));
  if (llvm::Error error = impl->defineRuntime())
    return statusOf(std::move(error));
  return std::unique_ptr<ObjectLoader>(new ObjectLoader(std::move(impl)));
}

StatusOr<ObjectLoader::ObjectId> ObjectLoader::add(std::string_view object) {
  ObjectId id;
  orc::JITDylib *library;
  {
    std::lock_guard lock(impl->mutex);
    id = impl->objects.size();
    library = &impl->session.createBareJITDylib("object" + std::to_string(id));
    impl->objects.push_back(library);
  }
  library->addToLinkOrder(impl->runtime);
  if (llvm::Error error = impl->layer.add(
          *library, llvm::MemoryBuffer::getMemBufferCopy(
                        llvm::StringRef(object), library->getName())))
    return statusOf(std::move(error));
  return id;
}

StatusOr<void *> ObjectLoader::lookup(ObjectId id, std::string_view symbol) {
  orc::JITDylib *library;
  {
    std::lock_guard lock(impl->mutex);
    if (id >= impl->objects.size())
      return internalError("no object " + std::to_string(id) +
                           " in the kernel loader");
    library = impl->objects[id];
  }
  auto address = impl->session.lookup({library}, llvm::StringRef(symbol));
  if (!address) {
    Status status = statusOf(address.takeError());
    return internalError(messageOf(status) + impl->takeReports());
  }
  return address->getAddress().toPtr<void *>();
}

} // namespace lathe
