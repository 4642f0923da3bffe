#include "runtime/engine/Sampler.h"

#include "runtime/base/SamplerMath.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>

namespace lathe {
namespace {

constexpr size_t kBlock = 256;
constexpr size_t kLanes = 16;
constexpr float kLowest = -std::numeric_limits<float>::infinity();
/// Top-p sorts tokens into buckets of 1/16 nat; the last one takes the rest.
constexpr float kBucketsPerNat = 16;
constexpr int32_t kBuckets = 1024;

/// Whether the noise of `bits` may exceed `bound`. Of v = 1 - u the leading
/// zeros give v >= 2^-(zeros + 1), and g <= -log(v).
bool mayExceed(uint64_t bits, double bound) {
  constexpr double kLog2 = 0.693147180559945;
  return (std::countl_one(bits) + 1.01) * kLog2 > bound;
}

/// The highest of `count` values, and whether one of them is a NaN. The lanes
/// let the compiler use vector maxima, which a single running one forbids.
float highestOf(const float *values, size_t count, bool &hasNan) {
  float lanes[kLanes];
  int32_t nans[kLanes] = {};
  std::fill(lanes, lanes + kLanes, kLowest);
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes)
    for (size_t j = 0; j < kLanes; ++j) {
      float value = values[i + j];
      nans[j] |= value != value ? 1 : 0;
      lanes[j] = value > lanes[j] ? value : lanes[j];
    }
  for (; i < count; ++i) {
    nans[0] |= values[i] != values[i] ? 1 : 0;
    lanes[0] = values[i] > lanes[0] ? values[i] : lanes[0];
  }
  for (size_t j = 0; j < kLanes; ++j)
    hasNan |= nans[j] != 0;
  return *std::max_element(lanes, lanes + kLanes);
}

std::string show(float value) { return std::to_string(value); }

} // namespace

double gumbelNoise(uint64_t seed, int64_t position, int32_t token) {
  return exact::gumbel(
      exact::noiseBits(exact::positionKey(seed, position), token));
}

StatusOr<Sampler> Sampler::create(const SamplerOptions &options) {
  // Negated comparisons also refuse NaN.
  if (!(options.temperature >= 0) || std::isinf(options.temperature))
    return usageError("temperature: expected a number from 0, found " +
                      show(options.temperature));
  if (options.topK < 0)
    return usageError("top-k: expected an integer from 0, found " +
                      std::to_string(options.topK));
  if (!(options.topP > 0 && options.topP <= 1))
    return usageError("top-p: expected a number above 0 and up to 1, found " +
                      show(options.topP));
  if (!(options.minP >= 0 && options.minP <= 1))
    return usageError("min-p: expected a number from 0 to 1, found " +
                      show(options.minP));
  return Sampler(options);
}

StatusOr<int32_t> Sampler::sample(std::span<const float> logits, int32_t vocab,
                                  int64_t position,
                                  std::span<const int32_t> ids) {
  if (vocab <= 0 || size_t(vocab) > logits.size())
    return internalError("sampling from " + std::to_string(vocab) + " of " +
                         std::to_string(logits.size()) + " logits");
  logits = logits.first(size_t(vocab));
  bool hasNan = false;
  blockHighest.clear();
  for (size_t at = 0; at < logits.size(); at += kBlock)
    blockHighest.push_back(highestOf(
        logits.data() + at, std::min(kBlock, logits.size() - at), hasNan));
  float highest = *std::max_element(blockHighest.begin(), blockHighest.end());
  if (hasNan || !std::isfinite(highest))
    return internalError(
        hasNan        ? "a logit is NaN"
        : highest > 0 ? "a logit is infinite"
                      : "no token can be chosen: all logits are -infinity");

  if (settings.temperature == 0) {
    auto block = std::find(blockHighest.begin(), blockHighest.end(), highest);
    auto begin = logits.begin() +
                 (block - blockHighest.begin()) * std::ptrdiff_t(kBlock);
    auto at = std::find(begin, logits.end(), highest) - logits.begin();
    return ids.empty() ? int32_t(at) : ids[size_t(at)];
  }
  select(logits, highest);
  const int32_t choice = draw(highest, position, ids);
  return ids.empty() || choice < 0 ? choice : ids[size_t(choice)];
}

/// Fills `candidates` with the tokens that top-k and top-p keep.
void Sampler::select(std::span<const float> logits, float highest) {
  candidates.reserve(logits.size());
  bool usesTopK = settings.topK > 0 && size_t(settings.topK) < logits.size();
  if (usesTopK)
    keepTopK(logits, size_t(settings.topK));
  if (settings.topP == 1) {
    if (!usesTopK)
      collect(logits, minPThreshold(highest));
    return;
  }
  if (!usesTopK)
    return keepTopP(logits, highest);
  uint64_t total = 0;
  for (const Candidate &candidate : candidates)
    total += mass(candidate.logit, highest);
  trimToMass(0, 0, double(settings.topP) * double(total), highest);
}

/// Fills `candidates` with the finite logits from `threshold` up, by id.
void Sampler::collect(std::span<const float> logits, float threshold) {
  candidates.clear();
  for (size_t block = 0; block < blockHighest.size(); ++block) {
    if (blockHighest[block] < threshold)
      continue;
    size_t end = std::min((block + 1) * kBlock, logits.size());
    for (size_t i = block * kBlock; i < end; ++i)
      if (logits[i] >= threshold && logits[i] != kLowest)
        candidates.push_back({logits[i], int32_t(i)});
  }
}

/// Fills `candidates` with the k highest. The k-th highest of the block maxima
/// bounds the k-th highest logit from below, so few others are looked at.
void Sampler::keepTopK(std::span<const float> logits, size_t k) {
  float threshold = kLowest;
  if (k <= blockHighest.size()) {
    order = blockHighest;
    auto kth = order.begin() + std::ptrdiff_t(k - 1);
    std::nth_element(order.begin(), kth, order.end(), std::greater<>());
    threshold = *kth;
  }
  collect(logits, threshold);
  if (candidates.size() <= k)
    return;
  auto kth = candidates.begin() + std::ptrdiff_t(k);
  std::nth_element(candidates.begin(), kth, candidates.end(), isHigher);
  candidates.erase(kth, candidates.end());
}

/// The order of top-k and top-p; no two candidates are equal in it.
bool Sampler::isHigher(const Candidate &a, const Candidate &b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

float Sampler::scaledMass(float logit, float highest) const {
  return exact::mass(logit, highest, settings.temperature);
}

uint64_t Sampler::mass(float logit, float highest) const {
  return uint64_t(scaledMass(logit, highest));
}

/// Fills `bucketMass` and returns its sum.
uint64_t Sampler::addUpBuckets(std::span<const float> logits, float highest) {
  bucketMass.assign(kBuckets, 0);
  float parts[kBlock];
  int32_t buckets[kBlock];
  for (size_t block = 0; block < blockHighest.size(); ++block) {
    if (mass(blockHighest[block], highest) == 0)
      continue;
    size_t begin = block * kBlock;
    size_t count = std::min(kBlock, logits.size() - begin);
    for (size_t i = 0; i < count; ++i) { // vectorised, unlike the next loop
      buckets[i] = bucketOf(logits[begin + i], highest);
      parts[i] = scaledMass(logits[begin + i], highest);
    }
    for (size_t i = 0; i < count; ++i)
      bucketMass[size_t(buckets[i])] += uint64_t(parts[i]);
  }
  return std::accumulate(bucketMass.begin(), bucketMass.end(), uint64_t(0));
}

/// Fills `candidates` with what top-p keeps of the whole vocabulary. Buckets of
/// logits tell which tokens are in and which are out, but for one bucket.
void Sampler::keepTopP(std::span<const float> logits, float highest) {
  uint64_t total = addUpBuckets(logits, highest);
  double target = double(settings.topP) * double(total);
  uint64_t before = 0;
  int32_t last = 0;
  while (last + 1 < kBuckets &&
         double(before + bucketMass[size_t(last)]) < target)
    before += bucketMass[size_t(last++)];

  candidates.clear();
  for (size_t block = 0; block < blockHighest.size(); ++block) {
    if (bucketOf(blockHighest[block], highest) > last)
      continue;
    size_t end = std::min((block + 1) * kBlock, logits.size());
    for (size_t i = block * kBlock; i < end; ++i)
      if (bucketOf(logits[i], highest) <= last && logits[i] != kLowest)
        candidates.push_back({logits[i], int32_t(i)});
  }
  auto undecided = std::partition(
      candidates.begin(), candidates.end(), [&](const Candidate &candidate) {
        return bucketOf(candidate.logit, highest) < last;
      });
  trimToMass(size_t(undecided - candidates.begin()), before, target, highest);
}

int32_t Sampler::bucketOf(float logit, float highest) const {
  float nats = (highest - logit) / settings.temperature;
  return int32_t(std::min(nats * kBucketsPerNat, float(kBuckets - 1)));
}

/// Drops the candidates that are not needed for a mass of `target`: those in
/// front of `from` are, with a mass of `before`, and of the others the highest.
/// A quickselect by mass, linear in the number of the others.
void Sampler::trimToMass(size_t from, uint64_t before, double target,
                         float highest) {
  auto begin = candidates.begin() + std::ptrdiff_t(from);
  auto end = candidates.end();
  while (end - begin > 1) {
    auto middle = begin + (end - begin) / 2;
    std::nth_element(begin, middle, end, isHigher);
    uint64_t front = 0;
    for (auto it = begin; it != middle; ++it)
      front += mass(it->logit, highest);
    if (double(before + front) >= target) {
      end = middle;
    } else {
      before += front;
      begin = middle;
    }
  }
  candidates.erase(end, candidates.end());
}

/// A logit below all that min-p keeps, but not by much.
float Sampler::minPThreshold(float highest) const {
  if (settings.minP == 0)
    return kLowest;
  float nats = std::log(settings.minP) - 0.01f;
  return highest + nats * settings.temperature;
}

/// Applies min-p and chooses. Most candidates cannot reach the best score so
/// far, which the leading bits of their noise tell without a logarithm.
int32_t Sampler::draw(float highest, int64_t position,
                      std::span<const int32_t> ids) const {
  uint64_t key = exact::positionKey(settings.seed, position);
  double floor = settings.minP > 0 ? exact::log(settings.minP) : kLowest;
  double best = kLowest;
  int32_t choice = -1;
  for (const Candidate &candidate : candidates) {
    double score = exact::score(candidate.logit, highest, settings.temperature);
    uint64_t bits = exact::noiseBits(
        key, ids.empty() ? candidate.id : ids[size_t(candidate.id)]);
    if (score < floor || !mayExceed(bits, best - score))
      continue;
    score += exact::gumbel(bits);
    if (score > best || (score == best && candidate.id < choice)) {
      best = score;
      choice = candidate.id;
    }
  }
  return choice;
}

} // namespace lathe
