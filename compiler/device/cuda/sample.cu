//===- sample.cu - the sampler's entries -----------------------*- CUDA -*-===//
//
// Interface, grids and memory: sample.cuh.
//
//===----------------------------------------------------------------------===//

#include "compiler/device/cuda/sample.cuh"

namespace lathe {

LATHE_KERNEL(kSampleThreads, 2)
sample_highest(LatheLaunch ctx, const float *logits,
               const LatheSampling *sampling, int *tokens, int *status) {
  sampleHighest(ctx, logits, sampling, tokens, status);
}

LATHE_KERNEL(kSampleThreads, 2)
sample_weigh(LatheLaunch ctx, const float *logits,
             const LatheSampling *sampling, const int *status) {
  sampleWeigh(ctx, logits, sampling, status);
}

LATHE_KERNEL(kSampleThreads, 2)
sample_choose(LatheLaunch ctx, const float *logits,
              const LatheSampling *sampling, int *tokens, const int *status) {
  sampleChoose(ctx, logits, sampling, tokens, status);
}

} // namespace lathe
