//===- ImageCodec.h - a compiled image as cache bytes -----------*- C++ -*-===//

#ifndef LATHE_COMPILER_NVRTC_IMAGECODEC_H
#define LATHE_COMPILER_NVRTC_IMAGECODEC_H

#include "compiler/nvrtc/Nvrtc.h"

#include <optional>
#include <string>
#include <string_view>

namespace lathe {

/// Cubin, resources and log in one string, for the object cache of this
/// machine: lengths and numbers are 32-bit in host order.
std::string encodeImage(const CompiledImage &image);

/// The inverse; nothing when `bytes` are not exactly what encodeImage() wrote.
std::optional<CompiledImage> decodeImage(std::string_view bytes);

} // namespace lathe

#endif // LATHE_COMPILER_NVRTC_IMAGECODEC_H
