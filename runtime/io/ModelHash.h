//===- ModelHash.h - which model a bundle belongs to ------------*- C++ -*-===//
//
// A bundle names its checkpoint by a hash that is cheap to compute for any
// size. It covers config.json, hf_quant_config.json, and of every safetensors
// file, in order of name: its name, its size, its whole header and samples of
// its data: the first and the last MiB and 16 evenly spaced pieces of 64 KiB.
//
// So it tells apart models, quantisations and training steps, all of which
// change every part of the data. It does not notice a change that falls between
// the samples: it guards against a mistake, not against damage or an attack.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_IO_MODELHASH_H
#define LATHE_RUNTIME_IO_MODELHASH_H

#include "runtime/base/Status.h"
#include "runtime/io/Checkpoint.h"

#include <string>
#include <string_view>

namespace lathe {

/// The hash of a checkpoint on disk, 128 bits in hexadecimal. Reads about
/// 3 MiB and the header of every file. Errors: those of reading.
StatusOr<std::string> modelHash(const Checkpoint &checkpoint);

/// The hash of a model that has no weights on disk.
std::string configHash(std::string_view configText);

} // namespace lathe

#endif // LATHE_RUNTIME_IO_MODELHASH_H
