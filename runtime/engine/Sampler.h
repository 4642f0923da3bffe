//===- Sampler.h - choosing the next token ----------------------*- C++ -*-===//
//
// At temperature 0 the choice is the highest logit. Otherwise, with x the
// logits, the filters apply in this order:
//
//   temperature  x / temperature
//   top-k        keep the k highest; 0 is off
//   top-p        of the softmax over these, keep the fewest tokens, highest
//                first, whose probabilities reach p; 1 is off
//   min-p        keep what has at least minP times the highest probability
//
// and the choice is the highest x / temperature + g over what is kept, where g
// is Gumbel noise; that draws each token with its softmax probability. Ties go
// to the lowest id everywhere, so exactly k tokens pass top-k.
//
// The noise is a pure function of (seed, position, token), see gumbelNoise():
// two models that see the same seed and position draw alike, which is what lets
// a draft agree with its target. Nothing depends on threads or on earlier
// calls. Probabilities are summed as integers, so no order of summation can
// change a choice.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_ENGINE_SAMPLER_H
#define LATHE_RUNTIME_ENGINE_SAMPLER_H

#include "runtime/base/Status.h"

#include <cstdint>
#include <span>
#include <vector>

namespace lathe {

struct SamplerOptions {
  float temperature = 0; ///< >= 0; 0 is greedy and ignores the rest
  int topK = 0;          ///< >= 0; 0 is off
  float topP = 1;        ///< in (0, 1]; 1 is off
  float minP = 0;        ///< in [0, 1]; 0 is off
  uint64_t seed = 0;
};

/// The noise of one token: -log(-log(u)), where u is uniform in (0, 1), made of
/// the upper 53 bits of mix(mix(mix(seed) + position) + token) with mix a
/// 64-bit finaliser. At most 38.
double gumbelNoise(uint64_t seed, int64_t position, int32_t token);

/// Chooses tokens for one sequence. Not thread-safe: it keeps scratch memory,
/// so that after the first call it allocates nothing.
class Sampler {
public:
  /// usageError for options outside their ranges.
  static StatusOr<Sampler> create(const SamplerOptions &options);

  /// Chooses among the ids below `vocab`; logits from there on are padding and
  /// ignored. `position` is the sequence position that the token will have.
  /// Logits of minus infinity are never chosen. internalError if a logit is NaN
  /// or plus infinity, or if none is finite. With `ids`, logit i is that of
  /// token ids[i], which gives it the token's noise and is what is returned;
  /// ties go to the lowest i. REQUIRES: 0 < vocab <= logits.size(); ids is
  /// empty or has `vocab` elements.
  StatusOr<int32_t> sample(std::span<const float> logits, int32_t vocab,
                           int64_t position, std::span<const int32_t> ids = {});

  const SamplerOptions &options() const { return settings; }

private:
  struct Candidate {
    float logit;
    int32_t id;
  };

  explicit Sampler(const SamplerOptions &options) : settings(options) {}

  static bool isHigher(const Candidate &a, const Candidate &b);
  void select(std::span<const float> logits, float highest);
  void collect(std::span<const float> logits, float threshold);
  void keepTopK(std::span<const float> logits, size_t k);
  void keepTopP(std::span<const float> logits, float highest);
  void trimToMass(size_t from, uint64_t before, double target, float highest);
  uint64_t addUpBuckets(std::span<const float> logits, float highest);
  float scaledMass(float logit, float highest) const;
  uint64_t mass(float logit, float highest) const;
  int32_t bucketOf(float logit, float highest) const;
  float minPThreshold(float highest) const;
  int32_t draw(float highest, int64_t position,
               std::span<const int32_t> ids) const;

  SamplerOptions settings;
  std::vector<float> blockHighest; ///< of each block of logits
  std::vector<float> order;        ///< scratch for selection
  std::vector<uint64_t> bucketMass;
  std::vector<Candidate> candidates;
};

} // namespace lathe

#endif // LATHE_RUNTIME_ENGINE_SAMPLER_H
