#include "runtime/engine/DraftPolicy.h"

#include <algorithm>

namespace lathe {

/// Plain rounds at the start, to know what a round without drafts costs.
static constexpr int64_t kPlainRounds = 2;
/// How much of what was known a new observation leaves, and a round without
/// one.
static constexpr double kMemory = 0.95, kUnseen = 0.985;
/// What is expected before anything is known, as so many observations.
static constexpr double kPriorShare = 0.7, kPriorWeight = 2;
/// Cost of a draft that was never tried, in plain rounds: less than it is.
static constexpr double kHopedCost = 0.1;
/// Estimates err, and the highest of several errs upwards: drafts must promise
/// this much more than a plain round.
static constexpr double kMargin = 1.1;

double DraftPolicy::Cost::median() const {
  auto sorted = samples;
  auto end = sorted.begin() + std::min<int64_t>(count, int64_t(sorted.size()));
  std::sort(sorted.begin(), end);
  return sorted[size_t(end - sorted.begin() - 1) / 2];
}

double DraftPolicy::yieldOf(DraftChoice choice) const {
  double sum = 1, all = 1, before = kPriorShare;
  for (int64_t i = 0; i < choice.drafts; ++i) {
    const Place &place = of(choice.source).places[size_t(i)];
    // A place that was never reached is like the one before it.
    before =
        (place.held + kPriorWeight * before) / (place.tried + kPriorWeight);
    all *= before;
    sum += all;
  }
  return sum;
}

double DraftPolicy::costOf(DraftChoice choice) const {
  const double plain = of(DraftSource::None).costs[0].median();
  const Source &source = of(choice.source);
  if (source.costs[size_t(choice.drafts)].count > 0)
    return source.costs[size_t(choice.drafts)].median();
  // In a straight line through the next smaller count that is known.
  for (int64_t known = choice.drafts - 1; known > 0; --known)
    if (source.costs[size_t(known)].count > 0)
      return plain + (source.costs[size_t(known)].median() - plain) *
                         double(choice.drafts) / double(known);
  return plain * (1 + kHopedCost * double(choice.drafts));
}

DraftChoice DraftPolicy::choose(bool mtp, bool lookup, int64_t most) {
  DraftChoice best;
  if (of(DraftSource::None).costs[0].count < kPlainRounds)
    return best;
  double bestRate = kMargin / costOf(best);
  for (auto [source, there] :
       {std::pair{DraftSource::Mtp, mtp}, {DraftSource::Lookup, lookup}}) {
    if (!there)
      continue;
    for (int64_t count : counts) {
      const DraftChoice choice{source, count};
      const double rate = yieldOf(choice) / costOf(choice);
      if (count > most || rate <= bestRate)
        continue;
      best = choice;
      bestRate = rate;
    }
  }
  return best;
}

void DraftPolicy::record(DraftChoice choice, int64_t accepted, double seconds) {
  Source &source = sources[size_t(choice.source)];
  source.costs[size_t(choice.drafts)].add(seconds);
  const int64_t seen = std::min(choice.drafts, accepted + 1);
  for (Source &any : sources)
    for (int64_t i = 0; i < kMostDrafts; ++i) {
      Place &place = any.places[size_t(i)];
      const bool tried = &any == &source && i < seen;
      place.held = (tried ? kMemory : kUnseen) * place.held +
                   (tried && i < accepted ? 1 : 0);
      place.tried = (tried ? kMemory : kUnseen) * place.tried + (tried ? 1 : 0);
    }
}

} // namespace lathe
