//===- Quantize.cpp - infer quantize: a 4-bit copy of a checkpoint --------===//

#include "runtime/io/Quantize.h"
#include "tools/infer/Host.h"
#include "tools/infer/Verbs.h"

#include <cstdio>

namespace lathe::cli {

Status quantize(const QuantizeCommand &command) {
  QuantizeOptions options;
  const bool int4 = command.format == "int4";
  options.format = int4 ? WeightFormat::Int4 : WeightFormat::NvFp4;
  options.group = int4 ? int(command.group) : 0;
  options.lmHead = command.head;
  options.embeddings = command.embeddings;
  options.mtp = command.mtp;
  options.threads = command.threads > 0 ? command.threads : coreCount();
  const bool progress = stderrIsTerminal();
  if (progress)
    options.progress = [](const QuantizeProgress &at) {
      std::fprintf(stderr, "\r\033[Kquantizing %3d %%  %s",
                   int(100.0 * double(at.bytesRead) / double(at.bytesTotal)),
                   at.tensor.c_str());
      return true;
    };
  LATHE_ASSIGN_OR_RETURN(
      QuantizeSummary summary,
      quantizeCheckpoint(command.source, command.destination, options));
  if (progress)
    std::fprintf(stderr, "\r\033[K");
  std::printf("%lld modules quantised, %lld kept; %.1f MB -> %.1f MB; mean "
              "relative squared error %.5f\n",
              static_cast<long long>(summary.modulesQuantized),
              static_cast<long long>(summary.modulesKept),
              double(summary.bytesIn) / 1e6, double(summary.bytesOut) / 1e6,
              summary.meanRelativeSquaredError);
  for (const std::string &module : summary.keptForShape)
    std::printf("kept, its shape does not fit the format: %s\n",
                module.c_str());
  return absl::OkStatus();
}

} // namespace lathe::cli
