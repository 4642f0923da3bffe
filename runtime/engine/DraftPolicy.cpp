#include "runtime/engine/DraftPolicy.h"

#include <algorithm>

namespace lathe {

/// Plain rounds at the start, to know what a round without drafts costs; then
/// one after so many rounds without, and after twice as many each time, up to a
/// limit.
static constexpr int64_t kPlainRounds = 4, kPlainGap = 4, kPlainDoublings = 6;
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
/// The most debt of a source: a share of the time so far, and a few plain
/// rounds to begin with. Gains are saved up for a few plain rounds only.
static constexpr double kDebtShare = 0.003, kDebtRounds = 1, kSavedRounds = 6;
/// Rounds after which a cost that was measured once is in doubt; twice as many
/// for each time more.
static constexpr int64_t kDoubtRounds = 32;
/// A round this much slower than its like was disturbed by something else, and
/// so it was if it seems to have cost so many plain rounds more than it
/// brought.
static constexpr double kDisturbed = 1.5, kMostCharge = 5;

void DraftPolicy::Cost::add(double sample, int64_t round) {
  lastRound = round;
  if (rounds++ == 0)
    return;
  samples[size_t(rounds - 2) % samples.size()] = sample;
  const int64_t known = std::min<int64_t>(rounds - 1, int64_t(samples.size()));
  seconds = *std::min_element(samples.begin(), samples.begin() + known);
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

bool DraftPolicy::isKnown(const Cost &cost) const {
  return cost.rounds > 1 && (rounds - cost.lastRound) >>
                                std::min<int64_t>(cost.rounds - 1, 32) <=
                                kDoubtRounds;
}

bool DraftPolicy::mayFail(DraftChoice choice) const {
  return of(choice.source).owed + costOf(choice) - plain().seconds <=
         kDebtShare * elapsed + kDebtRounds * plain().seconds;
}

bool DraftPolicy::wantsPlain() const {
  const int64_t more = plain().rounds - kPlainRounds;
  return more < 0 || rounds - plain().lastRound >
                         kPlainGap << std::min(more, kPlainDoublings);
}

/// What rounds of unknown cost are hoped to cost: those of the next smaller
/// count and half as much for each further draft, and more than the same drafts
/// out of the text, which cost only their verification.
double DraftPolicy::hopedCost(DraftChoice choice) const {
  const auto &costs = of(choice.source).costs;
  int64_t known = choice.drafts - 1;
  while (known > 0 && !isKnown(costs[size_t(known)]))
    --known;
  double cost = plain().seconds, each = kHopedCost * plain().seconds;
  if (known > 0) {
    cost = costs[size_t(known)].seconds;
    each = std::max(each, (cost - plain().seconds) / double(2 * known));
  }
  cost += each * double(choice.drafts - known);
  const Cost &verified = this->cost({DraftSource::Lookup, choice.drafts});
  return isKnown(verified) ? std::max(cost, (1 + kHopedCost) * verified.seconds)
                           : cost;
}

double DraftPolicy::costOf(DraftChoice choice) const {
  const Cost &measured = cost(choice);
  return choice.drafts == 0 || isKnown(measured) ? measured.seconds
                                                 : hopedCost(choice);
}

DraftChoice DraftPolicy::choose(bool mtp, bool lookup, int64_t most) const {
  DraftChoice best;
  if (wantsPlain())
    return best;
  double bestRate = kMargin / plain().seconds;
  for (auto [source, there] :
       {std::pair{DraftSource::Mtp, mtp}, {DraftSource::Lookup, lookup}}) {
    int64_t smaller = 0;
    for (int64_t count : counts) {
      const DraftChoice choice{source, count};
      // More drafts only when there is a measure of what fewer cost.
      const bool measured = smaller == 0 || isKnown(cost({source, smaller})) ||
                            isKnown(cost({DraftSource::Lookup, count}));
      if (!there || count > most || !measured)
        break;
      smaller = count;
      const double rate = yieldOf(choice) / costOf(choice);
      if (rate <= bestRate || !mayFail(choice))
        continue;
      best = choice;
      bestRate = rate;
    }
  }
  return best;
}

void DraftPolicy::remember(DraftChoice choice, int64_t accepted) {
  const int64_t seen = std::min(choice.drafts, accepted + 1);
  auto &places = sources[size_t(choice.source)].places;
  for (int64_t i = 0; i < seen; ++i) {
    Place &place = places[size_t(i)];
    place.held = kMemory * place.held + (i < accepted ? 1 : 0);
    place.tried = kMemory * place.tried + 1;
  }
}

void DraftPolicy::record(DraftChoice choice, int64_t accepted, double seconds,
                         double extra) {
  ++rounds;
  elapsed += seconds + extra;
  Source &source = sources[size_t(choice.source)];
  source.costs[size_t(choice.drafts)].add(seconds, rounds);
  if (choice.drafts > 0) {
    const double spent = std::min(seconds, kDisturbed * costOf(choice)) + extra;
    source.owed += std::min(spent - double(accepted + 1) * plain().seconds,
                            kMostCharge * plain().seconds);
    source.owed = std::max(source.owed, -kSavedRounds * plain().seconds);
  }
  for (Source &any : sources)
    for (Place &place : any.places) {
      place.held *= kUnseen;
      place.tried *= kUnseen;
    }
  remember(choice, accepted);
}

void DraftPolicy::observe(DraftChoice choice, int64_t accepted) {
  remember(choice, accepted);
}

} // namespace lathe
