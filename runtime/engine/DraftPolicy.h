//===- DraftPolicy.h - how many drafts the next round has -------*- C++ -*-===//
//
// A round of n drafts yields 1 + a_1 + a_1 a_2 + ... tokens, a_i being the
// share of drafts at place i that hold when those before them did, and costs
// what rounds of n drafts have cost. The policy plays what yields most per
// time, zero drafts included. It learns both from the rounds it is told of, and
// now and then has a plain round among the others, to compare with.
//
// What it has not tried it expects to be cheap, and shares that it has not seen
// for long drift back to what is usual: so it tries things, the smallest number
// of drafts first. What that may cost is bounded, whatever it hopes: drafts
// that took longer than plain rounds would have for the same tokens are a debt
// of their source, and nothing is drafted that, should all of it be rejected,
// would raise the debt above a small share of the time so far. A failure that
// cost more is thus followed by a longer pause. A cost that was measured long
// ago is measured again, ever more rarely. Deterministic in what it is told.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_ENGINE_DRAFTPOLICY_H
#define LATHE_RUNTIME_ENGINE_DRAFTPOLICY_H

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace lathe {

/// Where the drafts of a round come from.
enum class DraftSource : uint8_t { None, Mtp, Lookup };

struct DraftChoice {
  DraftSource source = DraftSource::None;
  int64_t drafts = 0;
};

class DraftPolicy {
public:
  static constexpr int64_t kMostDrafts = 7;

  /// `counts`: the numbers of drafts that a round can have, ascending, each
  /// from 1 to kMostDrafts.
  explicit DraftPolicy(std::vector<int64_t> counts)
      : counts(std::move(counts)) {}

  /// The next round, of at most `most` drafts, given what could make drafts.
  DraftChoice choose(bool mtp, bool lookup, int64_t most = kMostDrafts) const;
  /// What a round came to. `extra`: seconds besides, which such rounds do not
  /// usually need.
  void record(DraftChoice choice, int64_t accepted, double seconds,
              double extra = 0);
  /// What drafts that were not played would have come to.
  void observe(DraftChoice choice, int64_t accepted);

  /// Tokens that a round is expected to yield.
  double yieldOf(DraftChoice choice) const;
  /// Seconds that it is expected to take.
  double costOf(DraftChoice choice) const;
  /// Seconds by which drafts of `source` were slower than plain rounds, less
  /// what they gained since.
  double debtOf(DraftSource source) const { return of(source).owed; }

private:
  /// The least of the last few, for what disturbs a round only makes it slower.
  /// The very first is not among them: it found cold caches and things to
  /// prepare.
  struct Cost {
    std::array<double, 7> samples{};
    int64_t rounds = 0;    ///< played
    int64_t lastRound = 0; ///< the round of all rounds that was the last such
    double seconds = 0;
    void add(double sample, int64_t round);
  };
  /// Recent drafts at one place whose predecessors held.
  struct Place {
    double held = 0, tried = 0;
  };
  struct Source {
    std::array<Cost, kMostDrafts + 1> costs;
    std::array<Place, kMostDrafts> places;
    double owed = 0;
  };

  const Source &of(DraftSource source) const { return sources[size_t(source)]; }
  const Cost &plain() const { return of(DraftSource::None).costs[0]; }
  const Cost &cost(DraftChoice choice) const {
    return of(choice.source).costs[size_t(choice.drafts)];
  }
  bool isKnown(const Cost &cost) const;
  bool mayFail(DraftChoice choice) const;
  bool wantsPlain() const;
  double hopedCost(DraftChoice choice) const;
  /// Forgets a little of all places and adds a round's drafts.
  void remember(DraftChoice choice, int64_t accepted);

  std::vector<int64_t> counts;
  std::array<Source, 3> sources;
  int64_t rounds = 0;
  double elapsed = 0;
};

} // namespace lathe

#endif // LATHE_RUNTIME_ENGINE_DRAFTPOLICY_H
